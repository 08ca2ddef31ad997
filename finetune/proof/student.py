"""Writes the manifest of a student: what became of each row in the training, down to the hash of its tokens."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.note import trained_folder
from finetune.recipe import Recipe
from finetune.rows.examples import Examples, example_of
from finetune.rows.render import Example
from harvest.core.machine import release
from harvest.proof.faults import Faults
from harvest.proof.kinds import KINDS
from harvest.proof.manifest import COPIES, NAME, ManifestReader, ManifestWriter, copied, copy_name

NONE = "it has no manifest, or one whose lines do not give its root"
"""Why nothing is known of a dataset's rows, or of what a model was trained on before."""
STORED = "stored"
"""The teacher's name in [distill] that means the run's own store."""


def gathered(output: Path, recipe: Recipe, manifests: Sequence[str], began_with: str) -> dict[str, Any]:
    """Copies into the student's folder the manifests of its datasets, and those of the models that it learns from.

    Returns what the header of its own manifest says of them. `manifests` are the datasets' as `Examples` has them, and
    `began_with` is the checksum of the weights that the training begins with. Raises OSError.
    """
    copies = output / COPIES
    shutil.rmtree(copies, ignore_errors=True)  # of another training that ended before its first step
    names = (recipe.data, *(mixed.data for mixed in recipe.mix))
    paths = [*manifests, *[""] * (len(names) - len(manifests))]
    teachers = [name for name in (recipe.distill.teachers if recipe.distill else ()) if name != STORED]
    return {
        "data": [_of(name, Path(path) if path else None, copies) for name, path in zip(names, paths, strict=True)],
        "began_with": {**_of(recipe.student, _manifest_of(recipe.student), copies), "weights": began_with},
        "teachers": [_of(name, _manifest_of(name), copies) for name in teachers],
    }


def _manifest_of(model: str) -> Path | None:
    folder = Path(model)
    return trained_folder(folder) / NAME if folder.is_dir() else None


def _of(name: str, manifest: Path | None, copies: Path) -> dict[str, Any]:
    root = None if manifest is None else copied(manifest, copies)
    return {"name": name, "manifest": root, "unknown": NONE if root is None else None}


def write_trained(
    output: Path, recipe: Recipe, facts: Mapping[str, Any], examples: Examples, trained: Examples, held_out: Examples
) -> str:
    """Writes the manifest of a finished training into its folder, and returns its root.

    `facts` is what `gathered` returned when the training began. Raises OSError.
    """
    header = {
        "method": "prefer" if recipe.prefer else "distill" if recipe.distill else "sft",
        "weights": recipe.method,
        **facts,
        "render": recipe.render.model_dump(mode="json"),
        "seed": recipe.train.seed,
        "epochs": recipe.train.epochs,
        "examples": examples.digest,
    }
    return _write(output, header, _rows(examples, trained, held_out, _places(output, facts["data"])))


def write_made(folder: Path, method: str, source: Path) -> str | None:
    """Writes the manifest of a model that was made of another one without training: merged, or cut out of it.

    Returns its root; None when `source`, the other one's folder, has no manifest. Raises OSError.
    """
    began_with = _of(str(source), trained_folder(source) / NAME, folder / COPIES)
    if began_with["manifest"] is None:
        return None
    return _write(folder, {"method": method, "data": [], "began_with": began_with, "teachers": []}, iter(()))


def _write(folder: Path, header: Mapping[str, Any], rows: Iterator[dict[str, Any]]) -> str:
    part = folder / f".{NAME}.part"
    sums: dict[str, Any] = {"trained": 0, "held_out": 0, "left_out": 0}
    with ManifestWriter(part, {"kind": "student", "winnow": release(), **header}) as manifest:
        for row in rows:
            sums[row["fate"]] += 1
            manifest.put(row)
        root = manifest.end({**sums, "weights": weights_of(folder)})
    part.chmod(0o644)
    part.replace(folder / NAME)
    return root


def weights_of(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file of weights in a folder."""
    files = sorted(p for suffix in ("*.safetensors", "*.bin") for p in folder.glob(suffix) if p.is_file())
    found = {}
    for path in files:
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _places(output: Path, data: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Maps the hash of each row that a dataset's manifest has to (the dataset's place in `data`, the row's number)."""
    places: dict[str, tuple[int, int]] = {}
    for n, dataset in enumerate(data):
        if (name := copy_name(dataset["manifest"])) is not None:
            for row in ManifestReader(output / COPIES / name, name, Faults(), KINDS).rows():
                places.setdefault(row["sha256"], (n, row["row"]))
    return places


def _rows(
    examples: Examples, trained: Examples, held_out: Examples, places: Mapping[str, tuple[int, int]]
) -> Iterator[dict[str, Any]]:
    table = examples.table
    fates = {line: fate for fate, some in (("trained", trained), ("held_out", held_out)) for line in _lines(some)}
    names = ("sha256", "id", "question_id")
    known = dict(zip(names, (table[name].to_pylist() for name in names), strict=True))
    is_pairs = "rejected_sha256" in table.column_names
    for line in range(table.num_rows):
        fate = fates.get(line, "left_out")
        why = None if fate != "left_out" else "the recipe takes a share of the rows"
        example = example_of(table["ids"][line], table["trained"][line])
        sha256, own, question_id = (known[name][line] for name in names)
        if not is_pairs:
            yield _row(sha256, own, question_id, places, fate, why, None, example)
            continue
        chosen = table["chosen_tokens"][line].as_py()
        other = (table["rejected_sha256"][line].as_py(), table["rejected_id"][line].as_py())
        halves = (slice(chosen), slice(chosen, None))
        for row, half, side in zip(((sha256, own), other), halves, ("chosen", "rejected"), strict=True):
            part = Example(example.ids[half], example.mask[half])
            yield _row(*row, question_id, places, fate, why, [line, side], part)
    for out in examples.left_out:
        yield _row(out.sha256, out.id, out.question_id, places, "left_out", out.why, None, None)


def _lines(examples: Examples) -> Sequence[int]:
    return range(len(examples)) if examples.at is None else examples.at


def _row(
    sha256: str, own: str, question_id: str, places: Mapping[str, tuple[int, int]], fate: str, why: str | None,
    pair: list[Any] | None, example: Example | None,
) -> dict[str, Any]:  # fmt: skip
    data, data_row = places.get(sha256, (None, None))
    return {
        "data": data,
        "data_row": data_row,
        "sha256": sha256 or None,
        "id": own or None,
        "question_id": question_id or None,
        "fate": fate,
        "why": why,
        "pair": pair,
        "tokens": None if example is None else len(example),
        "trained_tokens": None if example is None else sum(example.mask),
        "tokens_sha256": None if example is None else tokens_sha256(example),
    }


def tokens_sha256(example: Example) -> str:
    """Returns the hash of what is trained of a row: its token ids as little-endian int32, then its mask, one byte a
    token."""
    return hashlib.sha256(example.ids.tobytes() + example.mask.tobytes()).hexdigest()
