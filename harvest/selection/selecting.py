"""A pass of selection over a run: sketches made where they are missing, stages, and the outcome into the store.

Texts are read once, a thousand answers at a time, by as many processes as there are cores; what is kept of them lies in
files beside the store, so whatever stops a pass, the next start goes on. The outcome is written as a whole.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from harvest.core.clock import now
from harvest.core.config import Filters, Rewrite, Select
from harvest.core.errors import ConfigError, InputError
from harvest.core.nouns import content_hash
from harvest.core.settings import Section, parse_value, validated
from harvest.filters import FILTERS
from harvest.filters import versions as filter_versions
from harvest.filters.length import CHARACTERS_A_TOKEN
from harvest.filters.rewrite import VERSION as REWRITE_VERSION
from harvest.judging.stored import versions_today
from harvest.questions.sources import GYM
from harvest.selection import minhash
from harvest.selection import near_duplicates as alike
from harvest.selection import stages as select
from harvest.selection.signatures import (
    KINDS,
    Job,
    Shard,
    Sketcher,
    Sketches,
    evaluations_of,
    lines_of,
    question_of_body,
    read_file,
)
from harvest.selection.stages import KEPT, Candidates, Outcome, Questions
from harvest.store.store import Store

SHARD = 1024
IN_THIS_PROCESS = 2 * SHARD
"""No other is started for so few."""
PAIRS_AT_ONCE = 4096
SHOWN_GROUPS = 30
DECIMALS = ("near_similarity", "min_failed")
Told = Callable[[float, float | None, str], None]


class Sections(Section):
    """What of a run's settings selection goes by, and may change."""

    select: Select = Select()
    filters: Filters = Filters()
    rewrite: Rewrite = Rewrite()


@dataclass(slots=True)
class Input:
    """All that a pass is made of; its key names the content."""

    config: dict[str, Any]
    settings: Select
    attempt: NDArray[np.int64]
    question: NDArray[np.int64]
    """The row of each attempt's question."""
    tokens: NDArray[np.int64]
    """-1 where nobody counted them."""
    failed: dict[int, float]
    against: dict[str, int]
    """Evaluations by name: how many questions each has."""
    attempts_key: str
    questions_key: str
    key: str = ""
    versions: dict[str, Any] = field(default_factory=dict)


def select_run(
    store: Store, run_id: int, settings: Select, told: Told, *, config: dict[str, Any] | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """What was selected and why the rest was not; `new` says whether anything had changed since the newest pass.

    `config` are the run's settings as they are from now on; without it they stay.

    Raises an InputError before anything is read where an evaluation cannot be.
    """
    of = _input(store, run_id, settings, config or store.config_of_id(run_id))
    newest = store.newest_pass(run_id)
    if newest is not None and newest.key == of.key:
        if config is not None and not dry_run:
            with store.transaction():
                store.put_settings(run_id, config)
        return newest.said | {"new": False}
    folder = Path(f"{store.path.absolute()}.sketches")
    attempts, faults = _sketches(store, of, folder, "attempts", of.attempt, told)
    rows = np.unique(of.question)
    questions, more = _sketches(store, of, folder, "questions", rows, told)
    candidates, known = _candidates(of, attempts, faults), _questions(of, questions, more)
    outcome = select.select(
        candidates, known, settings, _same(store, known), lambda words: told(0, None, words)
    )  # fmt: skip
    said = _said(of, candidates, known, outcome, faults) | _rewritten(faults)
    if not dry_run:
        told(0, None, "writing")
        with store.transaction():
            kept = of.settings.model_dump(mode="json") | {"versions": of.versions} | made_with(of.config)
            if config is not None:
                store.put_settings(run_id, config)
            store.put_pass(run_id, of.key, kept, said, _outcomes(candidates, outcome, faults, more, rows), now())
        _tidy(folder, run_id, {of.attempts_key, of.questions_key})
    return said | {"new": True}


def made_with(config: Mapping[str, Any]) -> dict[str, Any]:
    """[filters] and [rewrite] as a pass goes by them, and the version of the rules of rewriting, for who reads it
    later."""
    filters = Filters.model_validate(config.get("filters", {}))
    rewrite = Rewrite.model_validate(config.get("rewrite", {}))
    return {
        "filters": filters.model_dump(mode="json"),
        "rewrite": rewrite.model_dump(mode="json") | {"version": REWRITE_VERSION if rewrite.on else None},
    }


def _input(store: Store, run_id: int, settings: Select, config: dict[str, Any]) -> Input:
    pool = store.selection_pool(run_id, settings.pool)
    kind = np.dtype([("attempt", "<i8"), ("question", "<i8"), ("tokens", "<i8")])
    found = np.fromiter(((a, q, -1 if t is None else t) for a, q, t in pool), kind)
    failed = dict(store.failed_shares(run_id)) if settings.min_failed is not None else {}
    evaluations = evaluations_of(settings.against, Path(config.get("base", ".")))
    asked = content_hash([[e.name, [[k, q.gold, *q.whole] for k, q in e.questions]] for e in evaluations])
    filters = Filters.model_validate(config.get("filters", {}))
    versions: dict[str, Any] = {
        "select": select.VERSION, "alike": alike.VERSION, "minhash": minhash.VERSION,
        "filters": filter_versions(filters),
    }  # fmt: skip
    of_run = [run_id, store.run_began(run_id)]
    attempts_key = f"{run_id}-a{content_hash([of_run, *read_by(config, versions_today())])[7:23]}"
    questions_key = f"{run_id}-q{content_hash([of_run, alike.VERSION, minhash.VERSION, asked])[7:23]}"
    key = content_hash(
        [attempts_key, questions_key, settings.model_dump(mode="json"), versions, sorted(failed.items()),
         content_hash(found.tobytes().hex())]
    )  # fmt: skip
    return Input(
        config, settings, found["attempt"], found["question"], found["tokens"], failed,
        {e.name: len(e.questions) for e in evaluations}, attempts_key, questions_key, key, versions,
    )  # fmt: skip


def read_by(config: Mapping[str, Any], checks: Mapping[str, str]) -> list[Any]:
    """All that decides what a sketch says of an answer, beside the answer. `checks`, by their versions, judge what was
    rewritten: one that was mended may refuse what it passed before."""
    filters = Filters.model_validate(config.get("filters", {}))
    rewrite = Rewrite.model_validate(config.get("rewrite", {}))
    of = [config["prompt_sha256"], filters.model_dump(mode="json"), filter_versions(filters)]
    of += [rewrite.model_dump(mode="json"), minhash.VERSION]
    return [*of, REWRITE_VERSION, dict(checks)] if rewrite.on else of


def settings_of(config: Mapping[str, Any], overrides: Sequence[tuple[str, str]], preset: str | None) -> dict[str, Any]:
    """A run's settings with `--select.key value` (and of [filters] and [rewrite]) put over them; under a preset those
    of [select] are the preset's own, and the evaluations that the run is held against stay. Raises ConfigError with a
    line for each fault."""
    sections: dict[str, dict[str, Any]] = {name: dict(config.get(name) or {}) for name in Sections.model_fields}
    if preset is not None:
        sections["select"] = _under_preset(preset, sections["select"])
    for key, text in sorted(overrides, key=lambda o: o[0] != "select.preset"):  # what is set beside it goes over it
        section, _, name = key.partition(".")
        if section not in sections:
            raise ConfigError(f"--{key}: select takes settings of [select], [filters] and [rewrite] alone")
        value = parse_value(text)
        if key == "select.preset":
            sections["select"] = _under_preset(value, sections["select"])
        elif key == "select.against":
            listed = value if isinstance(value, list) else [value]
            sections[section][name] = [
                str(s) if str(s).startswith(GYM) else str(Path(str(s)).absolute()) for s in listed
            ]
        elif key == "select.difficulty" and not isinstance(value, list):
            sections[section][name] = [text]
        else:
            sections[section][name] = text if name in DECIMALS else value
    return {**config, **validated(Sections, sections).model_dump(mode="json")}


def _under_preset(name: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """[select] of a preset alone, held against what it was before and what the preset names: to choose otherwise must
    not let the questions of an evaluation in."""
    try:
        own = Select.model_validate({"preset": name}).against
    except ValidationError:
        return {"preset": name}  # refused with the rest
    return {"preset": name, "against": list(dict.fromkeys((*before.get("against", ()), *own)))}


def in_words(said: Mapping[str, Any]) -> Iterator[str]:
    """What `select_run` says, for people."""
    n, left = said["candidates"], said["candidates"]
    yield "| stage | traces | |"
    yield "| --- | ---: | ---: |"
    yield f"| candidates ({said['settings']['pool']}) | {n:,} | |"
    for reason, out in said["unselected"].items():
        left -= out
        yield f"| {reason.replace('_', ' ')} | −{out:,} | {left:,} |"
    yield f"| **selected** | **{said['selected']:,}** | {said['questions']:,} questions |"
    yield ""
    estimated = said["tokens_estimated_for"]
    guess = f", estimated for {estimated:,} traces whose endpoint counted none" if estimated else ""
    yield f"{said['tokens']:,} tokens{guess}."
    for name, count in said["against"].items():
        yield f"Held against {plain_text(name)}: {count:,} questions."
    for title in ("domains", "difficulty"):
        groups = said[title]
        if any(groups):
            yield ""
            yield f"| {title} | candidates | selected |"
            yield "| --- | ---: | ---: |"
            for name, of in groups.items():
                yield f"| {plain_text(name) or '(none)'} | {of['candidates']:,} | {of['selected']:,} |"
    if said["unselected"].get(select.DIFFICULTY) and not said["selected"]:
        yield ""
        yield _why_none(said)


def _why_none(said: Mapping[str, Any]) -> str:
    """Of a selection that the stage of difficulty left nothing of."""
    wanted, there = said["settings"]["difficulty"], [name for name in said["difficulty"] if name]
    if wanted and not {name.casefold() for name in wanted} & {name.casefold() for name in there}:
        labels = ", ".join(map(plain_text, there)) or "none: their field `difficulty` is empty"
        return f"No question is labelled {' or '.join(map(plain_text, wanted))}; the labels are {labels}."
    return (
        "No question is known to be hard enough: ask a student first (`collect --student`), ask each question several"
        " times, or lower select.min_failed."
    )


def plain_text(text: str) -> str:
    """One cell of a table, whatever a name holds."""
    return "".join(c if c.isprintable() and c not in "|`" else " " for c in text)


# ---- sketches


def _sketches(
    store: Store, of: Input, folder: Path, kind: str, ids: NDArray[np.int64], told: Told
) -> tuple[Sketches, dict[str, Any]]:
    """The sketches of `ids`, in their order, made where they are missing; and what stands beside them by name."""
    place = folder / (of.attempts_key if kind == "attempts" else of.questions_key)
    job = Job(f"sqlite:///{store.path.absolute()}", of.config, of.settings.against, of.config.get("base", "."))
    order = np.argsort(ids, kind="stable")
    found, there = np.zeros(len(ids), KINDS[kind]), np.zeros(len(ids), bool)
    more: dict[str, Any] = {}

    def take(path: Path) -> None:
        read = read_file(path, kind)
        if read is None:
            path.unlink(missing_ok=True)
            return
        sketches, beside = read
        at = np.searchsorted(ids, sketches["id"], sorter=order)
        hit = at < len(ids)
        at = order[np.where(hit, at, 0)] if len(ids) else at
        hit &= ids[at] == sketches["id"] if len(ids) else False
        found[at[hit]], there[at[hit]] = sketches[hit], True
        for name, values in beside.items():
            for key, value in values.items():
                if isinstance(value, list) and name in ("domain", "difficulty"):
                    more.setdefault(name, {}).setdefault(key, []).extend(value)
                else:
                    more.setdefault(name, {})[key] = value

    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        paths = sorted(place.glob("*.sketch"))
        for path in paths:
            take(path)
        missing = np.sort(ids[~there]).tolist()
        first = 1 + max((int(p.stem) for p in paths), default=0)
        shards = [
            Shard(kind, tuple(missing[at : at + SHARD]), str(place / f"{first + at // SHARD:08d}.sketch"))
            for at in range(0, len(missing), SHARD)
        ]
        done = 0
        for shard in _written(store, job, shards, len(missing)):
            take(Path(shard.to))
            done += len(shard.ids)
            told(done, len(missing), f"{done:,} of {len(missing):,} {'answers' if kind == 'attempts' else kind} read")
    except OSError as e:
        raise InputError(f"{e.filename or place}: cannot be written: {e.strerror}") from None
    if not there.all():
        raise InputError(
            f"{int((~there).sum()):,} of {len(ids):,} {kind} are not read: a process that reads them ended early"
            " (killed, or out of memory). The same command goes on with the others"
        )
    return found, more


def _written(store: Store, job: Job, shards: Sequence[Shard], ids: int) -> Iterator[Shard]:
    """Each shard once its file is there."""
    if ids <= IN_THIS_PROCESS:
        if shards:
            with closing(Sketcher(store, job)) as sketcher:
                for each in shards:
                    sketcher.write(each)
                    yield each
        return
    several = max(1, min(len(shards), len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1))
    waiting: SimpleQueue[Shard] = SimpleQueue()
    done: SimpleQueue[Shard | None] = SimpleQueue()
    for each in shards:
        waiting.put(each)
    processes = [_process() for _ in range(several)]
    try:
        for process in processes:
            Thread(target=_drive, args=(process, job, waiting, done), daemon=True).start()
        ended = 0
        while ended < several:
            if (written := done.get()) is None:
                ended += 1
            else:
                yield written
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _process() -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "harvest.selection.signatures"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def _drive(
    process: subprocess.Popen[str], job: Job, waiting: "SimpleQueue[Shard]", done: "SimpleQueue[Shard | None]"
) -> None:  # fmt: skip
    """Hands a process one shard after the other; what a dead one leaves is found missing at the end."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(next(lines_of(job, [])) + "\n")
        while True:
            shard = waiting.get_nowait()
            process.stdin.write(list(lines_of(job, [shard]))[1] + "\n")
            process.stdin.flush()
            if not process.stdout.readline():
                return
            done.put(shard)
    except (Empty, OSError, ValueError):
        return
    finally:
        done.put(None)


def _tidy(folder: Path, run_id: int, used: set[str]) -> None:
    """Takes away what other settings of this run had read."""
    for old in folder.glob(f"{run_id}-*"):
        if old.name not in used:
            shutil.rmtree(old, ignore_errors=True)


# ---- from sketches to a selection, and what is said of it


def _candidates(of: Input, sketches: Sketches, more: Mapping[str, Any]) -> Candidates:
    rows = np.unique(of.question)
    tokens = np.where(of.tokens >= 0, of.tokens, np.ceil(sketches["chars"] / CHARACTERS_A_TOKEN).astype(np.int64))
    faulty = np.array(sorted(int(i) for i in more.get("faults", {})), np.int64)
    return Candidates(
        of.attempt,
        np.searchsorted(rows, of.question),
        sketches["text"],
        sketches["signature"],
        tokens,
        np.isin(of.attempt, faulty),
    )


def _questions(of: Input, sketches: Sketches, more: Mapping[str, Any]) -> Questions:
    rows = sketches["id"]

    def named(name: str) -> NDArray[np.str_]:
        values = more.get(name, {})
        by_row = {row: str(value) for value, at in values.items() for row in at}
        longest = max((len(v) for v in values), default=1)
        return np.array([by_row.get(r, "") for r in rows.tolist()], f"U{max(1, longest)}")

    asked = np.array(sorted(int(i) for i in more.get("asked", {})), np.int64)
    failed = (
        np.array([of.failed.get(r, np.nan) for r in rows.tolist()], float) if of.failed else np.full(len(rows), np.nan)
    )
    return Questions(
        rows, sketches["text"], sketches["gold"], sketches["numbers"], sketches["many"], sketches["signature"],
        named("domain"), named("difficulty"), np.isin(rows, asked), failed,
    )  # fmt: skip


def _same(store: Store, known: Questions) -> select.Same:
    @lru_cache(maxsize=50_000)
    def asked(body: str) -> alike.Asked:
        return question_of_body(body)

    def same(pairs: NDArray[np.int64], answered_alike: bool) -> Iterator[bool]:
        rule = alike.same_task if answered_alike else alike.same_question
        rest = iter(pairs.tolist())
        while page := list(islice(rest, PAIRS_AT_ONCE)):
            bodies = dict(store.question_bodies(known.row[np.unique(page)].tolist()))
            for a, b in page:
                yield rule(asked(bodies[int(known.row[a])]), asked(bodies[int(known.row[b])]))

    return same


def _outcomes(
    of: Candidates, outcome: Outcome, faults: Mapping[str, Any], more: Mapping[str, Any], rows: NDArray[np.int64]
) -> Iterator[tuple[int, str | None, int | None, str | None, bool]]:
    by_fault, asked = faults.get("faults", {}), more.get("asked", {})
    rewritten = faults.get("rewritten", {})
    question = rows[of.question]
    for i, (attempt, reason, instead) in enumerate(
        zip(of.attempt.tolist(), outcome.reason.tolist(), outcome.instead.tolist(), strict=True)
    ):
        detail = None
        if reason == select.FILTERED:
            reason, detail = by_fault[str(attempt)]
        elif reason == select.CONTAMINATED:
            detail = "{1} of {0}".format(*asked[str(int(question[i]))])
        yield attempt, reason or None, instead or None, detail, rewritten.get(str(attempt), False)


def _said(
    of: Input, candidates: Candidates, known: Questions, outcome: Outcome, faults: Mapping[str, Any]
) -> dict[str, Any]:
    kept = outcome.reason == KEPT
    estimated = of.tokens < 0
    names, counts = np.unique(outcome.reason[~kept], return_counts=True)
    by_stage = dict(zip(names.tolist(), counts.tolist(), strict=True))
    refused = Counter(faults["faults"][str(i)][0] for i in of.attempt[outcome.reason == select.FILTERED].tolist())
    unselected = {name: refused[name] for name in (f.name for f in FILTERS) if refused[name]}
    unselected |= {stage: by_stage[stage] for stage in select.STAGES if stage in by_stage and stage != select.FILTERED}
    return {
        "candidates": len(of.attempt),
        "selected": int(kept.sum()),
        "unselected": unselected,
        "questions": len(np.unique(candidates.question[kept])),
        "tokens": int(candidates.tokens[kept].sum()),
        "tokens_estimated_for": int((kept & estimated).sum()),
        "domains": _groups(known.domain[candidates.question], kept),
        "difficulty": _groups(known.difficulty[candidates.question], kept),
        "against": of.against,
        "seed": of.settings.seed,
        "settings": of.settings.model_dump(mode="json"),
    }


def _rewritten(faults: Mapping[str, Any]) -> dict[str, Any]:
    """How many answers were rewritten, and how many stayed as they were since the check did not pass them again."""
    stands = list(faults.get("rewritten", {}).values())
    return {"rewritten": {"kept": sum(stands), "refused_by_check": len(stands) - sum(stands)}}


def _groups(names: NDArray[np.str_], kept: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    """Candidates and selected of each, the largest first."""
    before, after = Counter(names.tolist()), Counter(names[kept].tolist())
    return {name: {"candidates": n, "selected": after[name]} for name, n in before.most_common(SHOWN_GROUPS)}
