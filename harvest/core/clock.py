"""The time as it is written everywhere."""

from datetime import UTC, datetime


def now() -> str:
    """UTC to the millisecond, e.g. `2026-11-24T13:28:04.363Z`."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
