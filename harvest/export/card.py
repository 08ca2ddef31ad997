"""Writes the dataset's card: YAML for the hub and `datasets`, then what the rows are and where they come from. Pure.

The card's figures about the rows are counted from the rows that were written, not taken from the report. Text from
outside (names, licences, models) becomes one printable line without markup.
"""

import json
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from harvest.core.config import Export
from harvest.core.printable import cell, fenced, one_line, table
from harvest.export.card_header import Written, header
from harvest.export.card_tables import SHOWN_KINDS, Report, contents, costs, file_name, judged, origins, stages
from harvest.export.census import Census
from harvest.export.layouts import DATASET_NAME, axolotl_lines, dataset_info
from harvest.store import StoredRun, StoredSelection

MOST_PROMPT_CHARACTERS = 20_000


def card(
    run: StoredRun, report: Report, settings: Export, census: Census, written: Written,
    newest: StoredSelection | None = None, *, version: str,
) -> str:  # fmt: skip
    """Returns the text of README.md.

    `newest` is the run's newest selection, or None if there is no selection. `version` is the version of winnow.
    """
    chosen = table(("", ""), judged(run, settings, census, newest))
    sections: dict[str, Iterable[str]] = {
        f"# {cell(run.name)}": _first_words(settings, census),
        "## How many": table(("stage", "out", "left"), stages(run, report, settings, census, newest)),
        "## What is in the rows": table(("", ""), contents(settings, census)),
        "## Where they come from": table(("", ""), origins(run, census)),
        "## What they cost": table(("", ""), costs(report, census)),
        "## How they were checked and chosen": [*chosen, *_selection_settings(settings, newest)],
        "## How they were asked for": _prompt(run, census),
        "## How to check them": _proof(written),
        "## How to load them": _loading(settings, written),
    }
    lines = ["---", *header(run.name, census, written), "---", ""]
    for title, section in sections.items():
        lines += [title, "", *section, ""]
    return "\n".join([*lines, f"Written by winnow {version}.", ""])


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
    if settings.which == "selected" and census.accepted < census.rows:
        yield ""
        yield (
            f"**{census.rows - census.accepted:,} of them were not accepted**: they were selected from all answers that"
            ' ended by themselves (`pool = "all"`). `accepted` and `reason` say which they are.'
        )
    if n := census.quoting_marks:
        yield ""
        yield (
            f"**{n:,} {'row quotes' if n == 1 else 'rows quote'} the marks around a chain in their text**; a reader may"
            ' cut them there. `reasoning = "apart"` keeps chain and answer in fields of their own.'
        )


def _selection_settings(settings: Export, newest: StoredSelection | None) -> Iterator[str]:
    """Gives the lines of a RUN.toml that makes the same selection. Gives nothing unless selected rows are exported."""
    if settings.which != "selected" or newest is None:
        return
    made = newest.settings
    select = {k: v for k, v in made.items() if k not in ("versions", "filters", "rewrite")}
    select["against"] = [file_name(str(name)) for name in select.get("against") or ()]
    rewrite = None if made.get("rewrite") is None else {"on": made["rewrite"]["on"]}
    sections = {"select": select, "filters": made.get("filters"), "rewrite": rewrite}
    lines = []
    for section, values in sections.items():
        if values is not None:
            lines += [f"[{section}]", *(f"{k} = {_toml(v)}" for k, v in values.items() if v not in (None, [])), ""]
    yield ""
    yield "The same in a RUN.toml:"
    yield ""
    yield from fenced("\n".join(lines).rstrip(), "toml")


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(one_line(value), ensure_ascii=False)
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else json.dumps(value)


def _prompt(run: StoredRun, census: Census) -> Iterator[str]:
    if run.from_public:
        yield "The answers are from public sets: `public` says from which. How they were asked for is not known."
        return
    if run.imported:
        yield "The answers were bought elsewhere; what was asked stands in each row."
        return
    yield f"Prompt {cell(run.config.prompt)}, sha256 {cell(run.prompt_sha256)}:"
    yield ""
    text = run.prompt_text
    if len(text) > MOST_PROMPT_CHARACTERS:
        text = text[:MOST_PROMPT_CHARACTERS] + "\n…"
    yield from fenced(text)
    if n := census.known("public").total():
        yield ""
        rows = "row is" if n == 1 else "rows are"
        yield (
            f"{n:,} {rows} from public sets (`public` says from which): they were asked with other prompts, and stand"
            " here under this one. What they cost is not known, and nobody paid it for this data set."
        )


def _proof(written: Written) -> Iterator[str]:
    yield "`winnow.manifest` says of each row which answer it is, what it cost, who judged it and how, and its hash."
    yield "This checks it, without a network and without us:"
    yield ""
    yield from fenced(f"winnow verify-student {shlex.quote(written.folder)}", "sh")
    yield ""
    yield from table(("", ""), (("root of the manifest", written.manifest_root), ("rows", written.dataset_sha256)))


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
        yield from fenced(axolotl_lines(settings, written.folder), "yaml")
    if settings.layout in ("sharegpt", "llama-factory"):
        yield ""
        beside = "is" if settings.layout == "llama-factory" else "in it is to be"
        yield f"In LLaMA-Factory, with `dataset_dir` the name of this folder (not `.`) and `dataset: {DATASET_NAME}`;"
        yield f"`dataset_info.json` {beside}:"
        yield ""
        yield from fenced(json.dumps(dataset_info(), indent=2), "json")
