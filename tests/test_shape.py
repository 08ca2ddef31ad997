"""The shape of the project: which room imports which, the README's tree, and that the pages agree with the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from settings_reference import describe

from finetune.job.settings import Job
from finetune.recipe import Recipe
from finetune.trl_settings import GONE, OURS
from harvest.core.config import RunConfig

PLACES = {
    "harvest": (
        ("core",),
        ("answers", "proof"),
        ("questions", "endpoint", "local", "sandbox", "store"),
        ("checks", "filters"),
        ("judging",),
        ("asking", "selection"),
        ("export", "report"),
        ("shards",),
        ("commands",),
        ("__main__",),
    ),
    "finetune": (
        ("note", "progress", "student", "trl_settings"),
        ("recipe",),
        ("run",),
        ("cost",),
        ("rows",),
        ("proof",),
        ("train", "measure"),
        ("tryout",),
        ("job",),
        ("commands",),
        ("__main__",),
    ),
    "winnow": (
        ("command_list", "process", "run", "checking"),
        ("completion", "collecting", "training"),
        ("__main__",),
    ),
}
"""The rooms of each package, from the ground up. An import goes down, never up and never to a neighbour."""

NOT_YET: set[str] = set()
"""The arrows that still go the wrong way. It only ever gets shorter."""

LIBRARIES = {
    "aiohttp": {"harvest/endpoint", "harvest/report"},
    "httpx": {"harvest/local"},
    "httpx2": {"harvest/endpoint"},
    "openai": {"harvest/endpoint"},
    "psycopg": {"harvest/store"},
    "requests": set(),
    "sqlite3": {"harvest/store"},
    "subprocess": {"harvest/sandbox", "harvest/local", "harvest/checks", "harvest/selection", "harvest/commands"},
}
"""Which rooms may import a library that reaches out of the process."""

STATEMENT = re.compile(
    r"\b(SELECT\s.+\sFROM\s|INSERT\s+(OR\s+\w+\s+)?INTO\s|UPDATE\s+\w+\s+SET\s|DELETE\s+FROM\s|CREATE\s+(TABLE|INDEX)"
    r"|ALTER\s+TABLE|PRAGMA\s)",
    re.DOTALL,
)
"""The beginning of a statement of SQL, in any text of the code."""


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    return {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p
        for p in sorted((ROOT / package).rglob("*.py"))
    }


HARVEST, FINETUNE = modules("harvest"), modules("finetune")
OURS_ALL = {**HARVEST, **FINETUNE, **modules("winnow")}


def imports_of(source: str) -> set[str]:
    """Every module that a file imports, wherever in it, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            whole = {f"{node.module}.{a.name}" for a in node.names}
            modules_named = whole & OURS_ALL.keys()
            found |= modules_named or {node.module or ""}
            if len(modules_named) < len(whole):
                found.add(node.module or "")
    return found


def wrong_arrows(name: str, source: str) -> set[str]:
    """The imports of one file that do not go down its package's list of rooms."""
    package, _, rest = name.partition(".")
    floor = {room: at for at, rooms in enumerate(PLACES[package]) for room in rooms}
    room = rest.split(".")[0]
    wrong = set()
    for other in imports_of(source):
        parts = other.split(".")
        if parts[0] != package or len(parts) < 2 or parts[1] == room:
            continue
        if floor[parts[1]] >= floor[room]:
            wrong.add(f"{name} -> {other}")
    return wrong


def test_every_file_stands_in_a_room() -> None:
    for package, rooms in PLACES.items():
        known = {room for floor in rooms for room in floor} | {""}
        assert {name.split(".")[1] for name in modules(package) if "." in name} <= known


def test_imports_go_down_the_rooms() -> None:
    found = {arrow for name, p in OURS_ALL.items() if "." in name for arrow in wrong_arrows(name, p.read_text("utf-8"))}
    assert found - NOT_YET == set(), "arrows that design forbids"
    assert NOT_YET - found == set(), "arrows that are mended: take them out of NOT_YET"


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("harvest.store.store", "from harvest.endpoint.client import Teacher"),
        ("harvest.asking.collect", "def f():\n    from harvest.report import run_report"),
        ("harvest.core.money", "import harvest.core.errors, harvest.store.store"),
        ("harvest.checks.table", "from harvest import filters"),
        ("harvest.filters.table", "from harvest.checks import CHECKS"),
        ("finetune.rows.render", "from finetune.train.sft import train"),
    ],
)
def test_a_planted_arrow_is_found(name: str, planted: str) -> None:
    assert len(wrong_arrows(name, planted)) == 1


def cycles(arrows: dict[str, set[str]]) -> list[str]:
    """Names that reach themselves, in order."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for following in arrows.get(waiting.pop(), set()) - seen:
                seen.add(following)
                waiting.append(following)
        return seen

    return sorted(name for name in arrows if name in reached(name))


def test_no_file_imports_itself_by_way_of_others() -> None:
    arrows = {name: imports_of(p.read_text("utf-8")) & OURS_ALL.keys() - {name} for name, p in OURS_ALL.items()}
    assert cycles(arrows) == []
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


@pytest.mark.parametrize("name", sorted(HARVEST))
def test_harvest_knows_nothing_of_training(name: str) -> None:
    roots = {other.split(".")[0] for other in imports_of(HARVEST[name].read_text("utf-8"))}
    assert not roots & {"finetune", "winnow", "torch", "transformers", "trl", "peft", "accelerate"}


@pytest.mark.parametrize("name", sorted(FINETUNE))
def test_the_thin_door_stands_above_both_packages(name: str) -> None:
    assert not any(other.split(".")[0] == "winnow" for other in imports_of(FINETUNE[name].read_text("utf-8")))


@pytest.mark.parametrize("library", sorted(LIBRARIES))
def test_one_room_reaches_out_by_each_library(library: str) -> None:
    users = {
        "/".join(p.relative_to(ROOT).parts[:2])
        for p in OURS_ALL.values()
        if library in {other.split(".")[0] for other in imports_of(p.read_text("utf-8"))}
    }
    assert users <= LIBRARIES[library] | (
        {"finetune/train", "finetune/measure", "finetune/job", "winnow/process.py"}
        if library == "subprocess"
        else set()
    )


def statements(source: str) -> list[str]:
    """The texts of a file that are statements of SQL."""
    texts = [n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return [text for text in texts if STATEMENT.search(text)]


def test_sql_stands_in_the_store_alone() -> None:
    outside = [name for name in OURS_ALL if not name.startswith("harvest.store")]
    assert {name for name in outside if statements(OURS_ALL[name].read_text("utf-8"))} == set()
    assert statements('x = "select 1"; y = f"SELECT id FROM attempt WHERE run = {x}"')


def test_no_module_has_a_name_of_the_standard_library() -> None:
    """A script started by path has its own folder in front of the standard library's."""
    names = {name.split(".")[-1] for name in OURS_ALL} - {"__main__"}
    assert names & sys.stdlib_module_names == set()


@pytest.mark.parametrize("package", ["harvest", "finetune", "winnow"])
def test_help_imports_nothing_heavy(package: str) -> None:
    script = (
        f"import sys; sys.argv = ['{package}', '--help']\n"
        f"import {package}.__main__ as m\n"
        "try: m.main()\nexcept SystemExit: pass\n"
        "heavy = {'aiohttp', 'datasets', 'openai', 'httpx', 'numpy', 'pydantic', 'sympy', 'rich', 'huggingface_hub'}\n"
        "heavy |= {'torch', 'transformers', 'trl', 'psycopg'}\n"
        "heavy &= set(sys.modules)\n"
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
    rows = re.findall(r"^\| `([\w.]+)` \|", page, re.M)
    assert rows == [setting for setting, _, _ in describe(RunConfig)]
    for setting, default, meaning in describe(RunConfig):
        row = f"| `{setting}` | {default if default == 'required' else f'`{default}`'} | {meaning} |"
        assert row in page, f"stale; it wants: {row}"


def test_the_page_on_recipes_is_what_the_code_says() -> None:
    page = (ROOT / "docs/recipes.md").read_text()
    for setting, default, meaning in describe(Recipe):
        row = f"| `{setting}` | {default if default == 'required' else f'`{default}`'} | {meaning} |"
        assert row in page, f"stale; it wants: {row}"
    for setting, instead in {**OURS, **GONE}.items():
        row = f"| `{setting}` | {instead} |"
        assert row in page, f"stale; it wants: {row}"


def test_the_page_on_jobs_is_what_the_code_says() -> None:
    page = (ROOT / "docs/jobs.md").read_text()
    for setting, default, meaning in describe(Job):
        row = f"| `{setting}` | {default if default == 'required' else f'`{default}`'} | {meaning} |"
        assert row in page, f"stale; it wants: {row}"


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED_PATH = re.compile(r"(?<![\w/.-])(?:harvest|finetune|winnow|tests|benchmarks|recipes|prompts)/[\w./*<>-]*[\w>]")
LINK = re.compile(r"\]\((?!http)([^)#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    paths = {re.sub(r"<\w+>", "*", path) for path in NAMED_PATH.findall(text)}
    gone = {path for path in paths if not any(ROOT.glob(path))}
    gone |= {link for link in LINK.findall(text) if not (page.parent / link).exists()}
    assert gone == set(), f"{page.name} names a file that is gone: correct the page"


def test_the_picture_of_the_rooms_is_what_the_imports_say() -> None:
    check = [sys.executable, "docs/architecture.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their names alone, and one of the two would not run."""
    names = [p.name for p in (ROOT / "tests").rglob("*.py") if p.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))
