"""A run with two sources, its export, and students of it whose weights are a few bytes: what manifests stand for."""

import json
from array import array
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from test_import import Imports, completion, line

from finetune.note import NOTE
from finetune.proof.check import Proof, check, place_of
from finetune.proof.student import gathered, write_made, write_trained
from finetune.recipe import Recipe
from finetune.rows.dataset import manifests_of, read_rows
from finetune.rows.examples import SCHEMA, Examples, LeftOut
from finetune.rows.held_out import split
from harvest.proof.faults import Faults
from harvest.proof.lines import sha256


class Proofs:
    """A folder with a run `r` of ten answers from the sources "a" and "b", and its export in `dataset`."""

    def __init__(self, folder: Path, form: str = "jsonl") -> None:
        self.imports = Imports(folder)
        rows = [
            line(i, response(i), source="ab"[i % 2], licence="MIT" if i < 9 else None) for i in range(10)
        ]  # the last one's licence is unknown, and its price too
        self.imports.take(self.imports.file("rows.jsonl", rows))
        self.folder, self.dataset = folder, folder / "dataset"
        self.imports.run("export", "r", "--which", "accepted", "--format", form, "--to", self.dataset)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.imports.store}"

    def student(self, name: str, began_with: str = "base", held_out: float = 0.0) -> Path:
        """Makes a student's folder as `sft` does, without a training."""
        output = self.folder / name
        output.mkdir()
        recipe = Recipe.model_validate(
            {
                "student": began_with, "data": str(self.dataset), "output": str(output),
                "train": {"held_out": held_out, "seed": 3},
            }
        )  # fmt: skip
        made = examples_of(recipe)
        facts = gathered(output, recipe, made.manifests, "sha256:base")
        (output / "model.safetensors").write_bytes(name.encode())
        write_trained(output, recipe, facts, made, *split(made, recipe.train))
        (output / NOTE).write_text(json.dumps({"of": {"data": made.digest}, "wall_s": 1, "training": None}))
        return output

    def merged(self, name: str, source: Path) -> Path:
        output = self.folder / name
        output.mkdir()
        (output / "model.safetensors").write_bytes(name.encode())
        write_made(output, "merge", source)
        return output


def response(i: int) -> Any:
    more = {} if i == 9 else {"usage": {"cost": round(0.001 * (i + 1), 3)}}
    return completion(f"It is \\boxed{{{2 * i + 1}}}", reasoning=f"One and {i} more.", **more) | {"id": f"chat-{i}"}


def examples_of(recipe: Recipe) -> Examples:
    """The rows of a recipe's data with made-up tokens: one for each byte of the text. The last row is left out."""
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    out = []
    for n, where, row in read_rows(recipe.data):
        assert isinstance(row, dict)
        ids = array("i", list(row["messages"][-1]["content"].encode()))
        if n == 9:
            out.append(LeftOut(n, sha256(row), row["id"], row["question_id"], "too long: 99 tokens"))
            continue
        made = {"ids": ids, "trained": [1, len(ids)], "row": n, "where": where, "asked": [row["question"]]}
        known = {"id": row["id"], "question_id": row["question_id"], "sha256": sha256(row)}
        for name, value in {**made, **known}.items():
            columns[name].append(value)
    table = pa.table(columns, schema=SCHEMA)
    return Examples(table, "sha256:digest", left_out=tuple(out), manifests=manifests_of(recipe))


def checked(*folders: Path) -> tuple[list[Proof], Faults]:
    faults = Faults()
    return check([place_of(str(folder)) for folder in folders], faults), faults


@pytest.fixture(scope="module")
def proofs(tmp_path_factory: pytest.TempPathFactory) -> Proofs:
    return Proofs(tmp_path_factory.mktemp("proofs"))
