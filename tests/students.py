"""Small students for the tests of finetune: SmolLM2's real tokenizer with small random weights."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harvest.core.errors import WinnowError

SMOL = "SmolLM2-135M-Instruct"


@cache
def smol_tokenizer() -> Any:
    pytest.importorskip("transformers", reason="needs the extra `train`")
    from finetune.student import find, load_tokenizer

    try:
        return load_tokenizer(find(SMOL))
    except WinnowError as e:
        pytest.skip(f"needs the weights of {SMOL}: {e}")


def tiny_student(folder: Path, *, layers: int = 2, seed: int = 1) -> Path:
    """A Llama of some 800,000 random weights that reads SmolLM2's tokens, saved in `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = smol_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat(user: str, assistant: str, system: str | None = None) -> list[dict[str, str]]:
    first = [{"role": "system", "content": system}] if system is not None else []
    return [*first, {"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def sums(n: int) -> list[list[dict[str, str]]]:
    """Conversations of different lengths, each with a chain."""
    return [
        chat(
            f"What is {i} + {i + 3}?", f"<think>\n{'so ' * (i % 7)}{i} + {i + 3} = {2 * i + 3}\n</think>\n\n{2 * i + 3}"
        )
        for i in range(n)
    ]
