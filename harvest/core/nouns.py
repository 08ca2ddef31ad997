"""Defines the nouns: question, attempt, verdict, trace, and what belongs to them.

A question is asked. An attempt is one answer that is bought for it. A verdict is what one check says about an attempt.
A trace is an attempt that passed. Everything else in winnow is a step between two of these nouns.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from harvest.core.money import Usage

Message = Mapping[str, str]
"""A message has the keys `role` and `content`, as they are sent."""


class Question(BaseModel):
    """Holds one row to ask about, and what its check needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """The id names the question in a run. When the row gives none, it is a hash of the content."""
    question: str
    answer: str | None = None
    """This is the gold answer. None: the row has no gold answer."""
    choices: tuple[str, ...] | None = None
    tests: str | tuple[str, ...] | None = None
    """These are either Python code that defines `check(candidate)`, or a list of asserts."""
    entry_point: str | None = None
    cases: tuple[dict[str, str], ...] | None = None
    """Each case has `stdin` and `stdout`, or `arguments` and `returns`."""
    reasoning_gym: dict[str, Any] | None = None
    """This holds the task and the entry, which the task's own scorer needs."""
    check: str
    """The check of this name judges the question's attempts. The names are in `harvest.checks.CHECKS`."""
    domain: str | None = None
    source: str | None = None
    licence: str | None = None
    difficulty: str | None = None


ClaimKind = Literal["usage", "limit", "cost", "tier", "part"]


class Claim(NamedTuple):
    """Holds what an endpoint said of one reply and is not booked as it was said (harvest/core/claims.py).

    The kinds: `usage` counts tokens that the text cannot have, `limit` is a text that max_tokens cannot make, so that
    its worst case bounds nothing, `cost` is nothing at a known price, `tier` is a service tier that nobody asked for or
    that has no price, `part` is a part of the usage that has no price.
    """

    kind: ClaimKind
    words: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Holds all that came back for one try, read from whatever the endpoint sent. A pure value.

    `reasoning` is the chain, if the endpoint sent it apart from the answer; else None. `reasoning_kind` says whether
    the endpoint sent the real chain, a summary of a hidden chain, or an encrypted chain; only the real chain is in
    `reasoning`. `finish_reason` is the endpoint's own word. `extra` keeps the fields that nobody here reads.
    """

    answer: str
    reasoning: str | None = None
    reasoning_kind: str | None = None
    """The kind is "chain", "summary" or "encrypted". None: there is no chain."""
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    raw_usage: Mapping[str, Any] | None = None
    logprobs: tuple[Mapping[str, Any], ...] | None = None
    """There is one entry for each sampled token: token, logprob, id (None unless exact), top: [{token, logprob,
    id}]."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    served_model: str | None = None
    served_by: str | None = None
    system_fingerprint: str | None = None
    response_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()


STUDENT = -1
"""This is the student's place; teachers have the places 0, 1, …. The student's attempts are kept apart and never become
traces."""


Kind = Literal["teacher", "student", "judge"]
"""The kind says what an attempt is for. A teacher's attempt may become a trace. The student's attempt shows whether the
student can already answer the question. A judge's attempt says whether another attempt's answer is right."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Says which attempt to buy next: its sample number, its token limit, and who is asked."""

    sample: int
    max_tokens: int
    teacher: int = 0
    """This is the place of who is asked: the teacher's index in the order of RUN.toml, or STUDENT."""
    about: int | None = None
    """The judge is asked about the answer of the attempt with this id. None: the question itself is asked."""

    @property
    def kind(self) -> Kind:
        if self.about is not None:
            return "judge"
        return "student" if self.teacher == STUDENT else "teacher"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Describes one answer to a question, which is bought, or will be bought, in one try or several.

    `state` is `open` (no answer yet), `answered`, or `failed` (no more tries until collect is started again).
    `accepted` is None until the answer is judged. `reason` is the first thing that the attempt failed; None: nothing.
    """

    id: int
    sample: int
    max_tokens: int
    state: str
    accepted: bool | None = None
    reason: str | None = None
    teacher: int = 0
    """This is the place of who was asked: a teacher's index, or STUDENT. For the student, `accepted` says that the
    answer was right."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Describes an accepted attempt as filters and selection see it: what its row would teach, and what was asked for
    it."""

    attempt_id: int
    sample: int
    question: Question
    asked: tuple[Message, ...]
    """These are the messages that were sent to the teacher."""
    reasoning: str | None
    """This is the chain as it would be trained. None: the answer has no chain."""
    answer: str
    reasoning_tokens: int | None
    output_tokens: int | None


class Outcome(StrEnum):
    """Says what a check found. ERROR means that the check itself failed, which does not make the answer wrong."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Holds what one check, in one version, says about one attempt."""

    check: str
    version: str
    outcome: Outcome
    detail: str
    """The detail explains the outcome in words, for `harvest why`."""
    share: float | None = None
    """Only the majority check sets this: the share of the finished answers that are in the largest group. Else it is
    None."""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.RIGHT


FILTER_REASONS = {
    "format": "format", "refusal": "refusal", "language": "language", "repetition": "repeats", "meta": "meta",
    "leaked_gold": "leaked_gold", "no_chain": "no_chain",
}  # fmt: skip
"""Maps each filter that `checks.require` may name to the reason with which it rejects a right answer.

An answer that was broken off in a loop has the reason `repetition`. An answer that repeats itself but ended by itself
has the reason `repeats`: asking for another sample is worth its cost.
"""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Says whether one attempt is accepted, and holds the verdicts that say so."""

    attempt_id: int
    verdicts: Sequence[Verdict]
    reason: str | None
    """The attempt is rejected for this reason: the first thing that it failed. None: the attempt is accepted."""

    @property
    def accepted(self) -> bool:
        return self.reason is None


def content_hash(value: Any) -> str:
    """Returns the SHA-256 of a JSON value, as `sha256:` and hex digits. The order of keys makes no difference."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
