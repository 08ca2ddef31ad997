"""A dataset of the hub by config, split and columns; one bad row does not stop it where the recipe skips bad rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from students import chat, smol_tokenizer, sums

from finetune.recipe import Recipe
from finetune.rows.cache import examples
from harvest.checks import ROW_RULES
from harvest.core.errors import DatasetError, QuestionError
from harvest.questions.hub import HubDataset, hub_dataset, hub_table
from harvest.questions.sources import read_questions

CARD = """---
configs:
- config_name: sums
  data_files: [{split: train, path: train.jsonl}, {split: more, path: more.jsonl}]
---
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`datasets` takes a folder of this name for the hub's dataset, config, splits and all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "org/chains"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(CARD)
    rows: list[Any] = [
        {"messages": m, "source": "ab"[n % 2], "question": f"{n} + 1", "answer": str(n + 1)}
        for n, m in enumerate([*sums(6), chat("q", "<think>\nopen")])
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "more.jsonl").write_text(json.dumps(rows[0]) + "\n")
    hub_table.cache_clear()
    return folder


def recipe(data: str, **more: Any) -> Recipe:
    return Recipe.model_validate({"student": "s", "data": data, "output": "o", **more})


def test_config_split_revision_and_columns_are_read_from_the_name() -> None:
    source = "hub:AI-MO/NuminaMath-CoT?split=test&revision=v1&config=c&source=olympiads,amc_aime"
    wanted = (("source", frozenset({"olympiads", "amc_aime"})),)
    assert hub_dataset(source) == HubDataset("AI-MO/NuminaMath-CoT", "c", "test", "v1", wanted)


def test_a_recipe_and_a_run_read_the_same_dataset(hub: Path) -> None:
    tokenizer = smol_tokenizer()
    assert examples(recipe("hub:org/chains?config=sums&source=b"), tokenizer).rows == (0, 1, 2)
    assert len(examples(recipe("hub:org/chains?config=sums&split=more"), tokenizer)) == 1
    asked = read_questions("hub:org/chains?config=sums&source=b", Path(), ROW_RULES)
    assert [q.answer for q in asked] == ["2", "4", "6"]


def test_a_bad_row_is_named_or_left_out_where_the_recipe_says_so(hub: Path) -> None:
    data, tokenizer = "hub:org/chains?config=sums", smol_tokenizer()
    with pytest.raises(DatasetError, match=r"row 6 \(org/chains, row 6\): .*the chain is open") as e:
        examples(recipe(data), tokenizer)
    assert "\n" not in str(e.value)
    made = examples(recipe(data, skip_bad_rows=True), tokenizer)
    assert made.rows == tuple(range(6))
    assert [n.partition(": ")[0] for n in made.notes] == ["left out"]
    assert "row 6" in made.notes[0]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("hub:org/chains?config=nothere", "nothere"),
        ("hub:org/chains?config=sums&colour=red", "no column 'colour' .*there are: messages, source"),
        ("hub:chains", "write hub:owner/name"),
    ],
)
def test_what_is_not_there_is_one_line(hub: Path, source: str, why: str) -> None:
    with pytest.raises(DatasetError, match=why) as e:
        examples(recipe(source), smol_tokenizer())
    assert "\n" not in str(e.value)
    with pytest.raises(QuestionError, match=why):
        list(read_questions(source, Path(), ROW_RULES))
