"""Small tokenizers for the tests, each with a chat template that TRL ships, read from TRL's package."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pytest

WORDS = ["So 7 + 25 = 32, the answer is \\boxed{32}.\n\nWait, let me think about it step by step.\n", "user assistant"]


@dataclass(frozen=True)
class Family:
    """`special` as the family's tokenizer has them; `plain` are its added tokens that are not special."""

    template: str
    end: str
    special: tuple[str, ...]
    plain: tuple[str, ...] = ()
    bos: str | None = None
    own: tuple[str, str] | None = None
    """The marks that its own template writes around a chain; None where it has no place for one."""
    opens: str = ""
    """What of a chain its template writes in the prompt."""
    lead: str = ""
    """What has to be written before an answer without a chain."""
    earlier_end: str | None = None
    """What its template writes after earlier turns, where that is another token."""


THINK = ("<think>\n", "\n</think>\n\n")
CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
QWEN3 = ("<think>", "</think>", "<tool_call>", "</tool_call>")
LLAMA = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
HARMONY = ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>", "<|endoftext|>")
R1 = ("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>")

FAMILIES = {
    "Qwen2.5": Family("qwen2_5", "<|im_end|>", CHATML),
    "Qwen3": Family("qwen3", "<|im_end|>", CHATML, QWEN3, own=THINK),
    "Qwen3.5": Family("qwen3_5_think", "<|im_end|>", CHATML, QWEN3, own=THINK, opens="<think>\n"),
    "Qwen3.5, small": Family("qwen3_5_nothink", "<|im_end|>", CHATML, QWEN3, own=THINK, opens="<think>\n"),
    "Qwen3.6": Family("qwen3_6", "<|im_end|>", CHATML, QWEN3, own=THINK, opens="<think>\n"),
    "Llama 3": Family("llama3", "<|eot_id|>", LLAMA, bos="<|begin_of_text|>"),
    "Llama 3.1": Family("llama3_1", "<|eot_id|>", LLAMA, bos="<|begin_of_text|>"),
    "Llama 3.2": Family("llama3_2", "<|eot_id|>", LLAMA, bos="<|begin_of_text|>"),
    "Gemma 3": Family("gemma3", "<end_of_turn>", ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), bos="<bos>"),
    "gpt-oss": Family(
        "gptoss", "<|return|>", HARMONY,
        own=("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        lead="<|channel|>final<|message|>", earlier_end="<|end|>",
    ),
    "R1-distill": Family(
        "deepseek_r1_distill", "<｜end▁of▁sentence｜>", ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"), R1,
        bos="<｜begin▁of▁sentence｜>", own=THINK, opens="<think>\n",
    ),
}  # fmt: skip
"""Which tokens are special and which only added: their tokenizer_config.json. SmolLM2 is in test_render.py, with its
own tokenizer."""


def template_of(name: str) -> str:
    """A chat template as the installed TRL ships it."""
    pytest.importorskip("trl", reason="needs the extra `train`")
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text("utf-8")


@cache
def tokenizer_of(family: str) -> Any:
    """A byte-level BPE of a few hundred tokens with the family's special tokens and its real template."""
    f = FAMILIES[family]
    return byte_level(f.special, f.plain, f.end, template_of(f.template), f.bos)


def byte_level(
    special: Sequence[str], plain: Sequence[str], end: str, template: str | None, bos: str | None = None
) -> Any:
    pytest.importorskip("transformers", reason="needs the extra `train`")
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(WORDS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    bpe.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=bos, eos_token=end, pad_token=end)
    made.chat_template = template
    return made
