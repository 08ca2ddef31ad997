"""The hub: a finished student is pushed once, a failed push is repeated alone, and a student has a revision."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeRepositories, repositories
from students import tiny_student
from trainings import Make, make, student

from finetune.__main__ import main

pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRepositories]:
    with repositories() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        yield hub


def test_a_finished_student_is_pushed_and_a_push_that_failed_is_repeated_alone(
    hub: FakeRepositories, make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make(train="push_to_hub = true\nhub_model_id = 'org/mine'\nhub_private_repo = true", rows=16)
    output = recipe.parent / "out"
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    assert main(["sft", str(recipe)]) == 2
    err = capsys.readouterr().err
    (line,) = (x for x in err.splitlines() if x.startswith("error: "))
    assert line.startswith("error: org/mine: not pushed to the hub: ")
    assert line.endswith("the same command pushes it again and trains nothing")
    weights = (output / "model.safetensors").stat()
    assert hub.files == {}

    monkeypatch.setenv("HF_TOKEN", hub.token)
    for _ in range(2):  # the hub has all of it the second time
        assert main(["sft", str(recipe)]) == 0
        assert f"pushed as {hub.address}/org/mine/commit/" in capsys.readouterr().err
    assert (output / "model.safetensors").stat().st_mtime_ns == weights.st_mtime_ns
    assert len(hub.commits) == 1
    assert hub.private == {"org/mine": True}
    files = hub.files["org/mine", "main"]
    assert files["model.safetensors"] == (output / "model.safetensors").read_bytes()
    assert b"trained by winnow" in files["README.md"]
    assert {"config.json", "tokenizer.json", "README.md", "curve.jsonl"} <= files.keys()
    assert not [name for name in files if name.startswith((".", "checkpoint-")) or name == "winnow.json"]
    assert not any(hub.token.encode() in f.read_bytes() for f in output.rglob("*") if f.is_file())

    assert main(["sft", str(recipe), "--train.hub_revision", "second"]) == 0, "where it goes may change"
    assert hub.files["org/mine", "second"] == files


def test_without_a_token_or_without_push_to_hub_it_is_refused_before_anything_is_trained(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import get_token

    monkeypatch.delenv("HF_TOKEN", raising=False)
    recipe = make()
    assert main(["sft", str(recipe), "--train.hub_model_id", "a/b"]) == 2
    assert "train.hub_model_id: nothing is pushed without train.push_to_hub = true" in capsys.readouterr().err
    assert main(["sft", str(recipe), "--train.hub_token", "secret"]) == 2
    assert "run `hf auth login` or set HF_TOKEN" in capsys.readouterr().err
    if get_token() is None:
        assert main(["sft", str(recipe), "--train.push_to_hub", "true"]) == 2
        assert "train.push_to_hub: no token of the hub" in capsys.readouterr().err
    assert not (recipe.parent / "out").exists()


def test_a_student_of_the_hub_has_the_revision_that_is_asked_for_and_its_commit_is_known(
    hub: FakeRepositories, tmp_path: Path
) -> None:
    for branch, seed in (("main", 1), ("v1", 2)):
        folder = tiny_student(tmp_path / branch, seed=seed, layers=seed)
        hub.files["org/mine", branch] = {f.name: f.read_bytes() for f in folder.iterdir()}
    commits = [hub.sha("org/mine", branch) for branch in ("main", "v1")]
    code = """
import json, sys
from finetune.student import commit_of, count_parameters, find, identity, load_tokenizer, sizes
students = [find(name) for name in sys.argv[1:]]
print(json.dumps([
    [commit_of(s), identity(s), sizes(s)["num_hidden_layers"], len(load_tokenizer(s)) > 0] for s in students
]))
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    names = ("org/mine", "org/mine@v1", f"org/mine@{commits[1]}")
    done = subprocess.run(
        [sys.executable, "-c", code, *names], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    newest, tagged, exact = json.loads(done.stdout)
    assert newest[0] == commits[0]
    assert tagged == exact
    assert tagged[0] == commits[1]
    assert newest[1] != tagged[1]
    assert (newest[2], tagged[2]) == (1, 2)
