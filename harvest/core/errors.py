"""Defines every error of winnow, as one tree: how a command stops (with which exit code), and how one try fails.

    WinnowError                    1  never raised itself
    ├─ InputError                  2  the user's files, settings or arguments
    │  ├─ ConfigError QuestionError PromptError DatasetError TooLong StoreUnusable
    │  │                             NoStoreYet is a StoreUnusable
    │  ├─ TeacherUnavailable          the embedded teacher cannot be fetched or started
    │  ├─ SandboxUnavailable          nothing here isolates the programs that a model wrote
    │  ├─ OutOfMemory                 a training; the settings need more memory than there is
    │  └─ MissingExtra                names the command that installs it
    ├─ CapReached                  3
    ├─ TeacherRefused              4  key, balance, unknown model, a refused setting, or an endpoint that is down
    ├─ Overbilled                  5  a reply cost more than was reserved for it
    └─ AttemptFailed               -  stored by `kind`, never leaves collect
       └─ Throttled Passing Gateway Cut Late Hollow TooLarge RowRefused RunRefused

To add an error: subclass the nearest class, set its `exit_code` (or its `kind`), and write messages that say what is
wrong, where, and what to do. Errors must be picklable, since checks run in other processes: take positional arguments
only, and pass all of them to `super().__init__`.
"""

from typing import ClassVar


class WinnowError(Exception):
    """winnow stops for a known cause. The message is for the user and says what is wrong, where, and what to do."""

    exit_code: ClassVar[int] = 1
    """The exit code of the command."""


class InputError(WinnowError):
    """The user's files, settings or arguments are wrong, or something that the command needs is not there."""

    exit_code = 2


class ConfigError(InputError):
    """A setting is wrong, unknown or missing."""


class QuestionError(InputError):
    """Some rows of questions cannot be asked. The message has a line for each of them, with file, line and field."""


class PromptError(InputError):
    """A prompt file is missing or cannot be read."""


class DatasetError(InputError):
    """A row of a dataset cannot be trained or exported as it is."""


class TooLong(InputError):
    """A conversation has more tokens than the limit. It is not cut."""


class StoreUnusable(InputError):
    """The store is open in another process, cannot be written, or was not made by winnow."""


class NoStoreYet(StoreUnusable):
    """There is no store at this address so far. `collect` makes one."""


class TeacherUnavailable(InputError):
    """The embedded teacher's weights cannot be downloaded, or its server does not start."""


class SandboxUnavailable(InputError):
    """This machine cannot isolate the programs that a model wrote. The message says what to install."""


class OutOfMemory(InputError):
    """A training needs more memory than there is. The message has settings that need less."""


class MissingExtra(InputError):
    """An optional dependency is not installed. The message has the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)

    def __str__(self) -> str:
        return "{} needs an extra that is not installed: pip install 'winnow-distill[{}]'".format(*self.args)


class CapReached(WinnowError):
    """The budget cap leaves no money for another answer."""

    exit_code = 3


class TeacherRefused(WinnowError):
    """The endpoint refuses the key, the balance or the model, and asking again cannot help."""

    exit_code = 4
    stopped_by: ClassVar[str] = "refusal"
    """What stopped the run, as report.json calls it."""


class TeacherDown(TeacherRefused):
    """The endpoint was down for longer than it is waited for."""

    stopped_by = "outage"


class TeacherTooBusy(TeacherRefused):
    """The endpoint refused every request for asking too fast, for too long."""

    stopped_by = "throttling"


class SettingRefused(TeacherRefused):
    """The endpoint refuses every row, in equal words: a setting is wrong."""

    stopped_by = "setting"


class ChainsHidden(TeacherRefused):
    """The endpoint keeps back the chains that the run is for."""

    stopped_by = "chains"


class Overbilled(WinnowError):
    """A reply cost more than was reserved for it."""

    exit_code = 5


FAILURES: dict[str, type["AttemptFailed"]] = {}
"""Maps the store's name of a failure to its class, a subclass of AttemptFailed."""


class AttemptFailed(WinnowError):
    """One try brought no answer. The failure is stored, and never leaves `collect`.

    `retry_after_s` says how many seconds the endpoint asks us to wait; None: it does not say. `reply` is the
    `harvest.core.nouns.Reply` of what came all the same, or None. (Its type is `object`, because this file imports
    nothing of ours.) A failed try may have been billed; the usage in `reply` says how much.
    """

    kind: ClassVar[str]
    """The failure's name in the store and the report (field.md §2)."""
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
    """We ask too fast: the endpoint sent status 429, 503 or 529. The same request is sent again, more slowly."""


class Passing(AttemptFailed, kind="passing", again=True, in_doubt=False):
    """The endpoint made no answer: it redirected, it sent status 500 or 502 soon after the request, or it could not be
    reached."""


class Gateway(AttemptFailed, kind="gateway", again=True, in_doubt=True):
    """A gateway stopped waiting for the model, which may have finished: it sent status 408, 499, 504 or 520 to 524, or
    500 or 502 long after the request."""


class Cut(AttemptFailed, kind="cut", again=True, in_doubt=True):
    """The answer broke off or cannot be read. It may still have been billed."""


class Late(AttemptFailed, kind="late", again=True, in_doubt=True):
    """The whole answer did not come before its deadline."""


class Hollow(AttemptFailed, kind="hollow", again=True, in_doubt=True):
    """The endpoint sent status 200, but no answer."""


class TooLarge(AttemptFailed, kind="too_large", again=False, in_doubt=True):
    """The reply's body is larger than allowed, packed or unpacked."""


class RowRefused(AttemptFailed, kind="row", again=False, in_doubt=False):
    """The endpoint refuses this row but will answer others: it sent status 400, 413 or 422, or a content filter refused
    the row."""


class RunRefused(AttemptFailed, kind="run", again=False, in_doubt=False):
    """The endpoint will answer no row: it sent status 401, 402 or 403, the model is unknown, or the quota is used
    up."""


SHOWN_FAULTS = 20


class RowFaults:
    """Collects what is wrong with rows that are read. Only the first SHOWN_FAULTS faults are kept; all are counted."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._total = 0

    def add(self, fault: str) -> None:
        self._total += 1
        if self._total <= SHOWN_FAULTS:
            self._shown.append(fault)

    def refuse(self, remedy: str) -> None:
        """Raises QuestionError if there is any fault.

        The message has a line for each fault that was kept, a line that says how many faults more there are, and
        `remedy`.
        """
        if self._total:
            more = [f"… and {self._total - SHOWN_FAULTS} more"] if self._total > SHOWN_FAULTS else []
            raise QuestionError("\n".join([*self._shown, *more, remedy]))
