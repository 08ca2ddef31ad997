"""Reads the rows of a batch's results. Pure. What a row holds of an answer is read as a live answer is."""

import json
from dataclasses import dataclass

from harvest.core.errors import AttemptFailed, Cut, Gateway, Passing
from harvest.core.foreign_json import Json, as_dict, as_text, count, parse, plain
from harvest.core.nouns import Reply
from harvest.endpoint.batches.status import LineFault
from harvest.endpoint.failures import error_in, refusal, refused_parameter, reply_of
from harvest.endpoint.response import read_response

NOT_RUN = frozenset({"batch_expired", "batch_cancelled", "batch_canceled", "expired", "cancelled", "canceled"})
"""The codes of rows that were not run before their batch ended. They cost nothing: completed work alone is billed.
https://help.openai.com/en/articles/9197833-batch-api-faq"""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """Holds one row of a file of results."""

    custom_id: str
    status: int | None
    """The HTTP status of the row's own request. None: the row was not run, or nothing says how it ended."""
    body: object
    """The body of the answer to it: a JSON object, or what else the endpoint sent."""
    error: Json

    @property
    def was_run(self) -> bool:
        return self.status is not None or not error_in(self.error).codes & NOT_RUN

    @property
    def refused_parameter(self) -> str | None:
        """Returns the parameter of the request that the endpoint refuses, if it says so."""
        return None if self.status is None else refused_parameter(self.status, self.raw_body())

    def raw_body(self) -> bytes:
        """Returns the body as a live answer would have had it."""
        if isinstance(self.body, str):
            return self.body.encode("utf-8", "surrogatepass")
        return b"" if self.body is None else json.dumps(plain(self.body)).encode()


def read_row(line: bytes) -> ResultRow | None:
    """Returns the row in one line; None if the line does not tell whose row it is."""
    try:
        row = as_dict(parse(line, ignore_rest=True))
    except Cut:
        return None
    custom_id, response = as_text(row.get("custom_id")), as_dict(row.get("response"))
    if not custom_id:
        return None
    body, status = response.get("body"), count(response.get("status_code"))
    if status is None and body:  # a whole answer, of which no status is said
        status = 200
    return ResultRow(custom_id, status, body, as_dict(row.get("error")))


def outcome_of(row: ResultRow) -> Reply | AttemptFailed:
    """Returns what a row brought: a reply, or the failure that it means. A row that ended with a server's error, or
    that was not run, costs nothing."""
    try:
        if row.status is None or (row.body is None and row.error):
            return _failure_beside(row)
        if 200 <= row.status < 300 and isinstance(row.body, dict):
            return reply_of(row.body)
        return read_response(row.status, row.raw_body())
    except Gateway as e:
        return Passing(e.message, None, e.reply) if row.status is not None and row.status >= 500 else e
    except AttemptFailed as e:
        return e


def _failure_beside(row: ResultRow) -> AttemptFailed:
    """Returns the failure of a row that has an error in place of a response."""
    if not row.was_run:
        said = error_in(row.error).message or "the batch ended before this row was run"
        return Passing(f"{said} (not run, and not billed)")
    if row.status is None and not row.error:
        return Cut("the row has neither an answer nor an error")
    failure = refusal(row.status or 400, json.dumps(plain({"error": row.error})).encode())
    # Of an error without a status nobody knows whether it will pass. The row is tried again, so many times as any.
    return failure if row.status is not None else Passing(failure.message)


def failure_of(fault: LineFault) -> AttemptFailed:
    """Returns what a fault of an input file means: RunRefused if it would meet every row, else RowRefused."""
    return refusal(400, json.dumps({"error": {"message": fault.message, "code": fault.code}}).encode())
