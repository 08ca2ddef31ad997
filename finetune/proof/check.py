"""Checks manifests offline: each alone, against the rows and the weights beside it, and against the manifests it names.

Whatever stands in a folder may have been changed, also to hurt whoever reads it. So no path that a manifest names is
opened, and no fault of a manifest raises.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from finetune.note import NOTE, note_of, trained_folder
from finetune.proof.student import weights_of
from finetune.rows.dataset import SUFFIXES
from harvest.core.errors import InputError
from harvest.core.files import runs_folder
from harvest.core.foreign_json import Json, as_dict, as_list
from harvest.core.money import pusd, usd
from harvest.proof.faults import Faults
from harvest.proof.kinds import FATES, KINDS, known_of
from harvest.proof.lines import sha256
from harvest.proof.manifest import COPIES, NAME, ManifestReader
from harvest.questions.files import Records

MOST_COPIES = 1000
ORIGINS = {"sources": "source", "licences": "licence", "teachers": "teacher", "terms": "teacher_terms"}
MOST_ORIGINS = 1000
PRICE = re.compile(r"\d{1,18}(\.\d{1,12})?")
CARD_ROOT = re.compile(r"\broot\b[^\n]{0,60}?sha256:([0-9a-f]{64})", re.I)
"""Finds the root that a card names."""
TEXT = "is not what was written: its text, or another column that the manifest does not repeat"
"""What is said of a row whose hash does not fit although each field that the manifest repeats does."""


class Place(NamedTuple):
    """A manifest that is to be checked: its file, the folder that it stands for, and how messages name it."""

    manifest: Path
    folder: Path
    name: str


class Found(NamedTuple):
    """A row as it stands in a file."""

    number: int
    file: str
    sha256: str
    value: Json


@dataclass(slots=True)
class Proof:
    """A manifest that was checked."""

    place: Place
    kind: str
    root: str | None
    header: Json
    sums: Json
    rows: int
    origins: Mapping[str, Counter[str]] = field(default_factory=dict)
    """How many rows of a dataset have which source, licence, teacher and terms; "": unknown."""
    with_rows: bool = False
    """Whether the rows or the weights themselves were compared with it."""
    changed: dict[str, Found] = field(default_factory=dict)
    """The rows whose text is not the one that was written, by their id. The store can name the column."""
    data: list["Proof"] = field(default_factory=list)
    """The manifests that a student's own one names, as far as they are there."""


def place_of(named: str) -> Place:
    """Returns the manifest that a word means: a student's folder, a dataset's, a run's name or folder, or a file.

    Raises InputError when there is none.
    """
    path = Path(named)
    if not path.exists() and (runs_folder() / named).is_dir():
        path = runs_folder() / named
    if path.is_file():
        return Place(path, path.parent, named)
    for folder in (path, path / "dataset", trained_folder(path)):
        if (folder / NAME).is_file():
            return Place(folder / NAME, folder, str(folder))
    if not path.exists():
        raise InputError(f"{named}: there is no such folder or run")
    raise InputError(
        f"{named}: has no {NAME}: `python -m harvest export RUN` writes one beside its rows, and a training of winnow"
        " writes one beside the student"
    )


def check(places: Sequence[Place], faults: Faults) -> list[Proof]:
    """Checks each manifest and what stands beside it. Raises InputError when a file cannot be read."""
    return [_check(place, faults) for place in places]


def _check(place: Place, faults: Faults) -> Proof:
    name = f"{place.name}/{NAME}" if place.manifest.parent == Path(place.name) else place.name
    reader = ManifestReader(place.manifest, name, faults, KINDS)
    if reader.kind == "student":
        return _student(place, reader, faults)
    proof = _dataset(place, reader, faults) if place.manifest.name == NAME else _alone(place, reader, faults)
    _card(place, proof, faults)
    return proof


# ---- a dataset


class _Sums:
    """Adds up the rows of a dataset's manifest."""

    def __init__(self) -> None:
        self.origins = {title: Counter[str]() for title in ORIGINS}
        self._hash, self._cost_pusd, self._costless, self._accepted = hashlib.sha256(), 0, 0, 0

    def add(self, row: Json) -> None:
        self._hash.update(row["sha256"].encode("utf-8", "replace"))
        for title, counts in self.origins.items():
            value = row[ORIGINS[title]] or ""
            counts[value if value in counts or len(counts) < MOST_ORIGINS else "others"] += 1
        self._accepted += row["accepted"]
        self._costless += row["cost_usd"] is None
        self._cost_pusd += _pusd(row["cost_usd"])

    def compare(self, reader: ManifestReader, faults: Faults) -> None:
        said = reader.sums
        found = {"accepted": self._accepted, "without_cost": self._costless, "cost_usd": usd(self._cost_pusd)}
        for name, value in found.items():
            if said.get(name) != value:
                faults.add(
                    reader.name, "the rows add up to another sum", field=name, stored=said.get(name), found=value
                )
        whole = self._hash.hexdigest()
        if (stored := said.get("dataset_sha256")) != whole:
            faults.add(reader.name, "the rows' hashes give another", field="dataset_sha256", stored=stored, found=whole)


def _pusd(cost_usd: str | None) -> int:
    """Returns a price in picodollars; 0 if it is unknown, or no price."""
    return pusd(Decimal(cost_usd)) if cost_usd is not None and PRICE.fullmatch(cost_usd) else 0


def _alone(place: Place, reader: ManifestReader, faults: Faults) -> Proof:
    """Checks a dataset's manifest without its rows."""
    sums = _Sums()
    for row in reader.rows():
        sums.add(row)
    return _ended(place, reader, sums, faults)


def _ended(place: Place, reader: ManifestReader, sums: _Sums, faults: Faults) -> Proof:
    if reader.kind:
        sums.compare(reader, faults)
    known = (reader.root, reader.header, reader.sums, reader.size_rows, sums.origins)
    return Proof(place, reader.kind or "dataset", *known)


def _dataset(place: Place, reader: ManifestReader, faults: Faults) -> Proof:
    """Checks a dataset's manifest against the rows beside it."""
    files = sorted(
        p for p in place.folder.iterdir() if p.suffix in SUFFIXES and p.name.startswith("train") and p.is_file()
    )
    if not files:
        return _alone(place, reader, faults)
    where = index_of(place.manifest)
    found = _found(files, place.name)
    sums, changed, shift, ahead = _Sums(), dict[str, Found](), 0, next(found, None)
    for row in reader.rows():
        sums.add(row)
        while ahead is not None and ahead.number + shift < row["row"]:
            faults.add(ahead.file, "is in no row of the manifest", row=ahead.number)
            ahead = next(found, None)
        if ahead is None:
            faults.add(
                reader.name, "has a row that is in no file", row=row["row"], field="sha256", stored=row["sha256"]
            )
            continue
        if ahead.sha256 != row["sha256"]:
            following = next(found, None)
            if following is not None and following.sha256 == row["sha256"]:
                faults.add(ahead.file, "is in no row of the manifest", row=ahead.number)
                shift -= 1
                ahead = next(found, None)
                continue
            found = chain(() if following is None else (following,), found)
            if where.get(ahead.sha256, -1) > row["row"]:
                faults.add(reader.name, "has a row that is in no file", row=row["row"], field="sha256")
                shift += 1
                continue
        _compare(row, ahead, changed, faults)
        ahead = next(found, None)
    while ahead is not None:
        faults.add(ahead.file, "is in no row of the manifest", row=ahead.number)
        ahead = next(found, None)
    proof = _ended(place, reader, sums, faults)
    proof.with_rows, proof.changed = True, changed
    return proof


def _found(files: Sequence[Path], folder: str) -> Iterator[Found]:
    number = 0
    for path in files:
        for record in Records(path, exact=False):
            value = record.value if isinstance(record.value, dict) else {}
            digest = record.digest if path.suffix != ".parquet" else sha256(value)
            yield Found(number, f"{folder}/{path.name}", digest, value)
            number += 1


def index_of(manifest: Path) -> dict[str, int]:
    """Maps the hash of each row of a manifest to its number. Faults are not looked for."""
    return {row["sha256"]: row["row"] for row in ManifestReader(manifest, "", Faults(), KINDS).rows()}


def _compare(row: Json, found: Found, changed: dict[str, Found], faults: Faults) -> None:
    """Names each field in which a row of a file is not what the manifest says. A manifest that was made to fit again
    has hashes that hold and fields that do not."""
    before = faults.total
    if "question_id" in found.value:
        for name, value in known_of(found.value).items():
            if value != row[name]:
                why = "is not what the manifest says"
                faults.add(found.file, why, row=found.number, field=name, stored=row[name], found=value)
    if found.sha256 != row["sha256"] and faults.total == before:
        changed[row["id"]] = found
        why = TEXT if found.value else "cannot be read as a row"
        faults.add(found.file, why, row=found.number, field="sha256", stored=row["sha256"], found=found.sha256)


def _card(place: Place, proof: Proof, faults: Faults) -> None:
    """Compares the root that the card beside a manifest names."""
    if place.manifest.name != NAME:
        return
    card = place.folder / "README.md"
    if not card.is_file():  # a pipe would be waited for
        return
    try:
        with card.open("rb") as file:
            text = file.read(8 << 20).decode("utf-8", "replace")
    except OSError:
        return
    found = CARD_ROOT.search(text)
    if found is not None and f"sha256:{found[1]}" != proof.root:
        said = f"sha256:{found[1]}"
        faults.add(f"{place.name}/README.md", "names another root", field="root", stored=said, found=proof.root)


# ---- a student


def _student(place: Place, reader: ManifestReader, faults: Faults) -> Proof:
    header, copies = reader.header, _copies(place, faults)
    for of in (Proof(place, "student", None, header, {}, 0), *copies.values()):
        for what, root in _named(of):
            if root not in copies:
                shown = reader.name if of.place is place else of.place.name
                faults.add(shown, f"the manifest of {what} is not in {COPIES}/", field=what, stored=root)
    roots = [as_dict(of).get("manifest") for of in as_list(header.get("data"))]
    data = [copies.get(root) if isinstance(root, str) else None for root in roots]
    known = [() if proof is None else tuple(_keys(proof.place.manifest)) for proof in data]
    counts = dict.fromkeys(FATES, 0)
    for row in reader.rows():
        if row["fate"] not in counts:
            faults.add(reader.name, "is none of " + ", ".join(FATES), row=row["row"], field="fate", found=row["fate"])
            continue
        counts[row["fate"]] += 1
        _in_its_data(row, known, reader, faults)
    for name, count in counts.items():
        if reader.sums.get(name) != count:
            said = reader.sums.get(name)
            faults.add(reader.name, "the rows add up to another number", field=name, stored=said, found=count)
    proof = Proof(place, "student", reader.root, header, reader.sums, reader.size_rows)
    proof.data = [one for one in data if one is not None]
    _weights(place, reader, proof, faults)
    _note(place, header, reader, faults)
    _card(place, proof, faults)
    return proof


def _copies(place: Place, faults: Faults) -> dict[str, Proof]:
    """Checks each manifest in the folder of copies, and returns them by the roots that their names say."""
    folder = place.folder / COPIES
    found = {}
    for path in sorted(folder.glob("*.manifest"))[:MOST_COPIES] if folder.is_dir() else ():
        shown, root = f"{place.name}/{COPIES}/{path.name}", f"sha256:{path.stem}"
        proof = _check_copy(Place(path, place.folder, shown), faults)
        if proof.root != root:
            faults.add(shown, "its lines do not give the root that its name says", field="root", found=proof.root)
        found[root] = proof
    return found


def _check_copy(place: Place, faults: Faults) -> Proof:
    reader = ManifestReader(place.manifest, place.name, faults, KINDS)
    if reader.kind != "student":
        return _alone(place, reader, faults)
    for _ in reader.rows():
        pass
    return Proof(place, "student", reader.root, reader.header, reader.sums, reader.size_rows)


def _named(proof: Proof) -> Iterator[tuple[str, object]]:
    """Gives (what it is, root) of each manifest that a student's header names."""
    if proof.kind != "student":
        return
    groups = {"data": proof.header.get("data"), "teachers": proof.header.get("teachers")}
    every = [(f"{kind} {n}", of) for kind, some in groups.items() for n, of in enumerate(as_list(some))]
    for what, of in (*every, ("began_with", proof.header.get("began_with"))):
        if (root := as_dict(of).get("manifest")) is not None:
            yield what, root


def _keys(manifest: Path) -> Iterator[tuple[int, str, str, str]]:
    """Gives (number, hash, id, id of the question) of each row of a dataset's manifest."""
    for row in ManifestReader(manifest, "", Faults(), {"dataset": KINDS["dataset"]}).rows():
        yield row["row"], row["sha256"], row["id"], row["question_id"]


def _in_its_data(
    row: Json, known: Sequence[Sequence[tuple[int, str, str, str]]], reader: ManifestReader, faults: Faults
) -> None:
    """Compares a student's row with the row of the dataset that it names."""
    n, at = row["data"], row["data_row"]
    if n is None and at is None:
        return
    if n is None or at is None or not 0 <= n < len(known) or not 0 <= at < len(known[n]) or known[n][at][0] != at:
        if n is None or at is None or not 0 <= n < len(known) or known[n]:
            faults.add(
                reader.name, "names a row that is in no dataset of it", row=row["row"], field="data_row", found=at
            )
        return
    stored = dict(zip(("sha256", "id", "question_id"), known[n][at][1:], strict=True))
    for name, value in stored.items():
        if row[name] != value and (row["id"] is not None or name == "sha256"):
            why = f"is not that of row {at} of its dataset"
            faults.add(reader.name, why, row=row["row"], field=name, stored=value, found=row[name])


def _weights(place: Place, reader: ManifestReader, proof: Proof, faults: Faults) -> None:
    """Compares the files of weights with their hashes. A folder without any is the manifest alone."""
    stored, there = as_dict(reader.sums.get("weights")), weights_of(place.folder)
    if not there:
        return
    proof.with_rows = True
    for name in sorted({*stored, *there}):
        if stored.get(name) != there.get(name):
            why = "is not the file that the training wrote"
            where = f"{place.name}/{name}"
            faults.add(where, why, field="sha256", stored=stored.get(name), found=there.get(name))


def _note(place: Place, header: Mapping[str, Any], reader: ManifestReader, faults: Faults) -> None:
    """Compares what winnow.json, where it is, says of the rows."""
    of = as_dict(note_of(place.folder).get("of")) if (place.folder / NOTE).is_file() else {}
    stored = header.get("examples")
    if of.get("data") is not None and stored is not None and of["data"] != stored:
        faults.add(f"{place.name}/{NOTE}", "is of other rows", field="of.data", stored=stored, found=of["data"])


def price_of(proof: Proof) -> str:
    """Returns what the rows of a dataset cost, in words."""
    unknown = proof.sums.get("without_cost")
    cost = proof.sums.get("cost_usd")
    known = f"${cost}" if isinstance(cost, str) else "of unknown cost"
    return known + (f", the price of {unknown:,} unknown" if isinstance(unknown, int) and unknown else "")
