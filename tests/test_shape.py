"""The shape of the project: import arrows, the README's tree, commands and settings in the docs."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from finetune.config import GONE, OURS
from finetune.config import describe as recipe_settings
from harvest.config import describe

PURE = {
    "plan", "pace", "limits", "money", "reply", "refusal", "response", "stream", "repetition", "untrusted", "stats",
    "forecast", "report", "order", "ladder", "evaluation",
}  # fmt: skip
EDGES = {"store", "teacher", "local", "collect", "session", "ledger", "buy", "run", "questions"}
OUTSIDE = {"aiohttp", "httpx", "sqlite3", "subprocess", "socket", "asyncio", "time", "os", "pathlib", "random"}
BOTTOM = {"errors": set(), "money": {"errors"}, "trace": {"errors", "money"}}


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


HARVEST = sorted((ROOT / "harvest").rglob("*.py"))
FINETUNE = sorted((ROOT / "finetune").rglob("*.py"))


@pytest.mark.parametrize("path", HARVEST, ids=lambda p: str(p.relative_to(ROOT)))
def test_harvest_knows_nothing_of_training(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & {"finetune", "torch", "transformers", "trl", "peft", "accelerate"}


@pytest.mark.parametrize("path", FINETUNE, ids=lambda p: str(p.relative_to(ROOT)))
def test_finetune_does_no_http_and_no_sql_of_its_own(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & {"aiohttp", "httpx", "httpx2", "openai", "requests", "urllib3", "sqlite3"}


@pytest.mark.parametrize(("name", "may"), BOTTOM.items())
def test_errors_money_and_trace_stand_on_nothing_above_them(name: str, may: set[str]) -> None:
    ours = {i.split(".")[1] for i in imports_of(ROOT / f"harvest/{name}.py") if i.startswith("harvest.")}
    assert ours <= may


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_rooms_touch_no_clock_disk_or_network(name: str) -> None:
    imported = imports_of(ROOT / f"harvest/{name}.py")
    assert not {i.split(".")[0] for i in imported} & OUTSIDE
    assert not {i.split(".")[1] for i in imported if i.startswith("harvest.")} & EDGES


def test_one_room_asks_one_keeps_and_each_alone() -> None:
    users = {
        library: {p.name for p in HARVEST if library in {i.split(".")[0] for i in imports_of(p)}}
        for library in ("aiohttp", "sqlite3", "httpx")
    }
    assert users == {"aiohttp": {"teacher.py"}, "sqlite3": {"store.py"}, "httpx": {"local.py"}}


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['harvest', '--help']\n"
        "import harvest.__main__ as m\n"
        "try: m.main()\nexcept SystemExit: pass\n"
        "heavy = {'aiohttp', 'datasets', 'pydantic', 'sympy', 'rich', 'huggingface_hub', 'uvloop'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_readme_tree_is_the_folders() -> None:
    readme = (ROOT / "README.md").read_text()
    tree = re.search(r"```text\n(.*?)```", readme, re.DOTALL)
    assert tree, "README.md has no ```text folder tree"
    named = set(re.findall(r"^(\S+?)/?\s{2,}", tree[1], re.MULTILINE))
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    there = {t.split("/")[0] for t in tracked} - {".gitignore", ".ci", "LICENSE", "README.md"}
    assert named == there


@pytest.mark.parametrize("package", ["harvest", "finetune"])
def test_every_command_has_help_and_is_in_the_docs(package: str) -> None:
    def text(*args: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", package, *args], capture_output=True, text=True, cwd=ROOT, check=True
        ).stdout

    commands = re.findall(r"^    (\w+)  ", text("--help"), re.MULTILINE)
    assert commands
    docs = "\n".join(p.read_text() for p in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    for command in commands:
        assert "usage:" in text(command, "-h")
        assert f"{package} {command}" in docs, f"no page speaks of `{package} {command}`"


def test_the_configuration_page_is_what_the_code_says() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    for setting, default, meaning in describe():
        row = f"| `{setting}` | {default if default == 'required' else f'`{default}`'} | {meaning} |"
        assert row in page, f"stale; it wants: {row}"


def test_the_page_on_recipes_is_what_the_code_says() -> None:
    page = (ROOT / "docs/recipes.md").read_text()
    for setting, default, meaning in recipe_settings():
        row = f"| `{setting}` | {default if default == 'required' else f'`{default}`'} | {meaning} |"
        assert row in page, f"stale; it wants: {row}"
    for setting, instead in {**OURS, **GONE}.items():
        row = f"| `{setting}` | {instead} |"
        assert row in page, f"stale; it wants: {row}"
