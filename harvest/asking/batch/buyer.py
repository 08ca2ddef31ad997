"""Buys answers from one teacher in batches: makes slices, brings them to the endpoint, and settles them when they have
ended."""

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.client import REQUEST_ENTITY_TOO_LARGE, TOO_MANY_REQUESTS
from pathlib import Path
from typing import Any, Literal

from harvest.asking.batch.refused_files import RefusedFiles, words_of
from harvest.asking.batch.results import NOT_THERE, OnSettled, Results
from harvest.asking.batch.slices import (
    FIRST_ROWS,
    MONEY,
    SMALL_SHARE,
    WORTH_A_FIRST,
    Limits,
    Slice,
    custom_id,
    line_of,
)
from harvest.asking.batch.submission import LONGEST_PAUSE_S, CannotTell, Submission
from harvest.asking.buying.buyer import Buyer
from harvest.asking.buying.counters import Waiting
from harvest.asking.buying.pricing import Pricing
from harvest.asking.planning.run import in_mode
from harvest.core.clock import now
from harvest.core.errors import (
    CapReached,
    Cut,
    Passing,
    RowRefused,
    TeacherRefused,
)
from harvest.core.nouns import Ask
from harvest.endpoint.batches import BatchApi, BatchStatus, Refused, form_for
from harvest.endpoint.batches.forms import WINDOW_S
from harvest.endpoint.batches.status import FAILED
from harvest.store import RowToSend, Store, StoredBatch, Writer
from harvest.store.batches import CREATED, RESERVED, UPLOADED

MODES: tuple[Literal["live"], Literal["batch"]] = ("live", "batch")
MOST_OPEN = 100
"""At most so many batches of one teacher are open at once."""
GONE = "not known to the endpoint any more"
LONGEST_GROWTH = 10
"""The wait doubles so many times while the endpoint's queue is full."""
MOST_UNKNOWN = 3
"""So many times an endpoint may not know a batch that it has taken, before it is believed."""


class BatchBuyer:
    """Buys answers from one teacher in batches, in one session."""

    def __init__(
        self, place: int, buyer: Buyer, ledger: Writer, on_settled: OnSettled, say: Callable[[str], None],
        stopping: asyncio.Event, is_interrupted: Callable[[], bool],
    ) -> None:  # fmt: skip
        teacher = buyer.run.config.teacher
        # A batch that an earlier session made has the batch price, also if the run is live now.
        pricing = Pricing(in_mode(buyer.run, "batch"))
        self.place, self.buyer = place, buyer
        self.open: list[StoredBatch] = []
        """The batches that are not settled, the oldest first."""
        self.groups: deque[Sequence[int]] = deque()
        """Questions that must go in slices of their own: one of them has a fault that the endpoint does not name."""
        self.is_full = False
        """Whether no more can be sent until a batch has ended: the cap or the endpoint's queue has no room."""
        self.is_silent = False
        """Whether the endpoint tells nothing of its batches, so that the next session must fetch them."""
        self._has_full_queue = False
        """Whether no batch can be created until another one has ended."""
        self.made = 0
        """How many batches were made in this session."""
        self._form = form_for(teacher.base_url or "")
        self._api = BatchApi(buyer.teacher, self._form)
        self._ledger, self._say, self._stopping = ledger, say, stopping
        self._folder = buyer.run.folder / "batches"
        self._submission = Submission(buyer, self._api, ledger, stopping)
        self._results = Results(
            buyer, pricing, self._api, self._submission, ledger, self._folder, on_settled, is_interrupted
        )
        self._refused_files = RefusedFiles(buyer, self._results, ledger, say)
        self._pricing = pricing
        self._most = Limits(min(teacher.batch_rows, self._form.most_rows), self._form.most_bytes)
        self._limits = replace(self._most)
        self._slice: Slice | None = None
        self._states: dict[int, str] = {}
        self._unknown = Counter[int]()
        """How many times the endpoint has not known each batch."""
        self._was_full = 0
        """How many batches in a row failed for a full queue in which none of ours was."""

    @property
    def takes_rows(self) -> bool:
        """Whether a row may be sent now."""
        is_asked = self.buyer.is_open and self.buyer.run.config.teacher.mode == "batch"
        return is_asked and not self.is_full and len(self.open) < MOST_OPEN and not (self.open and self._is_first)

    @property
    def waits(self) -> bool:
        """Whether batches are waited for."""
        return bool(self.open) and not self.is_silent

    @property
    def _is_first(self) -> bool:
        counters = self.buyer.counters
        is_worth = counters.questions - counters.ended > FIRST_ROWS * WORTH_A_FIRST
        return is_worth and not self.buyer.has_answered

    def row_of(self, question_id: int, ask: Ask, body: dict[str, Any]) -> RowToSend:
        """Returns the row that asks this, with its worst case."""
        key = self.buyer.run.key(body, ask.sample)
        return RowToSend(question_id, ask, key, self._pricing.worst_pusd(body, WINDOW_S))

    async def add(self, row: RowToSend, body: dict[str, Any]) -> bool:
        """Puts a row into the next slice, which is sent when it is full. Returns False if the row must wait."""
        sent = self.buyer.teacher.row_body(self._pricing.bounded(body, datetime.now(UTC), WINDOW_S))
        line = line_of(self._form.row(custom_id(row.key), sent))
        while self.takes_rows:
            if self._slice is None:
                self._slice = await self._new_slice()
            if row.key in self._slice.keys:
                return False
            lacks = self._slice.takes(row, len(line))
            if lacks is None:
                self._slice.add(row, line)
                return True
            if lacks == MONEY:
                self.is_full = self.buyer.was_short_of_money = self._slice.is_cut_by_money = True
            await self.send()
        return False

    async def send(self) -> None:
        """Sends the slice that was begun, if there is one. A small slice waits while other batches still hold money."""
        made, self._slice = self._slice, None
        if made is None:
            return
        made.close()
        is_small = made.is_cut_by_money and len(made.rows) < self._limits.rows // SMALL_SHARE
        if not made.rows or (is_small and self.open):
            made.discard()
            return
        batch = await self._ledger.do(Store.reserve_batch, self.buyer.run.id, self.place, made.name, made.rows, now())
        if batch is None:
            self.is_full = True
            made.discard()
            return
        self.open.append(batch)
        self.made += 1
        self._submission.is_new(batch)
        await self._submit(batch)

    def drop_slice(self) -> None:
        """Gives up the slice that was begun. Nothing of it is reserved."""
        if self._slice is not None:
            self._slice.discard()
            self._slice = None

    async def find_again(self) -> None:
        """Takes up the batches of earlier sessions. Warns if no batch price is known."""
        if self.is_silent:
            return
        self._warn_of_price()
        left = await self._ledger.do(Store.open_batches, self.buyer.run.id)
        for file in self._folder.glob("winnow-*"):  # a killed session may have left those of batches that ended
            if file.name.split(".")[0] not in {batch.name for batch in left}:
                file.unlink(missing_ok=True)
        for batch in left:
            if batch.teacher != self.place:
                continue
            self.open.append(batch)
            if batch.state != RESERVED:
                continue
            found = None
            try:
                if not self._form.uploads:  # an upload runs nothing, but a batch of rows may have been created
                    found = await self._submission.persist(partial(self._submission.find, batch))
            except CannotTell as why:
                await self._give_up(batch, why)
                continue
            if found is not None:
                self._replace(await self._submission.adopt(batch, found))
            else:
                await self._free(batch, "winnow ended before the batch was created: nothing was run")

    def _warn_of_price(self) -> None:
        live, batch = (in_mode(self.buyer.run, mode).tariff for mode in MODES)
        if live is None or batch is None or (now_live := live.at(datetime.now(UTC), 0)).is_free:
            return
        in_batch = batch.at(datetime.now(UTC), 0)
        if (now_live.input, now_live.output) == (in_batch.input, in_batch.output):
            words = "no batch price is known, so the full price is booked: set teacher.batch_discount"
            self._say(f"warning: {self.buyer.name}: {words}")

    async def look(self) -> None:
        """Looks at every open batch: creates those that had to wait, and settles those that have ended."""
        for batch in list(self.open):
            if self._stopping.is_set() or self.is_silent:
                return
            if batch.state == UPLOADED and not self._has_full_queue:
                await self._submit(batch)
            elif batch.state == CREATED:
                await self._look_at(batch)
        self.show()

    async def give_back(self) -> None:
        """Gives back the money of batches that are surely not at the endpoint, when asking stops."""
        for batch in list(self.open):
            if batch.state != CREATED and self._submission.is_absent(batch):
                await self._free(batch, "asking stopped before the batch was created: nothing was run")

    def end_if_short(self) -> None:
        """Ends this teacher when the cap has no room for another row, and no batch can free any."""
        if self.is_full and not self.open and self.buyer.is_open:
            cap = self.buyer.counters.cap.usd
            self.buyer.end(CapReached(f"the cap of {cap} USD has no room for another answer{self.buyer.of}"))

    def show(self) -> None:
        """Shows what is waited for, and since when."""
        counters, name = self.buyer.counters, self.buyer.name
        if not self.open:
            counters.waiting.pop(name, None)
            return
        states = Counter(self._states.get(batch.id) or batch.state for batch in self.open)
        words = ", ".join(f"{n} {state.replace('_', ' ')}" for state, n in states.items())
        rows = sum(batch.rows for batch in self.open)
        many = "1 batch" if len(self.open) == 1 else f"{len(self.open)} batches"
        since = datetime.fromisoformat(self.open[0].made_at).astimezone()
        counters.waiting[name] = Waiting(f"{many} of {rows:,} rows{self.buyer.of} ({words}), the oldest", since)

    # ---- to the endpoint

    async def _new_slice(self) -> Slice:
        name = f"winnow-{uuid.uuid4().hex}"
        limits = self._limits
        most = min(limits.rows, FIRST_ROWS) if self._is_first else limits.rows
        room = await self._ledger.do(Store.room_pusd, self.buyer.run.id)
        return Slice(name, self._file(name), Limits(most, limits.bytes), room)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.jsonl"

    async def _submit(self, batch: StoredBatch) -> None:
        """Brings a batch to the endpoint. What the endpoint refuses is free again."""
        file = self._file(batch.name)
        try:
            if batch.state == RESERVED and self._form.uploads:
                batch = self._replace(await self._submission.upload(batch, file))
            batch = self._replace(await self._submission.create(batch, file, others_run=self._others_run(batch)))
        except Refused as refused:
            await self._refused(batch, refused)
            return
        except CannotTell as why:
            await self._give_up(batch, why)
            return
        self._limits.grow(self._most)
        file.unlink(missing_ok=True)
        self._say(f"{self.buyer.name}: a batch of {batch.rows:,} rows was sent ({batch.batch_id})")

    async def _refused(self, batch: StoredBatch, refused: Refused) -> None:
        if (refused.queue_is_full or refused.status == TOO_MANY_REQUESTS) and self._others_run(batch):
            self.is_full = self._has_full_queue = True  # it is created once another one has ended
            return
        if refused.queue_is_full and batch.rows == 1:
            self.is_full = True
            await self._submission.pause(LONGEST_PAUSE_S)
            self.is_full = False
            return
        if refused.status == REQUEST_ENTITY_TOO_LARGE and batch.rows == 1:
            await self._results.settle_all(batch, RowRefused(f"the row alone is too large for a batch: {refused}"))
        await self._free(batch, f"the endpoint refused the batch, and nothing was run: {refused}")
        if refused.queue_is_full or refused.status == REQUEST_ENTITY_TOO_LARGE:
            self._limits.halve_rows(batch.rows)
        elif refused.status in (404, 405) and batch.state == RESERVED:
            host = self.buyer.run.config.teacher.base_url
            self.buyer.end(
                TeacherRefused(
                    f"{host} takes no batches (HTTP {refused.status}): nothing was asked, since single requests cost"
                    ' more. For those, set teacher.mode = "live"'
                )
            )
        else:
            self.buyer.end(TeacherRefused(f"{self.buyer.name} refuses the batch: {refused}"))

    # ---- from the endpoint

    async def _look_at(self, batch: StoredBatch) -> None:
        try:
            status = await self._submission.persist(lambda: self._api.look(batch.batch_id or ""))
        except Refused as refused:
            if refused.status not in NOT_THERE:
                raise TeacherRefused(f"{self.buyer.name} refuses to tell of a batch: {refused}") from None
            self._unknown[batch.id] += 1
            if self._unknown[batch.id] < MOST_UNKNOWN:
                return
            if await self._ledger.do(Store.unsettled_ids, batch.id):
                raise TeacherRefused(
                    f"{self.buyer.name} does not know batch {batch.batch_id} of {batch.rows:,} rows, made at"
                    f" {batch.made_at}. Start again with the key of the account that made it; if its results are lost,"
                    f" `python -m harvest settle {self.buyer.run.config.name} --as worst` gives them up"
                ) from None
            status = BatchStatus(batch.batch_id or "", GONE)
        self._states[batch.id] = status.state
        if status.has_ended or status.state == GONE:
            await self._end(batch, status)

    async def _end(self, batch: StoredBatch, status: BatchStatus) -> None:
        """Settles a batch that has ended, whatever its end is."""
        seen = await self._results.settle(batch, status)
        if status.state == FAILED and not seen.tries and not seen.answered and not status.ran_rows:
            await self._ledger.do(Store.batch_refused, batch.id)
            if status.queue_was_full:
                await self._found_no_room(batch, status)
            else:
                self.groups += await self._refused_files.settle(batch, status)
        else:
            self._was_full = 0
            rest = await self._results.settle_rest(batch, status, seen)
            missing = f", {rest:,} in none of its files" if rest else ""
            self._say(
                f"{self.buyer.name}: batch {batch.batch_id} ended ({status.state}): {seen.answered:,} rows{missing}"
            )
        await self._ledger.do(Store.end_batch, batch.id, now())
        self._forget(batch)
        if status.queue_was_full and self._was_full:
            wait_s = self.buyer.run.config.teacher.batch_poll_s * 2 ** min(self._was_full, LONGEST_GROWTH)
            await self._submission.pause(wait_s)

    async def _found_no_room(self, batch: StoredBatch, status: BatchStatus) -> None:
        """Lets the rows of a batch go again that failed since the endpoint's queue was full. If none of ours is in the
        queue, batches get smaller."""
        if not self._others_run(batch):
            self._limits.halve_rows(batch.rows)
            self._was_full += 1
        await self._results.settle_all(batch, Passing(f"the endpoint's queue was full: {words_of(status.faults)}"))

    async def _free(self, batch: StoredBatch, why: str) -> None:
        """Gives back the money of a batch that was never created."""
        await self._ledger.do(Store.batch_refused, batch.id)
        await self._results.settle_all(batch, Passing(why))
        await self._ledger.do(Store.end_batch, batch.id, now())
        self._forget(batch)

    async def _give_up(self, batch: StoredBatch, why: CannotTell) -> None:
        """Leaves a batch in doubt that may be at the endpoint, which does not tell."""
        await self._results.settle_all(batch, Cut(f"nobody can say whether the batch was created: {why}"))
        await self._ledger.do(Store.end_batch, batch.id, now())
        self._forget(batch)
        self._say(f"warning: {self.buyer.name}: a batch of {batch.rows:,} rows stays in doubt: {why}")

    def _others_run(self, batch: StoredBatch) -> bool:
        """Whether the endpoint runs another batch of ours."""
        return any(one.id != batch.id and one.state == CREATED for one in self.open)

    def _replace(self, batch: StoredBatch) -> StoredBatch:
        self.open = [batch if one.id == batch.id else one for one in self.open]
        return batch

    def _forget(self, batch: StoredBatch) -> None:
        self.open = [one for one in self.open if one.id != batch.id]
        self._states.pop(batch.id, None)
        self._results.remove_files(batch)
        self._file(batch.name).unlink(missing_ok=True)
        self.is_full = self._has_full_queue = False
