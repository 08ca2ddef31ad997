"""Every way in which winnow stops, or an attempt fails, as one tree.

    WinnowError                    1  never raised itself
    ├─ InputError                  2  the user's files, settings or arguments
    │  ├─ ConfigError QuestionError PromptError DatasetError TooLong StoreUnusable
    │  ├─ TeacherUnavailable          the embedded teacher cannot be fetched or started
    │  ├─ SandboxUnavailable          nothing here isolates the programs that a model wrote
    │  └─ MissingExtra                names the command that installs it
    ├─ CapReached                  3
    ├─ TeacherRefused              4  key, balance, unknown model: asking again cannot help
    ├─ Overbilled                  5  a reply cost more than was reserved for it
    └─ AttemptFailed               -  stored by `kind`, never leaves collect
       └─ Throttled Passing Cut Late Hollow TooLarge RowRefused RunRefused

To add one: subclass the nearest, set `exit_code` (or `kind`), write a message that says what, where and
what to do. Keep it picklable: positional arguments only, all passed to `super().__init__`.
"""

from typing import ClassVar


class WinnowError(Exception):
    """A known way to stop. The message is for the user: what, where, what to do."""

    exit_code: ClassVar[int] = 1


class InputError(WinnowError):
    exit_code = 2


class ConfigError(InputError):
    """A setting is wrong, unknown or missing."""


class QuestionError(InputError):
    """A row of questions cannot be asked. The message holds a line for each, with file, line and field."""


class PromptError(InputError):
    """A prompt file is missing or cannot be read."""


class DatasetError(InputError):
    """A dataset row cannot be trained or exported as it is."""


class TooLong(InputError):
    """A conversation holds more tokens than the limit; nothing is cut."""


class StoreUnusable(InputError):
    """The store is held by another process, cannot be written, or is not ours."""


class TeacherUnavailable(InputError):
    """The embedded teacher's weights cannot be had, or its server does not start."""


class SandboxUnavailable(InputError):
    """This machine cannot isolate a program; the message says what to install."""


class MissingExtra(InputError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)
        self.what, self.extra = what, extra

    def __str__(self) -> str:
        return f"{self.what} needs an extra that is not installed: pip install 'winnow[{self.extra}]'"


class CapReached(WinnowError):
    exit_code = 3


class TeacherRefused(WinnowError):
    exit_code = 4


class Overbilled(WinnowError):
    exit_code = 5


class AttemptFailed(WinnowError):
    """One try brought no answer. `kind` is its name in the store and in the report (field.md §2).

    `reply` is what came all the same (a `harvest.core.nouns.Reply`, unseen here, since errors imports nothing of
    ours): a try that failed may have been billed, and its usage says how much.
    """

    kind: ClassVar[str]
    again: ClassVar[bool]
    """Whether the same request is worth another try."""
    in_doubt: ClassVar[bool]
    """Whether it may have been billed at a cost that nobody told us."""

    def __init__(self, message: str, retry_after_s: float | None = None, reply: object | None = None) -> None:
        super().__init__(message, retry_after_s, reply)
        self.message, self.retry_after_s, self.reply = message, retry_after_s, reply

    def __str__(self) -> str:
        return self.message


class Throttled(AttemptFailed):
    """429, 503, 529: asked too fast. Again, slower."""

    kind, again, in_doubt = "throttled", True, False


class Passing(AttemptFailed):
    """500, 502, 504, a redirect, a refused connection: nothing was made."""

    kind, again, in_doubt = "passing", True, False


class Cut(AttemptFailed):
    """The answer broke off, or cannot be read: it may have been made and billed."""

    kind, again, in_doubt = "cut", True, True


class Late(AttemptFailed):
    """Past the deadline for the whole answer."""

    kind, again, in_doubt = "late", True, True


class Hollow(AttemptFailed):
    """A 200 without an answer in it."""

    kind, again, in_doubt = "hollow", True, True


class TooLarge(AttemptFailed):
    """The body passed the size limit, packed or unpacked."""

    kind, again, in_doubt = "too_large", False, True


class RowRefused(AttemptFailed):
    """400, 413, 422, a content filter: this row alone cannot be answered."""

    kind, again, in_doubt = "row", False, False


class RunRefused(AttemptFailed):
    """401, 402, 403, an unknown model, an exhausted quota: no row will be answered."""

    kind, again, in_doubt = "run", False, False


FAILURES: dict[str, type[AttemptFailed]] = {
    f.kind: f for f in (Throttled, Passing, Cut, Late, Hollow, TooLarge, RowRefused, RunRefused)
}
