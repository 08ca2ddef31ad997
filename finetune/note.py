"""Reads winnow.json in a student's folder: it says what finetune trained there, on what data, and for which run."""

import json
import re
from pathlib import Path
from typing import Any

NOTE = "winnow.json"


def trained_folder(folder: Path) -> Path:
    """Returns the folder of the training that a student's folder belongs to: for `checkpoint-500`, the one above it."""
    return folder.parent if re.fullmatch(r"checkpoint-\d+", folder.name) else folder


def note_of(folder: Path) -> dict[str, Any]:
    """Returns what `finetune sft` or `merge` noted of a student's training; {} when there is no valid note."""
    try:
        noted = json.loads((trained_folder(folder) / NOTE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(noted, dict) or not isinstance(noted.get("of") or {}, dict):
        return {}
    training = noted.get("training")
    is_ours = training is None or (isinstance(training, dict) and {"student", "rows", "weights"} <= training.keys())
    return noted if is_ours else {}


def began_with_of(folder: Path) -> str | None:
    """Returns the checksum of the weights that a trained student's training began with; None when none is noted."""
    found = (note_of(folder).get("of") or {}).get("student")
    return found if isinstance(found, str) else None


def came_from(folder: Path) -> list[str]:
    """Returns the checksums of the weights that a student came from, the nearest first.

    The first are those that its training began with, or that it was cut from; then come those that these came from.
    The list is empty when nothing is noted.
    """
    if began_with := began_with_of(folder):
        return [began_with, *note_of(folder).get("came_from", [])]
    try:
        cut_from = json.loads((folder / "config.json").read_text("utf-8")).get("cut_from", {})
    except (OSError, ValueError):
        return []
    return [cut_from["weights"], *cut_from.get("came_from", [])] if cut_from else []


def ancestors(folder: Path) -> list[str]:
    """Returns the checksums that a student made from the one in `folder` notes as its `came_from`.

    They are the checksums that the student in `folder` came from itself. If that student was merged from an adapter,
    the adapter's checksum comes first.
    """
    merged = note_of(folder).get("merged")
    return [*([merged] if merged else []), *came_from(folder)]
