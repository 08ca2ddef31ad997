"""Gives the time in the one form that winnow writes everywhere."""

from datetime import UTC, datetime


def now() -> str:
    """Returns the time now as text, in UTC and to the millisecond, e.g. `2026-11-24T13:28:04.363Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
