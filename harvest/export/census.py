"""Counts what the rows of a dataset hold while the rows are written. The card of the dataset shows the counts."""

from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

from harvest.core.money import pusd
from harvest.core.printable import one_line

MOST_KINDS = 10_000
"""The number of different values of a column that are counted by name. Further values are counted as OTHERS."""
OTHERS = "others"


@dataclass(slots=True)
class Census:
    """Holds counts over all rows so far. Each row adds at most 8 bytes of memory."""

    rows: int = 0
    chain_tokens: "array[int]" = field(default_factory=lambda: array("I"))
    """The length, in tokens, of each chain whose tokens the endpoint counted."""
    chain_characters: "array[int]" = field(default_factory=lambda: array("I"))
    without_chain: int = 0
    quoting_marks: int = 0
    """The number of rows whose chain or answer itself holds the marks that are written around the chain."""
    rewritten: int = 0
    by_model: int = 0
    """How many of the rewritten rows a model rewrote."""
    accepted: int = 0
    cost_pusd: int = 0
    without_cost: int = 0
    kinds: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    checks: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    """The number of verdicts for each (check, version of the check, whether the answer passed)."""

    def count(self, row: Mapping[str, Any], reasoning: str | None, *, quotes: bool, by_model: bool = False) -> None:
        """Adds one row to the counts.

        The row has all columns of PROVENANCE, even if the file has fewer. `by_model`: a model rewrote the row's text.
        `quotes`: the chain or the answer holds the marks that are written around the chain.
        """
        self.rows += 1
        self.quoting_marks += quotes
        self.rewritten += row["original"] is not None
        self.by_model += by_model
        self.accepted += row["accepted"]
        if reasoning is None:
            self.without_chain += 1
        else:
            self.chain_characters.append(len(reasoning))
            if (tokens := row["usage"]["reasoning_tokens"]) is not None:
                self.chain_tokens.append(tokens)
        if row["cost_usd"] is None:
            self.without_cost += 1
        else:
            self.cost_pusd += pusd(Decimal(row["cost_usd"]))
        for name in ("domain", "difficulty", "source", "licence", "teacher_terms", "reason"):
            self._one_more(name, row[name])
        for name in ("model", "served_model", "served_by"):
            self._one_more(name, row["teacher"][name])
        public = row["public"]
        self._one_more("public", None if public is None else f"{public['set']} ({public['licence']})")
        for v in row["verdicts"]:
            key = (v["check"], v["version"], v["passed"])
            if key in self.checks or len(self.checks) < MOST_KINDS:
                self.checks[key] += 1

    def _one_more(self, name: str, value: str | None) -> None:
        kinds = self.kinds[name]
        key = _shown(value) if value is not None else ""
        kinds[key if key in kinds or len(kinds) < MOST_KINDS else OTHERS] += 1

    def known(self, name: str) -> Counter[str]:
        """Returns the number of rows that have each value of a column. Rows without a value are left out."""
        return Counter({k: n for k, n in self.kinds.get(name, Counter()).items() if k})


@lru_cache(1024)
def _shown(value: str) -> str:
    return one_line(value, 200)
