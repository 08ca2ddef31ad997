"""Simulated runs at endpoints that say what can be seen to be untrue: the bill stays within the books and the cap.

Each reply goes the way of a real one: bytes, `read_response`, `bill_of`, the store. Only the network is left out.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from books import audit
from conftest import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.core.claims import bill_of, tier_of
from harvest.core.config import RunConfig
from harvest.core.errors import AttemptFailed, Gateway, Late
from harvest.core.money import input_bound_tokens, pusd, worst_case
from harvest.core.nouns import Ask, Question, Reply
from harvest.endpoint.price import dearest, tariff_of
from harvest.endpoint.response import read_response
from harvest.store import Sent, Store

NOW = "2026-11-24T12:00:00.000Z"
MOMENT = datetime(2026, 11, 24, 12, tzinfo=UTC)
TEACHER = {"base_url": "http://h/v1", "model": "m", "price_usd_per_mtok": {"input": "1", "output": "10"}}
CONFIG = RunConfig.model_validate({"name": "r", "questions": "q", "teacher": TEACHER, "budget": {"usd": "1"}})
TARIFF = tariff_of(CONFIG)
MESSAGES = [{"role": "user", "content": "What is 1 + 2?"}]
MAX_TOKENS = 100
LIES = (
    "none", "zeros", "too few", "no usage", "no input", "cost 0", "cost 0 without counts", "cost 0 as a text",
    "no completion_tokens", "gateway", "late", "late and then told",
)  # fmt: skip
"""What an endpoint says of an answer within max_tokens."""
BEYOND = ("8 times max_tokens", "8 times max_tokens and a cost of 0", "priority", "chain beside")
"""What an endpoint says of each answer that costs more than was reserved."""


@dataclass(frozen=True)
class Answer:
    lie: str
    tokens: int
    bytes_a_token: int


answers = st.builds(Answer, st.sampled_from(LIES), st.integers(1, MAX_TOKENS), st.integers(1, 15))
dear = st.builds(Answer, st.sampled_from(BEYOND), st.integers(80, MAX_TOKENS), st.integers(1, 15))


def usage_of(answer: Answer, tokens: int, text: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The usage that is said, and what else stands in the document."""
    honest = {"prompt_tokens": 40, "completion_tokens": tokens, "total_tokens": 40 + tokens}
    said: Mapping[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {
        "zeros": (dict.fromkeys(honest, 0), {}),
        "too few": ({**honest, "completion_tokens": (few := (len(text) - 1) // 16), "total_tokens": 40 + few}, {}),
        "no usage": (None, {}),
        "no input": ({**honest, "prompt_tokens": 0}, {}),
        "cost 0": ({**honest, "cost": 0}, {}),
        "cost 0 as a text": ({**honest, "cost": "0.00"}, {}),
        "cost 0 without counts": ({"cost": 0}, {}),
        "no completion_tokens": ({"prompt_tokens": 40}, {}),
        "8 times max_tokens and a cost of 0": ({**honest, "cost": {"total_cost": 0}}, {}),
        "priority": (honest, {"service_tier": "priority"}),
        "chain beside": (
            {
                "prompt_tokens": 40,
                "completion_tokens": 1,
                "completion_tokens_details": {"reasoning_tokens": tokens - 1},
            },
            {},
        ),
    }
    return said.get(answer.lie, (honest, {}))


def text_of(answer: Answer, tokens: int) -> str:
    return ("therefore 12 so " * (tokens + 1))[: tokens * answer.bytes_a_token]


def said_of(answer: Answer) -> tuple[int, Reply | AttemptFailed, Reply | None]:
    """What is billed, what comes of the try, and what comes after it is given up."""
    times = 8 if answer.lie.startswith(("8", "chain")) else 1
    tokens = answer.tokens * times
    usage, more = usage_of(answer, tokens, text := text_of(answer, tokens))
    document = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage, **more}
    reply = read_response(200, json.dumps(document).encode(), 1.0)
    assert TARIFF is not None
    bill = (40 + 10 * tokens) * 1_000_000 * (2 if answer.lie == "priority" else 1)
    if answer.lie == "gateway":
        return bill, Gateway("504"), None
    if answer.lie.startswith("late"):
        return bill, Late("late"), reply if answer.lie != "late" else None
    return bill, reply, None


@dataclass
class World:
    cap_usd: Decimal
    at_once: int
    answers: list[Answer]


worlds = st.builds(
    World, st.integers(1, 60).map(lambda n: Decimal(n) / 5_000), st.integers(1, 8),
    st.lists(answers, min_size=1, max_size=20) | dear.map(lambda answer: [answer] * 10),
)  # fmt: skip


def simulate(world: World, store: Store) -> tuple[int, int, bool]:
    """(what was billed, what the dearest answer was billed, whether asking stopped since one was too dear)"""
    assert TARIFF is not None
    billed = most = 0
    is_over = False
    with store.transaction():
        run = store.put_run("r", {}, pusd(world.cap_usd), NOW)
        for n in range(len(world.answers)):
            store.put_question(run, Question(id=str(n), question="?", answer="1", check="math"))
        store.begin_session(run, NOW)
    ids = [r[0] for r in store.db.execute("SELECT id FROM question WHERE run_id = ? ORDER BY id", (run,))]
    for batch in batches(len(world.answers), world.at_once):
        out: list[tuple[int, Sent]] = []
        for n in batch:
            price = dearest(TARIFF, MOMENT, MOMENT, 100, {}, routed=False)
            worst = worst_case(input_bound_tokens(MESSAGES), MAX_TOKENS, price)
            held = store.reserve(run, ids[n], Ask(0, MAX_TOKENS), f"sha256:{n}", worst, NOW)
            out += [(n, held)] if isinstance(held, Sent) else []
        for n, sent in out:
            bill, outcome, later = said_of(world.answers[n])
            billed, most = billed + bill, max(most, bill)
            for came in (outcome, later):
                if isinstance(came, AttemptFailed):
                    store.settle_failure(sent.try_id, came, None, None, "none", NOW)
                elif came is not None:
                    booked = bill_of(came, TARIFF.between(MOMENT, MOMENT, 40, tier_of(came)), None, MAX_TOKENS)
                    over = store.settle(sent.try_id, booked.reply, booked.cost_pusd, booked.source, NOW)
                    is_over |= over or booked.is_unbounded
            books = audit(store.db, run, overbilled=is_over)
            unsettled = sum(r[0] for r in store.db.execute("SELECT reserved FROM run WHERE id = ?", (run,)))
            assert billed <= books["spent"] + books["in_doubt"] + unsettled
        if is_over or len(out) < len(batch):
            break
    return billed, most, is_over


def batches(n: int, at_once: int) -> Iterator[range]:
    """One answer first, as in a live run; then so many at once."""
    yield range(min(1, n))
    for start in range(1, n, at_once):
        yield range(start, min(n, start + at_once))


@settings(max_examples=scaled(300, 10_000))
@given(worlds)
def test_what_can_be_seen_to_be_untrue_passes_no_cap(world: World) -> None:
    shm = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as folder,
        Store.open(f"sqlite:///{folder}/s.db") as store,
    ):
        billed, most, is_over = simulate(world, store)
        books = audit(store.db, 1, overbilled=is_over)
    assert billed <= books["spent"] + books["in_doubt"]
    assert billed <= pusd(world.cap_usd) + (most if is_over else 0)
