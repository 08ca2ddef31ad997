"""Which changes of the recipe would make a training fit into a GPU's memory."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from finetune.cost.gpus import GPUS
from finetune.cost.hours import gpu_hours, rounded
from finetune.cost.memory import SHARDED, fits, total_gib
from finetune.cost.shape import Shape
from finetune.cost.work import Launching, Work


def cures(shape: Shape, work: Work, launching: Launching) -> Iterator[str]:
    """Changes of one setting or two with which the training fits, each with the memory and hours that it takes then."""
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
    """The first of `tries` that fits, or none."""
    return list(islice((t for t in tries if fits(shape, work, t)), 1))
