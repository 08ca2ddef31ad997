"""The main job with a real teacher, real questions and real checks, and what a user may do to it while it runs.

The smaller of the two embedded teachers answers; its weights are fetched once into the cache.
"""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import datasets
import openai
import pytest
from conftest import ROOT

from harvest.core.errors import StoreUnusable
from harvest.local.server import LocalServer
from harvest.local.weights import fetch
from harvest.store import Store

TEACHER = "Qwen2.5-Coder-0.5B-Instruct"
RUN = """
name = "real"
questions = "reasoning-gym:chain_sum?n=8&seed=3&min_terms=2&max_terms=3&min_digits=1&max_digits=1"
prompt = "steps"
store = "sqlite:///store.db"
[teacher]
local = "{teacher}"
max_concurrency = 2
[sampling]
max_tokens = 128
seed = 7
samples = 2
"""
NO_NETWORK = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
    "HF_HUB_OFFLINE": "1",
}
"""Whoever asks anything but this machine is refused at once."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    fetch(TEACHER)
    where = tmp_path_factory.mktemp("real")
    (where / "run.toml").write_text(RUN.format(teacher=TEACHER))
    return where


def start(folder: Path, *args: str) -> "subprocess.Popen[str]":
    env = {**os.environ, **NO_NETWORK, "WINNOW_RUNS": str(folder / "runs"), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "harvest", *args],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answered(folder: Path) -> list[tuple[str, str]]:
    """(question, when) of each stored answer."""
    if not (folder / "store.db").exists():
        return []
    with closing(Store.open(f"sqlite:///{folder / 'store.db'}", write=False)) as store:
        rows = store.answered_attempts(store.run_id("real"), "all")
        return [(r.question.id, r.sent_at) for r in rows]


def servers_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`, by /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_the_main_job_killed_twice_ends_with_every_answer_asked_once(folder: Path) -> None:
    for end in (signal.SIGKILL, signal.SIGINT):
        before = len(answered(folder))
        process = start(folder, "collect", "run.toml")
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(StoreUnusable):  # it is being made
                if len(answered(folder)) >= before + 2:
                    break
            time.sleep(0.1)
        children = servers_of(process.pid)
        assert children, "no server of its own"
        process.send_signal(end)
        _, err = process.communicate(timeout=60)
        assert process.returncode == (-9 if end == signal.SIGKILL else 130), err
        assert gone(children), "the server lives on without its parent"
    there = answered(folder)
    process = start(folder, "collect", "run.toml", "--json")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert set(there) <= set(answered(folder)), "a stored answer was asked again"
    report = json.loads(out)
    assert report["run"]["status"] == "complete"
    assert report["questions"]["total"] == 8
    assert report["traces"]["accepted"] + report["questions"]["given_up"] >= 8
    assert report["traces"]["accepted"] >= 1
    assert report["money"]["spent_usd"] == "0.00"


def gone(pids: list[int]) -> bool:
    """Whether all of them have ended within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if not any(alive(p) for p in pids):
            return True
        time.sleep(0.1)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_again_it_asks_nothing_and_starts_no_server(folder: Path) -> None:
    before = answered(folder)
    assert before, "the test above collects"
    process = start(folder, "collect", "run.toml")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert answered(folder) == before


def test_the_traces_hold_a_chain_that_ends_in_the_gold_answer(folder: Path) -> None:
    rows: list[dict[str, Any]] = datasets.load_dataset(
        str(folder / "runs/real/dataset"), split="train", cache_dir=str(folder / "cache")
    ).to_list()
    assert rows
    for row in rows:
        assert row["gold"] in row["answer"].splitlines()[-1]
        assert row["verdicts"][-1]["passed"]
        assert row["messages"][-1]["role"] == "assistant"
        if row["reasoning"] is not None:
            assert "\\boxed" not in row["reasoning"]
            assert row["messages"][-1]["content"].startswith("<think>\n")


def test_the_openai_client_speaks_with_the_embedded_teacher() -> None:
    with LocalServer(TEACHER, slots=1, context_tokens=512) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0)
        said = client.chat.completions.create(
            model=server.model,
            messages=[{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "2 + 2 ="}],
            max_tokens=8,
            temperature=0,
            logprobs=True,
            top_logprobs=2,
        )
        client.close()
    assert said.choices[0].message.content
    assert said.usage
    assert said.usage.completion_tokens <= 8
    assert said.choices[0].logprobs
