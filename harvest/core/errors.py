"""Every error of winnow, as one tree with the exit codes: how a command stops, and how one try fails.

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

To add one: subclass the nearest, say its `exit_code` (or its `kind`), and write messages that say what is wrong, where,
and what to do. Keep it picklable, since checks run in other processes: positional arguments only, all passed to
`super().__init__`.
"""

from typing import ClassVar


class WinnowError(Exception):
    """A known way to stop. Its message is for the user and says what is wrong, where, and what to do."""

    exit_code: ClassVar[int] = 1
    """The command's exit code."""


class InputError(WinnowError):
    """The user's files, settings or arguments are wrong, or something that the command needs is not there."""

    exit_code = 2


class ConfigError(InputError):
    """A setting is wrong, unknown or missing."""


class QuestionError(InputError):
    """Rows of questions cannot be asked. The message has a line for each, with file, line and field."""


class PromptError(InputError):
    """A prompt file is missing or cannot be read."""


class DatasetError(InputError):
    """A row of a dataset cannot be trained or exported as it is."""


class TooLong(InputError):
    """A conversation has more tokens than the limit. It is not cut."""


class StoreUnusable(InputError):
    """The store is open in another process, cannot be written, or was not made by winnow."""


class TeacherUnavailable(InputError):
    """The embedded teacher's weights cannot be downloaded, or its server does not start."""


class SandboxUnavailable(InputError):
    """This machine cannot isolate the programs that a model wrote. The message says what to install."""


class MissingExtra(InputError):
    """An optional dependency is not installed. The message has the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)

    def __str__(self) -> str:
        return "{} needs an extra that is not installed: pip install 'winnow[{}]'".format(*self.args)


class CapReached(WinnowError):
    """The cap has no room for another answer."""

    exit_code = 3


class TeacherRefused(WinnowError):
    """The endpoint refuses every row (key, balance, unknown model), so that asking again cannot help."""

    exit_code = 4


class Overbilled(WinnowError):
    """A reply cost more than was reserved for it."""

    exit_code = 5


FAILURES: dict[str, type["AttemptFailed"]] = {}
"""Every class of a failed attempt, by its name in the store."""


class AttemptFailed(WinnowError):
    """One try brought no answer. It is stored, and never leaves `collect`.

    `reply` is what came all the same, a `harvest.core.nouns.Reply` (typed `object`, because this file imports nothing
    of ours). A try that failed may have been billed, and the usage in its reply says how much. `retry_after_s` is how
    long the endpoint wants to be left alone.
    """

    kind: ClassVar[str]
    """The failure's name in the store and in the report (field.md §2)."""
    again: ClassVar[bool]
    """Whether the same request is worth another try."""
    in_doubt: ClassVar[bool]
    """Whether the endpoint may have billed the try without telling us how much."""

    def __init_subclass__(cls, *, kind: str, again: bool, in_doubt: bool) -> None:
        cls.kind, cls.again, cls.in_doubt = kind, again, in_doubt
        FAILURES[kind] = cls

    def __init__(self, message: str, retry_after_s: float | None = None, reply: object | None = None) -> None:
        super().__init__(message, retry_after_s, reply)
        self.message, self.retry_after_s, self.reply = message, retry_after_s, reply

    def __str__(self) -> str:
        return self.message


class Throttled(AttemptFailed, kind="throttled", again=True, in_doubt=False):
    """429, 503, 529: we ask too fast. The try is made again, more slowly."""


class Passing(AttemptFailed, kind="passing", again=True, in_doubt=False):
    """500, 502, 504, a redirect, a refused connection: the endpoint made no answer."""


class Cut(AttemptFailed, kind="cut", again=True, in_doubt=True):
    """The answer broke off or cannot be read, so it may have been made and billed."""


class Late(AttemptFailed, kind="late", again=True, in_doubt=True):
    """The whole answer did not come before its deadline."""


class Hollow(AttemptFailed, kind="hollow", again=True, in_doubt=True):
    """A 200 without an answer in it."""


class TooLarge(AttemptFailed, kind="too_large", again=False, in_doubt=True):
    """The body is larger than allowed, packed or unpacked."""


class RowRefused(AttemptFailed, kind="row", again=False, in_doubt=False):
    """400, 413, 422, a content filter: the endpoint will not answer this row, but others."""


class RunRefused(AttemptFailed, kind="run", again=False, in_doubt=False):
    """401, 402, 403, an unknown model, an exhausted quota: the endpoint will not answer any row."""


SHOWN_FAULTS = 20


class RowFaults:
    """What is wrong with rows that are read: the first SHOWN_FAULTS faults, and how many there are."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._total = 0

    def add(self, fault: str) -> None:
        self._total += 1
        if self._total <= SHOWN_FAULTS:
            self._shown.append(fault)

    def refuse(self, remedy: str) -> None:
        """Raises QuestionError where there is a fault: a line for each that is shown, how many more, the remedy."""
        if self._total:
            more = [f"… and {self._total - SHOWN_FAULTS} more"] if self._total > SHOWN_FAULTS else []
            raise QuestionError("\n".join([*self._shown, *more, remedy]))
