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
from harvest.report.loss_curve import sparkline, thinned

CURVE = "curve.jsonl"


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
    """Returns the points in a folder, each with step, epoch, loss, learning_rate, grad_norm, tokens_per_s and at.

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
    """Returns the curve as text: a line of bars, the first and the last loss, and up to 24 of its steps."""
    losses = [p["loss"] for p in points if p["loss"] is not None]
    if not losses:
        return "no step was logged yet"
    lines = [f"{sparkline(losses)}  loss {losses[0]:.4f} to {losses[-1]:.4f}, lowest {min(losses):.4f}", ""]
    lines.append(f"{'step':>7} {'epoch':>7} {'loss':>9} {'rate':>9} {'gradient':>9} {'tokens/s':>9}")
    for p in thinned(points, 24):
        loss, rate, norm, speed = (
            "–" if p[k] is None else f"{p[k]:{form}}"
            for k, form in (("loss", ".4f"), ("learning_rate", ".2e"), ("grad_norm", ".3f"), ("tokens_per_s", ",.0f"))
        )
        lines.append(f"{p['step']:>7} {p['epoch']:>7.2f} {loss:>9} {rate:>9} {norm:>9} {speed:>9}")
    return "\n".join(lines)
