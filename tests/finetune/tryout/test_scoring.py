"""A student's scores of a run's answers: what they are, that none is computed twice, and what is done with them."""

import json
import math
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from students import chat, smol_tokenizer, sums, tiny_student
from test_import import Imports, imports

torch = pytest.importorskip("torch", reason="needs the extra `train`")

from finetune.rows.layout import LAYOUTS  # noqa: E402
from finetune.rows.render import Example, render  # noqa: E402
from finetune.student import find, load_model  # noqa: E402
from finetune.tryout.scoring import MOST_RANK, scores  # noqa: E402
from harvest.store import Store  # noqa: E402

__all__ = ["imports"]  # the fixture


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def model(student: Path) -> Any:
    return load_model(find(str(student)), torch.float32).eval()


def row(messages: Sequence[Any]) -> Example:
    return render(messages, smol_tokenizer(), 512, LAYOUTS["think"])


def plainly(example: Example, model: Any) -> tuple[int, float, int]:
    """The score of one row, token by token, from the model's own logits."""
    with torch.no_grad():
        logprobs = model(torch.tensor([list(example.ids)])).logits[0].double().log_softmax(-1)
    tokens, nats, ranks = 0, 0.0, 0
    for t in range(1, len(example)):
        if example.mask[t]:
            own = logprobs[t - 1, example.ids[t]]
            tokens, nats = tokens + 1, nats - own.item()
            ranks += min(MOST_RANK, 1 + int((logprobs[t - 1] > own).sum()))
    return tokens, nats, ranks


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 11), min_size=1, max_size=6))
def test_rows_that_are_read_together_have_the_scores_of_each_alone(model: Any, chosen: list[int]) -> None:
    rows = [row(sums(12)[n]) for n in chosen]
    for (tokens, nats, ranks), example in zip(scores(rows, model), rows, strict=True):
        assert nats is not None
        assert ranks is not None
        expected = plainly(example, model)
        assert tokens == expected[0] == example.trained_tokens
        assert math.isclose(nats, expected[1], rel_tol=1e-5)
        assert abs(ranks - expected[2]) <= 2  # two tokens may be equally likely in one of the two sums


def test_logits_in_small_chunks_give_the_same(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(m) for m in sums(3)]
    whole = scores(rows, model)
    monkeypatch.setattr("finetune.train.loss.CHUNK_BYTES", 4 * model.config.vocab_size * 5)
    for a, b in zip(whole, scores(rows, model), strict=True):
        assert a[0] == b[0]
        assert a[2] == b[2]
        assert math.isclose(a[1] or 0, b[1] or 0, rel_tol=1e-5)


def test_a_rank_counts_a_hundred_at_most_and_a_sure_token_is_of_rank_one(student: Path, model: Any) -> None:
    asked = chat("What is 1 + 1?", "<think>\n1 + 1 = 2\n</think>\n\n2")
    (tokens, nats, ranks), *_ = scores([row(asked)], model)
    assert nats is not None
    assert ranks is not None
    assert tokens < ranks <= MOST_RANK * tokens
    assert nats / tokens == pytest.approx(math.log(model.config.vocab_size), rel=0.1)  # its weights are random


# ---- the command


def answers(n: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"q{i}", "question": f"What is {i} + {i + 1}?", "answer": str(2 * i + 1), "check": "math",
            "response": f"<think>\n{'so ' * (i % 5)}{i} + {i + 1} = {2 * i + 1}\n</think>\n\n\\boxed{{{2 * i + 1}}}",
        }
        for i in range(n)
    ]  # fmt: skip


def scored(imports: Imports, student: Path, *more: str) -> dict[str, Any]:
    words = ("score", "r", "--student", str(student), "--store", f"sqlite:///{imports.store}", "--json", *more)
    done = forked.run("finetune", *words, cwd=imports.folder, env=imports.env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_answer_is_scored_once_and_the_columns_are_where_a_row_is_shown(imports: Imports, student: Path) -> None:
    rows = [*answers(8), answers(9)[8] | {"response": "\\boxed{3}"}]  # the last is wrong
    imports.take(imports.file("a.jsonl", rows))
    first = scored(imports, student)
    assert first["scored_now"] == 8
    (fit,) = first["teachers"]
    assert fit["traces"] == 8
    assert fit["without_score"] == 0
    assert fit["surprisal"]["low"] < fit["surprisal"]["mean"] < fit["surprisal"]["high"]
    again = scored(imports, student)
    assert again["scored_now"] == 0
    assert again["teachers"] == first["teachers"]
    assert scored(imports, student, "--which", "all")["scored_now"] == 1
    assert scored(imports, student, "--render.max_tokens", "256")["scored_now"] == 8  # another rendering
    exported = imports.exported()
    assert sum(r["student_surprisal"] is not None for r in exported) == 8
    one = next(r for r in exported if r["accepted"])
    assert one["student"].startswith(f"{student}@sha256:")
    assert 1 <= one["student_rank"] <= 100
    out, _ = imports.run("why", "r", "q1", "--json")
    (score,) = json.loads(out)["attempts"][0]["scores"]
    assert score["student"] == str(student)
    assert score["rsr"] == pytest.approx(score["rank"] / score["surprisal"])
    assert "surprisal" in imports.run("why", "r", "q1")[0]


def test_another_name_of_the_same_weights_is_not_scored_again(imports: Imports, student: Path) -> None:
    imports.take(imports.file("a.jsonl", answers(3)))
    assert scored(imports, student)["scored_now"] == 3
    other = imports.folder / "other"
    other.symlink_to(student)
    assert scored(imports, other)["scored_now"] == 0
    with Store.open(f"sqlite:///{imports.store}", write=False) as store:
        assert store.scored_students(1) == [str(other), str(student)]


def test_other_weights_and_another_template_are_scored_for_themselves(imports: Imports, student: Path) -> None:
    imports.take(imports.file("a.jsonl", answers(3)))
    scored(imports, student)
    worded = imports.folder / "worded"
    shutil.copytree(student, worded)
    template = worded / "chat_template.jinja"
    template.write_text(template.read_text() + "{# another one #}")
    assert scored(imports, worded)["scored_now"] == 3
    other = tiny_student(imports.folder / "other", seed=2)
    assert scored(imports, other)["scored_now"] == 3
    with Store.open(f"sqlite:///{imports.store}", write=False) as store:
        first, newest = (dict(store.student_scores(store.scoring_of(1, s))) for s in (str(student), str(other)))
        assert newest == dict(store.student_scores(store.scoring_of(1)))
    assert first.keys() == newest.keys()
    assert all(first[a].surprisal_nats != newest[a].surprisal_nats for a in first)


def test_an_answer_that_is_too_long_has_no_score_and_is_not_selected_by_scores(imports: Imports, student: Path) -> None:
    rows = answers(4)
    rows[2]["response"] = (
        f"<think>\n{' '.join(f'{i} is less than {i + 1},' for i in range(60))}\n</think>\n\n\\boxed{{5}}"
    )
    imports.take(imports.file("a.jsonl", rows))
    found = scored(imports, student, "--render.max_tokens", "128")
    assert found["teachers"][0]["without_score"] == 1
    given = ("--select.student", str(student), "--select.surprisal_most", "1000")
    out, _ = imports.run("select", "r", "--json", *given)
    assert json.loads(out)["unselected"] == {"no_student_score": 1}


def test_traces_are_selected_by_their_scores(imports: Imports, student: Path) -> None:
    imports.take(imports.file("a.jsonl", answers(8)))
    by_score = ("select", "r", "--json", "--select.student", str(student), "--select.surprisal_most", "1000")
    assert json.loads(imports.run(*by_score)[0])["unselected"] == {"no_student_score": 8}
    scored(imports, student)
    assert json.loads(imports.run(*by_score)[0])["unselected"] == {}, "new scores make a new selection"
    with Store.open(f"sqlite:///{imports.store}", write=False) as store:
        by = {a: s.surprisal or 0 for a, s in store.student_scores(store.scoring_of(1, str(student)))}
        ratio = {a: s.rsr or 0 for a, s in store.student_scores(store.scoring_of(1))}
    middle = sorted(by.values())[4]
    most = ("--select.surprisal_most", f"{middle:.9f}"[:-1] + "0")
    out, _ = imports.run("select", "r", "--select.student", str(student), *most, "--json")
    assert json.loads(out)["unselected"] == {"too_surprising": sum(v > float(most[1]) for v in by.values())}
    imports.run(
        "select", "r", "--select.student", str(student), "--select.favour", "rsr", "--select.traces", "3",
        "--select.surprisal_most", "1000",
    )  # fmt: skip
    with Store.open(f"sqlite:///{imports.store}", write=False) as store:
        chosen = {a.id for a in store.answered_attempts(1, "selected")}
    assert chosen == set(sorted(ratio, key=lambda a: ratio[a])[:3])


def test_a_rule_on_scores_without_a_student_is_refused(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", answers(2)))
    _, err = imports.run("select", "r", "--select.prefer", "rsr", code=2)
    assert "need `student`" in err
    assert "finetune score" in err


def test_a_killed_scoring_goes_on_with_what_is_missing(
    imports: Imports, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports.take(imports.file("a.jsonl", answers(300)))
    words = ("score", "r", "--student", str(student), "--store", f"sqlite:///{imports.store}")
    process = forked.Forked("finetune", *words, cwd=imports.folder, env=imports.env)
    until = time.monotonic() + 120
    done = 0
    while not done and time.monotonic() < until:
        time.sleep(0.01)
        with Store.open(f"sqlite:///{imports.store}", write=False) as store:
            done = len(list(store.student_scores(store.scoring_of(1))))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with Store.open(f"sqlite:///{imports.store}", write=False) as store:
        done = len(list(store.student_scores(store.scoring_of(1))))
    assert 0 < done < 300
    assert scored(imports, student)["scored_now"] == 300 - done
