"""Fetches the results of a batch that has ended, and settles its rows one by one. Rows come in any order, in one
file or two, and some in none."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http.client import GONE, NOT_FOUND
from pathlib import Path

from harvest.asking.batch.slices import key_of
from harvest.asking.batch.submission import Submission
from harvest.asking.buying.buyer import Buyer, Stopped
from harvest.asking.buying.pricing import Pricing
from harvest.asking.buying.tries import Settled
from harvest.core.clock import now
from harvest.core.errors import AttemptFailed, Cut, Passing, RowRefused, RunRefused, TeacherRefused, TooLarge
from harvest.core.nouns import Reply
from harvest.endpoint.batches import BatchApi, BatchStatus, Refused, ResultRow, outcome_of, read_row
from harvest.endpoint.client import body_limit_bytes, request_body
from harvest.store import BatchTry, RowSettlement, Store, StoredBatch, Writer

GROUP_ROWS, GROUP_BYTES = 200, 16 << 20
"""So many rows, or so many bytes of them, are settled in one transaction and judged together."""
NOT_THERE = (NOT_FOUND, GONE)
"""The statuses of an answer that say that something is not at the endpoint."""
MOST_FETCHES = 3
"""Results that have fewer rows than the endpoint counts are fetched so many times before a row is given up."""


@dataclass(frozen=True, slots=True)
class SettledRow:
    """Says what one row of a batch brought."""

    row: BatchTry
    outcome: Reply | AttemptFailed


OnSettled = Callable[[Sequence[SettledRow]], Awaitable[None]]
"""A function that judges answers and plans what their questions need next."""


@dataclass(slots=True)
class Seen:
    """Counts what the files of one batch hold, read from their beginning."""

    tries: set[int] = field(default_factory=set)
    answered: int = 0
    """The rows that were run."""
    input_tokens: int = 0
    output_tokens: int = 0
    strange: int = 0
    """The lines that name no row of ours."""


class Results:
    """Settles the batches of one teacher."""

    def __init__(
        self, buyer: Buyer, pricing: Pricing, api: BatchApi, submission: Submission, ledger: Writer, folder: Path,
        on_settled: OnSettled, is_interrupted: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._buyer, self._api, self._submission, self._ledger = buyer, api, submission, ledger
        self._folder, self._on_settled, self._is_interrupted = folder, on_settled, is_interrupted
        self._pricing = pricing
        sampling = buyer.run.config.sampling
        most = max(sampling.max_tokens, sampling.raised_limit) + buyer.run.config.teacher.thinking_tokens
        self._line_bytes = body_limit_bytes(most, sampling.top_logprobs, stream=False)

    async def settle(self, batch: StoredBatch, status: BatchStatus) -> Seen:
        """Fetches all that there is of a batch's results, and settles its rows. Returns what was seen. Raises Stopped
        when the session stops meanwhile: the next one goes on."""
        seen = Seen()
        for fetch in range(MOST_FETCHES):
            if fetch:
                await self._submission.pause(fetch)
                self.remove_files(batch)
            seen = Seen()
            for n, source in enumerate(status.files if not self._api.form.has_pages else (status.id,)):
                file = self._folder / f"{batch.name}.results-{n}.jsonl"
                await self._fetch(batch, source, file)
                await self._settle_file(batch, file, seen)
            if not set(await self._ledger.do(Store.unsettled_ids, batch.id)) - seen.tries:
                break
            if status.answered is not None and seen.answered >= status.answered:
                break
        return seen

    async def settle_rest(self, batch: StoredBatch, status: BatchStatus, seen: Seen) -> int:
        """Settles the rows that are in no file: each may have been billed. Returns how many there are."""
        ids = set(await self._ledger.do(Store.unsettled_ids, batch.id)) - seen.tries
        failure = Cut(f"the batch ended ({status.state}) and this row is in none of its files")
        left: int | None = None
        is_first = True
        async for page in self.unsettled(batch):
            rest = [row for row in page if row.try_id in ids]
            if is_first and rest:
                left, is_first = self._left_pusd(status, seen, rest[0]), False
            outcomes = list[tuple[BatchTry, Reply | AttemptFailed]]()
            for row in rest:
                held = row.reserved_pusd if left is None else min(left, row.reserved_pusd)
                left = None if left is None else left - held
                if 0 < held < row.reserved_pusd:
                    await self._ledger.do(Store.lower_reserve, row.try_id, held)
                free = Passing(f"{failure.message}, and the batch's usage leaves nothing for it")
                outcomes.append((row, failure if held or left is None else free))
            await self.book(outcomes)
        return len(ids)

    async def unsettled(self, batch: StoredBatch) -> AsyncIterator[Sequence[BatchTry]]:
        """Gives the rows of a batch that are not settled, some at a time, in the order of the file's lines."""
        after = 0
        while page := await self._ledger.do(Store.unsettled_tries, batch.id, after, GROUP_ROWS):
            after = page[-1].try_id
            yield page

    async def settle_all(self, batch: StoredBatch, failure: AttemptFailed) -> None:
        """Settles every row of a batch that is not settled with this failure."""
        async for page in self.unsettled(batch):
            await self.book([(row, failure) for row in page])

    async def book(self, outcomes: Sequence[tuple[BatchTry, Reply | AttemptFailed]]) -> None:
        """Settles tries, and judges what came."""
        if not outcomes:
            return
        settlements, settled = list[RowSettlement](), list[Settled]()
        for row, outcome in outcomes:
            reply = outcome if isinstance(outcome, Reply) else outcome.reply
            failure = outcome if isinstance(outcome, AttemptFailed) else None
            if not isinstance(reply, Reply):
                settlements.append(RowSettlement(row.try_id, None, failure, None, "none"))
                settled.append(Settled(outcome, None, overbilled=False))
                continue
            bill = self._pricing.bill(reply, datetime.fromisoformat(row.sent_at), row.attempt.max_tokens)
            settlements.append(RowSettlement(row.try_id, bill.reply, failure, bill.cost_pusd, bill.source))
            over = self._pricing.is_over(bill, row.reserved_pusd)
            settled.append(Settled(outcome if failure else bill.reply, None, over, bill.reply.claims))
        await self._ledger.do(Store.settle_rows, settlements, now())
        money = await self._ledger.do(Store.money, self._buyer.run.id)
        replica = self._buyer.fleet.replicas[0]
        for one in settled:
            self._buyer.on_settled(replica, Settled(one.outcome, money, one.overbilled, one.claims))
            if isinstance(one.outcome, RowRefused):
                self._buyer.on_failure(replica, one.outcome, 0.0)
        await self._on_settled([SettledRow(row, one.outcome) for (row, _), one in zip(outcomes, settled, strict=True)])

    def remove_files(self, batch: StoredBatch) -> None:
        """Removes what was downloaded of a batch."""
        for file in self._folder.glob(f"{batch.name}.results-*"):
            file.unlink(missing_ok=True)

    async def _fetch(self, batch: StoredBatch, source: str, file: Path) -> None:
        """Downloads a file of results, or as much of it as the endpoint still has and as may be read. Raises
        TeacherRefused when the endpoint refuses the key or the account: the next session fetches it."""
        file.parent.mkdir(parents=True, exist_ok=True)
        limit = batch.rows * self._line_bytes
        try:
            if self._api.form.has_pages:
                await self._submission.persist(lambda: self._api.fetch_pages(source, file, limit))
            else:
                await self._submission.persist(lambda: self._api.fetch(source, file, limit))
        except (Refused, TooLarge) as e:
            words = f"the results of batch {batch.batch_id} cannot be fetched: {e}"
            if isinstance(e, Refused) and isinstance(e.failure, RunRefused) and e.status not in NOT_THERE:
                raise TeacherRefused(words) from None
            if words not in self._buyer.counters.warnings:
                self._buyer.counters.warnings.append(words)

    async def _settle_file(self, batch: StoredBatch, file: Path, seen: Seen) -> None:
        group, size = list[ResultRow](), 0
        for line in lines_of(file, self._line_bytes + (64 << 10)):
            row = read_row(line)
            if row is None:
                seen.strange += 1
                continue
            group.append(row)
            size += len(line)
            if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
                await self._settle_group(batch, group, seen)
                group, size = [], 0
        await self._settle_group(batch, group, seen)

    async def _settle_group(self, batch: StoredBatch, rows: Sequence[ResultRow], seen: Seen) -> None:
        if self._is_interrupted():
            raise Stopped
        tries = await self._ledger.do(Store.batch_tries, batch.id, [key_of(row.custom_id) for row in rows])
        found = list[tuple[BatchTry, Reply | AttemptFailed]]()
        for row in rows:
            outcome = self._buyer.teacher.cleaned(outcome_of(row))
            reply = outcome if isinstance(outcome, Reply) else outcome.reply
            if isinstance(reply, Reply):
                seen.input_tokens += reply.usage.input_tokens or 0
                seen.output_tokens += reply.usage.output_tokens or 0
            seen.answered += row.was_run
            if (one := tries.pop(key_of(row.custom_id), None)) is None:
                continue
            seen.tries.add(one.try_id)
            found.append((one, self._adapted(row, outcome, one)))
        if found:
            await self.book(found)

    def _adapted(self, row: ResultRow, outcome: Reply | AttemptFailed, one: BatchTry) -> Reply | AttemptFailed:
        """Returns the outcome; where the endpoint refuses a parameter that can be left out or named otherwise, a
        failure that is tried again."""
        if not isinstance(outcome, RowRefused) or (refused := row.refused_parameter) is None:
            return outcome
        run = self._buyer.run
        body = request_body(run.model, [], run.config.sampling, one.attempt.sample, one.attempt.max_tokens)
        try:
            adapts = self._buyer.teacher.adapts_to(refused, body)
        except RunRefused as e:
            return e
        return Passing(f"{outcome.message}: asked again as the endpoint wants it") if adapts else outcome

    def _left_pusd(self, status: BatchStatus, seen: Seen, first: BatchTry) -> int | None:
        """Returns the most that the rows in no file can have cost by the endpoint's usage of the whole batch; None: it
        does not bound them. A usage without output for rows that were run is not believed."""
        if status.usage is None:
            return None
        left_in, left_out = status.usage[0] - seen.input_tokens, status.usage[1] - seen.output_tokens
        ran_others = not status.usage[1] if status.answered is None else status.answered > seen.answered
        if left_in < 0 or left_out < 0 or (ran_others and not left_out):
            return None
        return self._pricing.most_pusd(left_in, left_out, datetime.fromisoformat(first.sent_at))


def lines_of(file: Path, most_bytes: int) -> Iterator[bytes]:
    """Gives the lines of a file, if it is there. A line of more than `most_bytes` is left out."""
    if not file.exists():
        return
    with file.open("rb") as lines:
        while line := lines.readline(most_bytes):
            whole = line
            while not line.endswith(b"\n") and (line := lines.readline(most_bytes)):
                whole = b""
            if whole.strip():
                yield whole
