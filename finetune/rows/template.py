"""Reads what the student's own chat template writes around the contents of a conversation.

The template is asked once for each order of roles, with slots in place of the contents. If the template has a thinking
mode, that mode is used.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from finetune.recipe import OwnLayout, Recipe, Render
from finetune.rows.faults import RowFault
from finetune.rows.layout import LAYOUTS, Layout
from finetune.student import find, load_tokenizer
from harvest.core.errors import ConfigError
from harvest.core.settings import nearest

Tokenizer = Any
"""A transformers tokenizer. It has no narrower type, so that tokenizers of tests and users need no common base."""

TODAY = (
    "{% macro strftime_now(format) %}{{ format | replace('%d', '26') | replace('%b', 'Jul') | replace('%B', 'July')"
    " | replace('%m', '07') | replace('%Y', '2024') | replace('%y', '24') }}{% endmacro %}{{ '' }}"
)
"""A template that asks for the date always gets this one, since a training, its continuation and its evaluation must
read the same prompt. Llama 3's templates take the same date when there is no clock."""

THINKING = {"enable_thinking": True}
"""What a template is given: it turns the thinking mode on, where there is one."""

CHAIN_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""The fields that may hold a message's chain apart from its content, in datasets and for chat templates."""


def recipe_tokenizer(recipe: Recipe) -> Tokenizer:
    """Returns the tokenizer of a recipe's student, with the chat template that the recipe gives it.

    Raises ConfigError when there is no such student or template.
    """
    tokenizer = load_tokenizer(find(recipe.student))
    if (named := recipe.render.chat_template) is not None:
        tokenizer.chat_template = _template_text(named)
    return tokenizer


def _template_text(named: str) -> str:
    """Returns the text of a chat template: of a file, or of one that the installed TRL ships under this name."""
    try:
        if named.endswith(".jinja"):
            return Path(named).read_text("utf-8")
        shipped = {p.name.removesuffix(".jinja"): p for p in (files("trl") / "chat_templates").iterdir()}
        if named in shipped:
            return shipped[named].read_text("utf-8")
    except (OSError, ValueError, ModuleNotFoundError) as e:
        raise ConfigError(f"render.chat_template: {named!r} cannot be read: {e}") from None
    raise ConfigError(
        f"render.chat_template: TRL ships no {named!r}{nearest(named, shipped)}, and it is no .jinja file"
    )


@dataclass(frozen=True, slots=True)
class Frame:
    """What the template writes around the contents of one order of roles."""

    before: tuple[str, ...]
    """For each content, the text before it when the student is asked. An end token before a content is in `ends`
    instead."""
    leads: tuple[str, ...]
    """For each content, the text that the student itself has to write before it (gpt-oss's final channel); mostly
    empty."""
    ends: tuple[int, ...]
    """For each content, the token after it; -1 if the role is not assistant. gpt-oss ends earlier turns with a
    different token than the last turn. The different token is not trained, since generation would not stop at it."""
    trims: tuple[bool, ...]
    """For each content, whether the template strips white space from it, as it also does when the student is asked."""

    @property
    def end_id(self) -> int:
        """Returns the token that ends an answer, which is the end token of the last assistant's turn."""
        return next(e for e in reversed(self.ends) if e >= 0)

    def content(self, k: int, text: str) -> str:
        return text.strip() if self.trims[k] else text


@lru_cache(maxsize=256)
def frame_of(roles: tuple[str, ...], tokenizer: Tokenizer) -> Frame:
    """Returns the frame of these roles in the student's template.

    Raises ConfigError when the tokenizer has no usable template, RowFault when the template refuses these roles.
    """
    if not tokenizer.chat_template:
        raise ConfigError(
            "the student's tokenizer has no chat template: take an instruct model, or name render.chat_template"
        )
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
    return Frame(tuple(before), tuple(leads), tuple(ends), trims)


def _applied(rows: Sequence[Mapping[str, str]], tokenizer: Tokenizer, **more: bool | None) -> str:
    """Returns the template's text of these messages, in its thinking mode unless `enable_thinking` is None."""
    switches = {k: v for k, v in {**THINKING, **more}.items() if v is not None}
    try:
        text: str = tokenizer.apply_chat_template(
            rows, chat_template=template_read(tokenizer), tokenize=False, **switches
        )
    except (TemplateError, TypeError, KeyError) as e:
        roles = ", ".join(r["role"] for r in rows)
        raise RowFault("roles", f"the student's chat template refuses the roles {roles}: {e}") from None
    return text


def template_read(tokenizer: Tokenizer) -> str:
    """Returns the chat template as it is read here: its date, if it asks for one, is always TODAY's."""
    template = str(tokenizer.chat_template)
    return TODAY + template if "strftime_now" in template else template


def _lead(text: str, tokenizer: Tokenizer) -> str:
    """Returns `text` if it is a channel, and "" if it is empty or an empty chain: chains are written by the layout."""
    is_chain = any(mark.strip() in text for known in LAYOUTS.values() for mark in (known.open, known.close))
    return text if special_tokens(tokenizer).search(text) and not is_chain else ""


def _without_end(text: str, tokenizer: Tokenizer) -> tuple[int, str]:
    """Returns (the end token that `text` begins with, the text after it). Raises ConfigError when there is none."""
    m = special_tokens(tokenizer).match(text)
    if m is None:
        raise ConfigError(
            f"the student's chat template puts no end token after an assistant's turn, but {text[:20]!r}: "
            "the student could not learn to stop"
        )
    return int(tokenizer.convert_tokens_to_ids(m.group())), text[m.end() :]


@lru_cache(maxsize=256)
def history_of(
    roles: tuple[str, ...], chained: tuple[bool, ...], layout: Layout, tokenizer: Tokenizer
) -> tuple[str, ...] | None:
    """Returns the texts around the contents of a conversation when the student is asked to go on with it.

    Before each content stands one text, and one stands after the last, which is a user's. `chained` says which turns
    have a chain. Returns None when the template keeps these chains. Raises RowFault when it refuses the roles.
    """
    for in_field in (False, True):
        rows = [
            {"role": role, **_said(f"winnowslot{k}x", layout, in_field=in_field, has_chain=chained[k])}
            for k, role in enumerate(roles)
        ]
        try:
            rest = _applied(rows, tokenizer, add_generation_prompt=True)
            break
        except RowFault:  # gpt-oss refuses a content with the marks of its channels
            if in_field:
                raise
    if CHAIN_SLOT in rest:
        return None
    texts = []
    for k, role in enumerate(roles):
        head, found, rest = rest.partition(f"winnowslot{k}x")
        if not found:
            raise RowFault("roles", f"the student's chat template drops message {k} ({role}) of {', '.join(roles)}")
        texts.append(head)
    return (*texts, rest)


CHAIN_SLOT = "winnowslotchain"


def _said(slot: str, layout: Layout, *, in_field: bool, has_chain: bool) -> dict[str, str]:
    """Returns the content of a message, with a chain in the layout's marks or in the fields that templates know."""
    if not has_chain:
        return {"content": slot}
    if in_field:
        return {"content": slot, **dict.fromkeys(CHAIN_FIELDS, CHAIN_SLOT)}
    return {"content": layout.write(CHAIN_SLOT, slot)}


def strips_chains(tokenizer: Tokenizer, layout: Layout) -> bool:
    """Whether the student's template leaves out the chains of earlier turns when the student is asked to go on."""
    roles = ("user", "assistant", "user")
    return history_of(roles, (False, True, False), layout, tokenizer) is not None


def end_token(tokenizer: Tokenizer) -> int:
    """Returns the id that ends an assistant's turn in the student's template, even if `eos_token` is another."""
    return frame_of(("user", "assistant"), tokenizer).end_id


@lru_cache(maxsize=16)
def special_tokens(tokenizer: Tokenizer) -> re.Pattern[str]:
    """Returns a pattern that finds the text of any special token."""
    added = (t.content for t in tokenizer.added_tokens_decoder.values() if t.special)
    tokens = sorted({*added, *tokenizer.all_special_tokens}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, tokens)) or r"(?!)")


def quotes_special(text: str, tokenizer: Tokenizer) -> str | None:
    """Returns the first special token whose text stands in `text`; None when there is none."""
    found = special_tokens(tokenizer).search(text)
    return found.group() if found else None


def layout_of(render: Render, tokenizer: Tokenizer) -> Layout:
    """Returns the marks that a recipe names, for this tokenizer.

    Raises ConfigError when the recipe wants the template's own marks and the template has none.
    """
    if isinstance(render.reasoning, OwnLayout):
        return Layout(**render.reasoning.model_dump())
    return template_layout(tokenizer) if render.reasoning == "template" else LAYOUTS[render.reasoning]


@lru_cache(maxsize=16)
def template_layout(tokenizer: Tokenizer) -> Layout:
    """Returns the marks that the student's own chat template writes around a chain that is given apart from the answer.

    Raises ConfigError when the template has no place for a chain.
    """
    frame = frame_of(("user", "assistant"), tokenizer)
    opened = next((known for known in LAYOUTS.values() if opens_chain(frame.before[1], known)), None)
    question = {"role": "user", "content": "winnowslot0x"}
    for field in CHAIN_FIELDS:
        answer = {"role": "assistant", "content": "winnowslot1x", field: CHAIN_SLOT}
        text = _applied([question, answer], tokenizer).rpartition("winnowslot0x")[2]
        before, found, rest = text.partition(CHAIN_SLOT)
        close = rest.partition("winnowslot1x")[0]
        if found and close.strip():
            return Layout(before.removeprefix(frame.before[1]) or (opened.open if opened else ""), close)
    if opened:
        return opened
    raise ConfigError(
        'render.reasoning: the student\'s chat template has no place of its own for a chain: take "think" or "sky-t1"'
    )


def opens_chain(before: str, layout: Layout) -> bool:
    """Whether `before`, the template's text before the student's turn, ends with the layout's opening mark."""
    return before.rstrip("\n").endswith(layout.open.strip() or "\0")


def opened_otherwise(tokenizer: Tokenizer, layout: Layout) -> str | None:
    """Returns the opening mark of another layout, if the template writes one before the student's turn; else None."""
    before = frame_of(("user", "assistant"), tokenizer).before[1]
    others = (known for known in LAYOUTS.values() if known.open.strip() != layout.open.strip())
    return next((known.open.strip() for known in others if opens_chain(before, known)), None)


def thinking_template(tokenizer: Tokenizer) -> str:
    """Returns the chat template to save with a student that was trained to think: its thinking mode is the default.

    So the student is asked as it was trained, whoever serves it.
    """
    template: str = tokenizer.chat_template
    rows = [{"role": "user", "content": "q"}]
    plain = _applied(rows, tokenizer, add_generation_prompt=True, enable_thinking=None)
    if plain == _applied(rows, tokenizer, add_generation_prompt=True):
        return template
    return "{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}" + template
