"""Decides which layers of a model are kept: evenly spaced ones, or those that change their input most."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional


def evenly(layers: int, kept: int) -> list[int]:
    """Returns the numbers of `kept` evenly spaced layers of `layers`, the first and the last one among them.

    Of 12 layers 6 are 0, 2, 4, 7, 9, 11, which are those of DistilBERT (arXiv 1910.01108).
    """
    return [round(n * (layers - 1) / max(kept - 1, 1)) for n in range(kept)]


def most_important(influence: Sequence[float], kept: int) -> list[int]:
    """Returns the numbers of the `kept` layers with the highest influence, in order. Of equals the first is kept."""
    return sorted(sorted(range(len(influence)), key=lambda n: (-influence[n], n))[:kept])


def block_influence(model: Any, rows: Iterable[Sequence[int]]) -> list[float]:
    """Returns how much each layer changes its input: 1 − the mean cosine between the states before and after it.

    The mean is over the tokens of all `rows`. Source: ShortGPT, arXiv 2403.03853. States are compared in float32.
    """
    layers = model.get_decoder().layers
    sums, tokens = [0.0] * len(layers), 0
    model.eval()
    with torch.no_grad(), _watched(layers, sums):
        for ids in rows:
            model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
            tokens += len(ids)
    return [1 - total / tokens for total in sums]


@contextmanager
def _watched(layers: Any, sums: list[float]) -> Iterator[None]:
    """Adds to `sums`, while it is open, the cosines of each layer's tokens."""

    def watch(n: int) -> Any:
        def add(module: Any, given: tuple[Any, ...], named: dict[str, Any], made: Any) -> None:
            before = given[0] if given else named["hidden_states"]
            after = made[0] if isinstance(made, tuple) else made
            sums[n] += float(functional.cosine_similarity(before.float(), after.float(), dim=-1).sum())

        return add

    hooks = [layer.register_forward_hook(watch(n), with_kwargs=True) for n, layer in enumerate(layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
