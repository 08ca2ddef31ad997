"""report.html: it says what the other pages say, opens without a network, and runs nothing that a model wrote."""

import html.parser
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from harvest.commands.report import report, write_report_of
from harvest.core.money import Usage
from harvest.core.nouns import Ask, Judgement, Outcome, Question, Reply, Verdict
from harvest.report import tables
from harvest.report.headline import headline
from harvest.report.markdown_page import markdown
from harvest.report.page import html_page
from harvest.report.page.pictures import accuracies, loss, traces_over_time
from harvest.report.page.shown_traces import CHAIN_CHARS
from harvest.report.run_report import run_report
from harvest.store import Sent, Store

sys.path.insert(0, str(ROOT / "benchmarks"))
from report_size import NAME, at, make

HOSTILE = (
    "<script>document.title = 'pwned'</script><img src=http://127.0.0.1:9/x.png onerror=\"document.title='pwned'\">"
    "<a href=\"javascript:document.title='pwned'\">x</a> </pre></details></body> {{ 7 * 7 }} \x1b[31m \ud800 \u202e"
    "\x00"
)


class Rows(html.parser.HTMLParser):
    """The cells of each row of each table, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store of a run of 120 attempts by two teachers, a training, and evaluations."""
    folder = tmp_path_factory.mktemp("made")
    make(f"sqlite:///{folder / 'store.db'}", 120)
    return folder


@pytest.fixture
def said(made: Path) -> dict[str, Any]:
    """The content of that run's report.json, to change."""
    with Store.open(url_of(made), write=False) as store:
        return run_report(store.figures(1), live=False)


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'store.db'}"


def cells(line: str) -> list[str]:
    return [re.sub(r"\\(.)", r"\1", c.strip()) for c in re.split(r"(?<!\\)\|", line)[1:-1]]


def figures_of(value: Any) -> Iterator[str]:
    """Every count and amount in a part of report.json that is not empty, as the pages print it."""
    if isinstance(value, dict):
        for one in value.values():
            yield from figures_of(one)
    elif isinstance(value, bool) or not value:
        return
    elif isinstance(value, int):
        yield f"{value:,}"
    elif isinstance(value, str) and re.fullmatch(r"\d+\.\d+", value) and Decimal(value):
        yield value


def test_page_markdown_terminal_and_json_say_the_same(
    made: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_RUNS", str(made / "runs"))
    report(NAME, url_of(made), as_json=False)
    terminal = capsys.readouterr().out
    report(NAME, url_of(made), as_json=True)
    said = json.loads(capsys.readouterr().out)
    files = {
        suffix: (made / "runs" / NAME / f"report.{suffix}").read_text("utf-8") for suffix in ("json", "md", "html")
    }
    assert terminal == files["md"]
    assert json.loads(files["json"]) == said
    page = Rows()
    page.feed(files["html"])
    in_markdown = [cells(row) for row in files["md"].splitlines() if row.startswith("|") and "---" not in row]
    assert len(in_markdown) > 30
    rows = [row for row in in_markdown if any(row[1:])]  # all but the heads of tables of names and figures
    assert [row for row in rows if row not in page.rows] == []
    for text in (terminal, files["html"].replace("&#39;", "'")):
        assert said["headline"].partition(". ")[0] in text
        assert said["headline"].partition(". ")[2] in text
        parts = [said[part] for part in ("questions", "money", "traces")] + [said["attempts"]["failed"], said["tokens"]]
        wanted = {figure for part in parts for figure in figures_of(part)} | {said["total_usd"]}
        wanted -= {*figures_of({k: said["traces"][k] for k in ("answers", "mean_output_tokens")})}
        wanted -= {*figures_of(said["money"]["price_sources"])}
        assert [figure for figure in sorted(wanted) if figure not in text] == []


def test_the_parts_of_the_budget_add_up_to_the_last_digit(said: dict[str, Any]) -> None:
    parts = tables.budget(said)
    assert {"accepted", "rejected", "truncated", "doubt", "left"} <= {kind for kind, _, _ in parts}
    assert sum(Decimal(amount) for _, _, amount in parts) == Decimal(said["money"]["cap_usd"])
    rows = dict(row for row in tables.money(said).rows if len(row) == 2)
    spent = [Decimal(v) for k, v in rows.items() if k.startswith("spent on")]
    assert sum(spent) == Decimal(rows["spent"]) == Decimal(said["money"]["spent_usd"])


def test_a_run_for_nothing_has_no_row_of_nothing(said: dict[str, Any]) -> None:
    nothing = dict.fromkeys(said["money"]["spent_on"], "0.00")
    amounts = {"spent_usd": "0.00", "in_doubt_usd": "0.00", "usd_per_accepted_trace": "0.00", "spent_on": nothing}
    said["money"] |= amounts | {"cap_usd": None, "remaining_usd": None, "usd_per_selected_trace": "0.00"}
    said |= {"training": [], "evaluation": [], "gain": None, "gains": [], "teachers": [], "forecast_check": None}
    said |= {"over_time": [], "attempts": said["attempts"] | {"failed": {}, "in_doubt": 0}, "total_usd": "0.00"}
    said["what_if"] = {"cut": None, "instead": []}
    said["headline"] = headline(said)
    assert "at no cost" in said["headline"]
    for text in (markdown(said), html_page(said, [], {})):
        assert "| 0 |" not in text
        assert "0.00" not in re.sub("<style>.*</style>", "", text, flags=re.DOTALL)
        assert "None" not in text


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of a run whose questions, answers, names and verdicts were written to break out of it."""
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))
    make(url_of(tmp_path), 70)
    with Store.open(url_of(tmp_path)) as store:
        with store.transaction():
            clean = HOSTILE.replace("\ud800", "")
            q = Question(id=f"q{clean}", question=clean, answer=clean, check="text", source=clean, licence=clean)
            store.put_question(1, q)
            sent = store.reserve(1, 71, Ask(0, 100), "sha256:hostile", 10, at(9))
            assert isinstance(sent, Sent)
            reply = Reply(
                HOSTILE + "x" * 5_000_000, reasoning=HOSTILE, reasoning_kind="chain", finish_reason="stop",
                usage=Usage(1, 0, 9, 9), served_model=clean, served_by=clean,
            )  # fmt: skip
            store.settle(sent.try_id, reply, 10**11, "config", at(9))
            verdict = Verdict("text", "1", Outcome.WRONG, HOSTILE.replace("\ud800", ""))
            store.put_judgements([Judgement(sent.attempt_id, [verdict], "wrong")], at(9))
        write_report_of(store, NAME, live=False)
    return tmp_path / "runs" / NAME / "report.html"


def test_a_hostile_trace_is_text_and_a_long_one_is_cut(hostile: Path) -> None:
    text = hostile.read_text("utf-8")
    assert "<script" not in text
    assert "onerror=" not in text.replace("onerror=&#34;", "")
    assert "&lt;script&gt;document.title = &#39;pwned&#39;" in text
    assert "{{ 7 * 7 }}" in text
    assert "more characters are not shown" in text
    assert len(text) < 300_000
    assert CHAIN_CHARS < 10_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("needs Chromium: `make system` installs it")
    with playwright.sync_playwright() as p:
        opened = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_runs_nothing_asks_nobody_and_fits(hostile: Path, browser: Any, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for scheme in ("light", "dark"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page, asked, complaints = context.new_page(), list[str](), list[str]()
        page.on("request", lambda r: asked.append(r.url))  # noqa: B023 - read before the next round
        page.on("console", lambda m: complaints.append(m.text))  # noqa: B023
        page.on("dialog", lambda d: complaints.append(d.message))  # noqa: B023
        page.goto(hostile.as_uri())
        for summary in page.query_selector_all("summary"):
            summary.click()
        assert asked == [hostile.as_uri()]
        assert complaints == []
        assert page.title() == f"{NAME} · winnow"
        assert page.evaluate("document.scripts.length + document.images.length") == 0
        assert "<script>document.title = 'pwned'" in page.inner_text("main")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
        assert (sum(channels(ink)) > sum(channels(background))) is (scheme == "dark")
        faults = [v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")]
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in faults] == []
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        context.close()


def channels(colour: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", colour)[:3]]


def test_a_chart_of_a_few_seconds_has_marks_that_differ() -> None:
    points = [{"at_s": at, "accepted": at} for at in (0, 1)]
    assert re.findall(r">([\d.]+ s)<", str(traces_over_time({"over_time": points}))) == ["0.5 s", "1.0 s"]


@pytest.mark.parametrize("falls", [True, False])
def test_the_labels_of_a_loss_stand_where_its_curve_is_not(falls: bool) -> None:
    losses = [2.0, 1.0, 0.5] if falls else [0.5, 1.0, 2.0]
    drawn = str(loss({"curve": [{"step": n, "loss": value} for n, value in enumerate(losses)]}))
    at = {words: x for x, words in re.findall(r'<text x="(\d+)%"[^>]*>(\d\.\d\d)<', drawn)}
    assert at == ({"2.00": "100", "1.25": "100", "0.50": "0"} if falls else {"2.00": "0", "1.25": "0", "0.50": "100"})
    assert drawn.index("curve stroke") < drawn.index(">2.00<"), "a label is drawn over the curve"


def test_the_dots_of_several_sets_of_questions_stand_under_their_names() -> None:
    def measured(questions: str, model: str) -> dict[str, Any]:
        return {
            "questions": questions, "model": model, "label": None, "low": 0.1, "accuracy": 0.2, "high": 0.3,
        }  # fmt: skip

    both = [measured("one.jsonl", "before"), measured("two.jsonl", "before"), measured("one.jsonl", "after")]
    labels = re.findall(r">([a-z.]+)</text>", str(accuracies({"evaluation": both})))
    assert labels == ["one.jsonl", "before", "after", "two.jsonl", "before"]
    assert "one.jsonl" not in str(accuracies({"evaluation": both[::2]})), "with one set the table names it"
