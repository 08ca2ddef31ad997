"""Says which answers a model rewrites into the training format, what it reads, and whether its text is trained on.

The model copies: it may move the chain apart, put the result into a box and a program into a fenced block, and leave
out courtesies. It is not shown the gold answer. Its text is trained on only if the content is the same
(harvest/filters/content.py) and the check calls the new answer right. What the model writes is as hostile as what the
teacher wrote: it is compared and checked, and nothing in it is obeyed.
"""

import hashlib
import json
import re
from dataclasses import replace

from harvest.core.chain_marks import SOLUTION, THOUGHT
from harvest.core.config import Filters
from harvest.core.money import CHARACTERS_A_TOKEN
from harvest.core.nouns import Candidate, Message, Outcome, Reply, Verdict
from harvest.core.teachers import RewriteModel
from harvest.endpoint import Prompt, cut_short, text_of
from harvest.filters.content import Parts, what_changed
from harvest.filters.form import form
from harvest.filters.reading import Reading
from harvest.filters.rewrite import rewritten
from harvest.questions.rows import judged_together

NAME, VERSION = "rewriting", "1"
"""The name and the version of the verdicts on rewritings. RIGHT: the rewriting is trained on. WRONG: it is refused.
ERROR: there is none."""
IN_TWO_PARTS = (
    f"First the reasoning, between {THOUGHT[0]} and {THOUGHT[1]}. Then the final solution, between {SOLUTION[0]} and"
    f" {SOLUTION[1]}: what a reader needs who wants the result. Each part of the text stands in one of the two."
)
IN_ONE_PART = "The text alone, without tags around it."
BOX = r"Put \boxed{} around the final result where the text states it; leave it where it stands."
BLOCK = "Put the final program, line by line as it is, into one block that begins with ```python and ends with ```."


def is_asked(
    settings: RewriteModel, candidate: Candidate, verdict: Verdict, filters: Filters, *, by_rules: bool
) -> bool:
    """Whether the model rewrites an answer to which the check gave this verdict. `by_rules`: what the rules rewrite is
    not left to the model. Wrong answers, and answers that are judged together, are never rewritten."""
    if judged_together(candidate.question) or not candidate.answer.strip():
        return False
    if not verdict.passed:
        return verdict.outcome is Outcome.NO_ANSWER and "no_answer" in settings.about
    if "accepted" in settings.about:
        return True
    if by_rules and (found := rewritten(candidate)) is not None:
        candidate = replace(candidate, reasoning=found.reasoning, answer=found.answer)
    if "no_chain" in settings.about and not (candidate.reasoning or "").strip():
        return True
    return "format" in settings.about and form(Reading(candidate), filters) is not None


def is_too_long(settings: RewriteModel, candidate: Candidate) -> bool:
    """Whether the model could not write the answer within its limit of tokens."""
    return len(candidate.answer) / CHARACTERS_A_TOKEN > settings.max_tokens


def messages(prompt: Prompt, candidate: Candidate) -> list[Message]:
    """Returns the messages that the model reads. A chain that is apart already is not among them: it stays as it is.

    The mark around the text is a hash of the texts, so the same texts give the same request, and no text can hold its
    own mark.
    """
    question = candidate.question
    asks_for_box = any("\\boxed" in message["content"] for message in candidate.asked)
    values = {
        "question": text_of(question),
        "text": candidate.answer,
        "layout": IN_ONE_PART if _has_chain(candidate) else IN_TWO_PARTS,
        "form": BLOCK if question.check == "code" else BOX if asks_for_box else "",
    }
    values["mark"] = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]
    return [
        {"role": role, "content": re.sub(r"\{(question|text|layout|form|mark)\}", lambda m: values[m[1]], text)}
        for role, text in prompt.parts
    ]


def applied(candidate: Candidate, rewriting: Reply | None) -> Candidate:
    """Returns the candidate with a model's rewriting in place of its texts."""
    if rewriting is None:
        return candidate
    reasoning, answer = parts_of_rewriting(candidate, rewriting)
    return replace(candidate, reasoning=reasoning, answer=answer)


def parts_of_rewriting(candidate: Candidate, rewriting: Reply) -> Parts:
    """Returns (chain, answer) of a rewriting. A chain that was apart stays as the teacher wrote it."""
    text = rewriting.answer.strip()
    if _has_chain(candidate):
        return candidate.reasoning, _inside(text)
    head, closing, tail = text.partition(THOUGHT[1])
    before, opening, chain = head.partition(THOUGHT[0])
    if closing and opening and chain.strip() and not before.strip():
        return chain.strip(), _inside(tail.strip())
    return candidate.reasoning, _inside(text)


def fault(candidate: Candidate, rewriting: Reply) -> str | None:
    """Returns in words why a rewriting is refused before its answer is checked; None if it may be checked."""
    if cut_short(rewriting):
        return "it was cut short"
    return what_changed((candidate.reasoning, candidate.answer), parts_of_rewriting(candidate, rewriting))


def verdict(model: str, fault: str | None, checked: Verdict | None) -> Verdict:
    """Returns the verdict on a rewriting. `fault` is why it is refused unchecked; `checked` is the check's verdict on
    its answer."""
    if fault is None and (checked is None or not checked.passed):
        fault = "its answer is not right" if checked is not None else "its answer was not checked"
    if fault is not None:
        return Verdict(NAME, VERSION, Outcome.WRONG, fault)
    return Verdict(NAME, VERSION, Outcome.RIGHT, f"rewritten by {model}")


def none_came(why: str) -> Verdict:
    """Returns the verdict on an answer of which the model gave no rewriting."""
    return Verdict(NAME, VERSION, Outcome.ERROR, why)


def _has_chain(candidate: Candidate) -> bool:
    return bool((candidate.reasoning or "").strip())


def _inside(text: str) -> str:
    """Returns the text without the marks of a solution around it."""
    return text.removeprefix(SOLUTION[0]).removesuffix(SOLUTION[1]).strip()
