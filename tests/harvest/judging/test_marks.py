"""A person's marks: they decide in place of checks and filters, and every later judging follows them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from looked_at import AT, SETTINGS, make_store

from harvest.asking.planning.plan import plan_of
from harvest.checks import CheckPool
from harvest.core.nouns import Outcome, Question, Verdict
from harvest.judging.marks import take_in_marks
from harvest.judging.verification import Counts, Verifier, begin_verification
from harvest.store import Mark, Store, WaitingMarks


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def ids(url: str) -> dict[str, int]:
    return make_store(url)


@pytest.fixture
def store(url: str, ids: dict[str, int]) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


def mark(store: Store, attempt: int, outcome: str, at: str = AT, note: str = "") -> None:
    """Sets a mark and takes it in."""
    WaitingMarks(store.path).put(Mark(attempt, store.key_of(attempt) or "", Outcome(outcome), note, at))
    take_in_marks(store, plan_of)


def standing(store: Store, attempt: int) -> tuple[bool | None, str | None]:
    story = store.one_story(attempt)
    assert story is not None
    return story[1].attempt.accepted, story[1].attempt.reason


def status(store: Store, name: str) -> str:
    story = store.story(1, name)
    assert story is not None
    return story.status


def test_a_mark_decides_in_place_of_the_check_and_unsure_gives_the_decision_back(
    store: Store, ids: dict[str, int]
) -> None:
    for attempt, other in ((ids["wrong"], "right"), (ids["right"], "wrong"), (ids["disagree"], "wrong")):
        before = standing(store, attempt)
        mark(store, attempt, "unsure", "a")
        assert standing(store, attempt) == before
        mark(store, attempt, other, "b", note="look at step 3")
        assert standing(store, attempt) == ((True, None) if other == "right" else (False, "wrong"))
        assert store.marks([attempt])[attempt].detail == "look at step 3"
        mark(store, attempt, "unsure", "c")
        assert standing(store, attempt) == before


def test_a_question_is_open_again_when_its_only_right_answer_is_marked_wrong(store: Store, ids: dict[str, int]) -> None:
    mark(store, ids["meta"], "wrong", "a")
    assert status(store, "meta") == "open"
    mark(store, ids["meta"], "right", "b")
    assert status(store, "meta") == "solved"


def test_an_answer_that_was_cut_stays_rejected_whatever_its_mark_says(store: Store, ids: dict[str, int]) -> None:
    mark(store, ids["loop"], "right")
    assert standing(store, ids["loop"]) == (False, "truncated")


def test_judging_again_follows_the_marks(store: Store, ids: dict[str, int]) -> None:
    settings = {**SETTINGS, "checks": {"require": ["correct", "meta"]}}
    with store.transaction():
        store.put_settings(1, settings)
    mark(store, ids["wrong"], "right")
    mark(store, ids["long"], "wrong")
    with CheckPool(workers=1) as pool:
        for again in (True, False):
            verifier = Verifier(store, 1, pool, plan_of(store.run(1)), counts := Counts(), lambda words: None)
            verification = begin_verification(store, 1, again=again)
            verifier.judge(verification, lambda: None)
            if not again:
                assert counts.judged == 0, "answers that were marked are judged once more by every verify"
            with store.transaction():
                store.add_event(1, "verified", {}, AT)
    assert standing(store, ids["wrong"]) == (True, None)
    assert standing(store, ids["long"]) == (False, "wrong")
    assert standing(store, ids["meta"]) == (False, "meta")
    mark(store, ids["meta"], "right")
    assert standing(store, ids["meta"]) == (True, None), "a person's mark stands above a filter that is required"


def test_a_mark_is_not_taken_for_what_the_check_had_said_to_the_judging_model(
    store: Store, ids: dict[str, int]
) -> None:
    attempt = ids["wrong"]
    mark(store, attempt, "right")
    by_model = Verdict("judge", "1", Outcome.RIGHT, "judge says RIGHT")
    with store.transaction():
        store.put_verdicts(attempt, [by_model], True, None, AT)
    assert store.opinions([attempt]) == {attempt: ("wrong", "right")}
    mark(store, attempt, "unsure", "later")
    assert standing(store, attempt) == (True, None), "the judging model called it right, and the check says the same"


def test_a_mark_on_one_of_several_answers_that_are_judged_together_concerns_it_alone(
    store: Store, ids: dict[str, int]
) -> None:
    together = Question(id="vote", question="Which number?", check="majority")
    with store.transaction():
        store.db.execute("UPDATE question SET body = ? WHERE name = 'apples'", (together.model_dump_json(),))
    mark(store, ids["wrong"], "right")
    with CheckPool(workers=1) as pool:
        verifier = Verifier(store, 1, pool, plan_of(store.run(1)), Counts(), lambda words: None)
        verifier.judge(begin_verification(store, 1, again=True), lambda: None)
    assert standing(store, ids["wrong"]) == (True, None)
    assert standing(store, ids["right"])[0] is not None


def test_a_mark_is_taken_in_once_though_a_process_died_before_the_file_was_gone(
    store: Store, ids: dict[str, int]
) -> None:
    attempt = ids["wrong"]
    waits = Mark(attempt, store.key_of(attempt) or "", Outcome.RIGHT, "", AT)
    for _ in range(2):
        WaitingMarks(store.path).put(waits)
        taken = take_in_marks(store, plan_of)
    assert taken == 0
    with store.transaction():
        n = store.db.execute("SELECT count(*) FROM verdict WHERE check_name = 'human'").fetchone()[0]
    assert n == 1


def test_a_mark_that_fits_no_answer_is_put_aside_by_name(store: Store, ids: dict[str, int]) -> None:
    good = Mark(ids["wrong"], store.key_of(ids["wrong"]) or "", Outcome.RIGHT, "", AT)
    for bad in (
        replace(good, key="sha256:other"),
        replace(good, attempt_id=999),
        replace(good, attempt_id=ids["failed"]),
    ):
        WaitingMarks(store.path).put(bad)
    WaitingMarks(store.path).put(good)
    told: list[str] = []
    assert take_in_marks(store, plan_of, told.append) == 1
    assert "3 marks fit no answer" in told[0]
    assert len(WaitingMarks(store.path).refused.read_text().splitlines()) == 3
