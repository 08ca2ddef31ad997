"""Runs programs in jails: scripts with input, calls of a function, and tests in a jail of their own.

The judge is the process outside the jails. The judge carries messages, keeps the time and counts the calls, and only
the judge knows what is expected. Out of a jail come values and words, never a verdict of the program on itself.
"""

import contextlib
import os
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harvest.sandbox import wire
from harvest.sandbox.jail import Jail, JailBroken, Limits, Running

KEPT_OF_STDERR = 2000
MOST_NAMES = 5000
"""The most names that a candidate may define. The tests are told all of them."""


class Failed(Exception):
    """Is raised when the program is at fault. The message says how.

    The program did not load, raised an exception, sent something that is no message, or ended by itself.
    """


class TimeUp(Exception):
    """Is raised when a program's time is up. The program is then killed."""


@dataclass(frozen=True, slots=True)
class Ran:
    """Holds what a script did.

    `too_much`: stdout and stderr together passed the limit (`Limits.output_bytes`), and the script was stopped.
    """

    status: int
    """The exit code, or minus the number of the signal that ended the script."""
    stdout: bytes
    stderr: bytes
    too_much: bool
    wall_s: float


def run_script(jail: Jail, sources: Sequence[str], stdin: bytes, limits: Limits) -> Ran:
    """Runs a script with `stdin` as its standard input, and returns what the script did.

    Raises TimeUp when the script's time is up, and JailBroken when the jail failed.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        given = _in_memory(stdin)
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        for descriptor in (out, err):
            os.set_blocking(descriptor, False)
            stack.callback(os.close, descriptor)
        try:
            running = jail.run({"kind": "script", "sources": list(sources)}, limits, (given, out_end, err_end))
        finally:
            for descriptor in (given, out_end, err_end):
                os.close(descriptor)
        stack.callback(jail.stop, running)
        _hear_start(jail, running)
        kept = {out: bytearray(), err: bytearray()}
        poll = select.poll()
        for descriptor in (out, err, jail.fileno()):
            poll.register(descriptor, select.POLLIN)
        seen, status = 0, None
        while status is None and seen <= limits.output_bytes:
            ready = [descriptor for descriptor, _ in poll.poll(max(0.0, running.left_s()) * 1000)]
            if running.left_s() <= 0:
                raise TimeUp
            seen += sum(_drain(descriptor, kept[descriptor], poll) for descriptor in ready if descriptor in kept)
            if jail.fileno() in ready:
                status = jail.reap(running)
        for descriptor in kept:
            while seen <= limits.output_bytes and (got := _drain(descriptor, kept[descriptor], None)):
                seen += got
        too_much = seen > limits.output_bytes
        stderr = bytes(kept[err][-KEPT_OF_STDERR:])
        return Ran(-9 if status is None else status, bytes(kept[out]), stderr, too_much, time.monotonic() - began)


def _in_memory(data: bytes) -> int:
    """Returns a descriptor from which `data` can be read. It belongs to a file in memory, open for reading only."""
    made = os.memfd_create("stdin")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(made, view) :]
        return os.open(f"/proc/self/fd/{made}", os.O_RDONLY)
    finally:
        os.close(made)


def _drain(descriptor: int, kept: bytearray, poll: "select.poll | None") -> int:
    try:
        data = os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return 0
    if not data and poll is not None:
        poll.unregister(descriptor)
    kept += data
    return len(data)


def _hear_start(jail: Jail, running: Running) -> None:
    """Waits until winnow's own code in the jail says that the jail is locked and the program starts.

    Raises TimeUp when the program's time is up, and JailBroken when the process ended before the program started.
    """
    poll = select.poll()
    poll.register(running.channel, select.POLLIN)
    poll.register(jail.fileno(), select.POLLIN)
    if not poll.poll(max(0.0, running.left_s()) * 1000):
        raise TimeUp
    try:
        mark = running.channel.recv(1)
    except OSError:  # nothing is there but the jail's end, or not even that
        mark = b""
    if mark != b"\1":
        raise JailBroken("the program was not started")


class Talk:
    """Sends messages to one program and receives messages from it, until the program's time is up."""

    def __init__(self, jail: Jail, running: Running) -> None:
        self._jail, self._running, self._last = jail, running, running.deadline

    def within(self, seconds: float) -> None:
        """Gives the program `seconds` from now on, but never more than the limit of the whole program leaves."""
        self._running.deadline = min(self._last, time.monotonic() + seconds)

    def left_s(self) -> float:
        return self._running.left_s()

    def send(self, message: bytes) -> None:
        """Sends a message with its length in front. Raises TimeUp, or Failed when the program's channel is closed."""
        view = memoryview(message)
        while view:
            try:
                view = view[self._running.channel.send(view) :]
            except BlockingIOError:
                self._wait(select.POLLOUT)
            except OSError:
                raise Failed(self._how_it_ended()) from None

    def pass_on(self, body: bytes) -> None:
        """Sends a message that another program sent. Raises TimeUp, or Failed when this program's channel is closed."""
        self.send(len(body).to_bytes(4, "big") + body)

    def receive(self) -> bytes:
        """Returns the next message as it came, without its length.

        Raises TimeUp, or Failed when the channel is closed or the message is too long.
        """
        size = int.from_bytes(self._exactly(4), "big")
        if size > wire.MOST_BYTES:
            raise Failed("it sent more than a value may have")
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            try:
                part = self._running.channel.recv(min(size - len(got), 1 << 20))
            except BlockingIOError:
                self._wait(select.POLLIN)
                continue
            except OSError:
                part = b""
            if not part:
                raise Failed(self._how_it_ended())
            got += part
        return bytes(got)

    def _wait(self, what: int) -> None:
        poll = select.poll()
        poll.register(self._running.channel, what)
        if self._running.left_s() <= 0 or not poll.poll(self._running.left_s() * 1000):
            raise TimeUp

    def _how_it_ended(self) -> str:
        """Says why the program's channel is closed: the program ended, or it only closed the channel."""
        try:
            status = self._jail.reap(self._running)
        except TimeoutError:
            return "it closed its channel"
        return f"it ended by itself (exit code {status})" if status >= 0 else f"it was killed by signal {-status}"


@contextlib.contextmanager
def _started(jail: Jail, job: dict[str, Any], limits: Limits) -> Iterator[Running]:
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        running = jail.run(job, limits, (nothing, nothing, nothing))
    finally:
        os.close(nothing)
    try:
        _hear_start(jail, running)
        yield running
    finally:
        jail.stop(running)


class Served(Talk):
    """Stands for a candidate that is loaded and answers calls."""

    names: list[str]
    """The names that the candidate's program defines."""

    def call(self, target: str | int, arguments: Sequence[Any]) -> Any:
        """Calls a function of the candidate, and returns the function's value as a tree (wire.py).

        `target` is the function's name or the number of its handle. Raises TimeUp, or Failed when the candidate raises
        or ends.
        """
        return self._value(["call", target, wire.encode(list(arguments)), ["d"]])

    def method(self, name: str, method: str) -> int:
        """Calls the candidate's class `name` to get a new object, and returns the number of a handle for its method.

        Raises TimeUp, or Failed when the candidate raises or ends.
        """
        made = self._handle(["call", name, ["l"], ["d"]])
        return self._handle(["get", made, method])

    def _value(self, request: list[Any]) -> Any:
        self.send(wire.dumps(request))
        answer = _read(self.receive())
        if answer[0] == "value" and len(answer) == 2:
            return answer[1]
        raise Failed(_words(answer[2] if len(answer) > 2 else answer[1]))

    def _handle(self, request: list[Any]) -> int:
        value = self._value(request)
        if isinstance(value, list) and value[:1] == ["h"] and len(value) == 3 and type(value[1]) is int:
            return value[1]
        raise Failed("what should be an object is none")


@contextlib.contextmanager
def served(jail: Jail, sources: Sequence[str], limits: Limits, load_s: float) -> Iterator[Served]:
    """Loads the candidate in a jail for a `with` block. The candidate is ended when the block is left.

    `load_s` is the limit, in seconds, of loading and of all that follows, until `within` sets another limit.
    Raises TimeUp, Failed when the candidate does not load, and JailBroken when the jail failed.
    """
    with _started(jail, {"kind": "serve", "sources": list(sources)}, limits) as running:
        candidate = Served(jail, running)
        candidate.within(load_s)
        said = _read(candidate.receive())
        if said[0] != "ready" or not all(isinstance(name, str) for name in said[1]):
            raise Failed(_words(said[2] if len(said) > 2 else "it does not load"))
        candidate.names = said[1]
        # JSON needs at most 12 bytes for a character, and two quotes and a comma for a name
        most_bytes = sum(12 * len(name) + 3 for name in candidate.names)
        if len(candidate.names) > MOST_NAMES or most_bytes > wire.MOST_BYTES - 2:
            raise Failed("it names more than can be told")
        yield candidate


def _read(message: bytes) -> list[Any]:
    """Returns a message of a program as a list. Raises Failed when what the program sent is no message."""
    try:
        said = wire.loads(message)
    except wire.BadWire as error:
        raise Failed(f"it sent what is no message: {error}") from None
    if not isinstance(said, list) or len(said) < 2 or (said[0] == "ready" and not isinstance(said[1], list)):
        if said == ["end"]:
            return ["raised", "StopIteration", "StopIteration"]
        raise Failed("it sent what is no message")
    return said


def _words(said: object) -> str:
    return str(said)[:500]


@dataclass(frozen=True, slots=True)
class Tested:
    """Holds what the tests found.

    `why` says what failed; it is None if all tests passed. `passed` is the number of asserts if all tests passed, else
    0. `calls` is the number of calls that the tests made to the candidate.
    """

    why: str | None
    passed: int
    calls: int


class BrokenTests(Exception):
    """Is raised when the question's own tests are at fault, so that there is no verdict on the candidate.

    The tests do not load, or they call the candidate with a value that cannot be sent to the candidate's jail.
    """


def run_tests(
    candidate: Served | None,
    jail: Jail,
    tests: Sequence[str],
    entry: str | None,
    context: Sequence[str],
    limits: Limits,
) -> Tested:
    """Runs the question's tests in a jail of their own, and carries each of their calls to the candidate.

    If `candidate` is None, the tests are only loaded. Else the tests have the time that is left to the candidate.
    Raises TimeUp, Failed when the candidate ended, BrokenTests when the tests are at fault, and JailBroken when a jail
    failed.
    """
    if candidate is not None:
        limits = replace(limits, wall_s=min(limits.wall_s, candidate.left_s()))
        if limits.wall_s <= 0:
            raise TimeUp
    job = {"kind": "tests", "tests": list(tests), "entry": entry, "context": list(context)}
    with _started(jail, job, limits) as running:
        talk = Talk(jail, running)
        try:
            said = _read(talk.receive())
            if said[0] == "loaded" and candidate is not None:
                talk.send(wire.dumps(candidate.names))
        except Failed as error:
            raise BrokenTests(f"the tests do not load: {error}") from None
        if said[0] != "loaded":
            raise BrokenTests(f"the tests do not load: {_words(said[1])}")
        if candidate is None:
            return Tested(None, 0, 0)
        calls = 0
        while True:
            try:
                message = talk.receive()
            except Failed as error:
                return Tested(f"the tests' process died on what the candidate returned: {error}", 0, calls)
            said = _read(message)
            if said[0] == "passed":
                return Tested(None, int(said[1]), calls)
            if said[0] == "unfit":
                raise BrokenTests(_words(said[1]))
            if said[0] in ("failed", "broken"):
                return Tested(_words(said[1]), 0, calls)
            calls += 1
            candidate.pass_on(message)
            talk.pass_on(candidate.receive())
