"""Says what a withdrawn source touches: which rows of which dataset, and which students must be trained again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.proof.check import MOST_COPIES, Place, place_of
from harvest.core.errors import InputError
from harvest.core.foreign_json import Json, as_dict, as_list
from harvest.proof.faults import Faults
from harvest.proof.kinds import FATES, KINDS
from harvest.proof.manifest import COPIES, NAME, ManifestReader

MOST_FOLDERS = 100_000
"""At most this many folders are looked into below a folder that has no manifest itself."""


@dataclass(slots=True)
class Touched:
    """A dataset or a student, by its manifest's root, and how many of its rows are withdrawn."""

    root: str
    kind: str
    name: str
    header: Json
    rows: int
    withdrawn: int = 0
    """Of a dataset: the rows that are withdrawn. Of a student: those of them in its training."""
    fates: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FATES, 0))
    """What became of them in a student's training."""
    again: bool = False
    """Whether it must be made again: a dataset without the rows, a student without them."""
    stands_on: list["Touched"] = field(default_factory=list)
    """The students that it began with or learnt from."""
    depth: int = 0
    """How many students stand below it, itself included; 0 for a dataset."""
    unknown: list[str] = field(default_factory=list)
    """The datasets and models of which no manifest says where their rows come from."""

    @property
    def because(self) -> list[str]:
        """Returns the names of the students that it stands on and that must be trained again."""
        return [other.name for other in self.stands_on if other.again]

    def as_json(self) -> dict[str, Any]:
        of_student = {"fates": self.fates, "because": self.because, "unknown": self.unknown}
        known = {"kind": self.kind, "name": self.name, "root": self.root, "run": self.header.get("run")}
        sums = {"rows": self.rows, "withdrawn": self.withdrawn, "again": self.again}
        return {**known, **sums, **(of_student if self.kind == "student" else {})}


def touched_by(
    named: Sequence[str],
    is_withdrawn: Callable[[Mapping[str, Any]], bool],
    faults: Faults,
    row_found: Callable[[str, Json], None] = lambda _, __: None,
) -> list[Touched]:
    """Returns every dataset and student in these folders, those first on which others stand.

    A folder without a manifest is searched for folders that have one. `row_found` is called with the name of a dataset
    or of a student and each row of it that is withdrawn. What does not hold in a manifest goes into `faults`. Raises
    InputError when there is no manifest at all.
    """
    found: dict[str, Touched] = {}
    withdrawn: dict[str, set[int]] = {}
    students = []
    for place in _every(named, found):
        reader = ManifestReader(place.manifest, place.name, faults, KINDS, marks=False)
        if reader.kind == "student":
            students.append((place, reader))
            continue
        gone: set[int] = set()
        for row in reader.rows():
            if is_withdrawn(row):
                gone.add(row["row"])
                row_found(place.name, row)
        dataset = Touched(str(reader.root), "dataset", place.name, reader.header, reader.size_rows, len(gone))
        dataset.again = bool(gone)
        found.setdefault(dataset.root, dataset)
        withdrawn.setdefault(dataset.root, gone)
    for place, reader in students:
        if (one := _student(place, reader, withdrawn, found, row_found)) is not None:
            found.setdefault(one.root, one)
    _stand_on(found)
    return sorted(found.values(), key=lambda one: (one.kind, one.depth))


def _every(named: Sequence[str], found: Mapping[str, object]) -> Iterator[Place]:
    """Gives the manifests of the folders, then the copies beside them whose roots are not `found` by then."""
    places: list[Place] = []
    for name in named:
        try:
            places.append(place_of(name))
        except InputError:
            folders = _folders(Path(name))
            places += [Place(folder / NAME, folder, str(folder)) for folder in folders]
            if not folders:
                raise
    places = list(dict.fromkeys(places))
    yield from places
    for copies in dict.fromkeys(place.folder / COPIES for place in places):
        for path in sorted(copies.glob("*.manifest"))[:MOST_COPIES] if copies.is_dir() else ():
            if f"sha256:{path.stem}" not in found:
                yield Place(path, path.parent, str(path))


def _folders(top: Path) -> list[Path]:
    """Returns the folders below `top` that have a manifest. Links are not followed."""
    found: list[Path] = []
    waiting, seen = [top] if top.is_dir() else [], 0
    while waiting and seen < MOST_FOLDERS:
        folder = waiting.pop()
        seen += 1
        try:
            inside = sorted(folder.iterdir(), reverse=True)
        except OSError:
            continue
        if (folder / NAME).is_file():
            found.append(folder)
        waiting += [p for p in inside if p.is_dir() and not p.is_symlink() and p.name != COPIES]
    return sorted(found)


def _student(
    place: Place, reader: ManifestReader, withdrawn: Mapping[str, set[int]], found: Mapping[str, object],
    row_found: Callable[[str, Json], None],
) -> Touched | None:  # fmt: skip
    """Counts the rows of a student's training that are withdrawn. Returns None for a copy of a student that is there
    already."""
    if f"sha256:{place.manifest.stem}" in found:
        return None
    one = Touched("", "student", place.name, reader.header, 0)
    of = [as_dict(data) for data in as_list(one.header.get("data"))]
    roots = [data.get("manifest") for data in of]
    gone = [withdrawn.get(root, set()) if isinstance(root, str) else set() for root in roots]
    lost = [data for data, root in zip(of, roots, strict=True) if not isinstance(root, str) or root not in withdrawn]
    one.unknown = [str(data.get("name")) for data in lost]
    strange = 0
    for row in reader.rows():
        n = row["data"]
        if n is None or not 0 <= n < len(gone):
            strange += row["fate"] == "trained"
        elif row["data_row"] in gone[n] and row["fate"] in one.fates:
            one.fates[row["fate"]] += 1
            row_found(one.name, row)
    if strange and not lost:
        one.unknown.append(f"{strange:,} rows that no manifest has")
    one.root, one.rows = str(reader.root), reader.size_rows
    one.withdrawn, one.again = sum(one.fates.values()), one.fates["trained"] > 0
    return one


def _stand_on(found: Mapping[str, Touched]) -> None:
    """Marks the students that stand on one that must be trained again, however many lie between."""
    students = [one for one in found.values() if one.kind == "student"]
    for one in students:
        roots = [model.get("manifest") for model in _models(one)]
        one.stands_on = [found[root] for root in roots if isinstance(root, str) and root in found]
        one.unknown += [f"a model of {one.name}" for root in roots if isinstance(root, str) and root not in found]
    for _ in students:  # each pass goes one student deeper
        before = [(one.depth, one.again) for one in students]
        for one in students:
            one.depth = 1 + max((other.depth for other in one.stands_on), default=0)
            one.again |= any(other.again for other in one.stands_on)
        if before == [(one.depth, one.again) for one in students]:
            break


def _models(one: Touched) -> list[Json]:
    return [as_dict(one.header.get("began_with")), *map(as_dict, as_list(one.header.get("teachers")))]
