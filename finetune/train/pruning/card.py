"""Says what a model was cut from, in its card and in that of a student trained from it."""

from collections.abc import Mapping
from typing import Any

from harvest.core.printable import cell

WARNING = (
    "a student of fewer layers is worse than the whole until it has been trained for long: "
    "Llama-3.1-Minitron-4B-Depth took 94 billion tokens of distillation after the cut"
)
"""Source: arXiv 2408.11796."""


def card(name: str, cut_from: Mapping[str, Any]) -> str:
    """Returns the card of a model that was cut and not trained yet."""
    base = cut_from["model"]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        *([f"base_model: {base.partition('@')[0]}"] if base.count("/") == 1 else []),
        "tags: [pruning, winnow]",
        "---",
        "",
        f"# {name}",
        "",
        f"{in_words(cut_from)}. It was not trained afterwards: {WARNING}.",
        "",
    ]
    return "\n".join(lines)


def in_words(cut_from: Mapping[str, Any]) -> str:
    """Returns what a model was cut from, as a sentence without its full stop."""
    how = "by block influence (ShortGPT, arXiv 2403.03853)" if cut_from["keep"] == "importance" else "evenly spaced"
    kept = ", ".join(map(str, cut_from["kept"]))
    return (
        f"Cut from {cell(cut_from['model'])}: {len(cut_from['kept'])} of its {cut_from['layers']} layers, {how}: {kept}"
    )
