"""Makes the tables of a dataset's card: row numbers, contents, origins, costs, checks and selection. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from harvest.asking.planning.teacher_terms import terms_of
from harvest.core.config import Export
from harvest.core.money import pusd, usd
from harvest.core.printable import cell
from harvest.export.census import Census
from harvest.store import StoredRun, StoredSelection

SHOWN_KINDS = 20
"""The number of values of a column that are shown by name."""
Report = Mapping[str, Any]


def stages(
    run: StoredRun, report: Report, settings: Export, census: Census, newest: StoredSelection | None
) -> Iterator[tuple[str, str, str]]:
    """Gives the rows of the table of numbers, from the questions to the rows of the dataset.

    Each is (stage, how many questions or answers the stage takes out, how many are left).
    """
    questions, attempts, traces = report["questions"], report["attempts"], report["traces"]
    by_student, asked = questions.get("by_student", 0), questions["asked"]
    yield "questions", "", f"{questions['total']:,}"
    if by_student:
        yield _out("done by the student, so no teacher is asked", by_student, questions["total"] - by_student)
    left = questions["total"] - by_student
    if by_public := (report["public"] or {}).get("questions", 0):
        left -= by_public
        yield _out("answered by public sets, so no teacher is asked", by_public, left)
    if unasked := left - asked:
        yield _out("not asked", unasked, asked)
    yield "questions asked", "", f"{asked:,}"
    if not run.imported:
        yield "requests sent", "", f"{attempts['sent']:,}"
    public = (report["public"] or {}).get("answers", 0)
    parts = [f"{public:,} of them from public sets"] if public else []
    if by_others := attempts["reused"] - public:
        parts.append(f"{by_others:,} of them bought by an earlier run")
    reused = f" ({', '.join(parts)})" if parts else ""
    yield f"whole answers{reused}", "", f"{traces['answers']:,}"
    if settings.which != "all":
        yield from _accepted(traces)
    if settings.which == "selected" and newest is not None:
        yield from _selected(traces, newest)
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


def _selected(traces: Mapping[str, Any], newest: StoredSelection) -> Iterator[tuple[str, str, str]]:
    left = traces["selected"] + sum(traces["unselected"].values())
    if newest.settings.get("pool") == "all":
        yield "answers that ended by themselves, right or wrong", "", f"{left:,}"
    elif newer := traces["accepted"] - left:
        yield _out("newer than the selection", newer, left)
    for reason, n in traces["unselected"].items():
        left -= n
        yield _out(f"not selected: {cell(_spaced(reason))}", n, left)
    yield "selected", "", f"{traces['selected']:,}"


def _out(name: str, out: int, left: int) -> tuple[str, str, str]:
    return name, f"{out:,}", f"{left:,}"


def contents(settings: Export, census: Census) -> Iterator[tuple[str, str]]:
    counted = len(census.chain_tokens)
    of = f"; the endpoint sent a count for {counted:,} rows" if counted < census.rows else ""
    yield "tokens of a chain", _spread(census.chain_tokens) + of if counted else "not counted by the endpoint"
    yield "characters of a chain", _spread(census.chain_characters) if census.chain_characters else "there is no chain"
    if census.without_chain:
        yield "rows without a chain", f"{census.without_chain:,}"
    if settings.reasoning == "none":
        yield "chains", 'left out on purpose (`reasoning = "none"`): these rows are answers alone'
    if census.rewritten:
        by = f"{census.by_model:,} of them by a model; " if census.by_model else ""
        stands = "what the teacher wrote stands in `original`"
        yield "rewritten into the format", f"{census.rewritten:,} rows; {by}{stands}"
    yield "domains", _kinds(census, "domain")
    yield "difficulty", _kinds(census, "difficulty")


def origins(run: StoredRun, census: Census) -> Iterator[tuple[str, str]]:
    yield "teachers", _kinds(census, "model") + _place_of(run)
    yield "models that answered, by their own name", _kinds(census, "served_model")
    yield "providers that answered", _kinds(census, "served_by")
    yield "terms on training with the answers", _kinds(census, "teacher_terms")
    if census.by_model and (rewriter := run.config.rewrite.model) is not None:
        yield "model that rewrote", cell(str(rewriter.model or rewriter.local))
        yield "its terms on training with what it writes", cell(terms_of(rewriter.model_dump()).words)
    if census.known("public"):
        yield "public sets that have answers", _kinds(census, "public", "bought by this run")
    yield "sources of the questions", _kinds(census, "source")
    yield "licences of the questions", _kinds(census, "licence")


def _place_of(run: StoredRun) -> str:
    """Says where the only teacher of a run was asked. The text is empty if the run has several teachers or none."""
    if run.config.teachers or not run.has_teacher:
        return ""
    teacher = run.config.teacher
    place = teacher.base_url or ("this machine" if teacher.local else None)
    return f", at {cell(place)}" if place else ""


PARTS_OF_COST = {
    "accepted_usd": "on accepted answers",
    "rejected_usd": "on rejected answers",
    "truncated_usd": "on answers that were cut short",
    "failed_usd": "on tries that brought no answer",
    "judging_usd": "on the model that judges",
    "student_usd": "on the student that tried first",
    "rewriting_usd": "on the model that rewrites",
}


def costs(report: Report, census: Census) -> Iterator[tuple[str, str]]:
    money = report["money"]
    doubt = f", and {money['in_doubt_usd']} USD in doubt" if Decimal(money["in_doubt_usd"]) else ""
    unpriced = money["unpriced_calls"]
    spent = f"{money['spent_usd']} USD{doubt}{_without(unpriced)}"
    yield "spent in all", f"{spent} (price from: {cell(money['price_source'])})"
    for part, amount in money["spent_on"].items():
        if Decimal(amount):
            yield PARTS_OF_COST.get(part, cell(_spaced(part))), f"{amount} USD"
    yield "an accepted trace, with all that was spent", _usd(money["usd_per_accepted_trace"])
    if census.rows and not unpriced:
        each = -(-pusd(Decimal(money["spent_usd"])) // census.rows)
        yield "a row of this data set, with all that was spent", f"{usd(each)} USD"
    if len(several := report.get("teachers", ())) > 1:
        for t in several:
            name = f"{cell(t['model'] or 'a teacher')}, at {cell(t['base_url'] or 'this machine')}"
            spent = f"{t['spent_usd']} USD{_without(t['unpriced_calls'])}, {t['answered']:,} answers"
            yield name, f"{spent}, {t['accepted']:,} accepted, {_usd(t['usd_per_accepted_trace'])} each"
    unknown = f", without {census.without_cost:,} whose cost is not known" if census.without_cost else ""
    counted = census.rows - census.without_cost
    yield "the answers in these rows alone", f"{usd(census.cost_pusd)} USD{unknown}" if counted else "unknown"


def judged(
    run: StoredRun, settings: Export, census: Census, newest: StoredSelection | None
) -> Iterator[tuple[str, str]]:
    checks = sorted({(check, version) for check, version, _ in census.checks})
    words = "; ".join(
        f"{cell(check)} {cell(version)}: {census.checks[check, version, True]:,} passed,"
        f" {census.checks[check, version, False]:,} not"
        for check, version in checks[:SHOWN_KINDS]
    )
    yield "checks, with their versions", words or "none"
    yield "required", ", ".join(map(cell, run.config.checks.require))
    if settings.which == "all":
        yield "reasons of those not accepted", _kinds(census, "reason", "none")
    if newest is None:
        means = ": selected is what was accepted" if settings.which == "selected" else ""
        yield "filters and selection", f"none was run{means}"
    elif settings.which != "selected":
        kept = f"`selected` and `unselected` say what that of {cell(newest.at)} would keep"
        yield "filters and selection", f"not applied; {kept}"
    else:
        yield from _selected_by(newest)


def _selected_by(newest: StoredSelection) -> Iterator[tuple[str, str]]:
    made, said = newest.settings, newest.said
    versions = made.get("versions") or {}
    yield "selected at", cell(newest.at)
    held = "; ".join(f"{cell(file_name(name))}: {n:,} questions" for name, n in said.get("against", {}).items())
    yield "held against evaluations", held or "none was named"
    yield "filters, with their versions", _versions(versions.get("filters") or {}) or "off"
    again, rewrite = said.get("rewritten") or {}, made.get("rewrite")
    if by_model := again.get("by_model"):
        yield "rewriting by a model", f"{by_model:,} answers, each of them checked again"
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


def file_name(name: str) -> str:
    """Returns the name of an evaluation without its folders, which a card must not show.

    The name of a built-in source stays as it is.
    """
    return PurePath(name).name if PurePath(name).is_absolute() else name


# ---- small forms


def _kinds(census: Census, name: str, nothing: str = "not recorded") -> str:
    """Lists the values of a column, each with the number of rows that have the value, the most frequent value first.

    `nothing` is the text that stands for rows without a value.
    """
    known, of = census.known(name), census.kinds.get(name, Counter())
    shown = [f"{cell(kind)}: {n:,}" for kind, n in known.most_common(SHOWN_KINDS)]
    if more := known.most_common()[SHOWN_KINDS:]:
        shown.append(f"{len(more):,} more: {sum(n for _, n in more):,}")
    if known and of[""]:
        shown.append(f"{nothing}: {of['']:,}")
    return "; ".join(shown) or nothing


def _spread(values: Sequence[int]) -> str:
    """Says the mean, the median and the 95th percentile of the values."""
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.95)]
    return f"mean {sum(ordered) / len(ordered):,.0f}, median {at[0]:,}, 95% up to {at[1]:,}"


def _spaced(reason: str) -> str:
    return reason.replace("_", " ")


def _without(unpriced: int) -> str:
    return f", without {unpriced:,} calls whose cost nobody knows" if unpriced else ""


def _usd(amount: str | None) -> str:
    return "unknown" if amount is None else f"{amount} USD"
