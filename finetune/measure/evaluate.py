"""Held-out accuracy of a student: questions asked, answers judged by harvest's checks, every batch kept at once.

An evaluation's key is its content: the weights, the questions, the prompt and the settings. The same one again
asks only what is still missing.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from finetune.measure.sampling import Sampling
from finetune.progress import Progress
from finetune.rows.layout import LAYOUTS, Layout
from harvest.answers.repetition import CHARS_OF_CUT, loop_at_end
from harvest.checks import CHECKS, CheckPool
from harvest.core.nouns import Message, Outcome, Question, content_hash
from harvest.endpoint import REPETITION, Prompt
from harvest.report.evaluations import evaluation_entry

CHANNEL, FINAL_CHANNEL = "<|channel|>", "<|channel|>final<|message|>"
"""What gpt-oss writes before its chain and before its answer. https://cookbook.openai.com/articles/openai-harmony"""
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
    is_looping: bool = False
    """Broken off by the endpoint's stream, since it repeated itself."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An evaluation with all of its answers, as the store has it."""

    key: str
    settings: Row
    answers: list[Row]

    @property
    def entry(self) -> Row:
        """The report's evaluation entry."""
        return evaluation_entry(self.settings, self.answers)


class Engine(Protocol):
    """What answers: local weights by transformers, or an endpoint."""

    @property
    def model(self) -> str:
        """The name in the report."""

    @property
    def about(self) -> Mapping[str, Any]:
        """All of it that bears on the answers: weights by checksum, engine, precision. Part of the key."""

    @property
    def beside(self) -> Mapping[str, Any]:
        """What else is worth knowing of how it answered: batch size, hardware, who served. No part of the key."""

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """Each of `asked` once, batch by batch, in whatever order suits the engine."""


class Record(Protocol):
    """Where answers are kept, each (question, sample) once, the latest: a run in a store, or files beside the runs."""

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None: ...
    def answers(self, key: str) -> list[Row]: ...
    def settings(self, key: str) -> Mapping[str, Any]: ...


def key_of(engine: Engine, questions: Sequence[Question], prompt: Prompt, sampling: Sampling) -> tuple[str, Row]:
    """(an evaluation's key, what it is made of). How many samples there are to be is no part of it."""
    content = {
        "engine": dict(engine.about),
        "questions": content_hash([q.model_dump(mode="json") for q in questions]),
        "prompt_sha256": prompt.sha256,
        **sampling.content,
    }
    return content_hash(content), content


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
    began_with: str | None = None,
) -> Measured:
    """Asks what `record` does not have yet, judges it, keeps it; all of it. What is there and was judged by other
    versions of the checks is judged again.

    `source` names the questions in the report; `label` is "before", "after" or "teacher"; `layout` the marks
    that the student learnt, beside the known ones; `began_with` the checksum of the weights that its training began
    with. `samples` and `asked` (answers in all) in the settings are those
    of every start together; what brought no answer stays missing.
    """
    key, content = key_of(engine, questions, prompt, sampling)
    there = {(r["question_id"], r["sample"]) for r in record.answers(key)}
    samples = max(sampling.samples, *(1 + s for _, s in there), 1)
    settings = {
        **content,
        "model": engine.model,
        "questions": source,
        "label": label,
        "began_with": began_with,
        "checks": {name: CHECKS[name].version for name in sorted({q.check for q in questions}) if name in CHECKS},
        "prompt": prompt.name,
        "questions_sha256": content["questions"],
        "samples": samples,
        "asked": samples * len(questions),
        "answered_by": record.settings(key).get("answered_by"),
    }
    asked = [
        Asked(q, s, prompt.student_messages(q))
        for q in questions
        for s in range(sampling.samples)
        if (q.id, s) not in there
    ]
    with CheckPool() as judge:
        if there:
            is_same = record.settings(key).get("checks") == settings["checks"]
            record.put(key, settings, [] if is_same else _again(judge, questions, record.answers(key), layout))

        def keep(batch: Sequence[tuple[Asked, Generated]]) -> list[Row]:
            rows = judged(judge, batch, layout)
            record.put(key, settings, rows)  # with the first of them, so that no empty evaluation is kept
            return rows

        answered = _ask(engine, asked, sampling, keep, progress, len(there))
        answers = record.answers(key)
        if answers:
            if samples > 2:
                settings["majority"] = majorities(judge, questions, answers, layout)
            if asked:
                settings["answered_by"] = dict(engine.beside)
            record.put(key, settings, [])
    if missing := len(asked) - answered:
        progress.say(f"{missing} of {len(asked) + len(there)} were not answered: the same command asks them again")
    return Measured(key, settings, answers)


def _ask(
    engine: Engine,
    asked: Sequence[Asked],
    sampling: Sampling,
    keep: Callable[[Sequence[tuple[Asked, Generated]]], list[Row]],
    progress: Progress,
    there: int,
) -> int:
    """How many were answered, each batch kept at once."""
    started, tokens, right, done = time.monotonic(), 0, 0, 0
    progress.begin(there + len(asked), there)
    try:
        for batch in engine.answers(asked, sampling) if asked else ():
            if not batch:
                continue
            rows = keep(batch)
            done += len(rows)
            tokens += sum(r["output_tokens"] or 0 for r in rows)
            right += sum(r["outcome"] == Outcome.RIGHT for r in rows)
            pace = tokens / (time.monotonic() - started)
            progress.note(there + done, f"{100 * right / done:.1f}% of {done} right · {pace:,.0f} tokens/s")
    finally:
        progress.close()
    return done


def judged(judge: CheckPool, answers: Sequence[tuple[Asked, Generated]], layout: Layout | None = None) -> list[Row]:
    """Answers and their verdicts as they are kept. One that was cut short has no answer to judge."""
    begun = []
    for asked, generated in answers:
        answer = after_chain(generated.text, layout) if generated.is_finished else None
        begun.append(None if answer is None else judge.begin(asked.question, answer))
    return [
        {
            "question_id": asked.question.id,
            "sample": asked.sample,
            "outcome": str(Outcome.NO_ANSWER if verdict is None else verdict().outcome),
            "finish_reason": _finish(generated),
            "output_tokens": generated.output_tokens,
            "text": generated.text,
            "cost_pusd": generated.cost_pusd,
        }
        for (asked, generated), verdict in zip(answers, begun, strict=True)
    ]


def _again(judge: CheckPool, questions: Sequence[Question], rows: Sequence[Row], layout: Layout | None) -> list[Row]:
    """Stored answers by today's checks: they were judged by other versions, and what is asked next will not be."""
    by_id = {q.id: q for q in questions}
    answers = [
        (
            Asked(by_id[r["question_id"]], r["sample"], ()),
            Generated(
                r["text"],
                r["finish_reason"] == "stop",
                r["output_tokens"],
                r["cost_pusd"],
                r["finish_reason"] == REPETITION,
            ),
        )
        for r in rows
    ]
    return judged(judge, answers, layout)


def _finish(generated: Generated) -> str:
    if generated.is_finished:
        return "stop"
    return REPETITION if generated.is_looping or loop_at_end(generated.text, CHARS_OF_CUT) else "length"


def majorities(
    judge: CheckPool, questions: Sequence[Question], answers: Sequence[Row], layout: Layout | None = None
) -> dict[str, float] | None:
    """For each question whether what most of its samples state is right: 1 or 0, a tie by its share of right.

    Answers that were cut short or state nothing vote for nothing. Programs state no value: None where all are.
    """
    by_question: dict[str, list[Row]] = {}
    for row in answers:
        by_question.setdefault(row["question_id"], []).append(row)
    found = {}
    for question in questions:
        if question.check == "code" or question.id not in by_question:
            continue
        texts, right = [], []
        for row in by_question[question.id]:
            if row["finish_reason"] == "stop" and (answer := after_chain(row["text"], layout)) is not None:
                texts.append(answer)
                right.append(row["outcome"] == Outcome.RIGHT)
        groups = judge.agreeing(question, texts)
        most = [g for g in groups if len(g) == len(groups[0])]
        wins = [2 * sum(right[p] for p in g) > len(g) for g in most]
        found[question.id] = sum(wins) / len(wins) if wins else 0.0
    return found or None


def after_chain(text: str, own: Layout | None = None) -> str | None:
    """The answer after the chain, the whole text where there is none, None where the chain was never ended.

    In the marks of `own`, or in known ones; of gpt-oss's channels the final one.
    """
    if text.lstrip().startswith(CHANNEL):
        _, final, text = text.rpartition(FINAL_CHANNEL)
        if not final:
            return None
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
