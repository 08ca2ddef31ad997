"""`harvest report A B`: what two runs cost and brought, and where their settings differ."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from test_page import NAME, Rows, make, url_of

from harvest.commands.report import compare
from harvest.report.comparison import figures
from harvest.store import Store


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Two runs: the second is smaller, colder, and has no evaluation of its student."""
    runs = []
    for name, n in ((NAME, 90), ("colder", 60)):
        folder = tmp_path_factory.mktemp(name)
        make(url_of(folder), n)
        runs.append((name, url_of(folder)))
    with Store.open(runs[1][1]) as store, store.transaction():
        settings: dict[str, Any] = dict(store.run(NAME).settings)
        settings |= {"name": "colder", "sampling": settings["sampling"] | {"temperature": 0.2}}
        store.db.execute("UPDATE run SET name = 'colder', config = ?", (json.dumps(settings),))
        store.db.execute("DELETE FROM evaluation_answer")
        store.db.execute("DELETE FROM evaluation")
    return runs


def test_runs_stand_side_by_side_and_only_settings_that_differ_are_shown(
    two: list[tuple[str, str]], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path))
    page = tmp_path / "both.html"
    assert compare(two, to=page, as_json=False) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"| run | {NAME} | colder |"
    assert "| questions asked | 90 | 60 |" in shown
    assert "| sampling.temperature | 0.7 | 0.2 |" in shown
    each = next(line for line in shown if line.startswith("| 1,000 accepted traces |"))
    assert re.fullmatch(r"\| 1,000 accepted traces( \| \$\d+\.\d\d){2} \|", each), each
    assert '| budget.usd | "1" | "1" |' not in shown
    assert not any(line.startswith(("| name |", "| selected traces |")) for line in shown)
    assert next(line for line in shown if line.startswith("| after on held-out.jsonl |")).endswith("| – |")
    assert list(tmp_path.iterdir()) == [page], "a comparison writes into no run's folder"
    rows = Rows()
    rows.feed(page.read_text())
    in_markdown = [line.strip("| ").split(" | ") for line in shown if line.startswith("|") and "---" not in line]
    assert [row for row in in_markdown if row not in rows.rows] == []


def test_what_all_cost_together_is_a_row_where_it_is_more_than_asking_cost(
    two: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    compare(two, to=None, as_json=True)
    reports = json.loads(capsys.readouterr().out)["reports"]
    assert any(name == "all together (USD)" for name, *_ in figures(reports).rows)
    asked = [r | {"total_usd": r["money"]["spent_usd"], "total_leaves_out": []} for r in reports]
    assert not any(name == "all together (USD)" for name, *_ in figures(asked).rows)
    assert any(name == "all together (USD)" for name, *_ in figures([asked[0], reports[1]]).rows)


def test_its_json_has_the_figures_of_the_reports(
    two: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    compare(two, to=None, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["runs"] == [NAME, "colder"]
    figures = {row["name"]: row["of"] for row in said["figures"]}
    assert figures["spent (USD)"] == [r["money"]["spent_usd"] for r in said["reports"]]
    assert figures["accepted traces"] == [f"{r['traces']['accepted']:,}" for r in said["reports"]]
    assert [row["of"] for row in said["settings"] if row["name"] == "sampling.temperature"] == [["0.7", "0.2"]]
