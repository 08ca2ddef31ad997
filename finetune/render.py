"""A conversation as the student reads it: token ids, and the mask of what is trained.

The student's own chat template writes everything around the contents; the assistant's turns are ours, so
that no template drops a chain, trims it or puts an empty one before it. The template is asked once for each
order of roles, with slots in place of the contents. What a model or a user wrote is encoded as plain text: a
`<|im_end|>` in it never becomes the token that ends the turn.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from harvest.errors import ConfigError, DatasetError, TooLong
from harvest.trace import Message

TODAY = (
    "{% macro strftime_now(format) %}{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') | replace('%y', '24') }}{% endmacro %}{{ '' }}"
)
"""What day it is to a template that asks, always: training, going on and measuring must read the same prompt. The
day that Llama 3's templates take where there is no clock."""

Tokenizer = Any
"""A transformers tokenizer. Untyped here, so that the tests' and the user's need no common base."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The marks around a chain and its answer, line breaks included."""

    open: str
    close: str
    answer_open: str = ""
    answer_close: str = ""

    def write(self, reasoning: str | None, answer: str) -> str:
        """The assistant's turn. Without a chain no marks of a chain are written."""
        chain = "" if reasoning is None else f"{self.open}{reasoning}{self.close}"
        return f"{chain}{self.answer_open}{answer}{self.answer_close}"

    def read(self, content: str) -> tuple[str, str] | None:
        """(reasoning, answer) of a content in this layout, else None.

        The chain reaches to the last closing mark. Raises ValueError, saying what is wrong, where a chain was
        begun and not ended, ended and not begun, or has no answer after it.
        """
        begin, end = self.open.strip(), self.close.strip()
        if not begin or not end:
            return None
        if not content.lstrip().startswith(begin):
            if end in content and begin not in content:
                raise ValueError(f"{end} closes a chain that was never opened with {begin}")
            return None
        head, found, tail = content.rpartition(end)
        if not found:
            raise ValueError(f"the chain is open: {begin} is never closed with {end}")
        reasoning = head.lstrip().removeprefix(begin)
        answer = tail
        if mark := self.answer_open.strip():
            _, found, answer = tail.partition(mark)
            if not found:
                raise ValueError(f"no {mark} after the chain")
        if mark := self.answer_close.strip():
            answer, found, _ = answer.rpartition(mark)
            if not found:
                raise ValueError(f"the answer is open: no {mark} at its end")
        if not answer.strip():
            raise ValueError("no answer after the chain")
        return _unwrap(reasoning, self.open, self.close), _unwrap(
            answer, self.answer_open or self.close, self.answer_close
        )


def _unwrap(text: str, before: str, after: str) -> str:
    """Without the line breaks that the marks bring along, and no others."""
    lead = before[len(before.rstrip("\n")) :]
    trail = after[: len(after) - len(after.lstrip("\n"))]
    return text.removeprefix(lead).removesuffix(trail)


LAYOUTS = {
    "think": Layout("<think>\n", "\n</think>\n\n"),
    "sky-t1": Layout(
        "<|begin_of_thought|>\n\n",
        "\n\n<|end_of_thought|>\n\n",
        "<|begin_of_solution|>\n\n",
        "\n\n<|end_of_solution|>",
    ),
}


def turn(content: str, layout: Layout) -> str:
    """An assistant's content in the recipe's layout, from whichever known layout it came in.

    Byte for byte as it is where it stands in that layout already, or has no chain. Raises ValueError as `Layout.read`.
    """
    for known in (layout, *LAYOUTS.values()):
        if (parts := known.read(content)) is not None:
            return content if known == layout else layout.write(*parts)
    return content if content.startswith(layout.answer_open) else layout.write(None, content)


@dataclass(frozen=True, slots=True)
class Example:
    """One training row. `ids` and `mask` have shape [T]; mask[t] is 1 where ids[t] is a target."""

    ids: "array[int]"
    mask: "array[int]"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def trained_tokens(self) -> int:
        return sum(self.mask)

    @property
    def labels(self) -> list[int]:
        """`ids` where they are trained, -100 elsewhere. By position, so that pad = end token masks nothing."""
        return [i if m else -100 for i, m in zip(self.ids, self.mask, strict=True)]


def render(messages: Sequence[Message], tokenizer: Tokenizer, max_tokens: int, layout: Layout) -> Example:
    """A conversation as the student reads it, and which tokens it learns from.

    `ids` and `mask` have shape [T], T <= max_tokens; mask[t] is 1 where ids[t] is a target: of every
    assistant turn the reasoning, the answer and the end token. Nothing stands after the last end token.

    Raises TooLong, with both counts, instead of cutting: a chain without its end teaches the student not to
    stop. Raises DatasetError where text would not come back from its ids byte for byte.
    Source: LLaMA-Factory, data/processors/supervised.py, train_on_prompt=False, which is how Sky-T1 was trained.
    """
    ids, mask = array("i"), array("b")

    def put(new: Iterable[int], trained: int) -> None:
        before = len(ids)
        ids.extend(new)
        mask.extend([trained] * (len(ids) - before))

    frame = _frame(tuple(m["role"] for m in messages), tokenizer)
    prompt: list[tuple[str, bool]] = []
    for k, message in enumerate(messages):
        prompt.append((frame.before[k], True))
        if message["role"] != "assistant":
            prompt.append((frame.content(k, message["content"]), False))
            continue
        written = turn(message["content"], layout)
        if frame.before[k].rstrip("\n").endswith(layout.open.strip() or "\0"):  # the template opened the chain
            mark = layout.open if written.startswith(layout.open) else layout.open.strip()
            if not written.startswith(mark):
                raise DatasetError(f"message {k} (assistant): no chain, but the student's chat template opens one")
            written = written.removeprefix(mark)
        put(_encode(prompt, tokenizer), 0)
        put(_encode_turn(written, tokenizer), 1)
        put([frame.end_id], 1)
        prompt = []
    if len(ids) > max_tokens:
        raise TooLong(f"{len(ids)} tokens, over the limit of {max_tokens} (render.max_tokens)")
    return Example(ids, mask)


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """What the student reads before it answers: exactly the untrained start of a training row."""
    frame = _frame((*(m["role"] for m in messages), "assistant"), tokenizer)
    parts: list[tuple[str, bool]] = []
    for k, message in enumerate(messages):
        parts += [(frame.before[k], True), (frame.content(k, message["content"]), False)]
    return _encode([*parts, (frame.before[len(messages)], True)], tokenizer)


def end_token(tokenizer: Tokenizer) -> int:
    """The id that ends an assistant's turn in the student's template, whatever its `eos_token` says."""
    return _frame(("user", "assistant"), tokenizer).end_id


@dataclass(frozen=True, slots=True)
class _Frame:
    """What the template writes around the contents of one order of roles."""

    before: tuple[str, ...]
    """The text before each content; after an assistant's turn without the end token, which is `end_id`."""
    trims: tuple[bool, ...]
    """Where the template takes white space off the content, as it will when the student is asked."""
    end_id: int

    def content(self, k: int, text: str) -> str:
        return text.strip() if self.trims[k] else text


@lru_cache(maxsize=256)
def _frame(roles: tuple[str, ...], tokenizer: Tokenizer) -> _Frame:
    """Raises ConfigError for a tokenizer without a usable template, DatasetError where it refuses these roles."""
    if not tokenizer.chat_template:
        raise ConfigError("the student's tokenizer has no chat template: take an instruct model, or add one")
    template = tokenizer.chat_template
    if "strftime_now" in template:
        template = TODAY + template
    slots = [f"winnowslot{k}x" for k in range(len(roles))]

    def written(contents: Sequence[str], to: int, **more: bool) -> str:
        rows = [{"role": r, "content": c} for r, c in zip(roles[:to], contents, strict=False)]
        try:
            text: str = tokenizer.apply_chat_template(rows, chat_template=template, tokenize=False, **more)
        except (TemplateError, TypeError, KeyError) as e:
            raise DatasetError(f"the student's chat template refuses the roles {', '.join(roles)}: {e}") from None
        return text

    whole = written(slots, len(roles))
    padded = written([f" {s} " for s in slots], len(roles))
    before, end_id, rest = [], -1, whole
    for k, (role, slot) in enumerate(zip(roles, slots, strict=True)):
        head, found, rest = rest.partition(slot)
        if not found:
            raise DatasetError(f"the student's chat template drops message {k} ({role}) of {', '.join(roles)}")
        if role == "assistant":
            asked = written(slots, k, add_generation_prompt=True)
            head = asked.rpartition(slots[k - 1])[2] if k else asked
            end_id, rest = _without_end(rest, tokenizer)
        before.append(head)
    trims = tuple(f" {s} " not in padded for s in slots)
    return _Frame(tuple(before), trims, end_id)


def _without_end(text: str, tokenizer: Tokenizer) -> tuple[int, str]:
    m = _specials(tokenizer).match(text)
    if m is None:
        raise ConfigError(
            f"the student's chat template puts no end token after an assistant's turn, but {text[:20]!r}: "
            "the student could not learn to stop"
        )
    return int(tokenizer.convert_tokens_to_ids(m.group())), text[m.end() :]


@lru_cache(maxsize=16)
def _specials(tokenizer: Tokenizer) -> re.Pattern[str]:
    added = (t.content for t in tokenizer.added_tokens_decoder.values() if t.special)
    tokens = sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")


def _encode(parts: Sequence[tuple[str, bool]], tokenizer: Tokenizer) -> list[int]:
    """Ids of (text, is the template's own) in a row: special tokens only where the template wrote them.

    Tokens may merge from part to part, as they do when the student is asked: the parts are one text.
    """
    special = _specials(tokenizer)
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


def _encode_turn(text: str, tokenizer: Tokenizer) -> list[int]:
    """Ids of what is trained. Raises DatasetError where they do not decode to it, byte for byte (or to its NFC)."""
    ids = _encode([(text, False)], tokenizer)
    back = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if back != text and back != unicodedata.normalize("NFC", text):
        at = next((i for i, (a, b) in enumerate(zip(back, text, strict=False)) if a != b), min(len(back), len(text)))
        raise DatasetError(f"the tokenizer does not keep {text[at : at + 20]!r} (it gives {back[at : at + 20]!r})")
    return ids


def _plain(text: str, tokenizer: Tokenizer) -> list[int]:
    if not text:
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    known = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    if taken := known.intersection(ids):
        tokens = ", ".join(map(str, tokenizer.convert_ids_to_tokens(sorted(taken))))
        raise DatasetError(f"holds the text of {tokens}, which this tokenizer cannot encode as plain text")
    return ids
