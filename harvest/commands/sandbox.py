"""`harvest sandbox` runs the attacks of attacks.toml against this machine's sandbox.

The sandbox holds an attack if all of this is true: the attack does not pass, reaches nothing, leaves no file and no
process, and ends within its limit plus half a second; and the next program is judged right. All of that is checked from
outside the jail.
"""

import json
import os
import secrets
import socket
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from harvest.checks.check import shown
from harvest.checks.programs import Code, jail_for
from harvest.core.nouns import Outcome, Question
from harvest.sandbox import Jail, JailBroken, Kind, Limits, TimeUp, isolation, run_script

LIMIT_S = 1.0
GRACE_S = 0.5
MARK = "winnow-was-here"
PLACES = ("/", "/tmp", "/var/tmp", "/dev/shm", "/home", "/root", "/run")
FILE = Path(__file__).with_name("attacks.toml")


@dataclass(frozen=True, slots=True)
class Attack:
    """Describes one program that tries to get out of the jail, or to be judged right without a right answer."""

    name: str
    kind: str
    code: str
    target: str = ""
    """A forgery answers the question with this id. Empty for all other attacks."""
    twice: bool = False
    """If True, the program is run twice in the same jail."""


@dataclass(frozen=True, slots=True)
class Result:
    """Says what became of one attack."""

    name: str
    kind: str
    why: str
    """Why the sandbox did not hold the attack; empty when it held it."""
    saw: str
    """What the check or the jail saw of the attack, in words."""
    seconds: float


def sandbox(*, cold: bool, limit_s: float, as_json: bool) -> int:
    """Runs every attack, prints what became of it, and returns the exit code: 1 when an attack got through, else 0.

    `cold`: each program has a jail of its own; if False, one jail forks for all programs. Raises SandboxUnavailable.
    """
    where = str(isolation())
    print(where, file=sys.stderr)
    results = []
    for result in run_all(corpus(), "cold" if cold else "warm", limit_s):
        results.append(result)
        if not as_json:
            held = f"THROUGH: {result.why}" if result.why else "held"
            print(f"{result.kind:10} {result.seconds:5.2f} s  {held:6} {result.name} ({result.saw})", flush=True)
    through = sum(bool(r.why) for r in results)
    if as_json:
        rows = [asdict(r) | {"held": not r.why} for r in results]
        said = {"isolation": where, "attacks": len(results), "through": through, "results": rows}
        print(json.dumps(said, ensure_ascii=False))
    else:
        print(f"{len(results) - through} of {len(results)} attacks held")
    return 1 if through else 0


def corpus() -> list[Attack]:
    """Reads the attacks from attacks.toml."""
    return [Attack(**row) for row in tomllib.loads(FILE.read_text("utf-8"))["attack"]]


def forged_questions() -> dict[str, Question]:
    """Reads from attacks.toml the questions that forgeries answer, and returns them by their ids."""
    rows = tomllib.loads(FILE.read_text("utf-8"))["question"]
    return {row["id"]: Question(check="code", **row) for row in rows}


class Ground:
    """Makes what an attack might reach from the jail (a file, a folder, a server, a socket), and watches all of it."""

    def __init__(self, stack: ExitStack) -> None:
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="winnow-attacks-")))
        self.folder.chmod(0o777)
        self.secret = self.folder / "secret"
        self._content = secrets.token_hex(8)
        self.secret.write_text(self._content)
        self._server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        name = f"winnow-{self._content}"
        self._abstract.bind(f"\0{name}")
        self._abstract.listen()
        for listening in (self._server, self._abstract):
            listening.setblocking(False)
        self.places = json.dumps(
            {
                "folder": str(self.folder),
                "secret": str(self.secret),
                "port": self._server.getsockname()[1],
                "abstract": name,
                "pid": os.getpid(),
                "host": socket.gethostname(),
            }
        )

    def traces(self) -> str:
        """Returns in words what an attack touched, or "" when it touched nothing."""
        found = [str(place) for p in (*PLACES, str(self.folder)) if os.access(place := Path(p, MARK), os.F_OK)]
        if [p.name for p in self.folder.iterdir()] != ["secret"] or self.secret.read_text() != self._content:
            found.append(f"{self.folder} was changed")
        for listening in (self._server, self._abstract):
            try:
                listening.accept()[0].close()
            except BlockingIOError:
                continue
            found.append("a connection came out")
        return ", ".join(found)


def run_all(attacks: list[Attack], kind: Kind = "warm", limit_s: float = LIMIT_S) -> Iterator[Result]:
    """Runs the attacks in order and yields a Result for each. Raises SandboxUnavailable when nothing here isolates
    programs."""
    isolation()
    with ExitStack() as stack:
        ground = Ground(stack)
        jail = stack.enter_context(Jail(kind))
        judged_in = [jail_for("candidate", kind), jail_for("tests", kind)]
        for other in judged_in:
            stack.callback(other.close)
        judge, questions = Code(tests_s=limit_s, case_s=limit_s, cases_s=3 * limit_s), forged_questions()
        _next_is_right(jail)
        for attack in attacks:
            began = time.monotonic()
            if attack.kind == "forgery":
                through, saw = _forged(attack, questions[attack.target], judge, kind)
            else:
                through, saw = _tried(attack, jail, ground, limit_s)
            seconds = time.monotonic() - began
            faults = [
                "it got through" if through else "",
                ground.traces(),
                f"it took {seconds:.2f} s of {limit_s:g}" if seconds > limit_s * (1 + attack.twice) + GRACE_S else "",
                _strays([jail, *judged_in]),
                _next_is_right(jail),
            ]
            yield Result(attack.name, attack.kind, "; ".join(f for f in faults if f), saw, seconds)


def _forged(attack: Attack, question: Question, judge: Code, kind: Kind) -> tuple[bool, str]:
    """Returns (whether a forgery passes the check of the question that it answers, what the check said)."""
    work = judge.quick(question, f"```python\n{attack.code}```")
    outcome, detail = work if isinstance(work, tuple) else judge.work({**work, "jail": kind})
    return outcome is not Outcome.WRONG and outcome is not Outcome.TIMEOUT, f"{outcome}: {detail}"


def _tried(attack: Attack, jail: Jail, ground: Ground, limit_s: float) -> tuple[bool, str]:
    """Returns (whether a program says that it got out or got more than it may have, what was seen of it)."""
    saw = ""
    for _ in range(1 + attack.twice):
        try:
            ran = run_script(jail, [attack.code], ground.places.encode(), Limits(wall_s=limit_s))
        except TimeUp:
            return False, f"{limit_s:g} s passed"
        if b"ESCAPED" in ran.stdout or b"SURVIVED" in ran.stdout:
            return True, "it said so"
        said = shown(ran.stderr.decode("utf-8", "replace"))
        saw = "too much output" if ran.too_much else said or f"exit code {ran.status}"
    return False, saw


def _next_is_right(jail: Jail) -> str:
    """Runs another program in the same jail and returns what went wrong, or "" when it ran as it should."""
    try:
        ran = run_script(jail, ["print(int(input()) + 1)"], b"41", Limits())
    except (TimeUp, JailBroken) as error:
        return f"the next program was not run: {type(error).__name__} {error}"
    return "" if ran.stdout == b"42\n" and ran.status == 0 else f"the next program printed {ran.stdout!r}"


def _strays(known: list[Jail]) -> str:
    """Returns in words which processes are left that descend from this one and belong to no jail, or "" when none is
    left."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue  # it has just ended
    ours = {jail.pid for jail in known if jail.pid is not None}
    ours |= {pid for pid, parent in parents.items() if parent in ours}
    strays = [pid for pid in parents if pid not in ours and _descends(pid, parents, ours)]
    return f"processes left: {strays}" if strays else ""


def _descends(pid: int, parents: dict[int, int], ancestors: set[int]) -> bool:
    while pid := parents.get(pid, 0):
        if pid in ancestors:
            return True
    return False
