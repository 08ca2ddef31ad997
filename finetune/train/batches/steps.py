"""Which rows share a step, and which process takes which of them: the same rows a step however many processes run."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Split:
    """How the rows of one step go through the student: `micro` at a time, `accumulated` times, on each of
    `processes`, of which this is number `rank`."""

    micro: int
    accumulated: int
    processes: int = 1
    rank: int = 0


def divided(traces_per_step: int, most: int, processes: int) -> tuple[int, int]:
    """(rows at a time in each process, how many times): of at most `most` rows, as few times as go up evenly."""
    share = ceil(traces_per_step / processes)
    micro = max(d for d in range(1, share + 1) if share % d == 0 and d <= max(1, most))
    return micro, share // micro


class Steps(Sampler[list[int]]):
    """The rows of one process, a list for each time that some go through the student.

    Rows come in the order of `seed` and epoch, whatever the number of processes; within a step the longest first, so
    that little is padded and the processes wait little for each other. Which rows share a step is left to chance: it
    is the order within, which the gradient does not see.

    Every process gets as many lists as the others, as it must wait for them. Where rows run out, in an epoch's last
    step, the list is `[filler]`: the number of a row without a trained token.
    """

    def __init__(self, lengths: Sequence[int], traces_per_step: int, seed: int, split: Split) -> None:
        self.lengths, self.traces_per_step, self.seed, self.split, self.epoch = lengths, traces_per_step, seed, split, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @property
    def filler(self) -> int:
        return len(self.lengths)

    @property
    def at_once(self) -> int:
        """Rows that all processes together take at a time."""
        return self.split.micro * self.split.processes

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.traces_per_step)
        return whole * self.split.accumulated + ceil(rest / self.at_once)

    def steps(self) -> Iterator[list[int]]:
        """The rows of each step of this epoch, the same in every process."""
        order = list(range(len(self.lengths)))
        # Seeded by text: the same everywhere, and no number of one epoch meets another seed's.
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        for at in range(0, len(order), self.traces_per_step):
            yield sorted(order[at : at + self.traces_per_step], key=lambda i: -self.lengths[i])

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.steps():
            for at in range(0, len(rows), self.at_once):
                mine = rows[at : at + self.at_once][self.split.rank :: self.split.processes]
                yield mine or [self.filler]
