"""Decides whether a cut answer is continued at an endpoint, and how."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from harvest.core.nouns import Continuation, CutPart, Reply, cut_part
from harvest.endpoint.client import Teacher
from harvest.endpoint.continuation import forms_for


class Continuing:
    """Lets cut answers be continued at one endpoint, if the endpoint goes on from the text that came.

    Until this is known, only one cut answer is continued at a time. If the endpoint begins the answer anew instead,
    only one useless answer is paid for.
    """

    def __init__(self, name: str, teacher: Teacher, base_url: str | None, warn: Callable[[str], None]) -> None:
        """`name` is what warnings call the endpoint."""
        self._name, self._teacher, self._base_url, self._warn = name, teacher, base_url, warn
        self._first = asyncio.Lock()
        self._warned: set[CutPart] = set()

    @asynccontextmanager
    async def turn(self, cut: Reply) -> AsyncIterator[Continuation | None]:
        """Waits until the cut answer may be continued. Gives how, or None if it cannot be continued here."""
        part = cut_part(cut)
        cut = replace(cut, answer="") if part == "chain" else cut
        if part is None:
            yield None
            return
        async with self._first:
            form = self._teacher.learned.continues.get(part)
            if form is None:
                yield Continuation(cut, part, forms_for(self._base_url)[0], is_known=False)
                self._say_if_not(part)
                return
        yield Continuation(cut, part, form, is_known=True) if form else None
        self._say_if_not(part)

    def _say_if_not(self, part: CutPart) -> None:
        if self._teacher.learned.continues.get(part) == "" and part not in self._warned:
            self._warned.add(part)
            where = "in its chain" if part == "chain" else "after its chain"
            self._warn(
                f'when_truncated = "continue": {self._name} does not go on with an answer that was cut {where}, so such'
                " answers are given up (`harvest why` has its reply; `harvest doctor` tries it at small cost)"
            )
