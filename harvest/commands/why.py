"""`harvest why` shows what became of one question of a run, attempt by attempt."""

import json

from harvest.core.errors import InputError
from harvest.report.question_story import story_json, tell
from harvest.store import Store

NAMED_QUESTIONS = 5
"""When a question is not found, the error names this many questions of the run."""


def why(name: str, url: str, question_id: str, *, full: bool, as_json: bool) -> int:
    """Prints the story of a question and returns the exit code. With `full`, texts are printed whole.

    Raises InputError when the run has no such question.
    """
    with Store.open(url, write=False) as store:
        run_id = store.run_id(name)
        story = store.story(run_id, question_id)
        if story is None:
            some = ", ".join(store.some_question_names(run_id, NAMED_QUESTIONS))
            raise InputError(f"run {name!r} has no question {question_id!r}; it has {some}, …")
    if as_json:
        print(json.dumps(story_json(story), ensure_ascii=False))
    else:
        tell(story, full=full)
    return 0
