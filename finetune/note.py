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
