"""Measuring a student: what is asked, what counts as right, and that a second start asks only what is missing."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from students import smol_tokenizer, tiny_student

from finetune.answers import in_words
from finetune.evaluate import Asked, Generated, Measured, Memory, after_chain, evaluate
from finetune.progress import Progress
from finetune.render import Layout
from finetune.run import Run, label_of
from finetune.sampling import Sampling
from harvest import prompt as prompts
from harvest.errors import ConfigError, StoreUnusable
from harvest.store import Store
from harvest.trace import Question

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
    pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.generate import TransformersEngine
    from finetune.student import find

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
    from harvest.errors import InputError

    with pytest.raises(InputError, match="lower --max-tokens"):
        texts(engine, asked(1), max_tokens=5000)


def test_weights_that_broke_off_are_one_line(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.student import find, load_model

    weights = tiny_student(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be loaded") as e:
        load_model(find(str(tmp_path)), torch.float32)
    assert "\n" not in str(e.value)


def test_an_adapter_is_known_by_its_base_too(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.student import find, identity

    found = set()
    for seed in (1, 2):
        base, adapter = tiny_student(tmp_path / f"base{seed}", seed=seed), tmp_path / f"adapter{seed}"
        adapter.mkdir()
        (adapter / "adapter_model.safetensors").write_bytes(b"the same")
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
        found.add(identity(find(str(adapter))))
    assert len(found) == 2


def test_another_chat_template_is_another_student(tmp_path: Path, engine: Any) -> None:
    from finetune.generate import TransformersEngine
    from finetune.student import find

    student = tiny_student(tmp_path)
    template = student / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    other = TransformersEngine(find(str(student))).about
    assert other["weights"] == engine.about["weights"]
    assert other["tokenizer"] != engine.about["tokenizer"]


def command(folder: Path, student: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "finetune", "eval", str(student), "--questions", str(folder / "q.jsonl")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    words += ["--max-tokens", "8", "--json", *more]
    return subprocess.run(words, cwd=Path(__file__).parents[1], env=env, capture_output=True, text=True)


def test_the_command_says_what_it_found(tmp_path: Path) -> None:
    student = tiny_student(tmp_path / "s")
    (tmp_path / "q.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    done = command(tmp_path, student)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n"], found["samples"], found["label"]) == (1, 1, None)


def test_a_student_whose_run_is_elsewhere_is_measured_without_it(tmp_path: Path) -> None:
    student, url = tiny_student(tmp_path / "s"), f"sqlite:///{tmp_path}/gone/w.db"
    (student / "winnow.json").write_text(json.dumps({"run": {"name": "r", "store": url}}))
    (tmp_path / "q.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n')
    done = command(tmp_path, student)
    assert done.returncode == 0, done.stderr
    assert "its run is not here" in done.stderr
    assert json.loads(done.stdout)["label"] == "after"
    assert not (tmp_path / "gone").exists()


def test_a_bad_question_is_named_though_it_stands_past_the_limit(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "What is 1 + 1?", "answer": "2"}\n{"question": 7}\n')
    done = command(tmp_path, tmp_path / "s", "--limit", "1")
    assert done.returncode == 2
    assert "q.jsonl" in done.stderr


def test_a_question_without_a_gold_answer_measures_no_student(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": "a", "question": "What is 1 + 1?", "check": "majority"}\n')
    done = command(tmp_path, tmp_path / "s")
    assert done.returncode == 2
    assert "question 'a' has no gold answer" in done.stderr
