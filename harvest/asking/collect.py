"""The loop that ties plan, budget, teachers and checks together.

For each question: what is worth asking and of whom (plan), its worst case reserved (store), one try over the wire
(teacher), settled (store), judged (checks), and again, until the plan says how the question ended.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Protocol

from harvest.answers.candidate import candidate_of
from harvest.asking.answerer import Answerer, Purse, overbilled
from harvest.asking.buy import Settled
from harvest.asking.counters import Counters
from harvest.asking.gate import ByKey, Stopped
from harvest.asking.hooks import OnJudged
from harvest.asking.next_question import Feed
from harvest.asking.pace import Pace
from harvest.asking.plan import BY_STUDENT, next_step, rules_of
from harvest.asking.run import Run
from harvest.asking.second import Second
from harvest.checks import judged_together
from harvest.core.clock import now
from harvest.core.config import called
from harvest.core.errors import CapReached, Overbilled, TeacherRefused, WinnowError
from harvest.core.nouns import STUDENT, Ask, Attempt, Judgement, Question, Reply, Verdict
from harvest.endpoint.client import Teacher, request_body
from harvest.endpoint.reply import cut_short
from harvest.filters.required import required_by
from harvest.judging.ruling import JudgesTogether, rule, rule_together, with_required
from harvest.store import OpenQuestion, Store, Writer

SPARE_QUESTIONS = 32


class Judging(JudgesTogether, Protocol):
    async def check(self, question: Question, answer: str) -> Verdict: ...


Asked = tuple[Run, Teacher, Pace]
"""The run as it asks one alone, over which wire, and what an earlier start found of its limits."""


class Collection:
    """One start of `collect`. `stop` ends the asking, `abandon` also lets go of what is in flight."""

    def __init__(
        self, run: Run, ledger: Writer, asked: Mapping[int, Asked], judge: Judging, counters: Counters,
        on_judged: OnJudged, second: tuple[Run, Teacher] | None = None,
    ) -> None:  # fmt: skip
        """`asked`: who may be asked, by place; `second` the model that is asked about what the checks refuse, if there
        is one."""
        self.run, self.ledger, self.judge, self.counters = run, ledger, judge, counters
        self._on_judged = on_judged
        self._required = required_by(run.config.model_dump())
        self.reason: WinnowError | None = None
        self.interrupted = False
        self._rules = rules_of(run.config)
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_key = ByKey()
        purse = Purse()
        self.answerers = {
            place: Answerer(called(run.config, place), alone, ledger, teacher, pace, purse, counters, self._one_ended)
            for place, (alone, teacher, pace) in asked.items()
        }
        self._feed = Feed(run, ledger, counters)
        self._busy = 0
        self._one_less = asyncio.Event()
        self.second: Second | None = None
        if second is not None and run.config.judge is not None:
            as_judge, model = second
            self.second = Second(as_judge, run.config.judge, ledger, model, self._told_of_opinion, purse.holding)

    def stop(self, reason: WinnowError | None = None) -> None:
        """Asks nothing more; what is in flight is waited for, since it is paid for."""
        if self.reason is None or isinstance(reason, Overbilled):
            self.reason = reason
        if self.second is not None:
            self.second.stop(capped=isinstance(reason, CapReached))
        self._stop.set()
        self.counters.stopping = True
        for answerer in self.answerers.values():
            answerer.stop()

    def interrupt(self) -> None:
        """The user stops it; it can go on."""
        self.interrupted = True
        self.stop()

    def abandon(self) -> None:
        """Lets go of what is in flight: it stays in doubt, in the store."""
        self.stop()
        for task in self._tasks:
            task.cancel()

    def _one_ended(self, answerer: Answerer, reason: WinnowError) -> None:
        """Nothing more can be asked of one. Nobody dearer takes its place: what needs it waits for another start, and
        where every new question does, or nobody is left, asking ends."""
        before = answerer.is_open
        answerer.stop()
        needed = ([STUDENT] if self._rules.student else []) + ([0] if self._rules.mode == "cascade" else [])
        left = any(a.is_open for place, a in self.answerers.items() if place != STUDENT)
        if isinstance(reason, Overbilled) or not left or any(answerer is self.answerers[place] for place in needed):
            self.stop(reason)
        elif before and not self._stop.is_set():  # once, though many of its tries may end so
            self.counters.warnings.append(f"{reason}; the others go on, and what needs it stays open")

    def reason_in_the_end(self) -> WinnowError | None:
        """Why asking stopped, or the gravest reason why one of those who may be asked was asked no more."""
        ended = [a.reason for a in self.answerers.values() if a.reason is not None]
        return self.reason or min(ended, key=lambda e: not isinstance(e, TeacherRefused), default=None)

    async def ask_all(self) -> None:
        """Until every question has ended, or asking has stopped and what was in flight is settled."""
        for question_id, unjudged, attempt, reply in await self.ledger.do(Store.unjudged, self.run.id):
            self._begin(self._judge(question_id, unjudged, attempt, reply))
        await self._all_settled()
        async for question in self._feed.questions(self._all_settled):
            while self._busy >= self._room() and not self._stop.is_set():
                self._one_less.clear()
                await self._or_stop(self._one_less.wait())
            if self._stop.is_set():
                break
            self._begin(self._see_through(question)).add_done_callback(self._take(question))
        await self._all_settled()

    async def _all_settled(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _room(self) -> int:
        """How many questions may be in hand: enough for all that may be in flight, and few where the next is chosen by
        what is learned from these."""
        if self._feed.is_learning:
            return SPARE_QUESTIONS + sum(2 * int(a.pace.limit) for a in self.answerers.values())
        beside = 0 if self.run.config.judge is None else self.run.config.judge.max_concurrency
        return SPARE_QUESTIONS + beside + sum(a.pace.ceiling for a in self.answerers.values())

    def _take(self, question: OpenQuestion) -> Callable[[object], None]:
        """Takes a question in hand; what is returned lets it go."""
        self._busy += 1
        self._feed.taken(question)

        def leave(_: object) -> None:
            self._busy -= 1
            self._feed.left(question)
            self._one_less.set()

        return leave

    async def _or_stop(self, work: Awaitable[Any]) -> None:
        both = {asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())}
        _, rest = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()

    def _begin(self, work: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        task = asyncio.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, object]) -> None:
        """A task of its own, whose end ends the run only where it must."""
        try:
            await work
        except Stopped:
            return
        except WinnowError as e:
            self.stop(e)
        # A worker's boundary: a defect of ours must end the run and be told, not vanish with its task.
        except Exception as e:
            self.stop(WinnowError(f"a defect of winnow's own: {type(e).__name__}: {e}"))
            raise

    async def _see_through(self, question: OpenQuestion) -> None:
        """One question until it ends; by promise until the next wrong answer of a teacher's, when others come first."""
        attempts = {a.id: a for a in question.attempts}
        together = judged_together(question.question)
        asked_a_teacher = False
        while True:
            step = next_step(list(attempts.values()), self._rules, together=together, question_id=question.question.id)
            if step.ended:
                self.ledger.post(Store.close_question, question.id, step.ended)
                self.counters.ended += 1
                self.counters.by_student += step.ended == BY_STUDENT
                return
            if step.judge:
                await self._judge_together(question, attempts)
                continue
            if self._feed.by_promise and asked_a_teacher and not together:
                self._feed.put_back(question)
                return
            asked_a_teacher = asked_a_teacher or any(ask.teacher != STUDENT for ask in step.asks)
            found = await asyncio.gather(*(self._attempt(question, a) for a in step.asks), return_exceptions=True)
            attempts |= {a.id: a for a in found if isinstance(a, Attempt)}
            for a in found:
                if isinstance(a, BaseException):
                    raise a

    async def _attempt(self, question: OpenQuestion, ask: Ask) -> Attempt:
        """One answer bought and judged, or given up. The same content in flight already is waited for."""
        answerer = self.answerers[ask.teacher]
        alone = answerer.run
        messages = alone.prompt.messages(question.question)
        body = request_body(alone.model, messages, alone.config.sampling, ask.sample, ask.max_tokens)
        key = alone.key(body, ask.sample)
        async with self._by_key(key):
            attempt_id, reply, failed = await answerer.buy(question.id, ask, body, key)
        if reply is None:
            return Attempt(attempt_id, ask.sample, ask.max_tokens, "failed", None, failed, ask.teacher)
        answered = Attempt(attempt_id, ask.sample, ask.max_tokens, "answered", teacher=ask.teacher)
        judged = await self._judge(question.id, question.question, answered, reply)
        if judged.accepted is not None:
            self._feed.learned(question, ask.teacher, judged.accepted, reply)
        return judged

    async def _judge(self, question_id: int, question: Question, attempt: Attempt, reply: Reply) -> Attempt:
        """The attempt after the checks, and a teacher's after the second opinion where there is one: written down.
        Left as it is where all answers to the question are judged together, once the last has come."""
        if reason := cut_short(reply):
            ruling = Judgement(attempt.id, (), reason)
        elif judged_together(question):
            return attempt
        else:
            verdicts = [await self.judge.check(question, reply.answer)]
            theirs = attempt.teacher != STUDENT
            if theirs and self.second is not None and self.second.is_asked(question, verdicts[0]):
                opinion = await self.second.opinion(question_id, question, attempt, reply.answer)
                verdicts += [] if opinion is None else [opinion]
            ruling = self._after_filters(rule(attempt.id, verdicts), attempt, question, reply)
        self.ledger.post(Store.put_judgements, [ruling], now())
        if attempt.teacher != STUDENT:
            self.counters.accepted += ruling.accepted
            self.counters.rejected += not ruling.accepted
            self._on_judged(question, attempt, reply, ruling)
        return replace(attempt, accepted=ruling.accepted, reason=ruling.reason)

    async def _judge_together(self, question: OpenQuestion, attempts: dict[int, Attempt]) -> None:
        """Judges all answers to a question, writes down what the check says, and brings the attempts up to it."""
        answers = await self.ledger.do(lambda store: list(store.answers_of(question.id)))
        share = self.run.config.checks.majority
        ruled = await asyncio.to_thread(rule_together, question.question, answers, self.judge, share)
        replies = dict(answers)
        rulings = [
            self._after_filters(r, attempts[r.attempt_id], question.question, replies[r.attempt_id]) for r in ruled
        ]
        self.ledger.post(Store.put_judgements, rulings, now())
        for r in rulings:
            before = attempts[r.attempt_id]
            self.counters.accepted += r.accepted - (before.accepted is True)
            self.counters.rejected += (not r.accepted) - (before.accepted is False)
            attempts[r.attempt_id] = replace(before, accepted=r.accepted, reason=r.reason)
            self._on_judged(question.question, attempts[r.attempt_id], replies[r.attempt_id], r)

    def _after_filters(self, ruling: Judgement, attempt: Attempt, question: Question, reply: Reply) -> Judgement:
        """A teacher's accepted attempt, after the filters that it must pass too."""
        if not self._required or not ruling.accepted or attempt.teacher == STUDENT:
            return ruling
        prompt = self.answerers[attempt.teacher].run.prompt
        candidate = candidate_of(attempt.id, attempt.sample, question, reply, prompt, imported=False)
        return with_required(ruling, self._required.verdicts(candidate))

    def _told_of_opinion(self, settled: Settled) -> None:
        self.counters.spent_pusd += settled.cost_pusd or 0
        if settled.over:
            outcome = settled.outcome
            self.stop(overbilled(outcome if isinstance(outcome, Reply) else outcome.reply))
