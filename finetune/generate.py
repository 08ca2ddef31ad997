"""Answers from local weights, in batches, by transformers' models with a loop of our own.

`generate()` keeps a whole batch until its last row has ended, and draws a batch's samples from one stream of
random numbers. Here rows that have ended leave, and each answer has its own stream, so that it does not depend
on which questions were asked beside it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import transformers
from transformers import DynamicCache

from finetune.evaluate import Asked, Generated, Sampling
from finetune.render import end_token, prompt_ids
from finetune.student import Student, identity, load_model, load_tokenizer
from harvest.errors import InputError
from harvest.trace import content_hash

BATCH_TOKENS = {"cpu": 32_768, "cuda": 262_144}
"""Most tokens that the key-value cache of one batch may come to hold."""
MOST_ROWS = 64
SHRINK_AT = 0.75
"""Ended rows leave once less than this share of the batch goes on: moving the cache costs as much as a step."""


class TransformersEngine:
    """A student on this machine. float32 on a CPU, bfloat16 on a GPU, said in `about`."""

    def __init__(self, student: Student) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
        self.tokenizer = load_tokenizer(student)
        self.network = load_model(student, dtype).to(self.device).eval()
        self.model = student.name
        self.about: Mapping[str, Any] = {
            "weights": identity(student),
            "tokenizer": content_hash([self.tokenizer.chat_template, self.tokenizer.get_vocab()]),
            "engine": f"transformers {transformers.__version__}",
            "precision": str(dtype).removeprefix("torch."),
        }
        told = self.network.generation_config.eos_token_id
        self.ends = {end_token(self.tokenizer), *([told] if isinstance(told, int) else told or [])}

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """Longest prompts first, so that a batch that is too large shows at once."""
        prompts = [(prompt_ids(a.messages, self.tokenizer), a) for a in asked]
        limit = getattr(self.network.config, "max_position_embeddings", None)
        prompts.sort(key=lambda p: (-len(p[0]), p[1].question.id, p[1].sample))
        if prompts and limit and len(prompts[0][0]) + sampling.max_tokens > limit:
            raise InputError(
                f"question {prompts[0][1].question.id}: its prompt of {len(prompts[0][0])} tokens and --max-tokens "
                f"{sampling.max_tokens} are over the student's {limit}: lower --max-tokens"
            )
        at = 0
        while at < len(prompts):
            rows = BATCH_TOKENS[self.device] // (len(prompts[at][0]) + sampling.max_tokens)
            batch = prompts[at : at + max(1, min(rows, MOST_ROWS))]
            at += len(batch)
            yield list(zip((a for _, a in batch), self._batch(batch, sampling), strict=True))

    @torch.inference_mode()
    def _batch(self, batch: Sequence[tuple[list[int], Asked]], sampling: Sampling) -> list[Generated]:
        width = max(len(ids) for ids, _ in batch)
        pad = min(self.ends)
        ids = torch.tensor([[pad] * (width - len(i)) + i for i, _ in batch], device=self.device)
        mask = torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i, _ in batch], device=self.device)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.network.config)
        streams = [_stream(sampling.seed, a) for _, a in batch]
        written: list[list[int]] = [[] for _ in batch]
        rows = list(range(len(batch)))  # rows[i] is the batch's row in place i of what is computed
        going = set(rows)
        while True:
            out = self.network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                logits_to_keep=1,
            )
            drawn = _draw(out.logits[:, -1].float(), sampling.temperature, [streams[r] for r in rows])
            for r, token in zip(rows, drawn.tolist(), strict=True):
                if r in going:
                    written[r].append(token)
                    if token in self.ends or len(written[r]) == sampling.max_tokens:
                        going.discard(r)
            if not going:
                break
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            position = position[:, -1:] + 1
            ids = drawn[:, None]
            if len(going) < SHRINK_AT * len(rows):
                kept = torch.tensor([i for i, r in enumerate(rows) if r in going], device=self.device)
                cache.batch_select_indices(kept)
                mask, position, ids = mask[kept], position[kept], ids[kept]
                rows = [r for r in rows if r in going]
        return [self._generated(tokens) for tokens in written]

    def _generated(self, tokens: list[int]) -> Generated:
        ended = tokens[-1] in self.ends
        text = self.tokenizer.decode(
            tokens[:-1] if ended else tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return Generated(text, ended, len(tokens))


def _stream(seed: int, asked: Asked) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{asked.question.id}/{asked.sample}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _draw(logits: torch.Tensor, temperature: float, streams: Sequence[torch.Generator]) -> torch.Tensor:
    """One token a row: [R, V] → [R]. Greedy at temperature 0, else by each row's own number in [0, 1)."""
    if not temperature:
        return logits.argmax(-1)
    share = (logits.double() / temperature).softmax(-1).cumsum(-1)
    at = torch.tensor([torch.rand(1, generator=s, dtype=torch.float64).item() for s in streams], device=logits.device)
    return torch.searchsorted(share, at[:, None] * share[:, -1:], right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
