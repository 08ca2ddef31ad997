"""Makes the tables of a report, which report.md, the terminal and the page print: each figure is put into words once.

What is empty is left out: a count of 0, an amount of nothing, a table without a row. Pure.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from harvest.core.printable import one_line
from harvest.report.evaluations import percent, several
from harvest.report.headline import dollars

Report = Mapping[str, Any]
"""The content of report.json."""
Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts, none of which is markup: some are names that other people chose."""

    title: str
    """The heading of the first column."""
    columns: tuple[str, ...]
    """The headings of the other columns. Empty: each row is a name and a figure."""
    rows: tuple[Row, ...]
    words: tuple[str, ...] = ()
    """The columns that hold words, not figures."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """The class of style.css for a row, by the row's name: the colour of a part, or `sum`."""

    def __bool__(self) -> bool:
        return bool(self.rows)


def pairs(title: str, rows: Iterator[Row]) -> Table:
    return Table(title, (), tuple(rows))


def questions(r: Report) -> Table:
    return pairs("questions", _question_rows(r))


def requests(r: Report) -> Table:
    return pairs("requests", _request_rows(r))


def money(r: Report) -> Table:
    kinds = {_part(kind, words): kind for kind, words, _ in budget(r)} | {"spent": "sum", "cap": "sum"}
    return Table("money (USD)", (), tuple(_money_rows(r)), kinds=kinds)


def _question_rows(r: Report) -> Iterator[Row]:
    for status in ("total", "asked", "solved", "given_up", "open"):
        if n := r["questions"][status]:
            yield spaced(status), f"{n:,}"
    if r["student"]:
        yield "done by the student", f"{r['questions']['by_student']:,}"
    if public := (r["public"] or {}).get("questions"):
        yield "solved by public answers", f"{public:,}"


def _request_rows(r: Report) -> Iterator[Row]:
    attempts, traces, public = r["attempts"], r["traces"], r["public"] or {"answers": 0}
    counts = [
        ("sent", attempts["sent"]),
        ("answered whole", attempts["answered"]),
        ("from public sets", public["answers"]),
        ("reused from the store", attempts["reused"] - public["answers"]),
        ("continued after a cut", traces["continued"]),
        ("in doubt", attempts["in_doubt"]),
        *((f"failed: {spaced(kind)}", n) for kind, n in attempts["failed"].items()),
        *((f"rejected: {spaced(reason)}", n) for reason, n in traces["rejected"].items()),
        ("accepted", traces["accepted"]),
    ]
    if r["selection"]:
        if from_all(r):
            all_of = traces["selected"] + sum(traces["unselected"].values())
            counts.append(("to select from: all that ended by themselves", all_of))
        counts += ((f"not selected: {spaced(reason)}", n) for reason, n in traces["unselected"].items())
        counts.append(("selected", traces["selected"]))
    yield from ((name, f"{n:,}") for name, n in counts if n)


BUDGET = {
    "accepted_usd": "accepted answers",
    "rejected_usd": "rejected answers",
    "truncated_usd": "answers cut at the limit",
    "failed_usd": "tries without an answer",
    "judging_usd": "the judging model",
    "student_usd": "the student, asked first",
    "rewriting_usd": "rewriting",
}
"""What money is spent on, in words."""


NOT_SPENT = ("doubt", "reserved", "beside", "left")
"""The parts of the budget that nobody has billed to this run."""


def budget(r: Report) -> list[tuple[str, str, str]]:
    """Returns the parts of the budget as (kind, words, USD). First comes what is spent, with a part for each purpose.
    Then come the money in doubt, the reserved money, what doctor and evaluations use under the same cap, and what is
    left.

    If there is a cap and the run did not go over it, the parts add up to exactly the cap. A part of 0 USD is left out.
    """
    m = r["money"]
    parts = [
        *((key.removesuffix("_usd"), BUDGET.get(key, key), amount) for key, amount in m["spent_on"].items()),
        ("doubt", "in doubt, at its worst case", m["in_doubt_usd"]),
        ("reserved", "reserved for requests in flight", m["reserved_usd"]),
        ("beside", "by doctor and evaluations, under the same cap", m["beside_usd"] or "0"),
        ("left", "left", m["remaining_usd"] or "0"),
    ]
    return [part for part in parts if Decimal(part[2])]


def _part(kind: str, words: str) -> str:
    return words if kind in NOT_SPENT else f"spent on {words}"


def _money_rows(r: Report) -> Iterator[Row]:
    m = r["money"]
    parts = budget(r)
    yield from ((_part(kind, words), amount) for kind, words, amount in parts if kind not in NOT_SPENT)
    if Decimal(m["spent_usd"]):
        yield "spent", m["spent_usd"]
    yield from ((_part(kind, words), amount) for kind, words, amount in parts if kind in NOT_SPENT)
    yield from ((f"was in doubt, settled by the {by}", amount) for by, amount in m["settled_usd"].items())
    if m["cap_usd"] is not None:
        yield "cap", m["cap_usd"]
    for each, words in (("accepted", "an accepted trace"), ("selected", "a selected trace")):
        if each == "selected" and not r["selection"]:
            continue
        usd = m[f"usd_per_{each}_trace"]
        if usd is None and m["unpriced_calls"] and r["traces"][each]:
            yield words, "unknown"
        elif usd is not None and Decimal(usd):
            yield words, usd
    if m["unpriced_calls"]:
        yield "calls without a known price", f"{m['unpriced_calls']:,}"
    if Decimal(m["spent_usd"]) or Decimal(m["in_doubt_usd"]):
        yield "price from", m["price_source"]
        if m["price_list"]:
            yield "price list", m["price_list"]


def from_all(r: Report) -> bool:
    """Returns whether the newest selection chose from rejected answers too."""
    return bool(r["selection"]["settings"]["pool"] == "all")


def teachers(r: Report) -> Table:
    """Returns what each teacher brought, if there are several."""
    rows = tuple(
        (
            t["model"] or "unknown", *(f"{t[n]:,}" for n in ("questions", "sent", "answered", "accepted")),
            _spent_on(t), t["usd_per_accepted_trace"] or "unknown",
        )
        for t in r["teachers"]
    )  # fmt: skip
    columns = ("questions", "sent", "answered", "accepted", "USD", "USD an accepted trace")
    return Table("teacher", columns, rows if len(rows) > 1 else ())


def public(r: Report) -> Table:
    """Returns what answers from public sets brought, which nobody of ours was paid for."""
    rows = tuple(
        (one["set"], one["licence"], one["teacher"], *(f"{one[n]:,}" for n in ("answers", "accepted", "questions")))
        for one in (r["public"] or {"sets": ()})["sets"]
    )
    columns = ("licence", "written by", "answers", "accepted", "questions solved")
    return Table("public set", columns, rows, columns[:2])


def replicas(r: Report) -> Table:
    """Returns what each replica of a teacher answered, if a teacher has several."""
    rows = tuple(
        (
            one["base_url"], *(f"{one[n]:,}" for n in ("sent", "answered", "in_doubt")),
            ", ".join(f"{spaced(kind)} {n:,}" for kind, n in one["failed"].items()) or "none",
            "unknown" if one["output_tokens_per_s"] is None else f"{one['output_tokens_per_s']:,.1f}",
        )
        for t in r["teachers"]
        for one in t.get("replicas", ())
    )  # fmt: skip
    return Table("replica", ("sent", "answered", "in doubt", "failed", "output tokens/s"), rows, ("failed",))


def _spent_on(teacher: Mapping[str, Any]) -> str:
    """Returns what a teacher cost, and for how many calls the cost is unknown, so that the known part does not look
    like all."""
    if not (unknown := teacher["unpriced_calls"]):
        return str(teacher["spent_usd"])
    known = f"{teacher['spent_usd']}, " if Decimal(teacher["spent_usd"]) else ""
    return f"{known}unknown for {unknown:,} calls"


def trainings(r: Report) -> Table:
    rows = (
        (
            t["student"], t["method"], f"{t['rows']:,}", f"{t['tokens']:,}", f"{t['wall_s'] / 60:.1f}",
            f"{t['loss_first']:.3f} → {t['loss_last']:.3f}" if t.get("loss_first") is not None else "–",
            t["cost_usd"] or "unknown",
        )
        for t in r["training"]
    )  # fmt: skip
    return Table("training", ("method", "rows", "tokens", "minutes", "loss", "USD"), tuple(rows), ("method", "loss"))


def evaluations(r: Report) -> Table:
    columns = ("questions", "n", "accuracy", "95%", "samples", "tokens an answer", "unfinished", "no answer")
    return Table("evaluation", columns, tuple(map(_evaluation, r["evaluation"])), ("questions", "95%", "samples"))


def _evaluation(e: Mapping[str, Any]) -> Row:
    who = evaluated(e)
    if e["accuracy"] is None:
        return (who, e["questions"], "0", *6 * ("–",))
    loops = f" ({percent(e['looping'])} looping)" if e["looping"] else ""
    return (
        who, e["questions"], str(e["n"]), percent(e["accuracy"]), f"{percent(e['low'])[:-1]}–{percent(e['high'])}",
        several(e) or "1", str(e["mean_output_tokens"]), f"{percent(e['unfinished'])}{loops}", percent(e["no_answer"]),
    )  # fmt: skip


def evaluated(e: Mapping[str, Any]) -> str:
    """Returns who was evaluated, with the evaluation's label."""
    return f"{e['label']}: {e['model']}" if e["label"] else str(e["model"])


def forecasts(r: Report) -> Table:
    """Returns what a forecast said, and what came; for a run that goes on, what it says of the rest."""
    columns = ("low", "middle", "high")
    if (check := r["forecast_check"]) is not None:
        title = f"forecast by the first {check['questions']} questions"
        return Table(title, (*columns, "came"), tuple(_forecast_rows(check["usd"], check["accepted"])))
    said, title = r["forecast"], "forecast for the open questions"
    if said is None or not r["questions"]["open"]:
        return Table(title, columns, ())
    return Table(title, columns, tuple(_forecast_rows(said["usd_to_finish"], said["accepted_to_expect"])))


def quote(r: Report) -> Table:
    """Returns what `harvest estimate` quoted for the whole run, beside what the run really cost and brought."""
    if (said := r["quote"]) is None:
        return Table("quoted", (), ())
    ends = ("low", "mid", "high", "came")
    rows = [
        (words, *("–" if of[end] is None else text(of[end]) for end in ends))
        for words, of, text in (("money", said["usd"], dollars), ("accepted traces", said["accepted"], "{:,}".format))
        if of
    ]
    title = f"quoted after {said['questions']} questions, for the whole run"
    return Table(title, ("low", "middle", "high", "came"), tuple(rows))


def accuracy_quotes(r: Report) -> Table:
    """Returns which accuracies `finetune curve --buy` quoted, beside those that came."""
    rows = [
        (f"{one_line(q['student'])} on {one_line(q['questions'])}",
         *(percent(q["accuracy"][end]) for end in ("low", "mid", "high")),
         "–" if q["came"] is None else percent(q["came"]))
        for q in r["accuracy_quotes"]
    ]  # fmt: skip
    return Table("quoted share of right answers (90%)", ("low", "middle", "high", "came"), tuple(rows))


def rounds(r: Report) -> Table:
    """Returns what each round of a job bought, its cost, and what its student gained over the one before it."""
    rows = [
        (f"round {b['round']}", f"{b['questions']:,}", f"{b['traces']:,}",
         "unknown" if b["spent_usd"] is None else dollars(b["spent_usd"]),
         "–" if b["accuracy"]["mid"] is None else percent(b["accuracy"]["mid"]), points(b["gain"]),
         "–" if b["points_per_usd"] is None else f"{b['points_per_usd']:+.2f}")
        for b in r["rounds"]
    ]  # fmt: skip
    columns = ("questions", "traces in all", "cost", "right", "points (95%)", "points a dollar")
    return Table("rounds", columns, tuple(rows))


def points(gain: Mapping[str, Any]) -> str:
    """Returns a gain in percentage points with its interval; a dash where nothing was compared."""
    return "–" if gain["points"] is None else f"{gain['points']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})"


def what_if(r: Report) -> Table:
    """Returns what the run would have cost and brought with other settings."""
    rows = r["what_if"]["instead"]
    money = any(row["usd"] and Decimal(row["usd"]["high"]) for row in rows)
    columns = ("USD", "USD for 1,000 traces") if money else ("output tokens",)
    return Table("what if", ("accepted traces", *columns), tuple(_what_if_row(row, money=money) for row in rows))


def _what_if_row(row: Mapping[str, Any], *, money: bool) -> Row:
    if row["basis"] == "unknown":
        return f"{row['what']} (unknown: {row['because']})", *(("–",) * (3 if money else 2))
    cost = row["usd"] and _between(row["usd"], dollars) if money else _between(row["output_tokens"], "{:,}".format)
    of_one = row["usd_per_accepted_trace"]
    each = (dollars(str(1000 * Decimal(of_one))) if of_one else "–",) if money else ()
    return row["what"], _between(row["accepted"], "{:,}".format), cost or "unknown", *each


def _between(of: Mapping[str, Any], text: Callable[[Any], str]) -> str:
    return (
        text(of["mid"]) if of["low"] == of["high"] else f"{text(of['mid'])} ({text(of['low'])} to {text(of['high'])})"
    )


def _forecast_rows(usd: Mapping[str, str], accepted: Mapping[str, int]) -> Iterator[Row]:
    """Yields the rows of a forecast, which has no more than the digits of a sentence."""
    if any(map(Decimal, usd.values())):
        yield "money", *map(dollars, usd.values())
    yield "solved questions", *(f"{n:,}" for n in accepted.values())


def provenance(r: Report) -> Table:
    return Table("provenance", (), tuple(_provenance_rows(r["provenance"])), ("",))


def _provenance_rows(p: Mapping[str, Any]) -> Iterator[Row]:
    for t in p["teachers"]:
        if not (t["model"] or t["base_url"]):
            continue
        place = {"local": " on this machine", None: ""}.get(t["base_url"], f" at {t['base_url']}")
        yield "teacher", f"{t['model']}{place}"
        if served := [*(m for m in t["served_models"] if m != t["model"]), *t["served_by"]]:
            yield "served as, and by", ", ".join(served)
        said_by = {"user": ", as stated in teacher.terms", "nobody": ": read what the provider says"}
        yield "terms on training", f"{t['terms']}{said_by.get(t['terms_said_by'], '')}"
    if p["prompt"]["sha256"]:
        yield "prompt", f"{p['prompt']['name']}, {p['prompt']['sha256']}"
    for name, words in (("sources", "sources of the questions"), ("licences", "licences of the questions")):
        if found := p[name]:
            yield words, "; ".join(f"{key or 'not stated'}: {n:,}" for key, n in found.items())


def spaced(name: str) -> str:
    """Returns a name with spaces in place of underscores."""
    return name.replace("_", " ")
