"""What a training will take before it is begun: GPU-hours, memory, money. Pure: from shapes and counts to figures.

Hours are model FLOPs over what a GPU does of its peak in practice. That share differs by a factor of five from launch
to launch, and was fitted to a few published runs: an estimate is an interval, and `--calibrate` measures instead.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

from harvest.core.errors import ConfigError

GIB = 2**30
CENT = Decimal("0.01")
MICRO_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Most tokens, padding included, that go through the student at once, a longer row excepted."""
SMALL_PARAMETERS = 600_000_000
"""Below this a micro-batch's activations are kept instead of computed again, unless the recipe says otherwise."""
LORA_RANK = 8
"""PEFT's default."""
OF_MEMORY = 0.92
"""How much of a GPU's memory an estimate may fill: allocators leave gaps."""
CONTEXT_GIB = 1.0
"""CUDA's own context, kernels and communication buffers."""
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Of a weight in NF4: four bits, a scale of eight for each 64, and one of 32 for each 256 of those. Source: arXiv
2305.14314, section 3 (0.127 bits a weight for the scales, quantised twice)."""
LONG_TAIL = 1.5
"""Σlen²/Σlen over the mean where lengths are not known: chains have a long tail."""


class Gpu(NamedTuple):
    """Dense bfloat16 peak in TFLOPS and memory in GiB as the driver shows it. Source: the makers' data sheets."""

    tflops: float
    gib: float


GPUS = {
    "B200": Gpu(2250, 178),
    "H200": Gpu(989, 139.8),
    "H100": Gpu(989, 79.6),
    "H100-PCIe": Gpu(756, 79.6),
    "A100-80GB": Gpu(312, 79.2),
    "A100-40GB": Gpu(312, 39.4),
    "L40S": Gpu(362, 44.4),
    "L4": Gpu(121, 22.0),
    "A10": Gpu(125, 22.1),
    "RTX-4090": Gpu(165, 23.5),
    "RTX-3090": Gpu(71, 23.6),
}


class Preset(NamedTuple):
    """The share of a GPU's peak that goes into model FLOPs while activations are recomputed, and where it is from."""

    low: float
    mid: float
    high: float
    source: str


PRESETS = {
    "single": Preset(0.12, 0.25, 0.40, "unpacked on one GPU; no published run of this kind, hence wide"),
    "ddp": Preset(0.12, 0.24, 0.38, "as single, less what averaging gradients takes"),
    "fsdp2": Preset(0.11, 0.16, 0.30, "s1: 7 H100-hours for 1,000 rows, 394 for 59,000 (FSDP, unpacked)"),
    "fsdp2-cp": Preset(0.08, 0.14, 0.28, "as fsdp2, less what attention over two GPUs takes; no published run"),
    "zero3": Preset(0.08, 0.15, 0.28, "as fsdp2; no published run without offload"),
    "zero3-offload": Preset(0.055, 0.08, 0.12, "Sky-T1: 152 H100-hours; Bespoke-Stratos: 216"),
}
"""By launch.strategy."""
NODES_OFFLOAD = Preset(0.03, 0.05, 0.08, "several nodes with offload, as published runs went")
GPUS_A_NODE = 8
SHARDED = ("fsdp2", "fsdp2-cp", "zero3", "zero3-offload")
"""Weights, gradients and optimizer are spread over the GPUs, not repeated on each."""
GENERATION = Preset(0.04, 0.10, 0.20, "answers in large batches by an inference engine")
"""The same for answering: 2 FLOPs a weight and token."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's sizes, as far as they decide time and memory. `attention` and `kv` are heads × head size."""

    parameters: float
    active: float
    """Those that one token goes through: all of them but in a mixture of experts."""
    untied_embedding: float
    """Of the input embedding where the head is another matrix: looked up, not multiplied. Else 0."""
    layers: float
    attention_layers: float
    """Layers that look at all of the row: neither sliding windows nor linear attention."""
    hidden: float
    intermediate: float
    """Of one token's way through a layer's MLP."""
    attention: float
    kv: float
    embeddings: float
    """Weights of the input embedding and of the head: one matrix where they are tied, else two."""

    @property
    def multiplied(self) -> float:
        return self.active - self.untied_embedding

    def adapter(self, rank: int) -> float:
        """Weights of LoRA on every linear layer."""
        a, k, h, i = self.attention, self.kv, self.hidden, self.intermediate
        return self.layers * rank * (2 * (h + a) + 2 * (h + k) + 3 * (h + i))


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape of a model by its config.json. Raises ConfigError where a size is missing."""
    c = {**config, **(config.get("text_config") or {})}
    try:
        h, layers, heads, vocab = (
            int(c[k]) for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
        )
        head = int(c.get("head_dim") or h // heads)
        kv = int(c.get("num_key_value_heads") or heads) * head
        experts = int(c.get("num_experts") or c.get("num_local_experts") or c.get("n_routed_experts") or 0)
        used = int(c.get("num_experts_per_tok") or 1) + int(c.get("n_shared_experts") or 0)
        i = int((c.get("moe_intermediate_size") if experts else None) or c["intermediate_size"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as e:
        raise ConfigError(f"config.json: no sizes to reckon with: {e}") from None
    attention = heads * head
    per_layer = 2 * h * attention + 2 * h * kv
    embedding = vocab * h
    tied = bool(c.get("tie_word_embeddings", False))
    kinds = c.get("layer_types") or ["full_attention"] * layers
    body = layers * per_layer + embedding * (1 if tied else 2)
    return Shape(
        parameters=body + layers * 3 * h * i * max(1, experts),
        active=body + layers * 3 * h * i * (used if experts else 1),
        untied_embedding=0 if tied else embedding,
        layers=layers,
        attention_layers=sum(kind == "full_attention" for kind in kinds),
        hidden=h,
        intermediate=i * (used if experts else 1),
        attention=attention,
        kv=kv,
        embeddings=embedding * (1 if tied else 2),
    )


_QWEN25 = (
    Shape(0.494e9, 0.494e9, 0, 24, 24, 896, 4864, 896, 128, 0.136e9),
    Shape(1.544e9, 1.544e9, 0, 28, 28, 1536, 8960, 1536, 256, 0.233e9),
    Shape(3.086e9, 3.086e9, 0, 36, 36, 2048, 11008, 2048, 256, 0.311e9),
    Shape(7.616e9, 7.616e9, 0.545e9, 28, 28, 3584, 18944, 3584, 512, 1.090e9),
    Shape(14.77e9, 14.77e9, 0.779e9, 48, 48, 5120, 13824, 5120, 1024, 1.557e9),
    Shape(32.76e9, 32.76e9, 0.779e9, 64, 64, 5120, 27648, 5120, 1024, 1.557e9),
    Shape(72.71e9, 72.71e9, 1.246e9, 80, 80, 8192, 29568, 8192, 1024, 2.491e9),
)
"""Qwen2.5's family. Source: the config.json of each."""


def shape_of_size(parameters: float) -> Shape:
    """The shape of a dense model of that many weights, read off between the sizes of Qwen2.5."""
    sizes = _QWEN25
    if parameters <= sizes[0].parameters or parameters >= sizes[-1].parameters:
        near = sizes[0] if parameters <= sizes[0].parameters else sizes[-1]
        grown = parameters / near.parameters
        return replace(
            near,
            parameters=parameters,
            active=parameters,
            untied_embedding=near.untied_embedding * grown,
            **{k: getattr(near, k) * grown**0.5 for k in ("hidden", "intermediate", "attention", "kv", "embeddings")},
        )
    n = next(n for n, s in enumerate(sizes) if s.parameters > parameters)
    a, b = sizes[n - 1], sizes[n]
    t = math.log(parameters / a.parameters) / math.log(b.parameters / a.parameters)
    between = {k: (1 - t) * getattr(a, k) + t * getattr(b, k) for k in Shape.__slots__}
    share = (1 - t) * a.untied_embedding / a.parameters + t * b.untied_embedding / b.parameters
    return Shape(**{
        **between, "parameters": parameters, "active": parameters, "untied_embedding": share * parameters
    })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Work:
    """What goes through the student. `context` is Σlen²/Σlen, the row that an average token stands in."""

    rows: int
    tokens: float
    """Of all rows, once."""
    context: float
    longest: int
    epochs: float
    traces_per_step: int


def work_of(lengths: Sequence[int], epochs: float, traces_per_step: int) -> Work:
    tokens = sum(lengths)
    return Work(len(lengths), tokens, sum(n * n for n in lengths) / tokens, max(lengths), epochs, traces_per_step)


def work_of_mean(rows: int, mean_tokens: float, max_tokens: int, epochs: float, traces_per_step: int) -> Work:
    """Where the mean alone is known: the longest row fills the limit."""
    context = min(LONG_TAIL * mean_tokens, max(max_tokens, mean_tokens))
    return Work(rows, rows * mean_tokens, context, max(max_tokens, round(mean_tokens)), epochs, traces_per_step)


@dataclass(frozen=True, slots=True)
class Launching:
    """On what it runs and how it is spread."""

    strategy: str
    gpu: str
    gpus: int
    method: str = "full"
    rank: int = LORA_RANK
    recompute: bool | None = None
    """None: as sft decides it."""
    eight_bit_adam: bool = False
    context_parallel: int = 1

    @property
    def used(self) -> int:
        """GPUs that take part."""
        return 1 if self.strategy == "single" else self.gpus

    @property
    def preset(self) -> Preset:
        if self.strategy == "zero3-offload" and self.used > GPUS_A_NODE:
            return NODES_OFFLOAD
        return PRESETS[self.strategy]

    def recomputes(self, shape: Shape, longest: int) -> bool:
        if self.recompute is not None:
            return self.recompute
        return shape.parameters >= SMALL_PARAMETERS or longest > MICRO_TOKENS["cuda"]


def gpu_named(name: str) -> Gpu:
    """Raises ConfigError that names the known ones."""
    known = {k.casefold(): v for k, v in GPUS.items()}
    if (found := known.get(name.casefold().replace(" ", "-"))) is None:
        raise ConfigError(f"launch.gpu: {name!r} is not known; known are {', '.join(GPUS)}")
    return found


def flops_per_token(shape: Shape, context: float, method: str) -> float:
    """Model FLOPs of one trained token, forward and backward, nothing recomputed.

    6 for each weight that is multiplied (4 where no gradient of it is taken) and for each position that attention
    looks at, of which a causal mask leaves half.
    """
    a_weight = 6 if method == "full" else 4
    return a_weight * shape.multiplied + 6 * shape.attention_layers * shape.attention * context


class Interval(NamedTuple):
    low: float
    mid: float
    high: float


def gpu_hours(shape: Shape, work: Work, launching: Launching) -> Interval:
    """Of all GPUs together. Nothing recomputed saves a forward pass of four parts."""
    recompute = 1.0 if launching.recomputes(shape, work.longest) else 0.75
    flops = flops_per_token(shape, work.context, launching.method) * work.tokens * work.epochs * recompute
    peak = gpu_named(launching.gpu).tflops * 1e12 * 3600
    preset = launching.preset
    return Interval(*(flops / (peak * share) for share in (preset.high, preset.mid, preset.low)))


def _frozen_bytes(shape: Shape, method: str) -> float:
    """Of weights under adapters: bfloat16; with QLoRA all but embedding and head in four bits."""
    in_four_bits = shape.parameters - shape.embeddings if method == "qlora" else 0
    return in_four_bits * NF4_BYTES + (shape.parameters - in_four_bits) * 2


def memory_gib(shape: Shape, work: Work, launching: Launching) -> dict[str, float]:
    """GiB of one GPU, by what holds it. Full weights: float32 with gradients and Adam, 16 bytes a weight."""
    n = launching.used
    shards = n if launching.strategy in SHARDED else 1
    adam = 2 if launching.eight_bit_adam else 8
    if launching.method == "full":
        held = shape.parameters * (4 if launching.strategy == "zero3-offload" else 8 + adam) / shards
    else:
        held = (_frozen_bytes(shape, launching.method) + shape.adapter(launching.rank) * (8 + adam)) / shards
    rows = max(1, math.ceil(work.traces_per_step / n))
    tokens = max(work.longest, min(MICRO_TOKENS["cuda"], rows * work.longest)) / launching.context_parallel
    one_layer = tokens * 2 * (12 * shape.hidden + 3 * shape.intermediate)
    if launching.recomputes(shape, work.longest):
        kept, at_work = shape.layers * tokens * 2 * shape.hidden, one_layer
    else:
        kept, at_work = shape.layers * one_layer, one_layer
    return {
        "weights_and_optimizer": held / GIB,
        "activations": kept / GIB,
        "one_layer_at_work": at_work / GIB,
        "context": CONTEXT_GIB,
    }


@dataclass(frozen=True, slots=True)
class Evaluating:
    """Answers by the trained student, before and after."""

    questions: int = 500
    samples: int = 1
    tokens: float = 0
    """Of an answer, on average; 0: as many as a row of the training set has."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What real steps on this machine gave."""

    tokens_per_s: Interval
    """Of one device: the slowest tenth of the steps, all of them, the fastest tenth."""
    steps: int
    device: str
    peak_gib: float | None
    """Most memory that the GPU held; None on a CPU."""


@dataclass(frozen=True, slots=True)
class Estimate:
    hours: Interval
    memory: dict[str, float]
    room_gib: float
    evaluation_hours: Interval
    cures: tuple[str, ...]
    """What would make it fit, with what it would then take; none where it fits."""
    launching: Launching
    work: Work
    shape: Shape
    price: Decimal | None
    measured: Measured | None = None

    @property
    def memory_gib(self) -> float:
        return sum(self.memory.values())

    @property
    def fits(self) -> bool:
        return self.memory_gib <= self.room_gib

    def cost(self, hours: float) -> str | None:
        """USD as text; None where nobody named a price."""
        return None if self.price is None else str((self.price * Decimal(repr(hours))).quantize(CENT))

    def as_json(self) -> dict[str, Any]:
        low, mid, high = self.hours
        answering = _figures(self.evaluation_hours.mid)
        return {
            "gpu_hours": {"low": _figures(low), "mid": _figures(mid), "high": _figures(high)},
            "wall_hours": _figures(mid / self.launching.used),
            "memory_gib_per_gpu": round(self.memory_gib, 1),
            "memory_gib": {k: round(v, 1) for k, v in self.memory.items()},
            "fits": self.fits,
            "would_fit": list(self.cures),
            "cost_usd": self.cost(_figures(mid)),
            "cost_usd_interval": None
            if self.price is None
            else {"low": self.cost(_figures(low)), "high": self.cost(_figures(high))},
            "evaluation": {"gpu_hours": answering, "cost_usd": self.cost(answering)},
            "total_usd": self.cost(_figures(mid) + answering),
            "parameters": round(self.shape.parameters),
            "tokens": round(self.work.tokens * self.work.epochs),
            "steps": math.ceil(math.ceil(self.work.rows / self.work.traces_per_step) * self.work.epochs),
            "strategy": self.launching.strategy,
            "gpu": self.launching.gpu,
            "gpus": self.launching.used,
            "share_of_peak": None if self.measured else list(self.launching.preset[:3]),
            "source": _told(self.measured) if self.measured else self.launching.preset.source,
            "measured": self.measured
            and {
                "device": self.measured.device,
                "steps": self.measured.steps,
                "tokens_per_s": dict(zip(Interval._fields, map(_figures, self.measured.tokens_per_s), strict=True)),
                "peak_gib": self.measured.peak_gib and round(self.measured.peak_gib, 1),
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
    """Raises ConfigError for a GPU that is not known. With `measured` the hours are those of the measured device."""
    memory = memory_gib(shape, work, launching)
    room = gpu_named(launching.gpu).gib * OF_MEMORY
    hours = gpu_hours(shape, work, launching)
    if measured is not None:
        hours = Interval(*(work.tokens * work.epochs / (t * 3600) for t in reversed(measured.tokens_per_s)))
    evaluation = _answering(shape, work, launching, evaluating or Evaluating())
    cures = () if sum(memory.values()) <= room else tuple(_cures(shape, work, launching))
    return Estimate(hours, memory, room, evaluation, cures, launching, work, shape, price, measured)


def _told(measured: Measured) -> str:
    rate = _figures(measured.tokens_per_s.mid)
    memory = "" if measured.peak_gib is None else f", {measured.peak_gib:.1f} GiB at most"
    return f"{measured.steps} steps on {measured.device}: {rate:,} tokens a second{memory}"


def _answering(shape: Shape, work: Work, launching: Launching, evaluating: Evaluating) -> Interval:
    """GPU-hours of answering twice, before and after the training."""
    tokens = 2 * evaluating.questions * evaluating.samples * (evaluating.tokens or work.tokens / work.rows)
    peak = gpu_named(launching.gpu).tflops * 1e12 * 3600
    return Interval(
        *(2 * shape.active * tokens / (peak * s) for s in (GENERATION.high, GENERATION.mid, GENERATION.low))
    )


def _cures(shape: Shape, work: Work, launching: Launching) -> Iterator[str]:
    """Changes of one setting or two that make it fit, each with what it would then take."""
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
        if (tried, of) != (launching, work) and _fits(shape, of, tried):
            hours = _figures(gpu_hours(shape, of, tried).mid)
            yield f"{words}: {_gib(shape, of, tried):.0f} GiB a GPU, about {hours:,} GPU-hours"


def _first(shape: Shape, work: Work, tries: Iterable[Launching]) -> list[Launching]:
    """The first of them that fits."""
    return list(islice((t for t in tries if _fits(shape, work, t)), 1))


def _fits(shape: Shape, work: Work, launching: Launching) -> bool:
    return _gib(shape, work, launching) <= gpu_named(launching.gpu).gib * OF_MEMORY


def _gib(shape: Shape, work: Work, launching: Launching) -> float:
    return sum(memory_gib(shape, work, launching).values())


def _figures(x: float) -> float:
    """Three significant figures: more would be a lie."""
    if x == 0:
        return 0
    rounded = round(x, max(0, 2 - math.floor(math.log10(abs(x)))))
    return int(rounded) if rounded >= 100 else rounded


def _unit(hours: float) -> tuple[int, str]:
    """(how many of the unit an hour has, its name) for a reader of so many hours."""
    return (1, "hours") if hours >= 0.01 else (3600, "seconds")


def _shown(x: float) -> str:
    return f"{_figures(x):,}" if x >= 0.01 else "under 0.01" if x else "0"


def in_words(found: Mapping[str, Any]) -> str:
    """The same for a reader."""
    hours, evaluation = found["gpu_hours"], found["evaluation"]
    parts = " + ".join(f"{v:g} {k.replace('_', ' ')}" for k, v in found["memory_gib"].items() if v >= 0.1)
    verdict = "fits" if found["fits"] else "does not fit"
    ends = found["cost_usd_interval"]
    where = f"{found['gpus']} × {found['gpu']}" if found["measured"] is None else found["measured"]["device"]
    if ends is None:
        money = ["money    unknown: name launch.price_usd_per_gpu_hour"]
    else:
        money = [
            f"money    ${found['cost_usd']} (${ends['low']} to ${ends['high']}); "
            f"with the evaluation ${found['total_usd']}"
        ]
    per, unit = _unit(hours["mid"])
    low, mid, high = (_shown(hours[k] * per) for k in ("low", "mid", "high"))
    span = f"{mid} {{}}{unit} ({low} to {high}) on {where}, {found['strategy']}"
    tokens = f"{found['tokens']:,} tokens in {found['steps']:,} steps"
    if where == "cpu":  # neither a GPU's memory nor its answers say anything of this machine
        lines = [f"hours    {span.format('')}; {tokens}"]
    else:
        lines = [
            f"hours    {span.format('GPU-')}",
            f"         {_shown(found['wall_hours'] * per)} by the clock; {tokens}",
            f"         {_shown(evaluation['gpu_hours'] * per)} more for the evaluation's answers before and after",
            *money,
            f"memory   {found['memory_gib_per_gpu']:g} GiB a GPU, {verdict}: {parts}",
            *(f"         would fit: {cure}" for cure in found["would_fit"]),
        ]
    return "\n".join([*lines, f"source   {found['source']}"])
