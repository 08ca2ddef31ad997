"""Reports what a verification changed: as `harvest verify --json` prints it, and in words."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harvest.core.nouns import FILTER_REASONS, Outcome
from harvest.core.printable import one_line
from harvest.judging.verification import Counts, Verification, standing
from harvest.store import Store

SHOWN_NAMES = 3
"""How many questions are named as examples of each change."""


def changes_of(store: Store, run_id: int, verification: Verification, counts: Counts) -> dict[str, Any]:
    """Returns what the verification changed, by the verdicts in the store. `counts` covers this start only."""
    changes: Counter[tuple[str, str | None, str | None, str, str]] = Counter()
    names: dict[tuple[str, str | None, str | None, str, str], list[str]] = {}
    unchanged = changed = 0
    for check, version, outcome, old_version, old_outcome, name in store.rejudged(run_id, verification.since):
        by_filter = check in FILTER_REASONS  # beside its check's own verdict: one answer is counted once
        if outcome == old_outcome:
            unchanged += not by_filter
            continue
        changed += not by_filter
        change = (check, old_version, old_outcome, version, outcome)
        changes[change] += 1
        if len(shown := names.setdefault(change, [])) < SHOWN_NAMES and name not in shown:
            shown.append(name)
    before, after = verification.before, standing(store, run_id)
    return {
        "judged": unchanged + changed,
        "unchanged": unchanged,
        "set_aside": counts.set_aside,
        "no_check": counts.no_check,
        "no_gold": counts.no_gold,
        "bad_gold": counts.bad_gold,
        "waiting": counts.waiting,
        "changes": [
            {
                "check": check,
                "before": {"version": old_version, "outcome": old_outcome} if old_version else None,
                "now": {"version": version, "outcome": outcome},
                "answers": n,
                "question_ids": names[check, old_version, old_outcome, version, outcome],
            }
            for (check, old_version, old_outcome, version, outcome), n in changes.most_common()
        ],
        "accepted": {"before": before["accepted"], "now": after["accepted"]},
        "questions": {
            status: {"before": before["questions"].get(status, 0), "now": after["questions"].get(status, 0)}
            for status in ("solved", "given_up", "open")
        },
        "checks": {**verification.versions, **verification.required},
    }


def in_words(said: Mapping[str, Any]) -> Iterator[str]:
    """Gives the lines that `harvest verify` prints. `said` is what `changes_of` returned, with the run's name added as
    `run`."""
    checks = ", ".join(f"{name} {version}" for name, version in said["checks"].items())
    yield f"{said['judged']:,} answers of {said['run']} judged again ({checks}); {said['unchanged']:,} as before."
    if said["changes"]:
        yield ""
        yield "| check | before | now | answers | for example |"
        yield "| --- | --- | --- | ---: | --- |"
    for change in said["changes"]:
        before = change["before"]
        old = f"{before['version']}: {_said(change['check'], before)}" if before else "not judged"
        new = f"{change['now']['version']}: {_said(change['check'], change['now'])}"
        names = ", ".join(_plain(name)[:60] for name in change["question_ids"])
        yield f"| {change['check']} | {old} | {new} | {change['answers']:,} | {names} |"
    yield ""
    yield f"Accepted: {said['accepted']['before']:,} before, {said['accepted']['now']:,} now."
    moved = {s: n for s, n in said["questions"].items() if n["before"] != n["now"]}
    for status, n in moved.items():
        more = " (`harvest collect` asks them)" if status == "open" and n["now"] else ""
        yield f"Questions {_plain(status)}: {n['before']:,} before, {n['now']:,} now{more}."
    for key, words in (
        ("set_aside", "unfinished answers left as they are"),
        ("no_gold", "answers have no gold answer to judge by"),
        ("bad_gold", "answers belong to questions whose gold answer fails its own check"),
        ("no_check", "answers were left as they were: their check is not there"),
        ("waiting", "answers wait for others to their question, to be judged together (`harvest collect` asks them)"),
    ):
        if said[key]:
            yield f"{said[key]:,} {words}."


def _said(check: str, verdict: Mapping[str, str]) -> str:
    if check in FILTER_REASONS:
        return "passed" if verdict["outcome"] == Outcome.RIGHT else "refused"
    return _plain(verdict["outcome"])


def _plain(text: str) -> str:
    """Returns a question's name as one line that fits into a table, whatever it contains."""
    return one_line(text.replace("_", " ").replace("|", " "))
