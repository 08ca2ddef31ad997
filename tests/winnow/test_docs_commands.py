"""The commands and settings in README.md and docs/: all are read by the parsers and models, and the README's are
run as they stand there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, sums
from pydantic import BaseModel
from scripted_endpoint import Endpoint, Say

from finetune.__main__ import TOP_LEVEL as OF_FINETUNE
from finetune.commands.arguments import parser as finetune_parser
from finetune.job.kinds import Cut
from finetune.job.settings import Job
from finetune.recipe import Recipe
from harvest.__main__ import TOP_LEVEL as OF_HARVEST
from harvest.commands.arguments import parser as harvest_parser
from harvest.core.config import RunConfig
from harvest.core.overrides import take_overrides
from harvest.core.settings import model_in
from winnow.command_list import routed

CONTEXT = ROOT / "winnow/context.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", CONTEXT, *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PACKAGE = {"harvest": (harvest_parser, OF_HARVEST), "finetune": (finetune_parser, OF_FINETUNE)}


def blocks(page: Path, *kinds: str) -> Iterator[str]:
    return (text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind in kinds)


def lines(text: str) -> Iterator[str]:
    """The commands of a block: continued lines are one, comments and prompts are left out."""
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"(^|\s)#\s.*$", "", line).removeprefix("$ ").strip()
        if command:
            yield command


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(package, words) of each command of ours on a page, however it is started."""
    for text in blocks(page, "sh", "bash"):
        for line in lines(text):
            for words in simple_commands(line):
                for n, word in enumerate(words):
                    if word == "-m" and words[n + 1] in PACKAGE:
                        yield words[n + 1], words[n + 2 :]
                        break
                    if word == "winnow" and n == 0:
                        yield "winnow", words[1:]
                        break


def simple_commands(line: str) -> list[list[str]]:
    """The words of each command of a line, up to where its output goes."""
    reading = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    reading.whitespace_split = True
    found: list[list[str]] = [[]]
    takes = True
    for word in reading:
        if set(word) <= set("|&;"):
            found.append([])
            takes = True
        elif set(word) <= set("<>"):
            takes = False
        elif takes:
            found[-1].append(word)
    return [words for words in found if words]


ALL = [(page.name, package, words) for page in PAGES for package, words in commands(page)]


def test_the_pages_have_commands() -> None:
    assert len(ALL) > 80
    assert {package for _, package, _ in ALL} == {"harvest", "finetune", "winnow"}


@pytest.mark.parametrize(("page", "package", "words"), ALL, ids=lambda v: " ".join(v) if isinstance(v, list) else v)
def test_every_command_on_a_page_is_one_that_the_parser_takes(page: str, package: str, words: list[str]) -> None:
    if package == "winnow":
        if words[0] in ("--help", "--version", "completion", "context", "COMMAND"):
            return
        package, words = routed(words)
    make, top_level = PACKAGE[package]
    rest, overrides = (words, []) if words[0] == "import" else take_overrides(words, top_level)
    args = make().parse_args(rest)  # a mistake ends this with SystemExit, and what is wrong on stderr
    assert not overrides or args.overrides, f"{words[0]} takes no settings: {overrides}"
    for setting, _ in overrides:
        assert any(knows(model, setting.split(".")) for model in (RunConfig, Recipe, Job)), setting


def knows(model: type[BaseModel] | None, path: list[str]) -> bool:
    """Whether a model has a setting by this path. What takes any name has it."""
    if model is None or not path:
        return True
    if model is Job and path[0] in ("run", "train") and len(path) > 1:
        inner = path[2:] if path[1:2] == ["recipe"] else path[1:]
        return knows(RunConfig if path[0] == "run" else Recipe, inner) or knows(model_in(_field(Job, "train")), inner)
    if path[0].isdecimal():
        return knows(model, path[1:])
    if path[0] not in model.model_fields:
        return model.model_config.get("extra") == "allow"
    inner_model = model_in(_field(model, path[0]))
    return len(path) == 1 or inner_model is None or knows(inner_model, path[1:])


def _field(model: type[BaseModel], name: str) -> Any:
    return model.model_fields[name].annotation


def paths(table: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(table, dict):
        for key, value in table.items():
            yield from paths(value, (*at, key))
    elif isinstance(table, list) and table and isinstance(table[0], dict):
        for one in table:
            yield from paths(one, at)
    else:
        yield at


SETTINGS = [(page.name, n, text) for page in PAGES for n, text in enumerate(blocks(page, "toml"))]


@pytest.mark.parametrize(("page", "n", "text"), SETTINGS, ids=lambda v: str(v)[:30])
def test_every_block_of_settings_loads_and_names_settings_that_there_are(page: str, n: int, text: str) -> None:
    data = tomllib.loads(re.sub(r"^…$", "", text, flags=re.MULTILINE))
    assert data, "nothing in it"
    for path in paths(data):
        found = [*path]
        known = any(knows(model, found) for model in (RunConfig, Recipe, Job, Cut))
        assert known or found[-1] == "file", f"{page}: no run, recipe or job has the setting {'.'.join(path)}"


def test_a_setting_that_is_none_is_found() -> None:
    assert not any(knows(model, ["sampling", "max_token"]) for model in (RunConfig, Recipe, Job))
    assert not any(knows(model, ["teecher"]) for model in (RunConfig, Recipe, Job))
    assert next(commands(ROOT / "README.md"))[1] != []


def test_every_target_of_make_that_a_page_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    for page in PAGES:
        for text in blocks(page, "sh", "bash"):
            named = {m for line in lines(text) for m in re.findall(r"(?:^|\s)make (\w+)", line)}
            assert named <= targets, page.name


# ---- the README's commands are run as they stand


def readme_run(endpoint: Endpoint, folder: Path) -> None:
    """Puts what the README's commands name into a folder: its run.toml, asked of the scripted endpoint, and files."""
    toml = next(text for text in blocks(ROOT / "README.md", "toml") if "# run.toml" in text)
    address = 'base_url    = "https://api.deepseek.com/v1"\nmodel       = "deepseek-reasoner"'
    assert address in toml
    price = 'price_usd_per_mtok = { input = "1.00", output = "10.00" }'
    there = f'base_url    = "{endpoint.url}"\nmodel       = "mock"\n{price}'
    (folder / "run.toml").write_text(toml.replace(address, there))
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums(40)))
    answers = [{"custom_id": f"q{i}", "response": f"So \\boxed{{{2 * i + 1}}}"} for i in range(3)]
    answers = [{**sums(1, i)[0], "response": a["response"]} for i, a in enumerate(answers)]
    (folder / "batch_output.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))


def test_the_readmes_commands_of_a_run_are_run_one_after_the_other(
    endpoint: Callable[..., Endpoint], tmp_path: Path
) -> None:
    readme_run(endpoint(lambda asked: Say(text="\\boxed{0}") if "7 +" in asked.question else Say()), tmp_path)
    env = {**os.environ, "DEEPSEEK_API_KEY": "sk-x", "PYTHONPATH": str(ROOT)}
    env.pop("WINNOW_RUNS", None)
    ran = []
    for package, words in commands(ROOT / "README.md"):
        if package != "harvest" or words[0] in ("view", "sandbox"):  # a server until Ctrl-C; tests of its own
            continue
        real = ["q0" if word.startswith("q-") else word for word in words]
        done = subprocess.run(
            [sys.executable, "-m", package, *real], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
        assert "Traceback" not in done.stderr
        ran.append(words[0])
    assert ran[:4] == ["collect", "estimate", "doctor", "collect"]
    assert {"why", "settle", "report", "export", "select", "import", "verify"} <= {*ran}
    assert (tmp_path / "set/dataset_info.json").is_file()


def test_the_readmes_estimate_of_a_recipe_runs_without_network() -> None:
    words = next(w for p, w in commands(ROOT / "README.md") if p == "finetune" and w[0] == "estimate")
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-m", "finetune", *words], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "GPU-hours" in done.stdout


def test_what_an_assistant_is_told_is_short_and_true() -> None:
    """Its blocks of settings are checked above; here are its commands, which stand in lines of text."""
    text = CONTEXT.read_text("utf-8")
    assert len(text) <= 2000 * 3.8, "2,000 tokens, at 3.8 characters each"
    run = [sys.executable, "-m", "winnow", "context"]
    assert subprocess.run(run, capture_output=True, text=True, cwd=ROOT).stdout == text
    told = [shlex.split(words) for words in re.findall(r"`winnow ([^`]+)`", text)]
    assert len(told) > 12
    for words in told:
        plain = [word.replace("free|worst|USD", "free") for word in words]
        package, words = routed(plain)
        make, top_level = PACKAGE[package]
        rest, _ = (words, []) if words[0] == "import" else take_overrides(words, top_level)
        make().parse_args(rest)
    for setting in set(re.findall(r"`(?:--)?([a-z_]+\.[a-z_]+)\b", text)) - {"section.key"}:
        known = any(knows(model, setting.split(".")) for model in (RunConfig, Recipe, Job))
        assert known or setting.endswith((".db", ".json", ".jsonl")), setting


def test_the_index_for_assistants_names_every_page() -> None:
    index = (ROOT / "docs/llms.txt").read_text("utf-8")
    named = re.findall(r"\(([\w-]+\.md)\)", index)
    assert sorted(named) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))
