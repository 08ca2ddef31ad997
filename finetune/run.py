"""Finds the winnow run that a training or an evaluation belongs to. Only this file of finetune uses a store."""

import sys
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.note import began_with_of, note_of
from finetune.student import find, identity
from harvest.answers.candidate import asked_under, candidate_of
from harvest.core.clock import now
from harvest.core.config import Export, teachers_of
from harvest.core.errors import StoreUnusable
from harvest.core.files import runs_folder
from harvest.core.nouns import PUBLIC, STUDENT, Question, TokenLogprobs
from harvest.endpoint import Prompt
from harvest.endpoint import prompt as prompts
from harvest.export.layouts import training_part
from harvest.local import MODELS
from harvest.report.run_report import run_report
from harvest.store import ACCURACY_QUOTE, ROUND, BoughtAttempt, Money, Store, StoredRun, StudentScore, is_being_written

WAIT_S = 60.0
"""A writer waits this many seconds for a store that another process is writing to, so that long work is not lost."""
STANDALONE = "evaluations"
"""Evaluations that belong to no run are kept in a run of this name."""


@dataclass(frozen=True, slots=True)
class TeachersAnswer:
    """One answer of a run's teacher, whose row is trained, with the log-probabilities that came with it."""

    row_id: str
    teacher: str
    """The name of the teacher's model."""
    is_embedded: bool
    """Whether the teacher is one of the model table, which ran on the user's machine."""
    temperature: float | None
    """The temperature at which the answer was sampled; None: nobody knows."""
    texts: tuple[str, ...]
    """The chain, where there is one, and the answer."""
    is_rewritten: bool
    """Whether the row has another text, which the newest selection rewrote."""
    logprobs: Sequence[TokenLogprobs]
    """Those of the whole answer, or of its two halves; empty where the endpoint sent none."""


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """One answer of a run's teacher, with what a student's probabilities say of it."""

    attempt_id: int
    question: int
    """The question's row in the store."""
    teacher: int
    """The teacher's index among the run's teachers."""
    accepted: bool
    score: StudentScore


@dataclass(frozen=True, slots=True)
class Run:
    """A run is named by `name`, in the store at `url`. Each method opens the store and closes it again.

    Every method but `put_points` and `report` raises StoreUnusable when the store cannot be used or does not hold the
    run.
    """

    name: str
    url: str

    def check(self) -> None:
        """Raises StoreUnusable when the store is not there or does not hold the run. It creates no store and no run."""
        with self._reading() as store:
            store.run_id(self.name)

    def stored(self) -> StoredRun:
        """Returns the run with its settings."""
        with self._reading() as store:
            return store.run(self.name)

    def teachers_answers(self, row_ids: Container[str]) -> Iterator[TeachersAnswer]:
        """Gives the teachers' answers whose rows in an export have one of these ids."""
        with self._reading() as store:
            run = store.run(self.name)
            prompt, teachers = prompt_of(self), teachers_of(run.settings)
            for a in store.answered_attempts(run.id, "all"):
                if a.row_id not in row_ids or a.teacher == PUBLIC:
                    continue
                teacher = teachers[a.teacher]
                candidate = candidate_of(a.id, a.sample, a.question, a.reply, prompt, imported=run.imported)
                yield TeachersAnswer(
                    a.row_id,
                    teacher["model"] or teacher["local"] or a.reply.served_model or "unknown",
                    bool(teacher["local"]),
                    teacher["sampling"]["temperature"],
                    tuple(text for text in (candidate.reasoning, candidate.answer) if text),
                    bool(a.rewritten),
                    store.token_logprobs(a.id),
                )

    def begin_scoring(self, student: str, weights: str, rendering: str) -> int:
        """Returns the id under which a student's scores of this run are stored (`Store.begin_scoring`)."""
        with self._writing() as store, store.transaction():
            return store.begin_scoring(store.run_id(self.name), student, weights, rendering, now())

    def unscored(self, scoring_id: int, which: str) -> list[int]:
        """Returns the ids of the answers without a score, the longest first. `which` is "accepted" or "all"."""
        with self._reading() as store:
            return store.unscored(store.run_id(self.name), scoring_id, which)

    def put_scores(self, scoring_id: int, scores: Sequence[tuple[int, int, float | None, int | None]]) -> None:
        """Writes the scores of some answers, all or none."""
        with self._writing() as store, store.transaction():
            store.put_scores(scoring_id, scores)

    def scored_answers(self, scoring_id: int) -> list[ScoredAnswer]:
        """Returns the answers that a student has scored, in the order of their ids."""
        with self._reading() as store:
            found = store.listed(store.run_id(self.name))
            place = {attempt_id: n for n, attempt_id in enumerate(found.id)}
            return [
                ScoredAnswer(attempt_id, found.question_id[n], found.teacher[n], bool(found.accepted[n]), score)
                for attempt_id, score in store.student_scores(scoring_id)
                if (n := place.get(attempt_id)) is not None
            ]

    def bought(self, among: Sequence[int]) -> list[BoughtAttempt]:
        """Returns every attempt of the teachers at questions that have ended.

        `among` are the questions that are looked at, by their rows in the store.
        """
        with self._reading() as store:
            run_id = store.run_id(self.name)
            found = store.bought_attempts(run_id, store.ended_among(run_id, among))
            return [b for b in found if b.attempt.teacher != STUDENT]

    def money(self) -> Money:
        """Returns the run's money: its cap, and what is spent and in doubt."""
        with self._reading() as store:
            return store.money(store.run_id(self.name))

    def put_accuracy_quote(self, quote: Mapping[str, Any]) -> None:
        """Writes which accuracy a training on this run is expected to bring."""
        with self._writing() as store, store.transaction():
            store.add_event(store.run_id(self.name), ACCURACY_QUOTE, dict(quote), now())

    def accuracy_quotes(self) -> list[dict[str, Any]]:
        """Returns the newest quoted accuracy for each student and set of questions; none when there is no such run."""
        try:
            with self._reading() as store:
                return store.accuracy_quotes(store.run_id(self.name))
        except StoreUnusable:
            return []

    def put_round(self, block: Mapping[str, Any]) -> None:
        """Writes what a round of a job bought and brought."""
        with self._writing() as store, store.transaction():
            store.add_event(store.run_id(self.name), ROUND, dict(block), now())

    def rounds(self) -> list[dict[str, Any]]:
        """Returns what each finished round of a job bought and brought, in order; none when there is no such run."""
        try:
            with self._reading() as store:
                return store.events(store.run_id(self.name), ROUND)
        except StoreUnusable:
            return []

    def training_rows(self, attempt_ids: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Gives (id, the training part of its row) of each of these answers, in the teacher's own text."""
        with self._reading() as store:
            run, prompt = store.run(self.name), prompt_of(self)
            for a in store.answered_attempts_of(run.id, attempt_ids):
                candidate = candidate_of(a.id, a.sample, a.question, a.reply, prompt, imported=run.imported)
                asked = [*asked_under(run.imported, a.reply), *prompt.student_messages(a.question)]
                yield a.id, training_part(asked, candidate.reasoning, candidate.answer, Export())

    def logprobs_held(self) -> tuple[int, int]:
        """Returns (how many answers of this run have log-probabilities, their bytes in the store)."""
        with self._reading() as store:
            return store.logprobs_held(store.run_id(self.name))

    def trainings(self) -> list[dict[str, Any]]:
        """Returns the report's entry of each training of this run."""
        with self._reading() as store:
            return store.trainings(store.run_id(self.name))

    def put_training(self, key: str, block: Mapping[str, Any], points: Sequence[Mapping[str, Any]] = ()) -> None:
        """Writes the report's entry of a finished training, and the points of its loss curve, into the store."""
        with self._writing() as store:
            store.put_training_points(self.name, key, [dict(p) for p in points])
            store.put_training(self.name, key, dict(block))

    def put_points(self, key: str, points: Sequence[Mapping[str, Any]], since: int | None = None) -> bool:
        """Writes logged steps of an unfinished training. Returns False when another process is writing to the store.

        This method does not wait for the store, since the points are in the training's folder too.
        """
        if is_being_written(self.url):
            return False
        try:
            with Store.open(self.url) as store:
                store.put_training_points(self.name, key, [dict(p) for p in points], since)
        except StoreUnusable:
            return False
        return True

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes an evaluation's settings, and adds `rows` to the stored answers of that evaluation."""
        with self._writing() as store:
            store.put_evaluation(self.name, key, dict(settings))
            store.put_evaluation_answers(self.name, key, [dict(r) for r in rows])

    def answers(self, key: str) -> list[dict[str, Any]]:
        """Returns the stored answers of an evaluation, with their texts."""
        with self._reading() as store:
            return store.evaluation_answers(self.name, key)

    def settings(self, key: str) -> dict[str, Any]:
        """Returns the settings of an evaluation, or {} when there is no such evaluation."""
        with self._reading() as store:
            return store.evaluation_settings(self.name, key)

    def evaluations(self) -> list[dict[str, Any]]:
        """Returns every evaluation of this run with its key, its settings, and its answers without their texts."""
        with self._reading() as store:
            return store.evaluations(store.run_id(self.name))

    def trains_on(self, questions: Sequence[Question]) -> int:
        """Returns how many of these questions the run has traces of, whatever their case and spaces."""
        asked = {" ".join(q.question.split()).casefold() for q in questions}
        with self._reading() as store:
            there = {" ".join(text.split()).casefold() for text in store.accepted_texts(store.run_id(self.name))}
        return len(asked & there)

    def mean_output_tokens(self) -> float | None:
        """Returns the mean number of tokens of the run's accepted traces."""
        with self._reading() as store:
            found: float | None = store.figures(store.run_id(self.name)).mean_output_tokens
            return found

    def report(self) -> dict[str, Any] | None:
        """Returns the run's report, or None when the store cannot be used."""
        try:
            with self._reading() as store:
                return run_report(store.figures(store.run_id(self.name)), live=is_being_written(self.url, self.name))
        except StoreUnusable:
            return None

    def label_befores(self, output: Path) -> None:
        """Labels as "before" the evaluations of the weights that the training in `output` began with.

        Those evaluations were made before the training. An evaluation that has a label already is left alone.
        """
        began_with = began_with_of(output)
        for e in self.evaluations() if began_with else ():
            s = e["settings"]
            if s.get("label") is None and s.get("engine", {}).get("weights") == began_with:
                self.put(e["key"], s | {"label": "before"}, [])

    def _reading(self) -> Store:
        return Store.open(self.url, write=False)

    def _writing(self) -> Store:
        """Opens the store once no other process is writing to it.

        Waits at most WAIT_S seconds for that, then raises StoreUnusable.
        """
        until = time.monotonic() + WAIT_S
        if is_being_written(self.url):
            sys.stderr.write(f"waiting up to {WAIT_S:.0f} s for {self.url}: another process is writing to it\n")
            while is_being_written(self.url) and time.monotonic() < until:
                time.sleep(0.2)
        return Store.open(self.url)


def trained_on(folder: Path) -> Run | None:
    """Returns the run that `finetune sft` noted in a trained student's folder, or None when it noted no run."""
    noted = note_of(folder).get("run")
    return Run(noted["name"], noted["store"]) if noted else None


def standalone() -> Run:
    """Returns the run that keeps evaluations which belong to no run. Its store is separate: no `collect` writes to it.

    The store and the run are created if they do not exist.
    """
    run = Run(STANDALONE, f"sqlite:///{_standalone_store().absolute()}")
    with run._writing() as store:
        if store.find_run(run.name) is None:
            store.put_run(run.name, {}, None, now())
    return run


def _standalone_store() -> Path:
    return runs_folder() / ".evaluations.db"


def standalone_evaluations(folder: Path) -> list[dict[str, Any]]:
    """Returns the evaluations of a trained student that belongs to no run.

    Evaluations of the weights that the training began with come first, then those of the trained weights. The list is
    empty when finetune did not train the student.
    """
    if not note_of(folder).get("training") or not _standalone_store().is_file():
        return []
    evaluations = standalone().evaluations()
    weights = {"before": began_with_of(folder), "after": identity(find(str(folder)))}
    return [
        {**e, "settings": e["settings"] | {"label": label}}
        for label, of in weights.items()
        for e in evaluations
        if of is not None and e["settings"].get("engine", {}).get("weights") == of
    ]


def label_of(student: str, run: Run | None) -> str | None:
    """Returns the label for an evaluation of `student`, which is a folder or a name.

    The label is "before" if a training of `run` began with this student, or if the student is an untrained entry of the
    model table. It is "after" if finetune trained the student. Otherwise it is None, since a comparison with such a
    student would not show what the training gained.
    """
    place = Path(student).resolve()
    trainings = run.trainings() if run is not None else []
    if any(place == Path(t["output"]).resolve() for t in trainings):
        return "after"
    if any(student == t["student"] or place == Path(t["student"]).resolve() for t in trainings):
        return "before"
    if note_of(place):
        return "after"
    table = {n.casefold() for m in MODELS for n in (m.name, *m.aliases)}
    return "before" if student.casefold() in table else None


def prompt_of(run: Run | None) -> Prompt:
    """Returns the run's prompt, so that the student is asked as its teacher was. Without a run it returns `boxed`."""
    stored = run.stored() if run is not None else None
    if stored is not None and stored.prompt_text:
        return prompts.parse(stored.prompt_text, Path(stored.config.prompt).stem, "the run's prompt")
    return prompts.load("boxed")
