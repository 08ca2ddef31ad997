"""The pages as a site: built without a warning, with every page in the navigation and no link that leads nowhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytest.importorskip("material", reason="needs the extra `docs`")


def built(to: Path, *more: str, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(config),
        "-d",
        str(to),
    ]
    return subprocess.run([*words, *more], capture_output=True, text=True, cwd=ROOT)


def test_the_site_is_built_without_a_warning_and_has_every_page(tmp_path: Path) -> None:
    done = built(tmp_path / "site")
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    made = {page.parent.name for page in (tmp_path / "site").rglob("index.html")} - {"site"}
    assert made == pages
    text = "\n".join(page.read_text("utf-8") for page in (tmp_path / "site").rglob("index.html"))
    assert not re.search(r'href="(?:\.\./)+(?:benchmarks|harvest|tests|README)', text), "a link out of the site"
    assert "<table>" in text
    loaded = re.findall(r'(?:src|(?<=stylesheet" )href)="(https?:[^"]+)', text)
    assert loaded == [], "it asks another host"
    assert "mermaid" not in text, "which is drawn by a script from another host"


def test_a_page_that_is_in_no_menu_or_a_link_to_nowhere_stops_it(tmp_path: Path) -> None:
    copy = tmp_path / "docs"
    copy.mkdir()
    for page in (ROOT / "docs").iterdir():
        (copy / page.name).symlink_to(page)
    config = tmp_path / "mkdocs.yml"
    config.write_text((ROOT / "mkdocs.yml").read_text())
    (copy / "forgotten.md").write_text("# Forgotten\n\n[nowhere](nowhere.md)\n")
    done = built(tmp_path / "site", config=config)
    assert done.returncode != 0
    assert "forgotten.md" in done.stdout + done.stderr
    assert "nowhere.md" in done.stdout + done.stderr
