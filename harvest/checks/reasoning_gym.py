"""The check "reasoning_gym": the task's own scorer must give the stated answer the full score.

Some scorers execute or evaluate the answer. So every scorer runs only in a worker.
"""

import re

from harvest.answers.boxes import MOST_CHARACTERS
from harvest.answers.quantities import parse_number
from harvest.answers.stated import after_thinking, find_stated, last_line
from harvest.checks.check import Check, Finding, Work, no_answer, shown
from harvest.core.nouns import Outcome, Question

_AFTER = re.compile(r"(?:final\s+)?answer[*_ ]*(?:is)?[*_ ]*:[*_ ]*", re.IGNORECASE)


class ReasoningGym(Check):
    """The check "reasoning_gym"."""

    name = "reasoning_gym"
    version = "2"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        row = question.reasoning_gym or {}
        entry, task = row.get("entry"), row.get("task")
        if not isinstance(entry, dict) or not isinstance(task, str):
            return Outcome.ERROR, "the question's reasoning_gym has no task or no entry"
        oracle = str(entry.get("answer", ""))
        stated = find_stated(answer)
        if stated.value is None:
            return no_answer(stated.why)
        value = stated.value
        if stated.how != "boxed" and "\n" in oracle.strip():
            value = _to_the_end(answer)
        if len(value) > MOST_CHARACTERS:
            return Outcome.ERROR, f"the {stated.how} answer is longer than {MOST_CHARACTERS:,} characters"
        described = f"{stated.how} {shown(value)}, {task} expects {shown(oracle)}"
        expected, given = parse_number(oracle), parse_number(value)
        if value.strip() == oracle.strip() or (
            expected and given and not given.name and expected.value == given.value and expected.unit == given.unit
        ):
            return Outcome.RIGHT, described
        return {"task": task, "entry": entry, "value": value, "described": described}

    def work(self, work: Work) -> Finding:
        from reasoning_gym import get_score_answer_fn

        score = get_score_answer_fn(work["task"])(answer=work["value"], entry=work["entry"])
        if score == 1.0:
            return Outcome.RIGHT, work["described"]
        return Outcome.WRONG, f"{work['described']} (score {score:.2f})"

    def prepare(self) -> None:
        import reasoning_gym  # noqa: F401

    def own_answer(self, question: Question) -> str | None:
        entry = (question.reasoning_gym or {}).get("entry")
        return f"Answer:\n{entry['answer']}" if isinstance(entry, dict) and "answer" in entry else None


def _to_the_end(answer: str) -> str:
    text = after_thinking(answer) or ""
    announced = list(_AFTER.finditer(text))
    value = text[announced[-1].end() :] if announced else text
    value = re.sub(r"^\s*```\w*\n|\n```\s*$", "", value.strip())
    return value.strip("\n") or last_line(text) or ""
