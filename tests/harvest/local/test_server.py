"""The embedded teacher's server, as real processes that end in every way."""

import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_hub import (
    FakeHub,
    a_model,
    python,
    quiet,
    running,
    serving,
    wait_for,
)

from harvest.core.errors import MissingExtra, TeacherUnavailable
from harvest.local.models import Model, find
from harvest.local.server import LocalServer
from harvest.local.weights import fetch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


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
