"""Exports are prepared by TRL itself, under the chat templates of real students."""

from pathlib import Path
from typing import Any

import pytest
from families import tokenizer_of
from test_export import exported, loaded
from test_import import Imports, completion, line

CHAIN, ANSWER = "First I add one.\n\nThen the other.", "So it is \\boxed{3}."


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Imports:
    imports = Imports(tmp_path_factory.mktemp("trl"))
    pytest.importorskip("trl", reason="needs the extra `train`")
    imports.take(imports.file("a.jsonl", [line(1, completion(ANSWER, reasoning=CHAIN))]))
    return imports


def prepared(dataset: Any, family: str, folder: Path) -> tuple[str, str]:
    """(what the model reads, what it is trained on) of the first row, as SFTTrainer makes them."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    tokenizer = tokenizer_of(family)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
            num_key_value_heads=1,
        )
    )  # fmt: skip
    config = SFTConfig(
        output_dir=str(folder), max_length=None, report_to=[], use_cpu=True, bf16=False, activation_checkpointing=False
    )
    trainer = SFTTrainer(model, config, train_dataset=dataset, processing_class=tokenizer)
    assert trainer.train_dataset is not None
    assert len(trainer.train_dataset) == len(dataset)
    row = trainer.train_dataset[0]
    trained = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    return tokenizer.decode(row["input_ids"]), tokenizer.decode(trained)


@pytest.mark.parametrize(
    ("family", "written", "reads"),
    [
        ("Qwen2.5", {}, f"<think>\n{CHAIN}\n</think>\n\n{ANSWER}"),
        ("Qwen2.5", {"marks": "sky-t1"}, f"<|begin_of_thought|>\n\n{CHAIN}\n\n<|end_of_thought|>"),
        ("Qwen3", {}, f"<think>\n{CHAIN}\n</think>\n\n{ANSWER}"),
        ("Qwen3", {"reasoning": "apart"}, f"<think>\n{CHAIN}\n</think>\n\n{ANSWER}"),
        ("Qwen3", {"reasoning": "none"}, ANSWER),
        ("gpt-oss", {"reasoning": "apart", "reasoning_field": "thinking"}, f"analysis<|message|>{CHAIN}<|end|>"),
    ],
)
def test_sft_takes_the_layout_as_it_is_and_the_chain_is_in_what_it_trains(
    rows: Imports, family: str, written: dict[str, str], reads: str
) -> None:
    exported(rows, layout="trl", **written)
    _, trained = prepared(loaded(rows.folder / "out"), family, rows.folder)
    assert reads in trained
    assert ANSWER in trained
    assert (CHAIN in trained) == (written.get("reasoning") != "none")


@pytest.mark.parametrize("family", ["Qwen3", "Llama 3"])
def test_a_prompt_and_its_completion_train_the_completion_alone(rows: Imports, family: str) -> None:
    exported(rows, layout="prompt-completion", format="parquet")
    read, trained = prepared(loaded(rows.folder / "out"), family, rows.folder)
    assert "What is 1 + 2?" in read
    assert trained.startswith(f"<think>\n{CHAIN}\n</think>\n\n{ANSWER}")
    assert "What is 1 + 2?" not in trained


def test_the_contracts_layout_wants_its_messages_alone(rows: Imports) -> None:
    """TRL takes any column `prompt` for the text to complete; the card says so. Where this no longer fails, the layout
    `trl` has lost its reason."""
    exported(rows)
    dataset = loaded(rows.folder / "out")
    with pytest.raises((ValueError, KeyError, TypeError)):
        prepared(dataset, "Qwen3", rows.folder)
    assert 'rows.select_columns(["messages"])' in (rows.folder / "out/README.md").read_text()
    _, trained = prepared(dataset.select_columns(["messages"]), "Qwen3", rows.folder)
    assert f"<think>\n{CHAIN}\n</think>\n\n{ANSWER}" in trained


@pytest.mark.parametrize(
    ("family", "written"), [("Qwen2.5", {"reasoning": "apart"}), ("R1-distill", {}), ("Qwen3", {"layout": "sharegpt"})]
)
def test_what_the_page_warns_of_really_happens(rows: Imports, family: str, written: dict[str, str]) -> None:
    """A template without a place for a chain, one that deletes it, and one that knows no speaker `gpt`."""
    exported(rows, **{"layout": "trl", **written})
    _, trained = prepared(loaded(rows.folder / "out"), family, rows.folder)
    assert CHAIN not in trained
