"""Holds the functions that higher rooms hand in, for a session to call while it asks."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from harvest.asking.buying.counters import Counters
from harvest.core.nouns import Attempt, Judgement, Question, Reply

OnJudged = Callable[[Question, Attempt, Reply, Judgement], None]
"""A function that is called with each answer of a teacher that has just been judged: `on_judged(question, attempt,
reply, judgement)`.

`attempt.id` and `attempt.sample` name the answer, and `judgement.accepted` says whether it is accepted. A student's
answers are not passed on, since they never become traces. The function is called on the event loop's thread, once for
each judgement: if an answer is judged together with others, it comes again when they are judged again. The function
must return at once (it hands longer work to a thread or a process) and must not raise.
"""


def _do_not_tell(question: Question, attempt: Attempt, reply: Reply, judgement: Judgement) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hooks:
    """Holds the functions that a session calls."""

    say: Callable[[str], None]
    """Tells the user one line."""
    show: Callable[[Counters], AbstractAsyncContextManager[None]]
    """Shows the counters while the block runs. At its end it shows the session's warnings and the last figures."""
    on_judged: OnJudged = _do_not_tell
