"""Asks providers what tries in doubt cost, and how far balances fell, where a provider tells it.

What a provider says of a try is booked. A balance settles nothing: it bounds the sum of what was billed.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlsplit

from harvest.asking.buying.connections import access_of
from harvest.asking.planning.run import asked_about
from harvest.core.clock import now
from harvest.core.config import RunConfig, configs
from harvest.core.errors import AttemptFailed
from harvest.core.money import pusd, usd
from harvest.core.nouns import Kind
from harvest.endpoint.balance import Balance, Provider, generation_cost_pusd, provider_of
from harvest.endpoint.client import Teacher
from harvest.store import Doubt, Store, Writer

ANSWER_S = 4.0
"""A provider that does not answer within this time is not asked again."""
AT_ONCE = 8
BALANCE = "balance"
"""The kind of the store's events that hold readings of a balance."""
PLACES_ABOUT: dict[Kind, int] = {"judge": -2, "rewriter": -3}
"""Stand for the judging and the rewriting model, which have no place among the teachers and the student."""
NOT_KNOWN = "it does not know these answers, or does not know them yet"


@dataclass(frozen=True, slots=True)
class Told:
    """Says what one provider told of tries in doubt."""

    host: str
    asked: int
    """How many tries in doubt have an id that the provider can be asked for."""
    costs: dict[int, int] = field(default_factory=dict)
    """Maps the ids of the tries that are settled now to what they cost, in picodollars."""
    untold: list[str] = field(default_factory=list)
    """Why the other tries stay in doubt. The first reason may stand for tries that were not asked for."""

    def __str__(self) -> str:
        total = usd(sum(self.costs.values()))
        words = f"{self.host} told what {len(self.costs)} of {self.asked} tries in doubt cost: {total} USD"
        return words + (f". The others stay in doubt: {self.untold[0]}" if self.untold else "")


@dataclass(frozen=True, slots=True)
class Fall:
    """Says how far a balance fell while a run asked, and what the run booked in that time."""

    host: str
    balance: Balance
    fell: Decimal | None
    """None: there is no earlier reading to compare with."""
    booked_pusd: int
    """What was booked, spent and in doubt together."""

    @property
    def is_beyond_booked(self) -> bool:
        """Whether the balance fell further than what is booked, by more than a rounding. Only USD are compared."""
        if self.fell is None or self.balance.currency != "USD":
            return False
        return pusd(self.fell - 2 * self.balance.rounding) > self.booked_pusd

    def __str__(self) -> str:
        if self.fell is None:
            return f"{self.balance.amount} {self.balance.currency} of the account at {self.host} is {self.balance.kind}"
        words = (
            f"the balance at {self.host} fell by {self.fell} {self.balance.currency} while the run asked, and"
            f" {usd(self.booked_pusd)} USD is booked for that time, spent and in doubt together"
        )
        if self.is_beyond_booked:
            words += ": another program uses the account, or the provider charges more than it says"
        return words


@dataclass(slots=True)
class Account:
    """Holds one account at a provider that tells balances or costs, and the connection to it with the account's key."""

    provider: Provider
    base_url: str
    key_env: str
    places: frozenset[int]
    """Who of the run is asked with this key: teachers and the student by place, or one of PLACES_ABOUT."""
    client: Teacher
    silence: AttemptFailed | None = None
    """Why the provider did not answer. It is not asked again then."""

    async def look_up(self, path: str) -> tuple[int, dict[str, Any]]:
        """Returns (status, answer) of a path. Raises an AttemptFailed when no answer came, now or before."""
        if self.silence is not None:
            raise self.silence
        parts = urlsplit(self.base_url)
        try:
            return await self.client.look_up(f"{parts.scheme}://{parts.netloc}{path}", ANSWER_S)
        except AttemptFailed as e:
            self.silence = e
            raise

    async def cost_of(self, doubt: Doubt) -> tuple[int | None, str]:
        """Returns (what a try cost, ""), or (None, why the provider does not tell it)."""
        try:
            status, answer = await self.look_up(f"{self.provider.generation}{quote(doubt.response_id or '', safe='')}")
        except AttemptFailed as e:
            return None, str(e)
        if status not in (200, 404):
            return None, f"it answers with HTTP {status}"
        cost = generation_cost_pusd(answer, doubt.held_pusd) if status == 200 else None
        return cost, NOT_KNOWN if cost is None else ""

    async def balance(self) -> Balance | str:
        """Returns the balance, or why the provider does not tell it."""
        why = ""
        for path, read in self.provider.balances.items():
            try:
                status, answer = await self.look_up(path)
            except AttemptFailed as e:
                return str(e)
            if status == 200 and (found := read(answer)) is not None:
                return found
            why = why or f"it answers with HTTP {status}"
        return why


def asked_at_providers(config: RunConfig) -> dict[tuple[Provider, str], dict[int, RunConfig]]:
    """Returns which teachers, student and models of a run are asked at a provider that tells balances or costs.

    Each key of the result is (provider, the variable or the command that gives the API key). Its value maps the places
    of those who are asked with this key to their settings.
    """
    asked = dict(configs(config))
    asked |= {PLACES_ABOUT[kind]: one for kind, one in asked_about(config).items()}
    found: dict[tuple[Provider, str], dict[int, RunConfig]] = {}
    for place, one in asked.items():
        if (provider := provider_of(one.teacher.base_url)) is not None:
            found.setdefault((provider, one.teacher.api_key_env or one.teacher.api_key_command), {})[place] = one
    return found


class Accounts:
    """Holds the accounts of one run at the providers that tell balances or costs."""

    def __init__(self, run_id: int, accounts: Sequence[Account], ledger: Writer) -> None:
        self.untold: list[str] = []
        """Which balances a provider did not tell, and why."""
        self._run_id, self._accounts, self._ledger = run_id, accounts, ledger

    @classmethod
    async def open(
        cls, run_id: int, config: RunConfig, keys: Mapping[str, str], ledger: Writer, stack: AsyncExitStack
    ) -> "Accounts":
        """Opens the connections; `stack` closes them. `keys` has the API keys by the names of their variables."""
        accounts = []
        for (provider, variable), asked in asked_at_providers(config).items():
            teacher = next(iter(asked.values())).teacher
            base_url, key = teacher.base_url or "", keys.get(teacher.api_key_env or "")
            client = await stack.enter_async_context(Teacher(base_url, key, access=access_of(teacher, keys)))
            accounts.append(Account(provider, base_url, variable, frozenset(asked), client))
        return cls(run_id, accounts, ledger)

    async def settle(self, tries: Collection[int] = (), most_s: float | None = None) -> list[Told]:
        """Books what tries in doubt cost, where a provider tells it by the id of the answer.

        `tries` are the ids of the only tries to ask for; empty: all. After `most_s` seconds the rest stays in doubt.
        """
        doubts = await self._ledger.do(Store.doubts, self._run_id) if self._accounts else []
        found = []
        for account in self._accounts:
            asked = [d for d in doubts if d.response_id and _place(d) in account.places]
            asked = [d for d in asked if not tries or d.try_id in tries]
            if asked and account.provider.generation is not None:
                found.append(await self._settle_at(account, asked, most_s))
        return found

    async def _settle_at(self, account: Account, doubts: Sequence[Doubt], most_s: float | None) -> Told:
        told = Told(account.provider.host, len(doubts))
        waiting = list(reversed(doubts))

        async def ask_for_the_next() -> None:
            while waiting and set(told.untold) <= {NOT_KNOWN}:
                doubt = waiting.pop()
                cost, why = await account.cost_of(doubt)
                if cost is None:
                    told.untold.insert(len(told.untold) if why == NOT_KNOWN else 0, why)
                elif await self._ledger.do(Store.settle_doubt, doubt.try_id, cost, "provider", now()):
                    told.costs[doubt.try_id] = cost

        try:
            async with asyncio.timeout(most_s):
                await asyncio.gather(*(ask_for_the_next() for _ in range(min(AT_ONCE, len(doubts)))))
        except TimeoutError:
            told.untold.insert(0, f"it was asked for {most_s:g} s")
        return told

    async def falls(self, *, began: bool | None = None) -> list[Fall]:
        """Reads the balances. Returns how far each fell in the times when the run asked.

        `began` says that the run begins to ask now (True) or has just ended to (False): then the reading is stored, and
        only the time since the reading before counts.
        """
        found = []
        for account in self._accounts:
            balance = await account.balance()
            if isinstance(balance, str):
                self.untold.append(f"{account.provider.host} does not tell its balance: {balance}")
                continue
            mine = {"host": account.provider.host, "key_env": account.key_env}
            events = await self._ledger.do(Store.events, self._run_id, BALANCE)
            readings = [e for e in events if mine.items() <= e.items()]
            booked = await self._booked_pusd(account)
            since = readings if began is None else readings[-1:]
            booked_before = since[0]["booked_pusd"] if since else booked
            found.append(Fall(account.provider.host, balance, _fell(since, balance), booked - booked_before))
            if began is not None:
                said = {"kind": balance.kind, "amount": str(balance.amount), "currency": balance.currency}
                event = mine | said | {"began": began, "booked_pusd": booked}
                await self._ledger.do(Store.add_event, self._run_id, BALANCE, event, now())
        return found

    async def _booked_pusd(self, account: Account) -> int:
        booked = await self._ledger.do(Store.booked_by_asked, self._run_id)
        by_place = ((PLACES_ABOUT.get(kind, place), amount) for (kind, place), amount in booked.items())
        return sum(amount for place, amount in by_place if place in account.places)


def _place(doubt: Doubt) -> int:
    return PLACES_ABOUT.get(doubt.asked, doubt.teacher)


def _fell(readings: Sequence[Mapping[str, Any]], last: Balance) -> Decimal | None:
    """Returns how far a balance fell from each reading that began a time of asking to the reading after it. None: no
    two of them can be compared."""
    falls = []
    before: Balance | None = None
    for reading in readings:
        at = Balance(reading["kind"], Decimal(reading["amount"]), reading["currency"], last.rounding)
        falls.append(before.fall_to(at) if before is not None else None)
        before = at if reading["began"] else None
    falls.append(before.fall_to(last) if before is not None else None)
    known = [fall for fall in falls if fall is not None]
    return sum(known, Decimal(0)) if known else None
