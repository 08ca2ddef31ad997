"""Lists GPUs, and the share of a GPU's peak speed that a training reaches in practice."""

from typing import NamedTuple

from harvest.core.errors import ConfigError


class Gpu(NamedTuple):
    """A GPU has a peak in dense bfloat16, in TFLOPS, a memory in GiB as the driver shows it, and its bandwidth in TB/s.

    Source: the makers' data sheets.
    """

    tflops: float
    gib: float
    tb_per_s: float


GPUS = {
    "B200": Gpu(2250, 178, 8.0),
    "H200": Gpu(989, 139.8, 4.8),
    "H100": Gpu(989, 79.6, 3.35),
    "H100-PCIe": Gpu(756, 79.6, 2.0),
    "A100-80GB": Gpu(312, 79.2, 2.04),
    "A100-40GB": Gpu(312, 39.4, 1.56),
    "L40S": Gpu(362, 44.4, 0.864),
    "L4": Gpu(121, 22.0, 0.3),
    "A10": Gpu(125, 22.1, 0.6),
    "RTX-4090": Gpu(165, 23.5, 1.01),
    "RTX-3090": Gpu(71, 23.6, 0.936),
}


class Share(NamedTuple):
    """A training reaches this share of a GPU's peak: at least `low`, probably `mid`, at most `high`.

    Only model FLOPs count: activations that are computed again in the backward pass lower the share. `source` says
    where the numbers come from.
    """

    low: float
    mid: float
    high: float
    source: str


SHARES = {
    "single": Share(0.12, 0.25, 0.40, "unpacked on one GPU; no published run of this kind, hence wide"),
    "ddp": Share(0.12, 0.24, 0.38, "as single, less what averaging gradients takes"),
    "fsdp2": Share(0.11, 0.16, 0.30, "s1: 7 H100-hours for 1,000 rows, 394 for 59,000 (FSDP, unpacked)"),
    "fsdp2-cp": Share(0.08, 0.14, 0.28, "as fsdp2, less what attention over two GPUs takes; no published run"),
    "zero3": Share(0.08, 0.15, 0.28, "as fsdp2; no published run without offload"),
    "zero3-offload": Share(0.055, 0.08, 0.12, "Sky-T1: 152 H100-hours; Bespoke-Stratos: 216"),
}
"""Each launch.strategy reaches this share of the peak."""
OFFLOAD_ON_SEVERAL_NODES = Share(0.03, 0.05, 0.08, "several nodes with offload, as published runs went")


def gpu_named(name: str) -> Gpu:
    """Returns the GPU with this name. Raises ConfigError, which lists the known GPUs, when the name is not known."""
    known = {k.casefold(): v for k, v in GPUS.items()}
    if (found := known.get(name.casefold().replace(" ", "-"))) is None:
        raise ConfigError(f"launch.gpu: {name!r} is not known; known are {', '.join(GPUS)}")
    return found
