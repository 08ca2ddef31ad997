"""Measures accuracy on held-out questions.

It asks for the missing answers, has them judged, and keeps every batch at once. An evaluation's key is the hash of its
content: the weights, the questions, the prompt and the settings. If the same evaluation is started again, it asks only
for the answers that are missing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from finetune.measure.engine import Asked, Engine, Generated
from finetune.measure.sampling import Sampling
from finetune.measure.verdicts import Row, judged, judged_again, majorities
from finetune.progress import Progress
from finetune.rows.layout import Layout
from harvest.checks import CHECKS, CheckPool
from harvest.core.nouns import Outcome, Question, content_hash
from harvest.endpoint import Prompt
from harvest.report.evaluations import evaluation_entry


@dataclass(frozen=True, slots=True)
class Measured:
    """Holds a finished evaluation: its settings and all of its answers, as stored."""

    key: str
    settings: Row
    answers: list[Row]

    @property
    def entry(self) -> Row:
        """Returns the evaluation's entry in the report."""
        return evaluation_entry(self.settings, self.answers)


class Record(Protocol):
    """A record keeps the latest answer of each question and sample. Usually it is a run in a store."""

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None: ...
    def answers(self, key: str) -> list[Row]: ...
    def settings(self, key: str) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation says what is asked, and how. An Engine says who answers."""

    questions: Sequence[Question]
    source: str
    """The name of the questions in the report."""
    prompt: Prompt
    sampling: Sampling
    label: str | None = None
    """The label is "before", "after" or "teacher"; None when it is none of them."""
    layout: Layout | None = None
    """The marks around a chain that the student learnt. The marks that are known by name are recognised too."""
    came_from: Sequence[str] = ()
    """The checksums of the weights that the student came from, the nearest first; empty when they are not known."""

    def content(self, about: Mapping[str, Any]) -> Row:
        """Returns all that changes an answer. Its hash is the evaluation's key. `about` is the engine's.

        The number of samples is not part of it.
        """
        return {
            "engine": dict(about),
            "questions": content_hash([q.model_dump(mode="json") for q in self.questions]),
            "prompt_sha256": self.prompt.sha256,
            **self.sampling.content,
        }

    def settings(self, content: Row, model: str, samples: int) -> Row:
        """Returns the settings that the store keeps beside the answers.

        `samples` is how many answers to each question were asked for, in all starts of this evaluation together.
        """
        checks = sorted({q.check for q in self.questions} & CHECKS.keys())
        return {
            **content,
            "checks": {name: CHECKS[name].version for name in checks},
            "questions_sha256": content["questions"],
            "samples": samples,
            "asked": samples * len(self.questions),
            "model": model,
            "questions": self.source,
            "label": self.label,
            "came_from": list(self.came_from),
            "prompt": self.prompt.name,
        }


def evaluate(engine: Engine, evaluation: Evaluation, record: Record, progress: Progress) -> Measured:
    """Asks for the answers that `record` does not have yet, and returns the whole evaluation.

    Stored answers are judged again if other versions of the checks have judged them. A question that got no answer
    stays missing.
    """
    questions, sampling, layout = evaluation.questions, evaluation.sampling, evaluation.layout
    content = evaluation.content(engine.about)
    key = content_hash(content)
    there = {(r["question_id"], r["sample"]) for r in record.answers(key)}
    samples = max(sampling.samples, *(1 + s for _, s in there), 1)
    before = record.settings(key)
    settings = {**evaluation.settings(content, engine.model, samples), "answered_by": before.get("answered_by")}
    asked = [
        Asked(q, s, evaluation.prompt.student_messages(q))
        for q in questions
        for s in range(sampling.samples)
        if (q.id, s) not in there
    ]
    with CheckPool() as pool:
        if there:
            is_same = before.get("checks") == settings["checks"]
            record.put(key, settings, [] if is_same else judged_again(pool, questions, record.answers(key), layout))

        def keep(batch: Sequence[tuple[Asked, Generated]]) -> list[Row]:
            rows = judged(pool, batch, layout)
            record.put(key, settings, rows)  # with the first answers, so that no empty evaluation is kept
            return rows

        answered = _ask(engine, asked, sampling, keep, progress, len(there))
        if answers := record.answers(key):
            if samples > 2:
                settings["majority"] = majorities(pool, questions, answers, layout)
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
    """Asks the engine and keeps each batch at once. Returns how many answers came."""
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
