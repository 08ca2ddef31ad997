"""The nouns: a question is asked, an attempt is one answer bought for it, a verdict is what one check says
of an attempt, a trace is an attempt that passed. Everything else in winnow is a step between two of them.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from harvest.core.money import Usage

Message = Mapping[str, str]
"""`role` and `content`, as it is sent."""


class Question(BaseModel):
    """One row to ask about, and what its check needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Names the question in a run; without one, a hash of the content."""
    question: str
    answer: str | None = None
    """The gold answer. None where a check needs none."""
    choices: tuple[str, ...] | None = None
    tests: str | tuple[str, ...] | None = None
    """Python that defines `check(candidate)`, or a list of asserts."""
    entry_point: str | None = None
    cases: tuple[dict[str, str], ...] | None = None
    """`stdin` and `stdout` of each case."""
    reasoning_gym: dict[str, Any] | None = None
    """Task and entry, for the task's own scorer."""
    check: str
    """The check that judges its attempts: a name in `harvest.checks.CHECKS`."""
    domain: str | None = None
    source: str | None = None
    licence: str | None = None
    difficulty: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """All that came back for one try, read from whatever the endpoint sent. A pure value.

    `reasoning` is the chain as the endpoint set it apart, None where it did not; `reasoning_kind` says
    whether that is the real chain, a summary of a hidden one, or an encrypted one (whose text stays None).
    `finish_reason` is the endpoint's own word. `extra` keeps the fields that nobody here reads.
    """

    answer: str
    reasoning: str | None = None
    reasoning_kind: str | None = None
    """"chain", "summary", "encrypted" or None."""
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    raw_usage: Mapping[str, Any] | None = None
    logprobs: tuple[Mapping[str, Any], ...] | None = None
    """One entry a sampled token: token, logprob, id (None unless exact), top: [{token, logprob, id}]."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    served_model: str | None = None
    served_by: str | None = None
    system_fingerprint: str | None = None
    response_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


STUDENT = -1
"""The student's place, where teachers have 0, 1, …: its attempts are kept apart and never are traces."""


Kind = Literal["teacher", "student", "judge"]
"""What an attempt is for: a teacher's may become a trace, the student's shows whether it can answer the question
itself, a judge's says whether another attempt's answer is right."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One attempt to buy: its sample number, its limit, and of whom."""

    sample: int
    max_tokens: int
    teacher: int = 0
    """The place among the run's teachers, in the order written; or STUDENT."""
    about: int | None = None
    """The id of the attempt whose answer the judge is asked about. None: the question itself is asked."""

    @property
    def kind(self) -> Kind:
        if self.about is not None:
            return "judge"
        return "student" if self.teacher == STUDENT else "teacher"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer bought, or to be bought, for a question, in one try or several.

    `state` is `open` (no answer yet), `answered` or `failed` (no more tries in this start). `accepted` is None
    until it is judged; `reason` is what it failed first.
    """

    id: int
    sample: int
    max_tokens: int
    state: str
    accepted: bool | None = None
    reason: str | None = None
    teacher: int = 0
    """Who was asked: the place among the run's teachers, or STUDENT, whose `accepted` says that it was right."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An accepted attempt as filters and selection see it: what its row would teach, and what was asked for it."""

    attempt_id: int
    sample: int
    question: Question
    asked: tuple[Message, ...]
    """The messages as the teacher was sent them."""
    reasoning: str | None
    """The chain as it would be trained, None where the answer has none."""
    answer: str
    reasoning_tokens: int | None
    output_tokens: int | None


class Outcome(StrEnum):
    """What a check found. ERROR: the check itself failed, which does not make the answer wrong."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check, in one version, says of one attempt."""

    check: str
    version: str
    outcome: Outcome
    detail: str
    """In words, for `harvest why`."""
    share: float | None = None
    """The share of the finished answers that are in the largest group. None for any check but a majority."""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.RIGHT


FILTER_REASONS = {
    "format": "format", "refusal": "refusal", "language": "language", "repetition": "repeats", "meta": "meta",
    "leaked_gold": "leaked_gold", "no_chain": "no_chain",
}  # fmt: skip
"""The filters that `checks.require` may name, and the reason with which each rejects a right answer.

A chain that was stopped in a loop has the reason `repetition`. An answer that repeats itself and ended by itself has
`repeats`: another sample is worth asking."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether one attempt is accepted, with the verdicts that say so."""

    attempt_id: int
    verdicts: Sequence[Verdict]
    reason: str | None
    """Why the attempt is rejected: the first thing that it failed. None: it is accepted."""

    @property
    def accepted(self) -> bool:
        return self.reason is None


def content_hash(value: Any) -> str:
    """The SHA-256 of a JSON value, whatever the order of its keys, with the name of the algorithm in front."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
