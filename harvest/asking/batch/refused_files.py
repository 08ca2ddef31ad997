"""Settles a batch whose file the endpoint refused, so that nothing of it was run: rows with a fault are given up, and
the others go again without them."""

from collections.abc import Callable, Sequence

from harvest.asking.batch.results import Results
from harvest.asking.buying.buyer import Buyer
from harvest.core.errors import AttemptFailed, Passing, RowRefused, RunRefused, SettingRefused, TeacherRefused
from harvest.core.nouns import Reply
from harvest.endpoint.batches import BatchStatus, LineFault, failure_of
from harvest.store import BatchTry, Store, StoredBatch, Writer

NAMED_FAULTS = 3
"""So many faults of one file are told in words."""


class RefusedFiles:
    """Settles the refused files of one teacher."""

    def __init__(self, buyer: Buyer, results: Results, ledger: Writer, say: Callable[[str], None]) -> None:
        self._buyer, self._results, self._ledger, self._say = buyer, results, ledger, say

    async def settle(self, batch: StoredBatch, status: BatchStatus) -> Sequence[Sequence[int]]:
        """Settles all rows, and ends the teacher if each of them would be refused again. Returns the questions that
        must go in slices of their own: one of them has a fault that the endpoint does not name."""
        for_good = next((f for f in map(failure_of, status.faults) if isinstance(f, RunRefused)), None)
        if for_good is not None:
            await self._results.settle_all(batch, Passing(f"the endpoint refused the batch: {for_good}"))
            self._buyer.end(TeacherRefused(f"{self._buyer.name} refuses for good: {for_good}"))
            return ()
        faults = {fault.line: fault for fault in status.faults if fault.line}
        if not faults:
            return await self._in_halves(batch, status)
        has_answered = self._buyer.has_answered
        if len(faults) == batch.rows > 1 and len({f.message for f in faults.values()}) == 1 and not has_answered:
            await self._results.settle_all(batch, Passing("the endpoint refused every row of the batch"))
            self._buyer.end(SettingRefused(f"{self._buyer.name} refuses every row: {words_of(status.faults)}"))
            return ()
        await self._without(batch, faults)
        return ()

    async def _without(self, batch: StoredBatch, faults: dict[int, LineFault]) -> None:
        """Gives up the rows on the lines with these faults, and lets the others go again."""
        rest = Passing("the endpoint refused the file for another row: this one goes again without it")
        first, named = await self._ledger.do(Store.first_try, batch.id), list[str]()
        async for page in self._results.unsettled(batch):
            outcomes = list[tuple[BatchTry, Reply | AttemptFailed]]()
            for row in page:
                fault = faults.get(row.try_id - first + 1)
                if fault is not None:
                    named.append(f"line {fault.line} (question {row.question.id}): {fault.message}")
                outcomes.append((row, rest if fault is None else RowRefused(f"{fault.message} ({fault.code})")))
            await self._results.book(outcomes)
        more = f"; and {len(named) - NAMED_FAULTS} more" if len(named) > NAMED_FAULTS else ""
        self._say(f"warning: {self._buyer.name} refused the file of a batch: {'; '.join(named[:NAMED_FAULTS])}{more}")

    async def _in_halves(self, batch: StoredBatch, status: BatchStatus) -> Sequence[Sequence[int]]:
        """Lets the rows go again in two halves, until those of the question with the fault are alone: they are given
        up."""
        ids = list[int]()
        async for page in self._results.unsettled(batch):
            ids += [row.question_id for row in page]
        questions, words = list(dict.fromkeys(ids)), words_of(status.faults)
        if len(questions) == 1:
            await self._results.settle_all(batch, RowRefused(f"{words} (the file was refused for this question)"))
            return ()
        words = f"the endpoint refused the file and names no line: {words}"
        await self._results.settle_all(batch, Passing(f"{words}. It goes again in halves"))
        self._say(f"{self._buyer.name}: {words}. Its {batch.rows:,} rows go again in halves")
        half = (len(questions) + 1) // 2
        return questions[:half], questions[half:]


def words_of(faults: Sequence[LineFault]) -> str:
    """Returns the first fault in the endpoint's words."""
    return faults[0].message if faults else "it does not say why"
