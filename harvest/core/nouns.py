"""Defines the nouns: question, attempt, verdict, trace, and what belongs to them.

A question is asked. An attempt is one answer that is bought for it. A verdict is what one check says about an attempt.
A trace is an attempt that passed. Everything else in winnow is a step between two of these nouns.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntFlag, StrEnum
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from harvest.core.money import Usage

Message = Mapping[str, str]
"""A message has the keys `role` and `content`, as they are sent."""


class Question(BaseModel):
    """Holds one row to ask about, and what its check needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Names the question in a run. It is a hash of the content if the row gives no id."""
    question: str
    answer: str | None = None
    """The gold answer. None: the row has none."""
    aliases: tuple[str, ...] | None = None
    """More right answers. An answer is right if its check accepts it for the gold answer or for one of these."""
    choices: tuple[str, ...] | None = None
    tests: str | tuple[str, ...] | None = None
    """Either Python code that defines `check(candidate)`, or a list of asserts."""
    entry_point: str | None = None
    cases: tuple[dict[str, str], ...] | None = None
    """Each case has `stdin` and `stdout`, or `arguments` and `returns`."""
    reasoning_gym: dict[str, Any] | None = None
    """The task and the entry, which the task's own scorer needs."""
    check: str
    """The name (in `harvest.checks.CHECKS`) of the check that judges the question's attempts."""
    domain: str | None = None
    source: str | None = None
    licence: str | None = None
    difficulty: str | None = None


ClaimKind = Literal["usage", "limit", "cost", "tier", "part"]


class Claim(NamedTuple):
    """Holds what an endpoint said of one reply and is not booked as it was said (harvest/core/claims.py).

    The kinds: `usage`: token counts that the text cannot have. `limit`: a text that is too long for max_tokens, so that
    the worst case is no bound. `cost`: a cost of 0 although the price is known. `tier`: a service tier that nobody
    asked for or that has no price. `part`: a part of the usage that has no price.
    """

    kind: ClaimKind
    words: str


class Seam(NamedTuple):
    """Says where the second of two replies begins in an answer that was cut at its limit and continued."""

    reasoning_characters: int
    """How many characters of the chain came with the first reply."""
    answer_characters: int
    """How many characters of the answer did."""
    response_id: str | None
    """The first reply's id at the endpoint."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Holds the log-probabilities of N sampled tokens, as little-endian numbers.

    Soft targets need exact token ids, which the endpoint itself must send. Without them, only `logprobs` is filled.
    """

    logprobs: bytes
    """The log-probability of each sampled token: float32 [N]. NaN: the endpoint did not say it."""
    ids: bytes | None = None
    """The id of each sampled token: int32 [N]. None: the endpoint did not send ids."""
    width: int = 0
    """K, the most likely tokens that are kept for each sampled one."""
    top_ids: bytes = b""
    """Their ids: int32 [N, K]. -1: there are fewer of them."""
    top_logprobs: bytes = b""
    """Their log-probabilities: float16 [N, K]. -inf: there are fewer of them."""
    pieces: Mapping[int, bytes] = field(default_factory=dict)
    """The bytes of each of these tokens, by id, as far as the endpoint sent them."""

    @property
    def tokens(self) -> int:
        """Returns how many tokens were sampled."""
        return len(self.logprobs) // 4


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
    """"chain", "summary" or "encrypted". None: there is no chain."""
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    raw_usage: Mapping[str, Any] | None = None
    logprobs: TokenLogprobs | None = None
    """They are not read back with a reply, which hardly anyone reads for them: `Store.token_logprobs` reads them."""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    served_model: str | None = None
    served_by: str | None = None
    system_fingerprint: str | None = None
    response_id: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    seam: Seam | None = None
    """None: the answer came in one reply. Otherwise two replies are joined here, and the usage is their sum."""


Origin = Mapping[str, str | None]
"""Where a public answer is from: `set`, `card` (a page), `licence`, `teacher` (who wrote it) and `row`."""


def origin_of(reply: Reply, teacher: int, *, from_public: bool) -> Origin | None:
    """Returns where an answer is from that nobody was asked for; None if somebody was. `from_public`: all answers of
    the run are from public sets. (An endpoint may send a field of that name: only ours is read.)"""
    origin: Origin | None = reply.extra.get("public") if teacher == PUBLIC or from_public else None
    return origin


def licence_of(of_question: str | None, public: Origin | None) -> str | None:
    """Returns the licence of a row: the question's, with that of a public answer beside it where it is another."""
    if public is None or public["licence"] == of_question:
        return of_question
    return public["licence"] if of_question is None else f"{of_question}; of the answer: {public['licence']}"


STUDENT = -1
"""Takes the place of a teacher's index (0, 1, …) for the student. The student's attempts never become traces."""


PUBLIC = -2
"""Takes the place of a teacher's index for answers from public sets, which nobody was asked for. They may become
traces."""


Kind = Literal["teacher", "student", "judge", "rewriter"]
"""What an attempt is for. A teacher's attempt may become a trace. The student's attempt shows whether the student can
already answer the question. A judge's attempt says whether another attempt's answer is right. A rewriter's attempt is
another attempt's answer in the training format."""


CutPart = Literal["chain", "answer"]
"""The part of an answer in which it was cut at its token limit."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """Says how an answer that was cut at its limit is continued."""

    cut: Reply
    part: CutPart
    form: str
    """How the endpoint is asked to go on (harvest/endpoint/continuation.py has the forms)."""
    is_known: bool
    """Whether the endpoint is known to go on when it is asked so."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Says which attempt to buy next: its sample number, its token limit, and who is asked."""

    sample: int
    max_tokens: int
    teacher: int = 0
    """Who is asked: the index of a teacher in the order of RUN.toml, or STUDENT. PUBLIC: nobody is."""
    about: int | None = None
    """The id of the attempt about whose answer the judge or the rewriter is asked. None: the question itself is
    asked."""
    rewrites: bool = False
    """Whether the answer of `about` is to be rewritten. False: it is to be judged."""
    waited_s: float = 0.0
    """The longest deadline at which an earlier try of this attempt was late."""
    continues: int | None = None
    """The id of the attempt whose answer was cut and is continued here. `max_tokens` is the limit of the whole answer.
    None: the answer is asked for from its beginning."""

    @property
    def kind(self) -> Kind:
        if self.about is not None:
            return "rewriter" if self.rewrites else "judge"
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
    """Who was asked: the index of a teacher, STUDENT, or PUBLIC (nobody: the answer is from a public set). For the
    student, `accepted` says that the answer was right."""
    waited_s: float = 0.0
    """The longest deadline at which one of its tries was late."""
    continues: int | None = None
    """The id of the attempt whose cut answer this one continues; None if it began anew."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Describes an accepted attempt as filters and selection see it: what its row would teach, and what was asked."""

    attempt_id: int
    sample: int
    question: Question
    asked: tuple[Message, ...]
    """The messages that were sent to the teacher."""
    reasoning: str | None
    """The chain as it would be trained. None: the answer has no chain."""
    answer: str
    reasoning_tokens: int | None
    output_tokens: int | None


class RewrittenBy(IntFlag):
    """Says who rewrote the text of an answer that is trained on. 0: nobody did."""

    RULES = 1
    MODEL = 2


HUMAN = "human"
"""The name of the check whose verdicts are the marks that a person set (harvest/judging/marks.py)."""


class Outcome(StrEnum):
    """Says what a check found. ERROR means that the check itself failed, which does not make the answer wrong. UNSURE
    means that a person looked and left the decision to the checks."""

    RIGHT = "right"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    ERROR = "error"
    UNSURE = "unsure"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Holds what one check, in one version, says about one attempt."""

    check: str
    version: str
    outcome: Outcome
    detail: str
    """Explains the outcome in words, for `harvest why`."""
    share: float | None = None
    """The share of the finished answers that are in the largest group. Only the majority check sets it."""

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
    """The first thing that the attempt failed. None: the attempt is accepted."""

    @property
    def accepted(self) -> bool:
        return self.reason is None


def cut_part(cut: Reply) -> CutPart | None:
    """Returns the part of an answer that its limit cut. None: it cannot be continued, since nothing of it came, or not
    all that the model had written (its chain is hidden)."""
    if cut.reasoning_kind not in (None, "chain") or cut.tool_calls:
        return None
    if cut.answer.strip():
        return "answer"
    return "chain" if cut.reasoning else None


def joined(cut: Reply, rest: Reply) -> Reply:
    """Returns one reply out of two: `rest` begins at the character after the last one of `cut`.

    The usage is the sum of both, and unknown where one is. All else is as the second reply has it.
    """
    chain, answer = cut.reasoning, cut.answer
    if rest.reasoning is not None:  # the cut was in the chain, even where the template had written its opening mark
        chain, answer = answer.lstrip() if chain is None else chain, ""
    has_chain = chain is not None or rest.reasoning is not None
    return replace(
        rest,
        reasoning=(chain or "") + (rest.reasoning or "") if has_chain else None,
        reasoning_kind="chain" if has_chain else rest.reasoning_kind,
        answer=answer + rest.answer,
        usage=_both(cut.usage, rest.usage),
        logprobs=None,  # each half has its own
        claims=(*cut.claims, *rest.claims),
        seam=Seam(len(chain or ""), len(answer), cut.response_id),
    )


def _both(one: Usage, other: Usage) -> Usage:
    pairs = {f.name: (getattr(one, f.name), getattr(other, f.name)) for f in fields(Usage)}
    return Usage(**{name: None if None in pair else sum(pair) for name, pair in pairs.items()})


def content_hash(value: Any) -> str:
    """Returns the SHA-256 of a JSON value, as `sha256:` and hex digits. The order of keys makes no difference."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
