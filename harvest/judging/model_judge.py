"""The judging model: which answers it is asked about, what it reads, and what its word means.

What it reads is hostile, so the answer stands between marks that the answer cannot know, and only one word of three is
a verdict. Anything else is an error, never right.
"""

import hashlib
import json
import re

from harvest.core.nouns import Message, Outcome, Question, Reply, Verdict
from harvest.core.teachers import JudgeModel
from harvest.endpoint import Prompt, cut_short, text_of
from harvest.questions.rows import judged_together

NAME, VERSION = "judge", "1"
"""What its verdicts are called, and their version: of its prompt and of how its word is read."""
MOST_CHARACTERS = 2000
"""How many characters of an answer's end the model is shown."""
WORDS = {"RIGHT": Outcome.RIGHT, "WRONG": Outcome.WRONG, "NONE": Outcome.NO_ANSWER}


def is_asked(settings: JudgeModel, question: Question, verdict: Verdict) -> bool:
    """Whether the model is asked about an answer: its check said what `judge.about` names, and there is a right answer
    in words to compare it with."""
    worded = bool((question.answer or "").strip()) and question.check != "code" and not judged_together(question)
    return worded and verdict.outcome.value in settings.about


def messages(prompt: Prompt, question: Question, answer: str) -> list[Message]:
    """What the model reads. The mark is a hash of all that stands between, so the same content is the same request,
    and no answer can hold its own."""
    texts = {"question": text_of(question), "gold": question.answer or "", "answer": answer[-MOST_CHARACTERS:]}
    mark = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:24]
    values = {**texts, "mark": mark}
    return [
        {"role": role, "content": re.sub(r"\{(question|gold|answer|mark)\}", lambda name: values[name[1]], text)}
        for role, text in prompt.parts
    ]


def verdict_of(reply: Reply, model: str) -> Verdict:
    """One word of `WORDS` is a verdict. Whatever else the model said is an error."""
    word = reply.answer.strip().strip(".*`\"'").upper()
    outcome = None if cut_short(reply) else WORDS.get(word)
    if outcome is None:
        return Verdict(NAME, VERSION, Outcome.ERROR, f"{model} said none of {', '.join(WORDS)}")
    return Verdict(NAME, VERSION, outcome, f"{model} says {word}")


def no_answer(model: str, failure: str) -> Verdict:
    """The verdict where the model's endpoint gave no answer, for a failure of this class."""
    return Verdict(NAME, VERSION, Outcome.ERROR, f"{model} gave no answer ({failure})")
