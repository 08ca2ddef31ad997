"""Before against after: labels, gains, and the warnings about a student that got worse or never stops."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from scripted_student import PROMPT, Scripted, as_stored, evaluated, questions, right, wrong

from finetune.measure.engine import Generated
from finetune.measure.evaluate import Evaluation, Measured, evaluate
from finetune.measure.sampling import Sampling
from finetune.note import ancestors, came_from, note_of
from finetune.progress import Progress
from finetune.run import Run, label_of, standalone_evaluations
from harvest.core.errors import StoreUnusable
from harvest.report.evaluation_warnings import warnings_of
from harvest.report.evaluations import gains, newest
from harvest.report.headline import headline
from harvest.store import Store


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
    evaluation = Evaluation(questions(3), "q", PROMPT, Sampling())
    first = evaluate(Scripted(table), evaluation, run, Progress("eval"))
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
    after = [of("of small", "after", "1", 4, came_from=["s"]), of("of big", "after", "2", 9, came_from=["b"])]
    again = of("of that", "after", "3", 5, came_from=["1", "s"])  # a second training
    told = {g["key"]: round(g["points"]) for g in gains([small, big, *after, again])}
    assert told == {"of small": 30, "of big": 10, "of that": 10}
    stranger = of("of another", "after", "4", 2, came_from=["c"])
    assert gains([small, big, stranger]) == []
    served = of("served", "before", "", 3, engine={"endpoint": "https://x"})
    assert [round(g["points"]) for g in gains([small, served, stranger])] == [-10]


def test_the_headline_tells_each_training_that_led_to_the_newest_student() -> None:
    def of(name: str, label: str, weights: str, n: int, *came_from: str) -> dict[str, Any]:
        run = evaluated(Scripted({f"q{i}": right(i) if i < n else wrong(99) for i in range(40)}), 40, label=label)
        more = {"engine": {"weights": weights}, "came_from": came_from, "model": f"students/{name}"}
        return {"key": name, "settings": run.settings | more, "answers": run.answers}

    base, demo = of("base", "before", "0", 2), of("demo", "after", "1", 35, "0")
    short = of("short", "after", "2", 20, "1", "0")

    def told(*evaluations: dict[str, Any]) -> str:
        found = gains(evaluations)
        money = {"spent_usd": "0", "in_doubt_usd": "0", "unpriced_calls": 0, "usd_per_accepted_trace": None}
        return headline({
            "money": money, "traces": {"accepted": 1}, "run": {"status": "complete", "from_public": None},
            "questions": {"asked": 1}, "public": None,
            "gain": newest(found), "gains": found, "total_usd": "0", "total_leaves_out": [],
        })  # fmt: skip

    both = told(base, demo, short)
    assert "The student demo gets 87.5% of 40 held-out questions right, up from 5.0% before training: +82.5" in both
    assert "The student short, which was trained from demo, now gets 50.0% right, down from 87.5%: -37.5" in both
    assert both.endswith(": demo is the better student.")
    alone = told(base, short)  # demo was not evaluated
    assert "The student short now gets 50.0% of 40 held-out questions right, up from 5.0% before training" in alone


def test_a_student_comes_from_all_that_was_trained_or_cut_before_it(tmp_path: Path) -> None:
    assert came_from(tmp_path) == []
    (tmp_path / "config.json").write_text(json.dumps({"cut_from": {"weights": "sha256:1", "came_from": ["sha256:0"]}}))
    assert came_from(tmp_path) == ["sha256:1", "sha256:0"]
    (tmp_path / "winnow.json").write_text(json.dumps({"of": {"student": "sha256:2"}, "came_from": ["sha256:1"]}))
    assert came_from(tmp_path) == ancestors(tmp_path) == ["sha256:2", "sha256:1"]
    (tmp_path / "winnow.json").write_text(json.dumps({"of": {"student": "sha256:2"}, "merged": "sha256:3"}))
    assert (came_from(tmp_path), ancestors(tmp_path)) == (["sha256:2"], ["sha256:3", "sha256:2"])


def test_before_and_after_by_other_versions_of_the_checks_are_a_warning() -> None:
    table = {f"q{i}": right(i) for i in range(40)}
    assert any("other versions of the checks" in w for w in warned(table, table, checks={"math": "0"}))
