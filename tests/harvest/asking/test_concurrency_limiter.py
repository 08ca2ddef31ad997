"""The concurrency limiter: nearly first come, first served, as many as the pace allows; none waits for ever."""

import asyncio
import random

from conftest import scaled

from harvest.asking.buying.breaker import Breaker
from harvest.asking.buying.concurrency_limiter import ConcurrencyLimiter
from harvest.asking.buying.fleet import Fleet, Replica
from harvest.asking.buying.pace import Pace


class Slow(Pace):
    """Allows the next one from a moment on that passes while it is being asked."""

    __slots__ = ("at_s",)

    def may_send(self, in_flight: int, now_s: float) -> bool:
        while asyncio.get_running_loop().time() < self.at_s:
            pass
        return now_s >= self.at_s

    def wait_s(self, now_s: float) -> float:
        return max(0.0, self.at_s - now_s)


def limited_by(pace: Pace) -> ConcurrencyLimiter:
    """The limiter of an endpoint with one replica."""
    return ConcurrencyLimiter(Fleet([Replica(pace, Breaker(has_answered=True))], pace.ceiling))


async def test_a_moment_that_comes_while_the_pace_is_asked_is_not_missed() -> None:
    pace = Slow(10)
    pace.at_s = asyncio.get_running_loop().time() + 0.02
    async with asyncio.timeout(5), limited_by(pace).slot():
        pass


async def test_no_more_are_inside_than_the_limit_and_all_get_in() -> None:
    limiter, inside, peak, order = limited_by(Pace(3)), 0, 0, []

    async def one(n: int) -> None:
        nonlocal inside, peak
        async with limiter.slot():
            inside += 1
            peak = max(peak, inside)
            order.append(n)
            await asyncio.sleep(0.001)
            inside -= 1

    async with asyncio.timeout(10):
        await asyncio.gather(*(one(n) for n in range(50)))
    assert peak == 3
    assert sorted(order) == list(range(50))
    assert max(abs(place - n) for place, n in enumerate(order)) <= 6, "somebody was overtaken by many"


async def test_refusals_by_chance_leave_nobody_standing() -> None:
    for seed in range(scaled(4, 100)):
        chance, pace = random.Random(seed), Pace(20)
        limiter = limited_by(pace)

        async def one(chance: random.Random = chance, pace: Pace = pace, limiter: ConcurrencyLimiter = limiter) -> None:
            while True:
                async with limiter.slot() as slot:
                    await asyncio.sleep(0.002)
                    if chance.random() > 0.2:
                        return pace.answered()
                    pace.refused_at(slot.sent_s, asyncio.get_running_loop().time(), chance.choice([None, 0.01]))

        async with asyncio.timeout(20):
            await asyncio.gather(*(one() for _ in range(12)))


async def test_an_open_limiter_lets_everybody_through() -> None:
    pace = Pace(1)
    limiter = limited_by(pace)

    async def one() -> None:
        async with limiter.slot():
            await asyncio.sleep(3600)

    tasks = [asyncio.create_task(one()) for _ in range(5)]
    await asyncio.sleep(0.01)
    limiter.open()
    await asyncio.sleep(0.01)
    assert limiter.fleet.in_flight == 5
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_leaves_early_makes_room_once() -> None:
    limiter = limited_by(Pace(1))
    async with asyncio.timeout(5), limiter.slot() as first:
        first.release()
        async with limiter.slot() as second:
            first.release()
            assert limiter.fleet.in_flight == 1
            second.release()
    assert limiter.fleet.in_flight == 0


async def test_a_teacher_that_refuses_everything_holds_up_no_other() -> None:
    refusing_pace, willing_pace, done = Pace(8), Pace(8), 0
    refusing, willing = limited_by(refusing_pace), limited_by(willing_pace)

    async def refused() -> None:
        while True:
            async with refusing.slot() as slot:
                await asyncio.sleep(0)
                refusing_pace.refused_at(slot.sent_s, asyncio.get_running_loop().time(), 60.0)

    async def answered() -> None:
        nonlocal done
        async with willing.slot():
            await asyncio.sleep(0.001)
            willing_pace.answered()
            done += 1

    stuck = [asyncio.create_task(refused()) for _ in range(8)]
    async with asyncio.timeout(10):
        await asyncio.gather(*(answered() for _ in range(200)))
    assert done == 200
    assert refusing_pace.refused
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
