"""Answers questions with local weights, in batches: with transformers' models and a decoding loop of winnow's own.

transformers' `generate()` keeps a whole batch until its last row has ended, and draws all rows from one stream of
random numbers. In this loop a row leaves the batch when it ends. Each answer has its own stream of random numbers, so
that the answer does not depend on the questions beside it.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import DynamicCache

from finetune.measure.engine import Asked, Generated
from finetune.measure.sampling import Sampling
from finetune.rows.render import prompt_ids
from finetune.rows.template import end_token
from finetune.student import Student, identity, limit_of, load_model, load_tokenizer
from harvest.core.errors import InputError
from harvest.core.nouns import Message, content_hash

MOST_ROWS = {"cpu": 64, "cuda": 256}
"""The most rows of a batch, even if memory allows more. On a CPU more rows are not faster."""
CACHE_SHARE = {"cpu": 0.25, "cuda": 0.8}
"""The key-value cache of a batch may fill this share of free memory. On a CPU other programs need memory too."""
SHRINK_AT = 0.75
"""Ended rows leave the batch when less than this share of its rows goes on: moving the cache costs as much as a
step."""
HAND_OVER_S = 5.0
"""Ended answers are handed over after this many seconds while the batch goes on. A kill loses answers that ended since
then."""


class TransformersEngine:
    """An engine that answers with a student on this machine: in float32 on a CPU, in bfloat16 on a GPU."""

    def __init__(self, student: Student, batch_rows: int | None = None) -> None:
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
            "device": self.device,
            "attention": str(self.network.config._attn_implementation),
        }
        eos = self.network.generation_config.eos_token_id
        self.ends = {end_token(self.tokenizer), *([eos] if isinstance(eos, int) else eos or [])}
        self.config = self.network.config.get_text_config()
        self.batch_rows = batch_rows
        self.most_rows = 0
        """The most rows that a batch had so far."""

    @property
    def beside(self) -> Mapping[str, Any]:
        name = torch.cuda.get_device_name() if self.device == "cuda" else torch.backends.cpu.get_cpu_capability()
        return {"torch": torch.__version__, "hardware": name, "batch_rows": self.most_rows}

    @property
    def limit(self) -> int | None:
        return limit_of(self.config.to_dict())

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return len(prompt_ids(messages, self.tokenizer))

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """Yields the answers, longest prompts first, so that a batch too large for memory fails at once.

        Such a batch is halved. Raises InputError when a single question does not fit into memory. The caller keeps a
        prompt and its answer within `limit`.
        """
        waiting = [(prompt_ids(a.messages, self.tokenizer), a) for a in asked]
        waiting.sort(key=lambda p: (-len(p[0]), p[1].question.id, p[1].sample))
        most = self.batch_rows or MOST_ROWS[self.device]
        while waiting:
            fit = self.batch_rows or self._fitting(len(waiting[0][0]) + sampling.max_tokens)
            batch = waiting[: max(1, min(most, fit))]
            self.most_rows = max(self.most_rows, len(batch))
            left = {(a.question.id, a.sample) for _, a in batch}
            try:
                for ended in self._batch(batch, sampling):
                    left -= {(a.question.id, a.sample) for a, _ in ended}
                    yield ended
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise InputError(
                        f"question {batch[0][1].question.id}: {len(batch[0][0])} tokens and --max-tokens"
                        f" {sampling.max_tokens} do not fit into the {self.device}'s memory: lower --max-tokens"
                    ) from None
                most = len(batch) // 2
            if left and self.device == "cuda":
                torch.cuda.empty_cache()
            waiting = [p for p in batch if (p[1].question.id, p[1].sample) in left] + waiting[len(batch) :]

    def _fitting(self, tokens: int) -> int:
        """Returns how many rows fit into memory, by their key-value cache, if each row has this many tokens."""
        c = self.config
        heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        size = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        of_token = 2 * c.num_hidden_layers * heads * size * self.network.dtype.itemsize
        free = torch.cuda.mem_get_info()[0] if self.device == "cuda" else _free_memory()
        return int(CACHE_SHARE[self.device] * free / (tokens * of_token))

    @torch.inference_mode()
    def _batch(
        self, batch: Sequence[tuple[list[int], Asked]], sampling: Sampling
    ) -> Iterator[list[tuple[Asked, Generated]]]:
        """Every few seconds, yields the answers of the batch that have ended since the last time. Each answer comes
        once."""
        width = max(len(ids) for ids, _ in batch)
        pad = min(self.ends)
        ids = torch.tensor([[pad] * (width - len(i)) + i for i, _ in batch], device=self.device)
        mask = torch.tensor([[0] * (width - len(i)) + [1] * len(i) for i, _ in batch], device=self.device)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        cache = DynamicCache(config=self.network.config)
        streams = [_stream(sampling.seed, a) for _, a in batch]
        written: list[list[int]] = [[] for _ in batch]
        rows = list(range(len(batch)))  # rows[i] is the batch's row in place i of what is computed
        going, ended, handed_over = set(rows), list[int](), time.monotonic()
        while going:
            out = self.network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                logits_to_keep=1,
            )
            drawn = draw(out.logits[:, -1].float(), sampling, [streams[r] for r in rows])
            for r, token in zip(rows, drawn.tolist(), strict=True):
                if r in going:
                    written[r].append(token)
                    if token in self.ends or len(written[r]) == sampling.max_tokens:
                        going.discard(r)
                        ended.append(r)
            if ended and (not going or time.monotonic() - handed_over > HAND_OVER_S):
                yield [(batch[r][1], self._generated(written[r])) for r in ended]
                ended, handed_over = [], time.monotonic()
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
            position = position[:, -1:] + 1
            ids = drawn[:, None]
            if going and len(going) < SHRINK_AT * len(rows):
                kept = torch.tensor([i for i, r in enumerate(rows) if r in going], device=self.device)
                cache.batch_select_indices(kept)
                mask, position, ids = mask[kept], position[kept], ids[kept]
                rows = [r for r in rows if r in going]

    def _generated(self, tokens: list[int]) -> Generated:
        ended = tokens[-1] in self.ends
        text = self.tokenizer.decode(
            tokens[:-1] if ended else tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return Generated(text, ended, len(tokens))


def _free_memory() -> int:
    """Returns how many bytes of memory are available; 4 GiB when the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return 4 << 30
    found = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return found[0] * 1024 if found else 4 << 30


def _stream(seed: int, asked: Asked) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{asked.question.id}/{asked.sample}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw(logits: torch.Tensor, sampling: Sampling, streams: Sequence[torch.Generator]) -> torch.Tensor:
    """Draws one token for each row: [R, V] → [R].

    At temperature 0 it takes the likeliest token, else it uses a random number of the row's stream.
    """
    if not sampling.temperature:
        return logits.argmax(-1)
    at = torch.tensor([torch.rand(1, generator=s, dtype=torch.float64).item() for s in streams], device=logits.device)
    scaled = logits.double() / sampling.temperature
    if sampling.top_k is None and sampling.top_p is None and not sampling.min_p:
        return _at(scaled.softmax(-1), at)
    share, tokens = kept_shares(scaled, sampling)
    return tokens.gather(1, _at(share, at)[:, None])[:, 0]


def kept_shares(logits: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (the probabilities that the filters leave, their tokens), likeliest first. `logits` has the shape [R, V];
    both results have the shape [R, K].

    The filters are top_k, then top_p over the rest, then min_p over the rest, in the order of transformers and vLLM.
    """
    most = min(sampling.top_k or logits.shape[-1], logits.shape[-1])
    kept, tokens = logits.topk(most, dim=-1)
    share = kept.softmax(-1)
    if sampling.top_p is not None:
        share = share.where(share.cumsum(-1) - share < sampling.top_p, 0.0)
    if sampling.min_p:
        share = share.where(share >= sampling.min_p * share[:, :1], 0.0)
    return share, tokens


def _at(share: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Returns the place in each row at which the cumulative sum passes the share `at` of the row's whole sum."""
    upto = share.cumsum(-1)
    below = torch.nextafter(upto[:, -1:], torch.zeros_like(upto[:, -1:]))
    return torch.searchsorted(upto, (at[:, None] * upto[:, -1:]).minimum(below), right=True)[:, 0]
