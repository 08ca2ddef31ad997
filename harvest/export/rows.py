"""Traces as a dataset: what `datasets.load_dataset` and trainers take, with a card.

A folder with one file of JSON lines or Parquet, or several where it is large, the training part of each row first, and
a README.md that gives the column types (so that a column which is empty at first loads all the same), the counts and
the costs. The folder appears as a whole, in place of the one before.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harvest.answers.candidate import asked_under, candidate_of
from harvest.core.config import Export, teachers_of
from harvest.core.errors import InputError
from harvest.core.files import write_whole
from harvest.core.money import usd
from harvest.core.nouns import content_hash
from harvest.core.settings import validated
from harvest.endpoint import Prompt
from harvest.export.card import card
from harvest.export.card_header import Written
from harvest.export.census import Census
from harvest.export.layouts import (
    LAYOUTS,
    B,
    Columns,
    F,
    N,
    T,
    files_beside,
    quotes_marks,
    training_columns,
    training_part,
)
from harvest.export.shards import Shards
from harvest.filters.rewrite import VERSION as REWRITE_VERSION
from harvest.filters.rewrite import rewritten
from harvest.store import AnsweredAttempt, NewestPass, Store

OURS = re.compile(r"README\.md|train(-\d{5,}-of-\d{5,})?\.(jsonl|parquet)|dataset_info\.json|axolotl\.yaml")
SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "reasoning_effort")
MEGABYTE = 1_000_000
ROWS_A_WORD = 500
"""So many rows between two words on how far it is."""
NOT_JUDGED = "not_judged"
"""The reason of an answer that waits for others to its question, or came last before a stop."""

PROVENANCE: Columns = {
    "id": T, "question_id": T, "question": T, "reasoning": T, "answer": T, "gold": T, "domain": T, "difficulty": T,
    "original": {"reasoning": T, "answer": T},
    "teacher": {
        "model": T, "base_url": T, "revision": T, "served_model": T, "served_by": T, "system_fingerprint": T,
        "response_id": T,
    },
    "prompt": {"name": T, "sha256": T},
    "sampling": {
        "max_tokens": N, "temperature": F, "top_p": F, "top_k": N, "min_p": F, "seed": N, "reasoning_effort": T,
        "extra": T,
    },
    "sample": N, "finish_reason": T,
    "usage": {"input_tokens": N, "cached_input_tokens": N, "output_tokens": N, "reasoning_tokens": N},
    "cost_usd": T,
    "verdicts": [{"check": T, "version": T, "passed": B, "detail": T, "share": F}],
    "accepted": B, "reason": T, "selected": B, "unselected": T,
    "source": T, "licence": T, "teacher_terms": T, "asked_at": T,
}  # fmt: skip
"""What is known of a trace, after its training part. `original`: what the teacher wrote, where the row is rewritten.
`selected` and `unselected`: what the newest selection says of it and why, in every export."""


def columns_of(settings: Export) -> Columns:
    """The columns of a row and their types."""
    training = training_columns(settings)
    if settings.columns == "training":
        return training
    return {**training, **_renamed(PROVENANCE, settings)}


def _renamed(known: Mapping[str, Any], settings: Export) -> dict[str, Any]:
    """The prompt's name under the name that the layout leaves free for it."""
    to = LAYOUTS[settings.layout].prompt_column
    return {to if name == "prompt" else name: value for name, value in known.items()}


def _known(
    a: AnsweredAttempt, config: Mapping[str, Any], prompt: Prompt, parts: tuple[str | None, str],
    original: tuple[str | None, str] | None,
) -> dict[str, Any]:  # fmt: skip
    """What is known of one attempt, in the columns of PROVENANCE."""
    teacher, question, reply = teachers_of(config)[a.teacher], a.question, a.reply
    sampling = teacher["sampling"]
    return {
        "id": content_hash([a.key, question.id]).removeprefix("sha256:")[:32],
        "question_id": question.id,
        "question": question.question,
        "reasoning": parts[0],
        "answer": parts[1],
        "gold": question.answer,
        "domain": question.domain,
        "difficulty": question.difficulty,
        "original": None if original is None else {"reasoning": original[0], "answer": original[1]},
        "teacher": {
            "model": teacher["model"] or teacher["local"] or reply.served_model,
            "base_url": teacher["base_url"] or ("local" if teacher["local"] else None),
            "revision": teacher["revision"],
            "served_model": reply.served_model,
            "served_by": reply.served_by,
            "system_fingerprint": reply.system_fingerprint,
            "response_id": reply.response_id,
        },
        "prompt": {"name": prompt.name, "sha256": prompt.sha256},
        "sampling": {k: sampling[k] for k in SAMPLING}
        | {"max_tokens": a.max_tokens or None, "extra": json.dumps(sampling["extra"], sort_keys=True)},
        "sample": a.sample,
        "finish_reason": reply.finish_reason,
        "usage": {
            "input_tokens": reply.usage.input_tokens,
            "cached_input_tokens": reply.usage.cached_input_tokens,
            "output_tokens": reply.usage.output_tokens,
            "reasoning_tokens": reply.usage.reasoning_tokens,
        },
        "cost_usd": None if a.cost_pusd is None else usd(0 if a.reused else a.cost_pusd),
        "verdicts": [
            {
                "check": v.check,
                "version": v.version,
                "passed": v.passed,
                "detail": v.detail,
                "share": v.share,
            }
            for v in {v.check: v for v in a.verdicts}.values()  # the newest of each check
        ],
        "accepted": bool(a.accepted),
        "reason": a.reason or (None if a.accepted else NOT_JUDGED),
        "selected": a.selected,
        "unselected": a.unselected,
        "source": question.source,
        "licence": question.licence,
        "teacher_terms": teacher["terms"],
        "asked_at": a.sent_at or None,
    }


def rows(
    store: Store, run_id: int, config: Mapping[str, Any], prompt: Prompt, settings: Export, census: Census
) -> Iterator[tuple[dict[str, Any], int]]:
    """(a row, its characters about) for each attempt of `settings.which`; `census` counts them as they pass.

    Raises InputError where a text was rewritten by other rules than today's: it would not be the one that was checked.
    """
    imported = bool(config.get("imported"))
    if settings.which == "selected":
        _refuse_other_rules(store.newest_pass(run_id), config["name"])
    for a in store.answered_attempts(run_id, settings.which):
        candidate, original = candidate_of(a.id, a.sample, a.question, a.reply, prompt, imported=imported), None
        if settings.which == "selected" and a.rewritten and (again := rewritten(candidate)) is not None:
            original = (candidate.reasoning, candidate.answer)
            candidate = replace(candidate, reasoning=again.reasoning, answer=again.answer)
        reasoning, answer = candidate.reasoning, candidate.answer
        known = _known(a, config, prompt, (reasoning, answer), original)
        asked = [*asked_under(imported, a.reply), *prompt.student_messages(a.question)]
        census.count(known, reasoning, quotes=quotes_marks(reasoning, answer, settings))
        row = training_part(asked, reasoning, answer, settings)
        if settings.columns == "all":
            # A chain that is left out of the messages on purpose must not look as if it had been lost.
            row |= _renamed(known | {"reasoning": None} if settings.reasoning == "none" else known, settings)
        yield row, 2 * (len(reasoning or "") + len(answer) + len(a.question.question))


def _refuse_other_rules(newest: NewestPass | None, name: str) -> None:
    by = (newest.settings.get("rewrite") or {}).get("version") if newest is not None else None
    if by is not None and by != REWRITE_VERSION:
        raise InputError(
            f"run {name!r}: its selection was rewritten by rules of version {by}, and today's are {REWRITE_VERSION}, so"
            f" the texts would not be those that were checked: `python -m harvest select {name}` makes it anew"
        )


def export(
    store: Store,
    run_id: int,
    config: Mapping[str, Any],
    prompt: Prompt,
    to: Path,
    settings: Export,
    report: Mapping[str, Any],
    told: Callable[[int], None],
) -> Census:
    """Writes the dataset folder as a whole, in place of one that is there; what its rows hold.

    `told` hears now and then how many rows are written. Raises InputError where something else than such a dataset
    stands in its place.
    """
    to = to.absolute()
    _tidy(to)
    _refuse_other_things(to)
    part = _beside(to, "part")
    part.mkdir(parents=True, mode=0o700)
    census, columns = Census(), columns_of(settings)
    try:
        shards = Shards(part, settings.format, columns, settings.shard_mb * MEGABYTE)
        for row, characters in rows(store, run_id, config, prompt, settings, census):
            shards.put(row, characters)
            if census.rows % ROWS_A_WORD == 0:
                told(census.rows)
        files = shards.close()
        for name, text in files_beside(settings, to.name).items():
            write_whole(part / name, text)
        size = sum((part / name).stat().st_size for name in files)
        written = Written(to.name, files, size, columns)
        chosen = _chosen(store, run_id)
        write_whole(part / "README.md", card(config, report, settings, census, written, chosen, version=_version()))
        _put_in_place(part, to)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return census


def _chosen(store: Store, run_id: int) -> dict[str, Any] | None:
    """What the newest pass of selection was made of and what it said, for the card; None before the first."""
    newest = store.newest_pass(run_id)
    return None if newest is None else {"at": newest.at, "settings": newest.settings, "said": newest.said}


def export_settings(config: Mapping[str, Any], given: Mapping[str, Any]) -> Export:
    """The run's [export] with the command line's settings put over it. Raises ConfigError where two do not fit."""
    return validated(Export, {**config.get("export", {}), **given}, "export")


def _version() -> str:
    try:
        return version("winnow")
    except PackageNotFoundError:  # a checkout that is not installed
        return "(a checkout)"


def _refuse_other_things(to: Path) -> None:
    """Raises InputError where anything stands there that is no export of ours."""
    if not to.exists():
        return
    names = {p.name for p in to.iterdir()} if to.is_dir() else {to.name}
    if names and not (to.is_dir() and all(map(OURS.fullmatch, names)) and _is_our_card(to / "README.md")):
        raise InputError(f"{to}: holds other things than an export; name a new folder with --to")


def _is_our_card(path: Path) -> bool:
    try:
        with path.open("rb") as f:
            return b"\ntags: [reasoning, distillation, winnow]\n" in f.read(4096)
    except OSError:
        return False


def _beside(to: Path, kind: str) -> Path:
    return to.with_name(f".{to.name}.{os.getpid()}.{kind}")


def _put_in_place(part: Path, to: Path) -> None:
    """The finished folder for the one before; stopped between the two, the one before comes back."""
    old = _beside(to, "old")
    try:
        if to.exists():
            to.replace(old)
        part.replace(to)
    finally:
        if old.exists() and not to.exists():
            old.replace(to)
    shutil.rmtree(old, ignore_errors=True)


def _tidy(to: Path) -> None:
    """What an export that was killed has left: half a new folder goes, and an old one that was on its way out comes
    back."""
    left = re.compile(rf"\.{re.escape(to.name)}\.(\d+)\.(part|old)")
    found = [(p, m) for p in to.parent.glob(".*") if (m := left.fullmatch(p.name))] if to.parent.is_dir() else []
    for path, m in found:
        if _is_alive(int(m[1])):
            continue
        if m[2] == "old" and not to.exists():
            path.replace(to)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return False
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True
