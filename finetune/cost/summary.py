"""Writes an estimate as text for a reader."""

from collections.abc import Mapping
from typing import Any

from finetune.cost.hours import rounded


def in_words(found: Mapping[str, Any]) -> str:
    """Returns an estimate as text. `found` is the object that `Estimate.as_json` returns."""
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
    low, mid, high = (shown(hours[k] * per) for k in ("low", "mid", "high"))
    span = f"{mid} {{}}{unit} ({low} to {high}) on {where}, {found['strategy']}"
    tokens = f"{found['tokens']:,} tokens in {found['steps']:,} steps"
    if where == "cpu":  # neither a GPU's memory nor its answers say anything of this machine
        lines = [f"hours    {span.format('')}; {tokens}"]
    else:
        lines = [
            f"hours    {span.format('GPU-')}",
            f"         {shown(found['wall_hours'] * per)} by the clock; {tokens}",
            f"         {_answering(evaluation)} more for the evaluation's answers before and after, "
            f"with {evaluation['engine']}",
            *money,
            f"memory   {found['memory_gib_per_gpu']:g} GiB a GPU, {verdict}: {parts}",
            *(f"         would fit: {cure}" for cure in found["would_fit"]),
        ]
    if h := found.get("held_out"):
        lines.append(f"held out {h['questions']:,} questions, {h['rows']:,} rows, {h['tokens']:,} tokens: not trained")
    return "\n".join([*lines, f"source   {found['source']}"])


def _answering(evaluation: Mapping[str, Any]) -> str:
    """Returns the GPU-hours of the evaluation with their interval, which is wide: nobody has measured it."""
    ends = evaluation["gpu_hours_interval"]
    return f"{shown(ends['mid'])} GPU-hours ({shown(ends['low'])} to {shown(ends['high'])})"


def _unit(hours: float) -> tuple[int, str]:
    """Returns (how many of the unit make one hour, the unit's name): seconds for very short times, else hours."""
    return (1, "hours") if hours >= 0.01 else (3600, "seconds")


def shown(x: float) -> str:
    """Returns hours for a reader, rounded."""
    return f"{rounded(x):,}" if x >= 0.01 else "under 0.01" if x else "0"
