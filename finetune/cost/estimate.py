"""Estimates the GPU-hours, memory and money of a training from shapes and counts. It reads no file."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from typing import Any

from finetune.cost.answering import Evaluating, answering_hours
from finetune.cost.gpus import GPUS
from finetune.cost.hours import Interval, gpu_hours, rounded
from finetune.cost.memory import SHARDED, fits, memory_gib, total_gib, usable_gib
from finetune.cost.shape import Shape
from finetune.cost.work import Launching, Work

CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Measured:
    """Some real training steps on this machine gave these measurements."""

    tokens_per_s: Interval
    """One device handles this many tokens a second: `low` in the slowest tenth of the steps, `mid` over all steps
    together, `high` in the fastest tenth."""
    steps: int
    device: str
    peak_gib: float | None
    """The GPU held at most this many GiB; None on a CPU."""

    def in_words(self) -> str:
        memory = "" if self.peak_gib is None else f", {self.peak_gib:.1f} GiB at most"
        return f"{self.steps} steps on {self.device}: {rounded(self.tokens_per_s.mid):,} tokens a second{memory}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate has the hours, memory and money of one training, and the figures that they were computed from."""

    hours: Interval
    memory: dict[str, float]
    """Maps each use of memory (for example "activations") to the GiB that it takes on one GPU."""
    fits: bool
    evaluation_hours: Interval
    evaluating: Evaluating
    cures: tuple[str, ...]
    """Each text names a change of settings that makes the training fit, with its memory and hours. It is empty when the
    training fits as it is."""
    launching: Launching
    work: Work
    shape: Shape
    price: Decimal | None
    """A GPU-hour costs this many USD; None when no price was given."""
    measured: Measured | None = None

    def cost(self, hours: float) -> str | None:
        """Returns the cost of this many GPU-hours in USD, as text; None when no price was given."""
        return None if self.price is None else str((self.price * Decimal(repr(hours))).quantize(CENT))

    def as_json(self) -> dict[str, Any]:
        """Returns the object that `--json` prints."""
        low, mid, high = map(rounded, self.hours)
        answering = rounded(self.evaluation_hours.mid)
        measured, launching = self.measured, self.launching
        return {
            "gpu_hours": {"low": low, "mid": mid, "high": high},
            "wall_hours": rounded(self.hours.mid / launching.used),
            "memory_gib_per_gpu": round(sum(self.memory.values()), 1),
            "memory_gib": {k: round(v, 1) for k, v in self.memory.items()},
            "fits": self.fits,
            "would_fit": list(self.cures),
            "cost_usd": self.cost(mid),
            "cost_usd_interval": None if self.price is None else {"low": self.cost(low), "high": self.cost(high)},
            "evaluation": {
                "engine": self.evaluating.engine,
                "gpu_hours": answering,
                "gpu_hours_interval": dict(zip(Interval._fields, map(rounded, self.evaluation_hours), strict=True)),
                "cost_usd": self.cost(answering),
            },
            "total_usd": self.cost(mid + answering),
            "parameters": round(self.shape.parameters),
            "tokens": round(self.work.tokens * self.work.epochs),
            "steps": math.ceil(math.ceil(self.work.rows / self.work.traces_per_step) * self.work.epochs),
            "strategy": launching.strategy,
            "gpu": launching.gpu,
            "gpus": launching.used,
            "share_of_peak": None if measured else list(launching.share[:3]),
            "source": measured.in_words() if measured else launching.share.source,
            "measured": measured
            and {
                "device": measured.device,
                "steps": measured.steps,
                "tokens_per_s": dict(zip(Interval._fields, map(rounded, measured.tokens_per_s), strict=True)),
                "peak_gib": measured.peak_gib and round(measured.peak_gib, 1),
            },
        }


def estimate(
    shape: Shape,
    work: Work,
    launching: Launching,
    price: Decimal | None,
    evaluating: Evaluating | None = None,
    measured: Measured | None = None,
) -> Estimate:
    """Returns the estimate of one training.

    If `measured` is given, the hours come from the speed of the measured device. Raises ConfigError when the GPU is not
    known.
    """
    memory = memory_gib(shape, work, launching)
    does_fit = sum(memory.values()) <= usable_gib(launching)
    hours = gpu_hours(shape, work, launching)
    if measured is not None:
        hours = Interval(*(work.tokens * work.epochs / (t * 3600) for t in reversed(measured.tokens_per_s)))
    evaluating = evaluating or Evaluating()
    evaluation = answering_hours(shape, work, launching, evaluating)
    changes = () if does_fit else tuple(_cures(shape, work, launching))
    return Estimate(hours, memory, does_fit, evaluation, evaluating, changes, launching, work, shape, price, measured)


def _cures(shape: Shape, work: Work, launching: Launching) -> Iterator[str]:
    """Yields changes of one or two settings that make the training fit, each as a text with its memory and hours."""
    sharded = launching.strategy if launching.strategy in SHARDED else "fsdp2"
    many = max(launching.gpus, 2)
    spread = replace(launching, strategy=sharded, gpus=many)
    more = (replace(spread, gpus=n) for n in (many, 4, 8, 16, 32, 64) if n >= many)
    half = work.longest // 2
    larger = sorted((g.gib, name) for name, g in GPUS.items())
    tries = [
        *((f'launch.strategy = "{sharded}" on {t.gpus} GPUs', t, work) for t in _first(shape, work, more)),
        ('launch.strategy = "zero3-offload"', replace(spread, strategy="zero3-offload"), work),
        ("an 8-bit Adam", replace(launching, eight_bit_adam=True), work),
        ('method = "lora"', replace(launching, method="lora"), work),
        (f'method = "lora" and launch.strategy = "{sharded}"', replace(spread, method="lora"), work),
        (f"context parallelism over 2, {sharded} on {many} GPUs", replace(spread, context_parallel=2), work),
        (f"render.max_tokens = {half}", launching, replace(work, longest=half, context=min(work.context, half))),
        *((f"{t.gpu}s", t, work) for t in _first(shape, work, (replace(launching, gpu=n) for _, n in larger))),
    ]
    for words, tried, of in tries:
        if (tried, of) != (launching, work) and fits(shape, of, tried):
            hours = rounded(gpu_hours(shape, of, tried).mid)
            yield f"{words}: {total_gib(shape, of, tried):.0f} GiB a GPU, about {hours:,} GPU-hours"


def _first(shape: Shape, work: Work, tries: Iterable[Launching]) -> list[Launching]:
    """Returns a list with the first of `tries` that fits; the list is empty when none fits."""
    return list(islice((t for t in tries if fits(shape, work, t)), 1))
