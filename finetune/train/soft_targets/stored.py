"""Reads the log-probabilities that a run's store holds as soft targets of rendered rows."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from finetune.recipe import Distill
from finetune.rows.examples import Examples
from finetune.run import Run, TeachersAnswer
from finetune.student import find, load_tokenizer
from finetune.train.soft_targets.alignment import aligned
from finetune.train.soft_targets.table import Given, Numbers, Places, kept
from finetune.train.soft_targets.vocabulary import check_sent, pieces_of, refuse_another
from harvest.core.errors import ConfigError, DatasetError
from harvest.core.nouns import TokenLogprobs


@dataclass(slots=True)
class Stored:
    """Finds the soft targets of rows in the stores of their runs."""

    examples: Examples
    pieces: Sequence[bytes]
    """The bytes of each token of the student."""
    settings: Distill
    without: Counter[str] = field(default_factory=Counter)
    """Why rows have no targets, and how many."""
    teacher_of: dict[int, str] = field(default_factory=dict)
    """Maps a line of the table of examples to the teacher that wrote its text."""
    compared: set[str] = field(default_factory=set)
    """The teachers whose whole tokenizer is the student's."""

    def given(self, runs: Iterable[Run]) -> Iterator[tuple[int, Given | None]]:
        """Gives (line of the table, what its teacher gave) for each row that one of the runs has; None: no targets.

        Raises ConfigError when a teacher has another tokenizer than the student, and when nobody knows whether its
        log-probabilities are from before its temperature.
        """
        lines: dict[str, list[int]] = {}
        for line, row_id in enumerate(self.examples.table["id"].to_pylist()):
            if row_id:
                lines.setdefault(row_id, []).append(line)
        for run in runs:
            for answer in run.teachers_answers(lines):
                for line in lines[answer.row_id]:
                    self.teacher_of[line] = answer.teacher
                    yield line, self._of_row(line, answer)

    def _of_row(self, line: int, answer: TeachersAnswer) -> Given | None:
        if why := _unusable(answer):
            self.without[why] += 1
            return None
        self._check_teacher(answer)
        ids = self.examples.table["ids"][line].as_py()
        begin = self.examples.table["trained"][line].as_py()[-2]
        sampled = np.concatenate([np.frombuffer(half.ids or b"", "<i4") for half in answer.logprobs])
        pairs = aligned(ids, begin, sampled.tolist(), self.pieces, answer.texts)
        at, there = (np.array([p[n] for p in pairs], np.int32) for n in (0, 1))
        found = kept(Given(answer.teacher, at, *_likeliest(answer.logprobs, there)), self.settings.top_k)
        if not len(found.at):
            self.without["the row has other tokens than the teacher wrote"] += 1
            return None
        return found

    def _check_teacher(self, answer: TeachersAnswer) -> None:
        if not answer.is_embedded and answer.temperature != 1 and not self.settings.logprobs_are_raw:
            at = "an unknown temperature" if answer.temperature is None else f"temperature {answer.temperature:g}"
            raise ConfigError(
                f"teacher {answer.teacher!r} was asked at {at}, and nobody knows whether its log-probabilities are from"
                " before that: distill.logprobs_are_raw = true says that they are"
                " (vLLM's and llama.cpp's default); otherwise ask it at temperature 1"
            )
        named = self.settings.tokenizers.get(answer.teacher) or (answer.teacher if answer.is_embedded else None)
        if named is not None and answer.teacher not in self.compared:
            refuse_another(self.pieces, pieces_of(load_tokenizer(find(named))), answer.teacher)
            self.compared.add(answer.teacher)
        for half in answer.logprobs:
            if not half.pieces and named is None:
                raise ConfigError(
                    f"teacher {answer.teacher!r}: its endpoint sent ids of tokens without their text, so nobody knows"
                    " its tokenizer: name it under [distill.tokenizers]"
                )
            check_sent(self.pieces, half.pieces, answer.teacher)


def _unusable(answer: TeachersAnswer) -> str | None:
    """Returns why an answer gives no targets; None: it may give some."""
    if answer.is_rewritten:
        return "the answer was rewritten"
    if not answer.logprobs:
        return "no log-probabilities are stored"
    if not all(half.ids is not None and half.width for half in answer.logprobs):
        return "the endpoint sent no ids of tokens"
    return None


def _likeliest(halves: Sequence[TokenLogprobs], there: Places) -> tuple[Places, Numbers]:
    """Returns (ids, log-probabilities) [M, K] of the most likely tokens at the sampled tokens `there`."""
    width = max(half.width for half in halves)
    ids, logprobs = [], []
    for half in halves:
        shape, room = (half.tokens, half.width), ((0, 0), (0, width - half.width))
        ids.append(np.pad(np.frombuffer(half.top_ids, "<i4").reshape(shape), room, constant_values=-1))
        values = np.frombuffer(half.top_logprobs, "<f2").reshape(shape).astype(np.float32)
        logprobs.append(np.pad(values, room, constant_values=-np.inf))
    return np.concatenate(ids)[there], np.concatenate(logprobs)[there]


def left_out(teacher_of: Mapping[int, str], share: Mapping[str, float], seed: int) -> set[int]:
    """Returns the lines that are left out so that each teacher has its share of the others. `seed` chooses them.

    Raises DatasetError when the teachers that have a share are not those that wrote the rows.
    """
    by_teacher: dict[str, list[int]] = {}
    for line, teacher in sorted(teacher_of.items()):
        by_teacher.setdefault(teacher, []).append(line)
    if by_teacher.keys() != share.keys():
        raise DatasetError(
            f"distill.share names {', '.join(sorted(share))}; the rows are written by"
            f" {', '.join(sorted(by_teacher)) or 'nobody that is known'}: name each of these"
        )
    scale = min(len(lines) / share[teacher] for teacher, lines in by_teacher.items())
    out: set[int] = set()
    for teacher, lines in by_teacher.items():
        wanted = max(1, round(share[teacher] * scale))
        out |= set(lines) - set(random.Random(f"{seed}/{teacher}").sample(lines, wanted))
    return out
