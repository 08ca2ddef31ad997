"""A password in the URL of a store: no process that a job or Python starts has it on its command line."""

import json
from pathlib import Path

import pytest
from jobs import JOB
from scripted_endpoint import PRICE

from finetune.job.settings import read_job
from finetune.job.stage_process import run_process
from finetune.job.stages import stages_of
from harvest.store import without_passwords
from winnow.process import called

SECRET = "s3cret/+"
STORE = "postgresql://me:s3cret%2F%2B@db.example/math?connect_timeout=5"
BARE = "postgresql://me@db.example/math?connect_timeout=5"
SHOWS = """
import json, os, pathlib, sys
line = pathlib.Path(f"/proc/{os.getpid()}/cmdline")
shown = line.read_text().split("\\0") if line.exists() else sys.argv
print(json.dumps({"words": sys.argv[1:], "line": shown, "password": os.environ.get("PGPASSWORD")}))
"""
WORDS = ["--store", STORE, f"--run.store={STORE}", "--question=a=b", "postgresql://me:s3cret%2F%2B@db.example/other"]


def hidden(found: dict[str, object]) -> None:
    assert SECRET not in str(found["line"])
    assert "s3cret" not in str(found["line"])
    assert found["password"] == SECRET
    expected = ["--store", BARE, f"--run.store={BARE}", "--question=a=b", "postgresql://me@db.example/other"]
    assert found["words"][:5] == expected  # type: ignore[index]


def test_a_stage_of_a_job_gets_the_password_in_its_environment(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    script = f"import sys; sys.stdout = open({str(tmp_path / 'found')!r}, 'w'){SHOWS}"
    with (tmp_path / "lock").open() as lock:
        assert run_process(["-c", script, *WORDS], lock.fileno(), shows=False) == 0
    hidden(json.loads((tmp_path / "found").read_text()))


def test_a_command_that_python_starts_gets_it_so_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shows_words.py").write_text(SHOWS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    hidden(called("shows_words", WORDS, quiet=True))


def test_no_stage_shows_it_in_a_dry_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(
        JOB.format(url="http://127.0.0.1:9/v1", epochs=1, **PRICE).replace("sqlite:///store.db", STORE)
    )
    stages = stages_of(read_job(Path("job.toml"), [("run.store", STORE)]))
    named = [stage for stage in stages if "--store" in stage.words]
    assert named
    for stage in stages:
        assert "s3cret" not in stage.command
    assert all(STORE in stage.words for stage in named), "the process itself connects with it"


@pytest.mark.parametrize(
    ("word", "shown", "password"),
    [
        ("postgresql://h/d?user=me&password=s3%20cret", "postgresql://h/d?user=me", "s3 cret"),
        ("postgres://me:a%40b@h,i/d", "postgres://me@h,i/d", "a@b"),
        ("postgresql://me@h/d", "postgresql://me@h/d", None),
        ("postgresql://me:@h/d", "postgresql://me:@h/d", None),
        ("postgresql://me:a/b@h/d", "postgresql://me:a/b@h/d", None),
        ("postgresql://me:pw@h/d?sslpassword=x", "postgresql://me:pw@h/d?sslpassword=x", None),
        ("sqlite:///me:pw@h/d", "sqlite:///me:pw@h/d", None),
        ("https://me:pw@h/v1", "https://me:pw@h/v1", None),
    ],
)
def test_only_a_password_that_can_be_given_apart_is_taken_out(word: str, shown: str, password: str | None) -> None:
    assert without_passwords(["--x", word]) == (["--x", shown], {} if password is None else {"PGPASSWORD": password})
