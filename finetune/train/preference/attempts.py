"""Makes the preference pairs of a recipe: reads every answer of its run or export, and renders them as `sft` does."""

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from finetune.recipe import Prefer, Recipe
from finetune.rows.cache import rendered
from finetune.rows.dataset import BadRow, manifest_beside, read_rows
from finetune.rows.examples import SCHEMA, Examples
from finetune.rows.template import Tokenizer
from finetune.run import Run
from finetune.train.preference.pairs import Answer, Outcome, Pair, counted, pairs_of
from harvest.asking.planning.plan import TRUNCATED
from harvest.commands.export import write_export
from harvest.core.config import Export
from harvest.core.errors import DatasetError
from harvest.core.files import write_whole
from harvest.core.nouns import Outcome as Checked
from harvest.local.weights import cache_folder
from harvest.proof.lines import sha256
from harvest.proof.manifest import NAME, root_of
from harvest.selection.candidates import Reason

PAIR_COLUMNS = pa.schema({
    "chosen_tokens": pa.int32(), "kind": pa.string(), "rejected_id": pa.string(), "rejected_sha256": pa.string(),
})  # fmt: skip
"""The columns of a pair besides SCHEMA's: how many of its `ids` are the chosen answer's, its kind, and the name and the
hash of the rejected answer's row. SCHEMA's own are of the chosen answer."""
NOT_TRAINED = ("finish_reason", "accepted", "reason")
"""These columns say how an answer ended. Pairs hold rejected answers on purpose, so that rendering need not warn."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """The answers of a run that can be in a pair, in a file."""

    file: Path
    outcomes: tuple[Outcome, ...]
    """Of each row of the file."""
    sha256: tuple[str, ...]
    """The hash of each row of the file as it stood in the export."""
    manifest: str
    """The manifest of the export, as a path; "" where there is none."""
    unused: Mapping[str, int]
    """How many answers are neither right nor wrong, by their reason, and how many ask a question of an evaluation."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """The preference pairs of a recipe."""

    examples: Examples
    """One line for each pair: `ids` has the chosen answer's row and then the rejected answer's."""
    answers: Mapping[str, int]
    """How many answers are right and how many are wrong."""
    unused: Mapping[str, int]

    def counts(self) -> dict[str, Any]:
        """Returns what is said of the pairs before they are trained."""
        chosen = self.examples.table["chosen_tokens"].to_numpy()
        means = {"chosen": chosen.mean(), "rejected": (self.examples.lengths - chosen).mean()}
        return {
            "answers": dict(self.answers),
            "unused": dict(self.unused),
            "pairs": counted(kinds_of(self.examples)),
            "mean_tokens": {side: round(float(mean), 1) for side, mean in means.items()},
        }


def kinds_of(examples: Examples) -> list[str]:
    """Returns the kind of each pair."""
    kinds: list[str] = examples.table["kind"].to_pylist()
    return kinds if examples.at is None else [kinds[n] for n in examples.at]


def preference_pairs(recipe: Recipe, run: Run | None, tokenizer: Tokenizer) -> Pairs:
    """Returns the pairs of a recipe with [prefer]. `run` is the run that `data` names; None for an export.

    An answer that cannot be rendered, or is longer than render.max_tokens, is in no pair. Raises DatasetError when the
    rows do not say which answers are right, when they give no pair, or when the recipe refuses longer answers.
    """
    assert recipe.prefer is not None
    found = attempts(recipe.data, run, recipe.prefer)
    of_file = recipe.model_copy(update={"data": str(found.file), "skip_bad_rows": True, "mix": ()})
    examples, survey = rendered(of_file, tokenizer)
    if too_long := survey.findings.counts.get("too long"):
        raise DatasetError(
            f"{recipe.data}: {too_long} answers are longer than render.max_tokens: raise it, or leave them out with"
            ' render.too_long = "drop"'
        )
    outcomes = [found.outcomes[row] for row in examples.rows]
    trained = (sum(edges[1::2]) - sum(edges[::2]) for edges in examples.table["trained"].to_pylist())
    answers = [Answer(*a) for a in zip(examples.question_ids, trained, outcomes, strict=True)]
    pairs = pairs_of(answers, recipe.prefer, recipe.train.seed)
    if not pairs:
        right = max(Counter(a.question_id for a in answers if a.outcome == "right").values(), default=0)
        raise DatasetError(
            f"{recipe.data}: no question has two right answers of different lengths (at most {right} right):"
            " collect with sampling.samples and sampling.stop_after_accepted of 2 or more"
        )
    notes = (*survey.findings.lines("in no pair"), *(f"in no pair: {line}" for line in survey.dropped[:20]))
    counts = {outcome: outcomes.count(outcome) for outcome in ("right", "wrong")}
    joined = replace(_joined(examples, pairs, found.sha256), notes=notes, manifests=(found.manifest,))
    return Pairs(joined, counts, found.unused)


def attempts(data: str, run: Run | None, prefer: Prefer) -> Attempts:
    """Writes the right and the wrong answers that `data` names into one file of the cache.

    `data` names a run, an export, or the answers of an evaluation (`--details`). An answer is left out if the run's
    selection left it out as contaminated: an evaluation in `select.against` asks its question.
    """
    if run is None:
        return _sorted_out(data, read_rows(data), prefer, manifest_beside(data))
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "all"
        write_export(run.name, run.url, to=to, given=Export(which="all").model_dump())
        return _sorted_out(data, read_rows(str(to)), prefer, str(to / NAME))


def _sorted_out(
    data: str, rows: Iterator[tuple[int, str, Mapping[str, Any] | BadRow]], prefer: Prefer, manifest: str
) -> Attempts:
    lines, outcomes, digests, unused = list[str](), list[Outcome](), list[str](), Counter[str]()
    for _, where, row in rows:
        if isinstance(row, BadRow):
            raise DatasetError(f"{data}: {where}: {row.reason}")
        digest = sha256(row)
        if "accepted" not in row and "outcome" in row:
            row = _of_evaluation(row)
        if not isinstance(row.get("accepted"), bool) or not row.get("question_id"):
            raise DatasetError(
                f"{data}: {where}: no `accepted` and `question_id`: name a run, an export made with `python -m harvest"
                " export RUN --which all --to DIR`, or a file of `python -m finetune eval … --details FILE`"
            )
        outcome = outcome_of(row, prefer)
        if row.get("unselected") == Reason.CONTAMINATED:
            unused[Reason.CONTAMINATED] += 1
        elif outcome is None:
            unused[str(row.get("reason"))] += 1
        else:
            lines.append(json.dumps({k: v for k, v in row.items() if k not in NOT_TRAINED}, ensure_ascii=False) + "\n")
            outcomes.append(outcome)
            digests.append(digest)
    text = "".join(lines)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    file = cache_folder() / "attempts" / f"{digest}.jsonl"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text)
    return Attempts(file, tuple(outcomes), tuple(digests), _kept(manifest, file.parent), unused)


def _kept(manifest: str, folder: Path) -> str:
    """Copies a manifest into the cache, since its export goes away, and returns the copy's path."""
    if not manifest or (root := root_of(Path(manifest))) is None:
        return ""
    to = folder / f"{root.removeprefix('sha256:')}.manifest"
    if not to.is_file():
        part = to.with_name(f".{to.name}.{os.getpid()}.part")
        shutil.copyfile(manifest, part)
        part.replace(to)
    return str(to)


def _of_evaluation(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an answer of an evaluation's --details with the columns of an export."""
    outcome = row["outcome"]
    reason = None if outcome == "right" else TRUNCATED if outcome == "unfinished" else str(outcome)
    return {**row, "accepted": outcome == "right", "reason": reason}


def outcome_of(row: Mapping[str, Any], prefer: Prefer) -> Outcome | None:
    """Returns whether an answer is right or wrong by harvest's judgement; None where it says neither.

    An answer that a filter refused is neither. So is one that was cut short, unless `prefer.truncated_is_wrong`.
    """
    if row["accepted"]:
        return "right"
    wrong = {Checked.WRONG.value, *((TRUNCATED,) if prefer.truncated_is_wrong else ())}
    return "wrong" if row.get("reason") in wrong else None


def _joined(examples: Examples, pairs: list[Pair], digests: Sequence[str]) -> Examples:
    """Returns one line for each pair. `digests` has the hash of each row that the examples come from."""
    columns: dict[str, list[Any]] = {name: [] for name in (*SCHEMA.names, *PAIR_COLUMNS.names)}
    table = examples.table
    for n, pair in enumerate(pairs):
        chosen, rejected = (table["ids"][k].values.to_numpy() for k in pair[:2])
        of_chosen, of_rejected = (np.asarray(table["trained"][k].as_py(), np.int32) for k in pair[:2])
        columns["ids"].append(np.concatenate([chosen, rejected]))
        columns["trained"].append(np.concatenate([of_chosen, of_rejected + len(chosen)]))
        columns["row"].append(n)
        columns["id"].append(table["id"][pair.chosen].as_py())
        columns["where"].append(" over ".join(table["where"][k].as_py() for k in pair[:2]))
        columns["question_id"].append(table["question_id"][pair.chosen].as_py())
        columns["asked"].append(table["asked"][pair.chosen].as_py())
        columns["chosen_tokens"].append(len(chosen))
        columns["kind"].append(pair.kind)
        columns["sha256"].append(digests[table["row"][pair.chosen].as_py()])
        columns["rejected_id"].append(table["id"][pair.rejected].as_py())
        columns["rejected_sha256"].append(digests[table["row"][pair.rejected].as_py()])
    schema = pa.unify_schemas([SCHEMA, PAIR_COLUMNS])
    digest = hashlib.sha256(f"{examples.digest} {[tuple(p) for p in pairs]}".encode()).hexdigest()
    return Examples(pa.table(columns, schema=schema), f"sha256:{digest}", origins=examples.origins)
