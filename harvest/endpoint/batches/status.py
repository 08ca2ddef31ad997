"""Reads what an endpoint says of a batch. Pure. States, counts, times and files are not taken for granted (field.md
§14)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harvest.core.foreign_json import Json, as_dict, as_list, as_text, count, label
from harvest.core.printable import one_line

COMPLETED, FAILED, EXPIRED, CANCELLED = "completed", "failed", "expired", "cancelled"
ENDED = frozenset({COMPLETED, FAILED, EXPIRED, CANCELLED})
OTHER_SPELLINGS = {"canceled": CANCELLED}
QUEUE_FULL = "token_limit_exceeded"
"""The code of a batch that had no room among the enqueued tokens. It is no fault of its rows.
https://github.com/openai/openai-python/issues/2084"""


@dataclass(frozen=True, slots=True)
class LineFault:
    """Holds one fault that the validation of an input file found."""

    code: str
    message: str
    line: int | None
    """The line's number in the file, from 1. None: the fault is not said to be of one line."""


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """Holds what an endpoint says of one batch."""

    id: str
    state: str
    """The state in lower case, in the endpoint's word; "" if it says none."""
    input_file_id: str | None = None
    files: tuple[str, ...] = ()
    """The ids of the files with results and with errors, those that there are."""
    answered: int | None = None
    """How many rows the endpoint says were completed or failed. None: it does not say. Expired rows do not count."""
    completed: int | None = None
    """How many rows the endpoint says were completed. None: it does not say."""
    faults: tuple[LineFault, ...] = ()
    usage: tuple[int, int] | None = None
    """The (input, output) tokens of the whole batch; None: the endpoint does not say."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def ran_rows(self) -> bool:
        """Whether the endpoint says that it ran some of the rows."""
        return bool(self.completed) or any(self.usage or ())

    @property
    def queue_was_full(self) -> bool:
        return any(fault.code == QUEUE_FULL for fault in self.faults)


def read_status(document: Json) -> BatchStatus:
    """Returns the status in a batch object, in which anything may be missing. Never raises."""
    state = as_text(document.get("status")).lower()
    usage = as_dict(document.get("usage"))
    tokens = (
        _first_count(usage, "input_tokens", "prompt_tokens"),
        _first_count(usage, "output_tokens", "completion_tokens"),
    )
    counts = as_dict(document.get("request_counts"))
    done = [count(counts.get(name)) for name in ("completed", "failed")]
    files = (_file_id(document.get(name)) for name in ("output_file_id", "error_file_id"))
    return BatchStatus(
        id=_file_id(document.get("id")) or "",
        state=OTHER_SPELLINGS.get(state, state),
        input_file_id=_file_id(document.get("input_file_id")),
        files=tuple(dict.fromkeys(file for file in files if file)),
        answered=None if None in done else sum(n or 0 for n in done),
        completed=done[0],
        faults=tuple(_faults(document)),
        usage=None if tokens[0] is None or tokens[1] is None else (tokens[0], tokens[1]),
        metadata=as_dict(document.get("metadata")),
    )


def _file_id(value: object) -> str | None:
    """Returns an id. For a file that there is not, endpoints send null, an empty text or an empty object."""
    return value.strip() or None if isinstance(value, str) else None


def _first_count(usage: Json, *names: str) -> int | None:
    return next((n for name in names if (n := count(usage.get(name))) is not None), None)


def _faults(document: Json) -> list[LineFault]:
    listed = as_list(as_dict(document.get("errors")).get("data")) or as_list(document.get("errors"))
    found = [as_dict(fault) for fault in listed] or [as_dict(document.get("error"))]
    return [
        LineFault(
            label(fault.get("code")) or "", one_line(as_text(fault.get("message")) or "", 300), count(fault.get("line"))
        )
        for fault in found
        if fault
    ]
