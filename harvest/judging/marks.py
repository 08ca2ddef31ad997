"""Takes people's marks into the store: each becomes a verdict of the check `human`, and judges its answer anew.

A mark waits in a file beside the store (harvest/store/writing/waiting_marks.py) until a process that writes to the
store takes it in. It is taken in once, however often a process dies meanwhile.
"""

from collections.abc import Callable

from harvest.core.nouns import HUMAN, Judgement, Verdict
from harvest.judging import model_judge, model_rewriting
from harvest.judging.acceptance import DECIDING, Opinion, marked, unfinished
from harvest.judging.verification import NextStep, acceptance_of
from harvest.questions.rows import judged_together
from harvest.store import Mark, MarkedAnswer, Store, StoredRun, WaitingMarks

VERSION = "1"


def take_in_marks(
    store: Store, next_step_of: Callable[[StoredRun], NextStep], say: Callable[[str], None] = lambda _: None
) -> int:
    """Takes in the people's marks that wait beside the store. Returns how many it took in.

    The store must be open for writing. Marks that fit no answer are put into a file, and `say` gets a warning that
    names the file. Raises StoreUnusable when the store cannot be written; all marks then stay where they wait.
    """
    waiting = WaitingMarks(store.path)
    taken = 0
    if not waiting.path.exists():
        return 0
    with waiting.taken() as (marks, refused), store.transaction():
        for mark in marks:
            found = store.marked_answer(mark.attempt_id, mark.key)
            if found is None:
                refused.append(mark)
            elif mark.at not in found.marked_at:  # a process that died may have taken it in already
                _put(store, found, mark, next_step_of)
                taken += 1
    if refused:
        say(f"warning: {len(refused)} marks fit no answer of {store.words}; they are in {waiting.refused}")
    return taken


def standing_with(found: MarkedAnswer, mark: Mark, run: StoredRun) -> tuple[bool | None, str | None]:
    """Returns (accepted, reason) of an answer with a new mark. `accepted` is None if the mark leaves the decision to a
    check that has not judged the answer."""
    answer = found.answer
    attempt, verdict = answer.attempt, Verdict(HUMAN, VERSION, mark.outcome, mark.note)
    if reason := unfinished(answer.reply):
        return False, reason
    if mark.outcome in DECIDING:
        judgement = marked(Judgement(attempt.id, (), None), verdict)
        return judgement.accepted, judgement.reason
    before = found.newest.get(HUMAN)
    if before is None or before.outcome not in DECIDING:
        return attempt.accepted, attempt.reason
    return _by_checks(found, run)


def _by_checks(found: MarkedAnswer, run: StoredRun) -> tuple[bool | None, str | None]:
    """Returns (accepted, reason) by the newest stored verdicts of the checks. All answers to a question that are judged
    together wait for the next judging, since one alone says nothing."""
    answer, question = found.answer, found.answer.question
    by_check = found.newest.get(question.check)
    if by_check is None or judged_together(question):
        return None, None
    by_model = found.newest.get(model_judge.NAME)
    opinion = None if by_model is None else Opinion(by_check.outcome, by_model.outcome)
    said, rewriting = [by_check], None
    if run.config.rewrite.model is not None and found.rewriting is not None:
        said, rewriting = [by_check, found.newest[model_rewriting.NAME]], found.rewriting
    judgement = acceptance_of(run).judgement(answer.attempt, question, answer.reply, said, opinion, rewriting=rewriting)
    return judgement.accepted, judgement.reason


def _put(store: Store, found: MarkedAnswer, mark: Mark, next_step_of: Callable[[StoredRun], NextStep]) -> None:
    """Writes one mark, the judgement that follows from it, and what becomes of the question."""
    answer, run = found.answer, store.run(found.run_id)
    accepted, reason = standing_with(found, mark, run)
    store.put_mark(answer.attempt.id, Verdict(HUMAN, VERSION, mark.outcome, mark.note), accepted, reason, mark.at)
    if accepted is not answer.attempt.accepted:
        status = next_step_of(run)(answer.question, store.attempts_of(answer.question_id)).ended or "open"
        if status != answer.question_status:
            store.close_question(answer.question_id, status)
