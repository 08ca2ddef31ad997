"""Measuring a student: what counts as right, what the key is, and that a second start asks only for what is missing."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from scripted_student import PROMPT, Memory, Sampled, Scripted, evaluated, measured, questions, right, wrong

from finetune.measure.details import compare, compared_in_words, in_words, read_details, write_details
from finetune.measure.engine import Asked, Generated
from finetune.measure.evaluate import Evaluation, evaluate
from finetune.measure.sampling import Sampling, sampling_of
from finetune.measure.verdicts import after_chain
from finetune.progress import Progress
from finetune.rows.layout import Layout
from finetune.run import Run
from harvest.core.errors import InputError
from harvest.core.nouns import Question
from harvest.store import Store


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
    evaluation = Evaluation([question], "q", PROMPT, Sampling(samples=5))
    found = evaluate(Sampled(table), evaluation, Memory(), Progress("eval")).entry
    assert found["majority"]["accuracy"] == 1


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


def test_details_hold_every_answer_and_two_files_are_compared(tmp_path: Path) -> None:
    table = {f"q{i}": right(i) if i % 2 else wrong(99) for i in range(6)}
    one = evaluated(Scripted(table), 6)
    other = evaluated(Scripted({f"q{i}": right(i) for i in range(6)}), 6)
    for name, run in (("a", one), ("b", other)):
        write_details(tmp_path / f"{name}.jsonl", run, questions(6), PROMPT)
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [r["question_id"] for r in rows] == [f"q{i}" for i in range(6)]
    assert rows[1].pop("messages")[-1] == {"role": "assistant", "content": right(1).text}
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


def test_a_line_separator_that_a_student_wrote_does_not_break_its_row(tmp_path: Path) -> None:
    row = {"question_id": "q", "sample": 0, "outcome": "right", "finish_reason": "stop", "text": "a\u2028b\x85c"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    assert read_details(tmp_path / "d.jsonl") == [row]


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
