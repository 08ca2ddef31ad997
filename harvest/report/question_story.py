"""Tells the story of one question, in words or as JSON: what each try asked, brought and cost, and what each check
says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from harvest.answers.candidate import candidate_of
from harvest.checks import CHECKS
from harvest.core.config import configs
from harvest.core.money import usd
from harvest.core.nouns import (
    FILTER_REASONS,
    HUMAN,
    PUBLIC,
    STUDENT,
    Candidate,
    Origin,
    Outcome,
    Reply,
    Verdict,
    origin_of,
)
from harvest.core.printable import printable
from harvest.endpoint import prompt as prompts
from harvest.filters.required import required_by
from harvest.judging import marks, model_judge, model_rewriting
from harvest.judging.rewriting import as_trained
from harvest.report.words import OUTCOMES, REASONS, STATUS, UNSELECTED
from harvest.store import AttemptStory, DatedVerdict, QuestionStory, SelectionOutcome, StoredTry, StudentScore

HEAD_CHARS, TAIL_CHARS = 700, 500
"""Of a longer text, only the first HEAD_CHARS and the last TAIL_CHARS characters are shown."""
NAME_WIDTH = len("asked a judge") + 1
OF_PEOPLE_AND_MODELS = {
    model_judge.NAME: model_judge.VERSION, model_rewriting.NAME: model_rewriting.VERSION, HUMAN: marks.VERSION
}  # fmt: skip
"""Maps what judges beside the checks to its version today."""


def story_json(story: QuestionStory) -> dict[str, Any]:
    """Returns the story as values for JSON."""
    question = story.question
    return {
        "question_id": question.id,
        "status": story.status,
        "question": question.question,
        "gold": question.answer,
        "check": question.check,
        "check_version": version_today(question.check),
        "cost_usd": usd(_cost_pusd(story.attempts)),
        "attempts": [_attempt_json(story, a, _numbers(story.attempts)) for a in story.attempts],
    }


def _numbers(attempts: Sequence[AttemptStory]) -> dict[int, int]:
    """Returns the number of each attempt in the story, from 1, by its id."""
    return {a.attempt.id: n for n, a in enumerate(attempts, 1)}


def _attempt_json(story: QuestionStory, a: AttemptStory, numbers: Mapping[int, int]) -> dict[str, Any]:
    attempt, reply, trained = a.attempt, a.reply, trained_text(story, a)
    seam = reply.seam if reply else None
    return {
        "asked_of": None if attempt.teacher == PUBLIC else who_of(story, attempt.teacher),
        "sample": attempt.sample,
        "max_tokens": attempt.max_tokens or None,
        **{name: getattr(attempt, name) for name in ("state", "accepted", "reason")},
        "continues": None if attempt.continues is None else numbers[attempt.continues],
        "seam": None if seam is None else seam._asdict(),
        "reused": a.reused,
        "public": public_origin(story, a),
        "tries": [_try_json(t) for t in tried(story, a)],
        "judging": [_try_json(t) for t in a.judging],
        "rewriting": [_try_json(t) for t in a.rewriting],
        "verdicts": [_verdict_json(v) for v in a.verdicts],
        "scores": [score_json(s) for s in a.scores],
        "selection": None if a.selection is None else {**asdict(a.selection), "rewritten": int(a.selection.rewritten)},
        "rewritten": None if trained is None else {"reasoning": trained.reasoning, "answer": trained.answer},
        **{name: getattr(reply, name, None) for name in ("reasoning", "answer", "finish_reason")},
    }


def _verdict_json(v: DatedVerdict) -> dict[str, Any]:
    named = ("version", "outcome", "detail", "share")
    return {"check_name": v.verdict.check, **{name: getattr(v.verdict, name) for name in named}, "at": v.at}


def _try_json(t: StoredTry) -> dict[str, Any]:
    shown = (
        "state", "kind", "message", "sent_at", "ended_at", "input_tokens", "output_tokens", "served_model",
        "replica", "response_id", "settled_by", "settled_at",
    )  # fmt: skip
    money = {
        f"{name}_usd": None if amount is None else usd(amount)
        for name, amount in (("cost", t.cost), ("in_doubt", t.doubt), ("reserved", t.reserved))
    }
    partial = t.partial
    if partial is None:
        came = {}
    else:
        came = {"partial": {"reasoning": partial.reasoning, "answer": partial.answer, **_unread(partial)}}
    return {name: getattr(t, name) for name in shown} | money | came


def tell(story: QuestionStory, *, full: bool = False) -> None:
    """Prints the story for people. With `full`, texts are printed whole. Markup in a model's text has no effect."""
    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(story, full):
        console.print(line)


def _lines(story: QuestionStory, full: bool) -> Iterator[Text]:
    question, attempts = story.question, story.attempts
    yield Text(f"{safe(question.id)}: {STATUS.get(story.status, story.status)}", "bold")
    yield from _text("question", question.question, full)
    yield from _text("gold", question.answer or "none", full)
    version = version_today(question.check)
    today = f", today in version {version}" if version else ", which is not there today"
    yield _row("check", f"{safe(question.check)}{today}")
    yield _row("money", _money(attempts))
    numbers = _numbers(attempts)
    continued = {a.attempt.continues: numbers[a.attempt.id] for a in attempts if a.reply is not None}
    for n, attempt in enumerate(attempts, 1):
        yield Text("")
        yield _headline(n, len(attempts), attempt, _by_whom(story, attempt))
        if attempt.attempt.id in continued:
            yield _row(
                "continued", f"it goes on in attempt {continued[attempt.attempt.id]}, which is judged in its place"
            )
        if attempt.attempt.continues is not None:
            yield _row("goes on", _seam(attempt, numbers[attempt.attempt.continues]))
        for k, t in enumerate(tried(story, attempt), 1):
            yield _row(f"try {k}" if len(attempt.tries) > 1 else "bought", words_of_try(t))
            if (partial := t.partial) is not None and (partial.reasoning or partial.answer):
                chain, answer = len(partial.reasoning or ""), len(partial.answer)
                yield _row("kept of it", f"{chain:,} characters of chain, {answer:,} of answer (--json has them)")
            elif partial is not None and _unread(partial):
                yield _row("kept of it", "its whole body, which could not be read (--json has it)")
        for t in attempt.judging:
            yield _row("asked a judge", words_of_try(t))
        for t in attempt.rewriting:
            yield _row("rewriter", words_of_try(t))
        yield from _verdicts(attempt.verdicts, required_by(story.run.config).versions)
        if (said := attempt.selection) is not None:
            yield _row("selected" if said.reason is None else "not selected", words_of_selection(said))
        for score in attempt.scores:
            yield _row("fit", words_of_score(score))
        yield from _reply(attempt.reply, full)
        if (trained := trained_text(story, attempt)) is not None:
            if trained.reasoning:
                yield from _text("trained chain", trained.reasoning, full)
            yield from _text("trained", trained.answer, full)


def _unread(reply: Reply) -> dict[str, str]:
    """Returns the body of a reply that could not be read, as endpoint/response.py keeps it; else {}."""
    return {key: value for key, value in reply.extra.items() if key.startswith("unread_body")}


def trained_text(story: QuestionStory, a: AttemptStory) -> Candidate | None:
    """Returns the rewritten answer if the newest selection trains on it in place of the original answer, else None."""
    if a.selection is None or not a.selection.rewritten or a.reply is None:
        return None
    run = story.run
    prompt = prompts.parse(run.prompt_text, "prompt", "the run's prompt")
    candidate = candidate_of(a.attempt.id, a.attempt.sample, story.question, a.reply, prompt, imported=run.imported)
    return as_trained(candidate, a.selection.rewritten, a.rewritten)


def who_of(story: QuestionStory, place: int) -> str | None:
    """Returns the model of the teacher with the index `place` or of the student; None when the run's settings lack
    it."""
    found = configs(story.run.config).get(place)
    return None if found is None else found.teacher.model or found.teacher.local


def tried(story: QuestionStory, a: AttemptStory) -> list[StoredTry]:
    """Returns the tries for an answer. Where its teacher has several replicas, each names the one that was asked."""
    found = configs(story.run.config).get(a.attempt.teacher)
    first = found.teacher.base_url if found is not None and found.teacher.replicas else None
    return [replace(t, replica=t.replica or first) for t in a.tries]


def public_origin(story: QuestionStory, a: AttemptStory) -> Origin | None:
    """Returns where an answer is from that nobody was asked for; None if somebody was."""
    return None if a.reply is None else origin_of(a.reply, a.attempt.teacher, from_public=story.run.from_public)


def public_words(origin: Origin | None) -> str:
    """Returns in words where a public answer is from. The origin of a withdrawn one is no longer known."""
    if origin is None:
        return "from a public set"
    return safe(f"by {origin['teacher']}, from {origin['set']} ({origin['licence']}), {origin['row']}")


def _by_whom(story: QuestionStory, a: AttemptStory) -> str:
    place = a.attempt.teacher
    origin = public_origin(story, a)
    if origin is not None or place == PUBLIC:
        return f", {public_words(origin)}"
    name = safe(who_of(story, place) or "unknown")
    if place == STUDENT:
        return f", by the student {name}"
    return f", by {name}" if len(story.run.config.teachers) > 1 else ""


def _headline(n: int, of: int, story: AttemptStory, who: str) -> Text:
    a = story.attempt
    bought = story.reused and story.attempt.teacher != PUBLIC
    reused = " (from the store: another attempt had bought it)" if bought else ""
    reason = str(a.reason)
    if a.state == "failed":
        words, style = f"no answer: {_why(reason)}", "red"
    elif a.accepted is None:
        words, style = ("answered, not judged yet" if a.state == "answered" else "no answer yet"), ""
    elif a.accepted:
        words, style = ("right" if a.teacher == STUDENT else "accepted"), "green"
    else:
        words, style = f"rejected: {_why(reason)}", "red"
    return Text(f"Attempt {n} of {of}{who}: {words}{reused}", style)


def _seam(a: AttemptStory, begun_in: int) -> str:
    """Returns in words where an attempt goes on from."""
    words = f"from what came in attempt {begun_in}, up to {a.attempt.max_tokens:,} tokens in all"
    if a.reply is None or (seam := a.reply.seam) is None:
        return words
    place = (
        f"{seam.answer_characters:,} characters of answer" if seam.answer_characters else
        f"{seam.reasoning_characters:,} characters of chain"
    )  # fmt: skip
    return f"{words}; the seam is after {place}"


def words_of_selection(said: SelectionOutcome) -> str:
    """Returns in words what the newest selection says about an attempt."""
    again = ", rewritten" if said.rewritten else ""
    if said.reason is None:
        return f"it is trained on{again}"
    words = [UNSELECTED.get(said.reason, f"the filter {safe(said.reason).replace('_', ' ')} refuses it")]
    if said.instead_question is not None:
        words.append(f"sample {said.instead_sample} of {safe(said.instead_question)} has its place")
    if said.detail:
        words.append(safe(said.detail))
    return ": ".join(words)


def fit_of(s: StudentScore) -> str:
    """Returns how an answer suits a student, as short as a badge: the ratio of ranks to surprisals, and the student."""
    who = safe(s.student.rstrip("/").rpartition("/")[2])
    return f"none for {who}" if s.rsr is None else f"{s.rsr:.2f} for {who}"


def words_of_score(s: StudentScore) -> str:
    """Returns in words how an answer suits a student."""
    who = safe(s.student)
    if s.surprisal is None or s.rank is None:
        return f"{who} cannot be trained on it: it is too long, or cannot be rendered"
    ratio = "" if s.rsr is None else f", their ratio {s.rsr:.2f}"
    return f"mean rank {s.rank:.2f} and surprisal {s.surprisal:.3f} nats a token{ratio}, by {who}"


def score_json(s: StudentScore) -> dict[str, Any]:
    """Returns a student's score as values for JSON."""
    named = ("student", "weights", "tokens", "surprisal", "rank", "rsr")
    return {name: getattr(s, name) for name in named}


def _why(reason: str) -> str:
    name = safe(reason).replace("_", " ")
    return f"{name} ({REASONS[reason]})" if reason in REASONS else name


def _money(attempts: Sequence[AttemptStory]) -> str:
    tries = _tries(attempts)
    if not tries:
        public = any(a.attempt.teacher == PUBLIC for a in attempts)
        return "none: nobody was asked, a public set has answers" if public else "none: not asked yet"
    words = [f"{usd(_cost_pusd(attempts))} USD for {len(tries)} {'try' if len(tries) == 1 else 'tries'}"]
    if doubt := sum(t.doubt or 0 for t in tries):
        words.append(f"{usd(doubt)} USD in doubt")
    if unknown := sum(t.state == "answered" and t.cost is None and t.doubt is None for t in tries):
        words.append(f"{unknown} at a cost that nobody told")
    return ", ".join(words)


def _tries(attempts: Sequence[AttemptStory]) -> list[StoredTry]:
    """Returns all tries for a question, including those of the judge and the rewriter."""
    return [t for a in attempts for t in (*a.tries, *a.judging, *a.rewriting)]


def _cost_pusd(attempts: Sequence[AttemptStory]) -> int:
    return sum(t.cost or 0 for t in _tries(attempts))


def words_of_try(t: StoredTry) -> str:
    max_tokens = t.max_tokens
    when = f"{t.sent_at}, " if t.sent_at else ""
    took = _took(t.sent_at, t.ended_at) if max_tokens else ""
    words = [when + {"sent": "still out", "in_doubt": "in doubt"}.get(t.state, t.state) + took]
    if t.kind or t.message:
        words.append((f"{t.kind}: " if t.kind else "") + safe(t.message or ""))
    if t.output_tokens is not None:
        thought = f" ({t.reasoning_tokens:,} of them reasoning)" if t.reasoning_tokens else ""
        limit = f" of at most {max_tokens:,}" if max_tokens else ""
        words.append(f"{t.output_tokens:,} tokens{limit}{thought}")
    if t.finish_reason:
        words.append(f"ended by {safe(t.finish_reason)!r}")
    if t.served_model:
        words.append(f"from {safe(t.served_model)}" + (f" at {safe(t.served_by)}" if t.served_by else ""))
    if t.replica:
        words.append(f"by the replica {safe(t.replica)}")
    if not max_tokens:
        words.append("paid for elsewhere")
    words.append(_cost_of(t))
    return ", ".join(w for w in words if w)


def _cost_of(t: StoredTry) -> str:
    if t.state == "sent":
        return f"{usd(t.reserved)} USD reserved for its worst case"
    if t.doubt is not None:
        return f"{usd(t.doubt)} USD in doubt, its worst case"
    if t.cost is not None:
        by = f", which was in doubt and is what the {t.settled_by} says" if t.settled_by else ""
        return f"{usd(t.cost)} USD{by}"
    return "cost not known" if t.state == "answered" else "nothing billed"


def _took(sent_at: str, ended_at: str | None) -> str:
    try:
        seconds = (datetime.fromisoformat(ended_at or "") - datetime.fromisoformat(sent_at)).total_seconds()
    except ValueError:
        return ""
    return f" after {seconds:,.1f} s"


def _verdicts(verdicts: Sequence[DatedVerdict], required: Mapping[str, str]) -> Iterator[Text]:
    """Yields lines with the newest verdict of each check, followed by the check's earlier verdicts.

    `required` maps the filters that `checks.require` names to their versions.
    """
    newest = {v.verdict.check: v.id for v in verdicts}
    for dated in sorted(verdicts, key=lambda v: (v.verdict.check, -v.id)):
        v, now = dated.verdict, newest[dated.verdict.check] == dated.id
        by_filter = v.check in FILTER_REASONS
        today = required.get(v.check) if by_filter else version_today(v.check)
        if by_filter and today is None:
            yield _row("before", f"{words_of_verdict(v, by_filter)} – no longer required", dim=True)
            continue
        stale = f" (today's is {today}: `harvest verify` judges again)" if now and v.version != today else ""
        words = words_of_verdict(v, by_filter, stale)
        yield _row("verdict" if now else "before", f"{words}{'' if now else ' – ' + dated.at[:10]}", dim=not now)


def words_of_verdict(v: Verdict, by_filter: bool, stale: str = "") -> str:
    said = OUTCOMES.get(v.outcome, v.outcome)
    if by_filter or v.check == model_rewriting.NAME:
        said = "passed" if v.passed else "none" if v.outcome is Outcome.ERROR else "refused"
    detail = f": {safe(v.detail)}" if v.detail else ""
    return f"{safe(v.check).replace('_', ' ')} {safe(v.version)}{stale}: {said}{detail}"


def version_today(check: str) -> str | None:
    if check in OF_PEOPLE_AND_MODELS:
        return OF_PEOPLE_AND_MODELS[check]
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
    """Yields the lines of a text. Each comes after a mark, so that a line of a model's text does not look like one of
    ours."""
    if not full and len(text) > HEAD_CHARS + TAIL_CHARS:
        left_out = len(text) - HEAD_CHARS - TAIL_CHARS
        text = f"{text[:HEAD_CHARS]}\n… {left_out:,} characters left out; --full shows them …\n{text[-TAIL_CHARS:]}"
    for i, line in enumerate(text.split("\n")):
        yield Text(f"  {'' if i else name:<{NAME_WIDTH}}", "dim") + Text("│ ", "dim") + Text(safe(line))


def safe(text: str) -> str:
    """Returns the text without control characters, because they could drive a terminal."""
    return printable(text, also="\t", instead="\N{REPLACEMENT CHARACTER}")
