"""A store with one run and its questions, for the tests of the store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harvest.core.money import Usage
from harvest.core.nouns import Ask, Question, Reply
from harvest.store import Sent, Store

NOW = "2026-11-24T12:00:00.000Z"


def reply(text: str = "4", cost: int | None = None) -> Reply:
    return Reply(answer=text, reasoning="because", finish_reason="stop", usage=Usage(1, None, 1, None, cost))


def question(n: int) -> Question:
    return Question(id=f"q{n}", question=f"What is {n} + 1?", answer=str(n + 1), check="math")


@contextmanager
def store_with_a_run(folder: Path, url: str | None = None) -> Iterator[Store]:
    """A new store with the run 1, "r": 50 questions under a cap of 10,000 picodollars. It is in `folder`, unless an
    empty database is named."""
    with Store.open(url or f"sqlite:///{folder / 'deep' / 'store.db'}") as opened:
        with opened.transaction():
            opened.put_run("r", {}, 10_000, NOW)
            for n in range(50):
                opened.put_question(1, question(n))
        yield opened


def reserved(store: Store, n: int, worst: int = 10) -> Sent:
    held = store.reserve(1, n + 1, Ask(0, 100), f"sha256:{n}", worst, NOW)
    assert isinstance(held, Sent)
    return held
