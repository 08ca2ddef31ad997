"""The Python API: in a script, inside a running event loop, in threads of one; what it gives, and how it fails."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from books import audit_file
from conftest import ROOT, sums
from scripted_endpoint import PRICE, Asked, Endpoint, Say

import winnow
from harvest.core.errors import CapReached, ConfigError, InputError, QuestionError, TeacherRefused
from winnow.process import setting_words

Endpoints = Callable[..., Endpoint]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WINNOW_RUNS", raising=False)


def teacher(endpoint: Endpoint, **more: Any) -> dict[str, Any]:
    return {"base_url": endpoint.url, "model": "mock", "price_usd_per_mtok": PRICE, **more}


def collected(endpoint: Endpoint, rows: Any = None, **more: Any) -> winnow.Run:
    given: dict[str, Any] = {"name": "r", "budget_usd": "1.00", "sampling": {"max_tokens": 100}, "quiet": True, **more}
    return winnow.collect(sums(4) if rows is None else rows, teacher=teacher(endpoint), **given)


def wrong_at_two(asked: Asked) -> Say:
    return Say(text="\\boxed{0}") if " 2 +" in asked.question else Say()


def test_a_run_gives_traces_a_dataset_a_table_its_report_and_its_stories(endpoint: Endpoints, tmp_path: Path) -> None:
    run = collected(endpoint(wrong_at_two))
    assert (len(run), run.is_complete) == (3, True)
    first = next(iter(run))
    assert (first.question_id, first.gold, first.accepted, first.selected) == ("q0", "1", True, True)
    assert first.cost_usd == Decimal("0.00034")
    assert first.messages[-1]["content"].startswith("<think>\n")
    assert first.reasoning is not None
    assert [t.question_id for t in run] == [row["question_id"] for row in run.dataset()]
    assert {t.question_id: t.reason for t in run.traces("all") if not t.accepted} == {"q2": "wrong"}
    frame = run.frame()
    assert list(frame[~frame.accepted].question_id) == ["q2"]
    assert sum(map(Decimal, frame.cost_usd)) == Decimal(run.report["money"]["spent_usd"])
    trl = run.dataset(layout="prompt-completion", columns="training")
    assert trl.column_names == ["prompt", "completion"]
    assert run.why("q2")["attempts"][0]["reason"] == "wrong"
    assert "3 checked traces from 4 questions" in repr(run)
    assert (run.export(tmp_path / "set", format="parquet") / "README.md").is_file()
    with pytest.raises(InputError, match="has no question 'q9'"):
        run.why("q9")


def test_the_api_and_the_command_make_one_run_of_each_other(endpoint: Endpoints, tmp_path: Path) -> None:
    e = endpoint()
    run = collected(e)
    done = subprocess.run(
        [sys.executable, "-m", "harvest", "report", "r", "--json"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert json.loads(done.stdout)["money"] == run.report["money"]
    again = collected(e)
    assert len(e.asked) == 4, "what is stored is not bought again"
    assert again.report["money"] == run.report["money"]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    os.chdir(elsewhere)
    assert [t.answer for t in run] == [t.answer for t in again], "a run stays the same in another folder"
    os.chdir(tmp_path)
    assert list(winnow.open_run("r")) == list(run)


def test_questions_come_from_rows_a_table_a_file_and_a_run_toml(endpoint: Endpoints, tmp_path: Path) -> None:
    import datasets
    import pandas

    e = endpoint()
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums(4)))
    for name, rows in (
        ("dataset", datasets.Dataset.from_list(sums(4))),
        ("table", pandas.DataFrame(sums(4))),
        ("file", "q.jsonl"),
    ):
        assert len(collected(e, rows, name=name)) == 4, name
    (tmp_path / "run.toml").write_text(
        f'questions = "q.jsonl"\n[teacher]\nbase_url = "{e.url}"\nmodel = "mock"\n'
        'price_usd_per_mtok = { input = "1.00", output = "10.00" }\n[sampling]\nmax_tokens = 100\n'
    )
    run = winnow.collect("run.toml", budget_usd=1, quiet=True, checks={"require": ["correct", "format"]})
    assert (run.name, len(run)) == ("run", 4)
    assert json.loads((run.folder / "config.json").read_text())["checks"]["require"] == ["correct", "format"]
    assert len(e.asked) == 4, "the same questions, teacher and settings: bought once"


async def test_in_a_running_event_loop_it_waits_and_in_threads_of_it_two_run_at_once(endpoint: Endpoints) -> None:
    assert len(collected(endpoint(), name="waits")) == 4
    slow = [endpoint(lambda _: Say(delay_s=0.5)) for _ in range(2)]
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.05)

    ticking = asyncio.create_task(tick())
    runs = await asyncio.gather(
        *(asyncio.to_thread(collected, e, name=f"r{n}", store=f"sqlite:///data/s{n}.db") for n, e in enumerate(slow))
    )
    ticking.cancel()
    assert [len(run) for run in runs] == [4, 4]
    assert ticks > 5, "the loop went on"


def test_in_an_interactive_session_with_a_running_loop(endpoint: Endpoints, tmp_path: Path) -> None:
    """Python's own `python -m asyncio`, which runs its lines inside an event loop as a notebook does."""
    lines = (
        "import winnow\n"
        f"rows = [{{'question': f'What is {{i}} + {{i + 1}}?', 'answer': str(2 * i + 1)}} for i in range(3)]\n"
        f"run = winnow.collect(rows, name='n', budget_usd='1', teacher={teacher(endpoint())!r})\n"
        "print('traces:', len(run), [t.gold for t in run])\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "asyncio"]
    done = subprocess.run(words, input=lines, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert "traces: 3 ['1', '3', '5']" in done.stdout, done.stderr
    assert "3/3 questions" in done.stderr, "what the command says is shown"


def test_a_wrong_setting_is_found_before_anything_is_asked(endpoint: Endpoints) -> None:
    e = endpoint()
    with pytest.raises(ConfigError, match=r"sampling\.max_token: unknown setting; did you mean 'max_tokens'\?"):
        collected(e, sampling={"max_token": 5})
    with pytest.raises(ConfigError, match="name the run"):
        winnow.collect(sums(1), teacher=teacher(e), budget_usd=1)
    with pytest.raises(InputError, match=r"the run has no cap: set budget\.usd"):
        collected(e, budget_usd=None)
    with pytest.raises(InputError, match="nearest column is 'anwser'"):
        collected(e, [{"question": "1 + 1?", "anwser": "2"}] * 3)
    assert e.asked == []


def test_a_cap_is_no_error_and_a_higher_one_goes_on(endpoint: Endpoints) -> None:
    e = endpoint()
    run = collected(e, sums(20), budget_usd=Decimal("0.004"))
    assert not run.is_complete
    assert 0 < len(run) < 20
    foreseen = winnow.foresee(sums(20), name="r", teacher=teacher(e), budget_usd=1, sampling={"max_tokens": 100})
    assert foreseen["open"] == 20 - len(run)
    assert len(collected(e, sums(20))) == 20


def test_a_refusal_is_an_error_with_the_commands_words_and_what_came_is_there(
    endpoint: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = endpoint(lambda asked: Say(status=401, error="invalid_api_key") if asked.n > 2 else Say())
    monkeypatch.setenv("SOME_KEY", "sk-12345")
    with pytest.raises(TeacherRefused) as caught:
        winnow.collect(
            sums(9), name="r", teacher=teacher(e, api_key_env="SOME_KEY", max_concurrency=1), budget_usd=1, quiet=True
        )
    assert "error:" not in str(caught.value)
    assert os.environ["SOME_KEY"] == "sk-12345", "the caller's environment is its own"
    assert len(winnow.open_run("r")) == 3
    assert CapReached.exit_code not in (caught.value.exit_code, 1)


def test_ctrl_c_is_a_keyboard_interrupt_that_leaves_no_process_and_no_money_unaccounted(
    endpoint: Endpoints, tmp_path: Path
) -> None:
    e = endpoint(lambda _: Say(delay_s=0.4))
    script = tmp_path / "script.py"
    script.write_text(
        "import winnow\n"
        f"rows = {sums(40)!r}\n"
        "try:\n"
        f"    winnow.collect(rows, name='r', budget_usd='1', teacher={teacher(e, max_concurrency=2)!r}, quiet=True)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', winnow.open_run('r').report['run']['status'])\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, script], cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while len(e.asked) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert out == "interrupted interrupted\n"
    books = audit_file(tmp_path / "data/winnow.db")
    assert books["reserved"] == 0
    asked = len(e.asked)
    time.sleep(1)
    assert len(e.asked) == asked, "nobody goes on asking"


@pytest.mark.parametrize(
    ("question", "answer", "fields", "passed"),
    [
        ({"question": "What is 2 + 2?", "answer": "4"}, "So \\boxed{4}.", {}, True),
        ({"question": "What is 2 + 2?", "answer": "4"}, "So \\boxed{5}.", {}, False),
        ("What is 1/2 + 1/2?", "It is \\boxed{\\frac{2}{2}}", {"gold": "1"}, True),
        ("Which is a fruit?", "\\boxed{B}", {"choices": ["a stone", "an apple"], "gold": "B"}, True),
        ("What is 2 + 2?", "I do not know.", {"gold": "4"}, False),
    ],
)
def test_check_judges_as_collect_would(question: Any, answer: str, fields: dict[str, Any], passed: bool) -> None:
    said = winnow.check(question, answer, **fields)
    assert (said.passed, bool(said.detail)) == (passed, True)


async def test_check_works_in_a_running_loop_and_names_what_is_no_question() -> None:
    assert winnow.check({"question": "x?", "answer": "x^2 + 2x + 1"}, "\\boxed{(x+1)^2}").passed
    with pytest.raises(QuestionError, match="answer: missing"):
        winnow.check("What is 2 + 2?", "4")


def test_every_name_is_there_typed_and_on_the_page() -> None:
    page = (ROOT / "docs/python.md").read_text()
    for name in winnow.__all__:
        assert getattr(winnow, name).__doc__, name
        assert f"`{name}" in page, f"docs/python.md does not speak of {name}"
    assert (ROOT / "winnow/py.typed").is_file()
    assert len(winnow.__all__) <= 12
    with pytest.raises(AttributeError, match="it has collect"):
        winnow.colect  # noqa: B018
    script = (
        "import sys, winnow; sys.exit(len({'pydantic', 'datasets', 'torch', 'numpy', 'aiohttp'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_settings_become_words_and_are_read_back_as_they_were() -> None:
    from harvest.core.settings import parse_value

    given = {"sampling": {"extra": {"a": [1, "b"]}, "max_tokens": 5}, "prompt": "steps", "skip": True, "rate": 1e-4}
    words = setting_words(given)
    assert words[0] == '--sampling.extra.a=[1, "b"]'
    assert {w.partition("=")[0][2:]: parse_value(w.partition("=")[2]) for w in words} == {
        "sampling.extra.a": [1, "b"], "sampling.max_tokens": 5, "prompt": "steps", "skip": True, "rate": 1e-4,
    }  # fmt: skip


def test_a_student_is_trained_on_a_run_and_measured(endpoint: Endpoints, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="needs the extra `train`")
    from students import tiny_student

    run = collected(endpoint(), sums(12))
    base = tiny_student(tmp_path / "base")
    few = {"epochs": 2, "traces_per_step": 4, "learning_rate": 1e-3}
    student = winnow.train(run, str(base), "out", train=few, render={"max_tokens": 400}, quiet=True)
    assert (student.training["rows"], student.training["steps"]) == (12, 6)
    assert student.training["loss_last"] < student.training["loss_first"]
    assert run.report["training"][0]["rows"] == 12, "the run's report has it"
    assert winnow.train(run, str(base), "out", train=few, render={"max_tokens": 400}, quiet=True).training["steps"] == 6
    found = student.evaluate(sums(3, 50), max_tokens=4, quiet=True)
    assert (found.n, found.entry["label"]) == (3, "after")
    assert found.low <= found.accuracy <= found.high
    assert run.report["evaluation"][0]["n"] == 3
    with pytest.raises(InputError, match=r"train\.learnig_rate: unknown setting; did you mean 'learning_rate'"):
        winnow.train(run, str(base), "other", train={"learnig_rate": 1})
