"""Each trap of training with TRL is provoked, or shown to be impossible, on the dataset that the built trainer holds.

Traps of chat templates are in test_families.py, of the end token and padding in test_render.py, of loading and saving
and of resuming in test_kills.py.
"""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from families import CHATML, FAMILIES, QWEN3, R1, byte_level, template_of
from hypothesis import given, settings
from hypothesis import strategies as st
from students import chat, sums
from trainings import OTHERS_WARN

from finetune.recipe import Recipe, read_recipe
from finetune.rows.cache import examples
from finetune.rows.examples import Examples
from finetune.rows.layout import LAYOUTS
from finetune.rows.render import render
from harvest.core.errors import ConfigError, DatasetError

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

pytestmark = OTHERS_WARN
Build = Callable[..., tuple[Any, Examples]]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Qwen2.5 as its base models have it: `<|endoftext|>` for the end, and chats that end with another token."""
    return byte_level(FAMILIES["Qwen2.5"].special, (), "<|endoftext|>", template_of("qwen2_5"))


def tiny(tokenizer: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    return Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), **SIZES))


SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.fixture
def build(tmp_path: Path, tokenizer: Any) -> Build:
    """(trainer, examples) of some conversations."""

    def built(rows: list[Any], **render: Any) -> tuple[Any, Examples]:
        from finetune.train.trainer import build_trainer
        from finetune.train.training_args import training_config

        (tmp_path / "train.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in rows))
        recipe = Recipe.model_validate({
            "student": "s", "data": str(tmp_path), "output": str(tmp_path / "out"),
            "render": {"max_tokens": 4096, **render}, "train": {"traces_per_step": 4, "epochs": 1},
        })  # fmt: skip
        made = examples(recipe, tokenizer)
        config = training_config(recipe, made, 1_000_000, bf16=False)
        return build_trainer(recipe, made, tokenizer, tiny(tokenizer), config), made

    return built


def trained(row: Any) -> list[int]:
    return [label for label in row["labels"] if label != -100]


def test_an_answer_over_trls_1024_tokens_ends_with_its_end_token(build: Build, tokenizer: Any) -> None:
    rows = [chat("q", f"<think>\n{'so it goes on and on, ' * 120}\n</think>\n\n{n}") for n in range(4)]
    trainer, _ = build(rows)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    for held, messages in zip(trainer.train_dataset, rows, strict=True):
        assert 1024 < len(held["input_ids"]) <= trainer.args.max_length
        assert tokenizer.decode(trained(held)) == messages[-1]["content"] + "<|im_end|>"
        assert held["labels"][-1] == held["input_ids"][-1] == end


def test_as_many_rows_are_trained_as_went_in_less_those_left_out_by_name(build: Build) -> None:
    rows = [*sums(5), chat("a very long question " * 60, "<think>\nshort\n</think>\n\n6"), *sums(3)]
    trainer, made = build(rows, max_tokens=512)
    assert len(trainer.train_dataset) == len(made) == 8
    assert [d.partition(":")[0] for d in made.dropped] == ["row 5 (train.jsonl line 6)"]
    seen = sum(len(batch["input_ids"]) for batch in trainer.get_train_dataloader())
    assert seen == 8


def test_the_dataset_has_labels_and_no_mask_that_trl_could_ignore(build: Build, tokenizer: Any) -> None:
    rows = [chat("USER-MARK", "<think>\nwhy\n</think>\n\nso", "SYS-MARK")] * 2
    trainer, _ = build(rows)
    assert set(trainer.train_dataset[0]) == {"input_ids", "labels"}
    for batch in trainer.get_train_dataloader():
        for labels in batch["labels"]:
            assert tokenizer.decode(labels[labels != -100]) == "<think>\nwhy\n</think>\n\nso<|im_end|>"


def test_no_line_break_around_the_turn_is_trained(build: Build, tokenizer: Any) -> None:
    trainer, made = build([*sums(1), [*chat("one", "a"), *chat("two", "b")]])
    held = trainer.train_dataset[1]
    assert tokenizer.decode(trained(held)) == "a<|im_end|>b<|im_end|>"
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"][0]
    at = next(k for k, label in enumerate(held["labels"]) if label != -100)
    assert held["input_ids"][at - 1] == newline
    assert list(made[1].ids) == held["input_ids"]


def test_generation_stops_where_the_turns_end_whatever_the_tokenizer_calls_its_end(
    build: Build, tokenizer: Any
) -> None:
    trainer, _ = build(sums(4))
    assert tokenizer.eos_token == "<|endoftext|>"
    assert trainer.model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ('packing_strategy = "wrapped"', "rows would be cut and see each other"),
        ('packing_strategy = "bfd_split"', "rows would be cut"),
        ("padding_free = false\npacking = true", "packs are never padded"),
        ("per_device_train_batch_size = 2\npacking = true", "a pack goes through at a time"),
        ("max_length = 1024", "it is `render.max_tokens`"),
        ("assistant_only_loss = true", "exactly the assistant's turns are trained"),
        ("completion_only_loss = false", "exactly the assistant's turns are trained"),
        ("gradient_accumulation_steps = 12", "it follows from `train.traces_per_step`"),
        ("warmup_ratio = 0.1", "a number under 1 is a share"),
        ("use_liger_kernel = true", "own head is already fused"),
        ('loss_type = "chunked_nll"', "which is the fused head"),
        ("save_only_model = true", "cannot go on from"),
        ("average_tokens_across_devices = false", "of all processes"),
        ("eval_on_start = true", "`train.eval_steps` say"),
    ],
)
def test_a_setting_that_would_lead_into_a_trap_is_refused_with_what_to_do(
    tmp_path: Path, setting: str, why: str
) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f'student = "s"\ndata = "d"\noutput = "o"\n[train]\n{setting}\n')
    with pytest.raises(ConfigError) as e:
        read_recipe(path, train=True)
    assert f"train.{setting.partition(' ')[0]}: " in str(e.value)
    assert why in str(e.value)


@settings(max_examples=25)  # each builds TRL's settings
@given(st.lists(st.integers(20, 5000), min_size=1, max_size=30), st.integers(1, 200))
def test_a_step_is_as_many_traces_as_the_recipe_says_however_long_they_are(lengths: list[int], traces: int) -> None:
    from array import array

    from finetune.rows.render import Example
    from finetune.train.training_args import training_config

    rows = tuple(Example(array("i", [0] * n), array("b", [1] * n)) for n in lengths)
    recipe = Recipe.model_validate(
        {"student": "s", "data": "d", "output": "o", "train": {"traces_per_step": traces, "epochs": 1}}
    )
    config = training_config(recipe, Examples.of(rows), 1_000_000, bf16=False)
    assert config.per_device_train_batch_size * config.gradient_accumulation_steps == traces
    assert not config.packing
    if len(rows) <= traces:  # of the one epoch: the first step of a warm-up has a learning rate of 0
        assert config.get_warmup_steps(1) == 0


def test_nothing_that_these_libraries_have_deprecated_is_used(build: Build) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        build(sums(4))
    ours = [w for w in told if any(f"/{library}/" in w.filename for library in ("trl", "transformers", "peft"))]
    assert not [str(w.message) for w in ours if "deprecat" in str(w.message)]


def test_a_template_that_deletes_chains_cannot_touch_them(tokenizer: Any) -> None:
    """R1's distilled students, in the way TRL would read them and in ours."""
    from families import tokenizer_of

    r1 = tokenizer_of("R1-distill")
    messages = chat("q", "<think>\nthe chain\n</think>\n\nso")
    assert "the chain" not in r1.apply_chat_template(messages, tokenize=False)
    assert "the chain" in r1.decode(list(render(messages, r1, 512, LAYOUTS["think"]).ids))


@pytest.mark.parametrize(
    ("template", "special", "plain", "end", "theirs"),
    [
        ("deepseekv3", ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), R1, "<｜end▁of▁sentence｜>", []),
        ("nemotron_3_nano", CHATML, QWEN3, "<|im_end|>", ["second"]),
    ],
)
def test_chains_that_more_templates_delete_are_trained(
    template: str, special: tuple[str, ...], plain: tuple[str, ...], end: str, theirs: list[str]
) -> None:
    """`theirs`: the chains that the template leaves of a first and a second turn."""
    tokenizer = byte_level(special, plain, end, template_of(template), special[0] if end in special[1:2] else None)
    messages = [
        *chat("one", "<think>\nfirst chain\n</think>\n\na"), *chat("two", "<think>\nsecond chain\n</think>\n\nb")
    ]  # fmt: skip
    left = tokenizer.apply_chat_template(messages, tokenize=False)
    assert [turn for turn in ("first", "second") if f"{turn} chain" in left] == theirs
    made = render(messages, tokenizer, 512, LAYOUTS["think"])
    trained = tokenizer.decode([i for i, m in zip(made.ids, made.mask, strict=True) if m])
    # Both templates open the chain in the prompt.
    assert trained == f"first chain\n</think>\n\na{end}second chain\n</think>\n\nb{end}"


# ---- state that leaks from row to row


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(vocab_size=64, **SIZES))


def _qwen3() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(vocab_size=64, head_dim=8, **SIZES))


def _gemma3() -> Any:
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    return Gemma3ForCausalLM(Gemma3TextConfig(vocab_size=64, head_dim=8, sliding_window=8, **SIZES))


def _gptoss() -> Any:
    from transformers import GptOssConfig, GptOssForCausalLM

    return GptOssForCausalLM(
        GptOssConfig(vocab_size=64, head_dim=8, num_local_experts=4, num_experts_per_tok=2, sliding_window=8, **SIZES)
    )


def _qwen35() -> Any:
    """Three layers of a gated delta rule and one of attention, as all of its kind."""
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    sizes = SIZES | {"num_hidden_layers": 4}
    return Qwen3_5ForCausalLM(Qwen3_5TextConfig(
        vocab_size=64, head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=8, **sizes,
    ))  # fmt: skip


@pytest.mark.parametrize("make", [_llama, _qwen3, _gemma3, _gptoss, _qwen35])
def test_rows_of_one_batch_do_not_see_each_other(make: Callable[[], Any]) -> None:
    """Row A is changed, and its length too: what row B's tokens give does not move, and is what B gives alone."""
    torch.manual_seed(0)
    model = make().eval()
    b = torch.randint(0, 64, (20,))

    def logits_of_b(a: Any) -> Any:
        width = max(len(a), len(b))
        ids, mask = torch.zeros(2, width, dtype=torch.long), torch.zeros(2, width, dtype=torch.long)
        for k, row in enumerate((a, b)):
            ids[k, : len(row)], mask[k, : len(row)] = row, 1
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask, use_cache=False).logits[1, : len(b)]

    first, second, longer = (logits_of_b(torch.randint(0, 64, (n,))) for n in (20, 20, 45))
    with torch.inference_mode():
        alone = model(input_ids=b[None], use_cache=False).logits[0]
    torch.testing.assert_close(first, second, atol=2e-5, rtol=0)
    torch.testing.assert_close(first, longer, atol=2e-5, rtol=0)
    torch.testing.assert_close(first, alone, atol=2e-5, rtol=0)
    b = (b + 1) % 64
    assert (logits_of_b(b) - first).abs().max() > 1e-3, "logits that nothing moves prove nothing"


def test_a_row_that_nothing_would_be_trained_of_stops_the_training(build: Build) -> None:
    with pytest.raises(DatasetError, match=r"row 3 .*no assistant turn"):
        build([*sums(3), [{"role": "user", "content": "a"}]])


def test_every_test_that_the_page_on_training_names_is_there() -> None:
    folder = Path(__file__).parents[2]
    page = (folder.parent / "docs/training.md").read_text("utf-8")
    there = {name for f in folder.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", f.read_text(), re.M)}
    named = set(re.findall(r"`(test_\w+)`", page))
    assert len(named) > 10
    assert not named - there
