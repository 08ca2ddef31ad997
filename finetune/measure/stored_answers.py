"""Answers of evaluations that belong to no run: a file each under data/runs, so that they go on and can be paired."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.note import note_of
from finetune.student import find, identity
from harvest.core.config import runs_folder
from harvest.core.errors import InputError


def kept_folder() -> Path:
    return runs_folder() / ".evaluations"


class Kept:
    """A record in a folder. A file's first line has an evaluation's settings, as have later ones where they changed;
    every other line is an answer. A line that broke off is an answer still missing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or kept_folder()
        self._known: dict[str, Mapping[str, Any]] = {}
        """The settings that stand last in a file, for those that were written to."""

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """On the disk when it returns. Raises InputError where it cannot be written."""
        lines = [json.dumps({"answer": dict(r)}, ensure_ascii=False) for r in rows]
        if dict(settings) != (self._known.get(key) or self.settings(key)):
            lines.insert(0, json.dumps({"settings": dict(settings)}, ensure_ascii=False))
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600), "ab+") as f:
                if f.seek(0, os.SEEK_END) and f.seek(-1, os.SEEK_END) and f.read(1) != b"\n":
                    lines.insert(0, "")
                f.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
                f.flush()
                os.fsync(f.fileno())
            self._known[key] = dict(settings)
        except OSError as e:
            raise InputError(f"{path}: cannot be written: {e.strerror}: no answer can be kept") from None

    def answers(self, key: str) -> list[dict[str, Any]]:
        """Each (question, sample) once."""
        found = (line["answer"] for line in self._lines(self._path(key)) if "answer" in line)
        return list({(r["question_id"], r["sample"]): r for r in found}.values())

    def settings(self, key: str) -> dict[str, Any]:
        """The latest, {} where there is no such evaluation."""
        found: dict[str, Any] = {}
        for line in self._lines(self._path(key)):
            found = line.get("settings", found)
        return found

    def of(self, weights: str | None, label: str) -> list[dict[str, Any]]:
        """Evaluations of the model with these weights, so labelled: key, settings and answers."""
        found = []
        for path in sorted(self.folder.glob("*.jsonl")) if weights else ():
            first: dict[str, Any] = next(self._lines(path), {}).get("settings") or {}
            if first.get("engine", {}).get("weights") == weights:
                key = f"sha256:{path.stem}"
                found.append(
                    {"key": key, "settings": self.settings(key) | {"label": label}, "answers": self.answers(key)}
                )
        return found

    def _path(self, key: str) -> Path:
        return self.folder / f"{key.removeprefix('sha256:')}.jsonl"

    @staticmethod
    def _lines(path: Path) -> Iterator[dict[str, Any]]:
        try:
            with path.open("rb") as f:
                for line in f:
                    try:
                        found = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(found, dict):
                        yield found
        except FileNotFoundError:
            return
        except OSError as e:
            raise InputError(f"{path}: cannot be read: {e.strerror}") from None


def evaluations_of(folder: Path) -> list[dict[str, Any]]:
    """Of a trained folder that belongs to no run: those of what it began with, then its own; of any other none."""
    note = note_of(folder)
    if not note.get("training"):
        return []
    began_with, kept = note.get("of", {}).get("student"), Kept()
    return [*kept.of(began_with, "before"), *kept.of(identity(find(str(folder))), "after")]
