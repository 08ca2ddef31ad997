"""Makes the report of a run, with the content of report.json, from the figures in the run's store. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from typing import Any

from harvest.core.config import called
from harvest.core.money import pusd, usd
from harvest.core.nouns import ClaimKind
from harvest.core.teachers import Teacher
from harvest.report.distributions import forecast_check, histogram, over_time
from harvest.report.evaluation_warnings import warnings_of
from harvest.report.evaluations import against_teacher, evaluation_entry, gains, newest, rounded
from harvest.report.headline import headline
from harvest.report.loss_curve import thinned
from harvest.report.prediction.forecast import forecast
from harvest.report.prediction.what_if import cut_answers, tariffs_of, what_if
from harvest.report.provenance import provenance
from harvest.store import (
    REJECTED_SINCE,
    AboutFigures,
    ClaimFigures,
    Money,
    ReplicaFigures,
    RunFigures,
    Session,
    TeacherFigures,
    Tries,
)

SCHEMA = 1
SPENT_ON = ("accepted", "rejected", "truncated", "failed", "judging")
SHOWN_NAMES = 10
"""A warning about more than one model, provider or fingerprint lists at most this many names."""


def run_report(figures: RunFigures, *, live: bool) -> dict[str, Any]:
    """Returns the report of a run, with the content of report.json.

    `figures` are what `Store.figures` returns. `live` says whether some process is writing to the store now; if so, a
    session without an end counts as running, else as interrupted.
    """
    money = _money(figures)
    student = _student(figures)
    stale = _stale_selection(figures, live)
    measured = _trainings_and_evaluations(figures)
    spent = [money["spent_usd"], *(e.get("cost_usd") for e in (*measured["training"], *measured["evaluation"]))]
    found = {
        "schema": SCHEMA,
        "headline": "",
        "run": _run(figures, live),
        "questions": _questions(figures) | ({"by_student": student["solved"]} if student else {}),
        "public": _public(figures),
        "attempts": _attempts(figures.tries),
        "tokens": figures.tries.tokens,
        "judging": _judging(figures.judging),
        "rewriting": _rewriting(figures),
        "teachers": _teachers(figures),
        "student": student,
        "money": money,
        "traces": _traces(figures),
        "selection": _selection(figures, stale),
        "pace": _pace(figures.sessions),
        "quote": _quote(figures),
        "accuracy_quotes": [_accuracy_quote(q, figures.evaluation) for q in figures.accuracy_quotes],
        "rounds": figures.rounds,
        "forecast": forecast(figures.ended, figures.questions.get("open", 0)),
        "what_if": _what_if(figures),
        "forecast_check": forecast_check(figures.ended, figures.questions.get("open", 0)),
        "over_time": over_time(figures.moments, figures.sessions),
        "lengths": histogram(figures.lengths),
        "provenance": provenance(figures),
        **measured,
        "total_usd": usd(sum(pusd(Decimal(amount)) for amount in spent if amount is not None)),
        "total_leaves_out": _unknown_costs(measured, money),
        "warnings": [
            *_warnings(figures),
            *([stale] if stale else []),
            *(words for _, words in warnings_of(figures.evaluation, figures.mean_output_tokens)),
        ],
    }
    return found | {"headline": headline(found)}


def _run(figures: RunFigures, live: bool) -> dict[str, Any]:
    sessions = figures.sessions
    unended = "running" if live and sessions else "interrupted"
    status = (sessions[-1].status if sessions else None) or unended
    ends = [s.ended_at for s in sessions if s.ended_at]
    return {
        "name": figures.run.name,
        "imported": figures.run.imported,
        "from_public": figures.run.from_public,
        "status": status,
        "stopped_by": sessions[-1].stopped_by if sessions else None,
        "started_at": sessions[0].started_at if sessions else None,
        "ended_at": max(ends) if ends and status != "running" else None,
        "wall_s": round(sum(_seconds(s.started_at, s.ended_at) for s in sessions if s.ended_at), 3),
    }


def _seconds(start: str, end: str) -> float:
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def _questions(figures: RunFigures) -> dict[str, int]:
    by_status = {status: figures.questions.get(status, 0) for status in ("solved", "given_up", "open")}
    return {"total": sum(figures.questions.values()), "asked": figures.asked, **by_status}


def _public(figures: RunFigures) -> dict[str, Any] | None:
    """Returns what came of answers from public sets, for which nobody was asked or paid; None if there are none."""
    if not figures.public:
        return None
    return {
        "questions": sum(one.questions for one in figures.public),
        "answers": sum(one.answers for one in figures.public),
        "accepted": sum(one.accepted for one in figures.public),
        "sets": [asdict(one) for one in figures.public],
    }


def _money(figures: RunFigures) -> dict[str, Any]:
    money, on, unpriced = figures.money, figures.spent_on, figures.unpriced
    is_public = figures.run.from_public  # what its answers cost is not known, and nobody paid it here
    cap, spent, doubt = money.cap, money.spent, money.in_doubt
    sources = sorted(figures.tries.cost_sources.items(), key=lambda s: (-s[1], s[0]))
    parts = (*SPENT_ON, *(part for part in ("student", "rewriting") if part in on))
    return {
        "cap_usd": None if cap is None else usd(cap),
        "spent_usd": usd(spent),
        "in_doubt_usd": usd(doubt),
        "reserved_usd": usd(money.reserved),
        "remaining_usd": None if cap is None else usd(max(0, cap - spent - doubt - money.reserved - money.beside)),
        "beside_usd": usd(money.beside) if money.beside else None,
        "unpriced_calls": unpriced,
        "price_source": sources[0][0] if sources else "none",
        "price_sources": dict(sources),
        "settled_usd": {by: usd(cost) for by, cost in sorted(figures.settled.items())},
        "price_list": figures.run.settings.get("price_list"),
        "spent_on": {f"{part}_usd": usd(on.get(part, 0)) for part in parts},
        "usd_per_accepted_trace": None if is_public else _usd_each(spent, figures.accepted, unpriced),
        "usd_per_selected_trace": None if is_public else _usd_each(spent, _selected(figures), unpriced),
    }


def _usd_each(spent_pusd: int, traces: int, unpriced: int) -> str | None:
    """Returns the cost of one trace in USD, rounded up.

    None is returned when there is no trace, and when some calls have no known price, since the known part is not the
    whole.
    """
    return usd(-(-spent_pusd // traces)) if traces and not unpriced else None


def _traces(figures: RunFigures) -> dict[str, Any]:
    return {
        "answers": figures.answers,
        "continued": figures.continued,
        "accepted": figures.accepted,
        "selected": _selected(figures),
        "rejected": figures.rejected,
        "unselected": figures.selection.unselected,
        "mean_reasoning_tokens": rounded(figures.mean_reasoning_tokens, 2),
        "mean_output_tokens": rounded(figures.mean_output_tokens, 2),
    }


def _selected(figures: RunFigures) -> int:
    """Returns how many traces the newest selection keeps, or how many are accepted when there was no selection yet."""
    selected = figures.selection.selected
    return figures.accepted if selected is None else selected


def _selection(figures: RunFigures, stale: str | None) -> dict[str, Any] | None:
    """Returns what the newest selection said, and when. None is returned when there was no selection yet."""
    selection = figures.selection
    return None if selection.said is None else {"at": selection.at, **selection.said, "stale": stale}


def _teachers(figures: RunFigures) -> list[dict[str, Any]]:
    """Returns an entry for each teacher, in the order of RUN.toml: what it was asked and what came of it."""
    if not (figures.run.has_teacher or figures.run.imported):
        return []
    asked_of = {t.teacher: t for t in figures.teachers}
    found = []
    for place, teacher in enumerate(figures.run.config.teachers or [figures.run.config.teacher]):
        asked = asked_of.get(place, TeacherFigures(place))
        found.append(
            {
                "model": teacher.model or teacher.local,
                "base_url": teacher.base_url,
                **{name: getattr(asked, name) for name in ("questions", "sent", "answered", "accepted")},
                "spent_usd": usd(asked.spent),
                "in_doubt_usd": usd(asked.in_doubt),
                "unpriced_calls": asked.unpriced,
                "usd_per_accepted_trace": _usd_each(asked.spent, asked.accepted, asked.unpriced),
                "replicas": _replicas(figures, place, teacher),
            }
        )
    return found


def _replicas(figures: RunFigures, place: int, teacher: Teacher) -> list[dict[str, Any]]:
    """Returns an entry for each replica of a teacher, with what it answered in the time of the run. Empty if only the
    teacher's base_url was asked."""
    asked_of = {r.replica or teacher.base_url: r for r in figures.replicas if r.teacher == place}
    if not asked_of.keys() - {teacher.base_url}:
        return []
    wall_s, found = _run(figures, live=False)["wall_s"], []
    for address in dict.fromkeys((*teacher.addresses, *asked_of)):
        asked = asked_of.get(address, ReplicaFigures(place, address))
        counts = {name: getattr(asked, name) for name in ("sent", "answered", "in_doubt", "output_tokens", "failed")}
        tokens_per_s = round(asked.output_tokens / wall_s, 1) if wall_s else None
        found.append({"base_url": address, **counts, "output_tokens_per_s": tokens_per_s})
    return found


def _student(figures: RunFigures) -> dict[str, Any] | None:
    """Returns what the student was asked before the teachers, or None when there is no student and none was asked.

    No other part of the report counts the student's tries.
    """
    asked, student = figures.student, figures.run.config.student
    if student is None and not asked.tries.sent and not asked.tries.reused:
        return None
    return {
        "model": (student.model or student.local) if student else None,
        "asked": asked.questions,
        "solved": figures.questions.get("student_solved", 0),
        "left_to_teachers": asked.left_to_teachers,
        **_attempts(asked.tries),
        "tokens": asked.tries.tokens,
        "cost_usd": None if asked.unpriced else usd(asked.spent),
    }


def _attempts(tries: Tries) -> dict[str, Any]:
    return {name: getattr(tries, name) for name in ("sent", "answered", "in_doubt", "reused", "failed")}


def _judging(asked: AboutFigures) -> dict[str, Any] | None:
    """Returns what the judging model was asked and what it said, or None when it was not asked.

    What it cost is in the report's `spent_on`.
    """
    if not asked.tries.sent and not asked.verdicts:
        return None
    return {
        **_attempts(asked.tries),
        "tokens": asked.tries.tokens,
        "verdicts": asked.verdicts,
        "accepted": asked.accepted,
    }


def _kinds(refused: Mapping[str, int]) -> dict[str, int]:
    """Returns how many rewritings were refused for each reason, the most frequent first. Other numbers are one
    reason, whichever they are."""
    kinds = Counter[str]()
    for why, n in refused.items():
        kinds["it has another number" if " in place of " in why else why] += n
    return dict(kinds.most_common())


def _rewriting(figures: RunFigures) -> dict[str, Any] | None:
    """Returns what the rules and the rewriting model did: how many answers each rewrote, how many rewritings were
    refused and why, and what a kept one by the model cost. None if nothing was rewritten."""
    asked, said = figures.rewriting, (figures.selection.said or {}).get("rewritten") or {}
    if not (asked.tries.sent or asked.verdicts or said.get("kept") or said.get("refused_by_check")):
        return None
    kept, spent = asked.verdicts.get("right", 0), figures.spent_on.get("rewriting", 0)
    return {
        "by_rules": said.get("kept", 0),
        "by_rules_refused": said.get("refused_by_check", 0),
        "by_model": kept,
        "by_model_refused": _kinds(asked.refused),
        "accepted": asked.accepted,
        **_attempts(asked.tries),
        "tokens": asked.tries.tokens,
        "cost_usd": usd(spent),
        "usd_per_rewriting": usd(-(-spent // kept)) if kept else None,
    }


def _pace(sessions: Sequence[Session]) -> dict[str, Any]:
    ended = [s for s in sessions if s.peak_in_flight]
    peak = max((s.peak_in_flight or 0 for s in ended), default=0)
    return {"limited_by": ended[-1].limited_by if ended else None, "peak_in_flight": peak}


def _trainings_and_evaluations(figures: RunFigures) -> dict[str, Any]:
    """Returns the parts of the report that `finetune` added to the run."""
    evaluations = figures.evaluation
    gained, against = gains(evaluations), against_teacher(evaluations)
    return {
        "training": [
            {**t, "curve": thinned(points)} for t, points in zip(figures.training, figures.curves, strict=True)
        ],
        "evaluation": [evaluation_entry(e["settings"], e["answers"]) for e in evaluations if e["answers"]],
        "gain": newest(gained),
        "gains": gained,
        "against_teacher": newest(against),
        "against_teachers": against,
    }


def _unknown_costs(measured: Mapping[str, Any], money: Mapping[str, Any]) -> list[str]:
    """Returns in words the costs that nobody knows and that the total therefore leaves out."""
    unknown = []
    if money["unpriced_calls"]:
        unknown.append(f"{money['unpriced_calls']} calls of a teacher whose price nobody knows")
    if any(t.get("cost_usd") is None for t in measured["training"]):
        unknown.append("training on hardware without a price")
    if any(e["cost_usd"] is None for e in measured["evaluation"]):
        unknown.append("evaluation on hardware without a price")
    return unknown


def _warnings(figures: RunFigures) -> list[str]:
    found = []
    teachers, money = figures.run.config.teachers, figures.money
    names = (("served_model", "model"), ("served_by", "provider"), ("system_fingerprint", "fingerprint"))
    for place in sorted({s.teacher for s in figures.served if not figures.run.from_public}):
        served = [s for s in figures.served if s.teacher == place]
        whose = f" in the name of {teachers[place].model}" if len(teachers) > 1 and place < len(teachers) else ""
        for name, words in names:
            values = sorted({value for s in served if (value := getattr(s, name)) is not None})
            if len(values) > 1:
                shown = ", ".join(repr(v[:60]) for v in values[:SHOWN_NAMES])
                found.append(f"more than one {words} answered{whose} within this run: {shown}")
    if figures.overbilled and money.cap is not None:
        found.append(f"the endpoint billed {usd(figures.overbilled)} USD more than had been reserved")
    if money.cap is not None and money.spent + money.in_doubt > money.cap:
        found.append(_over_the_cap(money, money.cap, figures.run.name))
    found += [_claim_warning(figures, claim) for claim in figures.claims]
    disbelieved = sum(c.replies for c in figures.claims if c.asked == "teacher" and c.kind == "usage")
    without = figures.tries.tokens["calls_without_usage"] - disbelieved
    if without > 0 and not figures.run.from_public:
        found.append(f"{without} replies came without usage: their cost is not known")
    return found


def _over_the_cap(money: Money, cap: int, run: str) -> str:
    """Returns in words how far the run is over its cap, and what is known of it. Money in doubt is no bill."""
    if not money.in_doubt:
        return f"spent is {usd(money.spent - cap)} USD over the cap of {usd(cap)}"
    over, doubt = usd(money.spent + money.in_doubt - cap), usd(money.in_doubt)
    return (
        f"spent and in doubt are together {over} USD over the cap of {usd(cap)}. {doubt} of it is in doubt, which"
        f" may not have been billed: `python -m harvest settle {run}`"
    )


CLAIMS: dict[ClaimKind, str] = {
    "usage": "has a usage that cannot be true, so that the cost is not known",
    "limit": "is longer than max_tokens can make it, so that its worst case bounds nothing",
    "cost": "is said to cost nothing at a known price: the counts are booked at that price",
    "tier": "came in another service tier",
    "part": "has a usage with a part that no price is known of, which is not booked",
}


def _claim_warning(figures: RunFigures, claim: ClaimFigures) -> str:
    if claim.asked in ("judge", "rewriter"):
        who = "the judging model" if claim.asked == "judge" else "the rewriting model"
    elif figures.run.has_teacher:
        who = called(figures.run.config, claim.teacher)
    else:
        who = "the teacher"
    return f"{claim.replies:,} of the replies of {who}: each {CLAIMS[claim.kind]} (one said: {claim.words})"


def _quote(figures: RunFigures) -> dict[str, Any] | None:
    """Returns what `harvest estimate` quoted last for the whole run, and, once no question is open, what came."""
    if (quote := figures.quote) is None:
        return None
    done = not figures.questions.get("open", 0)
    came = {"usd": usd(figures.money.spent + figures.money.in_doubt), "accepted": figures.accepted}
    return {
        "questions": quote["pilot"]["questions"],
        **{name: quote[name] and {**quote[name], "came": came[name] if done else None} for name in came},
    }


def _accuracy_quote(quote: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns a quoted accuracy, and what came: the newest evaluation, on the same questions, of a student that was
    trained from the weights that the quote is for."""
    came = None
    for e in evaluations:
        s = e["settings"]
        if s.get("questions") == quote["questions"] and quote["weights"] in (s.get("came_from") or ()):
            came = evaluation_entry(s, e["answers"])["accuracy"]
    low, high = quote["accuracy"]["low"], quote["accuracy"]["high"]
    return {**quote, "came": came, "held": None if came is None else low <= came <= high}


def _what_if(figures: RunFigures) -> dict[str, Any]:
    """Returns what went into answers that were cut, and what other settings would have cost and brought."""
    run = figures.run
    if not figures.sessions or not run.has_teacher:
        return {"cut": None, "instead": []}
    began = datetime.fromisoformat(figures.sessions[0].started_at)
    return {
        "cut": cut_answers(figures.bought),
        "instead": what_if(run.config, figures.bought, tariffs_of(run.config), began),
    }


def _stale_selection(figures: RunFigures, live: bool) -> str | None:
    """Returns in words what has changed since the newest selection, or None when nothing has.

    None is also returned while the run is going on, because a new selection is made at its end.
    """
    selection = figures.selection
    gone = selection.unselected.get(REJECTED_SINCE, 0)
    if live or not (selection.newer or gone):
        return None
    came = f"accepted after the newest selection: {selection.newer:,}" if selection.newer else ""
    went = f"selected by it and rejected since: {gone:,}" if gone else ""
    name = figures.run.name
    return f"{'; '.join(filter(None, (came, went)))}. `python -m harvest select {name}` selects anew"
