"""Says which answers the judging model is asked about, what it reads, and what its reply means.

The answer that the model reads may be hostile. So the answer stands between marks that its author cannot guess. Only a
reply of one word (RIGHT, WRONG or NONE) is a verdict. Any other reply is an error, and never means right.
"""

import hashlib
import json
import re

from harvest.core.nouns import Message, Outcome, Question, Reply, Verdict
from harvest.core.teachers import JudgeModel
from harvest.endpoint import Prompt, cut_short, text_of
from harvest.questions.rows import judged_together

NAME, VERSION = "judge", "1"
"""The name and the version of the judging model's verdicts. The version covers the prompt and the reading of the
reply."""
MOST_CHARACTERS = 2000
"""How many characters of an answer's end the model is shown."""
WORDS = {"RIGHT": Outcome.RIGHT, "WRONG": Outcome.WRONG, "NONE": Outcome.NO_ANSWER}


def is_asked(settings: JudgeModel, question: Question, verdict: Verdict) -> bool:
    """Whether the model is asked about an answer.

    All of this must hold: the check's outcome is one of `judge.about`; the question has a gold answer; its check is not
    `code`; its answers are not judged together.
    """
    worded = bool((question.answer or "").strip()) and question.check != "code" and not judged_together(question)
    return worded and verdict.outcome.value in settings.about


def messages(prompt: Prompt, question: Question, answer: str) -> list[Message]:
    """Returns the messages that the model reads. The mark is a hash of the texts between the marks, so the same texts
    give the same request, and no answer can contain its own mark."""
    texts = {"question": text_of(question), "gold": question.answer or "", "answer": answer[-MOST_CHARACTERS:]}
    mark = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()[:24]
    values = {**texts, "mark": mark}
    return [
        {"role": role, "content": re.sub(r"\{(question|gold|answer|mark)\}", lambda name: values[name[1]], text)}
        for role, text in prompt.parts
    ]


def verdict_of(reply: Reply, model: str) -> Verdict:
    """Returns the verdict that the model's reply means. Any reply but a single word of `WORDS` gives the outcome
    ERROR."""
    word = reply.answer.strip().strip(".*`\"'").upper()
    outcome = None if cut_short(reply) else WORDS.get(word)
    if outcome is None:
        return Verdict(NAME, VERSION, Outcome.ERROR, f"{model} said none of {', '.join(WORDS)}")
    return Verdict(NAME, VERSION, outcome, f"{model} says {word}")


def no_answer(model: str, failure: str) -> Verdict:
    """Returns the verdict for an answer about which the judging model gave no reply. `failure` is the class of the
    failure."""
    return Verdict(NAME, VERSION, Outcome.ERROR, f"{model} gave no answer ({failure})")
