"""Connects the processes of one training, so that they share values, decisions and errors."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harvest.core.errors import InputError, WinnowError
from harvest.core.printable import first_line

CP_SIZE = "PARALLELISM_CONFIG_CP_SIZE"
"""accelerate's launcher spreads the tokens of a row over this many processes (context parallelism)."""
PROCESS_GONE = ("gloo", "NCCL", "nccl", "process group", "Connection closed by peer", "Connection reset by peer")
"""torch's RuntimeError has one of these words when another process is gone. gloo raises a plain RuntimeError, so only
its words tell."""


class Lost(WinnowError):
    """Says that another process of this training is gone. That process has printed why."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of one training.

    Its first process locks the output folder, keeps the state and prints messages.
    """

    rank: int = 0
    size: int = 1
    group: Any = None
    """A process group on the CPU, apart from the group of the gradients, so that messages wait for no GPU."""
    sharers: int = 1
    """How many processes read the same rows, each a part of every row's tokens (context parallelism)."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def readers(self) -> int:
        """Returns how many parts the rows of a step are split into."""
        return self.size // self.sharers

    @property
    def reader(self) -> int:
        """Returns the number of the part that this process reads, counted from 0."""
        return self.rank // self.sharers

    def hear(self, value: Any) -> Any:
        """Returns the first process's value, in every process."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        told = [value]
        with self.watched():
            dist.broadcast_object_list(told, src=0, group=self.group)
        return told[0]

    def sums(self, *values: float) -> list[float]:
        """Returns the sum of each value over all processes, in every process."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        of = torch.tensor(values, dtype=torch.float64)
        with self.watched():
            dist.all_reduce(of, group=self.group)
        return [float(x) for x in of]

    def wait(self) -> None:
        """Waits until every process has called it."""
        self.sums(0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Makes all processes fail together: if one raises a WinnowError inside, every process raises that error.

        If several processes raise one, all raise the error of the lowest rank.
        """
        fault: WinnowError | None = None
        try:
            yield
        except WinnowError as e:
            if self.size == 1:
                raise
            fault = e
        if self.size == 1:
            return
        import torch.distributed as dist

        faults: list[WinnowError | None] = [None] * self.size
        with self.watched():
            dist.all_gather_object(faults, fault, group=self.group)
        if refused := next(filter(None, faults), None):
            raise refused

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Raises Lost when torch fails because another process is gone."""
        try:
            yield
        except RuntimeError as e:
            if self.size == 1 or not any(word in str(e) for word in PROCESS_GONE):
                raise
            raise Lost(
                "another process of this training ended, and this one with it; the same command goes on from the "
                "newest checkpoint"
            ) from None


@contextmanager
def joined(environ: Mapping[str, str]) -> Iterator[World]:
    """Yields the world of all processes that a launcher started together with this one.

    Without a launcher it is a world of one process. Raises InputError when the other processes do not answer.
    """
    size = int(environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    import torch
    import torch.distributed as dist
    from accelerate import PartialState

    try:
        PartialState(cpu=not torch.cuda.is_available())
        world = World(
            dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"), int(environ.get(CP_SIZE, "1"))
        )
    except (RuntimeError, ValueError) as e:
        raise InputError(f"the {size} processes do not find each other: {first_line(e)[:300]}") from None
    try:
        yield world
    finally:
        # A launcher that sees one process end signals the others to end; this one ends by itself.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if dist.is_initialized():
            dist.destroy_process_group()
