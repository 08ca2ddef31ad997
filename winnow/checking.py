"""Judges one answer, as `collect` would."""

from collections.abc import Mapping
from typing import Any

from harvest.checks import ROW_RULES, CheckPool
from harvest.core.errors import QuestionError
from harvest.core.nouns import Verdict
from harvest.questions.rows import BadRow, question_of


def check(question: str | Mapping[str, Any], answer: str, **fields: Any) -> Verdict:
    """Returns the verdict on an answer: `passed`, `outcome`, and `detail` in words.

    `question` is a row with the fields of a question (`question`, `answer`, `choices`, `tests`, …), or its text alone;
    `fields` stand beside it: `check("What is 2 + 2?", "It is \\\\boxed{4}.", gold="4")`. `gold` is another name for the
    field `answer`. Raises QuestionError when the row is no question that can be judged.

    A program that a model wrote runs in the sandbox, and SandboxUnavailable says where there is none.
    """
    row = {"question": question} if isinstance(question, str) else dict(question)
    row |= {"answer" if name == "gold" else name: value for name, value in fields.items()}
    try:
        asked = question_of(row, ROW_RULES)
    except BadRow as e:
        raise QuestionError(str(e)) from None
    with CheckPool(workers=1) as pool:
        return pool.check_now(asked, answer)
