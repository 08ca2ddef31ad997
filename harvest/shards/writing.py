"""Writes the dataset: for each file of the export one with the rows that are selected, in the same format."""

import json
import os
import shutil
from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from harvest.core.foreign_json import Json, as_dict, as_list
from harvest.export.shards import ROWS_A_GROUP
from harvest.proof.lines import line_of
from harvest.questions.files import Records
from harvest.questions.rows import BadRow
from harvest.selection.summary import in_words
from harvest.shards.files import judged_path, write_whole
from harvest.shards.job import FORMS, ShardsJob
from harvest.shards.merging import SUMMARY, outcome_path, outcomes

DATASET = "dataset"


def written_path(job: ShardsJob, rank: int) -> Path:
    return job.outcome_folder / DATASET / job.name_of(rank)


def write_file(job: ShardsJob, rank: int) -> None:
    """Writes the selected rows of the export's file number `rank`."""
    path = written_path(job, rank)
    if path.suffix == ".parquet":
        _write_groups(Path(job.files[rank]), path, _selected(job, rank))
    else:
        write_whole(path, (line_of(row) for row in _selected(job, rank)))


def _selected(job: ShardsJob, rank: int) -> Iterator[Json]:
    became = outcomes(outcome_path(job, rank))
    for n, (record, judged) in enumerate(
        zip(Records(Path(job.files[rank]), exact=False), _judged(job, rank), strict=False)
    ):
        if became.get(n, ("", None, None))[0] is not None or isinstance(record.value, BadRow):
            continue
        yield _as_judged(record.value, judged) | {"selected": True, "unselected": None}


def _judged(job: ShardsJob, rank: int) -> Iterator[Json | None]:
    """Gives what judging changed of each row of a file; None: nothing."""
    if not job.judges:
        yield from repeat(None)
        return
    with judged_path(job.read_folder, rank).open("rb") as lines:
        yield from map(json.loads, lines)


def _as_judged(row: Json, judged: Json | None) -> Json:
    if judged is None:
        return row
    verdict = judged["verdict"]
    others = [v for v in as_list(row.get("verdicts")) if as_dict(v).get("check") != verdict["check"]]
    return row | {"accepted": judged["accepted"], "reason": judged["reason"], "verdicts": [*others, verdict]}


def _write_groups(source: Path, path: Path, rows: Iterator[Json]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(source)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        while group := list(islice(rows, ROWS_A_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema))
    part.replace(path)


def finish(job: ShardsJob) -> None:
    """Puts the dataset into its folder, in place of an earlier one, with the summary."""
    to = Path(job.to)
    said: dict[str, Any] = json.loads((job.outcome_folder / SUMMARY).read_bytes())
    job.summary_path.unlink(missing_ok=True)
    for old in to.iterdir():
        if old.name.endswith(FORMS):
            old.unlink()
    for rank in range(len(job.files)):
        written_path(job, rank).replace(to / job.name_of(rank))
    shutil.rmtree(job.outcomes_folder, ignore_errors=True)
    job.outcomes_folder.mkdir()
    for rank in range(len(job.files)):
        shutil.copyfile(outcome_path(job, rank), job.outcomes_folder / f"{job.name_of(rank)}.outcome")
    lines = (f"# Selected from {Path(job.files[0]).parent.name}", "", *in_words(said["summary"]))
    write_whole(to / "README.md", [("\n".join(lines) + "\n").encode("utf-8", "replace")])
    summed_up = json.dumps({"key": job.key, **said}, ensure_ascii=False).encode("utf-8", "replace")
    write_whole(job.summary_path, [summed_up])
    shutil.rmtree(job.outcome_folder, ignore_errors=True)
