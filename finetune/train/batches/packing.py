"""Makes packs: a pack is several rows, one after another, that go through the student as one sequence of tokens."""

import heapq
from collections.abc import Iterator, Sequence
from math import ceil
from typing import Any

from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from finetune.train.batches.steps import Split, Steps


def packs_of(rows: Sequence[int], lengths: Sequence[int], packs: int) -> list[list[int]]:
    """Divides `rows` into at most `packs` packs with about equal numbers of tokens. No pack is empty.

    Rows are placed from the longest to the shortest, each into the pack that is shortest then. Best-fit would fill
    packs and leave a short last pack, for which the other processes wait.
    """
    filled: list[tuple[int, int, list[int]]] = [(0, n, []) for n in range(min(packs, len(rows)))]
    for row in sorted(rows, key=lambda i: (-lengths[i], i)):
        tokens, n, pack = filled[0]
        heapq.heapreplace(filled, (tokens + lengths[row], n, [*pack, row]))
    return [pack for _, _, pack in sorted(filled, key=lambda f: (-f[0], f[1]))]


class Packed(Steps):
    """Works like `Steps`, but each list of rows is a pack, which goes through the student as one sequence of tokens.

    A step has `split.accumulated` packs in each process, however long its rows are. `packs_a_step` says how many packs
    are needed so that no pack has more than a given number of tokens.
    """

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.traces_per_step)
        return whole * self.split.accumulated + min(self.split.accumulated, ceil(rest / self.split.processes))

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.steps():
            packs = packs_of(rows, self.lengths, self.split.accumulated * self.split.processes)
            for at in range(0, len(packs), self.split.processes):
                mine = packs[at : at + self.split.processes][self.split.rank :: self.split.processes]
                yield mine[0] if mine else [self.filler]


def packs_a_step(
    lengths: Sequence[int], traces_per_step: int, seed: int, epochs: int, most_tokens: int, processes: int = 1
) -> int:
    """Returns how many packs a process needs for each step, so that no pack is longer than `most_tokens` in any epoch.

    If the longest row is longer than `most_tokens`, packs may be as long as that row.
    """
    room = max(most_tokens, max(lengths))
    steps = Packed(lengths, traces_per_step, seed, Split(1, 1, processes))
    needed = 1
    for epoch in range(epochs):
        steps.set_epoch(epoch)
        for rows in steps.steps():
            tokens = sum(lengths[i] for i in rows)
            needed = max(needed, ceil(tokens / (room * processes)))
            while max(sum(lengths[i] for i in p) for p in packs_of(rows, lengths, needed * processes)) > room:
                needed += 1
    return needed


_TRL = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)  # nothing is padded


def flattened(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collates a pack: TRL's padding-free batch of one sequence, and the lengths of its rows as numbers.

    Positions [1, tokens] restart with each row. The bounds of the rows are there in each form that kernels ask for
    (`cu_seq_lens_q`, `seq_idx`). The first token of a row is not trained: the token before it belongs to another row.
    """
    return {**_TRL(rows), "row_lengths": [len(r["input_ids"]) for r in rows]}
