"""`import --public`: a public set becomes a run of its own, or the answers in it to the questions of a file do."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Place, sums
from dies import die_at

Places = Callable[..., Place]
OPENTHOUGHTS, REASONING = "open-thoughts/OpenThoughts3-1.2M", "nvidia/OpenMathReasoning"


def openthoughts(path: Path, answers: list[tuple[int, int]]) -> Path:
    turns = [
        [
            {"from": "human", "value": f"What is {i} + {i + 1}?"},
            {"from": "gpt", "value": f"<think>\nSo.\n</think>\n\n\\boxed{{{said}}}"},
        ]
        for i, said in answers
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"difficulty": [5] * len(turns), "conversations": turns}), path)
    return path


@pytest.fixture
def public(place: Places, tmp_path: Path) -> Callable[..., tuple[dict[str, Any], str]]:
    p = place("http://127.0.0.1:9/v1", 3)
    p.env["WINNOW_CACHE"] = str(tmp_path / "cache")

    def run(
        *words: str | Path, code: int = 0, before: Callable[[], object] | None = None
    ) -> tuple[dict[str, Any], str]:
        args = ["import", *map(str, words), "--name", "x", "--store", p.url, "--json"]
        got, out, err = p.ended(p.begin(*args, before=before), 120)
        assert got == code, err
        assert "Traceback" not in err
        return json.loads(out) if code == 0 else {}, err

    return run


def test_all_of_a_set_is_judged_by_its_own_gold_answers_and_its_teachers_by_row(
    public: Callable[..., tuple[dict[str, Any], str]], tmp_path: Path
) -> None:
    rows = [
        {"problem": f"What is {i} + {i + 1}?", "expected_answer": str(2 * i + 1), "generation_model": model,
         "generated_solution": f"<think>\nSo.\n</think>\n\n\\boxed{{{2 * i + 1 + (i == 2)}}}"}
        for i, model in enumerate(["QwQ-32B", "DeepSeek-R1", "QwQ-32B", "other"])
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist([*rows, rows[0] | {"generated_solution": None}]), tmp_path / "cot.parquet")
    words = ("--public", REASONING, tmp_path / "cot.parquet", "--teacher", "QwQ-32B", "--teacher", "DeepSeek-R1")
    found, _ = public(*words)
    assert found["public"] == {
        "looked_up": 0, "rows": 5, "questions": 0, "answers": 3, "new": 3,
        "left_out": {"by teacher (other)": 1, "rows (no answer in a column that is known)": 1},
    }  # fmt: skip
    report = found["report"]
    assert (report["traces"]["accepted"], report["traces"]["rejected"]) == (2, {"wrong": 1})
    assert (report["run"]["from_public"], report["money"]["unpriced_calls"]) == (True, 0)
    assert (report["money"]["usd_per_accepted_trace"], report["warnings"]) == (None, [])
    assert "that others have published" in report["headline"]
    exported = [json.loads(line) for line in (Path(found["dataset"]) / "train.jsonl").read_text().splitlines()]
    assert {(row["teacher"]["model"], row["public"]["licence"], row["cost_usd"]) for row in exported} == {
        ("QwQ-32B", "cc-by-4.0", None), ("DeepSeek-R1", "cc-by-4.0", None),
    }  # fmt: skip
    again, _ = public(*words)
    assert (again["public"]["new"], again["report"]["traces"]["accepted"]) == (0, 2)


def test_with_questions_only_their_answers_are_taken_also_after_a_kill(
    public: Callable[..., tuple[dict[str, Any], str]], tmp_path: Path
) -> None:
    file = openthoughts(tmp_path / "ot/train.parquet", [(i, 2 * i + 1 + (i == 1)) for i in range(9)])
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps(q) + "\n" for q in sums(3)))
    words = ("--public", OPENTHOUGHTS, file, "--questions", questions)
    public(*words, code=-9, before=partial(die_at, "in importing an answer", 2))
    found, _ = public(*words)
    assert (found["public"]["questions"], found["public"]["answers"]) == (3, 3)
    assert (found["report"]["questions"]["total"], found["report"]["questions"]["solved"]) == (3, 2)
    assert found["report"]["provenance"]["sources"] == {"": 3}
    err = public(tmp_path / "q.jsonl", code=2)[1]
    assert "run 'x' has public answers, and these are bought: import them under another name" in err


def test_a_set_comes_by_its_name_alone(
    public: Callable[..., tuple[dict[str, Any], str]], place: Places, tmp_path: Path
) -> None:
    """`datasets` takes a folder of a dataset's name for the dataset."""
    openthoughts(tmp_path / "place" / OPENTHOUGHTS / "data/train-0.parquet", [(0, 1), (1, 3), (2, 6)])
    found, _ = public("--public", OPENTHOUGHTS, "--questions", "questions.jsonl")
    assert (found["public"]["answers"], found["report"]["traces"]["accepted"]) == (3, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--public", "OpenThoughts3", "questions.jsonl"), f"did you mean {OPENTHOUGHTS}"),
        (("--public", OPENTHOUGHTS, "questions.jsonl"), f"no column 'conversations', which {OPENTHOUGHTS} has"),
        (("--public", OPENTHOUGHTS, "none.parquet"), "none.parquet: cannot be read: No such file"),
        (("--licence", "mit", "questions.jsonl"), "--licence and --teacher are for --public"),
        ((), "needs a FILE, or --public and a set's name"),
    ],
)
def test_bad_words_are_one_line(
    public: Callable[..., tuple[dict[str, Any], str]], words: tuple[str, ...], said: str
) -> None:
    assert said in public(*words, code=2)[1]
