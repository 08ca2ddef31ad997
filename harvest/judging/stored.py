"""Judging what is stored: answers that nobody has judged yet, or all of them again with today's checks.

The teacher is asked nothing. Verdicts are added, never changed; an attempt keeps what the newest say, and its question
is solved, given up or open by that. A page is written at once, so whatever stops it, the next start goes on there.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from harvest.answers.candidate import candidate_of
from harvest.asking.plan import Step, next_step, rules_of
from harvest.checks import CHECKS, CheckPool, gold_problems, judged_together
from harvest.core.clock import now
from harvest.core.config import Checks
from harvest.core.nouns import FILTER_REASONS, STUDENT, Attempt, Judgement, Outcome, Question, Reply, Verdict
from harvest.core.printable import one_line
from harvest.endpoint import prompt as prompts
from harvest.filters.required import required_by
from harvest.judging.ruling import refused_by, rule_together, unfinished, with_required
from harvest.questions.sources import has_gold
from harvest.store import JudgedBy, Store, StoredAnswer

PAGE = 256
PAGE_BYTES = 4_000_000
"""Most of a page as it is packed in the store; a page holds one answer at least."""
PAGES_AHEAD = 2
"""So many pages are being judged while an earlier one is written."""
NO_GOLD = "no_gold"
"""Why an answer is not accepted that there is nothing to judge by."""
SHOWN_NAMES = 3
BEGUN, ENDED = "verify", "verified"
"""Events around one pass over a run."""

Waiting = Callable[[], Verdict]
Warn = Callable[[str], None]


@dataclass(slots=True)
class Judged:
    """What this start has done."""

    total: int = 0
    seen: int = 0
    judged: int = 0
    set_aside: int = 0
    """Unfinished answers, which have nothing worth a check."""
    no_check: int = 0
    """Of questions whose check is not there today: left as they were."""
    no_gold: int = 0
    bad_gold: int = 0
    """Of questions whose gold answer does not pass its own check."""
    waiting: int = 0
    """For other answers to their question, which are all judged together."""
    together_to: int = 0
    """Questions up to this row, among those whose answers are judged together, are done."""
    statuses: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Pass:
    """One judging of all of a run, in one start or several."""

    versions: Mapping[str, str]
    """Of the checks."""
    required: Mapping[str, str]
    """Of the filters that the run requires."""
    since: int
    """Verdicts of this pass have larger ids."""
    again: bool
    before: Mapping[str, Any]
    """How many attempts were accepted, and questions by status, when it began."""

    @property
    def newer_than(self) -> int:
        """Verdicts up to here do not spare an attempt."""
        return self.since if self.again else 0


def versions_today() -> dict[str, str]:
    return {name: check.version for name, check in CHECKS.items()}


def begin_pass(store: Store, run_id: int, *, again: bool) -> Pass:
    """The pass that was not finished, where today's checks are still its own; else a new one."""
    versions, required = versions_today(), required_by(store.config_of_id(run_id)).versions
    begun, ended = store.events(run_id, BEGUN), store.events(run_id, ENDED)
    if len(begun) > len(ended):
        last = begun[-1]
        if (last["versions"], last.get("required", {}), last["again"]) == (versions, required, again):
            return Pass(versions, required, last["since"], again, last["before"])
        with store.transaction():
            store.add_event(run_id, ENDED, {"abandoned": True}, now())
    before = _standing(store, run_id)
    fresh = Pass(versions, required, store.newest_verdict(), again, before)
    with store.transaction():
        data = {"versions": versions, "required": required, "since": fresh.since, "again": again, "before": before}
        store.add_event(run_id, BEGUN, data, now())
    return fresh


def changes_of(store: Store, run_id: int, of: Pass, judged: Judged) -> dict[str, Any]:
    """What the pass changed, as `harvest verify --json` prints it."""
    changes: Counter[tuple[str, str | None, str | None, str, str]] = Counter()
    names: dict[tuple[str, str | None, str | None, str, str], list[str]] = {}
    alike = otherwise = 0
    for check, version, outcome, old_version, old_outcome, name in store.rejudged(run_id, of.since):
        by_filter = check in FILTER_REASONS  # beside its check's own verdict: one answer is counted once
        if outcome == old_outcome:
            alike += not by_filter
            continue
        otherwise += not by_filter
        change = (check, old_version, old_outcome, version, outcome)
        changes[change] += 1
        if len(shown := names.setdefault(change, [])) < SHOWN_NAMES and name not in shown:
            shown.append(name)
    after = _standing(store, run_id)
    return {
        "judged": alike + otherwise,
        "unchanged": alike,
        "set_aside": judged.set_aside,
        "no_check": judged.no_check,
        "no_gold": judged.no_gold,
        "bad_gold": judged.bad_gold,
        "waiting": judged.waiting,
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
        "accepted": {"before": of.before["accepted"], "now": after["accepted"]},
        "questions": {
            status: {"before": of.before["questions"].get(status, 0), "now": after["questions"].get(status, 0)}
            for status in ("solved", "given_up", "open")
        },
        "checks": {**of.versions, **of.required},
    }


def end_pass(store: Store, run_id: int, said: Mapping[str, Any]) -> None:
    """Notes that the pass is over and what it changed; until then the next start goes on with it and says the same."""
    with store.transaction():
        store.add_event(run_id, ENDED, dict(said), now())


def _standing(store: Store, run_id: int) -> dict[str, Any]:
    counts = store.counts(run_id)
    return {"accepted": counts["accepted"], "questions": store.question_statuses(run_id)}


def judge_stored(
    store: Store, run_id: int, judge: CheckPool, judged: Judged, warn: Warn, told: Callable[[], None],
    of: Pass | None = None,
) -> None:  # fmt: skip
    """Judges what `of` has not judged yet, or without it all that was never judged; a page in a transaction."""
    config = store.config_of_id(run_id)
    judged_by = None if of is None else JudgedBy(of.versions, of.required, FILTER_REASONS, of.newer_than)
    judged.total = store.count_stored_answers(run_id, judged_by)
    gold: dict[int, str | None] = {}
    begun: deque[list[tuple[StoredAnswer, Waiting | None]]] = deque()
    for page in _pages(store, run_id, judged_by):
        gold = _gold_of(page, gold, judge, warn)
        judged.bad_gold += sum(gold.get(answer.question_id) is not None for answer in page)
        begun.append([(answer, _begin(answer, gold, judge)) for answer in page])
        if len(begun) > PAGES_AHEAD:
            _write(store, config, begun.popleft(), judge, judged)
            told()
    while begun:
        _write(store, config, begun.popleft(), judge, judged)
        told()


def _pages(store: Store, run_id: int, unless: JudgedBy | None) -> Iterator[list[StoredAnswer]]:
    after = (0, STUDENT, -1, -1)
    while page := store.stored_answers(run_id, after, PAGE, PAGE_BYTES, unless):
        last = page[-1]
        after = (last.question_id, last.attempt.teacher, last.attempt.sample, last.attempt.max_tokens)
        yield page


def _gold_of(
    page: list[StoredAnswer], known: Mapping[int, str | None], judge: CheckPool, warn: Warn
) -> dict[int, str | None]:
    """For each question of a page what is wrong with its gold answer, or None; warns of those not known before."""
    questions = {a.question_id: a.question for a in page if a.question.check in CHECKS and has_gold(a.question)}
    new = {i: q for i, q in questions.items() if i not in known}
    found = dict(zip(new, gold_problems(new.values(), judge), strict=True))
    for i, problem in found.items():
        if problem is not None:
            warn(f"question {new[i].id[:200]!r}: {problem}")
    return {i: found[i] if i in found else known[i] for i in questions}


def _begin(answer: StoredAnswer, gold: Mapping[int, str | None], judge: CheckPool) -> Waiting | None:
    """Starts a judgement; None where there is none to wait for."""
    question = answer.question
    if unfinished(answer.reply) is not None or question.check not in CHECKS or judged_together(question):
        return None
    problem = gold.get(answer.question_id)
    if problem is None and has_gold(question):
        return judge.begin(question, answer.reply.answer)
    said = _error(question, problem or "there is no gold answer to judge by")
    return lambda: said


def _error(question: Question, words: str) -> Verdict:
    return Verdict(question.check, CHECKS[question.check].version, Outcome.ERROR, words)


def _write(
    store: Store, config: Mapping[str, Any], page: list[tuple[StoredAnswer, Waiting | None]], judge: CheckPool,
    judged: Judged,
) -> None:  # fmt: skip
    alone = [(answer, waiting) for answer, waiting in page if not _waits_for_others(answer)]
    said = [(answer, wait() if wait is not None else None) for answer, wait in alone]
    together = [answer for answer, _ in page if _waits_for_others(answer)]
    rulings = _rule_together(store, config, together, judge, judged)
    opinions = store.opinions(answer.attempt.id for answer, _ in alone)
    filters = _filters_of(config)
    at = now()
    changed: dict[int, StoredAnswer] = {}
    judged.seen += len(page)
    with store.transaction():
        for answer, ruled in rulings:
            store.put_judgements(ruled, at)
            changed[answer.question_id] = answer
        for answer, verdict in said:
            if verdict is None and answer.question.check not in CHECKS and unfinished(answer.reply) is None:
                judged.no_check += 1
                continue
            reason = _reason(answer, verdict, opinions.get(answer.attempt.id))
            also = filters(answer.attempt, answer.question, answer.reply) if reason is None else []
            reason = reason or refused_by(also)
            judged.set_aside += verdict is None
            judged.judged += verdict is not None
            judged.no_gold += reason == NO_GOLD
            before = (answer.attempt.accepted, answer.attempt.reason)
            if verdict is not None or before != (False, reason):
                verdicts = [*also, *([] if verdict is None else [verdict])]
                store.put_verdicts(answer.attempt.id, verdicts, reason is None, reason, at)
            if answer.attempt.accepted is not (reason is None):
                changed[answer.question_id] = answer
        for question_id, answer in changed.items():
            status = _status(store, config, answer.question, question_id)
            if status != answer.question_status:
                store.close_question(question_id, status)
                judged.statuses[f"{answer.question_status} → {status}"] += 1


def _waits_for_others(answer: StoredAnswer) -> bool:
    return judged_together(answer.question) and unfinished(answer.reply) is None


def _rule_together(
    store: Store, config: Mapping[str, Any], answers: list[StoredAnswer], judge: CheckPool, judged: Judged
) -> list[tuple[StoredAnswer, list[Judgement]]]:
    """An answer of each question that is judged as a whole now, with the rulings on all of its answers."""
    share, filters = Checks.model_validate(config["checks"]).majority, _filters_of(config)
    found = []
    for question_id, of_one in groupby(answers, key=lambda answer: answer.question_id):
        first, *rest = of_one
        if not config.get("imported") and _step(store, config, first.question, question_id).asks:
            judged.waiting += 1 + len(rest)
            continue
        judged.judged += 1 + len(rest)
        if question_id > judged.together_to:
            judged.together_to = question_id
            said = rule_together(first.question, store.answers_of(question_id), judge, share)
            ruled = {r.attempt_id: r for r in said}
            attempts = {a.id: a for a in store.attempts_of(question_id)}
            for attempt_id, reply in store.answers_of(question_id):
                if also := ruled[attempt_id].accepted and filters(attempts[attempt_id], first.question, reply):
                    ruled[attempt_id] = with_required(ruled[attempt_id], also)
            found.append((first, list(ruled.values())))
    return found


def _filters_of(config: Mapping[str, Any]) -> Callable[[Attempt, Question, Reply], list[Verdict]]:
    """What the filters that the run requires say of an accepted attempt; nothing where it requires none."""
    required, imported = required_by(config), bool(config.get("imported"))
    prompt = prompts.parse(config["prompt_text"], "", "the run's prompt") if required else None

    def verdicts(attempt: Attempt, question: Question, reply: Reply) -> list[Verdict]:
        if prompt is None or attempt.teacher == STUDENT:
            return []
        return required.verdicts(candidate_of(attempt.id, attempt.sample, question, reply, prompt, imported=imported))

    return verdicts


def _reason(answer: StoredAnswer, verdict: Verdict | None, opinion: tuple[str, str] | None) -> str | None:
    """Why an attempt is not accepted, or None where it is. A judging model's opinion holds while the rules say what
    they said when it was asked."""
    if verdict is None:
        return unfinished(answer.reply)
    if verdict.passed or opinion == (verdict.outcome.value, Outcome.RIGHT.value):
        return None
    return verdict.outcome.value if has_gold(answer.question) else NO_GOLD


def _status(store: Store, config: Mapping[str, Any], question: Question, question_id: int) -> str:
    """Of a question whose attempts were judged anew: what the plan of its run says, which may ask again. An imported
    run asks nobody."""
    if config.get("imported"):
        return "solved" if store.has_accepted(question_id) else "given_up"
    return _step(store, config, question, question_id).ended or "open"


def _step(store: Store, config: Mapping[str, Any], question: Question, question_id: int) -> Step:
    attempts = store.attempts_of(question_id)
    return next_step(attempts, rules_of(config), together=judged_together(question), question_id=question.id)


def in_words(said: Mapping[str, Any]) -> Iterator[str]:
    """What `changes_of` says, for people."""
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
    """One line of a table, whatever a question's name holds."""
    return one_line(text.replace("_", " ").replace("|", " "))
