"""Sums up a selection: how many candidates were selected, and why the rest was not, by domain and difficulty."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, TypedDict

import numpy as np

from harvest.core.config import Select
from harvest.core.nouns import RewrittenBy
from harvest.core.printable import one_line, table
from harvest.filters import FILTERS
from harvest.selection.candidates import BOOL, I64, LABELS, SELECTED, Candidates, Outcome, Questions, Reason
from harvest.selection.sketches import Notes

SHOWN_GROUPS = 30
PAGE = 10_000
"""So many outcomes are taken out of their arrays at a time."""
Counts = dict[str, int]
OutcomeRow = tuple[int, str | None, int | None, str | None, RewrittenBy]
"""What `outcome_rows` gives of one candidate."""


class Summary(TypedDict):
    """Holds the summary that is stored with a selection and printed by `harvest select --json`."""

    candidates: int
    selected: int
    unselected: Counts
    """The number of candidates that each filter and then each stage left out, in the order of their work."""
    questions: int
    tokens: int
    tokens_estimated_for: int
    """The number of selected traces whose endpoint counted no tokens."""
    domains: dict[str, Counts]
    """Maps each domain to the number of its `candidates`, and of those that are `selected`."""
    difficulty: dict[str, Counts]
    """Maps each difficulty to the number of its `candidates`, and of those that are `selected`."""
    against: Counts
    """Maps each evaluation's name to the number of its questions."""
    seed: int
    settings: dict[str, Any]
    rewritten: Counts
    """`kept`: the number of answers that the rules rewrote. `refused_by_check`: the number of answers that the rules
    leave as they came, because the check would not pass their rewritten form. `by_model`: the number of answers that a
    model rewrote."""


def summary(
    of: Candidates, questions: Questions, outcome: Outcome, notes: Notes, settings: Select, *,
    counted: BOOL, against: Mapping[str, int],
) -> Summary:  # fmt: skip
    """Returns the summary of an outcome.

    `notes` are the notes on the candidates. `counted`, [n], says whether the endpoint counted a candidate's tokens.
    `against` gives the number of questions of each evaluation, by its name.
    """
    kept = outcome.reason == SELECTED
    by_stage = Counter(outcome.reason[~kept].tolist())
    refused = Counter(notes.faults[i][0] for i in of.attempt[outcome.reason == Reason.FILTERED].tolist())
    unselected = {f.name: refused[f.name] for f in FILTERS if refused[f.name]}
    unselected |= {r.value: by_stage[r] for r in Reason if r in by_stage and r is not Reason.FILTERED}
    by_model = int(np.isin(np.unique(np.array(notes.by_model, np.int64)), of.attempt).sum())
    is_here = np.isin(np.array([*notes.rewritten], np.int64), of.attempt)
    passes = [passes for passes, here in zip(notes.rewritten.values(), is_here, strict=True) if here]
    return {
        "candidates": len(of.attempt),
        "selected": int(kept.sum()),
        "unselected": unselected,
        "questions": len(np.unique(of.question[kept])),
        "tokens": int(of.tokens[kept].sum()),
        "tokens_estimated_for": int((kept & ~counted).sum()),
        "domains": _groups(questions.domain[of.question], kept),
        "difficulty": _groups(questions.difficulty[of.question], kept),
        "against": dict(against),
        "seed": settings.seed,
        "settings": settings.model_dump(mode="json"),
        "rewritten": {"kept": sum(passes), "refused_by_check": len(passes) - sum(passes), "by_model": by_model},
    }


def _groups(names: LABELS, kept: BOOL) -> dict[str, Counts]:
    """Maps each name to its number of candidates and of selected candidates, the largest group first.

    Only the SHOWN_GROUPS largest groups are returned.
    """
    before, after = Counter(names.tolist()), Counter(names[kept].tolist())
    return {name: {"candidates": n, "selected": after[name]} for name, n in before.most_common(SHOWN_GROUPS)}


def outcome_rows(
    of: Candidates, outcome: Outcome, attempt_notes: Notes, question_notes: Notes, question_row: I64
) -> Iterator[OutcomeRow]:
    """Gives the outcome for each candidate, in the form that the store takes.

    The form is (the attempt's id, the reason or None if it is selected, the id of the attempt that is kept instead or
    None if it is no duplicate, a detail or None, who rewrote the text that is trained on).
    `question_row`, [n], is the row of each candidate's question.
    """
    by_model = {*attempt_notes.by_model}
    columns = of.attempt, outcome.reason, outcome.instead, question_row
    pages = (zip(*(c[at : at + PAGE].tolist() for c in columns), strict=True) for at in range(0, len(of.attempt), PAGE))
    for attempt, reason, instead, row in chain.from_iterable(pages):
        detail = None
        if reason == Reason.FILTERED:
            reason, detail = attempt_notes.faults[attempt]
        elif reason == Reason.CONTAMINATED:
            detail = "{1} of {0}".format(*question_notes.asked[row])
        by = RewrittenBy.RULES if attempt_notes.rewritten.get(attempt) else RewrittenBy(0)
        by |= RewrittenBy.MODEL if attempt in by_model else RewrittenBy(0)
        yield attempt, reason or None, instead or None, detail, by


def in_words(said: Summary) -> Iterator[str]:
    """Gives the lines of the summary for people, in Markdown."""
    left = said["candidates"]
    stages = [(f"candidates ({said['settings']['pool']})", f"{left:,}", "")]
    for reason, out in said["unselected"].items():
        left -= out
        stages.append((reason.replace("_", " "), f"−{out:,}", f"{left:,}"))
    stages.append(("**selected**", f"**{said['selected']:,}**", f"{said['questions']:,} questions"))
    yield from table(("stage", "traces", ""), stages)
    yield ""
    estimated = said["tokens_estimated_for"]
    guess = f", estimated for {estimated:,} traces whose endpoint counted none" if estimated else ""
    yield f"{said['tokens']:,} tokens{guess}."
    for name, count in said["against"].items():
        yield f"Held against {plain_text(name)}: {count:,} questions."
    for title, groups in (("domains", said["domains"]), ("difficulty", said["difficulty"])):
        if any(groups):
            yield ""
            rows = (
                (plain_text(k) or "(none)", f"{of['candidates']:,}", f"{of['selected']:,}") for k, of in groups.items()
            )
            yield from table((title, "candidates", "selected"), rows)
    if said["unselected"].get(Reason.DIFFICULTY) and not said["selected"]:
        yield ""
        yield _why_none(said)


def _why_none(said: Summary) -> str:
    """Says why the stage `difficulty` left no candidate, and what the user can do."""
    wanted, there = said["settings"]["difficulty"], [name for name in said["difficulty"] if name]
    if wanted and not {name.casefold() for name in wanted} & {name.casefold() for name in there}:
        labels = ", ".join(map(plain_text, there)) or "none: their field `difficulty` is empty"
        return f"No question is labelled {' or '.join(map(plain_text, wanted))}; the labels are {labels}."
    return (
        "No question is known to be hard enough: ask a student first (`collect --student`), ask each question several"
        " times, or lower select.min_failed."
    )


def plain_text(text: str) -> str:
    """Returns a name from outside as text for one cell of a table, readable on a terminal."""
    return one_line(text.replace("|", " ").replace("`", " "))
