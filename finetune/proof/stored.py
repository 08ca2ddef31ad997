"""Compares manifests with the store: each answer, its price and its verdicts, and the dataset made anew from there."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune.proof.check import Proof
from harvest.core.config import Export
from harvest.core.errors import ConfigError, InputError
from harvest.core.foreign_json import Json, as_dict, as_list
from harvest.core.settings import validated
from harvest.endpoint import prompt as prompts
from harvest.export.census import Census
from harvest.export.rows import columns_of, rows, stored_origins
from harvest.export.shards import row_sha256
from harvest.proof.faults import Faults
from harvest.proof.kinds import KINDS
from harvest.proof.manifest import ManifestReader
from harvest.store import Store, StoredRun

BEFORE, AFTER = 20, 60
"""How many characters of a text before and after the first difference are shown."""
LATER = ("accepted", "reason", "verdicts", "rewritten")
"""Fields that a later judgement may change in the store, or that only a selection knows."""


def check_stored(proof: Proof, store: Store, faults: Faults) -> list[str]:
    """Compares a dataset's manifest with the run in the store. Returns what is to be said besides faults.

    Raises InputError when the store has no run of that name.
    """
    name = str(proof.header.get("run"))
    run = store.run(name)
    prompt = prompts.parse(run.prompt_text, Path(run.config.prompt).stem, "the run's prompt")
    told = [_answers(proof, store, run, prompt, faults)]
    try:
        settings = validated(Export, as_dict(proof.header.get("export")), "export")
        told.append(_made_anew(proof, rows(store, run, prompt, settings, Census()), settings, faults))
    except ConfigError:
        faults.add(proof.place.name, "no export has these settings", field="export")
    except InputError as e:
        told.append(f"not made anew: {e}")
    return told


def _answers(proof: Proof, store: Store, run: StoredRun, prompt: Any, faults: Faults) -> str:
    """Compares each row of the manifest with the answer in the store."""
    manifest, judged_again, compared = _Manifest(proof), 0, 0
    left = dict(manifest.by_id)
    for stored, every in stored_origins(store, run, prompt):
        if (row := left.pop(stored["id"], None)) is None:
            continue
        compared += 1
        again = row["verdicts"] != stored["verdicts"] and all(v in every for v in row["verdicts"])
        judged_again += again
        for name, value in stored.items():
            if row[name] != value and not (name in LATER and (again or name == "rewritten")):
                why = "is not what the store says"
                faults.add(manifest.name, why, row=row["row"], field=name, stored=value, found=row[name])
    for row in left.values():
        faults.add(manifest.name, "is no answer in the store", row=row["row"], field="id", found=row["id"])
    again_words = f"; {judged_again:,} of them were judged again since" if judged_again else ""
    return f"{compared:,} answers compared with run {run.name} in the store{again_words}"


class _Manifest:
    """The rows of a dataset's manifest in memory, by their ids."""

    def __init__(self, proof: Proof) -> None:
        self.name = proof.place.name
        self.by_id: dict[str, Json] = {}
        for row in ManifestReader(proof.place.manifest, "", Faults(), {"dataset": KINDS["dataset"]}).rows():
            self.by_id.setdefault(row["id"], row)


def _made_anew(proof: Proof, exported: Iterator[Any], settings: Export, faults: Faults) -> str:
    """Makes the dataset's rows from the store, in memory, and compares their hash with the manifest's."""
    whole, n, columns = hashlib.sha256(), 0, columns_of(settings)
    for row, _, origin in exported:
        whole.update(row_sha256(row, settings.format, columns).encode())
        n += 1
        if (changed := proof.changed.get(origin["id"])) is not None:
            place, one, other = _first_difference("", _plain(row), _plain(changed.value))
            why = "is not what the store says"
            faults.add(changed.file, why, row=changed.number, field=place, stored=one, found=other)
    if whole.hexdigest() == proof.sums.get("dataset_sha256"):
        return f"made anew from the store: the same {n:,} rows, sha256:{whole.hexdigest()}"
    return (
        f"made anew from the store: another dataset of {n:,} rows, sha256:{whole.hexdigest()}: selected, judged or"
        " scored again since, or not this store"
    )


def _first_difference(place: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Returns where two values differ first, and both there. Of texts it is the part around the first difference."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
        if names:
            dot = "." if place else ""
            return _first_difference(f"{place}{dot}{names[0]}", one.get(names[0]), other.get(names[0]))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        n = next((n for n, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1]), None)
        if n is not None:
            return _first_difference(f"{place}[{n}]", one[n], other[n])
    if isinstance(one, str) and isinstance(other, str):
        pairs = enumerate(zip(one, other, strict=False))
        at = next((n for n, pair in pairs if pair[0] != pair[1]), min(len(one), len(other)))
        return place, one[max(0, at - BEFORE) : at + AFTER], other[max(0, at - BEFORE) : at + AFTER]
    return place, one, other


def _plain(value: Any) -> Any:
    """Returns a value without the nulls that a Parquet file adds."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    return [_plain(one) for one in as_list(value)] if isinstance(value, list) else value
