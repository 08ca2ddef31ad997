"""Decides which rows share a step, and which process takes which rows.

A step has equal rows for any number of processes.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Split:
    """A split says how the rows of one step go through the student.

    Each of `processes` takes `micro` rows at a time, `accumulated` times. `rank` is the number of this process.
    """

    micro: int
    accumulated: int
    processes: int = 1
    rank: int = 0


def divided(traces_per_step: int, most: int, processes: int) -> tuple[int, int]:
    """Returns (how many rows each process takes at a time, how many times it does so in a step).

    Each process has an equal share of the step's rows. The first number divides that share: it is the largest divisor
    up to `most`, and at least 1.
    """
    share = ceil(traces_per_step / processes)
    micro = max(d for d in range(1, share + 1) if share % d == 0 and d <= max(1, most))
    return micro, share // micro


class Steps(Sampler[list[int]]):
    """Yields the rows of one process, as lists of rows that go through the student at once.

    `seed` and epoch shuffle the rows, equally for any number of processes, so chance decides which rows share a step.
    Within a step the longest rows come first, so that there is little padding and processes wait little for each other;
    the gradient does not depend on that order.

    Every process gets equally many lists, since processes wait for each other. If the rows of an epoch's last step run
    out, the list is `[filler]`, the number of a row without a trained token.
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
        """Returns how many rows all processes together take at a time."""
        return self.split.micro * self.split.processes

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.traces_per_step)
        return whole * self.split.accumulated + ceil(rest / self.at_once)

    def steps(self) -> Iterator[list[int]]:
        """Yields the rows of each step of this epoch, equal in every process."""
        order = list(range(len(self.lengths)))
        # The seed is a text: so no epoch of one seed gets the order of another seed's epoch.
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        for at in range(0, len(order), self.traces_per_step):
            yield sorted(order[at : at + self.traces_per_step], key=lambda i: -self.lengths[i])

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.steps():
            for at in range(0, len(rows), self.at_once):
                mine = rows[at : at + self.at_once][self.split.rank :: self.split.processes]
                yield mine or [self.filler]
