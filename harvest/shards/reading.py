"""Reads one file of an export: judges its answers if that is wanted, and makes the sketches of selection."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from harvest.checks import CHECKS, ROW_RULES, CheckPool
from harvest.core.errors import InputError
from harvest.core.foreign_json import Json, as_dict, as_list, as_text
from harvest.core.nouns import HUMAN, Candidate, Question, Verdict, content_hash
from harvest.endpoint import prompt as prompts
from harvest.proof.kinds import known_of
from harvest.proof.withdrawal import withdrawal_of
from harvest.questions.files import Records
from harvest.questions.rows import BadRow, has_gold, judged_together, question_of
from harvest.questions.sources import read_rows
from harvest.selection.decontamination import Evaluation, evaluations_of
from harvest.selection.sketch_maker import answer_sketch, question_sketches
from harvest.selection.sketches import ATTEMPT, Notes
from harvest.shards.files import ROWS_A_FILE, FileRead, write_read
from harvest.shards.job import ShardsJob
from harvest.store import JUDGED_WHOLE

CHECKS_AHEAD = 256
"""How many answers are given to the checks before the first verdict is waited for."""
NOT_JUDGED_AGAIN = (HUMAN, "judge", "majority")
"""Answers with one of these verdicts keep their judgement: a person, a model or other answers decided."""


@dataclass(frozen=True, slots=True)
class ReadRow:
    """One row of an export, as selection and checks read it."""

    row: Json
    candidate: Candidate
    is_accepted: bool
    reason: str | None


def read_file(job: ShardsJob, rank: int) -> None:
    """Reads the export's file number `rank`, and writes what is remembered of it."""
    path, first = Path(job.files[rank]), rank * ROWS_A_FILE
    evaluations = _evaluations(job.select.against, job.base, tuple(job.select.against_columns.items()))
    answers, tokens, asked, notes = [], [], [], Notes()
    questions: dict[bytes, tuple[int, Question]] = {}
    index: dict[bytes, int] = {}
    rows, is_withdrawn = 0, withdrawal_of(job.select.without, Path(job.base))
    with ExitStack() as opened:
        known = _known_questions(path, job) if job.questions else {}
        read = rows_of(path, first, known)
        judged: list[Json | None] = []
        if job.judges:
            checks = opened.enter_context(CheckPool(workers=1, unsafe_code=job.unsafe_code))
            read = _judged(read, checks, judged)
        for one in read:
            rows += 1
            if not (one.is_accepted or (job.select.pool == "all" and one.reason in JUDGED_WHOLE)):
                continue
            if is_withdrawn({**known_of(one.row), "attempt": None}):
                continue
            candidate, question = one.candidate, one.candidate.question
            answers.append(answer_sketch(candidate, job.filters, notes))
            tokens.append(-1 if candidate.output_tokens is None else candidate.output_tokens)
            # Two runs may call two questions by one id.
            key = bytes.fromhex(content_hash([question.id, prompts.text_of(question), question.answer])[7:39])
            asked.append(index.setdefault(key, len(index)))
            questions.setdefault(key, (candidate.attempt_id, question))
    sketches, more = question_sketches(questions.values(), evaluations)
    write_read(
        job.read_folder, rank,
        FileRead(
            rows, np.array(answers, ATTEMPT), np.array(tokens, np.int64), np.array(asked, np.int64),
            np.frombuffer(b"".join(questions), "<u8").reshape(-1, 2), sketches, notes, more,
            judged if job.judges else None,
        ),
        [question for _, question in questions.values()],
    )  # fmt: skip


def rows_of(path: Path, first_id: int, known: Mapping[str, Question]) -> Iterator[ReadRow]:
    """Gives the rows of an export's file. The first row has the id `first_id`. `known` has questions by their ids.

    Raises InputError, with file and row, when a row is none of an export with all columns.
    """
    for n, record in enumerate(Records(path, exact=False)):
        if isinstance(record.value, BadRow):
            raise InputError(f"{record.where}: {record.value}")
        row = record.value
        if "question_id" not in row or "answer" not in row or "accepted" not in row:
            raise InputError(
                f"{record.where}: no row of `harvest export --columns all`: question_id, answer or accepted is missing"
            )
        if n >= ROWS_A_FILE:
            raise InputError(f"{path}: has more than {ROWS_A_FILE:,} rows: export with a smaller --shard-mb")
        try:
            yield _read(row, first_id + n, known)
        except BadRow as e:
            raise InputError(f"{record.where}: {e}") from None


def _read(row: Json, row_id: int, known: Mapping[str, Question]) -> ReadRow:
    question = known.get(str(row["question_id"])) or _question(row)
    usage, sample = as_dict(row.get("usage")), row.get("sample")
    asked = tuple(
        {"role": str(m.get("role")), "content": as_text(m.get("content")) or ""}
        for m in map(as_dict, as_list(row.get("messages") or row.get("prompt")))
        if m.get("role") in ("system", "user")
    )
    counts = {name: usage.get(name) for name in ("reasoning_tokens", "output_tokens")}
    candidate = Candidate(
        row_id, sample if isinstance(sample, int) else 0, question, asked, as_text(row.get("reasoning")),
        as_text(row["answer"]) or "", **{k: v if isinstance(v, int) else None for k, v in counts.items()},
    )  # fmt: skip
    return ReadRow(row, candidate, bool(row["accepted"]), as_text(row.get("reason")))


def _question(row: Json) -> Question:
    """Returns the question of a row. Its check is the one that judged the row."""
    named = ("question", "domain", "source", "licence", "difficulty")
    data = {name: row.get(name) for name in named} | {"id": row["question_id"], "answer": row.get("gold")}
    said = [as_dict(v).get("check") for v in as_list(row.get("verdicts"))]
    check = next((str(name) for name in reversed(said) if name in CHECKS), None)
    if check is not None:
        return Question.model_validate({k: None if v is None else str(v) for k, v in data.items()} | {"check": check})
    return question_of(data, ROW_RULES, needs_gold=False)


# ---- judging


def _judged(read: Iterator[ReadRow], checks: CheckPool, judged: list[Json | None]) -> Iterator[ReadRow]:
    """Gives the rows as today's checks judge them. Adds to `judged` what is new of each row, or None."""
    begun: deque[tuple[ReadRow, Callable[[], Verdict] | None]] = deque()

    def ended() -> ReadRow:
        one, waiting = begun.popleft()
        if waiting is None:
            judged.append(None)
            return one
        said = waiting()
        reason = None if said.passed else said.outcome.value
        verdict = {name: getattr(said, name) for name in ("check", "version", "passed", "detail", "share")}
        judged.append({"accepted": said.passed, "reason": reason, "verdict": verdict})
        return ReadRow(one.row, one.candidate, said.passed, reason)

    for one in read:
        begun.append((one, _begun(one, checks)))
        if len(begun) > CHECKS_AHEAD:
            yield ended()
    while begun:
        yield ended()


def _begun(one: ReadRow, checks: CheckPool) -> Callable[[], Verdict] | None:
    """Begins to check the answer of a row. Returns None if the row keeps its judgement."""
    question = one.candidate.question
    by = {as_dict(v).get("check") for v in as_list(one.row.get("verdicts"))}
    whole = one.is_accepted or one.reason in JUDGED_WHOLE
    if not whole or by & set(NOT_JUDGED_AGAIN) or question.check not in CHECKS:
        return None
    if judged_together(question) or not has_gold(question):
        return None
    return checks.begin(question, one.candidate.answer)


def _known_questions(path: Path, job: ShardsJob) -> dict[str, Question]:
    """Returns those questions of the sources that the export's file has rows of, by their ids."""
    wanted = {str(r.value.get("question_id")) for r in Records(path, exact=False) if not isinstance(r.value, BadRow)}
    rows = (q for name in job.questions for _, q in read_rows(name, Path(job.base), ROW_RULES, without_gold="majority"))
    return {q.id: q for q in rows if q.id in wanted}


@lru_cache(maxsize=1)
def _evaluations(against: tuple[str, ...], base: str, columns: tuple[tuple[str, str], ...]) -> list[Evaluation]:
    return evaluations_of(against, Path(base), dict(columns))
