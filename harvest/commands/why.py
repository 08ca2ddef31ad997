"""`harvest why` shows what became of one question of a run, attempt by attempt; without a question it lists them."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harvest.core.errors import InputError
from harvest.core.money import usd
from harvest.core.printable import one_line
from harvest.core.settings import nearest
from harvest.report.question_story import story_json, tell
from harvest.store import Store

NAMED_QUESTIONS = 5
"""When a question is not found, the error names this many questions of the run."""
NO_ATTEMPT = "not asked"
ACCEPTED, SELECTED, NOT_JUDGED = "accepted", "selected", "not judged"
SHOWN_CHARS = 80


@dataclass(frozen=True, slots=True)
class Line:
    """One attempt in the list, or a question that has none."""

    attempt_id: int | None
    question_id: str
    sample: int | None
    reason: str
    """Why the attempt was rejected, failed or left out of the selection; else `selected`, `accepted` or `not
    judged`."""
    output_tokens: int | None
    cost_usd: str | None


def why(name: str, url: str, question_id: str, *, full: bool, as_json: bool) -> int:
    """Prints the story of a question and returns the exit code. With `full`, texts are printed whole.

    Raises InputError when the run has no such question.
    """
    with Store.open(url, write=False) as store:
        run_id = store.run_id(name)
        story = store.story(run_id, question_id)
        if story is None:
            some = ", ".join(store.some_question_names(run_id, NAMED_QUESTIONS))
            raise InputError(f"run {name!r} has no question {question_id!r}; it has {some}, …")
    if as_json:
        print(json.dumps(story_json(story), ensure_ascii=False))
    else:
        tell(story, full=full)
    return 0


def why_list(name: str, url: str, *, reason: str | None, most: int, as_json: bool) -> int:
    """Prints the run's attempts, one line each, and how many there are for each reason. Returns the exit code.

    `reason` keeps the attempts with this reason alone, `most` is the number of lines. Raises InputError when no attempt
    has this reason.
    """
    with Store.open(url, write=False) as store:
        run_id = store.run_id(name)
        lines = [*_lines(store, run_id)]
        counts = Counter(line.reason for line in lines)
        chosen = [line for line in lines if reason in (None, line.reason)]
        if reason is not None and not chosen:
            there = ", ".join(f"{one} {n:,}" for one, n in counts.most_common()) or "there are none"
            raise InputError(f"--reason {reason}: no attempt of run {name!r} has it{nearest(reason, ())} ({there})")
        texts = {line: _text(store, run_id, line) for line in chosen[:most]}
    if as_json:
        shown: list[Mapping[str, Any]] = [asdict(line) for line in chosen[:most]]
        print(json.dumps({"run": name, "attempts": shown, "reasons": dict(counts.most_common())}, ensure_ascii=False))
        return 0
    width = max((len(line.question_id) for line in chosen[:most]), default=0)
    for line in chosen[:most]:
        tokens = "" if line.output_tokens is None else f"{line.output_tokens:,} tokens"
        words = f"{one_line(line.question_id, 60):<{min(width, 60)}}  {line.reason:<14} {tokens:>14}"
        print(f"{words}  {texts[line]}")
    print(f"{min(most, len(chosen)):,} of {len(chosen):,}" + ("" if reason is None else f" that are {reason}"), end="")
    print(f" · {', '.join(f'{one} {n:,}' for one, n in counts.most_common())}")
    print(f"`python -m harvest why {name} QUESTION_ID` tells one of them whole")
    return 0


def _lines(store: Store, run_id: int) -> Iterator[Line]:
    """Yields a line for each attempt, in the order of the questions, and one for each question without an attempt."""
    listed, left_out = store.listed(run_id), store.unselected_reasons(run_id)
    has_selection = store.newest_selection(run_id) is not None
    of: dict[int, list[int]] = {}
    for n, question in enumerate(listed.question_id):
        of.setdefault(question, []).append(n)
    for row, name, _ in store.question_labels(run_id):
        for n in of.get(row, ()):
            reason = listed.reason[n] or left_out.get(listed.id[n])
            if reason is None:
                passed = SELECTED if has_selection else ACCEPTED
                reason = passed if listed.accepted[n] else NOT_JUDGED
            cost = listed.cost_pusd[n]
            yield Line(
                listed.id[n], name, listed.sample[n], reason, listed.output_tokens[n],
                None if cost is None else usd(cost),
            )  # fmt: skip
        if row not in of:
            yield Line(None, name, None, NO_ATTEMPT, None, None)


def _text(store: Store, run_id: int, line: Line) -> str:
    """Returns what the question's check says of the attempt, else the end of the question."""
    story = store.story(run_id, line.question_id)
    if story is None:
        return ""
    verdicts = [v.verdict for a in story.attempts if a.attempt.id == line.attempt_id for v in a.verdicts]
    details = [v.detail for v in verdicts if v.detail and v.check == story.question.check]
    if details:
        return one_line(details[-1], SHOWN_CHARS)
    return one_line(story.question.question[-SHOWN_CHARS:], SHOWN_CHARS)
