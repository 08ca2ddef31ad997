"""The command `winnow`: as it is built, installed into another environment, and called from another folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pydantic
import pytest
from conftest import ROOT, Place
from scripted_endpoint import Endpoint

from finetune.commands.arguments import COMMANDS
from harvest.core.files import package_folder, settings_path
from harvest.core.machine import missing_package, unfit
from winnow.command_list import commands, routed

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]


def clean_environment() -> dict[str, str]:
    """This process's environment without what lets Python find the checkout."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "WINNOW"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sources' archive, which is built first."""
    to = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--outdir", str(to), str(ROOT)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(to.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of an environment in which only the wheel is installed; it sees this one's packages."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin/python"
    words = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, *words], check=True, env=clean_environment())
    packages = next(home.glob("lib/python3*/site-packages"))
    (packages / "others.pth").write_text(f"{Path(pydantic.__file__).parents[1]}\n")
    return python.parent


def winnow(program: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program / "winnow", *words], cwd=cwd, env=clean_environment(), capture_output=True, text=True
    )


def test_the_wheel_holds_every_file_that_the_packages_read(wheel: Path) -> None:
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    needed = {name for name in tracked if name.startswith(("harvest/", "finetune/", "winnow/"))}
    needed |= {f"harvest/{name}" for name in tracked if name.startswith(("prompts/", "recipes/"))}
    needed |= {f"harvest/{name}" for name in tracked if re.fullmatch(r"data/\w+\.(toml|jsonl)", name)}
    assert needed - {*zipfile.ZipFile(wheel).namelist()} == set()


def test_installed_it_collects_from_any_folder(
    installed: Path, endpoint: Endpoints, place: Places, tmp_path: Path
) -> None:
    teacher = endpoint()
    toml = place(teacher.url, 3, store="sqlite:///data/winnow.db").toml
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert re.fullmatch(r"winnow \d+\.\d+\.\d+\n", winnow(installed, "--version", cwd=elsewhere).stdout)
    done = winnow(installed, "collect", str(toml), "--json", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["traces"]["selected"] == 3
    name = report["run"]["name"]
    assert (elsewhere / "data/runs" / name / "dataset/train.jsonl").is_file()
    assert "3 checked traces" in winnow(installed, "report", name, cwd=elsewhere).stdout
    below = elsewhere / "notes"
    below.mkdir(parents=True)
    lost = winnow(installed, "report", name, cwd=below)
    assert (lost.returncode, lost.stderr.count("\n")) == (2, 1)
    assert f"cd {elsewhere}," in lost.stderr


def test_installed_it_finds_recipes_by_name_and_estimates_by_what_a_file_is(installed: Path, tmp_path: Path) -> None:
    figures = ("--params-b", "32.8", "--rows", "17000", "--mean-tokens", "4500", "--json")
    done = winnow(installed, "estimate", "sky-t1-32b", *figures, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["gpu_hours"]["mid"] > 10
    assert json.loads(winnow(installed, "estimate", *figures, cwd=tmp_path).stdout)["gpu_hours"]["mid"] > 10


def test_help_has_every_command_in_the_order_of_use_and_is_no_longer_than_a_screen_or_two() -> None:
    text = subprocess.run([sys.executable, "-m", "winnow", "--help"], capture_output=True, text=True, cwd=ROOT).stdout
    listed = re.findall(r"^  ([\w-]+)(?: |$)", text, re.M)
    assert sorted(listed) == sorted({*commands(), "completion", "context"})
    in_use = ["job", "doctor", "estimate", "collect", "report", "select", "export", "sft", "eval"]
    assert [name for name in listed if name in in_use] == in_use
    assert set(COMMANDS) < set(listed)


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        ('questions = "q.jsonl"\n[teacher]\nlocal = "x"\n[student]\nlocal = "y"', "harvest"),
        ('student = "s"\ndata = "d"\noutput = "o"', "finetune"),
        ('student = "s"', "finetune"),
        ('data = "d"\n[train]\nepochs = 1', "finetune"),
        ("not toml", "harvest"),
    ],
)
def test_estimate_goes_by_what_the_file_is(settings: str, package: str, tmp_path: Path) -> None:
    (tmp_path / "f.toml").write_text(settings)
    other = tmp_path / "recipe.toml"
    other.write_text('student = "s"')
    words = ["estimate", "--recipe", str(other), str(tmp_path / "f.toml"), "--json"]
    assert routed(words) == (package, words)


def test_estimate_of_a_job_is_its_dry_run(tmp_path: Path) -> None:
    (tmp_path / "j.toml").write_text('[run]\nquestions = "q.jsonl"\n')
    file = str(tmp_path / "j.toml")
    assert routed(["estimate", file, "--json"]) == ("finetune", ["job", file, "--json", "--dry-run"])
    assert routed(["estimate", f"{file}#run"]) == ("harvest", ["estimate", f"{file}#run"])


def test_settings_may_stand_before_the_command_and_a_wrong_command_names_the_nearest() -> None:
    assert routed(["--budget.usd", "5", "collect", "r.toml"])[0] == "harvest"
    assert routed(["--train.epochs=1", "sft"])[0] == "finetune"
    run = [sys.executable, "-m", "winnow", "colect", "r.toml"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "did you mean 'collect'?" in done.stderr


def test_help_of_a_command_names_the_program_that_was_called() -> None:
    for command in ("collect", "sft"):
        run = [sys.executable, "-m", "winnow", command, "-h"]
        assert subprocess.run(run, capture_output=True, text=True, cwd=ROOT).stdout.startswith(
            f"usage: winnow {command}"
        )


def test_a_recipe_is_found_by_name_unless_the_folder_has_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    built_in = package_folder("recipes") / "jobs/demo.toml"
    for name in ("recipes/jobs/demo.toml", "jobs/demo.toml", "jobs/demo"):
        assert settings_path(name) == built_in
    assert settings_path("jobs/demo#run") == Path(f"{built_in}#run")
    for name in ("jobs/nothing", "launch/ddp.yaml", "../data/teacher_terms.toml#provider", ""):
        assert settings_path(name) == Path(name)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/demo.toml").write_text("")
    assert settings_path("jobs/demo.toml") == Path("jobs/demo.toml")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_flags_values_and_runs(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    run = [sys.executable, "-m", "winnow", "completion", shell]
    script = tmp_path / "script"
    script.write_text(subprocess.run(run, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    (tmp_path / "data/runs/gsm8k-r1").mkdir(parents=True)

    def completed(line: str) -> set[str]:
        words = line.split(" ")
        if shell == "fish":
            code = f"source {script}; complete -C '{line}'"
        else:
            listed, at = " ".join(f"'{word}'" for word in words), len(words) - 1
            code = f"source {script}; COMP_WORDS=({listed}); COMP_CWORD={at}; _winnow"
            code += "; printf '%s\\n' \"${COMPREPLY[@]}\""
        if shell == "zsh":
            code = f"autoload -U compinit && compinit -D; emulate sh -o kshglob -o noshglob; {code}"
        start = {"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"], "fish": ["fish", "--no-config"]}[shell]
        env = clean_environment() | {"HOME": str(tmp_path)}
        done = subprocess.run([*start, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env)
        found = {line.split("\t")[0] for line in done.stdout.splitlines()}
        return (
            {word for word in found if word.startswith(words[-1])} if shell == "zsh" else found
        )  # as its compadd does

    assert {"collect", "sft", "job"} <= completed("winnow ")
    assert completed("winnow col") == {"collect"}
    assert completed("winnow export gsm8k-r1 --fo") == {"--format"}
    assert completed("winnow export gsm8k-r1 --format ") == {"jsonl", "parquet"}
    assert "gsm8k-r1" in completed("winnow report gs")
    assert completed("winnow completion ") >= {"bash", "zsh", "fish"}


def test_a_wrong_shell_is_one_line() -> None:
    run = [sys.executable, "-m", "winnow", "completion", "csh"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bash, zsh, fish" in done.stderr


@pytest.mark.parametrize("package", ["harvest", "finetune", "winnow"])
def test_a_python_without_the_packages_is_told_where_they_are(package: str, tmp_path: Path) -> None:
    words = {"harvest": ["collect"], "finetune": ["show"], "winnow": ["report", "r"]}[package]
    run = [sys._base_executable, "-S", "-E", "-m", package, *words]  # type: ignore[attr-defined]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"error: this Python \(.*\) has no package '\w+'\. .*\.venv/bin/activate\n", done.stderr)


def test_a_missing_module_of_ours_is_a_defect_of_ours() -> None:
    assert missing_package(ModuleNotFoundError(name="harvest.nothing")) is None
    assert missing_package(ModuleNotFoundError(name="pydantic.v9")) is not None


def test_where_it_cannot_run_it_says_so() -> None:
    assert "WSL" in (unfit("win32") or "")
    assert "3.10" in (unfit("linux", (3, 10)) or "")
    assert unfit("linux", (3, 11)) is unfit("darwin", (3, 14)) is None
