"""`harvest settle` lists the tries whose cost nobody knows yet ("in doubt"), and books a cost for each."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from decimal import Decimal
from typing import Any

from harvest.asking.accounts import PLACES_ABOUT, Accounts, asked_at_providers
from harvest.asking.planning.keys_and_prices import keys_of
from harvest.asking.planning.run import ABOUT
from harvest.commands.progress import say
from harvest.commands.report import write_report_of
from harvest.commands.run_folder import writing_to
from harvest.commands.select_traces import take_in
from harvest.core.clock import now
from harvest.core.config import section_of
from harvest.core.errors import InputError
from harvest.core.files import runs_folder
from harvest.core.money import MOST_USD, pusd, usd
from harvest.core.printable import one_line
from harvest.endpoint.balance import PROVIDERS
from harvest.store import Doubt, Store, StoredRun, Writer, is_being_written

AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,12})?")

KNOWN = " and ".join(provider.host for provider in PROVIDERS)

Booked = dict[int, int]
"""Maps the ids of settled tries to what was booked for each, in picodollars."""


def settle(name: str, url: str, *, ask: bool, amount: str | None, tries: Sequence[int], as_json: bool) -> int:
    """Prints the tries in doubt. With `ask`, first asks providers what the tries cost. Then books the rest at `amount`:
    `free`, `worst`, or an amount in USD for each; None: the rest stays in doubt. Returns the exit code.

    `tries` limits all this to the tries with these ids; empty: all tries in doubt. Raises InputError when `amount` is
    no amount, or when the run has no such try.
    """
    cost_of = None if amount is None else _cost_of(amount)
    writes = ask or cost_of is not None
    with Store.open(url, write=writes, say=say) as store:
        run_id = store.run_id(name)
        if writes:
            store.join(name, alone=True)
            take_in(store)
            with store.transaction():
                store.hold_unsettled(run_id, now())
        doubts = _chosen(store, run_id, tries, unsettled_too=not writes and not is_being_written(url, name))
        if cost_of is not None:
            _refuse_too_little(store, doubts, cost_of)
        booked, words = _asked(store, store.run(name), doubts) if ask else ({}, [])
        for doubt in doubts:
            if cost_of is not None and doubt.try_id not in booked:
                with store.transaction():
                    store.settle_doubt(doubt.try_id, cost_of(doubt), "user", now())
                booked[doubt.try_id] = cost_of(doubt)
        if writes:
            with writing_to(runs_folder() / name):
                write_report_of(store, name, live=False)
        found = _found(store, name, doubts, booked) | {"told": words}
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(_lines(found)))
    return 0


def in_doubt_words(store: Store, name: str) -> str | None:
    """Returns in one sentence what is in doubt in a run and how to settle it; None if nothing is."""
    run_id = store.run_id(name)
    money = store.money(run_id)
    if not money.in_doubt:
        return None
    n = len(store.doubts(run_id))
    rows, held = store.held_in_batches(run_id)
    if rows == n:
        return f"{usd(held)} USD is in doubt, the worst case of {rows:,} rows in batches that the next start fetches"
    return (
        f"{usd(money.in_doubt)} USD is in doubt, the worst case of {n} {_tries(n)} that may have been billed:"
        f" `python -m harvest settle {name}` shows and settles them"
    )


def _asked(store: Store, run: StoredRun, doubts: Sequence[Doubt]) -> tuple[Booked, list[str]]:
    """Asks the providers of a run. Returns (what was booked, what they told in words). Raises ConfigError when a key is
    missing."""
    asked = asked_at_providers(run.config) if run.has_teacher else {}
    if not asked:
        return {}, [f"nobody can be asked: only {KNOWN} tell what was billed"]
    first = [next(iter(configs.items())) for configs in asked.values()]
    about = {PLACES_ABOUT[kind]: section for kind, section in ABOUT.items()}
    keys = keys_of({about.get(p) or section_of(run.config, p): config.teacher for p, config in first})

    async def settled() -> tuple[Booked, list[str]]:
        async with AsyncExitStack() as opened:
            ledger = Writer(store)
            opened.callback(ledger.close)
            accounts = await Accounts.open(run.id, run.config, keys, ledger, opened)
            told = await accounts.settle([doubt.try_id for doubt in doubts]) if doubts else []
            booked = {try_id: cost for one in told for try_id, cost in one.costs.items()}
            if alone := len(doubts) - sum(one.asked for one in told):
                words = f"{alone} {_tries(alone)} cannot be asked for: no id was seen, or the endpoint tells no costs"
            return booked, [
                *map(str, told),
                *([words] if alone else []),
                *map(str, await accounts.falls()),
                *accounts.untold,
            ]

    return asyncio.run(settled())


def _cost_of(amount: str) -> Callable[[Doubt], int]:
    """Returns a function that gives the cost of a try, in picodollars. Raises InputError when `amount` is no amount."""
    if amount == "free":
        return lambda _: 0
    if amount == "worst":
        return lambda doubt: doubt.held_pusd
    if not AMOUNT.fullmatch(amount) or Decimal(amount) > MOST_USD:
        raise InputError(
            f"--as {one_line(amount, 40)}: write free, worst, or what each try cost in USD, e.g. 0.0123 (at most 12"
            f" decimals, and {MOST_USD:,} USD)"
        )
    cost_pusd = pusd(Decimal(amount))
    return lambda _: cost_pusd


def _refuse_too_little(store: Store, doubts: Sequence[Doubt], cost_of: Callable[[Doubt], int]) -> None:
    """Raises InputError when a row of a batch that is not ended would hold less than it may be billed."""
    low = [doubt.try_id for doubt in doubts if cost_of(doubt) < doubt.held_pusd]
    if held := store.in_open_batches(low):
        raise InputError(
            f"--as: {len(held)} of these tries are rows of batches that may still run, and the next `collect` books"
            " what they cost. `--as worst` gives up a batch that is lost; --try names other tries"
        )


def _chosen(store: Store, run_id: int, tries: Sequence[int], *, unsettled_too: bool = False) -> list[Doubt]:
    """Returns the tries in doubt that the user named, or all of them if the user named none."""
    doubts = store.doubts(run_id, unsettled_too=unsettled_too)
    if not tries:
        return doubts
    known = {doubt.try_id: doubt for doubt in doubts}
    for try_id in tries:
        if try_id.bit_length() > 63 or not store.has_try(run_id, try_id):
            raise InputError(f"--try {try_id}: the run has no such try; `harvest settle RUN` lists those in doubt")
        if try_id not in known:
            say(f"try {try_id} is not in doubt: nothing to settle")
    return [known[try_id] for try_id in dict.fromkeys(tries) if try_id in known]


def _found(store: Store, name: str, doubts: Sequence[Doubt], booked: Booked) -> dict[str, Any]:
    money = store.money(store.run_id(name))
    return {
        "run": name,
        "cap_usd": None if money.cap is None else usd(money.cap),
        "spent_usd": usd(money.spent),
        "in_doubt_usd": usd(money.in_doubt + money.reserved),
        "tries": [_entry(doubt, booked.get(doubt.try_id)) for doubt in doubts],
    }


def _entry(doubt: Doubt, cost_pusd: int | None) -> dict[str, Any]:
    return {
        "id": doubt.try_id,
        "question_id": doubt.question,
        "asked": doubt.asked,
        "class": doubt.failure,
        "why": doubt.message or ("a whole reply came, and not what it cost" if doubt.state == "answered" else None),
        "sent_at": doubt.sent_at,
        "took_s": _seconds(doubt),
        "held_usd": usd(doubt.held_pusd),
        "response_id": doubt.response_id,
        "settled_usd": None if cost_pusd is None else usd(cost_pusd),
    }


def _seconds(doubt: Doubt) -> float | None:
    if doubt.ended_at is None:
        return None
    return (datetime.fromisoformat(doubt.ended_at) - datetime.fromisoformat(doubt.sent_at)).total_seconds()


def _lines(found: dict[str, Any]) -> list[str]:
    name, entries = found["run"], found["tries"]
    lines = [_line(entry) for entry in entries]
    settled = [entry for entry in entries if entry["settled_usd"] is not None]
    cap = "" if found["cap_usd"] is None else f" of {found['cap_usd']}"
    money = f"{found['spent_usd']} USD spent, {found['in_doubt_usd']} in doubt{cap}"
    if settled:
        held, cost = (_sum(settled, field) for field in ("held_usd", "settled_usd"))
        lines.append(f"{len(settled)} {_tries(len(settled))} settled at {usd(cost)} USD, {usd(held)} had been held")
        dearer = [e for e in settled if Decimal(e["settled_usd"]) > Decimal(e["held_usd"])]
        if dearer:
            more = usd(_sum(dearer, "settled_usd") - _sum(dearer, "held_usd"))
            lines.append(f"{len(dearer)} of them cost more than had been held for them, {more} USD more in all")
        if found["cap_usd"] is not None and _sum([found], "spent_usd") > _sum([found], "cap_usd"):
            lines.append("spent is over the cap now: the run asks nothing more under this cap")
    elif entries:
        lines.append("--ask asks the provider, --as free|worst|USD books each of these tries or those that --try names")
    else:
        lines.append("nothing is in doubt")
    return [*lines, *found["told"], f"{name}: {money}"]


def _line(entry: dict[str, Any]) -> str:
    took = "" if entry["took_s"] is None else f" after {entry['took_s']:,.1f} s"
    parts = [
        f"try {entry['id']}",
        f"{entry['sent_at']}{took}",
        f"{entry['asked']} on {one_line(entry['question_id'], 60)}",
        entry["class"] or ("no cost told" if entry["why"] else "not settled"),
        one_line(entry["why"] or "winnow ended before the reply came", 120),
        f"response {one_line(entry['response_id'])}" if entry["response_id"] else "no response id",
        f"{entry['held_usd']} USD held" + (f", settled at {s}" if (s := entry["settled_usd"]) is not None else ""),
    ]
    return " · ".join(parts)


def _sum(entries: Sequence[dict[str, Any]], field: str) -> int:
    return sum(pusd(Decimal(entry[field])) for entry in entries)


def _tries(n: int) -> str:
    return "try" if n == 1 else "tries"
