"""Says in words what a run may cost at most before it asks, and how many answers its cap lets it ask for at once."""

from collections.abc import Iterator

from harvest.asking.planning.foreseen import Foreseen, foreseen
from harvest.asking.planning.run import Run
from harvest.core.config import RunConfig
from harvest.core.money import pusd, usd
from harvest.report.headline import dollars
from harvest.store import Store
from harvest.store.reading.figures import Money

FEW_AT_ONCE = 8
"""Fewer in flight than this make a run slow, and the settings that change it are named."""
SAMPLE = 500
"""The start of a run says what it may cost by so many of its open questions."""


def start_line(run: Run, store: Store) -> str | None:
    """Returns the line that `collect` begins with: what the open questions may cost, by some of them. None: nothing is
    open, or all of it is free."""
    some = store.open_questions(run.id, 0, SAMPLE)
    found = foreseen(run.config, run.prompt, (one.question for one in some))
    if not some or found.pusd == 0:
        return None
    is_open = store.question_statuses(run.id).get("open", 0)
    return "; ".join(costs_in_words(run.config, found.times(is_open), store.money(run.id)))


def room_pusd(config: RunConfig, money: Money) -> int | None:
    """Returns what the cap has left; None if there is no cap."""
    cap = config.budget.cap_usd
    return None if cap is None else pusd(cap) - money.spent - _held(money)


def _held(money: Money) -> int:
    """Returns what counts against the cap and is not spent. What a killed process had in flight is still reserved."""
    return money.in_doubt + money.reserved + money.beside


def costs_in_words(config: RunConfig, found: Foreseen, money: Money) -> Iterator[str]:
    """Yields the worst case, the cap, and how many are asked at once."""
    if not found.questions:
        yield "nothing is left to ask"
        return
    if found.pusd is None or found.one_pusd is None:
        yield "worst case: a price that nobody knows"
    elif found.pusd == 0:
        yield "costs nothing"
    else:
        one, all_of_them = dollars(usd(found.one_pusd)), dollars(usd(found.pusd))
        yield f"worst case: {one} for one answer, {all_of_them} for all {found.questions:,} questions"
    room = room_pusd(config, money)
    if room is None:
        yield "no cap" if found.pusd != 0 else f"at once: {min(found.at_once(config, None), found.answers):,}"
        return
    held = [f"{dollars(usd(money.spent))} spent", f"{dollars(usd(_held(money)))} in doubt, reserved or beside"]
    yield f"the cap is {dollars(str(config.budget.cap_usd))}" + (
        f", of it {' and '.join(held)}" if money.spent or _held(money) else ""
    )
    at_once, most = found.at_once(config, room), min(found.at_once(config, None), found.answers)
    if not at_once:
        yield "the cap has no room for one answer: raise budget.usd, or lower sampling.max_tokens"
    elif at_once < min(most, FEW_AT_ONCE):
        yield f"at once: {at_once:,} by the cap, which is slow: raise budget.usd, or lower sampling.max_tokens"
    else:
        yield f"at once: {at_once:,} by the cap" if at_once < most else f"at once: {most:,}"
