"""What to ask next: from what became of a question's attempts, and from nothing else."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.config import Sampling
from harvest.plan import REPETITION, TRUNCATED, Rules, Step, next_step
from harvest.trace import Ask, Attempt

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


def test_a_truncated_answer_is_never_asked_again_with_the_same_limit() -> None:
    cut = attempt(0, accepted=False, reason=TRUNCATED)
    assert step(cut, samples=1) == Step(ended="given_up")
    assert step(cut, when_truncated="raise").asks == (Ask(0, 2 * LIMIT),)
    assert step(cut, when_truncated="raise", raised_max_tokens=150).asks == (Ask(0, 150),)


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
