"""Runs a program inside the locked jail, or runs a question's tests there against a proxy of the candidate.

The judge takes everything that this process says as the program's word. The judge asks a candidate only for values, and
never whether the candidate passed. What the tests found is said by the tests' own process, in which no code of the
candidate runs.

    script  the program has standard input and output, and no messages
    serve   the judge sends ["call", name or handle, arguments, keywords], or get, set, iter, next instead of call.
            The candidate answers ["value", value], ["raised", type, text] or ["end"]
    tests   the tests send such calls, and the judge carries them to the candidate. At the end the tests send
            ["passed", number of asserts], ["failed", why], or ["unfit", why] if the tests pass the candidate a value
            that cannot be sent, whoever the candidate is
"""

from __future__ import annotations

import atexit
import builtins
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing and collections are slow to import, and a script may need neither
    import types
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

    Job = dict[str, Any]
WARM = (
    "json", "wire", "ast", "re", "math", "cmath", "collections", "itertools", "functools", "heapq", "bisect", "string",
    "typing", "random", "operator", "copy", "decimal", "fractions", "datetime", "threading", "queue", "traceback",
    "dataclasses", "enum", "statistics", "array", "time", "hashlib", "textwrap", "encodings.latin_1", "linecache",
)  # fmt: skip


def warm() -> None:
    """Imports the modules that programs often import, once for all programs that are forked."""
    for name in WARM:
        __import__(name)


def enter(job: Job, channel: int) -> NoReturn:
    sys.path[:] = [place for place in sys.path if not place.endswith("winnow")]
    sys.argv[:] = ["solution.py"]
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # `site` would bring them
    os.write(channel, b"\1")  # tells the judge that whatever comes now is the program's doing
    if job["kind"] == "script":
        _script(job["sources"])
    talk = Channel(channel)
    try:
        (_serve if job["kind"] == "serve" else _tests)(job, talk)
    finally:
        os._exit(0)


class Channel:
    """Sends and receives messages, with their length in front, over one descriptor."""

    def __init__(self, descriptor: int) -> None:
        from wire import MOST_BYTES, dumps, loads  # type: ignore[import-not-found]

        self._descriptor, self._most, self._dumps, self._loads = descriptor, MOST_BYTES, dumps, loads

    def say(self, message: Any) -> None:
        self.send(self._dumps(message))

    def send(self, message: bytes) -> None:
        data = memoryview(message)
        while data:
            data = data[os.write(self._descriptor, data) :]

    def hear(self) -> Any:
        size = int.from_bytes(self._read(4), "big")
        return self._loads(self._read(size))

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = os.read(self._descriptor, size)
            if not part:
                os._exit(0)
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _module(name: str) -> dict[str, Any]:
    module = type(sys)(name)
    sys.modules[name] = module
    return module.__dict__


def _compiled(source: str, name: str) -> types.CodeType:
    return compile(source, name, "exec", dont_inherit=True)


# ---- a script


def _script(sources: list[str]) -> NoReturn:
    """Runs a script as `__main__`, and ends the process as Python would.

    The exit code is 0, or the code that the script gave to sys.exit, or 1 after an error, which is written to stderr.
    """
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="replace", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", errors="replace", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    code, printed = 0, sys.stdout
    try:
        namespace = _module("__main__")
        for source in sources:
            exec(_compiled(source, "<solution>"), namespace)  # noqa: S102
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001 - whatever the program raised
        code = 1
        _tell(error)
    try:
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()
        atexit._run_exitfuncs()
        if (current := getattr(sys, "stdout", None)) is not None and current is not printed:
            _flush(current)
        try:  # noqa: SIM105 - contextlib is slow to import
            _flush(printed)
        except ValueError:  # detached: what was printed is another's to flush
            pass
    except BaseException as error:  # noqa: BLE001 - the program may have put anything in its place
        code = 1
        _tell(error)
    os._exit(code & 0xFF)


def _flush(stream: Any) -> None:
    """Flushes a stream as Python does when it ends. A stream that does not say that it is closed counts as open."""
    try:
        closed = stream.closed
    except Exception:  # noqa: BLE001 - the program may have put anything in its place
        closed = False
    if not closed:
        stream.flush()


def _tell(error: BaseException) -> None:
    try:
        os.write(2, _located(error).encode("utf-8", "replace")[:2000])
    except BaseException:  # noqa: BLE001 - nobody is left to be told
        os._exit(1)


def _line_in(source: str, error: BaseException) -> int:
    """Returns the number of the last line of `source` in the error's traceback, or 0 if no line is from `source`."""
    at, line = error.__traceback__, 0
    while at is not None:
        if at.tb_frame.f_code.co_filename == source:
            line = at.tb_lineno
        at = at.tb_next
    return line


def _located(error: BaseException) -> str:
    """Describes the error, and names the line of the solution that raised it."""
    line = _line_in("<solution>", error)
    return f"{f'line {line}' if line else 'error'}: {_described(error)}"


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except BaseException:  # noqa: BLE001 - its own __str__ may raise anything
        return "an exception that cannot be shown"


# ---- the candidate's side


def _serve(job: Job, talk: Channel) -> None:
    import wire

    held: list[Any] = []

    def keep(thing: Any) -> int:
        if len(held) >= 100_000:
            raise wire.BadWire("too many objects")
        held.append(thing)
        return len(held) - 1

    def taken(number: int, _: str) -> Any:
        return held[number]

    namespace = _module("solution")
    try:
        for source in job["sources"]:
            exec(_compiled(source, "<solution>"), namespace)  # noqa: S102
    except BaseException as error:  # noqa: BLE001 - whatever the program raised
        talk.say(["raised", type(error).__name__, _located(error)])
        return
    talk.say(["ready", sorted(n for n in namespace if type(n) is str and not n.startswith("__"))[:5000]])
    while True:
        verb, target, *rest = talk.hear()
        try:
            thing = namespace[target] if isinstance(target, str) else held[target]
            if verb == "call":
                value = thing(*wire.decode(rest[0], taken), **wire.decode(rest[1], taken))
                answer = ["value", wire.encode(value, keep)]
            elif verb == "get":
                answer = ["value", wire.encode(getattr(thing, rest[0]), keep)]
            elif verb == "set":
                setattr(thing, rest[0], wire.decode(rest[1], taken))
                answer = ["value", None]
            elif verb == "iter":
                answer = ["value", ["h", keep(iter(thing)), wire.ITERATOR]]
            else:
                answer = ["value", wire.encode(next(thing), keep)]
            talk.say(answer)
        except StopIteration:
            talk.say(["end"])
        except wire.BadWire as error:
            talk.say(["raised", "BaseException", f"its value cannot be taken out: {error}", ""])
        except BaseException as error:  # noqa: BLE001 - whatever the program raised
            talk.say(["raised", _builtin_name(error), _located(error), _text(error)])


def _builtin_name(error: BaseException) -> str:
    """Returns the name of the nearest built-in exception among the classes of the error."""
    for kind in type(error).__mro__:
        if getattr(builtins, kind.__name__, None) is kind:
            return str(kind.__name__)
    return "Exception"


def _text(error: BaseException) -> str:
    try:
        return str(error.args[0] if error.args else "")[:2000]
    except BaseException:  # noqa: BLE001 - its own __str__ may raise anything
        return ""


# ---- the tests' side


class _CandidateGone(BaseException):
    """Is raised when the candidate gives no usable answer, so that the tests cannot go on.

    It is a BaseException, so that no `except Exception` in the tests catches it.
    """


class _UnfitTests(BaseException):
    """Is raised when the tests pass the candidate a value that cannot be sent, so that there is no verdict.

    It is a BaseException, so that no `except Exception` in the tests catches it.
    """


class Remote:
    """Stands for an object in the candidate's jail. Its value is not known here, so a Remote equals only itself."""

    __slots__ = ("_ask", "_id", "_kind")

    def __init__(self, ask: Callable[..., Any], number: int | str, kind: str) -> None:
        object.__setattr__(self, "_ask", ask)
        object.__setattr__(self, "_id", number)
        object.__setattr__(self, "_kind", kind)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._ask("call", self._id, arguments, keywords)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._ask("get", self._id, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", self._id, name, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._ask("iter", self._id))

    def __bool__(self) -> bool:
        raise TypeError(f"a {self._kind} of the candidate's is neither true nor false")

    def __repr__(self) -> str:
        return f"<{self._kind}>"


class _RemoteIterator(Remote):
    __slots__ = ()

    def __iter__(self) -> _RemoteIterator:
        return self

    def __next__(self) -> Any:
        return self._ask("next", self._id)


class _Candidate:
    """Stands for the candidate in the tests' jail. A _Candidate asks the judge, and the judge asks the candidate."""

    def __init__(self, talk: Channel) -> None:
        import wire

        self._talk, self._wire = talk, wire

    def remote(self, name: str) -> Remote:
        return Remote(self.ask, name, name)

    def _held(self, number: int, kind: str) -> Remote:
        return (_RemoteIterator if kind == self._wire.ITERATOR else Remote)(self.ask, number, kind)

    def _number(self, thing: Any) -> int:
        if isinstance(thing, Remote) and isinstance(thing._id, int):
            return thing._id
        raise TypeError(f"{type(thing).__name__} cannot be handed to the candidate")

    def ask(self, verb: str, target: int | str, *rest: Any) -> Any:
        encode = self._wire.encode
        try:
            if verb == "call":
                arguments, keywords = rest
                sent = [encode(list(arguments), self._number), encode(keywords, self._number)]
            else:
                sent = [rest[0], *[encode(value, self._number) for value in rest[1:]]] if rest else []
            message = self._wire.dumps([verb, target, *sent])
        except (TypeError, ValueError, MemoryError) as error:
            raise _UnfitTests(f"what the tests hand over cannot cross: {_described(error)}") from None
        self._talk.send(message)
        answer, raised = self._heard()
        if raised is not None:
            raise raised
        return answer

    def _heard(self) -> tuple[Any, Exception | None]:
        """Returns (the value, None), or (None, the built-in exception nearest to the candidate's exception).

        Raises _CandidateGone when the answer cannot be read, or when the candidate's exception is no Exception.
        """
        try:
            said, *rest = self._talk.hear()
            if said == "value":
                return self._wire.decode(rest[0], self._held), None
            name, described, text = rest if said == "raised" else ("StopIteration", "", "")
            kind = getattr(builtins, name, None)
        except (TypeError, ValueError, IndexError):
            raise _CandidateGone("what it returned cannot be read") from None
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise _CandidateGone(described)
        try:
            return None, kind(text)
        except TypeError:  # UnicodeDecodeError and its like want more
            return None, ValueError(text)


def _tests(job: Job, talk: Channel) -> None:
    import ast

    namespace = _module("tests")
    candidate = _Candidate(talk)
    pieces: list[str] = job["tests"]
    try:
        for source in job["context"]:
            exec(_compiled(source, "<question>"), namespace)  # noqa: S102
        trees = [ast.parse(piece) for piece in pieces]
        names = {n.id for tree in trees for n in ast.walk(tree) if isinstance(n, ast.Name)}
        codes = [compile(tree, "<tests>", "exec", dont_inherit=True) for tree in trees]
        definitions = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
        for tree in trees:  # on trial, so that tests which cannot load are told from a candidate that fails them
            tree.body = [node for node in tree.body if isinstance(node, definitions)]
            exec(compile(tree, "<tests>", "exec", dont_inherit=True), namespace.copy())  # noqa: S102
        talk.say(["loaded", len(codes)])
        theirs = set(talk.hear())
        asked = {n.id for n in ast.walk(ast.parse(job["entry"] or "", mode="exec")) if isinstance(n, ast.Name)}
        for name in sorted(names | asked):
            if name in asked and name in theirs:
                namespace[name] = candidate.remote(name)
            elif name not in namespace and not hasattr(builtins, name):
                if name in sys.stdlib_module_names:
                    namespace[name] = __import__(name)
                elif name in theirs:
                    namespace[name] = candidate.remote(name)
    except BaseException as error:  # noqa: BLE001 - the tests are data of the user's
        talk.say(["broken", _described(error)])
        return
    passed = 0
    try:
        for code in codes:
            exec(code, namespace)  # noqa: S102
            passed += 1
        check = namespace.get("check")
        if not isinstance(check, Remote) and callable(check) and job["entry"]:
            check(eval(job["entry"], namespace))  # noqa: S307 - the question's own words: a name, or Solution().name
    except _CandidateGone as error:
        talk.say(["failed", str(error), passed])
    except _UnfitTests as error:
        talk.say(["unfit", str(error)])
    except BaseException as error:  # noqa: BLE001 - an assert that failed, or what the tests made of a value
        talk.say(["failed", _explained(error, pieces, passed), passed])
    else:
        talk.say(["passed", passed])


def _explained(error: BaseException, pieces: list[str], passed: int) -> str:
    """Returns the line of the tests that failed, and the error if the error says more than that an assert failed."""
    line = _line_in("<tests>", error)
    lines = pieces[min(passed, len(pieces) - 1)].splitlines() if pieces else []
    where = lines[line - 1].strip()[:300] if 0 < line <= len(lines) else ""
    what = _described(error)
    return f"{where} ({what})" if where and what.strip() != "AssertionError:" else where or what
