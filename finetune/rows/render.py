"""A conversation as the student reads it: token ids, and the mask of what is trained.

The student's own chat template writes everything around the contents; the assistant's turns are ours, so
that no template drops a chain, trims it or puts an empty one before it. The template is asked once for each
order of roles, with slots in place of the contents, and in its thinking mode where it has one. What a model or a
user wrote is encoded as plain text: a `<|im_end|>` in it never becomes the token that ends the turn.
"""

import re
import unicodedata
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from finetune.rows.faults import RowFault
from harvest.core.errors import ConfigError, TooLong
from harvest.core.nouns import Message

TODAY = (
    "{% macro strftime_now(format) %}{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') | replace('%y', '24') }}{% endmacro %}{{ '' }}"
)
"""What day it is to a template that asks, always: training, going on and measuring must read the same prompt. The
day that Llama 3's templates take where there is no clock."""

Tokenizer = Any
"""A transformers tokenizer. Untyped here, so that the tests' and the user's need no common base."""

Part = tuple[str, bool]
"""A text, and whether special tokens in it are meant: in what template and recipe write they are, in contents never."""

CHAIN_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Where a message has its chain apart from its content: in other people's datasets, and for chat templates."""


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

        The chain reaches to the last closing mark. Raises RowFault, saying what is wrong, where a chain was
        begun and not ended, ended and not begun, or has no answer after it.
        """
        begin, end = self.open.strip(), self.close.strip()
        if not begin or not end:
            return None
        if not content.lstrip().startswith(begin):
            if end in content and begin not in content:
                raise RowFault("chain", f"{end} closes a chain that was never opened with {begin}")
            return None
        head, found, tail = content.rpartition(end)
        if not found:
            raise RowFault("chain", f"the chain is open: {begin} is never closed with {end}")
        reasoning = head.lstrip().removeprefix(begin)
        answer = tail
        if mark := self.answer_open.strip():
            _, found, answer = tail.partition(mark)
            if not found:
                raise RowFault("answer", f"no {mark} after the chain")
        if mark := self.answer_close.strip():
            answer, found, _ = answer.rpartition(mark)
            if not found:
                raise RowFault("answer", f"the answer is open: no {mark} at its end")
        if not answer.strip():
            raise RowFault("answer", "no answer after the chain")
        return _unwrap(reasoning, self.open, self.close), _unwrap(
            answer, self.answer_open or self.close, self.answer_close
        )

    def cut(self, written: str) -> "list[Part]":
        """A turn that `turn` wrote, cut at its marks, white space around them left with the texts."""
        parts: list[Part] = []
        begin, end = self.open.strip(), self.close.strip()
        if begin and end and written.lstrip().startswith(begin):
            head, _, tail = written.partition(begin)
            chain, _, written = tail.rpartition(end)
            parts = [(head, False), (begin, True), (chain, False), (end, True)]
        if (mark := self.answer_open.strip()) and mark in written:
            head, _, written = written.partition(mark)
            parts += [(head, False), (mark, True)]
        if (mark := self.answer_close.strip()) and mark in written:
            head, _, written = written.rpartition(mark)
            parts += [(head, False), (mark, True)]
        return [*parts, (written, False)]


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

    Byte for byte as it is where it stands in that layout already, or has no chain. Raises RowFault as `Layout.read`.
    """
    # The layout it begins in comes first: its chain may quote the marks of another.
    begun = sorted((layout, *LAYOUTS.values()), key=lambda known: not content.lstrip().startswith(known.open.strip()))
    for known in begun:
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
    stop. Raises RowFault where text would not come back from its ids byte for byte.
    Source: LLaMA-Factory, data/processors/supervised.py, train_on_prompt=False, which is how Sky-T1 was trained.
    """
    ids, mask = array("i"), array("b")

    def put(new: Iterable[int], trained: int) -> None:
        before = len(ids)
        ids.extend(new)
        mask.extend([trained] * (len(ids) - before))

    frame = _frame(tuple(m["role"] for m in messages), tokenizer)
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


def _answer(k: int, content: str, frame: "_Frame", layout: Layout, tokenizer: Tokenizer) -> list[Part]:
    """What the student is to write as message k, without its end token."""
    parts = layout.cut(turn(content, layout))
    has_chain = len(parts) > 1 and parts[1] == (layout.open.strip(), True)
    if opens_chain(frame.before[k], layout):
        if not has_chain:
            raise RowFault("no chain", f"message {k} (assistant): no chain, but the student's chat template opens one")
        after_mark = layout.open.partition(layout.open.strip())[2]
        return [(parts[2][0].removeprefix(after_mark), False), *parts[3:]]
    if has_chain and _specials(tokenizer).match(layout.open.strip()):
        return parts  # the marks are channels themselves
    return [(frame.leads[k], True), *parts]


def opens_chain(before: str, layout: Layout) -> bool:
    """Whether the template has written the layout's opening mark itself when the student begins to write."""
    return before.rstrip("\n").endswith(layout.open.strip() or "\0")


def opened_otherwise(tokenizer: Tokenizer, layout: Layout) -> str | None:
    """The opening mark of another layout that the template writes itself before the student's own, else None."""
    before = _frame(("user", "assistant"), tokenizer).before[1]
    others = (known for known in LAYOUTS.values() if known.open.strip() != layout.open.strip())
    return next((known.open.strip() for known in others if opens_chain(before, known)), None)


@lru_cache(maxsize=16)
def template_layout(tokenizer: Tokenizer) -> Layout:
    """The marks that the student's own chat template writes around a chain that is given apart from the answer.

    Raises ConfigError where it has no place for one.
    """
    frame = _frame(("user", "assistant"), tokenizer)
    opened = next((known for known in LAYOUTS.values() if opens_chain(frame.before[1], known)), None)
    question = {"role": "user", "content": "winnowslot0x"}
    for field in CHAIN_FIELDS:
        answer = {"role": "assistant", "content": "winnowslot1x", field: "winnowslotchain"}
        text = _applied([question, answer], tokenizer).rpartition("winnowslot0x")[2]
        before, found, rest = text.partition("winnowslotchain")
        close = rest.partition("winnowslot1x")[0]
        if found and close.strip():
            return Layout(before.removeprefix(frame.before[1]) or (opened.open if opened else ""), close)
    if opened:
        return opened
    raise ConfigError(
        'render.reasoning: the student\'s chat template has no place of its own for a chain: take "think" or "sky-t1"'
    )


def thinking_template(tokenizer: Tokenizer) -> str:
    """The chat template to save with a student that was trained to think: as it is, or with its thinking mode as the
    default, so that whoever serves the student asks it as it was trained."""
    template: str = tokenizer.chat_template
    rows = [{"role": "user", "content": "q"}]
    plain = _applied(rows, tokenizer, add_generation_prompt=True, enable_thinking=None)
    if plain == _applied(rows, tokenizer, add_generation_prompt=True):
        return template
    return "{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}" + template


def prompt_ids(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """What the student reads before it answers: exactly the untrained start of a training row."""
    frame = _frame((*(m["role"] for m in messages), "assistant"), tokenizer)
    parts: list[Part] = []
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
    """The text before each content, as it is when the student is asked; after an assistant's turn without `ends`."""
    leads: tuple[str, ...]
    """What the student itself has to write before an assistant's content: gpt-oss's final channel. Else empty."""
    ends: tuple[int, ...]
    """The token after each assistant's content, -1 after others'. gpt-oss ends earlier turns otherwise than the last;
    theirs are read and not trained, since no generation would stop at them."""
    trims: tuple[bool, ...]
    """Where the template takes white space off the content, as it will when the student is asked."""

    @property
    def end_id(self) -> int:
        """What ends an answer: the end of the last turn."""
        return next(e for e in reversed(self.ends) if e >= 0)

    def content(self, k: int, text: str) -> str:
        return text.strip() if self.trims[k] else text


def _applied(rows: Sequence[Mapping[str, str]], tokenizer: Tokenizer, **more: bool | None) -> str:
    """The template's text of these messages, as a thinking student is asked unless `enable_thinking` is None."""
    template = tokenizer.chat_template
    if "strftime_now" in template:
        template = TODAY + template
    switches = {k: v for k, v in {"enable_thinking": True, **more}.items() if v is not None}
    try:
        text: str = tokenizer.apply_chat_template(rows, chat_template=template, tokenize=False, **switches)
    except (TemplateError, TypeError, KeyError) as e:
        roles = ", ".join(r["role"] for r in rows)
        raise RowFault("roles", f"the student's chat template refuses the roles {roles}: {e}") from None
    return text


@lru_cache(maxsize=256)
def _frame(roles: tuple[str, ...], tokenizer: Tokenizer) -> _Frame:
    """Raises ConfigError for a tokenizer without a usable template, RowFault where it refuses these roles."""
    if not tokenizer.chat_template:
        raise ConfigError("the student's tokenizer has no chat template: take an instruct model, or add one")
    slots = [f"winnowslot{k}x" for k in range(len(roles))]

    def written(contents: Sequence[str], to: int, **more: bool) -> str:
        return _applied(
            [{"role": r, "content": c} for r, c in zip(roles[:to], contents, strict=False)], tokenizer, **more
        )

    whole = written(slots, len(roles))
    padded = written([f" {s} " for s in slots], len(roles))
    before, leads, ends, rest = [], [], [], whole
    for k, (role, slot) in enumerate(zip(roles, slots, strict=True)):
        head, found, rest = rest.partition(slot)
        if not found:
            raise RowFault("roles", f"the student's chat template drops message {k} ({role}) of {', '.join(roles)}")
        lead, end = "", -1
        if role == "assistant":
            asked = written(slots, k, add_generation_prompt=True)
            asked = asked.rpartition(slots[k - 1])[2] if k else asked
            lead, head = _lead(head.removeprefix(asked) if head.startswith(asked) else "", tokenizer), asked
            end, rest = _without_end(rest, tokenizer)
        before.append(head)
        leads.append(lead)
        ends.append(end)
    trims = tuple(f" {s} " not in padded for s in slots)
    return _Frame(tuple(before), tuple(leads), tuple(ends), trims)


def _lead(text: str, tokenizer: Tokenizer) -> str:
    """`text` where it is a channel, "" where it is an empty chain or nothing: chains are written by the layout."""
    is_chain = any(mark.strip() in text for known in LAYOUTS.values() for mark in (known.open, known.close))
    return text if _specials(tokenizer).search(text) and not is_chain else ""


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


def quotes_special(text: str, tokenizer: Tokenizer) -> str | None:
    """The first special token whose text stands in `text`, else None."""
    found = _specials(tokenizer).search(text)
    return found.group() if found else None


def _encode(parts: Sequence[Part], tokenizer: Tokenizer) -> list[int]:
    """Ids of the parts in a row: special tokens only where they are meant.

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


def _encode_turn(parts: Sequence[Part], tokenizer: Tokenizer) -> list[int]:
    """Ids of what is trained. Raises RowFault where they do not decode to it, byte for byte (or to its NFC)."""
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
    if not text:
        return []
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    known = set(tokenizer.all_special_ids) | {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    if taken := known.intersection(ids):
        tokens = ", ".join(map(str, tokenizer.convert_ids_to_tokens(sorted(taken))))
        raise RowFault("characters", f"holds the text of {tokens}, which this tokenizer cannot encode as plain text")
    return ids
