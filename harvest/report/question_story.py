"""One question, attempt by attempt and try by try: what was asked, what came, what it cost, what each check says and
said before. In words for people, or as plain data.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from harvest.answers.candidate import candidate_of
from harvest.checks import CHECKS
from harvest.core.config import teachers_of
from harvest.core.money import usd
from harvest.core.nouns import FILTER_REASONS, STUDENT, Reply
from harvest.core.printable import printable
from harvest.endpoint import prompt as prompts
from harvest.filters.required import required_by
from harvest.filters.rewrite import Rewritten, rewritten
from harvest.judging.ruling import JUDGE, JUDGE_VERSION

HEAD_CHARS, TAIL_CHARS = 700, 500
"""What is shown of a longer text: a chain's end is where it says what it found."""
NAME_WIDTH = len("asked a judge") + 1

STATUS = {
    "solved": "solved",
    "student_solved": "done by the student: no teacher is asked",
    "given_up": "given up: nothing more is asked",
    "open": "open: the next `harvest collect` asks it",
}
OUTCOMES = {
    "right": "right",
    "wrong": "wrong",
    "no_answer": "no answer to accept",
    "timeout": "not judged: the check ran out of time (`harvest verify --again` tries again)",
    "error": "not judged: the check could not",
}
REASONS = {
    "wrong": "its check found it wrong",
    "no_answer": "it states no answer",
    "truncated": "it was cut at its token limit, so there is no answer worth a check",
    "repetition": "it had run into a loop and was broken off, so there is no answer worth a check",
    "timeout": "its check ran out of time, which says nothing about the answer",
    "format": "it does not fit the training format, which `checks.require` asks for",
    "refusal": "it refuses, and `checks.require` asks for an answer",
    "language": "it is in another language, which `checks.require` rules out",
    "repeats": "it repeats itself, which `checks.require` rules out",
    "meta": "it talks of what only the teacher could see, which `checks.require` rules out",
    "leaked_gold": "the gold answer stood in what was asked, which `checks.require` rules out",
    "no_chain": "it has no chain, which `checks.require` asks for",
    "error": "its check could not judge it, which says nothing about the answer",
    "no_gold": "there is no gold answer to judge it by",
    "no_majority": "there is no gold answer, and too few of the answers agree",
    "row": "the endpoint refused this question, or its content filter stopped the answer",
    "cut": "the answer broke off",
    "late": "no whole answer came before the deadline",
    "hollow": "the endpoint sent an empty answer",
    "too_large": "the answer was larger than allowed",
    "throttled": "the endpoint refused: asked too fast",
    "passing": "the endpoint was not able to answer",
    "run": "the endpoint refuses this run",
}
"""Why an attempt is rejected, or failed."""
UNSELECTED = {
    "exact_duplicate": "the same answer to the same question",
    "near_duplicate": "nearly the same answer",
    "near_duplicate_question": "another question asks the same",
    "contaminated": "its question is asked in an evaluation",
    "difficulty": "its question is not of the difficulty that is wanted",
    "answers_per_question": "its question has answers enough",
    "not_chosen": "others were drawn",
    "rejected_since": "it was selected, and a later verdict rejects it",
}
"""Why an accepted attempt is not selected; all else are filters."""


def story_json(story: dict[str, Any]) -> dict[str, Any]:
    """The story as plain data."""
    question = story["question"]
    return {
        "question_id": question.id,
        "status": story["status"],
        "question": question.question,
        "gold": question.answer,
        "check": question.check,
        "check_version": _version_today(question.check),
        "cost_usd": usd(sum(_costs(story["attempts"]))),
        "attempts": [
            {
                "asked_of": who_of(story, a["teacher"]),
                "sample": a["sample"],
                "max_tokens": a["max_tokens"] or None,
                "state": a["state"],
                "accepted": None if a["accepted"] is None else bool(a["accepted"]),
                "reason": a["reason"],
                "reused": bool(a["reused"]),
                "tries": [_try_json(t) for t in a["tries"]],
                "judging": [_try_json(t) for t in a["judging"]],
                "verdicts": [
                    {k: v[k] for k in ("check_name", "version", "outcome", "detail", "share", "at")}
                    for v in a["verdicts"]
                ],
                "selection": a["selection"],
                "rewritten": None
                if (trained := as_trained(story, a)) is None
                else {"reasoning": trained.reasoning, "answer": trained.answer},
                "reasoning": a["reply"].reasoning if a["reply"] else None,
                "answer": a["reply"].answer if a["reply"] else None,
                "finish_reason": a["reply"].finish_reason if a["reply"] else None,
            }
            for a in story["attempts"]
        ],
    }


def _try_json(t: dict[str, Any]) -> dict[str, Any]:
    kept = (
        "state",
        "kind",
        "message",
        "sent_at",
        "ended_at",
        "input_tokens",
        "output_tokens",
        "served_model",
        "response_id",
    )
    money = {
        f"{name}_usd": None if t[column] is None else usd(t[column])
        for name, column in (("cost", "cost"), ("in_doubt", "doubt"), ("reserved", "reserved"))
    }
    partial = t.get("partial")
    came = {} if partial is None else {"partial": {"reasoning": partial.reasoning, "answer": partial.answer}}
    return {k: t[k] for k in kept} | money | came


def tell(story: dict[str, Any], *, full: bool = False) -> None:
    """On stdout, for people. A model's text is shown as text, whatever is in it; `full`: all of it."""
    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(story, full):
        console.print(line)


def _lines(story: dict[str, Any], full: bool) -> Iterator[Text]:
    question, attempts = story["question"], story["attempts"]
    yield Text(f"{_safe(question.id)}: {STATUS.get(story['status'], story['status'])}", "bold")
    yield from _text("question", question.question, full)
    yield from _text("gold", question.answer or "none", full)
    version = _version_today(question.check)
    today = f", today in version {version}" if version else ", which is not there today"
    yield _row("check", f"{_safe(question.check)}{today}")
    yield _row("money", _money(attempts))
    for n, attempt in enumerate(attempts, 1):
        yield Text("")
        yield _headline(n, len(attempts), attempt, _of(story, attempt["teacher"]))
        for k, t in enumerate(attempt["tries"], 1):
            yield _row(f"try {k}" if len(attempt["tries"]) > 1 else "bought", _of_try(t, attempt["max_tokens"]))
            if (partial := t["partial"]) is not None and (partial.reasoning or partial.answer):
                chain, answer = len(partial.reasoning or ""), len(partial.answer)
                yield _row("kept of it", f"{chain:,} characters of chain, {answer:,} of answer (--json has them)")
        for t in attempt["judging"]:
            yield _row("asked a judge", _of_try(t, t["max_tokens"]))
        yield from _verdicts(attempt["verdicts"], required_by(story.get("settings") or {}).versions)
        if (said := attempt["selection"]) is not None:
            yield _row("selected" if said["reason"] is None else "not selected", _selection(said))
        yield from _reply(attempt["reply"], full)
        if (trained := as_trained(story, attempt)) is not None:
            if trained.reasoning:
                yield from _text("trained chain", trained.reasoning, full)
            yield from _text("trained", trained.answer, full)


def as_trained(story: Mapping[str, Any], attempt: Mapping[str, Any]) -> Rewritten | None:
    """The text that rules made of an answer, where the newest selection keeps it in place of what came."""
    if attempt["selection"] is None or not attempt["selection"]["rewritten"] or attempt["reply"] is None:
        return None
    settings = story["settings"]
    prompt = prompts.parse(settings["prompt_text"], "prompt", "the run's prompt")
    of = candidate_of(
        attempt["id"],
        attempt["sample"],
        story["question"],
        attempt["reply"],
        prompt,
        imported=bool(settings.get("imported")),
    )
    return rewritten(of)


def who_of(story: Mapping[str, Any], place: int) -> str | None:
    """The model's name of who was asked; None where the run's settings do not have it."""
    settings = story.get("settings") or {}
    if place == STUDENT:
        who = settings.get("student") or {}
    else:
        who = dict(enumerate(teachers_of(settings))).get(place, {}) if settings else {}
    name = who.get("model") or who.get("local")
    return None if name is None else str(name)


def _of(story: Mapping[str, Any], place: int) -> str:
    name = _safe(who_of(story, place) or "unknown")
    if place == STUDENT:
        return f", by the student {name}"
    return f", by {name}" if len((story.get("settings") or {}).get("teachers") or ()) > 1 else ""


def _headline(n: int, of: int, a: Mapping[str, Any], who: str = "") -> Text:
    reused = " (from the store: another attempt had bought it)" if a["reused"] else ""
    reason = str(a["reason"])
    if a["state"] == "failed":
        words, style = f"no answer: {_why(reason)}", "red"
    elif a["accepted"] is None:
        words, style = ("answered, not judged yet" if a["state"] == "answered" else "no answer yet"), ""
    elif a["accepted"]:
        words, style = ("right" if a["teacher"] == STUDENT else "accepted"), "green"
    else:
        words, style = f"rejected: {_why(reason)}", "red"
    return Text(f"Attempt {n} of {of}{who}: {words}{reused}", style)


def _selection(said: Mapping[str, Any]) -> str:
    """What the newest pass of selection said of an attempt."""
    again = ", rewritten" if said["rewritten"] else ""
    if said["reason"] is None:
        return f"it is trained on{again}"
    words = [UNSELECTED.get(said["reason"], f"the filter {_safe(said['reason']).replace('_', ' ')} refuses it")]
    if said["instead_question"] is not None:
        words.append(f"sample {said['instead_sample']} of {_safe(said['instead_question'])} has its place")
    if said["detail"]:
        words.append(_safe(said["detail"]))
    return ": ".join(words)


def _why(reason: str) -> str:
    name = _safe(reason).replace("_", " ")
    return f"{name} ({REASONS[reason]})" if reason in REASONS else name


def _money(attempts: Sequence[Mapping[str, Any]]) -> str:
    tries = [t for a in attempts for t in (*a["tries"], *a["judging"])]
    if not tries:
        return "none: not asked yet"
    words = [f"{usd(sum(_costs(attempts)))} USD for {len(tries)} {'try' if len(tries) == 1 else 'tries'}"]
    if doubt := sum(t["doubt"] or 0 for t in tries):
        words.append(f"{usd(doubt)} USD in doubt")
    if unknown := sum(t["state"] == "answered" and t["cost"] is None and t["doubt"] is None for t in tries):
        words.append(f"{unknown} at a cost that nobody told")
    return ", ".join(words)


def _costs(attempts: Sequence[Mapping[str, Any]]) -> list[int]:
    return [t["cost"] or 0 for a in attempts for t in (*a["tries"], *a["judging"])]


def _of_try(t: Mapping[str, Any], max_tokens: int) -> str:
    when = f"{t['sent_at']}, " if t["sent_at"] else ""
    took = "" if not max_tokens else _took(t["sent_at"], t["ended_at"])
    words = [when + {"sent": "still out", "in_doubt": "in doubt"}.get(t["state"], t["state"]) + took]
    if t["kind"]:
        words.append(f"{t['kind']}: {_safe(t['message'] or '')}")
    elif t["message"]:
        words.append(_safe(t["message"]))
    if t["output_tokens"] is not None:
        thought = f" ({t['reasoning_tokens']:,} of them reasoning)" if t["reasoning_tokens"] else ""
        limit = f" of at most {max_tokens:,}" if max_tokens else ""
        words.append(f"{t['output_tokens']:,} tokens{limit}{thought}")
    if t["finish_reason"]:
        words.append(f"ended by {_safe(t['finish_reason'])!r}")
    if t["served_model"]:
        words.append(f"from {_safe(t['served_model'])}" + (f" at {_safe(t['served_by'])}" if t["served_by"] else ""))
    if not max_tokens:
        words.append("paid for elsewhere")
    words.append(_cost_of(t))
    return ", ".join(w for w in words if w)


def _cost_of(t: Mapping[str, Any]) -> str:
    if t["state"] == "sent":
        return f"{usd(t['reserved'])} USD reserved for its worst case"
    if t["doubt"] is not None:
        return f"{usd(t['doubt'])} USD in doubt, its worst case"
    if t["cost"] is not None:
        return f"{usd(t['cost'])} USD"
    return "cost not known" if t["state"] == "answered" else "nothing billed"


def _took(sent_at: str, ended_at: str | None) -> str:
    try:
        seconds = (datetime.fromisoformat(ended_at or "") - datetime.fromisoformat(sent_at)).total_seconds()
    except ValueError:
        return ""
    return f" after {seconds:,.1f} s"


def _verdicts(verdicts: Sequence[Mapping[str, Any]], required: Mapping[str, str]) -> Iterator[Text]:
    """The newest of each check first, and beside it what was said before. `required` are filters that are verdicts
    too, by their versions."""
    newest = {v["check_name"]: v["id"] for v in verdicts}
    for v in sorted(verdicts, key=lambda v: (v["check_name"], -v["id"])):
        now = newest[v["check_name"]] == v["id"]
        by_filter = v["check_name"] in FILTER_REASONS
        today = required.get(v["check_name"]) if by_filter else _version_today(v["check_name"])
        if by_filter and today is None:
            yield _row("before", f"{_words_of(v, by_filter)} – no longer required", dim=True)
            continue
        stale = f" (today's is {today}: `harvest verify` judges again)" if now and v["version"] != today else ""
        words = _words_of(v, by_filter, stale)
        yield _row("verdict" if now else "before", f"{words}{'' if now else ' – ' + v['at'][:10]}", dim=not now)


def _words_of(v: Mapping[str, Any], by_filter: bool, stale: str = "") -> str:
    said = OUTCOMES.get(v["outcome"], v["outcome"])
    if by_filter:
        said = "passed" if v["outcome"] == "right" else "refused"
    detail = f": {_safe(v['detail'])}" if v["detail"] else ""
    return f"{_safe(v['check_name']).replace('_', ' ')} {_safe(v['version'])}{stale}: {said}{detail}"


def _version_today(check: str) -> str | None:
    if check == JUDGE:
        return JUDGE_VERSION
    return CHECKS[check].version if check in CHECKS else None


def _reply(reply: Reply | None, full: bool) -> Iterator[Text]:
    if reply is None:
        return
    if isinstance(system := reply.extra.get("system"), str):
        yield from _text("asked under", system, full)
    if reply.reasoning:
        yield from _text("chain", reply.reasoning, full)
    elif reply.reasoning_kind in ("summary", "encrypted"):
        yield _row("chain", f"none that may be trained on: the endpoint sent one that is {reply.reasoning_kind}")
    yield from _text("answer", reply.answer or "(empty)", full)


def _row(name: str, words: str, *, dim: bool = False) -> Text:
    return Text(f"  {name:<{NAME_WIDTH}}", "dim") + Text(words, "dim" if dim else "")


def _text(name: str, text: str, full: bool) -> Iterator[Text]:
    """A text line by line, each marked, so that none of them can pass for one of ours."""
    if not full and len(text) > HEAD_CHARS + TAIL_CHARS:
        left_out = len(text) - HEAD_CHARS - TAIL_CHARS
        text = f"{text[:HEAD_CHARS]}\n… {left_out:,} characters left out; --full shows them …\n{text[-TAIL_CHARS:]}"
    for i, line in enumerate(text.split("\n")):
        yield Text(f"  {'' if i else name:<{NAME_WIDTH}}", "dim") + Text("│ ", "dim") + Text(_safe(line))


def _safe(text: str) -> str:
    """Without control characters, which could drive a terminal."""
    return printable(text, also="\t", instead="\N{REPLACEMENT CHARACTER}")
