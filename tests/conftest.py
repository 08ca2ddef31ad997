"""Fixtures and helpers that every test may use."""

import json
import os
import signal
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, getcontext, setcontext
from pathlib import Path
from typing import Any

import forked
import pytest
from books import audit_file
from hypothesis import HealthCheck, settings
from scripted_endpoint import PRICE, Endpoint, Script

from harvest.selection.sketch_pool import cores

# Before torch is imported: more workers run than there are cores, and threads that wait for each other take them away.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's background job ignores Ctrl-C and `nohup` a closed terminal; both are handed down, and tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

BARS = bool(os.environ.get("WINNOW_BARS"))
ROOT = Path(__file__).parents[1]

settings.register_profile(
    "winnow",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("winnow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers a core: most of the time a test waits for a socket, a clock or another process."""
    return 2 * cores()


def scaled(small: int, full: int) -> int:
    """A sample in `make test`, the issue's full figure in `make bars`."""
    return full if BARS else small


@pytest.fixture(autouse=True)
def _same_decimals() -> Iterator[None]:
    """Fails a test after which later tests of the same process would compute with other decimals."""
    before = getcontext().copy()
    yield
    after = getcontext()
    setcontext(before)
    assert (after.prec, after.rounding) == (before.prec, before.rounding)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data, read-only: named by WINNOW_SHARED, else beside the checkout."""
    beside = Path(__file__).parents[2] / "shared"
    place = Path(os.environ.get("WINNOW_SHARED", beside))
    if not place.is_dir():
        pytest.skip(f"needs the shared data: {place} is no folder, set WINNOW_SHARED")
    return place


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts scripted endpoints, and closes them."""
    open_now: list[Endpoint] = []

    def start(script: Script | None = None, tls: ssl.SSLContext | None = None) -> Endpoint:
        open_now.append(Endpoint(script, tls).__enter__())
        return open_now[-1]

    yield start
    for e in open_now:
        e.__exit__(None, None, None)


def sums(n: int, start: int = 0) -> list[dict[str, Any]]:
    """Questions that the scripted endpoint knows the answer to."""
    return [
        {"id": f"q{i}", "question": f"What is {i} + {i + 1}?", "answer": str(2 * i + 1)}
        for i in range(start, start + n)
    ]


@dataclass
class Place:
    """A folder with a run of its own: settings, questions, store, runs."""

    folder: Path
    settings: dict[str, Any]
    env: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.store}"

    @property
    def toml(self) -> Path:
        path = self.folder / "run.toml"
        path.write_text(_toml(self.settings))
        return path

    @property
    def run_folder(self) -> Path:
        return self.folder / "runs" / str(self.settings["name"])

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.run_folder / "report.json").read_text())
        return found

    def money(self, name: str) -> Decimal:
        return Decimal(self.report["money"][f"{name}_usd"])

    def start(self, *more: str, before: Callable[[], object] | None = None) -> "subprocess.Popen[str]":
        """`collect` as its users run it. `before` is called in its process first."""
        return self.begin("collect", str(self.toml), *more, before=before)

    def begin(self, *args: str, before: Callable[[], object] | None = None) -> "subprocess.Popen[str]":
        """Any command, as its users run it."""
        env = {**os.environ, "WINNOW_RUNS": str(self.folder / "runs"), "PYTHONPATH": str(ROOT), **self.env}
        return forked.Forked("harvest", *args, cwd=self.folder, env=env, before=before)

    def collect(self, *more: str, timeout_s: float = 120) -> tuple[int, str, str]:
        """(exit code, stdout, stderr)"""
        return self.ended(self.start(*more), timeout_s)

    def harvest(self, *args: str) -> tuple[int, str, str]:
        """The same for any command."""
        return self.ended(self.begin(*args), 240)

    def ended(self, process: "subprocess.Popen[str]", timeout_s: float) -> tuple[int, str, str]:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"still running after {timeout_s} s: {process.communicate()[1][-2000:]}") from None
        return process.returncode, out, err


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., Place]:
    """Makes a Place: `questions` rows, the endpoint's URL, and settings by dotted name over the usual ones."""

    def make(url: str, questions: list[dict[str, Any]] | int = 1, /, folder: str = "place", **dotted: Any) -> Place:
        where = tmp_path / folder
        where.mkdir(exist_ok=True)
        rows = sums(questions) if isinstance(questions, int) else questions
        (where / "questions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        settings: dict[str, Any] = {
            "name": "r",
            "questions": str(where / "questions.jsonl"),
            "store": f"sqlite:///{where / 'store.db'}",
            "teacher": {"base_url": url, "model": "mock", "timeout_s": 20, "price_usd_per_mtok": PRICE},
            "sampling": {"max_tokens": 100, "tries": 2},
            "budget": {"usd": "1.00"},
        }
        for name, value in dotted.items():
            *sections, last = name.split("__")
            at = settings
            for s in sections:
                at = at.setdefault(s, {})
            at[last] = value
            if value is None:
                del at[last]
        return Place(where, settings)

    return make


def _toml(settings: dict[str, Any]) -> str:
    def value(v: Any) -> str:
        if isinstance(v, dict):
            return "{ " + ", ".join(f"{json.dumps(k)} = {value(x)}" for k, x in v.items()) + " }"
        if isinstance(v, list):
            return "[" + ", ".join(map(value, v)) + "]"
        return json.dumps(v)

    def of_sections(v: Any) -> bool:
        return isinstance(v, list) and bool(v) and all(isinstance(x, dict) for x in v)

    plain = "".join(
        f"{k} = {value(v)}\n" for k, v in settings.items() if not isinstance(v, dict) and not of_sections(v)
    )
    plain += "".join(
        f"\n[[{k}]]\n" + "".join(f"{name} = {value(x)}\n" for name, x in one.items())
        for k, v in settings.items()
        if of_sections(v)
        for one in v
    )
    return plain + "".join(
        f"\n[{name}]\n" + "".join(f"{k} = {value(v)}\n" for k, v in section.items())
        for name, section in settings.items()
        if isinstance(section, dict)
    )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., int]:
    """Runs `collect` in this process, for speed; the exit code. The books are audited after each run."""
    from harvest.commands.collect import collect
    from harvest.core.config import load

    def run(place: Place, *, overbilled: bool = False) -> int:
        monkeypatch.setenv("WINNOW_RUNS", str(place.folder / "runs"))
        for name, value in place.env.items():
            monkeypatch.setenv(name, value)
        code = collect(load(place.toml), place.folder, skip_bad_rows=False, as_json=False)
        capsys.readouterr()
        books = audit_file(place.store, overbilled=overbilled)
        assert books["reserved"] == 0, "a start that ended holds money"
        report = place.report
        parts = sum(Decimal(v) for v in report["money"]["spent_on"].values())
        assert parts == Decimal(report["money"]["spent_usd"])
        return code

    return run
