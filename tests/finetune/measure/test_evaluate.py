"""Measuring a student: which questions are asked, what counts as right, and what a second start still asks."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from students import smol_tokenizer, tiny_student

from finetune.__main__ import main
from finetune.measure.details import compare, compared_in_words, in_words, write_details
from finetune.measure.engine import Asked, Generated
from finetune.measure.evaluate import Measured, evaluate
from finetune.measure.sampling import Sampling, sampling_of
from finetune.measure.verdicts import after_chain
from finetune.note import note_of
from finetune.progress import Progress
from finetune.rows.layout import Layout
from finetune.run import Run, label_of, standalone, standalone_evaluations
from finetune.student import find, identity
from harvest.core.config import RunConfig
from harvest.core.errors import ConfigError, InputError, StoreUnusable
from harvest.core.nouns import Question
from harvest.core.teachers import Teacher
from harvest.endpoint import prompt as prompts
from harvest.questions.sources import read_questions
from harvest.report.evaluation_warnings import warnings_of
from harvest.report.evaluations import gains, newest
from harvest.store import Store

TRAINING = {
    "student": "base", "method": "sft", "weights": "full", "output": "trained", "rows": 1, "dropped": 0, "data": "d",
    "tokens": 1, "trained_tokens": 1, "epochs": 1, "steps": 1, "learning_rate": 1e-3, "seed": 0, "loss_first": 1.0,
    "loss_last": 0.5, "precision": "float32", "device": "cpu", "versions": {}, "gpu_hours": 0, "wall_s": 1,
    "cost_usd": None,
}  # fmt: skip
PROMPT = prompts.parse("---\nfor: tests\nreasoning: endpoint\n---\n## user\n{question}\n", "plain", "here")


def questions(n: int) -> list[Question]:
    return [Question(id=f"q{i}", question=f"What is {i} + 1?", answer=str(i + 1), check="math") for i in range(n)]


class Scripted:
    """An engine that answers from a table, two at a time, and may break off."""

    model, about = "scripted", {"weights": "sha256:0"}
    beside: ClassVar[dict[str, Any]] = {"batch_rows": 2}

    def __init__(self, answers: dict[str, Generated], break_after: int = 10**6) -> None:
        self.table, self.break_after, self.asked = answers, break_after, list[tuple[str, int]]()

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        for at in range(0, len(asked), 2):
            batch = asked[at : at + 2]
            self.asked += [(a.question.id, a.sample) for a in batch]
            if len(self.asked) > self.break_after:
                raise KeyboardInterrupt
            yield [(a, self.table[a.question.id]) for a in batch]


class Memory:
    """A record that is gone with the process."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
        self.kept: dict[str, Mapping[str, Any]] = {}

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        self.kept[key] = dict(settings)
        self.rows.setdefault(key, {}).update({(r["question_id"], r["sample"]): dict(r) for r in rows})

    def answers(self, key: str) -> list[dict[str, Any]]:
        return list(self.rows.get(key, {}).values())

    def settings(self, key: str) -> Mapping[str, Any]:
        return self.kept.get(key, {})


def right(i: int, tokens: int = 10) -> Generated:
    return Generated(f"<think>\n{i} + 1\n</think>\n\n\\boxed{{{i + 1}}}", True, tokens)


def evaluated(engine: Any, n: int, record: Any = None, label: str = "before", **sampling: Any) -> Measured:
    record = record if record is not None else Memory()
    return evaluate(engine, questions(n), "q.jsonl", PROMPT, Sampling(**sampling), record, Progress("eval"), label)


def measured(engine: Any, n: int, record: Any = None, **sampling: Any) -> dict[str, Any]:
    return evaluated(engine, n, record, **sampling).entry


def test_accuracy_tokens_and_unfinished_answers() -> None:
    table = {f"q{i}": right(i) for i in range(6)}
    table["q1"] = Generated("\\boxed{99}", True, 20)
    table["q2"] = Generated("\\boxed{3} and on and on", False, 30)  # right, but it never ended
    found = measured(Scripted(table), 6)
    assert found["accuracy"] == pytest.approx(4 / 6, abs=1e-4)
    assert found["low"] < 4 / 6 < found["high"]
    assert found["mean_output_tokens"] == 15
    assert found["unfinished"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["cost_usd"] is None
    assert "66.7% right" in in_words(found)


def test_of_no_answers_nothing_is_claimed() -> None:
    found = measured(Scripted({}), 0)
    assert found["accuracy"] is None
    assert found["unfinished"] is None
    assert in_words(found).endswith("no answers")


def test_a_second_start_asks_only_what_is_missing() -> None:
    table, record = {f"q{i}": right(i) for i in range(7)}, Memory()
    first = Scripted(table, break_after=4)
    with pytest.raises(KeyboardInterrupt):
        measured(first, 7, record)
    second = Scripted(table)
    assert measured(second, 7, record)["accuracy"] == 1
    assert second.asked == [("q4", 0), ("q5", 0), ("q6", 0)]
    third = Scripted(table)
    measured(third, 7, record, samples=2)
    assert {s for _, s in third.asked} == {1}  # more samples of the same evaluation


class Silent(Scripted):
    """Brings no answer to what its table lacks."""

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        yield [(a, self.table[a.question.id]) for a in asked if a.question.id in self.table]


def test_what_was_not_answered_is_missing_and_not_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    record = Memory()
    found = measured(Silent({f"q{i}": right(i) for i in range(3)}), 5, record)
    assert (found["n"], found["accuracy"], found["settings"]["asked"]) == (3, 1, 5)
    assert "2 of 5 were not answered: the same command asks them again" in capsys.readouterr().err
    assert measured(Silent({f"q{i}": right(i) for i in range(5)}), 5, record)["n"] == 5


def test_no_evaluation_is_kept_before_its_first_answer() -> None:
    record = Memory()
    measured(Silent({}), 5, record)
    with pytest.raises(KeyboardInterrupt):
        measured(Scripted({}, break_after=0), 5, record)
    assert record.rows == {}


def test_the_entry_says_how_many_samples_there_are_whatever_was_asked_last() -> None:
    table, record = {f"q{i}": right(i) for i in range(3)}, Memory()
    measured(Scripted(table), 3, record, samples=4)
    found = measured(Scripted(table), 3, record, samples=2)
    assert (found["samples"], found["settings"]["asked"]) == (4, 12)


def test_marks_of_the_recipes_own_are_read() -> None:
    own = Layout("[[", "]]")
    assert after_chain("[[why 7]]so", own) == "so"
    assert after_chain("[[why 7", own) is None
    assert after_chain("<think>\nwhy\n</think>\n\nso", own) == "so"


def test_settings_name_all_that_two_measurements_are_paired_by() -> None:
    settings = measured(Scripted({"q0": right(0)}), 1)["settings"]
    assert {"questions_sha256", "prompt_sha256", "max_tokens", "temperature", "seed"} <= set(settings)


def test_before_is_what_a_training_of_the_run_began_with(tmp_path: Path) -> None:
    run = Run("r", f"sqlite:///{tmp_path}/w.db")
    with pytest.raises(StoreUnusable, match="no such file"):
        run.check()
    base, out, other = (tmp_path / n for n in ("base", "out", "other"))
    for folder in (base, out, other):
        folder.mkdir()
    (other / "winnow.json").write_text('{"training": null}')
    with Store.open(run.url) as store:
        store.put_run("r", {}, None, "2026-01-01T00:00:00+00:00")
    assert label_of(str(base), run) is None
    run.put_training("k", {"student": str(base), "output": f"{base}/../out"})
    assert label_of(f"{base}/", run) == "before"
    assert label_of(str(out), run) == label_of(str(other), run) == "after"
    assert label_of("smollm2-135m-instruct", None) == "before"
    assert label_of(str(base), None) is label_of("somebody/another-model", run) is None


def test_what_was_measured_before_the_training_is_before_once_there_is_an_after(tmp_path: Path) -> None:
    run = Run("r", f"sqlite:///{tmp_path}/w.db")
    with Store.open(run.url) as store:
        store.put_run("r", {}, None, "2026-01-01T00:00:00+00:00")
    table = {f"q{i}": right(i) for i in range(3)}
    first = evaluate(Scripted(table), questions(3), "q", PROMPT, Sampling(), run, Progress("eval"))
    assert [e["settings"]["label"] for e in run.evaluations()] == [None]
    for began_with, label in (("sha256:another", None), ("sha256:0", "before")):
        (tmp_path / "winnow.json").write_text(json.dumps({"of": {"student": began_with}}))
        run.label_befores(tmp_path)
        assert [e["settings"]["label"] for e in run.evaluations()] == [label]
    assert len(run.answers(first.key)) == 3


@pytest.mark.parametrize("note", ["{bad", "[]", '{"of": 3}', '{"training": {"x": 1}}', '{"training": "so"}'])
def test_a_note_that_is_not_as_we_write_it_is_none(tmp_path: Path, note: str) -> None:
    (tmp_path / "winnow.json").write_text(note)
    assert note_of(tmp_path) == {}
    assert standalone_evaluations(tmp_path) == []


def test_what_took_long_to_make_waits_for_the_store(tmp_path: Path) -> None:
    run = Run("r", f"sqlite:///{tmp_path}/w.db")
    store = Store.open(run.url)
    store.put_run("r", {}, None, "2026-01-01T00:00:00+00:00")
    threading.Timer(0.5, store.close).start()
    run.put_training("k", {"student": "s", "output": "o"})
    assert [t["student"] for t in run.trainings()] == ["s"]


def test_another_temperature_is_another_evaluation() -> None:
    table, record = {"q0": right(0)}, Memory()
    measured(Scripted(table), 1, record)
    again = Scripted(table)
    measured(again, 1, record, temperature=0.7)
    assert again.asked == [("q0", 0)]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\nwhy\n</think>\n\nso", "so"),
        ("so", "so"),
        ("why\n</think>\n\nso", "\n\nso"),  # the template opened the chain
        ("<think>\nso it is \\boxed{3}", None),
        ("<|begin_of_thought|>\n\nw\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\nso\n\n<|end_of_solution|>", "so"),
    ],
)
def test_what_is_judged_stands_after_the_chain(text: str, answer: str | None) -> None:
    assert after_chain(text) == answer


# ---- the engine on this machine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    torch.set_num_threads(1)  # with so small a student two wait for each other
    from finetune.measure.generate import TransformersEngine

    return TransformersEngine(find(str(tiny_student(tmp_path_factory.mktemp("student")))))


def asked(n: int, sample: int = 0) -> list[Asked]:
    return [
        Asked(q, sample, [{"role": "user", "content": q.question + " why" * (i % 5)}])
        for i, q in enumerate(questions(n))
    ]


def texts(engine: Any, wanted: Sequence[Asked], **sampling: Any) -> dict[str, str]:
    batches = engine.answers(wanted, Sampling(**sampling))
    return {a.question.id: g.text for batch in batches for a, g in batch}


def test_greedy_answers_are_those_of_transformers(engine: Any) -> None:
    import torch

    found = texts(engine, asked(9), max_tokens=24)
    for a in asked(9):
        ids = smol_tokenizer().apply_chat_template(
            a.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = engine.network.generate(**ids, max_new_tokens=24, do_sample=False)
        want = smol_tokenizer().decode(out[0, ids["input_ids"].shape[1] :]).removesuffix("<|im_end|>")
        assert found[a.question.id] == want


def test_an_answer_does_not_depend_on_what_is_asked_beside_it(engine: Any) -> None:
    together = texts(engine, asked(9), max_tokens=24, temperature=1.0, seed=3)
    alone = [texts(engine, [a], max_tokens=24, temperature=1.0, seed=3) for a in asked(9)]
    assert together == {q: t for one in alone for q, t in one.items()}
    assert together != texts(engine, asked(9), max_tokens=24, temperature=1.0, seed=4)
    assert together != texts(engine, asked(9, sample=1), max_tokens=24, temperature=1.0, seed=3)


def test_rows_that_end_early_leave_and_the_rest_goes_on_unchanged(engine: Any) -> None:
    whole = texts(engine, asked(9), max_tokens=24)
    ends, engine.ends = engine.ends, engine.ends | set(smol_tokenizer()(whole["q3"])["input_ids"][5:6])
    try:
        batches = [pair for batch in engine.answers(asked(9), Sampling(max_tokens=24)) for pair in batch]
    finally:
        engine.ends = ends
    assert any(g.is_finished and g.output_tokens < 24 for _, g in batches)
    for a, g in batches:
        assert whole[a.question.id].startswith(g.text)
        assert g.is_finished or g.text == whole[a.question.id]


def test_a_limit_over_the_students_own_is_refused(engine: Any) -> None:
    from harvest.core.errors import InputError

    with pytest.raises(InputError, match="lower --max-tokens"):
        texts(engine, asked(1), max_tokens=5000)


def test_weights_that_broke_off_are_one_line(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.student import load_model

    weights = tiny_student(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be loaded") as e:
        load_model(find(str(tmp_path)), torch.float32)
    assert "\n" not in str(e.value)


def test_an_adapter_is_known_by_its_base_too(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    found = set()
    for seed in (1, 2):
        base, adapter = tiny_student(tmp_path / f"base{seed}", seed=seed), tmp_path / f"adapter{seed}"
        adapter.mkdir()
        (adapter / "adapter_model.safetensors").write_bytes(b"the same")
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
        found.add(identity(find(str(adapter))))
    assert len(found) == 2


def test_another_chat_template_is_another_student(tmp_path: Path, engine: Any) -> None:
    from finetune.measure.generate import TransformersEngine

    student = tiny_student(tmp_path)
    template = student / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    other = TransformersEngine(find(str(student))).about
    assert other["weights"] == engine.about["weights"]
    assert other["tokenizer"] != engine.about["tokenizer"]


def started(folder: Path, student: Path, *more: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "finetune", "eval", str(student), "--questions", str(folder / "q.jsonl"), "--json"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "WINNOW_RUNS": str(folder / "runs")}
    root, pipe = Path(__file__).parents[3], subprocess.PIPE
    return subprocess.Popen([*words, *more], cwd=root, env=env, stdout=pipe, stderr=pipe, text=True)


class Told(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """The command line in this process, which has torch loaded already."""
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))

    def run(student: Path | str, *more: str) -> Told:
        words = ["eval", str(student), *(() if "--questions" in more else ("--questions", str(tmp_path / "q.jsonl")))]
        code = main([*words, *(() if "--max-tokens" in more else ("--max-tokens", "8")), "--json", *more])
        return Told(code, *capsys.readouterr())

    return run


Command = Callable[..., Told]


def test_a_student_whose_run_is_elsewhere_is_measured_without_it(tmp_path: Path, command: Command) -> None:
    student, url = tiny_student(tmp_path / "s"), f"sqlite:///{tmp_path}/gone/w.db"
    (student / "winnow.json").write_text(json.dumps({"run": {"name": "r", "store": url}}))
    (tmp_path / "q.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    done = command(student)
    assert done.code == 0, done.err
    assert "its run is not here" in done.err
    found = json.loads(done.out)
    assert (found["n"], found["samples"], found["label"]) == (1, 1, "after")
    assert not (tmp_path / "gone").exists()


def test_without_a_run_it_goes_on_too_and_before_and_after_are_paired(tmp_path: Path, command: Command) -> None:
    base, trained = tiny_student(tmp_path / "base"), tiny_student(tmp_path / "trained", seed=2)
    of = {"of": {"student": identity(find(str(base)))}, "wall_s": 1.0, "training": TRAINING}
    (trained / "winnow.json").write_text(json.dumps(of))
    long_questions(tmp_path, 6)
    assert command(base, "--limit", "4").code == 0  # other questions: not before
    assert json.loads(command(trained).out)["gain"] is None
    assert json.loads(command(base).out)["gain"] is None
    again = command(trained)
    assert "eval " not in again.err, "asked again what was there"
    found = json.loads(again.out)
    assert (found["gain"]["n"], found["gain"]["points"], found["label"]) == (6, 0, "after")
    assert any("have no end" in w for w in found["warnings"])
    card = (trained / "README.md").read_text()
    assert "Not evaluated" not in card
    assert "+0.0 points" in card


def test_a_bad_question_is_named_though_it_stands_past_the_limit(tmp_path: Path, command: Command) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n{"question": 7}\n')
    done = command(tmp_path / "s", "--limit", "1")
    assert done.code == 2
    assert "q.jsonl" in done.err


def test_a_question_without_a_gold_answer_measures_no_student(tmp_path: Path, command: Command) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "question": "What is 1 + 1?", "check": "majority"}\n')
    done = command(tmp_path / "s")
    assert done.code == 2
    assert "question 'a' has no gold answer" in done.err


# ---- what is kept without a run


def test_what_is_kept_without_a_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))
    table = {f"q{i}": right(i) for i in range(7)}
    with pytest.raises(KeyboardInterrupt):
        measured(Scripted(table, break_after=4), 7, standalone())
    second = Scripted(table)
    found = measured(second, 7, standalone())
    assert second.asked == [("q4", 0), ("q5", 0), ("q6", 0)]
    assert (found["n"], found["accuracy"]) == (7, 1)
    assert found["settings"]["answered_by"] == {"batch_rows": 2}
    third = Scripted(table)
    assert measured(third, 7, standalone())["n"] == 7
    assert not third.asked


def test_a_place_where_nothing_can_be_kept_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").write_text("")
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))
    with pytest.raises(StoreUnusable, match=r"\.evaluations\.db") as e:
        standalone()
    assert "\n" not in str(e.value)


# ---- several samples


def wrong(n: int) -> Generated:
    return Generated(f"\\boxed{{{n}}}", True, 10)


class Sampled(Scripted):
    """Answers by question and sample."""

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        yield [(a, self.table[f"{a.question.id}/{a.sample}"]) for a in asked]


def test_several_samples_give_pass_at_k_and_a_majority() -> None:
    table = {f"q0/{s}": g for s, g in enumerate([right(0), right(0), wrong(5), wrong(7)])}  # 1 wins
    table |= {f"q1/{s}": g for s, g in enumerate([right(1), wrong(5), wrong(5), wrong(5)])}  # 5 wins
    table |= {f"q2/{s}": g for s, g in enumerate([right(2), right(2), wrong(9), wrong(9)])}  # a tie
    table |= {f"q3/{s}": Generated("\\boxed{4} and", False, 10) for s in range(4)}  # nothing was said
    found = measured(Sampled(table), 4, samples=4)
    assert found["accuracy"] == pytest.approx(5 / 16, abs=1e-4)
    assert found["pass_at_k"] == {"1": 0.3125, "2": pytest.approx((5 / 6 + 1 / 2 + 5 / 6) / 4, abs=1e-4), "4": 0.75}
    assert found["majority"]["accuracy"] == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert found["majority"]["low"] < 0.375 < found["majority"]["high"]
    assert found["outcomes"] == {
        "right": 5, "wrong": 7, "no_answer": 0, "unfinished": 4, "looping": 0, "timeout": 0, "error": 0
    }  # fmt: skip
    assert "pass@2 54.2%, pass@4 75.0%, majority 37.5%" in in_words(found)
    assert "majority" not in found["settings"]


def test_a_majority_counts_what_is_equal_and_not_what_is_written_alike() -> None:
    said = [r"\boxed{0.5}", r"\boxed{\frac12}", r"\boxed{1/2}", r"\boxed{7}", r"\boxed{7}"]
    question = Question(id="q", question="Half of one?", answer="1/2", check="math")
    table = {f"q/{s}": Generated(text, True, 5) for s, text in enumerate(said)}
    found = evaluate(
        Sampled(table), [question], "q", PROMPT, Sampling(samples=5), Memory(), Progress("eval")
    ).entry  # fmt: skip
    assert found["majority"]["accuracy"] == 1


# ---- how answers end


def test_loops_are_told_from_answers_that_were_cut_and_from_wrong_ones() -> None:
    table = {f"q{i}": right(i) for i in range(5)}
    table["q1"] = Generated("<think>\n" + "wait, let me see. " * 100, False, 500)
    table["q2"] = Generated("<think>\n" + " ".join(map(str, range(500))), False, 500)
    table["q3"] = Generated("I do not know.", True, 5)
    table["q4"] = Generated("<think>\nso", False, 5, is_looping=True)  # as an endpoint's stream ended
    run = evaluated(Scripted(table), 5, label="after")
    assert run.entry["outcomes"] == {
        "right": 1, "wrong": 0, "no_answer": 1, "unfinished": 1, "looping": 2, "timeout": 0, "error": 0
    }  # fmt: skip
    assert (run.entry["unfinished"], run.entry["looping"], run.entry["no_answer"]) == (0.6, 0.4, 0.2)
    said = [w for _, w in warnings_of([as_stored(run)], None)]
    assert any("60.0% of the answers have no end, 40.0% of all in a loop" in w for w in said)
    assert any("20.0% of the answers ended without an answer in the form" in w for w in said)


def as_stored(run: Measured) -> dict[str, Any]:
    return {"key": run.key, "settings": run.settings, "answers": run.answers}


def warned(before: dict[str, Generated], after: dict[str, Generated], n: int = 40, **more: Any) -> list[str]:
    runs = [evaluated(Scripted(t), n, label=lb) for lb, t in (("before", before), ("after", after))]
    runs[1] = Measured("other", runs[1].settings | more, runs[1].answers)
    found = warnings_of([as_stored(r) for r in runs], 10.0)
    assert {key for key, _ in found} <= {"other"}, "what it did before is no fault of the training"
    return [w for _, w in found]


def test_a_student_that_got_worse_or_never_stops_is_a_warning() -> None:
    good, bad = {f"q{i}": right(i) for i in range(40)}, {f"q{i}": wrong(99) for i in range(40)}
    endless = {f"q{i}": right(i) if i < 36 else Generated("on and on", False, 10) for i in range(40)}
    assert warned(bad, good) == []
    assert warned(good, good) == []
    assert any("worse than before, by 100.0 points" in w for w in warned(good, bad))
    told = warned(good, endless)
    assert any("10.0% of the answers have no end" in w for w in told)
    assert any("worse than before" in w for w in told)
    one, three = ({f"q{i}": wrong(99) if i < n else right(i) for i in range(40)} for n in (1, 3))
    assert warned(good, one) == []  # proves nothing
    assert any("7.5 points fewer than before" in w and "40 questions do not tell" in w for w in warned(good, three))


def test_answers_much_longer_than_what_was_taught_are_a_warning() -> None:
    short, long = ({f"q{i}": right(i, tokens) for i in range(40)} for tokens in (15, 45))
    assert warned(short, short) == []
    assert any("45 tokens, 4.5 times those of the traces of the run (10)" in w for w in warned(short, long))


def test_before_and_after_by_different_engines_are_a_warning() -> None:
    table = {f"q{i}": right(i) for i in range(40)}
    told = warned(table, table, engine={"weights": "sha256:1", "precision": "bfloat16"})
    assert any("different engines" in w for w in told)


def test_the_gain_in_the_report_is_that_of_the_latest_student() -> None:
    good, bad = {f"q{i}": right(i) for i in range(9)}, {f"q{i}": wrong(99) for i in range(9)}
    before = as_stored(evaluated(Scripted(bad), 9))
    first, second = (
        as_stored(evaluated(Scripted(t), 9, label="after")) | {"key": k} for k, t in (("1", bad), ("2", good))
    )
    found = newest(gains([before, first, second]))
    assert found is not None
    assert (found["key"], found["points"], found["gained"], found["lost"], found["n"]) == ("2", 100, 9, 0, 9)


def test_of_two_students_that_began_with_two_each_has_its_own_gain() -> None:
    def of(name: str, label: str, weights: str, n: int, **more: Any) -> dict[str, Any]:
        run = evaluated(Scripted({f"q{i}": right(i) if i < n else wrong(99) for i in range(10)}), 10, label=label)
        return {"key": name, "settings": run.settings | {"engine": {"weights": weights}} | more, "answers": run.answers}

    small, big = of("small", "before", "s", 1), of("big", "before", "b", 8)
    after = [of("of small", "after", "1", 4, began_with="s"), of("of big", "after", "2", 9, began_with="b")]
    again = of("of that", "after", "3", 5, began_with="1")  # a second training
    told = {g["key"]: round(g["points"]) for g in gains([small, big, *after, again])}
    assert told == {"of small": 30, "of big": 10, "of that": 10}
    stranger = of("of another", "after", "4", 2, began_with="c")
    assert gains([small, big, stranger]) == []
    served = of("served", "before", "", 3, engine={"endpoint": "https://x"})
    assert [round(g["points"]) for g in gains([small, served, stranger])] == [-10]


def test_answers_judged_by_other_versions_of_the_checks_are_judged_again_and_not_asked(tmp_path: Path) -> None:
    record = Run("r", f"sqlite:///{tmp_path}/w.db")
    with Store.open(record.url) as store:
        store.put_run("r", {}, None, "2026-01-01T00:00:00+00:00")
    table = {f"q{i}": right(i) for i in range(3)} | {"q3": Generated("3 3 3", False, 9, None, True)}
    first = evaluated(Scripted(table), 4, record)
    assert first.settings["checks"].keys() == {"math"}
    wrongly = [{**r, "outcome": "wrong"} for r in first.answers]
    record.put(first.key, first.settings | {"checks": {"math": "0"}}, wrongly)
    engine = Scripted({})
    again = evaluated(engine, 4, record)
    assert engine.asked == []
    assert (again.entry["outcomes"]["right"], again.entry["outcomes"]["looping"]) == (3, 1)
    assert again.settings["checks"] == first.settings["checks"] == record.settings(first.key)["checks"]


def test_before_and_after_by_other_versions_of_the_checks_are_a_warning() -> None:
    table = {f"q{i}": right(i) for i in range(40)}
    assert any("other versions of the checks" in w for w in warned(table, table, checks={"math": "0"}))


# ---- gpt-oss


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<|channel|>final<|message|>so", "so"),
        ("<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final<|message|>so", "so"),
        ("<|channel|>analysis<|message|>why it is \\boxed{3}", None),
        ("<|channel|>final<|message|><think>\nwhy\n</think>\n\nso", "so"),
        ("the token <|channel|> stands in this one", "the token <|channel|> stands in this one"),
    ],
)
def test_the_answer_of_gpt_oss_is_its_final_channel(text: str, answer: str | None) -> None:
    assert after_chain(text) == answer


# ---- files of answers


def test_details_hold_every_answer_and_two_files_are_compared(tmp_path: Path) -> None:
    table = {f"q{i}": right(i) if i % 2 else wrong(99) for i in range(6)}
    one = evaluated(Scripted(table), 6)
    other = evaluated(Scripted({f"q{i}": right(i) for i in range(6)}), 6)
    for name, run in (("a", one), ("b", other)):
        write_details(tmp_path / f"{name}.jsonl", run, questions(6))
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [r["question_id"] for r in rows] == [f"q{i}" for i in range(6)]
    assert rows[1] == {
        "question_id": "q1", "sample": 0, "outcome": "right", "finish_reason": "stop", "output_tokens": 10,
        "cost_usd": None, "question": "What is 1 + 1?", "gold": "2", "text": right(1).text, "model": "scripted",
    }  # fmt: skip
    found = compare(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert (found["points"], found["n"], found["gained"], found["lost"], found["only_in_one"]) == (50, 6, 3, 0, 0)
    (tmp_path / "c.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows[:3]) + '{"question_id": "q9"')
    with pytest.raises(InputError, match=r"c\.jsonl: line 4 is no answer"):
        compare(tmp_path / "a.jsonl", tmp_path / "c.jsonl")
    (tmp_path / "c.jsonl").write_text(json.dumps(rows[0] | {"question": "What else?"}))
    found = compare(tmp_path / "c.jsonl", tmp_path / "b.jsonl")
    assert (found["n"], found["only_in_one"], found["asked_otherwise"]) == (1, 5, 1)
    assert "1 questions have the same id and another text" in compared_in_words(found)
    (tmp_path / "c.jsonl").write_text(json.dumps(rows[0] | {"question_id": "elsewhere"}))
    with pytest.raises(InputError, match="not one question_id stands in both"):
        compare(tmp_path / "c.jsonl", tmp_path / "b.jsonl")


# ---- settings of the field


def test_what_is_given_goes_over_the_preset_and_that_over_the_runs_own() -> None:
    found = sampling_of("qwen3-thinking", {"temperature": 0.9, "top_p": None, "max_tokens": 50, "samples": 4})
    assert found == Sampling(max_tokens=50, temperature=0.9, samples=4, top_p=0.95, top_k=20, min_p=0.0)
    assert sampling_of(None, {}, {"temperature": 0.7, "top_k": 5}) == Sampling(temperature=0.7, top_k=5)
    with pytest.raises(InputError, match="--samples 2: at temperature 0"):
        sampling_of(None, {"samples": 2})


def test_another_top_k_is_another_evaluation_and_more_samples_are_not() -> None:
    table = {f"q0/{s}": right(0) for s in range(3)}
    one, more = evaluated(Sampled(table), 1), evaluated(Sampled(table), 1, samples=3)
    other = evaluated(Sampled(table), 1, top_k=5)
    assert one.key == more.key != other.key


def test_the_filters_keep_what_those_of_transformers_keep(engine: Any) -> None:
    import torch
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    from finetune.measure.generate import kept_shares

    torch.manual_seed(0)
    logits = (3 * torch.randn(20, 200)).double()
    for top_k, top_p, min_p in [(None, 0.9, None), (20, None, None), (None, None, 0.1), (30, 0.8, 0.05), (1, 0.5, 0.9)]:
        scores = TemperatureLogitsWarper(0.6)(None, logits)
        for warper in (
            top_k and TopKLogitsWarper(top_k),
            top_p and TopPLogitsWarper(top_p),
            min_p and MinPLogitsWarper(min_p),
        ):
            scores = warper(None, scores) if warper else scores
        sampling = Sampling(temperature=0.6, top_k=top_k, top_p=top_p, min_p=min_p)
        share, tokens = kept_shares(logits / 0.6, sampling)
        ours = torch.zeros_like(logits).scatter(1, tokens, share / share.sum(-1, keepdim=True))
        assert torch.allclose(ours, scores.softmax(-1), atol=1e-9)


def test_draws_follow_the_shares_that_the_filters_leave(engine: Any) -> None:
    import torch

    from finetune.measure.generate import draw

    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    stream = torch.Generator().manual_seed(1)
    sampling = Sampling(temperature=1.0, top_k=3, top_p=0.75)
    drawn = [int(draw(logits, sampling, [stream])) for _ in range(2000)]
    assert set(drawn) == {0, 1}
    assert drawn.count(0) / 2000 == pytest.approx(0.625, abs=0.035)


def test_an_answer_with_filters_does_not_depend_on_what_is_asked_beside_it(engine: Any) -> None:
    settings: dict[str, Any] = {
        "max_tokens": 24,
        "temperature": 1.0,
        "top_p": 0.9,
        "top_k": 50,
        "min_p": 0.01,
        "seed": 3,
    }
    together = texts(engine, asked(9), **settings)
    alone = {q: t for a in asked(9)[::4] for q, t in texts(engine, [a], **settings).items()}
    assert alone == {q: together[q] for q in alone}


def test_a_batch_that_is_too_large_is_halved_and_no_answer_is_lost(engine: Any) -> None:
    import torch

    from finetune.measure.generate import TransformersEngine

    class Small(TransformersEngine):
        """Has memory for three rows."""

        def __init__(self) -> None:
            self.__dict__.update(engine.__dict__)
            self.most_rows, self.sizes = 0, list[int]()

        def _batch(self, batch: Any, sampling: Any) -> Any:
            self.sizes.append(len(batch))
            if len(batch) > 3:
                raise torch.OutOfMemoryError
            return super()._batch(batch, sampling)

    small = Small()
    assert texts(small, asked(9), max_tokens=8) == texts(engine, asked(9), max_tokens=8)
    assert small.sizes == [9, 4, 2, 2, 2, 2, 1]


# ---- real processes


def long_questions(folder: Path, n: int) -> Path:
    rows = ({"id": f"q{i}", "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(n))
    (folder / "q.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


def test_stopped_and_killed_it_answers_only_what_is_missing_and_the_same(tmp_path: Path, command: Command) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.measure.generate import TransformersEngine

    student, here = tiny_student(tmp_path / "s"), long_questions(tmp_path, 12)
    stopped = Run("stopped", f"sqlite:///{tmp_path}/w.db")
    config = RunConfig(questions="q", teacher=Teacher(base_url="http://127.0.0.1:1/v1", model="m"))
    with Store.open(stopped.url) as store:
        store.put_run("stopped", config.model_dump(mode="json"), None, "2026-01-01T00:00:00+00:00")
    words = ("--temperature", "1", "--max-tokens", "120", "--samples", "2", "--store", stopped.url, "--run", "stopped")

    def answers() -> int:
        return sum(len(e["answers"]) for e in stopped.evaluations())

    for end in (signal.SIGINT, signal.SIGKILL):
        kept = answers()
        victim = started(here, student, *words, "--batch-size", "2")
        until = time.monotonic() + 90
        while answers() < kept + 2 and time.monotonic() < until and victim.poll() is None:
            time.sleep(0.02)
        victim.send_signal(end)
        _, err = victim.communicate(timeout=60)
        assert victim.returncode == (130 if end == signal.SIGINT else -end), err
        assert "Traceback" not in err
        assert kept < answers() < 24
    kept = answers()
    finished = command(student, *words)
    assert finished.code == 0, finished.err
    assert f"% of {24 - kept} right" in finished.err
    one = {(r["question_id"], r["sample"]): r["text"] for r in stopped.answers(stopped.evaluations()[0]["key"])}
    prompt = prompts.load("boxed")
    wanted = [
        Asked(q, s, prompt.student_messages(q)) for q in read_questions(str(here / "q.jsonl"), Path()) for s in (0, 1)
    ]
    at_once = TransformersEngine(find(str(student))).answers(wanted, Sampling(max_tokens=120, temperature=1.0))
    assert one == {(a.question.id, a.sample): g.text for batch in at_once for a, g in batch}
    assert len(one) == 24
