"""`finetune verify-student FOLDER` checks where each row of a student comes from, and says what a withdrawal touches.

It asks no endpoint, opens no network and loads no model.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from finetune.commands.arguments import Overrides
from finetune.proof.check import Proof, check, place_of, price_of
from finetune.proof.withdrawal import Touched, touched_by
from harvest.core.errors import ConfigError, InputError
from harvest.core.foreign_json import Json, as_dict, as_list
from harvest.core.printable import one_line
from harvest.proof.faults import Faults
from harvest.proof.withdrawal import withdrawal_of

SHOWN_FAULTS = 50
SHOWN_ORIGINS = 5
SHOWN_NAMES = 100
"""At most so many characters of a name from a manifest are shown."""


def run(args: argparse.Namespace, _: Overrides) -> int:
    if args.withdraw:
        if args.store:
            raise ConfigError("--store: a withdrawal reads manifests alone: leave it out")
        return _withdraw(args)
    if args.rows:
        raise ConfigError("--rows: names the rows that are withdrawn: say which with --withdraw FIELD=VALUE")
    faults = Faults()
    proofs = check([place_of(name) for name in args.folders], faults)
    if args.root and proofs[0].root != args.root:
        why = "is not the manifest with the root that was published"
        faults.add(proofs[0].place.name, why, field="root", stored=args.root, found=proofs[0].root)
    told = _stored(proofs, args.store, faults) if args.store else []
    if args.json:
        found = {"holds": not faults.total, "proofs": [_as_json(p) for p in proofs], "told": told}
        print(json.dumps({**found, "faults": faults.total, "named": faults.as_json()}, ensure_ascii=False))
    else:
        print("\n".join([*_in_words(proofs, bool(args.store)), *told, *_end(faults)]))
    return InputError.exit_code if faults.total else 0


def _stored(proofs: Sequence[Proof], url: str, faults: Faults) -> list[str]:
    from finetune.proof.stored import check_stored
    from harvest.store import Store

    datasets = {p.root: p for proof in proofs for p in (*proof.data, proof) if p.kind == "dataset"}
    told = []
    with Store.open(url, write=False) as store:
        for proof in datasets.values():
            try:
                told += check_stored(proof, store, faults)
            except InputError as e:
                told.append(f"{proof.place.name}: not compared with the store: {one_line(str(e), 300)}")
    return told


def _as_json(proof: Proof) -> dict[str, Any]:
    known = {"name": proof.place.name, "kind": proof.kind, "root": proof.root, "rows": proof.rows, "sums": proof.sums}
    known["origins"] = {title: dict(counts.most_common(100)) for title, counts in proof.origins.items()}
    return {**known, "with_rows": proof.with_rows, "data": [_as_json(one) for one in proof.data]}


def _in_words(proofs: Sequence[Proof], with_store: bool) -> Iterator[str]:
    rows_of = {p.root for p in proofs if p.kind == "dataset" and p.with_rows}
    for proof in proofs:
        if proof.kind == "dataset":
            yield f"{one_line(proof.place.name)}: {_dataset(proof)}"
            yield f"  root {proof.root or 'none'}"
            yield from _origins(proof, "  ")
            if not proof.with_rows:
                yield "  not checked: the texts of the rows, whose files are not here"
            continue
        if proof.header.get("method") in MADE:
            yield f"{one_line(proof.place.name)}: {MADE[proof.header['method']]} of {_began(proof)}"
            yield f"  root {proof.root or 'none'}"
            continue
        sums = proof.sums
        fates = ", ".join(f"{_count(sums.get(n))} {w}" for n, w in _FATES.items())
        method = _name(proof.header.get("method"))
        yield f"{one_line(proof.place.name)}: student, {method} from {_began(proof)}: {fates}"
        yield f"  root {proof.root or 'none'}"
        for one in proof.data:
            yield f"  trained on {_dataset(one)}"
            yield f"    root {one.root or 'none'}"
            yield from _origins(one, "    ") if one.root not in rows_of else ()
        for of in as_list(proof.header.get("data")):
            if as_dict(of).get("manifest") is None:
                yield f"  trained on {_name(as_dict(of).get('name'))}: nothing is known of where its rows come from"
        missing = [one for one in proof.data if one.root not in rows_of]
        if missing:
            yield "  not checked: the texts of the rows; name the dataset's folder beside the student's"
        if not proof.with_rows:
            yield "  not checked: the weights, which are not here"
    if not with_store:
        yield "not compared with the store: --store URL, where it is at hand"


MADE = {"merge": "adapter merged into its model, out", "init": "layers cut out"}
"""How a student was made that was not trained, in words."""
_FATES = {"trained": "rows trained", "held_out": "held out", "left_out": "left out"}


def _began(proof: Proof) -> str:
    began_with = as_dict(proof.header.get("began_with"))
    name = _name(began_with.get("name"))
    return name if began_with.get("manifest") is None else f"{name}, a student with a manifest of its own"


def _dataset(proof: Proof) -> str:
    run = _name(proof.header.get("run"))
    return f"dataset of run {run}, {proof.rows:,} rows, {price_of(proof)}"


def _origins(proof: Proof, indent: str) -> Iterator[str]:
    for title, counts in proof.origins.items():
        shown = "; ".join(
            f"{_name(name) if name else 'unknown'}: {n:,}" for name, n in counts.most_common(SHOWN_ORIGINS)
        )
        more = f"; and {len(counts) - SHOWN_ORIGINS:,} more" if len(counts) > SHOWN_ORIGINS else ""
        yield f"{indent}{title}: {shown}{more}"


def _name(value: object) -> str:
    return one_line(value, SHOWN_NAMES) if isinstance(value, str) else "an unnamed one"


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "unknown"


def _end(faults: Faults) -> Iterator[str]:
    yield from (f"fault: {fault.words()}" for fault in faults.kept[:SHOWN_FAULTS])
    if faults.total > SHOWN_FAULTS:
        yield f"… and {faults.total - SHOWN_FAULTS:,} more faults"
    if not faults.total:
        yield "all that was checked holds"
    else:
        yield f"{faults.total:,} {'thing does' if faults.total == 1 else 'things do'} not hold"


# ---- what a withdrawal touches


def _withdraw(args: argparse.Namespace) -> int:
    faults, is_withdrawn = Faults(), withdrawal_of(args.withdraw, Path())
    with ExitStack() as open_files:
        file = None
        if args.rows is not None:
            try:
                file = open_files.enter_context(args.rows.open("w", encoding="utf-8", errors="replace"))
            except OSError as e:
                raise InputError(f"{args.rows}: cannot be written: {e.strerror}") from None

        def write(of: str, row: Json) -> None:
            if file is not None:
                names = ("row", "id", "question_id", "fate", "data_row", "source", "licence", "response_id")
                known = {name: row[name] for name in names if name in row}
                file.write(json.dumps({"of": of, **known}, ensure_ascii=False) + "\n")

        found = touched_by(args.folders, is_withdrawn, faults, write)
    if args.json:
        said = {"withdrawn": args.withdraw, "touched": [one.as_json() for one in found]}
        print(json.dumps({**said, "faults": faults.total, "named": faults.as_json()}, ensure_ascii=False))
    else:
        print("\n".join(_withdrawn_in_words(args.withdraw, found)))
        for line in _end(faults) if faults.total else ():
            print(line, file=sys.stderr)
    return InputError.exit_code if faults.total else 0


def _withdrawn_in_words(words: Sequence[str], found: Sequence[Touched]) -> Iterator[str]:
    datasets = [one for one in found if one.kind != "student"]
    students = [one for one in found if one.kind == "student"]
    what = " or ".join(one_line(word, SHOWN_NAMES) for word in words)
    for one in datasets:
        run = f"dataset of run {_name(one.header.get('run'))}"
        yield f"{run}: {one.withdrawn:,} of {one.rows:,} rows are withdrawn ({what}); {one_line(one.name)}"
    again = [one for one in students if one.again]
    if again:
        yield "train again, in this order:"
        yield from (f"  {one_line(one.name)}: {_why(one)}" for one in again)
    if only := [one for one in students if not one.again and one.fates["held_out"]]:
        yield "not trained on them, but chosen by held-out rows that are withdrawn:"
        yield from (f"  {one_line(one.name)}: {one.fates['held_out']:,} rows" for one in only)
    if free := [one for one in students if not one.again and not one.fates["held_out"] and not one.unknown]:
        yield "not touched: " + ", ".join(one_line(one.name) for one in free)
    for one in students:
        for unknown in one.unknown:
            of = f"{one_line(one.name)} was trained on {one_line(unknown)}"
            yield f"cannot be said: {of}, of which no manifest is known"
    if touched := [one for one in datasets if one.withdrawn]:
        yield "leave them out next time:"
        yield f"  [select] in RUN.toml: without = {json.dumps(list(words), ensure_ascii=False)}"
        setting = shlex.quote(json.dumps(list(words), ensure_ascii=False))
        for name in sorted({str(one.header.get("run")) for one in touched}):
            yield f"  or: winnow select {one_line(name, SHOWN_NAMES)} --select.without {setting}"


def _why(one: Touched) -> str:
    fates = one.fates
    own = (
        f"{fates['trained']:,} of its {_count(one.rows)} rows are withdrawn and were trained"
        if fates["trained"]
        else ""
    )
    more = f" ({fates['held_out']:,} more were held out)" if own and fates["held_out"] else ""
    below = f"stands on {', '.join(map(one_line, one.because))}" if one.because else ""
    return "; ".join(part for part in (own + more, below) if part)
