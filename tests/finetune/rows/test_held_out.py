"""Held-out questions: whole questions are kept out of training, the same ones in every process and at every start."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from students import SMOL, chat, smol_tokenizer

from finetune.__main__ import main
from finetune.recipe import Recipe, Train
from finetune.rows.cache import examples
from finetune.rows.examples import Examples
from finetune.rows.held_out import counts, is_held_out, split
from finetune.rows.preflight import preflight
from harvest.core.errors import DatasetError


def row(question: int, sample: int, **more: Any) -> dict[str, Any]:
    return {"messages": chat(f"What is {question} + 1?", f"<think>\n{'so ' * sample}\n</think>\n\n{question}"), **more}


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    smol_tokenizer()

    def make(rows: list[dict[str, Any]], **train: Any) -> Recipe:
        (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        return Recipe.model_validate({
            "student": SMOL, "data": f"{tmp_path}/d.jsonl", "output": "o", "train": {"held_out": "0.3", **train},
        })  # fmt: skip

    return make


def sides(recipe: Recipe) -> tuple[list[int], list[int]]:
    """(rows that are trained, rows that are held out)"""
    trained, held_out = split(examples(recipe, smol_tokenizer()), recipe.train)
    return list(trained.rows), list(held_out.rows)


def test_all_rows_of_a_question_are_on_one_side_by_its_id_or_else_by_what_is_asked(recipe: Any) -> None:
    by_id = [row(n % 40, n // 40, question_id=f"q{n % 40}") for n in range(120)]
    by_text = [row(n % 40, n // 40) for n in range(120)]
    numbered = [row(n, 0, question_id=n % 40) for n in range(120)]  # one question, asked in three ways
    for rows in (by_id, by_text, numbered):
        trained, held_out = sides(recipe(rows))
        assert sorted(trained + held_out) == list(range(120))
        assert {n % 40 for n in trained}.isdisjoint(n % 40 for n in held_out)
        assert trained
        assert held_out


def test_a_split_stays_at_the_next_start_and_as_rows_are_added_and_another_seed_gives_another(recipe: Any) -> None:
    rows = [row(n, 0, question_id=f"q{n}") for n in range(60)]
    _, held_out = sides(recipe(rows))
    assert sides(recipe(rows))[1] == held_out
    assert [n for n in sides(recipe([*rows, *(row(n, 1) for n in range(60, 90))]))[1] if n < 60] == held_out
    assert sides(recipe(rows, seed=1))[1] != held_out
    assert set(sides(recipe(rows, held_out=0.6))[1]) >= set(held_out), "a larger share holds the same ones out too"


@given(st.floats(0.01, 0.9), st.integers(0, 2**32 - 1))
def test_the_share_is_of_questions(share: float, seed: int) -> None:
    out = sum(is_held_out(f"q{n}", share, seed) for n in range(2000))
    assert abs(out / 2000 - share) < 0.08


def test_nothing_is_held_out_unless_it_is_asked_for_and_never_everything(recipe: Any) -> None:
    rows = [row(n, 0) for n in range(3)]
    made = examples(recipe(rows), smol_tokenizer())
    assert counts(split(made, Train())[1]) is None
    with pytest.raises(
        DatasetError, match=r"train\.held_out: 0\.999 holds out every question: nothing is left to train"
    ):
        split(made, Train(held_out=0.999))
    assert counts(split(Examples.of([]), Train(held_out=0.5))[1]) is None


def test_held_out_rows_are_counted_apart_before_a_training(
    recipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(n % 20, n // 20) for n in range(60)]
    made = recipe(rows)
    whole, _, _ = preflight(recipe(rows, held_out=0), smol_tokenizer())
    found, _, _ = preflight(made, smol_tokenizer())
    held_out = found["held_out"]
    assert whole["held_out"] is None
    for key in ("rows", "tokens", "trained_tokens"):
        assert found[key] + held_out[key] == whole[key]
    assert held_out["rows"] == 3 * held_out["questions"] > 0
    assert found["questions"] == 20
    (tmp_path / "r.toml").write_text(
        f'student = "{SMOL}"\ndata = "{tmp_path}/d.jsonl"\noutput = "o"\n[train]\nheld_out = "0.3"\n'
    )
    assert main(["estimate", str(tmp_path / "r.toml"), "--json"]) == 0
    estimated = json.loads(capsys.readouterr().out)
    assert estimated["held_out"] == held_out
    assert estimated["tokens"] == 3 * found["tokens"]
    assert main(["check", str(tmp_path / "d.jsonl"), SMOL, "--train.held_out", "0.3"]) == 0
    assert f"held out {held_out['rows']} of them, of {held_out['questions']} questions" in capsys.readouterr().out
