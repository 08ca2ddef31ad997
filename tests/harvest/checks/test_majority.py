"""Majorities, without a gold answer: planning, collecting, kills, imports in any order, and judging again."""

import json
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from books import audit_file
from conftest import Place
from hypothesis import given
from hypothesis import strategies as st
from scripted_endpoint import Asked, Endpoint, Say
from test_import import Imports

from harvest.asking.planning.plan import TRUNCATED, Rules, Step, next_step
from harvest.checks import CheckPool
from harvest.checks.majority import MOST_KINDS, grouped, same_at_sight
from harvest.core.nouns import Ask, Attempt, Outcome, Question
from harvest.core.teachers import Sampling

HALF = Decimal("0.5")


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=1) as started:
        yield started


@pytest.fixture
def imports(tmp_path: Any) -> Imports:
    return Imports(tmp_path)


def ask(question: str = "What is it?", **more: Any) -> Question:
    return Question(id="q", question=question, check="majority", **more)


def outcomes(pool: CheckPool, answers: list[str], share: Decimal = HALF, **more: Any) -> list[str]:
    return [v.outcome.value for v in pool.check_together(ask(**more), answers, share)]


# ---- who agrees


@pytest.mark.parametrize(
    ("alike", "other"),
    [
        (["\\boxed{18}", "The answer is $18.", "#### 18.0"], "\\boxed{19}"),
        (["\\boxed{\\frac{1}{2}}", "0.5", "\\boxed{1/2}"], "\\boxed{0.51}"),
        (["\\boxed{\\sqrt{8}}", "\\boxed{2\\sqrt{2}}"], "\\boxed{3}"),
        (["\\boxed{(1,2)}", "\\boxed{(1, 2)}"], "\\boxed{[1,2]}"),
        (["Paris", "The capital is Paris.", "\\boxed{paris}"], "London"),
        (["Yes, because it is.", "\\boxed{yes}", "The answer is true."], "No."),
        (["\\boxed{\\text{no solution}}", "The answer is no solution"], "\\boxed{0}"),
    ],
)
def test_who_says_the_same_is_right_and_who_says_another_thing_is_wrong(
    pool: CheckPool, alike: list[str], other: str
) -> None:
    assert outcomes(pool, [*alike, other]) == ["right"] * len(alike) + ["wrong"]


def test_options_are_compared_by_their_letter(pool: CheckPool) -> None:
    answers = ["The answer is (B)", "\\boxed{Ben}", "B", "\\boxed{C}"]
    assert outcomes(pool, answers, choices=("Anna", "Ben", "Cleo")) == ["right", "right", "right", "wrong"]
    listed = "Who?\n(A) Anna\n(B) Ben"
    assert outcomes(pool, ["(A)", "Anna", "(B)"], question=listed) == ["right", "right", "wrong"]


def test_the_figure_is_the_share_of_the_finished_answers(pool: CheckPool) -> None:
    said = pool.check_together(ask(), ["\\boxed{18}", "\\boxed{18}", "\\boxed{18}", "\\boxed{7}"], HALF)
    assert [v.share for v in said] == [0.75] * 4
    assert said[0].detail == "3 of 4 agree on 18 (75%)"
    assert said[3].detail == "3 of 4 agree on 18 (75%), this one says 7"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (["\\boxed{1}"], "one finished answer alone proves nothing"),
        (["\\boxed{1}", "\\boxed{2}"], "no majority: at most 1 of 2 agree"),
        (["\\boxed{1}"] * 2 + ["\\boxed{2}"] * 2, "no majority: at most 2 of 4 agree on 1 (50%)"),
        (["\\boxed{1}", "I don't know", "It depends"], "no majority: at most 1 of 3"),
        (["I don't know"] * 3, "none of 3 answers states a result"),
        (["\\boxed{1"] * 3, "none of 3 answers states a result: no final answer found: the box is not closed"),
    ],
)
def test_too_few_or_a_tie_prove_nothing(pool: CheckPool, answers: list[str], words: str) -> None:
    said = pool.check_together(ask(), answers, HALF)
    assert {v.outcome for v in said} == {Outcome.NO_ANSWER}
    assert all(words in v.detail for v in said)


def test_a_higher_share_may_be_wanted(pool: CheckPool) -> None:
    answers = ["\\boxed{1}"] * 3 + ["\\boxed{2}"]
    assert outcomes(pool, answers, Decimal("0.74"))[0] == "right"
    assert outcomes(pool, answers, Decimal("0.75"))[0] == "no_answer"


def test_an_answer_that_states_nothing_or_two_things_is_in_no_group(pool: CheckPool) -> None:
    answers = ["\\boxed{4}", "\\boxed{4}", "I cannot answer that", "\\boxed{4}\n\nThe answer is 5."]
    said = pool.check_together(ask(), answers, Decimal("0.5"))
    assert [v.outcome.value for v in said] == ["no_answer"] * 4
    assert outcomes(pool, [*answers, "\\boxed{4}"]) == ["right", "right", "no_answer", "no_answer", "right"]


def test_hostile_answers_hold_up_nobody_and_agree_with_nobody(pool: CheckPool) -> None:
    hostile = ["\\boxed{9^{9^{9^9}}}", "\\boxed{" + "(" * 5000 + ")" * 5000 + "}", "\\boxed{" + "x+" * 60_000 + "1}"]
    said = outcomes(pool, ["\\boxed{18\\pi}"] * 4 + hostile)
    assert said[:4] == ["right"] * 4
    assert "right" not in said[4:]


STATED = st.sampled_from(
    [
        *("18", "18.0", "\\frac{36}{2}", "\\$18", "18 \\text{ cents}", "0.333", "\\frac{1}{3}", "33.3\\%", "x=5", "5"),
        *("(1,2)", "{1,2}", "\\{2,1\\}", "[1,2]", "x > 2", "(2,\\infty)", "Paris", "the paris", "yes", "10:30"),
        *("x^2+1", "1e3", "1,000"),
    ]
)


@given(st.lists(STATED, max_size=12), st.randoms(use_true_random=False))
def test_groups_part_the_answers_whatever_their_order_and_in_a_group_all_are_equal(
    values: list[str], chance: random.Random
) -> None:
    def sight(one: str, other: str) -> bool | None:
        return same_at_sight("What is it?", one, other)

    def groups_of(values: list[str]) -> tuple[list[list[int]], list[list[str]]]:
        groups = grouped(values, sight, lambda one, other: False)
        return groups, sorted(sorted(values[p] for p in group) for group in groups)

    groups, said = groups_of(values)
    assert sorted(p for group in groups for p in group) == list(range(len(values)))
    assert [len(g) for g in groups] == sorted((len(g) for g in groups), reverse=True)
    for group in groups:
        for one in group:
            for other in group:
                assert values[one] == values[other] or sight(values[one], values[other]) is not False
    chance.shuffle(values)
    assert groups_of(values)[1] == said


def test_more_kinds_of_answers_than_are_compared_stand_alone() -> None:
    values = [f"{n}*y" for n in range(2 * MOST_KINDS)]
    groups = grouped(values, lambda one, other: True, lambda one, other: True)
    assert sorted(map(len, groups)) == [1] * MOST_KINDS + [MOST_KINDS]


# ---- what to ask next


def attempt(sample: int, state: str = "answered", accepted: bool | None = None, reason: str | None = None) -> Attempt:
    return Attempt(sample + 1, sample, 100, state, accepted, reason)


def step(*attempts: Attempt, **sampling: Any) -> Step:
    return next_step(attempts, Rules((Sampling(max_tokens=100, **{"samples": 3, **sampling}),)), together=True)


def test_all_samples_are_asked_side_by_side_and_judged_when_the_last_has_come() -> None:
    assert step().asks == tuple(Ask(n, 100) for n in range(3))
    assert step(attempt(0), attempt(1)).asks == (Ask(2, 100),)
    assert step(attempt(0), attempt(1), attempt(2)) == Step(judge=True)
    judged = [attempt(n, accepted=n < 2, reason=None if n < 2 else "wrong") for n in range(3)]
    assert step(*judged) == Step(ended="solved")
    assert step(*judged, samples=4).asks == (Ask(3, 100),)
    assert step(*judged, attempt(3), samples=4) == Step(judge=True)


def test_a_sample_that_failed_or_was_cut_holds_up_no_judgement_and_spares_no_other() -> None:
    gone = [attempt(0, "failed", reason="row"), attempt(1, accepted=False, reason=TRUNCATED)]
    assert step(*gone).asks == (Ask(2, 100),)
    assert step(*gone, attempt(2)) == Step(judge=True)
    assert step(*gone, attempt(2, accepted=False, reason="no_majority")) == Step(ended="given_up")
    assert step(*gone, when_truncated="raise").asks == (Ask(1, 200), Ask(2, 100))


# ---- collected


def rows(n: int) -> list[dict[str, Any]]:
    return [{"id": f"q{i}", "question": f"What is {i} + {i}?"} for i in range(n)]


def three_to_one(asked: Asked) -> Say:
    """The sum, but for the last sample (by its seed), which is one too much."""
    n = int(asked.question.split()[2])
    return Say(text=f"\\boxed{{{2 * n + (asked.body['seed'] == 13)}}}")


SETTINGS: dict[str, Any] = {"checks__without_gold": "majority", "sampling__samples": 4, "sampling__seed": 10}


def verdicts(place: Place) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(place.store)) as db:
        return db.execute(
            "SELECT name, sample, outcome, share, accepted, attempt.reason FROM verdict"
            " JOIN attempt ON attempt.id = attempt_id JOIN question ON question.id = question_id"
            " WHERE check_name = 'majority' ORDER BY 1, 2, verdict.id"
        ).fetchall()


def test_rows_without_gold_are_refused_unless_they_may_be_judged_by_agreement(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    teacher = endpoint(three_to_one)
    refused = place(teacher.url, rows(2))
    code, _, err = refused.collect()
    assert (code, teacher.asked) == (2, [])
    assert "none of its 2 rows has an answer" in err
    assert "checks.without_gold" in err
    judged = place(teacher.url, rows(2), "other", export__which="accepted", **SETTINGS)
    code, _, err = judged.collect()
    assert code == 0, err
    assert len(teacher.asked) == 8
    assert verdicts(judged) == [
        (f"q{i}", n, "right" if n < 3 else "wrong", 0.75, int(n < 3), None if n < 3 else "wrong")
        for i in range(2) for n in range(4)
    ]  # fmt: skip
    assert (judged.report["questions"]["solved"], judged.report["traces"]["accepted"]) == (2, 6)
    exported = [json.loads(line) for line in (judged.run_folder / "dataset/train.jsonl").read_text().splitlines()]
    assert [row["verdicts"][0]["share"] for row in exported] == [0.75] * 6
    assert exported[0]["gold"] is None


def test_one_sample_is_refused_in_one_line_also_when_samples_are_lowered_later(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    teacher = endpoint(three_to_one)
    there = place(teacher.url, rows(3), **SETTINGS | {"sampling__samples": 1})
    code, _, err = there.collect()
    assert (code, len(teacher.asked)) == (2, 0)
    assert err.count("\n") == 1
    assert "sampling.samples: 1" in err
    there.settings["sampling"]["samples"] = 2
    assert there.collect()[0] == 0
    there.settings["sampling"]["samples"] = 1
    assert there.collect()[0] == 2


def test_a_row_may_name_the_check_and_a_tie_is_given_up(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    teacher = endpoint(lambda asked: Say(text=f"\\boxed{{{asked.body['seed']}}}"))
    there = place(
        teacher.url, [{"id": "q", "question": "?", "check": "majority"}], sampling__samples=2, sampling__seed=1
    )
    assert there.collect()[0] == 0
    assert [v[2:] for v in verdicts(there)] == [("no_answer", 0.5, 0, "no_majority")] * 2
    assert there.report["traces"]["rejected"] == {"no_majority": 2}
    assert there.report["questions"]["given_up"] == 1


def test_more_samples_are_asked_for_alone_and_all_are_judged_again(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    teacher = endpoint(lambda asked: Say(text=f"\\boxed{{{1 + (asked.body['seed'] == 10)}}}"))
    there = place(teacher.url, rows(1), **SETTINGS | {"sampling__samples": 2})
    assert there.collect()[0] == 0
    there.settings["sampling"]["samples"] = 4
    assert there.collect()[0] == 0
    assert len(teacher.asked) == 4
    assert [(v[1], v[2], v[4]) for v in verdicts(there)] == [
        (0, "no_answer", 0), (0, "wrong", 0), (1, "no_answer", 1), (1, "right", 1), (2, "right", 1), (3, "right", 1)
    ]  # fmt: skip


def test_killed_between_the_answers_and_the_judging_the_next_start_judges(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    processes: list[Any] = []

    def script(asked: Asked) -> Say:
        last = len(teacher.asked) == 8
        return Say(text="\\boxed{5}", on_half=(lambda: processes[0].send_signal(signal.SIGKILL)) if last else None)

    teacher = endpoint(script)
    there = place(teacher.url, rows(2), **SETTINGS)
    processes.append(there.start())
    processes[0].communicate(timeout=60)
    assert processes[0].returncode == -signal.SIGKILL
    assert len(verdicts(there)) < 8, "judged before the last had come"
    code, _, err = there.collect()
    assert code == 0, err
    assert len(teacher.asked) == 9, "the one that was on its way is asked again, and no other"
    assert [v[2] for v in verdicts(there)] == ["right"] * 8
    audit_file(there.store)


def test_a_stop_leaves_answers_unjudged_and_verify_leaves_them_too(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    teacher = endpoint(three_to_one)
    there = place(teacher.url, rows(1), budget__usd="0.0016", **SETTINGS)
    code, _, err = there.collect()
    assert code == 3, err
    assert 0 < len(teacher.asked) < 4
    assert verdicts(there) == []
    imports = Imports(there.folder)
    said = json.loads(imports.run("verify", "r", "--json")[0])
    assert (said["judged"], said["waiting"]) == (0, len(teacher.asked))
    assert {(r["accepted"], r["reason"]) for r in imports.exported()} == {(False, "not_judged")}
    there.settings["budget"]["usd"] = "1.00"
    assert there.collect()[0] == 0
    assert len(teacher.asked) == 4
    assert [v[2] for v in verdicts(there)] == ["right", "right", "right", "wrong"]


def test_verify_judges_as_collect_did_and_changes_nothing(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    there = place(endpoint(three_to_one).url, rows(3), **SETTINGS)
    assert there.collect()[0] == 0
    before = verdicts(there)
    imports = Imports(there.folder)
    assert json.loads(imports.run("verify", "r", "--json")[0])["judged"] == 0
    said = json.loads(imports.run("verify", "r", "--json", "--again")[0])
    assert (said["judged"], said["unchanged"], said["changes"]) == (12, 12, [])
    assert sorted(verdicts(there)) == sorted(before * 2)
    assert {(s["before"], s["now"]) for s in said["questions"].values()} == {(3, 3), (0, 0)}
    why = json.loads(imports.run("why", "r", "q0", "--json")[0])
    assert [v["share"] for a in why["attempts"] for v in a["verdicts"]] == [0.75] * 8
    assert "3 of 4 agree on 0 (75%), this one says 1" in imports.run("why", "r", "q0")[0]


# ---- what was imported


def line(i: int, says: int, **more: Any) -> dict[str, Any]:
    return {"id": f"q{i}", "question": f"What is {i} + {i}?", "response": f"\\boxed{{{says}}}"} | more


def test_lines_of_one_question_are_judged_together_whatever_their_order(imports: Imports) -> None:
    lines = [line(i, 2 * i + (n == 3)) for i in range(100) for n in range(4)]
    lines += [line(1, 0, response={"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]})]
    random.Random(7).shuffle(lines)
    imports.take(imports.file("a.jsonl", lines), "--majority", "0.5")
    rows = imports.exported()
    assert len(rows) == 401
    assert sum(r["accepted"] for r in rows) == 300
    for r in rows:
        n = int(r["question_id"][1:])
        right = r["answer"] == f"\\boxed{{{2 * n}}}"
        assert (r["accepted"], r["reason"]) == (
            right,
            None if right else "truncated" if r["answer"] == "x" else "wrong",
        )
        assert [v["share"] for v in r["verdicts"]] == ([] if r["answer"] == "x" else [0.75])
    said = json.loads(imports.run("verify", "r", "--json")[0])
    assert (said["judged"], said["changes"]) == (0, []), "an unfinished answer makes nobody judge the others again"


def test_a_later_import_is_judged_with_what_was_there_and_as_it_was(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", [line(1, 2), line(1, 3)]), "--majority", "0.6")
    assert {r["reason"] for r in imports.exported()} == {"no_majority"}
    imports.take(imports.file("b.jsonl", [line(1, 2)]))
    assert [r["accepted"] for r in imports.exported()] == [True, False, True]
    config = json.loads((imports.folder / "runs/r/config.json").read_text())
    assert config["checks"]["majority"] == "0.6"


def test_without_the_flag_lines_without_gold_stay_unjudged_unless_they_name_the_check(imports: Imports) -> None:
    lines = [line(1, 2), line(1, 2), line(2, 4, check="majority"), line(2, 4, check="majority")]
    imports.take(imports.file("a.jsonl", lines))
    assert [r["reason"] for r in imports.exported()] == ["no_gold", "no_gold", None, None]


@pytest.mark.parametrize("share", ["0.4", "1", "half"])
def test_a_share_that_proves_nothing_is_refused(imports: Imports, share: str) -> None:
    _, err = imports.run("import", imports.file("a.jsonl", [line(1, 2)]), "--name", "r", "--majority", share, code=2)
    assert err.startswith(f"error: --majority {share}: ")
    assert err.count("\n") == 1
