"""Writes the report as a Markdown page for people. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from harvest.core.printable import printable
from harvest.report.evaluations import percent, several
from harvest.report.loss_curve import sparkline

Report = Mapping[str, Any]
"""The content of report.json."""


def markdown(report: Report) -> str:
    """Returns the text of the page."""
    return "\n".join(_lines(report)) + "\n"


def _lines(r: Report) -> Iterator[str]:
    yield from _head(r)
    yield from _counts("questions", _question_rows(r))
    yield from _counts("requests", _request_rows(r))
    yield from _counts("money (USD)", _money_rows(r))
    t = r["tokens"]
    tokens_in, tokens_out = f"{t['input']:,} in ({t['cached_input']:,} cached)", f"{t['output']:,} out"
    yield f"Tokens: {tokens_in}, {tokens_out} ({t['reasoning']:,} reasoning)."
    yield from _teachers(r)
    yield from _judging(r)
    if r["pace"]["limited_by"]:
        yield f"Pace: limited by {r['pace']['limited_by']}, at most {r['pace']['peak_in_flight']} in flight."
    yield from _trainings(r)
    yield from _evaluations(r)
    yield ""
    left = f" Not in it: {'; '.join(r['total_leaves_out'])}." if r["total_leaves_out"] else ""
    yield f"Total: {r['total_usd']} USD.{left}"


def _head(r: Report) -> Iterator[str]:
    run, traces = r["run"], r["traces"]
    yield f"# {run['name']}: {run['status'].replace('_', ' ')}"
    yield ""
    for warning in r["warnings"]:
        yield f"> **Warning:** {plain(warning)}"
        yield ""
    if run["imported"]:
        yield "Imported: these answers were paid for elsewhere. Money is what their logs say; there was no cap."
        yield ""
    rejected = sum(traces["rejected"].values())
    judged = traces["accepted"] + rejected
    share = f" ({100 * traces['accepted'] / judged:.1f}% of {judged} judged)" if judged else ""
    yield f"**{traces['accepted']} traces accepted**{share}, {rejected} rejected, in {_duration(run['wall_s'])}."
    if r["selection"]:
        of = "right and wrong answers alike" if _from_all(r) else "them"
        yield f"**{traces['selected']} selected** of {of}, to be trained on."
    yield ""


def _counts(title: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yields the lines of a table of names and figures, and the empty line after it."""
    yield f"| {title} | |"
    yield "| --- | ---: |"
    yield from (f"| {name} | {figure} |" for name, figure in rows)
    yield ""


def _question_rows(r: Report) -> Iterator[tuple[str, str]]:
    for status in ("total", "asked", "solved", "given_up", "open"):
        yield _words(status), f"{r['questions'][status]:,}"
    if r["student"]:
        yield "done by the student", f"{r['questions']['by_student']:,}"


def _request_rows(r: Report) -> Iterator[tuple[str, str]]:
    attempts, traces = r["attempts"], r["traces"]
    yield "sent", f"{attempts['sent']:,}"
    yield "answered whole", f"{attempts['answered']:,}"
    yield "reused from the store", f"{attempts['reused']:,}"
    yield "in doubt", f"{attempts['in_doubt']:,}"
    yield from ((f"failed: {kind}", f"{n:,}") for kind, n in attempts["failed"].items())
    yield from ((f"rejected: {_words(reason)}", f"{n:,}") for reason, n in traces["rejected"].items())
    yield "accepted", f"{traces['accepted']:,}"
    if r["selection"]:
        if _from_all(r):
            all_of = traces["selected"] + sum(traces["unselected"].values())
            yield "to select from: all that ended by themselves", f"{all_of:,}"
        yield from ((f"not selected: {_words(reason)}", f"{n:,}") for reason, n in traces["unselected"].items())
        yield "**selected**", f"**{traces['selected']:,}**"


def _money_rows(r: Report) -> Iterator[tuple[str, str]]:
    money = r["money"]
    yield "spent", money["spent_usd"]
    yield "in doubt, at its worst case", money["in_doubt_usd"]
    if money["beside_usd"]:
        yield "by doctor and evaluations, under the same cap", money["beside_usd"]
    yield from ((f"was in doubt, settled by the {by}", amount) for by, amount in money["settled_usd"].items())
    yield "cap", money["cap_usd"] or "none"
    yield from ((f"spent on {part.removesuffix('_usd')}", amount) for part, amount in money["spent_on"].items())
    yield "**an accepted trace**", money["usd_per_accepted_trace"] or "unknown"
    if r["selection"]:
        yield "a selected trace", money["usd_per_selected_trace"] or "unknown"
    yield "price from", money["price_source"]
    if money["price_list"]:
        yield "price list", money["price_list"]
    if money["unpriced_calls"]:
        yield "calls without a known price", f"{money['unpriced_calls']:,}"


def _from_all(r: Report) -> bool:
    """Returns whether the newest selection chose from rejected answers too."""
    return bool(r["selection"]["settings"]["pool"] == "all")


def _teachers(r: Report) -> Iterator[str]:
    """Yields what each teacher brought, if there are several, and how many questions the student answered in their
    place."""
    if len(r["teachers"]) > 1:
        yield ""
        yield "| teacher | questions | sent | answered | accepted | USD | USD an accepted trace |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        for t in r["teachers"]:
            yield (
                f"| {plain(t['model'] or 'unknown')} | {t['questions']:,} | {t['sent']:,} | {t['answered']:,}"
                f" | {t['accepted']:,} | {_spent_on(t)} | {t['usd_per_accepted_trace'] or 'unknown'} |"
            )
        yield ""
    if s := r["student"]:
        cost = "at a cost that nobody told" if s["cost_usd"] is None else f"for {s['cost_usd']} USD"
        yield (
            f"The student ({plain(s['model'] or 'taken out since')}) was asked {s['asked']:,} questions first, {cost}:"
            f" it could do {s['solved']:,} of them, and {s['left_to_teachers']:,} went to a teacher."
        )


def _spent_on(teacher: Mapping[str, Any]) -> str:
    """Returns what a teacher cost, and for how many calls the cost is unknown, so that the known part does not look
    like all."""
    if not (unknown := teacher["unpriced_calls"]):
        return str(teacher["spent_usd"])
    known = f"{teacher['spent_usd']}, " if Decimal(teacher["spent_usd"]) else ""
    return f"{known}unknown for {unknown:,} calls"


def _judging(r: Report) -> Iterator[str]:
    if j := r["judging"]:
        said = ", ".join(f"{n:,} {_words(outcome)}" for outcome, n in j["verdicts"].items())
        yield (
            f"Second opinions: {said or 'none'}; {j['accepted']:,} traces stand by them alone."
            f" {j['sent']:,} requests, {j['tokens']['input']:,} tokens in, {j['tokens']['output']:,} out."
        )


def _trainings(r: Report) -> Iterator[str]:
    if r["training"]:
        yield ""
        yield "| training | method | rows | tokens | minutes | loss | USD |"
        yield "| --- | --- | ---: | ---: | ---: | --- | ---: |"
    for t in r["training"]:
        loss = f"{t['loss_first']:.3f} → {t['loss_last']:.3f}" if t.get("loss_first") is not None else "–"
        yield (
            f"| {plain(t['student'])} | {t['method']} | {t['rows']:,} | {t['tokens']:,} | {t['wall_s'] / 60:.1f}"
            f" | {loss} | {t['cost_usd'] or 'unknown'} |"
        )
    for t in r["training"]:
        if losses := [p["loss"] for p in t["curve"] if p["loss"] is not None]:
            yield ""
            yield f"Loss of {plain(t['student'])}, step 1 to {t['curve'][-1]['step']}: `{sparkline(losses)}`"


def _evaluations(r: Report) -> Iterator[str]:
    if r["evaluation"]:
        yield ""
        yield "| evaluation | questions | n | accuracy | 95% | samples | tokens an answer | unfinished | no answer |"
        yield "| --- | --- | ---: | ---: | --- | --- | ---: | ---: | ---: |"
    for e in r["evaluation"]:
        who = plain(f"{e['label']}: {e['model']}" if e["label"] else e["model"])
        if e["accuracy"] is None:
            yield f"| {who} | {plain(e['questions'])} | 0 | – | – | – | – | – | – |"
            continue
        loops = f" ({percent(e['looping'])} looping)" if e["looping"] else ""
        yield (
            f"| {who} | {plain(e['questions'])} | {e['n']} | {percent(e['accuracy'])}"
            f" | {percent(e['low'])[:-1]}–{percent(e['high'])} | {several(e) or 1} | {e['mean_output_tokens']}"
            f" | {percent(e['unfinished'])}{loops} | {percent(e['no_answer'])} |"
        )
    for g in r["gains"]:
        alike = sum(g["questions"] == other["questions"] for other in r["gains"])
        whose = f" of {plain(g['model'])}" if alike > 1 else ""
        yield ""
        yield f"**Gain{whose} on {plain(g['questions'])}: {g['points']:+.1f} points** ({_interval(g)})."
    for g in r["against_teachers"]:
        yield ""
        yield (
            f"{plain(g['model'])} against its teacher {plain(g['teacher'])} on {plain(g['questions'])}:"
            f" {percent(g['accuracy'])} to {percent(g['teacher_accuracy'])}, {g['points']:+.1f} points"
            f" ({_interval(g)})."
        )


def _interval(g: Mapping[str, Any]) -> str:
    return f"95%: {g['low']:+.1f} to {g['high']:+.1f}, paired by question"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


_ESCAPED = {c: f"\\{c}" for c in "\\`*_[]#|"} | {"<": "&lt;", ">": "&gt;"}


def plain(text: str) -> str:
    """Returns foreign text changed so that nothing in it is Markdown or HTML.

    Fewer characters are escaped than in a dataset card, so that the text stays readable on a terminal.
    """
    return "".join(_ESCAPED.get(c, c) for c in printable(text))
