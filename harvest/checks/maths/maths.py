r"""The check "math" compares numbers exactly and at once, and all other forms part by part, with algebra in a worker.

Older checks accept some wrong answers that this check refuses: an unclosed box, two different answers, 0.5 for 50, a
value that is only close to an exact value, a variable read as a unit. Older checks miss some right answers that this
check accepts: answers without a box, mixed numbers, magnitudes ("3 million"), digit separators, words.
"""

from harvest.answers.boxes import MOST_CHARACTERS
from harvest.answers.stated import Stated, final_answer
from harvest.checks.check import Check, Finding, Work, no_answer, shown
from harvest.checks.maths.compare import MOST_NESTING, AtSight, Undecided, compare, nesting, repeats_question
from harvest.checks.maths.conclusion import stated_value
from harvest.core.nouns import Outcome, Question


class Maths(Check):
    """The check "math"."""

    name = "math"
    version = "5"

    def quick(self, question: Question, answer: str) -> Finding | Work:
        gold = question.answer or ""
        if "\\boxed" in gold:
            gold = final_answer(gold) or gold
        stated = stated_value(answer, gold)
        if stated.value is None:
            return no_answer(stated.why)
        if len(stated.value) > MOST_CHARACTERS:
            return Outcome.ERROR, f"the {stated.how} answer is longer than {MOST_CHARACTERS:,} characters"
        described = _described(stated, gold)
        values = [value for value in (stated.value, stated.also) if value]
        if any(nesting(value) > MOST_NESTING for value in (gold, *values)):
            return Outcome.ERROR, f"nested too deeply to read: {described}"
        open_values = []
        for value in values:
            try:
                right = compare(gold, value, question.question, AtSight(question.question))
            except Undecided:
                open_values.append(value)
                continue
            if not right:
                two = "two different answers: " if len(values) > 1 else ""
                return Outcome.WRONG, two + described + repeats_question(gold, value, question.question)
        if not open_values:
            return Outcome.RIGHT, described
        return {"gold": gold, "values": open_values, "question": question.question, "described": described}

    def work(self, work: Work) -> Finding:
        from harvest.checks.maths import symbolic

        described = str(work["described"])
        try:
            for value in work["values"]:
                if not compare(work["gold"], value, work["question"], symbolic.Symbolic(work["question"])):
                    return Outcome.WRONG, described
        except symbolic.Unreadable as unreadable:
            return Outcome.WRONG, f"{described} (cannot be read as maths: {shown(str(unreadable), 40)})"
        except (RecursionError, MemoryError, OverflowError, ValueError) as error:
            return Outcome.ERROR, f"{described} (cannot be evaluated: {type(error).__name__} {shown(str(error))})"
        return Outcome.RIGHT, described

    def prepare(self) -> None:
        from harvest.checks.maths import symbolic

        symbolic.Symbolic("").equal(r"\sqrt{2}", r"\frac{2}{\sqrt{2}}")


def _described(stated: Stated, gold: str) -> str:
    words = f"{stated.how} {shown(stated.value or '')}"
    if stated.also:
        words += f", then stated {shown(stated.also)}"
    return f"{words}, gold {shown(gold)}"
