"""Makes the sketches of a run's answers and questions from its store."""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harvest.answers.candidate import candidate_of
from harvest.core.config import Filters, Rewrite
from harvest.core.nouns import Candidate, Question, content_hash
from harvest.endpoint import prompt as prompts
from harvest.filters import first_fault
from harvest.filters import versions as filter_versions
from harvest.filters.rewrite import VERSION as REWRITE_VERSION
from harvest.judging import model_rewriting
from harvest.judging.model_rewriting import applied
from harvest.judging.rewriting import Rewriter
from harvest.judging.verification import versions_today
from harvest.selection import minhash, near_duplicates
from harvest.selection.decontamination import Evaluation, evaluations_of
from harvest.selection.near_duplicates import MANY_NUMBERS, QuestionFeatures
from harvest.selection.sketches import ATTEMPT, FRAMES, QUESTION, Kind, Notes, Sketches, write_file
from harvest.store import Store, StoredRun


class SketchMaker:
    """Makes the sketches of one run, by the settings of that run."""

    def __init__(self, store: Store, run: StoredRun, evaluations: Sequence[Evaluation] | None = None) -> None:
        """Prepares the filters, the rules of rewriting and the evaluations of `run`.

        `evaluations` are those that the run's [select] names. If `evaluations` is None, they are read here.
        """
        self.store, self.filters = store, run.config.filters
        self.prompt = prompts.parse(run.prompt_text, Path(run.config.prompt).stem, "the run's prompt")
        self.imported = run.imported
        self.rewriter, self.has_model = Rewriter(run.config.rewrite.on), run.config.rewrite.model is not None
        self.evaluations = (
            evaluations_of(run.config.select.against, run.base, run.config.select.against_columns)
            if evaluations is None
            else evaluations
        )
        self.folders = folders(store, run, self.evaluations)
        self._question_rows: set[int] = set()

    def close(self) -> None:
        """Ends the process of the checks, if rewriting started such a process."""
        self.rewriter.close()

    def make(self, kind: Kind, ids: Sequence[int]) -> Path:
        """Writes one file with the sketches of these attempts or questions. Returns the path of the file."""
        sketches, notes = self.attempts(ids)[:2] if kind == "attempts" else self.questions(ids)
        return write_file(self.folders[kind], sketches, notes)

    def make_judged(self, attempt_ids: Sequence[int]) -> None:
        """Writes the sketches of these attempts and of their questions.

        Questions whose sketches this maker has written already are left out.
        """
        sketches, notes, questions = self.attempts(attempt_ids)
        if len(sketches):
            write_file(self.folders["attempts"], sketches, notes)
        if new := sorted(questions - self._question_rows):
            self._question_rows.update(new)
            write_file(self.folders["questions"], *self.questions(new))

    def attempts(self, ids: Sequence[int]) -> tuple[Sketches, Notes, set[int]]:
        """Returns (the sketches of these attempts, the notes on them, the rows of their questions in the store)."""
        found: list[tuple[Any, ...]] = []
        notes, rows = Notes(), set()
        rewritings = self.store.rewritings(ids, kept=True) if self.has_model else {}
        for attempt_id, sample, row, body, reply in self.store.selection_texts(ids):
            rows.add(row)
            question = Question.model_validate_json(body)
            candidate = candidate_of(attempt_id, sample, question, reply, self.prompt, imported=self.imported)
            if (rewriting := rewritings.get(attempt_id)) is not None:
                candidate = applied(candidate, rewriting)
                notes.by_model.append(attempt_id)
            candidate, passes = self.rewriter(candidate)
            if passes is not None:
                notes.rewritten[attempt_id] = passes
            found.append(answer_sketch(candidate, self.filters, notes))
        return np.array(found, ATTEMPT), notes, rows

    def questions(self, rows: Sequence[int]) -> tuple[Sketches, Notes]:
        """Returns (the sketches of the questions in these rows of the store, the notes on them)."""
        bodies = self.store.question_bodies(rows)
        return question_sketches(((row, Question.model_validate_json(body)) for row, body in bodies), self.evaluations)


def answer_sketch(candidate: Candidate, filters: Filters, notes: Notes) -> tuple[Any, ...]:
    """Returns the sketch of one answer, in the form of ATTEMPT. A fault that a filter finds goes into `notes`."""
    chain, answer = candidate.reasoning or "", candidate.answer
    length = len(chain) + len(answer)
    if (fault := first_fault(candidate, filters)) is not None:  # no later stage reads its digests
        notes.faults[candidate.attempt_id] = (fault.filter, fault.detail)
        return candidate.attempt_id, 0, length, 0
    return candidate.attempt_id, _digest(chain, answer), length, minhash.of_text(chain, answer)


def question_sketches(
    questions: Iterable[tuple[int, Question]], evaluations: Sequence[Evaluation]
) -> tuple[Sketches, Notes]:
    """Returns (the sketches of questions, each given with its row, the notes on them)."""
    found, notes = [], Notes()
    words: list[list[str]] = []
    for row, question in questions:
        text = prompts.text_of(question)
        features = QuestionFeatures(text, question.answer)
        gold = 0 if features.gold is None else _hash(features.gold)
        numbers = [_hash(sorted(numbers.items())) for _, _, numbers in features.without_frames][:FRAMES]
        numbers += [0] * (FRAMES - len(numbers))
        has_many = features.numbers.total() >= MANY_NUMBERS
        words.append([w for s in features.sentences for w in s if w[0].isalpha()])
        found.append((row, _digest(text)[0], gold, numbers, has_many, 0))
        for label, by_label in ((question.domain, notes.domain), (question.difficulty, notes.difficulty)):
            if label is not None:
                by_label.setdefault(label, []).append(row)
        for evaluation in evaluations:
            if (key := evaluation.asked_in(text, question.answer)) is not None:
                notes.asked[row] = (evaluation.name, key)
                break
    sketches = np.array(found, QUESTION)
    sketches["signature"] = minhash.of_words(words)
    return sketches, notes


def folders(store: Store, run: StoredRun, evaluations: Iterable[Evaluation]) -> dict[Kind, Path]:
    """Maps each kind of sketch to the folder of this run's sketches.

    A folder's name holds a hash of everything that decides what its sketches say, except the texts. So under other
    settings or rules, sketches are made anew in another folder.
    """
    this_run = [run.id, store.run_began(run.id)]
    rules = attempt_rules(run.prompt_sha256, run.config.filters, run.config.rewrite, versions_today())
    asked = content_hash([[e.name, [[key, q.gold, *q.whole] for key, q in e.questions]] for e in evaluations])
    attempts = content_hash([this_run, *rules])[7:23]
    questions = content_hash([this_run, near_duplicates.VERSION, minhash.VERSION, asked])[7:23]
    place = all_folders(store)
    return {"attempts": place / f"{run.id}-a{attempts}", "questions": place / f"{run.id}-q{questions}"}


def all_folders(store: Store) -> Path:
    """Returns the folder beside the store in which the sketches of all runs lie."""
    return Path(f"{store.path.absolute()}.sketches")


def attempt_rules(prompt_sha256: str, filters: Filters, rewrite: Rewrite, checks: Mapping[str, str]) -> list[Any]:
    """Returns everything that decides what an answer's sketch says, except the answer.

    `checks` holds the version of each check. The versions count only if answers are rewritten: another version of a
    check may refuse a rewritten answer that today's version passes.
    """
    rules = [prompt_sha256, filters.model_dump(mode="json"), filter_versions(filters)]
    rules += [rewrite.model_dump(mode="json"), minhash.VERSION]
    rules += [model_rewriting.VERSION] if rewrite.model is not None else []
    return [*rules, REWRITE_VERSION, dict(checks)] if rewrite.on or rewrite.model is not None else rules


def features_of(body: str) -> QuestionFeatures:
    """Returns the features of a stored question. `body` is the question as JSON."""
    question = Question.model_validate_json(body)
    return QuestionFeatures(prompts.text_of(question), question.answer)


def _digest(*texts: str) -> NDArray[np.uint64]:
    """Returns [2]: a digest of texts. Case and spaces do not change the digest."""
    plain = "\0".join(" ".join(t.casefold().split()) for t in texts)
    return np.frombuffer(blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "<u8")


def _hash(value: Any) -> int:
    """Returns a hash of a JSON value, in 64 bits. The hash is never 0."""
    return minhash.hash64(json.dumps(value, ensure_ascii=False)) or 1
