"""Asks a teacher whose weights are here for its probabilities of the tokens of rendered rows.

The teacher reads a row as the student does, so every trained token gets a target, marks and end token included.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from finetune.progress import Counted
from finetune.rows.cache import made_once
from finetune.rows.examples import Examples
from finetune.student import find, identity, load_tokenizer
from finetune.train.loss import loaded_to_score, logits_by_chunks
from finetune.train.soft_targets.table import Given
from finetune.train.soft_targets.vocabulary import pieces_of, refuse_another
from harvest.local.weights import cache_folder

VERSION = 1
"""What another version of this file scored is scored again."""
ROWS_A_PART = 64
"""A killed scoring loses at most the work on so many rows."""
SCORED = pa.schema({"at": pa.list_(pa.int32()), "ids": pa.list_(pa.int32()), "logprobs": pa.list_(pa.float32())})


def scored(teacher: str, examples: Examples, pieces: Sequence[bytes], top_k: int) -> Iterator[Given]:
    """Yields the soft targets that a teacher gives, for each line of the table of examples, in order.

    For each trained token these are its `top_k` most likely tokens. `pieces` are the student's tokens as bytes. The
    targets are kept in the cache. Raises ConfigError when the teacher has another tokenizer.
    """
    compare(teacher, pieces)
    lines = examples.table.num_rows
    names = [f"{begin:09}.arrow" for begin in range(0, lines, ROWS_A_PART)]
    what = f"{VERSION} {examples.digest} {identity(find(teacher))} {top_k}"
    place = cache_folder() / "rows" / f"scored-{hashlib.sha256(what.encode()).hexdigest()[:32]}"

    def score_all(folder: Path) -> None:
        model, counted = None, Counted(f"rows scored by {teacher}")
        for begin, name in zip(range(0, lines, ROWS_A_PART), names, strict=True):
            if not (folder / name).is_file():  # a killed scoring goes on
                model = model or loaded_to_score(find(teacher), f"distill.teachers: {teacher!r}")
                rows = range(begin, min(begin + ROWS_A_PART, lines))
                _write(folder / name, [_score(model, examples, n, top_k) for n in rows])
                counted.step(begin + ROWS_A_PART)

    made_once(place, score_all)
    for name in names:
        with pa.memory_map(str(place / name)) as file:
            table = pa.ipc.open_stream(file).read_all()
        for row in table.to_pylist():
            at = np.array(row["at"], np.int32)
            shape = (len(at), -1) if len(at) else (0, 0)
            ids, logprobs = np.array(row["ids"], np.int32), np.array(row["logprobs"], np.float32)
            yield Given(teacher, at, ids.reshape(shape), logprobs.reshape(shape))


def compare(teacher: str, pieces: Sequence[bytes]) -> None:
    """Raises ConfigError when a teacher's tokenizer is not the student's, with the first difference."""
    refuse_another(pieces, pieces_of(load_tokenizer(find(teacher))), teacher)


@torch.no_grad()
def _score(model: Any, examples: Examples, line: int, top_k: int) -> dict[str, Any]:
    ids = torch.tensor(examples.table["ids"][line].as_py(), device=model.device)
    trained = examples.table["trained"][line].as_py()
    at = np.concatenate([np.arange(b, e) for b, e in zip(trained[::2], trained[1::2], strict=True)]).astype(np.int32)
    at = at[at > 0]
    states = model.base_model(ids[None], use_cache=False).last_hidden_state[0, torch.from_numpy(at - 1).long()]
    found = [
        logits.sub_(logits.logsumexp(-1, keepdim=True)).topk(min(top_k, logits.shape[-1]))
        for logits in logits_by_chunks(model, states)
    ]
    tokens, values = (torch.cat([getattr(f, n) for f in found]).cpu().numpy() for n in ("indices", "values"))
    return {"at": at, "ids": tokens.astype(np.int32).ravel(), "logprobs": values.ravel()}


def _write(part: Path, rows: Sequence[dict[str, Any]]) -> None:
    unfinished = part.with_suffix(".unfinished")
    with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_stream(file, SCORED) as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), SCORED))
    unfinished.replace(part)
