"""Verifies a run: judges stored answers that were never judged, or judges all stored answers again with today's checks.

No teacher is asked. Verdicts are added, never changed. The newest verdicts decide an attempt's judgement, and the
judgements decide whether a question is solved, given up or open. Each page of answers is written as a whole, so the
next start goes on where one start stopped.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any, Protocol

from harvest.checks import CHECKS, CheckPool, gold_problems
from harvest.core.clock import now
from harvest.core.nouns import FILTER_REASONS, Ask, Attempt, Judgement, Outcome, Question, Reply, Verdict
from harvest.endpoint import prompt as prompts
from harvest.filters.required import required_by
from harvest.judging import model_rewriting
from harvest.judging.acceptance import NO_GOLD, Acceptance, Opinion, unfinished
from harvest.questions.rows import has_gold, judged_together
from harvest.store import JudgedBy, Store, StoredAnswer, StoredRun

PAGE = 256
PAGE_BYTES = 4_000_000
"""How many bytes the packed replies of a page may have. The answer that exceeds this is still part of the page."""
PAGES_AHEAD = 2
"""How many pages are being checked while an earlier page is written."""
BEGUN, ENDED = "verify", "verified"
"""The kinds of the store's events at the beginning and at the end of one verification."""

Waiting = Callable[[], Verdict]
"""A function that waits for a check that was begun, and returns its verdict."""


@dataclass(frozen=True, slots=True)
class Begun:
    """Two checks that are under way: of an answer as it came, and of a model's rewriting of it if there is one."""

    answer: Waiting
    rewriting: Reply | None = None
    fault: str | None = None
    """Why the rewriting is refused without a check."""
    rewritten: Waiting | None = None


class Step(Protocol):
    """What a run's plan wants for one question."""

    @property
    def asks(self) -> Sequence[Ask]:
        """Returns the attempts that are still to be bought."""

    @property
    def ended(self) -> str | None:
        """Returns how the question ended; None if it has not ended."""


NextStep = Callable[[Question, Sequence[Attempt]], Step]
"""A function that returns a question's next step from its attempts. (The room `asking` passes it in.)"""


@dataclass(slots=True)
class Counts:
    """Counts what one start of a verification has done."""

    total: int = 0
    seen: int = 0
    judged: int = 0
    set_aside: int = 0
    """How many answers are unfinished, so that no check judged them."""
    no_check: int = 0
    """How many answers were left unchanged, because their question's check no longer exists."""
    no_gold: int = 0
    bad_gold: int = 0
    """How many answers belong to a question whose gold answer fails its own check."""
    waiting: int = 0
    """How many answers wait for further answers to their question, since all of them are judged together."""
    together_to: int = 0
    """The row of the last question whose answers were judged together. Later pages may hold more of its answers, which
    are not judged once more."""
    statuses: Counter[str] = field(default_factory=Counter)
    """How many questions changed their status, by "before → after"."""


@dataclass(frozen=True, slots=True)
class Verification:
    """Describes one verification: all answers of a run are judged, in one start or in several."""

    versions: Mapping[str, str]
    """The version of each of today's checks, by the check's name."""
    required: Mapping[str, str]
    """The version of each filter that the run requires, by the filter's name."""
    since: int
    """The id of the newest verdict when the verification began. Its own verdicts have larger ids."""
    again: bool
    """Whether answers that today's checks have judged already are judged again."""
    before: Mapping[str, Any]
    """How many attempts were accepted, and how many questions had each status, when the verification began."""

    @property
    def newer_than(self) -> int:
        """Returns a verdict's id, or 0. An attempt counts as judged if it has a verdict with a larger id."""
        return self.since if self.again else 0


def versions_today() -> dict[str, str]:
    """Maps each check's name to its version."""
    return {name: check.version for name, check in CHECKS.items()}


def begin_verification(store: Store, run_id: int, *, again: bool) -> Verification:
    """Returns the run's unfinished verification if it was begun with the same checks, filters and `again` as this one.
    Otherwise ends the unfinished one and begins a new one."""
    versions, required = versions_today(), required_by(store.run(run_id).config).versions
    begun, ended = store.events(run_id, BEGUN), store.events(run_id, ENDED)
    if len(begun) > len(ended):
        last = begun[-1]
        if (last["versions"], last.get("required", {}), last["again"]) == (versions, required, again):
            return Verification(versions, required, last["since"], again, last["before"])
        with store.transaction():
            store.add_event(run_id, ENDED, {"abandoned": True}, now())
    fresh = Verification(versions, required, store.newest_verdict(), again, standing(store, run_id))
    data = {"versions": versions, "required": required, "since": fresh.since, "again": again, "before": fresh.before}
    with store.transaction():
        store.add_event(run_id, BEGUN, data, now())
    return fresh


def end_verification(store: Store, run_id: int, changes: Mapping[str, Any]) -> None:
    """Notes that the verification is over, and what it changed. Without this, the next start goes on with it."""
    with store.transaction():
        store.add_event(run_id, ENDED, dict(changes), now())


def standing(store: Store, run_id: int) -> dict[str, Any]:
    """Returns how many attempts of a run are accepted, and how many questions have each status."""
    return {"accepted": store.counts(run_id)["accepted"], "questions": store.question_statuses(run_id)}


class Verifier:
    """Judges the stored answers of one run."""

    def __init__(
        self, store: Store, run_id: int, checks: CheckPool, next_step: NextStep, counts: Counts,
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        """`warn` is called with a message about each gold answer that fails its own check."""
        self._store, self._run_id, self._checks = store, run_id, checks
        self._next_step, self._counts, self._warn = next_step, counts, warn
        run = store.run(run_id)
        self._acceptance, self._rewrite = acceptance_of(run), run.config.rewrite.model
        self._gold: dict[int, str | None] = {}

    def judge(self, verification: Verification | None, on_page: Callable[[], None]) -> None:
        """Judges the answers that the verification has not judged yet; if it is None, the answers that were never
        judged. `on_page` is called after each page."""
        v = verification
        judged_by = None if v is None else JudgedBy(v.versions, v.required, FILTER_REASONS, v.newer_than)
        self._counts.total = self._store.count_stored_answers(self._run_id, judged_by)
        begun: deque[list[tuple[StoredAnswer, Begun | None]]] = deque()
        for page in self._pages(judged_by):
            self._check_gold(page)
            rewritings = self._rewritings(page)
            begun.append([(answer, self._begin(answer, rewritings.get(answer.attempt.id))) for answer in page])
            if len(begun) > PAGES_AHEAD:
                self._write(begun.popleft())
                on_page()
        while begun:
            self._write(begun.popleft())
            on_page()

    def _pages(self, unless: JudgedBy | None) -> Iterator[list[StoredAnswer]]:
        last = None
        while page := self._store.stored_answers(self._run_id, unless, after=last, limit=PAGE, most_bytes=PAGE_BYTES):
            last = page[-1]
            yield page

    def _check_gold(self, page: list[StoredAnswer]) -> None:
        """Finds what is wrong with the gold answer of each question of a page, and warns of each new problem."""
        questions = {a.question_id: a.question for a in page if a.question.check in CHECKS and has_gold(a.question)}
        new = {i: q for i, q in questions.items() if i not in self._gold}
        found = dict(zip(new, gold_problems(new.values(), self._checks), strict=True))
        for i, problem in found.items():
            if problem is not None:
                self._warn(f"question {new[i].id[:200]!r}: {problem}")
        self._gold = {i: found[i] if i in found else self._gold[i] for i in questions}
        self._counts.bad_gold += sum(self._gold.get(answer.question_id) is not None for answer in page)

    def _rewritings(self, page: list[StoredAnswer]) -> dict[int, Reply]:
        """Maps the id of each attempt of a page that the run's rewriting model rewrote to the rewriting."""
        return self._store.rewritings([a.attempt.id for a in page], kept=False) if self._rewrite is not None else {}

    def _begin(self, answer: StoredAnswer, rewriting: Reply | None) -> Begun | None:
        """Begins to check an answer. Returns None if there is no verdict to wait for."""
        question = answer.question
        if unfinished(answer.reply) is not None or question.check not in CHECKS or judged_together(question):
            return None
        problem = self._gold.get(answer.question_id)
        if problem is None and has_gold(question):
            began = Begun(self._checks.begin(question, answer.reply.answer), rewriting)
            if rewriting is None:
                return began
            candidate = self._acceptance.candidate(answer.attempt, question, answer.reply)
            if (fault := model_rewriting.fault(candidate, rewriting)) is not None:
                return replace(began, fault=fault)
            text = model_rewriting.applied(candidate, rewriting).answer
            return replace(began, rewritten=self._checks.begin(question, text))
        words = problem or "there is no gold answer to judge by"
        verdict = Verdict(question.check, CHECKS[question.check].version, Outcome.ERROR, words)
        return Begun(lambda: verdict)

    def _said(self, begun: Begun | None) -> tuple[list[Verdict], Reply | None]:
        """Waits for the checks of an answer. Returns (the verdicts, the rewriting if it is trained on)."""
        if begun is None:
            return [], None
        by_check = begun.answer()
        if begun.rewriting is None or self._rewrite is None:
            return [by_check], None
        checked = None if begun.rewritten is None else begun.rewritten()
        if not by_check.passed and by_check.outcome is not Outcome.NO_ANSWER:
            return [by_check], None  # a rewriting makes no wrong answer right
        model = self._rewrite.model or self._rewrite.local or ""
        verdict = model_rewriting.verdict(model, begun.fault, checked)
        return [by_check, verdict], begun.rewriting if verdict.passed else None

    def _write(self, page: list[tuple[StoredAnswer, Begun | None]]) -> None:
        """Waits for the verdicts of a page, and writes the judgements."""
        alone = [(answer, begun) for answer, begun in page if not _waits_for_others(answer)]
        verdicts = [(answer, *self._said(begun)) for answer, begun in alone]
        together = self._judge_together([answer for answer, _ in page if _waits_for_others(answer)])
        opinions = self._store.opinions(answer.attempt.id for answer, _ in alone)
        marks = self._store.marks(answer.attempt.id for answer, _ in alone)
        at = now()
        changed: dict[int, StoredAnswer] = {}
        self._counts.seen += len(page)
        with self._store.transaction():
            for answer, judgements in together:
                self._store.put_judgements(judgements, at)
                changed[answer.question_id] = answer
            for answer, said, rewriting in verdicts:
                attempt_id = answer.attempt.id
                if self._write_one(answer, said, rewriting, opinions.get(attempt_id), marks.get(attempt_id), at):
                    changed[answer.question_id] = answer
            for question_id, answer in changed.items():
                self._write_status(question_id, answer)

    def _write_one(
        self, answer: StoredAnswer, said: list[Verdict], rewriting: Reply | None, opinion: tuple[str, str] | None,
        mark: Verdict | None, at: str,
    ) -> bool:  # fmt: skip
        """Writes the judgement of one answer. Returns whether the answer's acceptance changed."""
        if not said and answer.question.check not in CHECKS and unfinished(answer.reply) is None:
            self._counts.no_check += 1
            return False
        earlier = None if opinion is None else Opinion(Outcome(opinion[0]), Outcome(opinion[1]))
        judgement = self._acceptance.judgement(
            answer.attempt, answer.question, answer.reply, said, earlier, mark, rewriting
        )
        self._counts.set_aside += not said
        self._counts.judged += bool(said)
        self._counts.no_gold += judgement.reason == NO_GOLD
        if said or (answer.attempt.accepted, answer.attempt.reason) != (False, judgement.reason):
            self._store.put_judgements([judgement], at)
        return answer.attempt.accepted is not judgement.accepted

    def _judge_together(self, answers: list[StoredAnswer]) -> list[tuple[StoredAnswer, list[Judgement]]]:
        """Judges together the answers to each question that has all its answers. Returns (one answer, all judgements)
        for each such question."""
        found = []
        for question_id, of_one in groupby(answers, key=lambda answer: answer.question_id):
            first, *rest = of_one
            attempts = self._store.attempts_of(question_id)
            if self._next_step(first.question, attempts).asks:
                self._counts.waiting += 1 + len(rest)
                continue
            self._counts.judged += 1 + len(rest)
            if question_id > self._counts.together_to:
                self._counts.together_to = question_id
                answers_of_it = partial(self._store.answers_of, question_id)
                judgements = self._acceptance.judgements_together(
                    {a.id: a for a in attempts}, first.question, answers_of_it, self._checks,
                    self._store.marks(a.id for a in attempts),
                )  # fmt: skip
                found.append((first, list(judgements.values())))
        return found

    def _write_status(self, question_id: int, answer: StoredAnswer) -> None:
        """Writes a question's status (solved, given up or open) after its attempts were judged anew. The plan decides
        it."""
        status = self._next_step(answer.question, self._store.attempts_of(question_id)).ended or "open"
        if status != answer.question_status:
            self._store.close_question(question_id, status)
            self._counts.statuses[f"{answer.question_status} → {status}"] += 1


def acceptance_of(run: StoredRun) -> Acceptance:
    """Returns what a stored run demands of answers."""
    prompt = prompts.parse(run.prompt_text, "", "the run's prompt")
    return Acceptance(required_by(run.config), prompt, run.config.checks.majority, imported=run.imported)


def _waits_for_others(answer: StoredAnswer) -> bool:
    return judged_together(answer.question) and unfinished(answer.reply) is None
