"""Whoever may be asked, as RUN.toml has them: teachers, the student, the judging model; and what is asked of them."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from harvest.core.settings import OneRow, Section

Usd = Annotated[Decimal, Field(ge=0, lt=1_000_000, allow_inf_nan=False, max_digits=18)]
Count = Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63 - 2**32, strict=True)]


class PriceSetting(Section):
    """USD for a million tokens, as decimal strings."""

    input: Usd
    """For a million input tokens."""
    cached_input: Usd | None = None
    """For a million input tokens that the endpoint had cached; the same as `input` where it is not given."""
    output: Usd
    """For a million output tokens, the reasoning among them."""


class Teacher(Section):
    """Who answers: an OpenAI-compatible endpoint, or the embedded local model."""

    local: str | None = None
    """A model of the table in harvest/local/models.py, served on this machine. In place of base_url and model."""
    base_url: str | None = None
    """The endpoint up to and without /chat/completions, e.g. https://api.example.com/v1."""
    model: str | None = None
    """The model's name there."""
    revision: str = ""
    """Part of an attempt's key. Set it anew when the provider moves the name to another model."""
    api_key_env: str | None = None
    """The environment variable that holds the key. A key itself is refused."""
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 256
    """A ceiling for requests in flight; the right number below it is found while running."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600
    """For the whole answer, from the first byte sent to the last byte received."""
    stream: bool = False
    """Ask for a stream of events rather than one body: what has come is kept when a connection breaks."""
    idle_timeout_s: Annotated[float, Field(ge=0, le=86_400)] = 300
    """With `stream`: a connection on which nothing came for so long, not even a keep-alive, is dead. Leave room for a
    queue at the endpoint, and for models that hide their chain and are silent while they think. 0 turns it off."""
    stop_repeating: bool = True
    """With `stream`: an answer that has run into a loop (the same words four times over and 6,000 characters long) is
    broken off. It is rejected as `repetition` and, since nobody says what it cost, in doubt at its worst case."""
    price_usd_per_mtok: Annotated[PriceSetting | None, OneRow()] = None
    """Optional: else what the endpoint says, else known prices, else unpriced."""
    terms: str | None = None
    """The provider's terms on training with its answers, as you read them; copied into every trace."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Teacher":
        if self.local is not None and (self.base_url or self.model):
            raise ValueError("has both `local` and `base_url`/`model`: keep one")
        if self.local is None and not (self.base_url and self.model):
            raise ValueError("needs either `local`, or `base_url` and `model`")
        if self.base_url and not _is_address(self.base_url):
            raise ValueError("base_url is no http(s) address, or has a ? or # in it: https://host/v1, without a query")
        if self.base_url and "@" in self.base_url.split("/")[2]:
            raise ValueError(
                "base_url holds a user or a password: put the key in a variable and name it in api_key_env"
            )
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise ValueError("api_key_env is the name of an environment variable, not a key")
        return self


def _max_price(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """OpenRouter's `provider.max_price`, where it is set."""
    provider = extra.get("provider")
    found = provider.get("max_price") if isinstance(provider, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _is_price(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return False
    return amount.is_finite() and 0 <= amount < 1_000_000


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
            and not {"?", "#", " "} & set(text)
        )
    except ValueError:
        return False


_SET_HERE = "is a setting of its own: write it under [sampling]"
_OURS = "is winnow's own part of a request: the worst case of an answer is reckoned from it"
NOT_EXTRA = {
    **dict.fromkeys(
        ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "reasoning_effort", "top_logprobs"), _SET_HERE
    ),
    **dict.fromkeys(("messages", "n", "best_of", "stream_options", "max_output_tokens"), _OURS),
    "max_completion_tokens": "write sampling.max_tokens: the name is learned from the endpoint",
    "logprobs": "write sampling.top_logprobs",
    "model": "write teacher.model",
    "stream": "write teacher.stream",
}
"""What `sampling.extra` may not hold."""


class Sampling(Section):
    """What is asked for. top_p, top_k, min_p, seed and reasoning_effort are sent only where set."""

    max_tokens: Count = 16384
    """Most output tokens of one answer, reasoning included. What bounds an answer's worst case."""
    temperature: Annotated[float, Field(ge=0, le=10)] | None = 0.7
    """Sampling temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling."""
    top_k: Count | None = None
    """Only the k likeliest tokens."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Only tokens at least this share as likely as the likeliest."""
    seed: Int64 | None = None
    """Sample n is sent seed + n, so that samples differ and a run can be repeated."""
    reasoning_effort: str | None = None
    """E.g. low, medium, high."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Anything else, put into the request body as it is."""
    samples: Count = 1
    """Most answers for one question. A failed or in-doubt try is none: it is tried again under the same key."""
    tries: Count = 5
    """Most tries for one answer in one start. Refusals for asking too fast are not counted."""
    stop_after_accepted: Count = 1
    """No more attempts for a question once so many are accepted."""
    give_up_after: Count | None = None
    """No more attempts for a question once so many of its answers were found wrong; all of `samples` if not given."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    """Store the teacher's top-k log-probabilities where the endpoint gives them."""
    when_truncated: Literal["give_up", "raise"] = "give_up"
    """An answer cut at max_tokens is never asked again with the same limit: give the question up, or raise
    the limit once to raised_max_tokens."""
    raised_max_tokens: Count | None = None
    """The limit of the one further attempt under when_truncated = "raise"; twice max_tokens if not given."""

    @property
    def raised_limit(self) -> int:
        """Under which a truncated answer is asked for once more; 0 where it is not."""
        return 0 if self.when_truncated == "give_up" else self.raised_max_tokens or 2 * self.max_tokens

    @model_validator(mode="after")
    def _extra_is_extra(self) -> "Sampling":
        for name in self.extra:
            if name in NOT_EXTRA:
                raise ValueError(f"extra.{name}: {NOT_EXTRA[name]}")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("extra holds something that JSON has not (a date, NaN)") from None
        for part, value in _max_price(self.extra).items():
            if not _is_price(value):
                raise ValueError(f"extra.provider.max_price.{part}: not an amount in USD")
        return self


SEEN_BY_NOBODY = {
    "samples", "tries", "stop_after_accepted", "give_up_after", "when_truncated", "raised_max_tokens",
}  # fmt: skip
"""Settings of [sampling] that are in no request."""


class OneTeacher(Teacher):
    """One of several, each with its own price, key and limits."""

    sampling: Annotated[Sampling, OneRow("[sampling]")] = Sampling()
    """What differs from [sampling] for this teacher, under [teachers.sampling]."""


class Student(Teacher):
    """The student, asked first: the teachers are asked only what it could not do. Its answers never become traces."""

    samples: Count = 1
    """Most tries of one question."""
    solved_after: Count = 1
    """So many right answers say that it can do the question."""
    keep_solved: Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False, max_digits=18)] = Decimal(0)
    """The share of the questions that it solves which the teachers are asked all the same, as a decimal string."""
    free: bool = False
    """It costs nothing: it is served on a machine of yours. Else its price is what is set or known."""
    sampling: Annotated[Sampling, OneRow("[sampling]")] = Sampling()
    """What differs for the student, under [student.sampling]. From [sampling] it has max_tokens, temperature, top_p,
    top_k, min_p, seed and tries."""

    @model_validator(mode="after")
    def _can_be_solved(self) -> "Student":
        if self.solved_after > self.samples:
            raise ValueError(f"solved_after = {self.solved_after} is more than samples = {self.samples}")
        if self.free and self.price_usd_per_mtok is not None:
            raise ValueError("has both `free` and a price: keep one")
        return self


INHERITED = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "tries")
"""What the student has from [sampling]: `extra` and `reasoning_effort` are words of the teacher's endpoint."""
NOT_THE_STUDENTS = {
    "samples": "write student.samples", "stop_after_accepted": "write student.solved_after",
    "give_up_after": "student.samples bounds its tries", "when_truncated": "a student is not asked again",
    "raised_max_tokens": "a student is not asked again",
}  # fmt: skip


class JudgeModel(Teacher):
    """A model that is asked about answers which the checks refused or could not read: off where it is not set."""

    max_tokens: Count = 1024
    """Most output tokens of one opinion, reasoning included. It answers with one word."""
    about: tuple[Literal["wrong", "no_answer", "timeout", "error"], ...] = ("wrong", "no_answer", "timeout", "error")
    """The verdicts of the checks that it is asked about."""
