"""Says in words what became of a question, an attempt and a verdict, for the story, the page and the viewer."""

STATUS = {
    "solved": "solved",
    "student_solved": "done by the student: no teacher is asked",
    "given_up": "given up: nothing more is asked",
    "open": "open: the next `harvest collect` asks it",
}
OUTCOMES = {
    "right": "right",
    "wrong": "wrong",
    "no_answer": "no answer to accept",
    "timeout": "not judged: the check ran out of time (`harvest verify --again` tries again)",
    "error": "not judged: the check could not",
    "unsure": "left to the checks",
}
REASONS = {
    "wrong": "it was found wrong",
    "no_answer": "it states no answer",
    "truncated": "it was cut at its token limit, so there is no answer worth a check",
    "repetition": "it had run into a loop and was broken off, so there is no answer worth a check",
    "timeout": "its check ran out of time, which says nothing about the answer",
    "format": "it does not fit the training format, which `checks.require` asks for",
    "refusal": "it refuses, and `checks.require` asks for an answer",
    "language": "it is in another language, which `checks.require` rules out",
    "repeats": "it repeats itself, which `checks.require` rules out",
    "meta": "it talks of what only the teacher could see, which `checks.require` rules out",
    "leaked_gold": "the gold answer stood in what was asked, which `checks.require` rules out",
    "no_chain": "it has no chain, which `checks.require` asks for",
    "error": "its check could not judge it, which says nothing about the answer",
    "no_gold": "there is no gold answer to judge it by",
    "no_majority": "there is no gold answer, and too few of the answers agree",
    "row": "the endpoint refused this question, or its content filter stopped the answer",
    "cut": "the answer broke off",
    "late": "no whole answer came before the deadline",
    "hollow": "the endpoint sent an empty answer",
    "too_large": "the answer was larger than allowed",
    "throttled": "the endpoint refused: asked too fast",
    "passing": "the endpoint was not able to answer",
    "gateway": "a gateway gave up waiting for the model, which may have answered all the same",
    "run": "the endpoint refuses this run",
    "withdrawn": "it is from a public set, and [reuse] no longer allows it",
}
"""Words that say why an attempt is rejected or failed."""
UNSELECTED = {
    "withdrawn": "select.without leaves it out",
    "exact_duplicate": "the same answer to the same question",
    "near_duplicate": "nearly the same answer",
    "near_duplicate_question": "another question asks the same",
    "contaminated": "its question is asked in an evaluation",
    "difficulty": "its question is not of the difficulty that is wanted",
    "answers_per_question": "its question already has enough answers",
    "no_student_score": "it has no score by the student (`python -m finetune score` makes them), or is too long for it",
    "too_surprising": "it surprises the student more than select.surprisal_most",
    "too_many_long": "there are too few short traces for so many long ones",
    "not_chosen": "the draw took others",
    "rejected_since": "it was selected, and a later verdict rejects it",
}
"""Words that say why an accepted attempt is not selected. A reason that is missing here is the name of a filter."""
