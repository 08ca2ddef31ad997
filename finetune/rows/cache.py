"""Renders the rows of a recipe once, and finds them again by content.

A folder of the cache holds the examples (rows.arrow, which processes map into memory) and what was found about the rows
(found.json). The folder is named by a digest of all that the examples depend on. It is written under another name and
renamed when it is whole, so a killed rendering leaves nothing that counts.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

import harvest
from finetune.progress import Counted
from finetune.recipe import Recipe
from finetune.rows.dataset import contents_of, manifests_of, recipe_rows
from finetune.rows.examples import SCHEMA, Examples, LeftOut, mask_of
from finetune.rows.faults import Finding, Findings
from finetune.rows.survey import Part, Place, Survey, Surveyor
from finetune.rows.template import Tokenizer
from harvest.core.errors import InputError, OutOfMemory
from harvest.local.weights import cache_folder
from harvest.selection.sketch_pool import cores

ROWS, FOUND = "rows.arrow", "found.json"
UNUSED_DAYS = 30
"""Rendered rows that no command has used for so many days are removed when others are written."""
ROWS_A_PART = 64
BYTES_A_PROCESS = 32 << 20
"""A process renders about a mebibyte a second and takes seconds to start: with less data for each it does not pay."""
MOST_PROCESSES = 16
CODE = ("finetune/rows", "harvest/questions", "harvest/answers", "harvest/core", "harvest/proof")
"""The rooms whose code decides what a row becomes. Rows that another version of them rendered are rendered again."""


def examples(recipe: Recipe, tokenizer: Tokenizer) -> Examples:
    """Returns every row of the recipe's data, checked and rendered.

    No row is repaired. Raises DatasetError with a line for each fault (the first 20, then a count), or when no row is
    left to train. Where the recipe skips bad rows, these lines are among the notes instead.
    """
    made, survey = rendered(recipe, tokenizer)
    made = replace(made, manifests=manifests_of(recipe))
    if recipe.skip_bad_rows:
        made = replace(made, notes=(*made.notes, *survey.findings.lines("left out")))
    else:
        survey.findings.stop(recipe.data)
    made.refuse_none(recipe.data)
    return made


def rendered(recipe: Recipe, tokenizer: Tokenizer) -> tuple[Examples, Survey]:
    """Returns (the rows that can be trained, which may be none; what was found about all rows).

    The first process that asks renders the rows, while others on its machine wait for it. Raises DatasetError when the
    data does not exist, ConfigError when the tokenizer cannot be used, OSError when the cache cannot be written.
    """
    files = contents_of(recipe)
    place = place_of(recipe, tokenizer, files)
    with contextlib.suppress(FileNotFoundError):
        return _load(place)
    made_once(place, lambda part: _render(recipe, tokenizer, part, sum(size for _, size in files)))
    return _load(place)


def made_once(place: Path, make: Callable[[Path], None]) -> None:
    """Makes a folder of the cache, unless it is there. `make` fills a folder, which may hold what a killed one wrote.

    The first process that asks makes it, while others on its machine wait. What nobody used for long is removed.
    """
    part = place.with_suffix(".part")
    if place.is_dir():
        os.utime(place)
        return
    try:
        part.mkdir(parents=True, exist_ok=True)
        os.utime(part)  # it may have been left long ago by a rendering that was killed
    except OSError as e:
        raise InputError(f"{place.parent}: cannot be written: {e.strerror}; WINNOW_CACHE names another place") from None
    with _locked(part):
        if not place.is_dir():
            _remove_unused(place.parent)
            make(part)
            part.rename(place)
        elif part.is_dir():  # made after another process had renamed its own
            part.rmdir()


def place_of(recipe: Recipe, tokenizer: Tokenizer, files: Iterable[tuple[str, int]]) -> Path:
    """Returns the folder of the rendered rows, named by a digest of all that decides what the rows become.

    `files` are the contents of the recipe's data, as `contents_of` gives them.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    vocabulary = backend.to_str() if backend else [sorted(tokenizer.get_vocab().items()), str(tokenizer.init_kwargs)]
    parts = {
        "data": [name for name, _ in files],
        "mix": [recipe.train.seed, *(m.model_dump() for m in recipe.mix)] if recipe.mix else [],
        "render": recipe.render.model_dump(),
        "tokenizer": [type(tokenizer).__name__, vocabulary, tokenizer.chat_template, tokenizer.special_tokens_map],
        "added": [[i, str(t)] for i, t in sorted(tokenizer.added_tokens_decoder.items())],
        "code": _code(),
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / "rows" / digest[:32]


def _code() -> str:
    """Returns a digest of the code that renders, ours and that of the libraries."""
    root = Path(harvest.__file__).parents[1]
    h = hashlib.sha256()
    for file in sorted(file for room in CODE for file in (root / room).rglob("*.py")):
        h.update(file.read_bytes())
    for library in ("transformers", "tokenizers", "jinja2"):
        h.update(f"{library} {importlib.metadata.version(library)}".encode())
    return h.hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits until no other process holds this folder, and holds it."""
    lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_unused(folder: Path) -> None:
    long_ago = time.time() - UNUSED_DAYS * 86400
    for old in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process removed it
            if old.stat().st_mtime < long_ago:
                shutil.rmtree(old)


def _load(place: Path) -> tuple[Examples, Survey]:
    """Returns what `_render` wrote into a folder. Raises FileNotFoundError when the folder does not exist."""
    os.utime(place)
    with pa.memory_map(str(place / ROWS)) as file:
        table = pa.ipc.open_stream(file).read_all()
    found = json.loads((place / FOUND).read_text("utf-8"))
    kinds = {kind: [Finding(*f) for f in some] for kind, some in found["of"].items()}
    left_out = [LeftOut(*one) for one in found["left_out"]]
    counts = Counter[str](found["counts"])
    survey = Survey(Findings(kinds, found["kinds"]), counts, found["dropped"], left_out, found["notes"])
    said = (tuple(survey.dropped), tuple(survey.notes), found["origins"], tuple(left_out))
    return Examples(table, found["digest"], *said), survey


def _render(recipe: Recipe, tokenizer: Tokenizer, folder: Path, data_bytes: int) -> None:
    """Writes the files of a folder, over those of a rendering that was killed."""
    survey, digest, counted, rows = Survey(), hashlib.sha256(), Counted("rows"), 0
    with (folder / ROWS).open("wb") as file:
        with pa.ipc.new_stream(file, SCHEMA) as writer:
            places = recipe_rows(recipe, survey.notes.append)
            for part in _parts(places, Surveyor(recipe, tokenizer), data_bytes // BYTES_A_PROCESS):
                survey.add(part)
                _hash(part.examples, digest)
                writer.write_batch(part.examples)
                rows += part.rows
                counted.step(rows)
        file.flush()
        os.fsync(file.fileno())
    survey.end()
    found = {
        "digest": f"sha256:{digest.hexdigest()}",
        "of": survey.findings.of,
        "kinds": survey.findings.counts,
        "counts": survey.counts,
        "dropped": survey.dropped,
        "left_out": survey.left_out,
        "notes": survey.notes,
        "origins": survey.origins,
    }
    (folder / FOUND).write_text(json.dumps(found), "utf-8")


def _hash(examples: pa.RecordBatch, digest: Any) -> None:
    """Adds examples to the digest that `digest_of` makes."""
    for ids, trained in zip(examples.column("ids"), examples.column("trained"), strict=True):
        held = ids.values.to_numpy()
        digest.update(len(held).to_bytes(8, "little") + held.tobytes() + mask_of(trained.as_py(), len(held)))


def _parts(places: Iterator[Place], surveyor: Surveyor, paying: int) -> Iterator[Part]:
    """Yields what the rows gave, in their order. At most `paying` processes look at rows."""
    parts = iter(lambda: list(islice(places, ROWS_A_PART)), [])
    processes = min(cores(), paying, MOST_PROCESSES)
    if processes < 2:
        yield from map(surveyor.look, parts)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks of torch and of the tokenizer
    waiting: deque[Future[Part]] = deque()
    with ProcessPoolExecutor(processes, spawn, _begin, (surveyor,)) as pool:
        try:
            for part in parts:
                waiting.append(pool.submit(_look, part))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise OutOfMemory(
                f"a process that renders rows was killed: {processes} of them need about 0.5 GB of memory each"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


_surveyor: Surveyor
"""What a process of the pool looks at rows with."""


def _begin(surveyor: Surveyor) -> None:
    """Begins a process of the pool. It ends when the first process ends, however that ends."""
    global _surveyor
    _surveyor = surveyor
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the first process ends the pool
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _look(places: list[Place]) -> Part:
    return _surveyor.look(places)
