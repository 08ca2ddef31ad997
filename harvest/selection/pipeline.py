"""Makes one selection over a whole run: makes missing sketches, goes through the stages, stores the whole outcome.

Each text is read once. Most texts are read while the run is still asking (sketch_pool.py). The remaining texts are read
here, by as many processes as there are cores. Sketches lie in files beside the store, so a selection that was stopped
goes on at its next start.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harvest.core.clock import now
from harvest.core.config import teachers_of
from harvest.core.errors import InputError
from harvest.core.money import CHARACTERS_A_TOKEN
from harvest.core.nouns import PUBLIC, content_hash, licence_of, origin_of
from harvest.filters import versions as filter_versions
from harvest.filters.rewrite import VERSION as REWRITE_VERSION
from harvest.proof.withdrawal import withdrawal_of
from harvest.selection import minhash, near_duplicates, stages
from harvest.selection.candidates import F64, I64, Candidates, Questions, SameQuestion
from harvest.selection.decontamination import Evaluation, evaluations_of
from harvest.selection.sketch_maker import SketchMaker, all_folders, features_of, folders
from harvest.selection.sketch_pool import Batch, Job, SketchPool
from harvest.selection.sketches import Kind, Notes, Sketches, in_a_file, labelled, read_file
from harvest.selection.summary import Summary, outcome_rows, summary
from harvest.store import Store, StoredRun, row_id

BATCH = 1024
IN_THIS_PROCESS = 2 * BATCH
"""If at most this many texts are missing, this process reads them itself and starts no other process."""
PAIRS_AT_ONCE = 4096
Progress = Callable[[float, float | None, str], None]
"""A function that shows progress. It takes (number done, number in all or None, words for the user)."""


@dataclass(slots=True)
class Pool:
    """The answers that a selection is made from, and everything else that decides what is selected."""

    run: StoredRun
    attempt: I64
    question: I64
    """The store's row of each attempt's question."""
    tokens: I64
    """The number of output tokens, or −1 if the endpoint sent no count."""
    surprisal: F64
    """As in Candidates, [n]; NaN everywhere if no setting asks for a student's scores."""
    rsr: F64
    failed: dict[int, float]
    """Maps a question's row to its share of wrong answers (0 to 1). Empty if no setting asks for it."""
    withdrawn: list[int]
    """The ids of the attempts that [select] `without` names."""
    evaluations: Sequence[Evaluation]
    folders: dict[Kind, Path]
    """Maps each kind of sketches to their folder."""
    versions: dict[str, Any]
    key: str
    """A hash of everything above. Selections with the same key have the same outcome."""


def select_run(
    store: Store, run: StoredRun, progress: Progress, *, keep_settings: bool = False, dry_run: bool = False
) -> tuple[Summary, bool]:
    """Makes a selection. Returns (its summary, whether anything has changed since the newest selection of the run).

    If nothing has changed, the stored summary of the newest selection is returned. `keep_settings`: the settings of
    `run` are stored too. `dry_run`: nothing is written into the store.
    Raises InputError when an evaluation cannot be read; this is found before any answer is read. Raises InputError also
    when sketches cannot be written, or when a process that makes them ended early.
    """
    evaluations = evaluations_of(run.config.select.against, run.base, run.config.select.against_columns)
    pool = _pool(store, run, evaluations)
    newest = store.newest_selection(run.id)
    if newest is not None and newest.key == pool.key:
        if keep_settings and not dry_run:
            with store.transaction():
                store.put_settings(run.id, run.settings)
        return newest.said, False  # type: ignore[return-value]  # it was written from a Summary
    attempts, attempt_notes = _sketches(store, pool, "attempts", pool.attempt, progress)
    rows, place = np.unique(pool.question, return_inverse=True)
    sketches, question_notes = _sketches(store, pool, "questions", rows, progress)
    of, questions = _candidates(pool, place, attempts, attempt_notes), _questions(pool, sketches, question_notes)
    settings = run.config.select
    outcome = stages.select(
        of,
        questions,
        settings,
        comparison(store.question_bodies, questions.row),
        lambda words: progress(0, None, words),
    )
    against = {e.name: len(e.questions) for e in evaluations}
    said = summary(of, questions, outcome, attempt_notes, settings, counted=pool.tokens >= 0, against=against)
    if not dry_run:
        progress(0, None, "writing")
        with store.transaction():
            if keep_settings:
                store.put_settings(run.id, run.settings)
            outcomes = outcome_rows(of, outcome, attempt_notes, question_notes, pool.question)
            store.put_selection(run.id, pool.key, _made_by(run, pool.versions), said, outcomes, now())
        _tidy(store, pool)
    return said, True


def _made_by(run: StoredRun, versions: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings and versions that are stored with a selection."""
    config = run.config
    return config.select.model_dump(mode="json") | {
        "versions": versions,
        "filters": config.filters.model_dump(mode="json"),
        "rewrite": config.rewrite.model_dump(mode="json") | {"version": REWRITE_VERSION if config.rewrite.on else None},
    }


def _pool(store: Store, run: StoredRun, evaluations: Sequence[Evaluation]) -> Pool:
    settings = run.config.select
    kind = np.dtype([("attempt", "<i8"), ("question", "<i8"), ("tokens", "<i8")])
    answers = store.selection_pool(run.id, settings.pool)
    found = np.fromiter(((a, q, -1 if t is None else t) for a, q, t in answers), kind)
    withdrawn = _withdrawn(store, run)
    failed = dict(store.failed_shares(run.id)) if settings.min_failed is not None else {}
    surprisal, rsr = _scores(store, run, found["attempt"])
    versions: dict[str, Any] = {
        "select": stages.VERSION, "alike": near_duplicates.VERSION, "minhash": minhash.VERSION,
        "filters": filter_versions(run.config.filters),
    }  # fmt: skip
    places = folders(store, run, evaluations)
    key = content_hash(
        [places["attempts"].name, places["questions"].name, settings.model_dump(mode="json"), versions,
         sorted(failed.items()), withdrawn, content_hash([part.tobytes().hex() for part in (found, surprisal, rsr)])]
    )  # fmt: skip
    columns = found["attempt"], found["question"], found["tokens"], surprisal, rsr
    return Pool(run, *columns, failed, withdrawn, evaluations, places, versions, key)


def _withdrawn(store: Store, run: StoredRun) -> list[int]:
    """Returns the ids of the attempts that [select] `without` names. Raises InputError when it cannot be read."""
    without = run.config.select.without
    if not without:
        return []
    is_withdrawn, teachers = withdrawal_of(without, run.base), teachers_of(run.settings)
    found = []
    for attempt, teacher, body, facts in store.selection_origins(run.id):
        question = json.loads(body)
        if teacher == PUBLIC or run.from_public:
            reply = store.answer_of(attempt)
            public = None if reply is None else origin_of(reply, teacher, from_public=run.from_public)
            asked = None if public is None else public["teacher"]
        else:
            public, asked = None, teachers[teacher]["model"] or teachers[teacher]["local"]
        known = {
            **facts,
            "source": question.get("source"),
            "licence": licence_of(question.get("licence"), public),
            "public": None if public is None else public["set"],
            "question_id": question["id"],
            "teacher": asked or facts["served_model"],
            "id": row_id(facts["attempt"], question["id"]),
        }
        if is_withdrawn(known):
            found.append(attempt)
    return sorted(found)


def _scores(store: Store, run: StoredRun, attempts: I64) -> tuple[F64, F64]:
    """Returns (surprisal, Rank-Surprisal Ratio) of each attempt by the student that [select] names; NaN: no score."""
    surprisal, rsr = np.full(len(attempts), np.nan), np.full(len(attempts), np.nan)
    if run.config.select.takes_scores:
        place = {attempt: n for n, attempt in enumerate(attempts.tolist())}
        for attempt, score in store.student_scores(store.scoring_of(run.id, run.config.select.student)):
            if (n := place.get(attempt)) is not None and score.surprisal is not None:
                surprisal[n] = score.surprisal
                rsr[n] = np.inf if score.rsr is None else score.rsr
    return surprisal, rsr


# ---- sketches


def _sketches(store: Store, pool: Pool, kind: Kind, ids: I64, progress: Progress) -> tuple[Sketches, Notes]:
    """Returns (the sketches of `ids`, in the order of `ids`; all notes of the folder).

    Sketches that are missing are made first. Raises InputError when a sketch cannot be written, or is still missing at
    the end.
    """
    folder = pool.folders[kind]
    order = np.argsort(ids, kind="stable")
    there, notes = np.zeros(len(ids), bool), Notes()

    def take(path: Path) -> None:
        if (read := read_file(path, kind)) is None:
            path.unlink(missing_ok=True)
            return
        sketches, more = read
        notes.add(more)
        if len(ids):
            at = np.searchsorted(ids, sketches["id"], sorter=order)
            at = order[np.where(at < len(ids), at, 0)]
            hit = ids[at] == sketches["id"]
            found[at[hit]], there[at[hit]] = sketches[hit], True

    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = in_a_file(folder, kind, len(ids))
        for path in sorted(folder.glob("*.sketch")):
            take(path)
        missing = np.sort(ids[~there]).tolist()
        batches = [Batch(kind, tuple(missing[at : at + BATCH])) for at in range(0, len(missing), BATCH)]
        for path in _made(store, pool, kind, batches):
            take(path)
            done = len(missing) - int((~there).sum())
            what = "answers" if kind == "attempts" else kind
            progress(done, len(missing), f"{done:,} of {len(missing):,} {what} read")
    except OSError as e:
        raise InputError(f"{e.filename or folder}: cannot be written: {e.strerror}") from None
    if not there.all():
        raise InputError(
            f"{int((~there).sum()):,} of {len(ids):,} {kind} are not read: a process that reads them ended early"
            " (killed, or out of memory). The same command goes on with the others"
        )
    return found, notes


def _made(store: Store, pool: Pool, kind: Kind, batches: list[Batch]) -> Iterator[Path]:
    """Makes the sketches of `batches`. Gives the path of each file as soon as the file is written."""
    if not batches:
        return
    if sum(len(batch.ids) for batch in batches) <= IN_THIS_PROCESS:
        with closing(SketchMaker(store, pool.run, pool.evaluations)) as maker:
            for batch in batches:
                yield maker.make(kind, batch.ids)
        return
    processes = SketchPool(Job(store.url, pool.run.id, pool.run.settings))
    try:
        for batch in batches:
            processes.put(batch)
        yield from (path for path in processes.files() if path is not None)
    finally:
        processes.kill()


def _tidy(store: Store, pool: Pool) -> None:
    """Removes those sketches of this run that were made under other settings than `pool`'s."""
    used = {folder.name for folder in pool.folders.values()}
    for old in all_folders(store).glob(f"{pool.run.id}-*"):
        if old.name not in used:
            shutil.rmtree(old, ignore_errors=True)


# ---- from sketches to candidates and questions


def _candidates(pool: Pool, place: NDArray[np.int64], sketches: Sketches, notes: Notes) -> Candidates:
    """Makes the candidates from their sketches and notes.

    `place`, [n], is the index of each candidate's question in the arrays of `Questions`.
    """
    estimate = np.ceil(sketches["chars"] / CHARACTERS_A_TOKEN).astype(np.int64)
    return Candidates(
        pool.attempt, place, sketches["text"], sketches["signature"], np.where(pool.tokens >= 0, pool.tokens, estimate),
        np.isin(pool.attempt, np.array(sorted(notes.faults), np.int64)), pool.surprisal, pool.rsr,
        np.isin(pool.attempt, np.array(pool.withdrawn, np.int64)),
    )  # fmt: skip


def _questions(pool: Pool, sketches: Sketches, notes: Notes) -> Questions:
    rows = sketches["id"]
    return Questions(
        rows, sketches["text"], sketches["gold"], sketches["numbers"], sketches["many"], sketches["signature"],
        labelled(rows, notes.domain), labelled(rows, notes.difficulty),
        np.isin(rows, np.array(sorted(notes.asked), np.int64)),
        np.array([pool.failed.get(row, np.nan) for row in rows.tolist()], float),
    )  # fmt: skip


def comparison(bodies_of: Callable[[Sequence[int]], Iterable[tuple[int, str]]], rows: I64) -> SameQuestion:
    """Returns the function that compares two questions by their texts.

    `bodies_of` gives (row, question as JSON) of questions by their rows; `rows`, [q], are the rows of all questions.
    """
    features = lru_cache(maxsize=8_192)(features_of)

    def same(pairs: I64, answered_alike: bool) -> Iterator[bool]:
        rule = near_duplicates.same_task if answered_alike else near_duplicates.same_question
        rest = iter(pairs.tolist())
        while page := list(islice(rest, PAIRS_AT_ONCE)):
            bodies = dict(bodies_of(rows[np.unique(page)].tolist()))
            for a, b in page:
                yield rule(features(bodies[int(rows[a])]), features(bodies[int(rows[b])]))

    return same
