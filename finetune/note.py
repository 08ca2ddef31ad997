"""The note in a student's folder, winnow.json: what finetune trained there, on what, and for which run."""

import json
from pathlib import Path
from typing import Any

NOTE = "winnow.json"


def note_of(folder: Path) -> dict[str, Any]:
    """What `finetune sft` and `merge` wrote down about a trained folder, {} where there is no note as they write it."""
    try:
        noted = json.loads((folder / NOTE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(noted, dict) or not isinstance(noted.get("of") or {}, dict):
        return {}
    training = noted.get("training")
    is_ours = training is None or (isinstance(training, dict) and {"student", "rows", "weights"} <= training.keys())
    return noted if is_ours else {}


def began_with_of(folder: Path) -> str | None:
    """The checksum of the weights that a trained folder's student began with, else None."""
    found = (note_of(folder).get("of") or {}).get("student")
    return found if isinstance(found, str) else None
