"""Says what the page shows of one attempt: its question, its verdicts, its money, its chain in steps. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from harvest.answers.candidate import candidate_of
from harvest.core.money import usd
from harvest.core.nouns import FILTER_REASONS, HUMAN, PUBLIC, STUDENT, Candidate, Question, Reply
from harvest.endpoint import prompt as prompts
from harvest.filters.required import required_by
from harvest.judging import model_judge, model_rewriting
from harvest.report.question_story import (
    fit_of,
    public_origin,
    public_words,
    safe,
    tried,
    version_today,
    who_of,
    words_of_selection,
    words_of_try,
    words_of_verdict,
)
from harvest.report.viewer.objections import Objections, objections_to
from harvest.report.viewer.steps import pieces, shown_steps
from harvest.report.words import REASONS, STATUS
from harvest.store import AttemptStory, DatedVerdict, Mark, QuestionStory

QUESTION_FIELDS = ("check", "domain", "difficulty", "source", "licence")


def attempt_values(story: QuestionStory, a: AttemptStory, waiting: Mark | None) -> dict[str, Any]:
    """Returns the values of one attempt for JSON. `waiting` is its newest mark that the store has not taken in yet."""
    q = story.question
    candidate = _candidate(story, a)
    found = Objections({}) if candidate is None else objections_to(candidate, story.run.config.filters)
    return {
        "id": a.attempt.id,
        "run": story.run.name,
        "question": {
            "name": _shown(q.id),
            "text": _shown(q.question),
            "gold": None if q.answer is None else _shown(q.answer),
            "more": [[name, safe(str(value))] for name in QUESTION_FIELDS if (value := getattr(q, name))],
            "choices": [_shown(choice) for choice in q.choices or ()],
            "tests": _shown(_tests(q)),
        },
        "standing": _standing(a),
        "words": _words(a),
        "status": STATUS.get(story.status, story.status),
        "badges": list(_badges(story, a)),
        "mark": _mark(a, waiting),
        "objections": [[name.replace("_", " "), safe(said)] for name, said in found.words.items()],
        "verdicts": list(_verdicts(a, required_by(story.run.config).versions.keys())),
        "tries": [
            *(words_of_try(t) for t in tried(story, a)),
            *(f"judging model: {words_of_try(t)}" for t in a.judging),
            *(f"rewriting model: {words_of_try(t)}" for t in a.rewriting),
        ],
        "selection": None if a.selection is None else words_of_selection(a.selection),
        **_texts(a.reply, candidate, found),
    }


def _shown(text: str) -> list[list[str]]:
    return pieces(text, 0, len(text), ())


def _tests(q: Question) -> str:
    if q.cases:
        return f"{len(q.cases)} cases of input and output"
    return q.tests if isinstance(q.tests, str) else "\n".join(q.tests or ())


def _standing(a: AttemptStory) -> str:
    if a.attempt.state == "failed":
        return "no answer"
    return "not judged" if a.attempt.accepted is None else "accepted" if a.attempt.accepted else "rejected"


def _words(a: AttemptStory) -> str:
    reason = a.attempt.reason
    return REASONS.get(reason, safe(reason).replace("_", " ")) if reason else ""


def _badges(story: QuestionStory, a: AttemptStory) -> Iterator[list[str]]:
    """Gives (what it is, the figure in words): who answered, what it cost, how long it is."""
    attempt, tries = a.attempt, tried(story, a)
    who = who_of(story, attempt.teacher) or ("imported" if story.run.imported else "unknown")
    origin = public_origin(story, a)
    if origin is not None or attempt.teacher == PUBLIC:
        yield ["public", public_words(origin)]
        yield ["cost", "paid by whoever published it"]
        return
    yield ["student" if attempt.teacher == STUDENT else "teacher", safe(who)]
    served = {safe(name or "") for t in tries for name in (t.served_by or t.served_model, t.replica)} - {"", safe(who)}
    for name in sorted(served):
        yield ["served by", name]
    if a.reused:
        yield ["cost", "$0: another attempt had bought it"]
    else:
        yield ["cost", _cost(a)]
    usage = a.reply.usage if a.reply else None
    if usage is not None and usage.output_tokens is not None:
        chain = f", {usage.reasoning_tokens:,} of chain" if usage.reasoning_tokens else ""
        yield ["tokens", f"{usage.output_tokens:,}{chain}"]
    if attempt.max_tokens:
        yield ["limit", f"{attempt.max_tokens:,} tokens"]
    yield ["sample", str(attempt.sample)]
    if a.reply is not None and a.reply.finish_reason:
        yield ["ended by", safe(a.reply.finish_reason)]
    if a.reply is not None and a.reply.seam is not None:
        yield [
            "continued",
            f"after {max(a.reply.seam.reasoning_characters, a.reply.seam.answer_characters):,} characters",
        ]
    for score in a.scores:
        yield ["fit", fit_of(score)]


def _cost(a: AttemptStory) -> str:
    every = [*a.tries, *a.judging, *a.rewriting]
    words = f"${usd(sum(t.cost or 0 for t in every))}"
    if doubt := sum(t.doubt or 0 for t in every):
        words += f", ${usd(doubt)} in doubt"
    unknown = any(t.state == "answered" and t.cost is None and t.doubt is None for t in every)
    return f"{words}, and a part that nobody told" if unknown else words


def _mark(a: AttemptStory, waiting: Mark | None) -> dict[str, Any] | None:
    if waiting is not None:
        return {"outcome": waiting.outcome.value, "note": waiting.note, "waits": True}
    newest = next((v.verdict for v in reversed(a.verdicts) if v.verdict.check == HUMAN), None)
    return None if newest is None else {"outcome": newest.outcome.value, "note": newest.detail, "waits": False}


def _verdicts(a: AttemptStory, required: Sequence[str] | Any) -> Iterator[dict[str, Any]]:
    """Gives each check's newest verdict, then the earlier ones, in the order of the checks."""
    newest = {v.verdict.check: v.id for v in a.verdicts}
    for dated in sorted(a.verdicts, key=lambda v: (newest[v.verdict.check] != v.id, v.verdict.check != HUMAN, -v.id)):
        yield _verdict(dated, newest[dated.verdict.check] == dated.id, required)


def _verdict(dated: DatedVerdict, is_newest: bool, required: Any) -> dict[str, Any]:
    v = dated.verdict
    by_filter = v.check in FILTER_REASONS
    today = None if by_filter else version_today(v.check)
    stale = f" (today's is {today})" if today is not None and is_newest and v.version != today else ""
    if by_filter and v.check not in required:
        stale = " (no longer required)"
    kind = {HUMAN: "human", model_judge.NAME: "model", model_rewriting.NAME: "model"}.get(
        v.check, "filter" if by_filter else "check"
    )
    said = "pass" if v.passed else "none" if v.outcome.value in ("unsure", "error", "timeout") else "fail"
    return {
        "kind": kind, "said": said, "newest": is_newest, "at": dated.at[:16].replace("T", " "),
        "words": words_of_verdict(v, by_filter, stale),
    }  # fmt: skip


def _candidate(story: QuestionStory, a: AttemptStory) -> Candidate | None:
    """Returns the answer as filters and selection read it; None if there is none, or the run has no prompt."""
    run = story.run
    if a.reply is None or not run.prompt_text:
        return None
    prompt = prompts.parse(run.prompt_text, "", "the run's prompt")
    return candidate_of(a.attempt.id, a.attempt.sample, story.question, a.reply, prompt, imported=run.imported)


def _texts(reply: Reply | None, candidate: Candidate | None, found: Objections) -> dict[str, Any]:
    """Returns the chain in steps, the answer, and what is to be said of a chain that is not there. Both are as they
    would be trained on; a summary that the endpoint sent in place of its chain is shown as well."""
    if reply is None:
        return {"chain": None, "answer": None, "chain_note": "there is no answer"}
    reasoning, answer = (candidate.reasoning, candidate.answer) if candidate else (reply.reasoning, reply.answer)
    reasoning, kind = reasoning or reply.reasoning, reply.reasoning_kind
    hidden = f"the endpoint sent a chain that is {kind}" if kind in ("summary", "encrypted") else None
    note = None if reasoning else hidden or "there is no chain beside the answer"
    if not found.is_read:
        note = "too long for the filters to read it here"
    chain = None if not reasoning else shown_steps(reasoning, found.chain)
    return {"chain": chain, "answer": shown_steps(answer, found.answer), "chain_note": note}
