"""Trainings of a student of random weights over some short rows, for the tests."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from students import smol_tokenizer, sums, tiny_student

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

ROOT = Path(__file__).parents[3]
OTHERS_WARN = [
    pytest.mark.filterwarnings(f"ignore::{name}") for name in ("FutureWarning", "DeprecationWarning", "UserWarning")
]
"""The marks of tests in which other people's code warns of its own future."""


Make = Callable[..., Path]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture
def make(tmp_path: Path, student: Path) -> Make:
    """A RECIPE.toml over 40 short rows; `train` and `top` are lines of TOML."""

    def recipe(name: str = "a", train: str = "", top: str = "", rows: int = 40) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in sums(rows)))
        (folder / "r.toml").write_text(
            f'student = "{student}"\ndata = "{folder}/train.jsonl"\noutput = "{folder}/out"\n{top}\n'
            f"[render]\nmax_tokens = 256\n[train]\nepochs = 2\ntraces_per_step = 8\nlearning_rate = 3e-3\n{train}\n"
        )
        return folder / "r.toml"

    return recipe


def start(recipe: Path, *more: str) -> "subprocess.Popen[str]":
    return forked.Forked("finetune", "sft", str(recipe), *more, cwd=ROOT)


def run(recipe: Path, *more: str) -> tuple[int, str, str]:
    done = forked.run("finetune", "sft", str(recipe), *more, cwd=ROOT)
    return done.returncode, done.stdout, done.stderr


def trainer_for(recipe: Path, **changes: Any) -> Any:
    """(trainer, the examples that it trains) of a recipe, in this process."""
    from finetune.recipe import read_recipe
    from finetune.rows.cache import examples
    from finetune.rows.held_out import split
    from finetune.student import find
    from finetune.train.trainer import build_trainer, load_arranged

    read = read_recipe(recipe, [(k.replace("__", "."), json.dumps(v)) for k, v in changes.items()], train=True)
    made, held_out = split(examples(read, smol_tokenizer()), read.train)
    student = find(read.student)
    read, config, model, _ = load_arranged(read, made, student, 1_000_000, bf16=False, held_out=held_out)
    return build_trainer(read, made, smol_tokenizer(), model, config, held_out=held_out), made


def weights(output: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(output.glob("*.safetensors")))
