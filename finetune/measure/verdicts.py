"""Judges the answers of an evaluation by harvest's checks."""

from collections.abc import Sequence
from typing import Any

from finetune.measure.engine import Asked, Generated
from finetune.rows.layout import LAYOUTS, Layout
from harvest.answers.repetition import CHARS_OF_CUT, loop_at_end
from harvest.checks import CheckPool
from harvest.core.nouns import Outcome, Question
from harvest.endpoint import REPETITION

CHANNEL, FINAL_CHANNEL = "<|channel|>", "<|channel|>final<|message|>"
"""gpt-oss writes these before its chain and before its answer. https://cookbook.openai.com/articles/openai-harmony"""
Row = dict[str, Any]
"""One stored answer has the keys question_id, sample, outcome, finish_reason, output_tokens, text and cost_pusd."""


def judged(pool: CheckPool, answers: Sequence[tuple[Asked, Generated]], layout: Layout | None = None) -> list[Row]:
    """Returns the answers with their verdicts, as the store keeps them. An answer that was cut short is not judged."""
    begun = []
    for asked, generated in answers:
        answer = after_chain(generated.text, layout) if generated.is_finished else None
        begun.append(None if answer is None else pool.begin(asked.question, answer))
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


def judged_again(
    pool: CheckPool, questions: Sequence[Question], rows: Sequence[Row], layout: Layout | None
) -> list[Row]:
    """Returns the stored answers with the verdicts of today's checks."""
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
    return judged(pool, answers, layout)


def _finish(generated: Generated) -> str:
    if generated.is_finished:
        return "stop"
    return REPETITION if generated.is_looping or loop_at_end(generated.text, CHARS_OF_CUT) else "length"


def majorities(
    pool: CheckPool, questions: Sequence[Question], answers: Sequence[Row], layout: Layout | None = None
) -> dict[str, float] | None:
    """Maps each question to 1 if the answer that most samples state is right, else to 0.

    The value in a tie is the share of the tied answers that are right. An answer that was cut short or states nothing
    has no vote. Programs state no value, so a question that asks for a program is left out; the result is None when no
    question is left.
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
        groups = pool.agreeing(question, texts)
        most = [g for g in groups if len(g) == len(groups[0])]
        wins = [2 * sum(right[p] for p in g) > len(g) for g in most]
        found[question.id] = sum(wins) / len(wins) if wins else 0.0
    return found or None


def after_chain(text: str, own: Layout | None = None) -> str | None:
    """Returns the answer after the chain: the whole text if it has no chain; None if the chain was never ended.

    The marks of `own` and the marks that are known by name count as marks of a chain. Of gpt-oss's channels the final
    one is the answer.
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
