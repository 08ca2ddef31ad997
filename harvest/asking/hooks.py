"""What higher rooms do while a session asks. They hand these functions in."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from harvest.asking.buying.counters import Counters
from harvest.core.nouns import Attempt, Judgement, Question, Reply

OnJudged = Callable[[Question, Attempt, Reply, Judgement], None]
"""Called with each answer of a teacher that has just been judged: `on_judged(question, attempt, reply, judgement)`.

`attempt.id` and `attempt.sample` name the answer, `judgement.accepted` says whether it is accepted; a student's answers
are not passed on, since they never become traces. It is called on the event loop's thread, once for each judgement: an
answer that is judged together with others comes again when they are judged again. It must return at once (hand longer
work to a thread or a process) and must not raise.
"""


def _do_not_tell(question: Question, attempt: Attempt, reply: Reply, judgement: Judgement) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hooks:
    """The functions that a session calls."""

    say: Callable[[str], None]
    """Tells the user one line."""
    show: Callable[[Counters], AbstractAsyncContextManager[None]]
    """Shows the counters while it is entered; when it is left, it shows the session's warnings and the last figures."""
    on_judged: OnJudged = _do_not_tell
