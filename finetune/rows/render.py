"""Renders a conversation as the student reads it: token ids, and the mask of the trained tokens.

The student's own chat template writes everything around the contents. The assistant's turns are written by winnow, so
that no template drops a chain, trims it or puts an empty one before it. Text of a model or a user is encoded as plain
text: a `<|im_end|>` in it never becomes the token that ends the turn.
"""

import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from finetune.rows.faults import RowFault
from finetune.rows.layout import Layout, Part, turn
from finetune.rows.template import (
    Frame,
    Tokenizer,
    frame_of,
    history_of,
    opens_chain,
    special_tokens,
    strips_chains,
)
from harvest.core.errors import TooLong
from harvest.core.nouns import Message


@dataclass(frozen=True, slots=True)
class Example:
    """An example is one training row. `ids` and `mask` have shape [T]; mask[t] is 1 if ids[t] is trained, else 0."""

    ids: "array[int]"
    mask: "array[int]"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def trained_tokens(self) -> int:
        return sum(self.mask)

    @property
    def labels(self) -> list[int]:
        """Returns the id of each trained token and -100 for every other token.

        An end token that is also the padding token stays trained.
        """
        return [i if m else -100 for i, m in zip(self.ids, self.mask, strict=True)]


def render(messages: Sequence[Message], tokenizer: Tokenizer, max_tokens: int, layout: Layout) -> Example:
    """Returns a conversation as the student reads it, with the mask of the trained tokens.

    `ids` and `mask` have shape [T], T <= max_tokens. mask[t] is 1 for the reasoning, the answer and the end token of
    every assistant turn, else 0. Nothing stands after the last end token.

    Raises TooLong, with both counts, instead of cutting: a chain without its end teaches the student not to stop.
    Raises RowFault when text would not come back from its ids byte for byte. Source: LLaMA-Factory,
    data/processors/supervised.py, train_on_prompt=False, which is how Sky-T1 was trained.
    """
    ids, mask = array("i"), array("b")

    def put(new: Iterable[int], trained: int) -> None:
        before = len(ids)
        ids.extend(new)
        mask.extend([trained] * (len(ids) - before))

    frame = frame_of(tuple(m["role"] for m in messages), tokenizer)
    prompt: list[Part] = []
    for k, message in enumerate(messages):
        prompt.append((frame.before[k], True))
        if message["role"] != "assistant":
            prompt.append((frame.content(k, message["content"]), False))
            continue
        put(_encode(prompt, tokenizer), 0)
        put(_encode_turn(_answer(k, message["content"], frame, layout, tokenizer), tokenizer), 1)
        put([frame.ends[k]], int(frame.ends[k] == frame.end_id))
        prompt = []
    if len(ids) > max_tokens:
        raise TooLong(f"{len(ids)} tokens, over the limit of {max_tokens} (render.max_tokens)")
    return Example(ids, mask)


def turns(messages: Sequence[Message], tokenizer: Tokenizer, layout: Layout) -> list[Sequence[Message]]:
    """Returns the conversations that a row is trained as: one for each turn of the assistant, or the row as it is.

    Where the student's template leaves out the chains of earlier turns, the student never reads them when it is served.
    So each turn is trained alone then, after the answers of earlier turns without their chains.
    """
    said = [k for k, m in enumerate(messages) if m["role"] == "assistant"]
    if not any(chain_of(messages[k]["content"], layout) for k in said[:-1]) or not strips_chains(tokenizer, layout):
        return [messages]
    return [messages[: k + 1] for k in said]


def chain_of(content: str, layout: Layout) -> tuple[str, str] | None:
    """Returns (chain, answer) of an assistant's turn in any known layout; None when it has no chain."""
    return layout.read(turn(content, layout))


def render_last(messages: Sequence[Message], tokenizer: Tokenizer, max_tokens: int, layout: Layout) -> Example:
    """Returns the last turn of a conversation as the student is asked for it, with the mask of that turn alone.

    The template leaves out the chains of earlier turns. Raises TooLong and RowFault as `render` does.
    """
    roles, last = tuple(m["role"] for m in messages), len(messages) - 1
    frame = frame_of(roles, tokenizer)
    cut = [chain_of(m["content"], layout) if m["role"] == "assistant" else None for m in messages[:-1]]
    around = history_of(roles[:-1], tuple(c is not None for c in cut), layout, tokenizer)
    assert around is not None
    parts: list[Part] = []
    for k, (message, answer) in enumerate(zip(messages[:-1], cut, strict=True)):
        parts += [(around[k], True), (frame.content(k, answer[1] if answer else message["content"]), False)]
    prompt = _encode([*parts, (around[-1], True)], tokenizer)
    said = [*_encode_turn(_answer(last, messages[last]["content"], frame, layout, tokenizer), tokenizer), frame.end_id]
    if (tokens := len(prompt) + len(said)) > max_tokens:
        raise TooLong(f"{tokens} tokens, over the limit of {max_tokens} (render.max_tokens)")
    return Example(array("i", [*prompt, *said]), array("b", bytes(len(prompt)) + b"\1" * len(said)))


def _answer(k: int, content: str, frame: Frame, layout: Layout, tokenizer: Tokenizer) -> list[Part]:
    """Returns the parts that the student is to write as message k, without the end token."""
    parts = layout.cut(turn(content, layout))
    has_chain = len(parts) > 1 and parts[1] == (layout.open.strip(), True)
    if opens_chain(frame.before[k], layout):
        if not has_chain:
            raise RowFault("no chain", f"message {k} (assistant): no chain, but the student's chat template opens one")
        after_mark = layout.open.partition(layout.open.strip())[2]
        return [(parts[2][0].removeprefix(after_mark), False), *parts[3:]]
    if has_chain and special_tokens(tokenizer).match(layout.open.strip()):
        return parts  # the marks are channels themselves
    return [(frame.leads[k], True), *parts]


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Returns what the student reads before it answers. A training row begins with the same ids."""
    frame = frame_of((*(m["role"] for m in messages), "assistant"), tokenizer)
    parts: list[Part] = []
    for k, message in enumerate(messages):
        parts += [(frame.before[k], True), (frame.content(k, message["content"]), False)]
    return _encode([*parts, (frame.before[len(messages)], True)], tokenizer)


def _encode(parts: Sequence[Part], tokenizer: Tokenizer) -> list[int]:
    """Returns the ids of the parts, which are one text: tokens may merge across parts, as when the student is asked.

    A special token is encoded as one only in parts in which it is meant.
    """
    special = special_tokens(tokenizer)
    text = "".join(t for t, _ in parts)
    if not any(special.search(t) for t, ours in parts if not ours):
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        ids, run = [], ""
        for t, ours in parts:
            at = 0
            for m in special.finditer(t) if ours else ():
                ids += _plain(run + t[at : m.start()], tokenizer)
                ids.append(tokenizer.convert_tokens_to_ids(m.group()))
                run, at = "", m.end()
            run += t[at:]
        ids += _plain(run, tokenizer)
    return ids


def _encode_turn(parts: Sequence[Part], tokenizer: Tokenizer) -> list[int]:
    """Returns the ids of a trained turn.

    Raises RowFault when the ids do not decode to the turn's text, byte for byte, or to its NFC form.
    """
    ids = _encode(parts, tokenizer)
    text = "".join(t for t, _ in parts)
    back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if back != text and back != unicodedata.normalize("NFC", text):
        at = next((i for i, (a, b) in enumerate(zip(back, text, strict=False)) if a != b), min(len(back), len(text)))
        raise RowFault(
            "characters", f"the tokenizer does not keep {text[at : at + 20]!r} (it gives {back[at : at + 20]!r})"
        )
    return ids


def _plain(text: str, tokenizer: Tokenizer) -> list[int]:
    """Returns the ids of a text in which no special token is meant.

    Raises RowFault when the tokenizer makes a special token of it anyway.
    """
    if not text:
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    known = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    if taken := known.intersection(ids):
        tokens = ", ".join(map(str, tokenizer.convert_ids_to_tokens(sorted(taken))))
        raise RowFault("characters", f"holds the text of {tokens}, which this tokenizer cannot encode as plain text")
    return ids
