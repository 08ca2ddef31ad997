"""The command line: settings given as words, mistakes, and names that do not exist."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from conftest import ROOT, Place
from scripted_endpoint import Endpoint

from harvest.__main__ import main
from harvest.core.overrides import take_overrides

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]


def test_overrides_may_stand_anywhere(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    here = place(teacher.url, 2)
    code, out, err = here.collect("--sampling.temperature=0.1", "--budget.usd", "0.50", "--json")
    assert code == 0, err
    assert '"cap_usd": "0.50"' in out
    assert teacher.asked[0].body["temperature"] == 0.1


def test_overrides_are_taken_out_wherever_they_stand() -> None:
    pair = [("train.epochs", "1"), ("output", "o")]
    for words in (["sft", "--train.epochs", "1", "--output=o"], ["sft", "r.toml", "--train.epochs=1", "--output", "o"]):
        rest, found = take_overrides(words, ("output",))
        assert found == pair
        assert rest == [w for w in words if w in ("sft", "r.toml")]
    assert take_overrides(["sft", "--run", "r", "--json"], ()) == (["sft", "--run", "r", "--json"], [])
    assert take_overrides(["--teachers.0.max_concurrency", "4"], ()) == ([], [("teachers.0.max_concurrency", "4")])


@pytest.mark.parametrize(
    "argv",
    [
        ["report", "nosuchrun"],
        ["why", "nosuchrun", "q1"],
        ["export", "nosuchrun"],
        ["export", "./no/such/folder"],
        ["collect", "nosuch.toml"],
        ["collect", "."],
        ["collect", "--budget.usd"],
        ["collect", "--sampling.samples", "2", "nosuch.toml"],
        ["report", "r", "--budget.usd", "5"],
        ["report", "a name that no file system takes" * 99],
        ["copy", "sqlite:///nosuch.db", "sqlite:///new.db"],
        ["nosuchcommand"],
    ],
)
def test_a_mistake_is_exit_code_2_without_a_traceback(argv: list[str], tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "WINNOW_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(
        [sys.executable, "-m", "harvest", *argv], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error" in done.stderr


@pytest.mark.parametrize("here", [True, False])
def test_a_command_without_a_file_says_that_it_runs_the_demo_and_how_to_run_ones_own(
    here: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if here:
        (tmp_path / "run.toml").write_text("")
    assert main(["collect", "--budget.usd", "much"]) == 2
    first = capfd.readouterr().err.splitlines()[0]
    assert "no RUN.toml is named, so this is the demo" in first
    assert ("there is a run.toml here: `collect run.toml`" in first) == here


@pytest.mark.parametrize(
    ("package", "word", "meant"),
    [("harvest", "colect", "collect"), ("finetune", "evl", "eval"), ("harvest", "zzz", "")],
)
def test_a_wrong_command_is_one_line_and_names_the_nearest(package: str, word: str, meant: str) -> None:
    done = subprocess.run([sys.executable, "-m", package, word], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"error: {word}: there is no such command" in done.stderr
    assert (f"did you mean '{meant}'?" if meant else "known are ") in done.stderr


@pytest.mark.parametrize(
    "words",
    [("harvest", "doctor", "--teacher.local", "{}"), ("finetune", "estimate", "recipe.toml", "--student", "{}")],
)
def test_another_users_cache_of_models_is_one_line(words: tuple[str, ...], tmp_path: Path) -> None:
    model = "SmolLM2-135M-Instruct"
    cache = tmp_path / "cache"
    (cache / model).mkdir(parents=True)
    (tmp_path / "recipe.toml").write_text((ROOT / "recipes/demo-student.toml").read_text())
    without: list[str] = []
    if os.geteuid() == 0:  # who may read everything, unless these rights are taken away
        without = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, or another user than root")
        os.chown(cache, 65534, 65534)
    cache.chmod(0o700 if without else 0)
    env = {**os.environ, "WINNOW_CACHE": str(cache), "PYTHONPATH": str(ROOT), "WINNOW_RUNS": str(tmp_path / "runs")}
    run = [*without, sys.executable, "-m", *(word.format(model) for word in words)]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, env=env)
    cache.chmod(0o700)
    assert done.returncode == 2, done.stderr
    assert f"error: {cache}/{model}/" in done.stderr
    assert "permission denied: give this user the right, or name another place (WINNOW_CACHE" in done.stderr


def test_a_key_in_place_of_a_name_is_not_repeated(
    endpoint: Endpoints, place: Places, capfd: pytest.CaptureFixture[str]
) -> None:
    here = place(endpoint().url, 1, teacher__api_key_env="gsk_ABCDEFsecret")
    assert main(["collect", str(here.toml)]) == 2
    said = capfd.readouterr()
    assert "gsk_ABCDEFsecret" not in said.out + said.err


def test_what_stands_in_netrc_is_sent_to_nobody(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    here = place(teacher.url, 2)
    netrc = here.folder / "netrc"
    netrc.write_text("default login me password hunter2\n")
    netrc.chmod(0o600)
    here.env["NETRC"] = str(netrc)
    code, _, err = here.collect()
    assert code == 0, err
    assert all("authorization" not in asked.headers for asked in teacher.asked)


def test_a_price_bound_is_believed_of_openrouter_alone(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    bound = {"provider": {"max_price": {"prompt": "0.001", "completion": "0.001"}}}
    here = place(teacher.url, 4, sampling__extra=bound, budget__usd="0.0005")
    assert here.collect()[0] == 3
    assert teacher.asked == []


def test_doctor_spends_under_the_cap_of_the_run(endpoint: Endpoints, place: Places) -> None:
    """One answer costs 340 microdollars, at most 1,160 or so: the cap has room for doctor and some answers."""
    teacher = endpoint()
    p = place(teacher.url, 30, budget__usd="0.004", teacher__max_concurrency=1)
    assert p.harvest("doctor", str(p.toml))[0] == 0
    assert p.collect()[0] == 3
    assert teacher.billed_pusd <= 4 * 10**9
    assert p.money("beside") == Decimal("0.00034")
    assert p.money("remaining") == p.money("cap") - p.money("spent") - p.money("beside")
    before = len(teacher.asked)
    code, _, err = p.harvest("doctor", str(p.toml))
    assert code == 3, err
    assert len(teacher.asked) == before
