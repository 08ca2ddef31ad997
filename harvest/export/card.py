"""The dataset's card: YAML that the hub and `datasets` read, then where the rows come from, in words. Pure.

What is counted is counted over the rows of the files themselves. Text that came from outside (names, licences, models)
is one printable line in it, and no markup.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from harvest.core.config import Export
from harvest.core.money import pusd, usd
from harvest.core.printable import cell, fenced, one_line, table
from harvest.export.card_header import Written, header
from harvest.export.census import Census
from harvest.export.layouts import DATASET_NAME, axolotl_lines, dataset_info

SHOWN_KINDS = 20
MOST_PROMPT_CHARACTERS = 20_000
Report = Mapping[str, Any]


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
    """README.md of an export. `chosen` is the newest selection: `at`, its `settings`, and what it `said`; None without
    one."""
    lines = [
        "---",
        *header(str(config["name"]), census, written),
        "---",
        "",
        f"# {cell(config['name'])}",
        "",
        *_first_words(settings, census),
        "",
        "## How many",
        "",
        *table(("stage", "out", "left"), _stages(config, report, settings, census, chosen)),
        "",
        "## What is in the rows",
        "",
        *table(("", ""), _contents(settings, census)),
        "",
        "## Where they come from",
        "",
        *table(("", ""), _origins(config, census)),
        "",
        "## What they cost",
        "",
        *table(("", ""), _costs(report, census)),
        "",
        "## How they were checked and chosen",
        "",
        *table(("", ""), _judged(config, settings, census, chosen)),
        *_settings_of_choice(settings, chosen),
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


def _stages(
    config: Mapping[str, Any], report: Report, settings: Export, census: Census, chosen: Mapping[str, Any] | None
) -> Iterator[tuple[str, str, str]]:
    """From the questions to the rows: what each stage takes out, and what it leaves."""
    questions, attempts, traces = report["questions"], report["attempts"], report["traces"]
    by_student, asked = questions.get("by_student", 0), questions["asked"]
    yield "questions", "", f"{questions['total']:,}"
    if by_student:
        yield _out("done by the student, so no teacher is asked", by_student, questions["total"] - by_student)
    if unasked := questions["total"] - by_student - asked:
        yield _out("not asked", unasked, asked)
    yield "questions asked", "", f"{asked:,}"
    if not config.get("imported"):
        yield "requests sent", "", f"{attempts['sent']:,}"
    reused = f" ({attempts['reused']:,} of them bought by an earlier run)" if attempts["reused"] else ""
    yield f"whole answers{reused}", "", f"{traces['answers']:,}"
    if settings.which != "all":
        yield from _accepted(traces)
    if settings.which == "selected" and chosen is not None:
        yield from _selected(traces, chosen)
    yield "**in this data set**", "", f"**{census.rows:,}**"


def _accepted(traces: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    left = traces["answers"]
    if waiting := left - traces["accepted"] - sum(traces["rejected"].values()):
        left -= waiting
        yield _out("not judged yet", waiting, left)
    for reason, n in traces["rejected"].items():
        left -= n
        yield _out(f"rejected: {cell(_spaced(reason))}", n, left)
    yield "accepted", "", f"{traces['accepted']:,}"


def _selected(traces: Mapping[str, Any], chosen: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    left = traces["selected"] + sum(traces["unselected"].values())
    if chosen["settings"].get("pool") == "all":
        yield "answers that ended by themselves, right or wrong", "", f"{left:,}"
    elif newer := traces["accepted"] - left:
        yield _out("newer than the selection", newer, left)
    for reason, n in traces["unselected"].items():
        left -= n
        yield _out(f"not selected: {cell(_spaced(reason))}", n, left)
    yield "selected", "", f"{traces['selected']:,}"


def _out(name: str, out: int, left: int) -> tuple[str, str, str]:
    return name, f"{out:,}", f"{left:,}"


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


PARTS_OF_COST = {
    "accepted_usd": "on accepted answers",
    "rejected_usd": "on rejected answers",
    "truncated_usd": "on answers that were cut short",
    "failed_usd": "on tries that brought no answer",
    "judging_usd": "on the model that judges",
    "student_usd": "on the student that tried first",
}


def _costs(report: Report, census: Census) -> Iterator[tuple[str, str]]:
    money = report["money"]
    doubt = f", and {money['in_doubt_usd']} USD in doubt" if Decimal(money["in_doubt_usd"]) else ""
    unpriced = money["unpriced_calls"]
    doubt += _without(unpriced)
    yield "spent in all", f"{money['spent_usd']} USD{doubt} (price from: {cell(money['price_source'])})"
    for part, amount in money["spent_on"].items():
        if Decimal(amount):
            yield PARTS_OF_COST.get(part, cell(_spaced(part))), f"{amount} USD"
    yield "an accepted trace, with all that was spent", _usd(money["usd_per_accepted_trace"])
    if census.rows and not unpriced:
        spent = pusd(Decimal(money["spent_usd"]))
        yield "a row of this data set, with all that was spent", _usd(usd(-(-spent // census.rows)))
    if len(several := report.get("teachers", ())) > 1:
        for t in several:
            name = f"{cell(t['model'] or 'a teacher')}, at {cell(t['base_url'] or 'this machine')}"
            yield (
                name,
                (
                    f"{t['spent_usd']} USD{_without(t['unpriced_calls'])}, {t['answered']:,} answers,"
                    f" {t['accepted']:,} accepted, {_usd(t['usd_per_accepted_trace'])} each"
                ),
            )
    unknown = f", without {census.without_cost:,} whose cost is not known" if census.without_cost else ""
    counted = census.rows - census.without_cost
    yield "the answers in these rows alone", f"{usd(census.cost_pusd)} USD{unknown}" if counted else "unknown"


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
    if chosen is None:
        none = "none was run: selected is what was accepted"
        yield "filters and selection", none if settings.which == "selected" else "none was run"
    elif settings.which != "selected":
        kept = f"`selected` and `unselected` say what that of {cell(chosen['at'])} would keep"
        yield "filters and selection", f"not applied; {kept}"
    else:
        yield from _chosen_by(chosen)


def _chosen_by(chosen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    made, said = chosen["settings"], chosen["said"]
    versions = made.get("versions") or {}
    yield "selected at", cell(chosen["at"])
    held = "; ".join(f"{cell(_file_name(name))}: {n:,} questions" for name, n in said.get("against", {}).items())
    yield "held against evaluations", held or "none was named"
    yield "filters, with their versions", _versions(versions.get("filters") or {}) or "off"
    again, rewrite = said.get("rewritten") or {}, made.get("rewrite")
    if rewrite is None:
        yield "rewriting", "not recorded"
    elif rewrite["on"]:
        stay = again.get("refused_by_check", 0)
        words = f"rules of version {cell(str(rewrite['version']))}: {again.get('kept', 0):,} answers rewritten"
        yield "rewriting", f"{words}, {stay:,} left as they came, since the check did not pass them again"
    else:
        yield "rewriting", "off"
    yield "selection, with the versions of its parts", _versions({k: v for k, v in versions.items() if k != "filters"})
    yield "seed", cell(str(said.get("seed", made.get("seed"))))


def _versions(of: Mapping[str, Any]) -> str:
    return ", ".join(f"{cell(_spaced(name))} {cell(str(version))}" for name, version in of.items())


def _file_name(name: str) -> str:
    """An evaluation without the folders above it: they are nobody else's business. A built-in source stays."""
    return PurePath(name).name if PurePath(name).is_absolute() else name


def _settings_of_choice(settings: Export, chosen: Mapping[str, Any] | None) -> Iterator[str]:
    """The selection as lines of RUN.toml, which would make it again."""
    if settings.which != "selected" or chosen is None:
        return
    made = chosen["settings"]
    select = {k: v for k, v in made.items() if k not in ("versions", "filters", "rewrite")}
    select["against"] = [_file_name(str(name)) for name in select.get("against") or ()]
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
        yield from fenced(axolotl_lines(settings, written.folder), "yaml")
    if settings.layout in ("sharegpt", "llama-factory"):
        yield ""
        beside = "is" if settings.layout == "llama-factory" else "in it is to be"
        yield f"In LLaMA-Factory, with `dataset_dir` the name of this folder (not `.`) and `dataset: {DATASET_NAME}`;"
        yield f"`dataset_info.json` {beside}:"
        yield ""
        yield from fenced(json.dumps(dataset_info(), indent=2), "json")


# ---- small forms


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


def _spaced(reason: str) -> str:
    return reason.replace("_", " ")


def _without(unpriced: int) -> str:
    return f", without {unpriced:,} calls whose cost nobody knows" if unpriced else ""


def _usd(amount: str | None) -> str:
    return "unknown" if amount is None else f"{amount} USD"
