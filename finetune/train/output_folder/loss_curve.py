"""Keeps the loss curve of a training in a file in its folder, with a line for each logged step.

From the file the points go into the store of the training's run.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.note import NOTE
from harvest.core.errors import InputError
from harvest.core.files import write_whole
from harvest.report.loss_curve import HELD_OUT_ACCURACY, HELD_OUT_LOSS, measured, sparkline, thinned, turned

CURVE = "curve.jsonl"
COLUMNS = (
    ("step", "step", "d"), ("epoch", "epoch", ".2f"), ("loss", "loss", ".4f"), ("rate", "learning_rate", ".2e"),
    ("gradient", "grad_norm", ".3f"), ("tokens/s", "tokens_per_s", ",.0f"), ("GiB", "peak_gib", ".2f"),
    ("MFU", "mfu", ".1%"),
)  # fmt: skip
"""The columns of the printed curve: title, key of a point, format."""
PAIR_COLUMNS = (("margin", "margin", ".3f"), ("preferred", "preferred", ".1%"))
"""The columns of a training on preference pairs: the mean difference of the two log-probabilities, and the share of the
pairs whose chosen side is likelier."""
HELD_OUT_COLUMNS = (("held-out", HELD_OUT_LOSS, ".4f"), ("accuracy", HELD_OUT_ACCURACY, ".3f"))


class Curve:
    """The file with the points of a training that goes on after step `since`.

    Points of later steps, which a kill left behind, are removed, since those steps are trained again.
    """

    def __init__(self, output: Path, since: int) -> None:
        kept = [p for p in read_curve(output) if p["step"] <= since]
        write_whole(output / CURVE, "".join(map(_line, kept)))
        self.path = output / CURVE

    def add(self, point: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as f:
            f.write(_line(point))


def _line(point: Mapping[str, Any]) -> str:
    return json.dumps(point) + "\n"


def read_curve(output: Path) -> list[dict[str, Any]]:
    """Returns the points in a folder, each with step, epoch, loss, learning_rate, grad_norm, tokens_per_s, mfu,
    peak_gib and at.

    A point has held_out_loss and held_out_accuracy too if held-out questions were measured at its step.

    The list is empty when there are no points. A last line that a kill cut off is left out.
    """
    try:
        lines = (output / CURVE).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    points: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            point = json.loads(line)
            points[int(point["step"])] = point
        except (ValueError, TypeError, KeyError):
            continue
    return [points[step] for step in sorted(points)]


def curve_of(output: Path) -> list[dict[str, Any]]:
    """Returns the points in a folder that a user names. Raises InputError when the folder holds no training."""
    points = read_curve(output)
    if not points and not (output / NOTE).is_file():
        raise InputError(f"{output}: no training of ours: name the `output` of a recipe")
    return points


def in_words(points: Sequence[Mapping[str, Any]]) -> str:
    """Returns the curve as text: a line of bars, the first and the last loss, and up to 24 of its steps.

    If held-out questions were measured, their loss has a line too, and their loss and accuracy a column each.
    """
    losses = [p["loss"] for p in points if p["loss"] is not None]
    found = measured(points)
    if not losses and not found:
        return "no step was logged yet"
    lines = []
    if losses:
        lines.append(f"{sparkline(losses)}  loss {losses[0]:.4f} to {losses[-1]:.4f}, lowest {min(losses):.4f}")
    if found:
        held_out = [p[HELD_OUT_LOSS] for p in found]
        at = found[held_out.index(min(held_out))]["step"]
        ends = f"{held_out[0]:.4f} to {held_out[-1]:.4f}, lowest {min(held_out):.4f} at step {at}"
        lines.append(f"{sparkline(held_out)}  held-out loss {ends}")
    of_pairs = PAIR_COLUMNS if any("margin" in p for p in points) else ()
    columns = [*COLUMNS, *of_pairs, *(HELD_OUT_COLUMNS if found else ())]
    lines += ["", " ".join(f"{title:>9}" for title, _, _ in columns)]
    for p in thinned(points, 24):
        lines.append(" ".join(f"{'–' if p.get(k) is None else format(p[k], form):>9}" for _, k, form in columns))
    if said := turned(points):
        lines += ["", said]
    return "\n".join(lines)
