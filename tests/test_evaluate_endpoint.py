"""`finetune eval` of an endpoint: through the ledger, under a cap, kept and asked once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conftest import ROOT, Place
from endpoint import Asked, Endpoint, Say

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]


def evaluate(here: Place, url: str, *more: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "WINNOW_RUNS": str(here.folder / "runs"), "PYTHONPATH": str(ROOT)}
    flags = ["--model", "mock", "--price", "1", "10", "--questions", str(here.folder / "questions.jsonl"), "--json"]
    store = ["--run", "r", "--store", here.url, "--max-tokens", "100"]
    command = [sys.executable, "-m", "finetune", "eval", url, *flags, *store, *more]
    return subprocess.run(command, cwd=here.folder, env=env, capture_output=True, text=True, timeout=120)


def half_right(asked: Asked) -> Say:
    return Say() if int(asked.question.split()[2]) % 2 else Say(text="\\boxed{-1}")


def test_an_endpoint_is_measured_once_and_its_cost_is_in_the_report(endpoint: Endpoints, place: Places) -> None:
    teacher, other = endpoint(), endpoint(half_right)
    here = place(teacher.url, 10)
    assert here.collect()[0] == 0
    for _ in range(2):
        done = evaluate(here, other.url, "--usd", "1.00")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert (found["n"], found["accuracy"]) == (10, 0.5)
    assert len(other.asked) == 10
    entry = here.report["evaluation"][0]
    assert entry["accuracy"] == 0.5
    assert float(entry["cost_usd"]) > 0
    assert here.report["total_usd"] > here.report["money"]["spent_usd"]


def test_what_the_endpoint_did_not_answer_is_missing_and_not_wrong(endpoint: Endpoints, place: Places) -> None:
    ill = [True]

    def half(asked: Asked) -> Say:
        return Say() if not ill[0] or int(asked.question.split()[2]) % 2 else Say(status=400, error="invalid_request")

    here, other = place(endpoint().url, 10), endpoint(half)
    assert here.collect()[0] == 0
    done = evaluate(here, other.url, "--usd", "1.00")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["n"], found["accuracy"], found["label"], found["settings"]["asked"]) == (5, 1, None, 10)
    assert "5 of 10 were not answered: the same command asks them again" in done.stderr
    ill[0] = False
    assert json.loads(evaluate(here, other.url, "--usd", "1.00").stdout)["n"] == 10


def test_a_cap_that_is_too_small_ends_it_with_the_caps_exit_code(endpoint: Endpoints, place: Places) -> None:
    teacher, other = endpoint(), endpoint()
    here = place(teacher.url, 10)
    assert here.collect()[0] == 0
    done = evaluate(here, other.url, "--usd", "0.003")
    assert done.returncode == 3, done.stderr
    assert "cap" in done.stderr
    assert "Traceback" not in done.stderr
    assert other.billed_pusd <= 3_000_000_000


def test_a_key_is_named_not_given(endpoint: Endpoints, place: Places, tmp_path: Path) -> None:
    here = place(endpoint().url, 2)
    assert here.collect()[0] == 0
    done = evaluate(here, endpoint().url, "--usd", "1", "--api-key-env", "NO_SUCH_VARIABLE")
    assert done.returncode == 2
    assert "NO_SUCH_VARIABLE" in done.stderr
