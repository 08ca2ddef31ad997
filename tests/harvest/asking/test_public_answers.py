"""What others have published is taken and not bought: asked is exactly the rest, and what is reused says where it is
from."""

import gzip
import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Place, sums
from dies import die_at
from scripted_endpoint import PRICE, Endpoint, Say

from harvest.asking.planning.public_answers import Found, ToLookUp, look_up
from harvest.checks import ROW_RULES
from harvest.core.config import Reuse
from harvest.core.errors import InputError
from harvest.core.money import pusd
from harvest.questions.public_rows import tables_of
from harvest.questions.public_sets import public_source
from harvest.questions.rows import question_of
from harvest.store import Store

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]
OPENR1, OPENTHOUGHTS = "open-r1/OpenR1-Math-220k", "open-thoughts/OpenThoughts3-1.2M"


def answered(i: int, result: int | None = None, chain: str = "I add the two.") -> str:
    return f"<think>\n{chain}\n</think>\n\nThe sum is \\boxed{{{2 * i + 1 if result is None else result}}}."


def openr1(path: Path, rows: dict[int, list[str]]) -> Path:
    """A file in the layout of OpenR1-Math, which asks the sums of conftest in its own spelling."""
    table = {
        "problem": [f"what is  {i} + {i + 1}" for i in rows],
        "answer": [str(2 * i + 1) for i in rows],
        "generations": [*rows.values()],
        "finish_reasons": [["stop"] * len(texts) for texts in rows.values()],
    }
    path.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table(table), path, row_group_size=3)
    return path


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def trace(i: int, licence: str | None, model: str | None, **more: Any) -> dict[str, Any]:
    """A row in no known set's layout."""
    named = {"licence": licence, "model": model, "gold": str(2 * i + 1)}
    return (
        {"question": f"What is {i} + {i + 1}?", "answer": f"It is \\boxed{{{2 * i + 1}}}", "reasoning": "So."}
        | named
        | more
    )


@pytest.fixture
def publics(place: Places, tmp_path: Path) -> Places:
    def make(url: str, questions: Any, public: list[str], **dotted: Any) -> Place:
        p = place(url, questions, reuse__public=public, **dotted)
        p.env["WINNOW_CACHE"] = str(tmp_path / "cache")
        return p

    return make


def rows_of(p: Place, which: str = "all") -> list[dict[str, Any]]:
    assert p.harvest("export", "r", "--which", which, "--to", str(p.folder / "out"))[0] == 0
    return [json.loads(line) for line in (p.folder / "out/train.jsonl").read_text().splitlines()]


def test_exactly_the_rest_is_asked_and_a_second_start_asks_and_looks_up_nothing(
    endpoint: Endpoints, publics: Places, tmp_path: Path
) -> None:
    openr1(tmp_path / "or1/train.parquet", {i: [answered(i)] for i in range(0, 20, 2)})
    teacher = endpoint()
    p = publics(teacher.url, 20, [f"{OPENR1}=../or1/*.parquet"])
    code, out, err = p.collect()
    assert code == 0, err
    assert {a.question for a in teacher.asked} == {f"What is {i} + {i + 1}?" for i in range(1, 20, 2)}
    assert "public: 10 rows have answers to 10 of 20 questions: 10 of DeepSeek-R1 in" in err
    assert "10 from public sets" in err
    report = p.report
    assert report["questions"] == {"total": 20, "asked": 10, "solved": 20, "given_up": 0, "open": 0}
    assert (report["attempts"]["sent"], report["attempts"]["reused"], report["traces"]["accepted"]) == (10, 10, 20)
    assert report["money"]["unpriced_calls"] == 0
    assert pusd(p.money("spent")) == sum(cost for _, cost in teacher.bill)
    of_set = {"set": OPENR1, "licence": "apache-2.0", "teacher": "DeepSeek-R1"}
    assert report["public"] == {
        "questions": 10, "answers": 10, "accepted": 10,
        "sets": [of_set | {"answers": 10, "accepted": 10, "questions": 10}],
    }  # fmt: skip
    assert "and 10 that public sets answer" in out
    code, _, err = p.collect()
    assert (code, len(teacher.asked), p.report["traces"]["accepted"]) == (0, 10, 20)
    assert "public:" not in err


def test_a_row_says_where_its_answer_is_from_and_claims_no_price_prompt_or_endpoint(
    endpoint: Endpoints, publics: Places, tmp_path: Path
) -> None:
    openr1(tmp_path / "or1.parquet", {1: [answered(1)]})
    questions = [q | {"licence": "mit"} for q in sums(3)]
    p = publics(endpoint().url, questions, [f"{OPENR1}=../or1.parquet"])
    assert p.collect()[0] == 0
    public, *bought = sorted(rows_of(p), key=lambda row: row["public"] is None)
    assert public["public"] == {
        "set": OPENR1, "card": f"https://huggingface.co/datasets/{OPENR1}", "licence": "apache-2.0",
        "teacher": "DeepSeek-R1", "row": "or1.parquet, row 0",
    }  # fmt: skip
    assert (public["reasoning"], public["answer"]) == ("I add the two.", "The sum is \\boxed{3}.")
    assert (public["cost_usd"], public["asked_at"], public["usage"]["output_tokens"]) == (None, None, None)
    assert (public["teacher"]["model"], public["teacher"]["base_url"]) == ("DeepSeek-R1", None)
    assert (public["prompt"], public["sampling"]["max_tokens"]) == ({"name": None, "sha256": None}, None)
    assert public["licence"] == "mit; of the answer: apache-2.0"
    assert public["teacher_terms"] == f"apache-2.0, the licence of the public set {OPENR1}"
    assert public["messages"][:-1] == bought[0]["messages"][:0] + [
        m | {"content": m["content"].replace("0 + 1", "1 + 2")} for m in bought[0]["messages"][:-1]
    ]
    assert [(row["licence"], row["prompt"]["name"]) for row in bought] == [("mit", "boxed")] * 2
    card = (p.folder / "out/README.md").read_text()
    assert "answered by public sets, so no teacher is asked | 1 | 2" in card
    assert "1 row is from public sets" in card
    assert "license: other" in card
    told = p.harvest("why", "r", public["question_id"])[1]
    assert f"by DeepSeek-R1, from {OPENR1} (apache-2.0), or1.parquet, row 0: accepted" in told
    assert "nobody was asked, a public set has answers" in told
    assert OPENR1 in (p.run_folder / "report.html").read_text()


def test_a_wrong_public_answer_is_not_accepted_and_its_question_is_asked(
    endpoint: Endpoints, publics: Places, here: Callable[..., int], tmp_path: Path
) -> None:
    cut = answered(2).partition("</think>")[0]
    openr1(tmp_path / "or1.parquet", {0: [answered(0, 7)], 1: [answered(1, 7), answered(1)], 2: [cut]})
    teacher = endpoint()
    p = publics(teacher.url, 3, [f"{OPENR1}=../or1.parquet"])
    assert here(p) == 0
    assert {a.question for a in teacher.asked} == {"What is 0 + 1?", "What is 2 + 3?"}
    report = p.report
    assert report["public"]["sets"][0] | {"set": "", "licence": "", "teacher": ""} == {
        "set": "", "licence": "", "teacher": "", "answers": 4, "accepted": 1, "questions": 1,
    }  # fmt: skip
    assert report["traces"]["rejected"] == {"no_answer": 1, "wrong": 2}
    assert (report["traces"]["accepted"], report["questions"]["solved"]) == (3, 3)


def test_public_sets_that_solve_nothing_are_not_counted_in_the_headline(
    endpoint: Endpoints, publics: Places, here: Callable[..., int], tmp_path: Path
) -> None:
    openr1(tmp_path / "or1.parquet", {0: [answered(0, 7)]})
    p = publics(endpoint().url, 1, [f"{OPENR1}=../or1.parquet"])
    assert here(p) == 0
    assert p.report["headline"].startswith("1 checked trace from 1 questions for ")
    page = (p.run_folder / "report.md").read_text()
    assert "solved by public" not in page
    assert "| from public sets | 1 |" in page


def test_a_licence_that_is_taken_back_opens_the_question_and_one_that_comes_again_buys_nothing(
    endpoint: Endpoints, publics: Places, tmp_path: Path
) -> None:
    rows = [trace(0, "apache-2.0", "A"), trace(1, "cc-by-nc-4.0", "A"), trace(2, None, "A"), trace(3, "mit", None)]
    lines(tmp_path / "some.jsonl", rows)
    teacher = endpoint()
    p = publics(teacher.url, 5, ["../some.jsonl"], reuse__licences=["apache-2.0", "cc-by-nc-4.0"])
    code, _, err = p.collect()
    assert code == 0, err
    assert "Left out: 1 by licence (unknown), 1 by licence (mit) (to take what states no licence, name" in err
    assert [a.question for a in teacher.asked].count("What is 1 + 2?") == 0
    assert len(teacher.asked) == 3
    p.settings["reuse"]["licences"] = ["Apache-2.0"]
    code, _, err = p.collect()
    assert code == 0
    assert "1 answers no longer fit [reuse] and are withdrawn: their questions are open again" in err
    assert [a.question for a in teacher.asked][3:] == ["What is 1 + 2?"]
    assert p.report["public"]["answers"] == 1
    assert [row["public"]["licence"] for row in rows_of(p) if row["public"]] == ["apache-2.0"]
    p.settings["reuse"]["licences"] = []
    assert p.collect()[0] == 0
    assert len(teacher.asked) == 4
    del p.settings["reuse"]
    assert p.collect()[0] == 0
    assert (len(teacher.asked), p.report["public"]) == (5, None)
    assert {a.question for a in teacher.asked} == {f"What is {i} + {i + 1}?" for i in range(5)}


def test_only_the_models_that_are_named_are_taken_and_no_more_answers_than_are_wanted(
    endpoint: Endpoints, publics: Places, tmp_path: Path
) -> None:
    rows = [trace(0, "mit", model, reasoning=f"So {n}.") for n, model in enumerate(["org/Good", "bad", "good", "GOOD"])]
    lines(tmp_path / "some.jsonl", rows)
    teacher = endpoint()
    p = publics(teacher.url, 1, ["../some.jsonl"], reuse__teachers=["Good"], reuse__per_question=2)
    code, _, err = p.collect()
    assert (code, teacher.asked) == (0, [])
    assert "1 by teacher (bad)" in err
    assert "1 beyond reuse.per_question" in err
    assert [row["reasoning"] for row in rows_of(p)] == ["So 0.", "So 2."]


def test_more_is_bought_where_one_public_answer_is_fewer_than_are_wanted(
    endpoint: Endpoints, publics: Places, here: Callable[..., int], tmp_path: Path
) -> None:
    openr1(tmp_path / "or1.parquet", {0: [answered(0)]})
    teacher = endpoint()
    two = {"sampling__samples": 4, "sampling__stop_after_accepted": 2}
    p = publics(teacher.url, 2, [f"{OPENR1}=../or1.parquet"], **two)
    assert here(p) == 0
    asked = [a.question for a in teacher.asked]
    assert (asked.count("What is 0 + 1?"), asked.count("What is 1 + 2?")) == (1, 2)
    assert p.report["traces"]["accepted"] == 4


@pytest.mark.parametrize(
    "step", ["before an index is written", "in storing a public answer", "before the lookup is noted"]
)
def test_after_a_kill_in_the_lookup_the_same_command_goes_on(
    endpoint: Endpoints, publics: Places, tmp_path: Path, step: str
) -> None:
    openr1(tmp_path / "or1.parquet", {i: [answered(i), answered(i, chain="Else.")] for i in range(12)})
    teacher = endpoint()
    p = publics(teacher.url, 15, [f"{OPENR1}=../or1.parquet"])
    nth = 7 if step.startswith("in ") else 1
    killed = p.start(before=partial(die_at, step, nth))
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert teacher.asked == []
    code, _, err = p.collect()
    assert code == 0, err
    assert {a.question for a in teacher.asked} == {f"What is {i} + {i + 1}?" for i in range(12, 15)}
    assert p.report["public"]["answers"] == p.report["public"]["accepted"] == 24
    with closing(Store.open(p.url, write=False)) as store:
        shelf = store.figures(store.run_id("r-public"))
    assert shelf.tries.answered == 24


def test_a_dry_run_says_what_public_sets_have_and_stores_nothing(
    endpoint: Endpoints, publics: Places, tmp_path: Path
) -> None:
    openr1(tmp_path / "or1.parquet", {i: [answered(i)] for i in range(3)})
    teacher = endpoint()
    p = publics(teacher.url, 5, [f"{OPENR1}=../or1.parquet"])
    code, out, _ = p.collect("--dry-run")
    assert (code, teacher.asked, p.store.exists()) == (0, [], False)
    assert "public: 3 rows have answers to 3 of 5 questions" in out
    found = json.loads(p.collect("--dry-run", "--json")[1])["public"]
    assert found == {"looked_up": 5, "rows": 3, "questions": 3, "answers": 3, "left_out": {}}


def test_a_student_is_asked_where_public_answers_are_wrong_and_not_where_one_is_right(
    endpoint: Endpoints, publics: Places, here: Callable[..., int], tmp_path: Path
) -> None:
    openr1(tmp_path / "or1.parquet", {0: [answered(0)], 1: [answered(1, 9)]})
    teacher, student, judge = endpoint(), endpoint(lambda _: Say(text="\\boxed{0}")), endpoint()
    p = publics(
        teacher.url, 2, [f"{OPENR1}=../or1.parquet"],
        student={"base_url": student.url, "model": "small", "free": True},
        judge={"base_url": judge.url, "model": "second", "price_usd_per_mtok": PRICE},
    )  # fmt: skip
    assert here(p) == 0
    assert [a.question for a in student.asked] == [a.question for a in teacher.asked] == ["What is 1 + 2?"]
    assert judge.asked == [], "nobody pays for a second opinion on a public answer"


BAD = {
    "nothing": ("nothing.parquet", "neither files nor a public set that winnow knows"),
    "OpenThoughts3": ("OpenThoughts3-1.2m", f"did you mean {OPENTHOUGHTS}"),
    "no set": ("OpenR1=or1.parquet", f"winnow knows no public set of this name; did you mean {OPENR1}"),
    "no files": (f"{OPENR1}=none/*.parquet", "there are no files at"),
    "other columns": (f"{OPENTHOUGHTS}=or1.parquet", f"no column 'conversations', which {OPENTHOUGHTS} has"),
    "no questions": ("other.jsonl", "no column with questions (there are: text)"),
    "no Parquet": ("torn.parquet", "cannot be read as Parquet"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_set_that_is_none_is_an_input_error_with_what_there_is(tmp_path: Path, case: str) -> None:
    openr1(tmp_path / "or1.parquet", {0: [answered(0)]})
    lines(tmp_path / "other.jsonl", [{"text": "a"}] * 3)
    (tmp_path / "torn.parquet").write_bytes(b"PAR1" + b"x" * 50)
    said, words = BAD[case]
    with pytest.raises(InputError) as raised:
        [table.column() for table in tables_of(public_source(said, tmp_path))]
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_name_that_is_none_is_one_line_before_anything_is_asked(endpoint: Endpoints, publics: Places) -> None:
    teacher = endpoint()
    code, _, err = publics(teacher.url, 2, ["OpenThoughts3-1.2m"]).collect()
    assert (code, teacher.asked, err.count("\n")) == (2, [], 1)
    assert f"did you mean {OPENTHOUGHTS}" in err


def test_every_teacher_and_public_sets_exclude_each_other(endpoint: Endpoints, publics: Places) -> None:
    code, _, err = publics(endpoint().url, 2, ["x"], plan__teachers="all").collect()
    assert code == 2
    assert 'reuse.public beside plan.teachers = "all"' in err


def test_a_set_that_is_gone_stops_no_run_that_has_taken_from_it(
    endpoint: Endpoints, publics: Places, here: Callable[..., int], tmp_path: Path
) -> None:
    file = openr1(tmp_path / "or1.parquet", {0: [answered(0)]})
    teacher = endpoint()
    p = publics(teacher.url, 2, [f"{OPENR1}=../or1.parquet"])
    assert here(p) == 0
    file.unlink()
    code, _, err = p.collect()
    assert (code, len(teacher.asked)) == (0, 1)
    assert "What was taken from it stays" in err


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet"])
def test_any_kind_of_file_is_looked_up_and_its_index_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rows = [trace(i, "mit", "A") for i in range(0, 10, 2)]
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows, indent=1))
    else:
        text = "\n".join([*map(json.dumps, rows), "{torn"]).encode()
        path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    asked = [question_of(row, ROW_RULES) for row in sums(10)]
    questions = ToLookUp(lambda: iter([list(enumerate(asked))]), lambda numbers: {n: asked[n] for n in numbers})
    made = []
    for _ in range(2):
        tables, found = list(tables_of(public_source(name, tmp_path))), Found()
        pages = look_up(questions, tables, Reuse(public=(name,)), found, lambda *_: None)
        matches = [match for page in pages for match in page]
        assert [m.question.id for m in matches] == [f"q{i}" for i in range(0, 10, 2)]
        assert {m.reply.reasoning for m in matches} == {"So."}
        assert (found.rows, found.left_out) == (5, {})
        made.append([(p.name, p.stat().st_mtime_ns) for p in (tmp_path / "cache/public").iterdir()])
    assert len(made[0]) == 1
    assert made[0] == made[1]


def test_a_copied_run_takes_its_public_answers_with_it(
    endpoint: Endpoints, publics: Places, here: Callable[..., int], tmp_path: Path
) -> None:
    openr1(tmp_path / "or1.parquet", {0: [answered(0)]})
    p = publics(endpoint().url, 2, [f"{OPENR1}=../or1.parquet"])
    assert here(p) == 0
    target = f"sqlite:///{tmp_path / 'copy.db'}"
    code, _, err = p.harvest("copy", p.url, target, "--run", "r")
    assert code == 0, err
    with closing(Store.open(target, write=False)) as store:
        figures = store.figures(store.run_id("r"))
        assert [one.accepted for one in figures.public] == [1]
        assert store.find_run("r-public") is not None
