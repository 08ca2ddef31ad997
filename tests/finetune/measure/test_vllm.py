"""`finetune eval` with vLLM: a stand-in for its server behind the same command line is started, asked and ended."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import ROOT
from students import tiny_student

from finetune.__main__ import main
from finetune.measure.vllm.command import gpus_gib, serving_of
from finetune.measure.vllm.server import free_port, is_taken
from finetune.student import find, identity
from harvest.core.errors import ConfigError

FLAGS = ("--engine", "vllm", "--json")


class Place:
    """A folder with questions, runs, the stand-in on the path, and what it notes of each start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.questions(6)
        (folder / "bin").mkdir()
        program = folder / "bin" / "vllm"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/stand_in_vllm.py" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.env = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "WINNOW_RUNS": str(folder / "runs"),
            "STAND_IN_STARTS": str(folder / "starts"),
        }

    def questions(self, n: int) -> None:
        rows = ({"id": f"q{i}", "question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(n))
        (self.folder / "q.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    @property
    def words(self) -> list[str]:
        return ["--questions", str(self.folder / "q.jsonl"), "--store", f"sqlite:///{self.folder}/w.db", *FLAGS]

    @property
    def starts(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "starts").glob("*.json")) if (self.folder / "starts").is_dir() else []
        return [json.loads(f.read_text()) for f in files]

    def asked(self) -> list[str]:
        return [r["messages"][-1]["content"] for start in self.starts for r in start["requests"]]

    def nothing_runs(self) -> bool:
        return not any(is_alive(start[who]) for start in self.starts for who in ("pid", "worker"))


def is_alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(done: Callable[[], bool], limit_s: float = 90) -> None:
    until = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("students") / "mine")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    place = Place(tmp_path)
    for name, value in place.env.items():
        monkeypatch.setenv(name, value)
    yield place
    wait_for(place.nothing_runs)


def test_it_is_started_asked_and_ended_and_counts_as_a_folder_does(
    here: Place, student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_TAKEN", str(here.folder / "taken"))
    try:
        code = main(["eval", str(student), *here.words, "--samples", "2", "--preset", "deepseek-r1"])
    finally:
        os.kill(int((here.folder / "taken").read_text()), signal.SIGKILL)
    told = capsys.readouterr()
    assert code == 0, told.err
    found = json.loads(told.out)
    assert (found["n"], found["samples"], found["accuracy"]) == (6, 2, 1)
    assert found["settings"]["engine"]["engine"] == "vllm 0.33.0"
    assert found["cost_usd"] is None, "nobody knows what the GPU costs"
    assert "another program took port" in told.err
    lost, start = here.starts
    assert not lost["requests"]
    assert here.nothing_runs()
    words = start["arguments"]
    assert words[:2] == ["serve", str(student)]
    assert words[words.index("--max-model-len") + 1] == "2048"
    assert "not 32,768: the model's limit is 2,048 tokens" in told.err
    assert len(start["requests"]) == 12
    sent = start["requests"][0]
    assert (sent["temperature"], sent["top_p"], sent["skip_special_tokens"]) == (0.6, 0.95, False)
    assert main(["eval", str(student), *here.words, "--samples", "2", "--preset", "deepseek-r1"]) == 0
    assert len(here.starts) == 2, "started though every answer was there"


def test_what_it_dies_of_while_it_loads_is_one_line(
    here: Place, student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_FAULT", "ValueError: No available memory for the cache blocks.")
    assert main(["eval", str(student), *here.words]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "vLLM ended (exit code 1): (EngineCore pid=1) ValueError: No available memory" in errors[0]
    assert "server.log" in errors[0]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_killed_in_each_phase_nothing_is_left_and_the_next_start_goes_on(
    here: Place, student: Path, end: signal.Signals
) -> None:
    here.questions(12)
    log = here.folder / "log"
    slow = {**here.env, "STAND_IN_LOAD_S": "600"}
    loading = forked.evaluate(student, *here.words, log=log, env=slow)
    wait_for(lambda: len(here.starts) == 1)
    os.kill(loading.pid, end)
    loading.wait(60)
    wait_for(here.nothing_runs)
    slow = {**here.env, "STAND_IN_ANSWER_S": "0.3"}
    asking = forked.evaluate(student, *here.words, "--concurrency", "2", log=log, env=slow)
    wait_for(lambda: len(here.asked()) >= 4 or asking.poll() is not None)
    os.kill(asking.pid, end)
    asking.wait(60)
    assert asking.returncode == (-end if end == signal.SIGKILL else 130), log.read_text()
    wait_for(here.nothing_runs)
    before = len(here.asked())
    assert 4 <= before < 12
    last = forked.evaluate(student, *here.words, log=log, env=here.env)
    last.wait(120)
    assert last.returncode == 0, log.read_text()
    assert here.nothing_runs()
    found = json.loads(log.read_text().splitlines()[-1])
    assert (found["n"], found["accuracy"]) == (12, 1)
    asked = here.asked()
    assert len(set(asked)) == 12
    assert len(asked) - 12 <= 2, "asked again what was answered, beside what was on its way"
    assert "Traceback" not in log.read_text()


def test_when_it_ends_while_it_answers_its_log_is_quoted_and_the_answers_are_kept(
    here: Place, student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    here.questions(12)
    process = forked.evaluate(
        student,
        *here.words,
        "--concurrency",
        "2",
        log=here.folder / "log",
        env={**here.env, "STAND_IN_ANSWER_S": "0.3"},
    )
    wait_for(lambda: len(here.asked()) >= 4 or process.poll() is not None)
    os.kill(here.starts[0]["pid"], signal.SIGKILL)
    process.wait(120)
    said = (here.folder / "log").read_text()
    assert process.returncode == 2, said
    assert "vLLM ended (exit code 137): INFO loading the weights" in said
    wait_for(here.nothing_runs)
    assert main(["eval", str(student), *here.words]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 12
    assert len(here.asked()) <= 14


def test_an_adapter_is_served_over_its_model_at_its_rank(
    here: Place, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = an_adapter(here.folder / "adapter", student, r=24)
    assert main(["eval", str(adapter), *here.words]) == 0, capsys.readouterr().err
    (start,) = here.starts
    words = start["arguments"]
    assert words[:2] == ["serve", str(student)]
    assert json.loads(words[words.index("--lora-modules") + 1]) == {"name": "student", "path": str(adapter)}
    assert words[words.index("--max-lora-rank") + 1] == "32"
    assert {r["model"] for r in start["requests"]} == {"student"}
    whole = an_adapter(here.folder / "whole", student, modules_to_save=["lm_head"])
    with pytest.raises(ConfigError, match="merge it first: python -m finetune merge"):
        serving_of(find(str(whole)))


def an_adapter(folder: Path, base: Path, **more: Any) -> Path:
    """A folder that vLLM would take for an adapter; its weights are of no use."""
    folder.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 8, **more}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes(b"of no use")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((base / name).read_bytes())
    return folder


def test_a_checkpoint_belongs_to_its_training(here: Place, student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = here.folder / "trained"
    checkpoint = output / "checkpoint-4"
    checkpoint.mkdir(parents=True)
    for file in student.iterdir():
        (checkpoint / file.name).write_bytes(file.read_bytes())
    (checkpoint / "winnow.json").write_text('{"strategy": "single", "processes": 1}')
    (output / "winnow.json").write_text(json.dumps({"layout": {"open": "<think>\n", "close": "\n</think>\n\n"}}))
    assert main(["eval", str(checkpoint), *here.words]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["label"] == "after"


S1 = "<|im_start|>think\nA, perhaps \\boxed{-1}\n<|im_start|>answer\nThe answer is SUM."


@contextmanager
def served(here: Place, *words: str) -> Iterator[str]:
    """The stand-in as a user starts it; its address."""
    port = free_port()
    program = [str(here.folder / "bin" / "vllm"), "serve", *words, "--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "VLLM_API_KEY": "sk-mine", "STAND_IN_ANSWER": S1}
    with subprocess.Popen(program, env=env, start_new_session=True) as server:
        try:
            wait_for(lambda: is_taken(port))
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def test_a_url_on_this_machine_is_the_student_whose_folder_it_serves(
    here: Place, student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = here.folder / "trained"
    shutil.copytree(student, trained)
    noted = {
        "layout": {"open": "<|im_start|>think\n", "close": "\n<|im_start|>answer\n"},
        "of": {"student": "sha256:0"},
    }
    (trained / "winnow.json").write_text(json.dumps(noted))
    monkeypatch.setenv("MY_KEY", "sk-mine")
    words = [*here.words[:-3], "--json", "--api-key-env", "MY_KEY", "--preset", "deepseek-r1"]
    with served(here, str(trained), "--served-model-name", str(trained), "--max-model-len", "2048") as url:
        assert main(["eval", url, *words]) == 0, capsys.readouterr().err
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert (found["accuracy"], found["label"]) == (1, "after"), "s1's marks are not read"
    assert found["settings"]["came_from"] == ["sha256:0"]
    assert found["settings"]["engine"]["weights"] == identity(find(str(trained)))
    assert f"the student in {trained}" in told.err
    assert "not 32,768: the model's limit is 2,048 tokens" in told.err


def test_of_several_models_at_a_url_one_has_to_be_named(
    here: Place, student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-mine")
    words = [*here.words[:-3], "--json", "--api-key-env", "MY_KEY"]
    with served(
        here, str(student), "--served-model-name", "base", "--lora-modules", '{"name": "mine", "path": "nowhere"}'
    ) as url:
        assert main(["eval", url, *words]) == 2
        assert "--model names the model there: base, mine" in capsys.readouterr().err
        assert main(["eval", url, *words, "--model", "mine"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] is None


def test_auto_takes_vllm_where_a_gpu_is_there_and_spreads_the_model(
    here: Place, student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    smi = here.folder / "bin" / "nvidia-smi"
    smi.write_text('#!/bin/sh\ncase "$*" in *"-i 0,3 "*) printf "81559\\n81559\\n";; *) exit 6;; esac\n')
    smi.chmod(0o755)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,3")
    assert main(["eval", str(student), *here.words[:-3], "--json"]) == 0, capsys.readouterr().err
    words = here.starts[0]["arguments"]
    assert words[words.index("--data-parallel-size") + 1] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus_gib() == []


def test_vllm_that_is_not_there_is_one_line_with_the_command_that_installs_it(
    here: Place, student: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here.folder / "bin" / "vllm").unlink()
    assert main(["eval", str(student), *here.words]) == 2
    assert "vLLM is not installed: pipx install vllm" in capsys.readouterr().err
    assert main(["eval", str(student), *here.words, "--engine", "transformers", "--tensor-parallel", "2"]) == 2
    assert "--tensor-parallel: not for transformers" in capsys.readouterr().err
