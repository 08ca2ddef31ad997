"""The report: a pure fold over a run's figures in the store. Delete it and it comes back the same, byte for byte."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from harvest.core.config import teachers_of
from harvest.core.money import pusd, usd
from harvest.report.evaluation import (
    against_teacher,
    evaluation_entry,
    gains,
    markdown_lines,
    newest,
    plain,
    warnings,
)
from harvest.report.forecast import forecast
from harvest.report.loss_curve import sparkline, thinned
from harvest.store import REJECTED_SINCE

SCHEMA = 1
Figures = Mapping[str, Any]
WARNED_FINGERPRINTS = 10


def fold(figures: Figures, *, live: bool) -> dict[str, Any]:
    """report.json. `live`: some process is writing to the store now, so an open session is running, not broken."""
    run = figures["run"]
    money = _money(figures)
    trainings = [
        {**t, "curve": thinned(points)} for t, points in zip(figures["training"], figures["curves"], strict=True)
    ]
    evaluations = [evaluation_entry(e["settings"], e["answers"]) for e in figures["evaluation"] if e["answers"]]
    more = [*(t.get("cost_usd") for t in trainings), *(e["cost_usd"] for e in evaluations)]
    total = pusd(Decimal(money["spent_usd"])) + sum(pusd(Decimal(c)) for c in more if c is not None)
    questions, student = figures["questions"], _student(figures)
    gained, against = gains(figures["evaluation"]), against_teacher(figures["evaluation"])
    stale = _stale_selection(figures, live)
    return {
        "schema": SCHEMA,
        "run": _run(figures, live),
        "questions": {
            "total": sum(questions.values()),
            "asked": figures["asked"],
            "solved": questions.get("solved", 0),
            "given_up": questions.get("given_up", 0),
            "open": questions.get("open", 0),
            **({} if student is None else {"by_student": questions.get("student_solved", 0)}),
        },
        "attempts": {
            "sent": figures["sent"],
            "answered": figures["answered"],
            "in_doubt": figures["in_doubt"],
            "reused": figures["reused"],
            "failed": dict(figures["failed"]),
        },
        "tokens": dict(figures["tokens"]),
        "judging": _judging(figures["judging"]),
        "teachers": _teachers(figures),
        "student": student,
        "money": money,
        "traces": {
            "answers": figures["answers"],
            "accepted": figures["accepted"],
            "selected": _selected(figures),
            "rejected": dict(figures["rejected"]),
            "unselected": figures["selection"]["unselected"],
            "mean_reasoning_tokens": _rounded(figures["mean_reasoning_tokens"]),
            "mean_output_tokens": _rounded(figures["mean_output_tokens"]),
        },
        "selection": None
        if figures["selection"]["said"] is None
        else {"at": figures["selection"]["at"], **figures["selection"]["said"], "stale": stale},
        "pace": _pace(figures["sessions"]),
        "forecast": forecast(figures["per_question"], questions.get("open", 0)),
        "training": trainings,
        "evaluation": evaluations,
        "gain": newest(gained),
        "gains": gained,
        "against_teacher": newest(against),
        "against_teachers": against,
        "total_usd": usd(total),
        "total_leaves_out": _unknown_costs(trainings, evaluations, money),
        "warnings": [
            *_warnings(figures, run),
            *([stale] if stale else []),
            *(words for _, words in warnings(figures["evaluation"], figures["mean_output_tokens"])),
        ],
    }


def _run(figures: Figures, live: bool) -> dict[str, Any]:
    sessions = figures["sessions"]
    last = sessions[-1] if sessions else None
    status = (last["status"] or ("running" if live else "interrupted")) if last else "interrupted"
    ends = [s["ended_at"] for s in sessions if s["ended_at"]]
    return {
        "name": figures["run"]["name"],
        "imported": bool(json.loads(figures["run"]["config"]).get("imported")),
        "status": status,
        "started_at": sessions[0]["started_at"] if sessions else None,
        "ended_at": max(ends) if ends and status != "running" else None,
        "wall_s": round(sum(_seconds(s["started_at"], s["ended_at"]) for s in sessions if s["ended_at"]), 3),
    }


def _seconds(start: str, end: str) -> float:
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())


def _money(figures: Figures) -> dict[str, Any]:
    run, on = figures["run"], figures["spent_on"]
    cap, spent, doubt = run["cap"], run["spent"], run["in_doubt"]
    accepted, selected, unpriced = figures["accepted"], _selected(figures), figures["unpriced"]
    sources = sorted(figures["cost_sources"].items(), key=lambda s: (-s[1], s[0]))
    per_trace = None
    if accepted and not unpriced:  # else what is known is a part, and would pass for the whole
        per_trace = usd(-(-spent // accepted))
    return {
        "cap_usd": None if cap is None else usd(cap),
        "spent_usd": usd(spent),
        "in_doubt_usd": usd(doubt),
        "reserved_usd": usd(run["reserved"]),
        "remaining_usd": None if cap is None else usd(max(0, cap - spent - doubt - run["reserved"])),
        "unpriced_calls": unpriced,
        "price_source": sources[0][0] if sources else "none",
        "price_sources": dict(sources),
        "spent_on": {
            f"{part}_usd": usd(on.get(part, 0))
            for part in (
                "accepted",
                "rejected",
                "truncated",
                "failed",
                "judging",
                *(["student"] if "student" in on else []),
            )
        },
        "usd_per_accepted_trace": per_trace,
        "usd_per_selected_trace": usd(-(-spent // selected)) if selected and not unpriced else None,
    }


def _selected(figures: Figures) -> int:
    """By the newest pass; before the first, what is accepted."""
    by_pass = figures["selection"]["selected"]
    return int(figures["accepted"] if by_pass is None else by_pass)


def _teachers(figures: Figures) -> list[dict[str, Any]]:
    """What each teacher was asked and what came of it, in the order written. None: nobody knows."""
    of_each = {t["teacher"]: t for t in figures["teachers"]}
    settings = teachers_of(json.loads(figures["run"]["config"]))
    found = []
    for place, teacher in enumerate(settings):
        asked = of_each.get(place, dict.fromkeys(("sent", "answered", "accepted", "questions", "spent", "in_doubt"), 0))
        unpriced, accepted = asked.get("unpriced", 0), asked["accepted"]
        found.append(
            {
                "model": teacher["model"] or teacher["local"],
                "base_url": teacher["base_url"],
                "questions": asked["questions"],
                "sent": asked["sent"],
                "answered": asked["answered"],
                "accepted": accepted,
                "spent_usd": usd(asked["spent"]),
                "in_doubt_usd": usd(asked["in_doubt"]),
                "unpriced_calls": unpriced,
                "usd_per_accepted_trace": usd(-(-asked["spent"] // accepted)) if accepted and not unpriced else None,
            }
        )
    return found


def _spent_by(teacher: Mapping[str, Any]) -> str:
    """What one of several teachers cost, for people: no 0.00 where nobody knows."""
    if not (unknown := teacher["unpriced_calls"]):
        return str(teacher["spent_usd"])
    known = f"{teacher['spent_usd']}, " if Decimal(teacher["spent_usd"]) else ""
    return f"{known}unknown for {unknown:,} calls"


def _student(figures: Figures) -> dict[str, Any] | None:
    """What the student was asked before the teachers; None where there is none. Its tries are in no other count."""
    asked, settings = figures["student"], json.loads(figures["run"]["config"]).get("student")
    if not settings and not asked["sent"] and not asked["reused"]:
        return None
    kept = ("sent", "answered", "in_doubt", "reused", "failed", "tokens")
    return {
        "model": (settings["model"] or settings["local"]) if settings else None,
        "asked": asked["questions"],
        "solved": figures["questions"].get("student_solved", 0),
        "left_to_teachers": asked["left_to_teachers"],
        **{name: asked[name] for name in kept},
        "cost_usd": None if asked["unpriced"] else usd(asked["spent"]),
    }


def _judging(asked: Figures) -> dict[str, Any] | None:
    """What was asked of the judging model and what it said; None where there is none. Its money is in `spent_on`."""
    if not asked["sent"] and not asked["verdicts"]:
        return None
    kept = ("sent", "answered", "in_doubt", "reused", "failed", "tokens", "verdicts", "accepted")
    return {name: asked[name] for name in kept}


def _pace(sessions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ended = [s for s in sessions if s["peak_in_flight"]]
    return {
        "limited_by": ended[-1]["limited_by"] if ended else None,
        "peak_in_flight": max((s["peak_in_flight"] or 0 for s in ended), default=0),
    }


def _unknown_costs(
    trainings: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]], money: Mapping[str, Any]
) -> list[str]:
    left = []
    if money["unpriced_calls"]:
        left.append(f"{money['unpriced_calls']} calls of a teacher whose price nobody knows")
    if any(t.get("cost_usd") is None for t in trainings):
        left.append("training on hardware without a price")
    if any(e["cost_usd"] is None for e in evaluations):
        left.append("evaluation on hardware without a price")
    return left


def _warnings(figures: Figures, run: Mapping[str, Any]) -> list[str]:
    found = []
    teachers = teachers_of(json.loads(run["config"]))
    names = (("served_model", "model"), ("served_by", "provider"), ("system_fingerprint", "fingerprint"))
    for place in sorted({s["teacher"] for s in figures["served_of"]}):
        served = [s for s in figures["served_of"] if s["teacher"] == place]
        whose = f" in the name of {teachers[place]['model']}" if len(teachers) > 1 and place < len(teachers) else ""
        for name, words in names:
            values = sorted({s[name] for s in served if s[name] is not None})
            if len(values) > 1:
                shown = ", ".join(repr(v[:60]) for v in values[:WARNED_FINGERPRINTS])
                found.append(f"more than one {words} answered{whose} within this run: {shown}")
    if run["cap"] is not None and run["spent"] + run["in_doubt"] > run["cap"]:
        over = usd(run["spent"] + run["in_doubt"] - run["cap"])
        found.append(f"the endpoint billed {over} USD beyond the cap: it charged more than had been reserved")
    if figures["tokens"]["calls_without_usage"]:
        found.append(f"{figures['tokens']['calls_without_usage']} replies came without usage: their cost is not known")
    return found


def _stale_selection(figures: Figures, live: bool) -> str | None:
    """What has come or gone since the newest selection; None while a run goes on, whose end makes a new one."""
    of = figures["selection"]
    gone = of["unselected"].get(REJECTED_SINCE, 0)
    if live or not (of["newer"] or gone):
        return None
    name = figures["run"]["name"]
    came = f"accepted after the newest selection: {of['newer']:,}" if of["newer"] else ""
    went = f"selected by it and rejected since: {gone:,}" if gone else ""
    return f"{'; '.join(filter(None, (came, went)))}. `python -m harvest select {name}` selects anew"


def _rounded(value: float | None, places: int = 2) -> float | None:
    return None if value is None else round(value, places)


def markdown(report: Mapping[str, Any]) -> str:
    """report.md: the same figures for people."""
    return "\n".join(_lines(report)) + "\n"


def _lines(r: Mapping[str, Any]) -> Iterator[str]:
    run, money, traces, questions, attempts = r["run"], r["money"], r["traces"], r["questions"], r["attempts"]
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
    yield "| questions | |"
    yield "| --- | ---: |"
    for key in ("total", "asked", "solved", "given_up", "open"):
        yield f"| {key.replace('_', ' ')} | {questions[key]:,} |"
    if r["student"]:
        yield f"| done by the student | {questions['by_student']:,} |"
    yield ""
    yield "| requests | |"
    yield "| --- | ---: |"
    yield f"| sent | {attempts['sent']:,} |"
    yield f"| answered whole | {attempts['answered']:,} |"
    yield f"| reused from the store | {attempts['reused']:,} |"
    yield f"| in doubt | {attempts['in_doubt']:,} |"
    for kind, n in attempts["failed"].items():
        yield f"| failed: {kind} | {n:,} |"
    for reason, n in traces["rejected"].items():
        yield f"| rejected: {reason.replace('_', ' ')} | {n:,} |"
    yield f"| accepted | {traces['accepted']:,} |"
    if r["selection"]:
        if _from_all(r):
            all_of = traces["selected"] + sum(traces["unselected"].values())
            yield f"| to select from: all that ended by themselves | {all_of:,} |"
        for reason, n in traces["unselected"].items():
            yield f"| not selected: {reason.replace('_', ' ')} | {n:,} |"
        yield f"| **selected** | **{traces['selected']:,}** |"
    yield ""
    yield "| money (USD) | |"
    yield "| --- | ---: |"
    yield f"| spent | {money['spent_usd']} |"
    yield f"| in doubt, at its worst case | {money['in_doubt_usd']} |"
    yield f"| cap | {money['cap_usd'] or 'none'} |"
    for part, amount in money["spent_on"].items():
        yield f"| spent on {part.removesuffix('_usd')} | {amount} |"
    yield f"| **an accepted trace** | {money['usd_per_accepted_trace'] or 'unknown'} |"
    if r["selection"]:
        yield f"| a selected trace | {money['usd_per_selected_trace'] or 'unknown'} |"
    yield f"| price from | {money['price_source']} |"
    if money["unpriced_calls"]:
        yield f"| calls without a known price | {money['unpriced_calls']:,} |"
    yield ""
    t = r["tokens"]
    tokens_in, tokens_out = f"{t['input']:,} in ({t['cached_input']:,} cached)", f"{t['output']:,} out"
    yield f"Tokens: {tokens_in}, {tokens_out} ({t['reasoning']:,} reasoning)."
    yield from _by_teacher(r)
    if j := r["judging"]:
        said = ", ".join(f"{n:,} {outcome.replace('_', ' ')}" for outcome, n in j["verdicts"].items())
        yield (
            f"Second opinions: {said or 'none'}; {j['accepted']:,} traces stand by them alone."
            f" {j['sent']:,} requests, {j['tokens']['input']:,} tokens in, {j['tokens']['output']:,} out."
        )
    if r["pace"]["limited_by"]:
        yield f"Pace: limited by {r['pace']['limited_by']}, at most {r['pace']['peak_in_flight']} in flight."
    yield from _after(r)


def _from_all(r: Mapping[str, Any]) -> bool:
    """Whether the newest selection chose from rejected answers too."""
    return bool(r["selection"]["settings"]["pool"] == "all")


def _by_teacher(r: Mapping[str, Any]) -> Iterator[str]:
    """Who of several brought what, and what the student spared them."""
    if len(r["teachers"]) > 1:
        yield ""
        yield "| teacher | questions | sent | answered | accepted | USD | USD an accepted trace |"
        yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        for t in r["teachers"]:
            yield (
                f"| {plain(t['model'] or 'unknown')} | {t['questions']:,} | {t['sent']:,} | {t['answered']:,}"
                f" | {t['accepted']:,} | {_spent_by(t)} | {t['usd_per_accepted_trace'] or 'unknown'} |"
            )
        yield ""
    if s := r["student"]:
        cost = "at a cost that nobody told" if s["cost_usd"] is None else f"for {s['cost_usd']} USD"
        yield (
            f"The student ({plain(s['model'] or 'taken out since')}) was asked {s['asked']:,} questions first, {cost}:"
            f" it could do {s['solved']:,} of them, and {s['left_to_teachers']:,} went to a teacher."
        )


def _after(r: Mapping[str, Any]) -> Iterator[str]:
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
    yield from markdown_lines(r)
    yield ""
    left = f" Not in it: {'; '.join(r['total_leaves_out'])}." if r["total_leaves_out"] else ""
    yield f"Total: {r['total_usd']} USD.{left}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
