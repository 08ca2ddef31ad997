"""Held-out accuracy of a student: questions asked, answers judged by harvest's checks, every batch kept at once.

An evaluation's key is its content: the weights, the questions, the prompt and the settings. The same one again
asks only what is still missing.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from finetune.progress import Progress
from finetune.render import LAYOUTS, Layout
from harvest.checks import Judge
from harvest.prompt import Prompt
from harvest.evaluation import evaluation_entry
from harvest.trace import Message, Outcome, Question, content_hash

Row = dict[str, Any]
"""One stored answer: question_id, sample, outcome, finish_reason, output_tokens, text, cost_pusd."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer that is wanted."""

    question: Question
    sample: int
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Generated:
    """What came of it. Token count with the end token, None where nobody said; cost None where unknown."""

    text: str
    is_finished: bool
    """False: cut at max_tokens, before the student ended its turn."""
    output_tokens: int | None
    cost_pusd: int | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. Temperature 0 is greedy."""

    max_tokens: int = 1024
    temperature: float = 0.0
    samples: int = 1
    seed: int = 0


class Engine(Protocol):
    """What answers: local weights by transformers, or an endpoint."""

    @property
    def model(self) -> str:
        """The name in the report."""

    @property
    def about(self) -> Mapping[str, Any]:
        """All of it that bears on the answers: weights by checksum, engine, precision. Part of the key."""

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """Each of `asked` once, batch by batch, in whatever order suits the engine."""


class Record(Protocol):
    """Where answers are kept: a run in a store, or this process alone."""

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None: ...
    def answers(self, key: str) -> list[Row]: ...


class Memory:
    """A record for those who have no run: gone with the process."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {}

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows.setdefault(key, []).extend(map(dict, rows))

    def answers(self, key: str) -> list[Row]:
        return self.rows.get(key, [])


def evaluate(
    engine: Engine,
    questions: Sequence[Question],
    source: str,
    prompt: Prompt,
    sampling: Sampling,
    record: Record,
    progress: Progress,
    label: str | None = None,
    layout: Layout | None = None,
) -> dict[str, Any]:
    """Asks what `record` does not have yet, judges it, keeps it; the report's evaluation entry of all of it.

    `source` names the questions in the report; `label` is "before" or "after", for the gain; `layout` the marks
    that the student learnt, beside the known ones. The entry's `samples` and its settings' `asked` (answers in
    all) are those of every start together; what brought no answer stays missing.
    """
    content = {
        "engine": dict(engine.about),
        "questions": content_hash([q.model_dump(mode="json") for q in questions]),
        "prompt_sha256": prompt.sha256,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
    }
    key = content_hash(content)
    names = {"model": engine.model, "questions": source, "label": label, "prompt": prompt.name}
    there = {(r["question_id"], r["sample"]) for r in record.answers(key)}
    samples = max(sampling.samples, *(1 + s for _, s in there), 1)
    wanted = samples * len(questions)
    settings = {
        **content,
        **names,
        "questions_sha256": content["questions"],
        "samples": samples,
        "asked": wanted,
    }
    if there:
        record.put(key, settings, [])
    asked = [
        Asked(q, s, prompt.student_messages(q))
        for q in questions
        for s in range(sampling.samples)
        if (q.id, s) not in there
    ]
    started, tokens, right, done = time.monotonic(), 0, 0, len(there)
    progress.begin(len(there) + len(asked), len(there))
    try:
        with Judge() as judge:
            for batch in engine.answers(asked, sampling) if asked else ():
                if not batch:
                    continue
                rows = [judged(judge, a, g, layout) for a, g in batch]
                record.put(key, settings, rows)  # with the first of them, so that no empty evaluation is kept
                done += len(rows)
                tokens += sum(r["output_tokens"] or 0 for r in rows)
                right += sum(r["outcome"] == Outcome.RIGHT for r in rows)
                pace = tokens / (time.monotonic() - started)
                progress.note(done, f"{right}/{done - len(there)} right · {pace:,.0f} tokens/s")
    finally:
        progress.close()
    if missing := len(asked) + len(there) - done:
        progress.say(f"{missing} of {len(asked) + len(there)} were not answered: the same command asks them again")
    return evaluation_entry(settings, record.answers(key))


def judged(judge: Judge, asked: Asked, generated: Generated, layout: Layout | None = None) -> Row:
    """An answer and its verdict as it is kept. One that was cut short has no answer to judge."""
    outcome = Outcome.NO_ANSWER
    if generated.is_finished and (answer := after_chain(generated.text, layout)) is not None:
        outcome = judge.judge_now(asked.question, answer).outcome
    return {
        "question_id": asked.question.id,
        "sample": asked.sample,
        "outcome": str(outcome),
        "finish_reason": "stop" if generated.is_finished else "length",
        "output_tokens": generated.output_tokens,
        "text": generated.text,
        "cost_pusd": generated.cost_pusd,
    }


def after_chain(text: str, own: Layout | None = None) -> str | None:
    """The answer after the chain, the whole text where there is none, None where the chain was never ended.

    In the marks of `own`, or in known ones.
    """
    for layout in (*([own] if own else []), *LAYOUTS.values()):
        try:
            parts = layout.read(text)
        except ValueError:
            # A closing mark alone: some templates open the chain in the prompt.
            _, closed, answer = text.rpartition(layout.close.strip())
            return answer if closed and answer.strip() else None
        if parts is not None:
            return parts[1]
    return text


def in_words(found: Mapping[str, Any]) -> str:
    """The entry for a reader."""
    if found["accuracy"] is None:
        return f"{found['model']} on {found['questions']}: no answers"
    share, low, high = (f"{100 * found[k]:.1f}%" for k in ("accuracy", "low", "high"))
    tokens = "unknown" if found["mean_output_tokens"] is None else f"{found['mean_output_tokens']:.0f}"
    several = f", {found['samples']} samples each" if found["samples"] > 1 else ""
    return (
        f"{found['model']} on {found['n']} questions ({found['questions']}{several}): {share} right, "
        f"95% interval {low} to {high}; {tokens} tokens an answer, {100 * found['unfinished']:.1f}% unfinished"
    )
