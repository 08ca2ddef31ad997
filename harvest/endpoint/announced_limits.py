"""Reads what an endpoint's headers say about its rate limits: how much of each limit is left, and when the whole limit
is free again. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Announced:
    """Says how much of each rate limit of an endpoint is left, and in how many seconds the whole limit is free again.

    A value is None when the headers do not say it.
    """

    requests: float | None = None
    requests_reset_s: float | None = None
    tokens: float | None = None
    tokens_reset_s: float | None = None


_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def announced(headers: Mapping[str, str], now_unix_s: float) -> Announced:
    """Returns the rate limits that the headers announce. A header that cannot be read is ignored.

    The names of the headers must be in lower case. OpenAI and Groq send `x-ratelimit-remaining-requests` and a span of
    time such as 6m0s. Anthropic sends `anthropic-ratelimit-requests-remaining` and a moment. OpenRouter sends
    `x-ratelimit-remaining` and milliseconds since 1970. Sources: platform.openai.com/docs/guides/rate-limits,
    docs.anthropic.com/en/api/rate-limits, openrouter.ai/docs/api-reference/limits.
    """

    def left_and_reset(kind: str) -> tuple[float | None, float | None]:
        for left, reset in (
            (f"x-ratelimit-remaining-{kind}", f"x-ratelimit-reset-{kind}"),
            (f"anthropic-ratelimit-{kind}-remaining", f"anthropic-ratelimit-{kind}-reset"),
            *([("x-ratelimit-remaining", "x-ratelimit-reset")] if kind == "requests" else []),
        ):
            if left in headers:
                return _number(headers[left]), _seconds(headers.get(reset, ""), now_unix_s)
        return None, None

    return Announced(*left_and_reset("requests"), *left_and_reset("tokens"))


def precise(retry_after_s: float | None, said: Announced) -> float | None:
    """Returns the seconds to wait, to the millisecond if the headers allow it, or None when `retry_after_s` is None.

    The header `retry-after` has whole seconds, rounded up. If the request limit is full again during the last of these
    seconds, the exact moment is taken.
    """
    reset_s = said.requests_reset_s
    if retry_after_s is None or reset_s is None or not 0 <= retry_after_s - reset_s <= 1 or retry_after_s % 1:
        return retry_after_s
    return math.ceil(reset_s * 1000) / 1000


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,15}(\.\d{1,6})?", text.strip()) else None


def _seconds(text: str, now_unix_s: float) -> float | None:
    text = text.strip()
    if (n := _number(text)) is not None:
        unix_s = n / 1000 if n > 1e11 else n
        return max(0.0, unix_s - now_unix_s) if unix_s > 1e9 else n
    if _SPAN.sub("", text) == "" and text:
        return sum(float(n) * _UNITS_S[unit] for n, unit in _SPAN.findall(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - now_unix_s) if moment.tzinfo else None
