"""Makes the rows of a dataset, one for each exported attempt.

A row holds the part that a trainer reads, and then what is known of the attempt.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from harvest.answers.candidate import asked_under, candidate_of
from harvest.asking.planning.teacher_terms import terms_of
from harvest.core.config import Export, teachers_of
from harvest.core.errors import InputError
from harvest.core.money import usd
from harvest.core.nouns import Origin, RewrittenBy, licence_of, origin_of
from harvest.endpoint import Prompt
from harvest.export.census import Census
from harvest.export.layouts import LAYOUTS, B, Columns, F, N, T, quotes_marks, training_columns, training_part
from harvest.filters.rewrite import VERSION as REWRITE_VERSION
from harvest.judging.rewriting import as_trained
from harvest.proof.kinds import known_of, reply_sha256
from harvest.store import AnsweredAttempt, Store, StoredRun

SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "reasoning_effort")
NOT_JUDGED = "not_judged"
"""The reason of an answer that has no judgement yet: the answer waits for further answers, or it came just before the
run stopped."""

PROVENANCE: Columns = {
    "id": T, "question_id": T, "question": T, "reasoning": T, "answer": T, "gold": T, "domain": T, "difficulty": T,
    "original": {"reasoning": T, "answer": T},
    "teacher": {
        "model": T, "base_url": T, "revision": T, "served_model": T, "served_by": T, "system_fingerprint": T,
        "response_id": T,
    },
    "prompt": {"name": T, "sha256": T},
    "sampling": {
        "max_tokens": N, "temperature": F, "top_p": F, "top_k": N, "min_p": F, "seed": N, "reasoning_effort": T,
        "extra": T,
    },
    "sample": N, "finish_reason": T,
    "seam": {"reasoning_characters": N, "answer_characters": N, "response_id": T},
    "usage": {"input_tokens": N, "cached_input_tokens": N, "output_tokens": N, "reasoning_tokens": N},
    "cost_usd": T,
    "student": T, "student_surprisal": F, "student_rank": F,
    "verdicts": [{"check": T, "version": T, "passed": B, "detail": T, "share": F}],
    "accepted": B, "reason": T, "selected": B, "unselected": T,
    "source": T, "licence": T, "teacher_terms": T, "asked_at": T,
    "public": {"set": T, "card": T, "licence": T, "teacher": T, "row": T},
}  # fmt: skip
"""The columns after the training part, with their types. `original` is what the teacher wrote if the row is rewritten,
else it is null. `seam` says where the second of two replies begins if the answer was cut and continued, else it is
null. `student_surprisal` (nats a token) and `student_rank` are those of `student`, its name with the checksum of its
weights; all three are null where the answer has no score. `selected` and `unselected` (the reason) come from the newest
selection, whichever rows are exported. `public` says from which public set an answer is that no teacher of the run
gave, else it is null; such a row has no price, and the teacher and the prompt that it was asked with are the set's."""


def columns_of(settings: Export) -> Columns:
    """Returns the columns of a row, each with its type."""
    provenance = _renamed(PROVENANCE, settings) if settings.columns == "all" else {}
    return {**training_columns(settings), **provenance}


def _renamed(known: Mapping[str, Any], settings: Export) -> dict[str, Any]:
    """Returns the columns, with the column `prompt` renamed as the layout says (`prompt_column`)."""
    to = LAYOUTS[settings.layout].prompt_column
    return {to if name == "prompt" else name: value for name, value in known.items()}


def _sampling(of: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the column `sampling` for a teacher's rows, from the stored settings of the teacher.

    For imported answers, a value may be None because nobody knows it. No default takes its place.
    """
    return {name: of[name] for name in SAMPLING} | {"extra": json.dumps(of["extra"], sort_keys=True)}


def _teachers(run: StoredRun) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Returns for each teacher of a run (its stored settings with its `terms` in words, its column `sampling`)."""
    return [
        ({**teacher, "terms": terms_of(teacher).words}, _sampling(teacher["sampling"]))
        for teacher in teachers_of(run.settings)
    ]


def _provenance(
    a: AnsweredAttempt, teacher: Mapping[str, Any], sampling: Mapping[str, Any], prompt: Prompt, reasoning: str | None,
    answer: str, original: tuple[str | None, str] | None, public: Origin | None,
) -> dict[str, Any]:  # fmt: skip
    """Returns the columns of PROVENANCE for one attempt.

    `teacher` holds the stored settings of the teacher that was asked, with its `terms` in words. `original` is (chain,
    answer) as the teacher wrote them, or None if the row is not rewritten. `public` is where an answer is from that
    nobody was asked for.
    """
    question, reply = a.question, a.reply
    served = ("served_model", "served_by", "system_fingerprint", "response_id")
    verdicts = {v.check: v for v in a.verdicts}.values()  # the newest of each check
    return {
        "id": a.row_id,
        "question_id": question.id,
        "question": question.question,
        "reasoning": reasoning,
        "answer": answer,
        "gold": question.answer,
        "domain": question.domain,
        "difficulty": question.difficulty,
        "original": None if original is None else {"reasoning": original[0], "answer": original[1]},
        "teacher": {
            "model": teacher["model"] or teacher["local"] or reply.served_model,
            "base_url": a.replica or teacher["base_url"] or ("local" if teacher["local"] else None),
            "revision": teacher["revision"],
            **{name: getattr(reply, name) for name in served},
        },
        "prompt": dict.fromkeys(PROVENANCE["prompt"]) if public else {"name": prompt.name, "sha256": prompt.sha256},
        "sampling": {**sampling, "max_tokens": a.max_tokens or None},
        "sample": a.sample,
        "finish_reason": reply.finish_reason,
        "seam": None if reply.seam is None else reply.seam._asdict(),
        "usage": {name: getattr(reply.usage, name) for name in PROVENANCE["usage"]},
        "cost_usd": None if a.cost_pusd is None else usd(a.cost_pusd),
        "student": None if a.score is None else f"{a.score.student}@{a.score.weights}",
        "student_surprisal": None if a.score is None else a.score.surprisal,
        "student_rank": None if a.score is None else a.score.rank,
        "verdicts": [{name: getattr(v, name) for name in PROVENANCE["verdicts"][0]} for v in verdicts],
        "accepted": bool(a.accepted),
        "reason": a.reason or (None if a.accepted else NOT_JUDGED),
        "selected": a.selected,
        "unselected": a.unselected,
        "source": question.source,
        "licence": licence_of(question.licence, public),
        "teacher_terms": teacher["terms"],
        "asked_at": a.sent_at or None,
        "public": public,
    }


def _of_public_set(public: Origin) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns who wrote a public answer, and how it was sampled, which nobody knows, in the form of a teacher's stored
    settings."""
    terms = f"{public['licence']}, the licence of the public set {public['set']}"
    teacher = dict.fromkeys(("base_url", "local", "revision")) | {"model": public["teacher"], "terms": terms}
    return teacher, dict.fromkeys(SAMPLING) | {"extra": "{}"}


class Exported(NamedTuple):
    """One row of a dataset."""

    row: dict[str, Any]
    characters: int
    """About how many characters the row has."""
    origin: dict[str, Any]
    """What the manifest says of the row, without its place and its hash (harvest/proof/kinds.py)."""


def rows(store: Store, run: StoredRun, prompt: Prompt, settings: Export, census: Census) -> Iterator[Exported]:
    """Gives the row of each attempt that `settings.which` names.

    `census` counts each row. Raises InputError when the selection rewrote answers by other rules than today's: a row
    would then not hold the text that was checked.
    """
    if settings.which == "selected":
        _refuse_other_rules(store, run)
    teachers = _teachers(run)
    for a in store.answered_attempts(run.id, settings.which):
        candidate = candidate_of(a.id, a.sample, a.question, a.reply, prompt, imported=run.imported)
        original = None
        if settings.which == "selected" and a.rewritten:
            came, candidate = candidate, as_trained(candidate, a.rewritten, a.rewriting)
            original = (came.reasoning, came.answer) if candidate != came else None
        reasoning, answer = candidate.reasoning, candidate.answer
        public = origin_of(a.reply, a.teacher, from_public=run.from_public)
        whose = teachers[a.teacher] if public is None else _of_public_set(public)
        known = _provenance(a, *whose, prompt, reasoning, answer, original, public)
        asked = [*asked_under(run.imported, a.reply), *prompt.student_messages(a.question)]
        by_model = original is not None and bool(a.rewritten & RewrittenBy.MODEL)
        census.count(known, reasoning, quotes=quotes_marks(reasoning, answer, settings), by_model=by_model)
        row = training_part(asked, reasoning, answer, settings)
        if settings.columns == "all":
            # A chain that is left out of the messages on purpose must not look as if it had been lost.
            row |= _renamed(known | {"reasoning": None} if settings.reasoning == "none" else known, settings)
        characters = 2 * (len(reasoning or "") + len(answer) + len(a.question.question))
        yield Exported(row, characters, _facts(a, known, a.rewritten if original is not None else RewrittenBy(0)))


def _facts(a: AnsweredAttempt, known: Mapping[str, Any], by: RewrittenBy) -> dict[str, Any]:
    """Returns what the manifest says of an attempt's row. `known` has the row's columns, and `by` says who rewrote its
    text."""
    words = [what for one, what in ((RewrittenBy.RULES, "rules"), (RewrittenBy.MODEL, "model")) if one & by]
    return {
        **known_of(known),
        "attempt": a.key,
        "rewritten": " and ".join(words) or None,
        "reply_sha256": reply_sha256(a.reply),
    }


def stored_origins(
    store: Store, run: StoredRun, prompt: Prompt
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Gives for each whole reply of a run (what a manifest would say of it today, as the teacher wrote it; every
    verdict on it that the store has, older ones too)."""
    teachers = _teachers(run)
    for a in store.answered_attempts(run.id, "all"):
        public = origin_of(a.reply, a.teacher, from_public=run.from_public)
        whose = teachers[a.teacher] if public is None else _of_public_set(public)
        known = _provenance(a, *whose, prompt, None, "", None, public)
        every = [{"check": v.check, "version": v.version, "passed": v.passed} for v in a.verdicts]
        yield _facts(a, known, RewrittenBy(0)), every


def _refuse_other_rules(store: Store, run: StoredRun) -> None:
    newest = store.newest_selection(run.id)
    by = (newest.settings.get("rewrite") or {}).get("version") if newest is not None else None
    if by is not None and by != REWRITE_VERSION:
        raise InputError(
            f"run {run.name!r}: its selection was rewritten by rules of version {by}, and today's are"
            f" {REWRITE_VERSION}, so the texts would not be those that were checked:"
            f" `python -m harvest select {run.name}` makes it anew"
        )
