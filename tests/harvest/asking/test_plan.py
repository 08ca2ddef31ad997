"""What is asked next depends on what became of a question's attempts, and on nothing else."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.asking.planning.plan import REPETITION, TRUNCATED, Rules, Step, is_by_public, next_step
from harvest.core.nouns import FILTER_REASONS, PUBLIC, STUDENT, Ask, Attempt
from harvest.core.teachers import Sampling

LIMIT = 100


def attempt(
    sample: int, state: str = "answered", accepted: bool | None = None, reason: str | None = None, limit: int = LIMIT
) -> Attempt:
    return Attempt(sample + 1, sample, limit, state, accepted, reason)


def step(*attempts: Attempt, **sampling: Any) -> Step:
    return next_step(attempts, Rules((Sampling(max_tokens=LIMIT, **sampling),)))


def test_a_new_question_is_asked_once_by_default() -> None:
    assert step() == Step(asks=(Ask(0, LIMIT),))


def test_an_accepted_answer_ends_the_question() -> None:
    assert step(attempt(0, accepted=True), samples=8) == Step(ended="solved")


def test_a_public_answer_counts_as_accepted_and_as_no_sample_of_a_teacher() -> None:
    right, wrong = (
        replace(attempt(0, accepted=a, reason=r), teacher=PUBLIC) for a, r in ((True, None), (False, "wrong"))
    )
    gone = replace(attempt(0, "failed", reason="withdrawn"), teacher=PUBLIC)
    assert step(right) == step(right, wrong) == Step(ended="solved")
    assert step(wrong) == step(gone) == Step(asks=(Ask(0, LIMIT),))
    assert step(wrong, samples=2, give_up_after=1).asks == (Ask(0, LIMIT),)
    assert len(step(right, samples=8, stop_after_accepted=3).asks) == 2
    rules = Rules((Sampling(max_tokens=LIMIT),), student=Sampling(max_tokens=LIMIT))
    assert next_step([wrong], rules).asks == (Ask(0, LIMIT, STUDENT),)
    assert next_step([right], rules) == Step(ended="solved")
    bought = attempt(0, accepted=True)
    assert [is_by_public(of) for of in ([right], [wrong], [right, bought], [bought])] == [True, False, False, False]


def test_a_wrong_answer_buys_the_next_sample_and_the_last_gives_up() -> None:
    wrong = attempt(0, accepted=False, reason="wrong")
    assert step(wrong, samples=2) == Step(asks=(Ask(1, LIMIT),))
    assert step(wrong, samples=1) == Step(ended="given_up")


def test_no_more_samples_are_bought_side_by_side_than_are_wanted() -> None:
    assert len(step(samples=8, stop_after_accepted=3).asks) == 3
    assert len(step(attempt(0, accepted=True), samples=8, stop_after_accepted=3).asks) == 2
    assert len(step(samples=2, stop_after_accepted=3).asks) == 2


def test_an_open_attempt_of_an_earlier_start_is_asked_again_first() -> None:
    assert step(attempt(1, "open"), samples=3).asks == (Ask(1, LIMIT),)


def test_a_failed_attempt_ends_the_question_for_this_start() -> None:
    assert step(attempt(0, "failed", reason="row"), samples=3) == Step(ended="given_up")


@pytest.mark.parametrize("reason", [*FILTER_REASONS.values(), "timeout", "error"])
def test_a_right_answer_that_is_refused_or_one_not_judged_is_not_wrong(reason: str) -> None:
    rejected = attempt(0, accepted=False, reason=reason)
    assert step(rejected, samples=2, give_up_after=1).asks == (Ask(1, LIMIT),)


def test_a_truncated_answer_is_never_asked_again_with_the_same_limit() -> None:
    cut = attempt(0, accepted=False, reason=TRUNCATED)
    assert step(cut, samples=1) == Step(ended="given_up")
    assert step(cut, when_truncated="raise").asks == (Ask(0, 2 * LIMIT),)
    assert step(cut, when_truncated="raise", raised_max_tokens=150).asks == (Ask(0, 150),)


def test_only_the_rest_of_a_truncated_answer_is_asked_for_and_once() -> None:
    cut = attempt(0, accepted=False, reason=TRUNCATED)
    ask = Ask(0, 2 * LIMIT, continues=cut.id)
    assert step(cut, when_truncated="continue").asks == (ask,)
    assert step(cut, when_truncated="continue", raised_max_tokens=LIMIT) == Step(ended="given_up")
    rest = replace(attempt(0, "open", limit=2 * LIMIT), id=7, continues=cut.id)
    assert step(cut, rest, when_truncated="continue").asks == (ask,)
    assert step(cut, replace(rest, state="failed", reason="row"), when_truncated="continue").ended == "given_up"
    again = replace(rest, state="answered", accepted=False, reason=TRUNCATED)
    assert step(cut, again, when_truncated="continue", raised_max_tokens=4 * LIMIT).ended == "given_up"
    assert step(cut, rest, when_truncated="raise").asks == (Ask(0, 2 * LIMIT),), "the two are not the same request"


def test_an_answer_that_was_broken_off_for_its_loop_ends_the_question() -> None:
    loop = attempt(0, accepted=False, reason=REPETITION)
    for when in ("give_up", "raise"):
        assert step(loop, samples=3, when_truncated=when) == Step(ended="given_up")


def test_a_limit_is_raised_once() -> None:
    cut = attempt(0, accepted=False, reason=TRUNCATED)
    again = attempt(0, accepted=False, reason=TRUNCATED, limit=2 * LIMIT)
    assert step(cut, again, when_truncated="raise") == Step(ended="given_up")


states = st.one_of(
    st.tuples(st.just("open"), st.none(), st.none()),
    st.tuples(st.just("failed"), st.none(), st.sampled_from(["row", "cut", "late"])),
    st.tuples(st.just("answered"), st.just(True), st.none()),
    st.tuples(st.just("answered"), st.just(False), st.sampled_from(["wrong", "no_answer", TRUNCATED, REPETITION])),
)
samplings = st.builds(
    lambda samples, stop, when, raised: Sampling(
        max_tokens=LIMIT,
        samples=samples,
        stop_after_accepted=stop,
        when_truncated="raise" if when else "give_up",
        raised_max_tokens=raised,
    ),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.none() | st.integers(1, 400),
)


cut_short = ("answered", False, TRUNCATED)


@st.composite
def histories(draw: st.DrawFn) -> list[Attempt]:
    """Attempts as a store may hold them: of each sample one for each limit it was asked with, where only the last
    is not truncated. (Limits differ where when_truncated was set anew between two starts.)"""
    found: list[Attempt] = []
    for sample in draw(st.sets(st.integers(0, 4))):
        limits = sorted(draw(st.sets(st.sampled_from([150, 200, 300]), max_size=2)) | {LIMIT})
        for limit in limits:
            state = draw(states) if limit == limits[-1] else cut_short
            found.append(Attempt(len(found) + 1, sample, limit, *state))
    return found


@settings(max_examples=300)
@given(histories(), samplings)
def test_whatever_happened_the_plan_asks_something_new_or_ends(history: list[Attempt], sampling: Sampling) -> None:
    found = next_step(history, Rules((sampling,)))
    assert bool(found.asks) != bool(found.ended)
    accepted = sum(bool(a.accepted) for a in history)
    if found.ended:
        assert (found.ended == "solved") == (accepted > 0)
        return
    assert len(set(found.asks)) == len(found.asks), "the same ask twice in one step"
    assert len(found.asks) <= sampling.stop_after_accepted - accepted
    have = {(a.sample, a.max_tokens): a for a in history}
    for ask in found.asks:
        before = have.get((ask.sample, ask.max_tokens))
        assert before is None or before.state == "open", "what was bought or has failed is asked again"
        bought = [a.max_tokens for a in history if a.sample == ask.sample and a.reason == TRUNCATED]
        assert ask.max_tokens > max(bought, default=0), "a truncated answer is asked again without a higher limit"


@settings(max_examples=150)
@given(samplings, st.data())
def test_every_question_ends_after_a_bounded_number_of_answers(sampling: Sampling, data: Any) -> None:
    history: dict[tuple[int, int], Attempt] = {}
    bought = 0
    while not (found := next_step(list(history.values()), Rules((sampling,)))).ended:
        for ask in found.asks:
            state, accepted, reason = data.draw(states.filter(lambda s: s[0] != "open"))
            history[ask.sample, ask.max_tokens] = Attempt(
                len(history) + 1, ask.sample, ask.max_tokens, state, accepted, reason
            )
            bought += 1
        assert bought <= 2 * sampling.samples


# ---- the ladder: the student, then several teachers

CHEAP, DEAR = Sampling(max_tokens=LIMIT, samples=2), Sampling(max_tokens=LIMIT, samples=3)
BOTH = Rules((CHEAP, DEAR))


def of(teacher: int, sample: int, **more: Any) -> Attempt:
    state, accepted, reason = more.get("state", "answered"), more.get("accepted", False), more.get("reason", "wrong")
    limit = more.get("limit", LIMIT)
    return Attempt(10 * (teacher + 2) + sample, sample, limit, state, accepted, None if accepted else reason, teacher)


def test_the_dearer_is_asked_once_the_cheaper_has_used_its_samples() -> None:
    assert next_step([of(0, 0)], BOTH).asks == (Ask(1, LIMIT, 0),)
    assert next_step([of(0, 0), of(0, 1)], BOTH).asks == (Ask(0, LIMIT, 1),)
    assert next_step([of(0, 0), of(0, 1), *(of(1, n) for n in range(3))], BOTH) == Step(ended="given_up")
    assert next_step([of(0, 0), of(0, 1), of(1, 0, accepted=True)], BOTH) == Step(ended="solved")


def test_an_end_of_the_cheapers_part_hands_the_question_on() -> None:
    for last in (of(0, 0, reason=TRUNCATED), of(0, 0, reason=REPETITION), of(0, 0, state="failed", reason="row")):
        assert next_step([last], BOTH).asks == (Ask(0, LIMIT, 1),)
    gives_up = Rules((Sampling(max_tokens=LIMIT, samples=9, give_up_after=1), DEAR))
    assert next_step([of(0, 0)], gives_up).asks == (Ask(0, LIMIT, 1),)


def test_a_failure_that_may_pass_hands_nothing_on() -> None:
    for reason in ("cut", "late", "passing", "hollow"):
        assert next_step([of(0, 0, state="failed", reason=reason)], BOTH) == Step(ended="given_up")


def test_a_check_that_could_not_judge_is_no_wrong_answer() -> None:
    one = Rules((Sampling(max_tokens=LIMIT, samples=4, give_up_after=1),))
    assert next_step([of(0, 0, reason="timeout")], one).asks
    assert next_step([of(0, 0, reason="no_answer")], one).ended == "given_up"


def test_all_asks_both_and_each_stops_by_itself() -> None:
    rules = Rules((CHEAP, DEAR), "all")
    assert next_step([], rules).asks == (Ask(0, LIMIT, 0), Ask(0, LIMIT, 1))
    assert next_step([of(0, 0, accepted=True), of(1, 0)], rules).asks == (Ask(1, LIMIT, 1),)


def test_without_gold_a_cascade_judges_before_it_asks_the_dearer() -> None:
    unjudged = [of(0, n, accepted=None, reason=None) for n in range(2)]
    assert next_step(unjudged, BOTH, together=True) == Step(judge=True)
    assert next_step([of(0, n, accepted=True) for n in range(2)], BOTH, together=True) == Step(ended="solved")
    apart = [of(0, n, reason="no_majority") for n in range(2)]
    assert next_step(apart, BOTH, together=True).asks == tuple(Ask(n, LIMIT, 1) for n in range(3))
    more = [of(1, n, accepted=None, reason=None) for n in range(3)]
    assert next_step([*apart, *more], BOTH, together=True) == Step(judge=True)


FIRST = Sampling(max_tokens=LIMIT, samples=3, stop_after_accepted=2)
AFTER_STUDENT = Rules((CHEAP, DEAR), student=FIRST)


def test_the_student_is_asked_first_and_what_it_solves_ends() -> None:
    assert next_step([], AFTER_STUDENT).asks == (Ask(0, LIMIT, STUDENT), Ask(1, LIMIT, STUDENT))
    right = [of(STUDENT, n, accepted=True) for n in range(2)]
    assert next_step(right, AFTER_STUDENT) == Step(ended="student_solved")
    assert next_step(right, replace(AFTER_STUDENT, keep_solved=Decimal(1)), question_id="q").asks == (Ask(0, LIMIT, 0),)
    assert next_step([of(STUDENT, 0), of(STUDENT, 1)], AFTER_STUDENT).asks == (Ask(0, LIMIT, 0),)
    assert next_step([], AFTER_STUDENT, together=True).asks[0].teacher == 0


def test_a_student_that_is_out_of_reach_hands_nothing_on() -> None:
    assert next_step([of(STUDENT, 0, state="failed", reason="passing")], AFTER_STUDENT) == Step(ended="given_up")
    assert next_step([of(STUDENT, n, state="failed", reason="row") for n in range(2)], AFTER_STUDENT).asks


def test_a_share_is_kept_by_the_questions_name_alone() -> None:
    right = [of(STUDENT, n, accepted=True) for n in range(2)]
    rules = replace(AFTER_STUDENT, keep_solved=Decimal("0.3"))
    kept = sum(bool(next_step(right, rules, question_id=f"q{n}").asks) for n in range(2000))
    assert 500 < kept < 700


ladders = st.builds(
    lambda teachers, mode, student, right: Rules(
        tuple(teachers), mode, Sampling(max_tokens=LIMIT, samples=student, stop_after_accepted=min(right, student))
        if student else None,
    ),
    st.lists(
        st.builds(
            lambda s, wrong: s.model_copy(update={"give_up_after": wrong}), samplings, st.none() | st.integers(1, 4)
        ),
        min_size=1, max_size=3,
    ),
    st.sampled_from(["cascade", "all"]),
    st.integers(0, 3),
    st.integers(1, 2),
)  # fmt: skip


@settings(max_examples=300)
@given(ladders, st.booleans(), st.data())
def test_a_ladder_ends_in_order_and_within_its_samples(rules: Rules, together: bool, data: Any) -> None:
    """Whatever comes back: nothing twice, nothing beyond samples, nothing after the question is solved, nobody dearer
    before the cheaper is done."""
    history: dict[tuple[int, int, int], Attempt] = {}
    highest = STUDENT
    while True:
        found = next_step(list(history.values()), rules, together=together, question_id="q")
        if found.ended:
            break
        if found.judge:
            decided = data.draw(st.booleans())
            for key, a in history.items():
                if a.state == "answered" and a.reason not in (TRUNCATED, REPETITION):
                    history[key] = replace(a, accepted=decided, reason=None if decided else "no_majority")
            continue
        assert found.asks
        if rules.mode == "cascade":
            places = {ask.teacher for ask in found.asks}
            assert len(places) == 1, "two rungs at once"
            assert min(places) >= highest, "back down the ladder"
            highest = max(highest, *places)
        for ask in found.asks:
            key = (ask.teacher, ask.sample, ask.max_tokens)
            assert key not in history, "asked twice"
            sampling = rules.student if ask.teacher == STUDENT else rules.teachers[ask.teacher]
            assert sampling is not None
            assert ask.sample < sampling.samples
            assert not (ask.teacher == STUDENT and together)
            mine = [a for a in history.values() if a.teacher == ask.teacher]
            if not together and ask.teacher != STUDENT:
                wrong = sum(a.reason in ("wrong", "no_answer") for a in mine)
                assert sampling.give_up_after is None or wrong < sampling.give_up_after
                theirs = mine if rules.mode == "all" else [a for a in history.values() if a.teacher != STUDENT]
                assert sum(bool(a.accepted) for a in theirs) < sampling.stop_after_accepted
        for n, ask in enumerate(found.asks):
            state, accepted, reason = data.draw(states.filter(lambda s: s[0] != "open"))
            if together and state == "answered" and reason not in (TRUNCATED, REPETITION):
                accepted, reason = None, None
            history[ask.teacher, ask.sample, ask.max_tokens] = Attempt(
                len(history) + n + 1, ask.sample, ask.max_tokens, state, accepted, reason, ask.teacher
            )
    bought = [a for a in history.values() if a.teacher != STUDENT]
    assert (found.ended == "solved") == any(a.accepted for a in bought)
    for place, sampling in enumerate(rules.teachers):
        assert len([a for a in bought if a.teacher == place]) <= 2 * sampling.samples
