"""The dataset card: its header is one that the hub takes, its counts add up, and no text of others becomes markup."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from conftest import Place
from huggingface_hub import DatasetCard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from scripted_endpoint import Asked, Say
from test_export import exported, loaded
from test_import import Imports, completion, imports, line
from test_report import Endpoints, Places

from harvest.core.config import Checks, Export, RunConfig, Teacher
from harvest.core.printable import cell
from harvest.export.card import card
from harvest.export.card_header import Written
from harvest.export.census import Census
from harvest.export.rows import columns_of
from harvest.store import Store, StoredRun, StoredSelection

__all__ = ["imports"]  # the fixture

REPORT: dict[str, Any] = {
    "questions": {"total": 9, "asked": 8},
    "public": None,
    "attempts": {"sent": 11, "reused": 1},
    "traces": {
        "answers": 8, "accepted": 4, "selected": 2, "rejected": {"wrong": 3},
        "unselected": {"repetition": 1, "near_duplicate": 1},
    },
    "money": {
        "spent_usd": "1.20", "in_doubt_usd": "0.30", "price_source": "config", "usd_per_accepted_trace": "0.30",
        "unpriced_calls": 0, "spent_on": {"accepted_usd": "1.00", "rejected_usd": "0.20", "truncated_usd": "0.00"},
    },
}  # fmt: skip


def run_of(name: str = "r", prompt: str = "boxed", text: str = "Think.", base_url: str | None = None) -> StoredRun:
    """A run with one teacher; its settings may hold what a RUN.toml may not."""
    teacher = Teacher.model_construct(base_url=base_url or "https://api.example.com/v1", local=None, model="m")
    config = RunConfig.model_construct(name=name, prompt=prompt, teacher=teacher, teachers=(), checks=Checks())
    return StoredRun(1, name, config, False, False, True, text, "ab", {}, Path(), "config", {})


def selected(at: str, settings: dict[str, Any], said: dict[str, Any]) -> StoredSelection:
    return StoredSelection(1, at, "", settings, said)


def row(**more: Any) -> dict[str, Any]:
    """The columns that a card counts."""
    return {
        "domain": "maths", "difficulty": None, "source": None, "licence": "MIT", "teacher_terms": None, "reason": None,
        "public": None,
        "original": None, "accepted": True, "usage": {"reasoning_tokens": 10}, "cost_usd": "0.10", "verdicts": [],
        "teacher": {"model": "m", "served_model": "m-1", "served_by": None},
    } | more  # fmt: skip


def card_of(
    rows: list[dict[str, Any]], settings: Export | None = None, newest: StoredSelection | None = None,
    run: StoredRun | None = None, folder: str = "dataset",
) -> str:  # fmt: skip
    settings = settings or Export()
    census = Census()
    for one in rows:
        census.count(one, "So it is.", quotes=False)
    written = Written(folder, ["train.jsonl"], 123, columns_of(settings), "sha256:r", "sha256:d")
    return card(run or run_of(), REPORT, settings, census, written, newest, version="1")


def header(text: str) -> dict[str, Any]:
    found = DatasetCard(text)
    data: dict[str, Any] = yaml.safe_load(found.data.to_yaml())
    return data


HOSTILE = [
    "</td></table><script>alert(1)</script>", "a\n---\n# owned\n", "x: [y", '"; rm', "![i](https://evil/x.png)",
    "[click](javascript:alert(1))", "<https://evil.example>", "&lt;script&gt;", "`code`", "$x$", "| a | b |",
    "```\n# out\n```", "\x85---\u2028", "\u202eevil", "{{ jinja }}", "*b* _i_ ~~s~~", "&#60;img src=x&#62;", "- a\n- b",
    "\\", "a\\|b", "<!--", "-->", "[x]: https://evil.example", "1. a",
]  # fmt: skip
hostile = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30))


def rendered(text: str) -> str:
    """As a page that shows it would: CommonMark with tables, HTML let through."""
    body = text.split("---\n", 2)[2]
    html: str = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(body)
    return html


@settings(max_examples=30)
@given(words=st.lists(hostile, min_size=8, max_size=8))
@example(words=HOSTILE[:8])
@example(words=HOSTILE[8:16])
@example(words=HOSTILE[-8:])
def test_nothing_that_others_wrote_is_markup(words: list[str]) -> None:
    domain, licence, model, served, terms, prompt, place, folder = words
    text = card_of(
        [row(domain=domain, licence=licence, teacher_terms=terms, teacher={"model": model, "served_model": served,
             "served_by": served}, verdicts=[{"check": domain, "version": licence, "passed": True}])],
        run=run_of(model, folder, prompt, place), folder=folder,
        newest=selected(
            prompt, {"preset": model, "against": [place], "versions": {"filters": {domain: licence}},
            "filters": {"language": served}, "rewrite": {"on": True, "version": terms}},
            {"against": {place: 3}, "seed": 1, "rewritten": {}},
        ),
    )  # fmt: skip
    data = header(text)
    assert set(data) == set(header(card_of([row()]))) | {k for k in data if k in ("license_name", "license_link")}
    assert data["tags"] == ["reasoning", "distillation", "winnow"]
    html = rendered(text)
    outside_of_code = re.sub(r"<code[^>]*>.*?</code>", "", html, flags=re.DOTALL)
    tags = set(re.findall(r"</?([a-zA-Z][a-zA-Z0-9]*)", outside_of_code))
    assert tags <= {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "strong", "pre"}, tags
    assert html.count("<h2>") == 8
    assert html.count("<pre>") >= 6
    assert html.count("<table>") == 6


def test_a_cell_says_what_was_said() -> None:
    html = MarkdownIt("commonmark").render(cell("a*b* <i> [x](y) https://z.example &amp; `c` \\d"))
    assert html == "<p>a*b* &lt;i&gt; [x](y) https://z.example &amp;amp; `c` \\d</p>\n"


@pytest.mark.parametrize(
    ("licences", "want"),
    [
        (["MIT"], "mit"), (["Apache 2.0", "apache-2.0"], "apache-2.0"), (["CC BY-SA 4.0"], "cc-by-sa-4.0"),
        (["MIT", "Apache-2.0"], "other"), (["MIT", None], "other"), ([None], "unknown"), (["mine, all mine"], "other"),
        (["mit\nlicense: apache-2.0"], "other"),
    ],
)  # fmt: skip
def test_the_header_claims_a_licence_only_where_every_row_has_it(licences: list[str | None], want: str) -> None:
    text = card_of([row(licence=name) for name in licences])
    data = header(text)
    assert data["license"] == want
    assert ("license_name" in data) == (want == "other")
    for name in licences:
        assert (cell(name) if name else "not recorded") in text


def test_every_count_of_the_report_and_of_the_rows_is_in_it() -> None:
    rows = [row(usage={"reasoning_tokens": n}, cost_usd="0.02", difficulty="hard") for n in (10, 20, 90)]
    rows += [row(usage={"reasoning_tokens": None}, cost_usd=None, licence=None, teacher_terms="no training")]
    rows[0]["verdicts"] = [{"check": "math", "version": "3", "passed": True}]
    settings = {
        "pool": "accepted", "seed": 7, "traces": None, "against": ["/home/me/secret/aime.jsonl"],
        "versions": {"select": "1", "filters": {"leaked_gold": 2}}, "filters": {"meta": False, "language": "en"},
        "rewrite": {"on": True, "version": "4"},
    }  # fmt: skip
    said = {"seed": 7, "against": {"/home/me/secret/aime.jsonl": 30}, "rewritten": {"kept": 5, "refused_by_check": 1}}
    text = card_of(rows, newest=selected("2026-11-27", settings, said))
    assert "secret" not in text
    for line_ in (
        "| questions |  | 9 |", "| not asked | 1 | 8 |", "| questions asked |  | 8 |", "| requests sent |  | 11 |",
        "| whole answers (1 of them bought by an earlier run) |  | 8 |", "| not judged yet | 1 | 7 |",
        "| rejected: wrong | 3 | 4 |", "| accepted |  | 4 |", "| not selected: repetition | 1 | 3 |",
        "| not selected: near duplicate | 1 | 2 |", "| selected |  | 2 |", "| **in this data set** |  | **4** |",
        "| tokens of a chain | mean 40, median 20, 95% up to 90; the endpoint sent a count for 3 rows |",
        "| characters of a chain | mean 9, median 9, 95% up to 9 |",
        "| difficulty | hard: 3; not recorded: 1 |",
        "| licences of the questions | MIT: 3; not recorded: 1 |",
        "| terms on training with the answers | no training: 1; not recorded: 3 |",
        "| providers that answered | not recorded |",
        "| spent in all | 1.20 USD, and 0.30 USD in doubt (price from: config) |",
        "| on rejected answers | 0.20 USD |",
        "| an accepted trace, with all that was spent | 0.30 USD |",
        "| a row of this data set, with all that was spent | 0.30 USD |",
        "| the answers in these rows alone | 0.06 USD, without 1 whose cost is not known |",
        "| checks, with their versions | math 3: 1 passed, 0 not |",
        "| held against evaluations | aime.jsonl: 30 questions |",
        "| filters, with their versions | leaked gold 2 |",
        "| rewriting | rules of version 4: 5 answers rewritten, 1 left as they came, since the check did not pass them"
        " again |",
        "| seed | 7 |",
        '[select]\npool = "accepted"\nseed = 7\nagainst = ["aime.jsonl"]\n',
        '[filters]\nmeta = false\nlanguage = "en"\n\n[rewrite]\non = true\n```',
    ):  # fmt: skip
        assert line_ in text, f"{line_}\n{text.partition('# r')[2]}"


def test_what_was_not_done_is_said_plainly() -> None:
    """An export of all, of what was accepted, and one of a selection from right and wrong answers."""
    made = selected("then", {"pool": "all"}, {})
    everything = card_of([row(accepted=False, reason="wrong")], Export(which="all"), newest=made)
    assert "| whole answers (1 of them bought by an earlier run) |  | 8 |\n| **in this data set** |" in everything
    assert "not applied; `selected` and `unselected` say" in everything
    assert "[select]" not in everything
    accepted = card_of([row()], Export(which="accepted"))
    assert "| accepted |  | 4 |\n| **in this data set** |" in accepted
    assert "| filters and selection | none was run |" in accepted
    chosen = card_of([row(accepted=False, reason="wrong"), row()], newest=made)
    assert "**1 of them were not accepted**" in chosen
    assert "| answers that ended by themselves, right or wrong |  | 4 |" in chosen
    assert "selected is what was accepted" in card_of([row()])


def test_domains_without_end_are_counted_and_not_kept() -> None:
    census = Census()
    for n in range(12_000):
        census.count(row(domain=f"d{n}"), None, quotes=False)
    assert len(census.kinds["domain"]) <= 10_001
    written = Written("d", ["train.jsonl"], 1, {}, "sha256:r", "sha256:d")
    text = card(run_of(), REPORT, Export(), census, written, version="1")
    assert "others: 2,000" in text
    assert census.rows == sum(census.kinds["domain"].values()) == 12_000


def test_the_card_of_a_run_is_one_that_the_hub_takes(endpoint: Endpoints, place: Places) -> None:
    """The header against huggingface_hub's own reader, the features against `datasets`, the counts against the rows."""

    def wrong_once(asked: Asked) -> Say:
        return Say(text="\\boxed{-1}") if asked.n == 0 else Say()

    rows = [
        {"id": f"q{i}", "question": f"What is {i} + {i + 1}?", "answer": str(2 * i + 1), "licence": "Apache-2.0",
         "domain": "sums", "source": "ours"}
        for i in range(4)
    ]  # fmt: skip
    here: Place = place(
        endpoint(wrong_once).url, rows, teacher__terms="allowed", export__layout="prompt-completion",
        export__reasoning="apart",
    )  # fmt: skip
    assert here.collect()[0] == 0
    folder: Path = here.run_folder / "dataset"
    written = [json.loads(line_) for line_ in (folder / "train.jsonl").read_text().splitlines()]
    assert len(written) == 3
    assert written[0]["completion"][0]["reasoning_content"] == written[0]["reasoning"]
    text = (folder / "README.md").read_text()
    found = DatasetCard.load(folder / "README.md").data
    assert (found.license, found.size_categories, found.pretty_name) == ("apache-2.0", ["n<1K"], "r")
    assert found.configs == [{"config_name": "default", "data_files": [{"split": "train", "path": "train.jsonl"}]}]
    splits = found.dataset_info["splits"]
    assert splits == [{"name": "train", "num_bytes": (folder / "train.jsonl").stat().st_size, "num_examples": 3}]
    features = datasets.Features._from_yaml_list(found.dataset_info["features"])
    assert set(features) == set(written[0])
    for words in ("| rejected: wrong | 1 | 3 |", "allowed: 3", "sums: 3", "ours: 3", "Apache-2.0: 3"):
        assert words in text
    assert "step by step" in text, "the prompt's own words"


def test_what_was_imported_has_a_card_too(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", [line(1, completion("\\boxed{3}", reasoning="a </think> b"))]))
    assert exported(imports) == 1
    text = (imports.folder / "out/README.md").read_text()
    assert "**1 row quotes the marks" in text
    assert "bought elsewhere" in text
    assert "some-reasoner: 1" in text
    _, err = imports.run("export", "r", "--to", imports.folder / "out", "--which", "accepted")
    assert "1 of 1 rows quote the marks" in err


def test_the_counts_of_the_card_are_those_of_the_report_the_store_and_the_files(imports: Imports) -> None:
    """Every stage takes something out here; each count is added up from the attempts themselves."""
    held_out = imports.file("held-out.jsonl", [{"question": "What is 1 + 2?"}])
    loop = completion("\\boxed{21}", reasoning="The same thing again and again. " * 300)
    rows = [
        *(line(i, licence="MIT", difficulty="hard", domain=f"d{i % 2}") for i in range(8)),
        line(3, " The sum is  \\boxed{7}", licence="MIT", difficulty="hard", domain="d1", custom_id="again"),
        line(8, "It is \\boxed{0}", licence="MIT"), line(9, licence="MIT", difficulty="easy"), line(10, loop),
    ]  # fmt: skip
    imports.take(imports.file("a.jsonl", rows))
    _, err = imports.run("select", "r", "--select.against", imports.file("none.jsonl", []), code=2)
    assert err.endswith("none.jsonl: not one question in it\n")
    words = ["--select.against", str(held_out), "--select.difficulty", "hard", "--select.traces", "4", "--json"]
    said = json.loads(imports.run("select", "r", *words, "--select.balance", "domains")[0])
    assert exported(imports, which="selected") == 4
    report = json.loads(imports.run("report", "r", "--json")[0])
    with Store.open(f"sqlite:///{imports.store}") as store:
        stored = list(store.answered_attempts(store.run_id("r"), "all"))
    in_store: Counter[str] = Counter(r.unselected or "" for r in stored if r.accepted and not r.selected)
    unselected = {"repetition": 1, "exact_duplicate": 1, "contaminated": 1, "difficulty": 1, "not_chosen": 3}
    assert dict(in_store) == report["traces"]["unselected"] == said["unselected"] == unselected
    text = (imports.folder / "out/README.md").read_text()
    stages = [tuple(c.strip() for c in r.strip("|").split("|")) for r in text.splitlines() if r.count("|") == 4][2:]
    assert stages == [
        ("questions", "", "11"), ("questions asked", "", "11"), ("whole answers", "", f"{len(stored)}"),
        ("rejected: wrong", "1", "11"), ("accepted", "", "11"), ("not selected: repetition", "1", "10"),
        ("not selected: exact duplicate", "1", "9"), ("not selected: contaminated", "1", "8"),
        ("not selected: difficulty", "1", "7"), ("not selected: not chosen", "3", "4"), ("selected", "", "4"),
        ("**in this data set**", "", "**4**"),
    ]  # fmt: skip
    written = loaded(imports.folder / "out")
    assert len(written) == report["traces"]["selected"] == sum(r.selected for r in stored)
    assert all(r["accepted"] and r["selected"] and r["unselected"] is None for r in written)
    assert "domains | d0: 2; d1: 2 |" in text
    assert str(imports.folder) not in text, "where the evaluation lies is nobody else's business"
    dry = json.loads(imports.run("select", "r", "--preset", "sky-t1", "--dry-run", "--json")[0])
    assert dry["unselected"]["contaminated"] == 1, "another preset is held against the same evaluations"
