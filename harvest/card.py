"""The dataset's card: YAML that the hub and `datasets` read, then where the rows come from, in words. Pure.

What is counted is counted over the rows of the files themselves. Text that came from outside (names, licences, models)
is one printable line in it, and no markup.
"""

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from harvest.config import Export
from harvest.money import pusd, usd
from harvest.training_layouts import DATASET_NAME, Columns, axolotl_lines, dataset_info
from harvest.untrusted import one_line

MOST_KINDS = 10_000
"""So many different values of a column are counted by name; what else comes is counted as one."""
SHOWN_KINDS = 20
MOST_PROMPT_CHARACTERS = 20_000
OTHERS = "others"
COUNTED = ("domain", "difficulty", "source", "licence", "teacher_terms")
"""Columns whose values the card counts."""
HUB_LICENCES = (
    "apache-2.0 mit cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0"
    " cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 bsd"
    " bsd-2-clause bsd-3-clause bsl-1.0 gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 agpl-3.0 mpl-2.0 unlicense wtfpl isc"
    " odbl odc-by pddl cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 afl-3.0 artistic-2.0 epl-2.0 eupl-1.1"
    " gfdl ms-pl ncsa ofl-1.1 osl-3.0 postgresql zlib openrail"
)
"""Of the hub's list of licence identifiers, those that data comes under."""
SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip
Report = Mapping[str, Any]


@dataclass(slots=True)
class Census:
    """What the rows of an export hold, counted as they are written. Memory is flat but for 8 bytes a row."""

    rows: int = 0
    chain_tokens: "array[int]" = field(default_factory=lambda: array("I"))
    """Where the endpoint said how many."""
    chain_characters: "array[int]" = field(default_factory=lambda: array("I"))
    without_chain: int = 0
    quoting_marks: int = 0
    """Rows whose text holds the marks that are written around the chain."""
    rewritten: int = 0
    cost_pusd: int = 0
    without_cost: int = 0
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    checks: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    """(check, version, whether it passed)"""

    def count(self, row: Mapping[str, Any], reasoning: str | None, *, quotes: bool) -> None:
        """`row` with all its columns, whichever of them are written."""
        self.rows += 1
        self.quoting_marks += quotes
        self.rewritten += row["original"] is not None
        if reasoning is None:
            self.without_chain += 1
        else:
            self.chain_characters.append(len(reasoning))
            if (tokens := row["usage"]["reasoning_tokens"]) is not None:
                self.chain_tokens.append(tokens)
        if row["cost_usd"] is None:
            self.without_cost += 1
        else:
            self.cost_pusd += pusd(Decimal(row["cost_usd"]))
        for name in COUNTED:
            self._one_more(name, row[name])
        for name in ("model", "served_model", "served_by"):
            self._one_more(name, row["teacher"][name])
        self._one_more("reason", row["reason"])
        for v in row["verdicts"]:
            key = (v["check"], v["version"], v["passed"])
            if key in self.checks or len(self.checks) < MOST_KINDS:
                self.checks[key] += 1

    def _one_more(self, name: str, value: str | None) -> None:
        kinds = self.kinds.setdefault(name, Counter())
        key = one_line(value, 200) if value is not None else ""
        kinds[key if key in kinds or len(kinds) < MOST_KINDS else OTHERS] += 1

    def known(self, name: str) -> Counter[str]:
        """The values of a column, without the rows that have none."""
        return Counter({k: n for k, n in self.kinds.get(name, Counter()).items() if k})


@dataclass(frozen=True, slots=True)
class Written:
    """What lies in the folder: names of the files, their size, and the columns of a row."""

    folder: str
    """The folder's own name, for the lines that load it."""
    files: Sequence[str]
    size_bytes: int
    columns: Columns


def card(
    config: Mapping[str, Any],
    report: Report,
    settings: Export,
    census: Census,
    written: Written,
    chosen: Mapping[str, Any] | None = None,
    *,
    version: str,
) -> str:
    """README.md of an export. `chosen` says what the newest selection was made of, by name; None without one."""
    lines = [
        "---",
        *_header(config, census, written),
        "---",
        "",
        f"# {cell(config['name'])}",
        "",
        *_first_words(settings, census),
        "",
        "## How many",
        "",
        *_table(("stage", "count"), _stages(report, census)),
        "",
        "## What is in the rows",
        "",
        *_table(("", ""), _contents(settings, census)),
        "",
        "## Where they come from",
        "",
        *_table(("", ""), _origins(config, census)),
        "",
        "## What they cost",
        "",
        *_table(("", ""), _costs(report, census)),
        "",
        "## How they were checked and chosen",
        "",
        *_table(("", ""), _judged(config, settings, census, chosen)),
        "",
        "## How they were asked for",
        "",
        *_prompt(config),
        "",
        "## How to load them",
        "",
        *_loading(settings, written),
        "",
        f"Written by winnow {version}.",
        "",
    ]
    return "\n".join(lines)


# ---- the header


def _header(config: Mapping[str, Any], census: Census, written: Written) -> Iterator[str]:
    yield f"pretty_name: {_yaml(config['name'])}"
    yield from _licence(census)
    yield "task_categories: [text-generation]"
    yield "tags: [reasoning, distillation, winnow]"
    yield f"size_categories: [{_yaml(_size(census.rows))}]"
    yield "configs:"
    yield "- config_name: default"
    yield "  data_files:"
    yield "  - split: train"
    if len(written.files) == 1:
        yield f"    path: {written.files[0]}"
    else:
        yield "    path:"
        yield from (f"    - {name}" for name in written.files)
    yield "dataset_info:"
    yield "  features:"
    yield from _features(written.columns, "  ")
    yield "  splits:"
    yield "  - name: train"
    yield f"    num_bytes: {written.size_bytes}"
    yield f"    num_examples: {census.rows}"
    yield f"  download_size: {written.size_bytes}"
    yield f"  dataset_size: {written.size_bytes}"


def _licence(census: Census) -> Iterator[str]:
    """One known licence on every row is the data set's; else `other` or `unknown`, and the table below says more."""
    found = census.kinds.get("licence", Counter())
    names = {_hub_licence(name) for name in found}
    if len(names) == 1 and (only := names.pop()) is not None:
        yield f"license: {only}"
    elif any(found):
        yield "license: other"
        yield "license_name: licences-of-the-questions"
        yield "license_link: README.md"
    else:
        yield "license: unknown"


def _hub_licence(name: str) -> str | None:
    """A licence as the hub names it, None where it knows none of that name."""
    key = re.sub(r"[\s_]+", "-", name.strip().casefold())
    key = {"apache-license-2.0": "apache-2.0", "mit-license": "mit", "cc0": "cc0-1.0"}.get(key, key)
    return key if key in HUB_LICENCES.split() else None


def _size(rows: int) -> str:
    return next((name for most, name in SIZES if rows < most), "n>1B")


def _features(columns: Columns, indent: str) -> Iterator[str]:
    for name, c in columns.items():
        yield f"{indent}- name: {name}"
        if isinstance(c, str):
            yield f"{indent}  dtype: {c}"
        else:
            yield f"{indent}  {'list' if isinstance(c, list) else 'struct'}:"
            yield from _features(c[0] if isinstance(c, list) else c, indent + "  ")


def _yaml(text: str) -> str:
    """A text as YAML in double quotes; printable, so that JSON's form of it is YAML's too."""
    return json.dumps(one_line(text, 200), ensure_ascii=False)


# ---- the words


def _first_words(settings: Export, census: Census) -> Iterator[str]:
    known = census.known("model").most_common(SHOWN_KINDS)
    teachers = ", ".join(cell(name) for name, _ in known) or "an unnamed teacher"
    what = {"selected": "selected traces", "accepted": "accepted traces", "all": "answers, accepted or not,"}
    yield f"{census.rows:,} {what[settings.which]} of {teachers}: questions with a chain of thought and an answer each."
    if settings.which == "all":
        yield ""
        yield (
            "Rejected answers are among them, so that training on all can be compared with training on what was"
            " accepted: `accepted` and `reason` say which is which."
        )
    if census.quoting_marks:
        yield ""
        yield (
            f"**{census.quoting_marks:,} rows quote the marks around a chain in their text**; a reader may cut them"
            ' there. `reasoning = "apart"` keeps chain and answer in fields of their own.'
        )


def _stages(report: Report, census: Census) -> Iterator[tuple[str, str]]:
    questions, attempts, traces = report["questions"], report["attempts"], report["traces"]
    yield "questions", f"{questions['total']:,}"
    yield "asked", f"{questions['asked']:,}"
    yield "answered whole", f"{attempts['answered']:,}"
    yield "reused from earlier runs", f"{attempts['reused']:,}"
    for reason, n in traces["rejected"].items():
        yield f"rejected: {cell(_spaced(reason))}", f"{n:,}"
    yield "accepted", f"{traces['accepted']:,}"
    for reason, n in traces["unselected"].items():
        yield f"not selected: {cell(_spaced(reason))}", f"{n:,}"
    yield "selected", f"{traces['selected']:,}"
    yield "**in this data set**", f"**{census.rows:,}**"


def _contents(settings: Export, census: Census) -> Iterator[tuple[str, str]]:
    counted = len(census.chain_tokens)
    of = f"; the endpoint sent a count for {counted:,} rows" if counted < census.rows else ""
    yield "tokens of a chain", _spread(census.chain_tokens) + of if counted else "not counted by the endpoint"
    yield "characters of a chain", _spread(census.chain_characters) if census.chain_characters else "there is no chain"
    if census.without_chain:
        yield "rows without a chain", f"{census.without_chain:,}"
    if settings.reasoning == "none":
        yield "chains", 'left out on purpose (`reasoning = "none"`): these rows are answers alone'
    if census.rewritten:
        yield "rewritten by rules", f"{census.rewritten:,} rows; what the teacher wrote stands in `original`"
    yield "domains", _kinds(census, "domain")
    yield "difficulty", _kinds(census, "difficulty")


def _origins(config: Mapping[str, Any], census: Census) -> Iterator[tuple[str, str]]:
    yield "teachers", _kinds(census, "model") + _place_of(config)
    yield "models that answered, by their own name", _kinds(census, "served_model")
    yield "providers that answered", _kinds(census, "served_by")
    yield "terms on training with the answers", _kinds(census, "teacher_terms")
    yield "sources of the questions", _kinds(census, "source")
    yield "licences of the questions", _kinds(census, "licence")


def _place_of(config: Mapping[str, Any]) -> str:
    teacher = config["teacher"]
    if config.get("teachers"):
        return ""
    place = teacher["base_url"] or ("this machine" if teacher["local"] else None)
    return f", at {cell(place)}" if place else ""


def _costs(report: Report, census: Census) -> Iterator[tuple[str, str]]:
    money = report["money"]
    doubt = f", and {money['in_doubt_usd']} USD in doubt" if Decimal(money["in_doubt_usd"]) else ""
    yield "spent in all", f"{money['spent_usd']} USD{doubt} (price from: {cell(money['price_source'])})"
    yield "an accepted trace", _usd(money["usd_per_accepted_trace"])
    if len(several := report.get("teachers", ())) > 1:
        for t in several:
            name = f"{cell(t['model'] or 'a teacher')}, at {cell(t['base_url'] or 'this machine')}"
            yield (
                name,
                (
                    f"{t['spent_usd']} USD, {t['answered']:,} answers, {t['accepted']:,} accepted,"
                    f" {_usd(t['usd_per_accepted_trace'])} each"
                ),
            )
    unknown = f", without {census.without_cost:,} whose cost is not known" if census.without_cost else ""
    counted = census.rows - census.without_cost
    yield "these rows themselves", f"{usd(census.cost_pusd)} USD{unknown}" if counted else "unknown"
    if counted:
        yield "one of these rows", f"{usd(-(-census.cost_pusd // counted))} USD{unknown and ', of the others'}"


def _judged(
    config: Mapping[str, Any], settings: Export, census: Census, chosen: Mapping[str, Any] | None
) -> Iterator[tuple[str, str]]:
    checks = sorted({(check, version) for check, version, _ in census.checks})
    words = "; ".join(
        f"{cell(check)} {cell(version)}: {census.checks[check, version, True]:,} passed,"
        f" {census.checks[check, version, False]:,} not"
        for check, version in checks[:SHOWN_KINDS]
    )
    yield "checks, with their versions", words or "none"
    yield "required", ", ".join(map(cell, config.get("checks", {}).get("require", ("correct",))))
    if settings.which == "all":
        yield "reasons of those not accepted", _kinds(census, "reason", "none")
    if settings.which != "selected":
        yield "filters and selection", "not applied"
    elif chosen is None:
        yield "filters and selection", "none was run: selected is what was accepted"
    else:
        yield from ((cell(name), cell(_plainly(value), 1000)) for name, value in chosen.items())


def _prompt(config: Mapping[str, Any]) -> Iterator[str]:
    if config.get("imported"):
        yield "The answers were bought elsewhere; what was asked stands in each row."
        return
    yield f"Prompt {cell(config['prompt'])}, sha256 {cell(config['prompt_sha256'])}:"
    yield ""
    text = config.get("prompt_text") or ""
    if len(text) > MOST_PROMPT_CHARACTERS:
        text = text[:MOST_PROMPT_CHARACTERS] + "\n…"
    yield from fenced(text)


def _loading(settings: Export, written: Written) -> Iterator[str]:
    folder = json.dumps(written.folder)
    lines = ["from datasets import load_dataset", f'rows = load_dataset({folder}, split="train")']
    trl = "SFTTrainer(…, args=SFTConfig(max_length=None, …), train_dataset=rows"
    if settings.layout == "messages" and settings.columns == "all":
        lines.append("# TRL takes the column `prompt` for a text to complete: hand it the messages alone, or")
        lines += ["# write the export with --layout trl", f'# {trl}.select_columns(["messages"]))']
    elif settings.layout in ("messages", "trl", "prompt-completion"):
        lines.append(f"# TRL: {trl})")
    yield from fenced("\n".join(lines), "python")
    yield ""
    yield "In a recipe of `python -m finetune sft`:"
    yield ""
    yield from fenced(f"data = {folder}", "toml")
    if settings.layout in ("messages", "trl", "axolotl"):
        yield ""
        yield "In axolotl's configuration:"
        yield ""
        yield from fenced(axolotl_lines(settings, folder), "yaml")
    if settings.layout in ("sharegpt", "llama-factory"):
        yield ""
        yield f"In LLaMA-Factory, with `dataset_dir` this folder and `dataset: {DATASET_NAME}`; `dataset_info.json` is:"
        yield ""
        yield from fenced(json.dumps(dataset_info(), indent=2), "json")


# ---- small forms


def cell(text: str, most: int = 200) -> str:
    """Text of others as one line in which nothing is markup or HTML. An address stays one: it shows where it goes."""
    return "".join(_ESCAPED.get(c, c) for c in one_line(text, most))


_ESCAPED = {c: f"\\{c}" for c in "\\`*_{}[]()#!|~$^"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def fenced(text: str, language: str = "") -> Iterator[str]:
    """A block in a fence longer than any in the text, which so cannot end it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield fence + language
    yield from ("".join(c for c in line if c.isprintable() or c == "\t") for line in re.split(r"\r\n|\r|\n", text))
    yield fence


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> list[str]:
    align = "---:" if head[1] == "count" else "---"
    return [f"| {head[0]} | {head[1]} |", f"| --- | {align} |", *(f"| {name} | {value} |" for name, value in rows)]


def _kinds(census: Census, name: str, nothing: str = "not recorded") -> str:
    """A column's values, the commonest first, each with its rows."""
    known, of = census.known(name), census.kinds.get(name, Counter())
    shown = [f"{cell(kind)}: {n:,}" for kind, n in known.most_common(SHOWN_KINDS)]
    if len(known) > SHOWN_KINDS:
        shown.append(f"{len(known) - SHOWN_KINDS:,} more: {sum(known.values()) - _sum_shown(known):,}")
    if known and of[""]:
        shown.append(f"{nothing}: {of['']:,}")
    return "; ".join(shown) or nothing


def _sum_shown(known: Counter[str]) -> int:
    return sum(n for _, n in known.most_common(SHOWN_KINDS))


def _spread(values: Sequence[int]) -> str:
    """Mean, median and 95%, of the values as they are."""
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.95)]
    return f"mean {sum(ordered) / len(ordered):,.0f}, median {at[0]:,}, 95% up to {at[1]:,}"


def _plainly(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _spaced(reason: str) -> str:
    return reason.replace("_", " ")


def _usd(amount: str | None) -> str:
    return "unknown" if amount is None else f"{amount} USD"
