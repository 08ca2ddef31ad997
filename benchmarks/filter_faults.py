"""The faults that `filters.py` plants into real traces, by rule and seed, and texts that are made to be slow.

The words of the faults stand in filter_texts.toml, in two halves: those used while the filters were corrected, and
those that were not.
"""

import random
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from harvest.core.nouns import Candidate

HALVES = ("first", "held_out")
LONG_TOKENS = 30_000
"""`filters.long_chain` of the measurement: the recorded chains are all shorter."""
SHORT_TOKENS = 8


@dataclass(frozen=True)
class Texts:
    """One half of filter_texts.toml."""

    refusals: list[str]
    meta: list[str]
    leaks: list[str]
    stray: list[str]
    tags: list[str]
    words: list[str]
    counted: list[str]
    paraphrases: list[list[str]]
    latin: dict[str, list[str]]
    other: dict[str, list[str]]


@cache
def texts(half: str) -> Texts:
    stored: dict[str, Any] = tomllib.loads((Path(__file__).parent / "filter_texts.toml").read_text())
    return Texts(**stored[half])


@dataclass(frozen=True)
class Soil:
    """What a fault is planted with: a die, a clean trace, others to take from, and the words of a half."""

    dice: random.Random
    trace: Candidate
    others: Sequence[Candidate]
    texts: Texts

    @property
    def chain(self) -> str:
        return self.trace.reasoning or ""

    def inside(self, words: str) -> Candidate:
        at = break_of(self.dice, self.chain)
        before, after = self.chain[:at], self.chain[at:]
        return self.with_chain(f"{before}{'' if before[-1:].isspace() else ' '}{words} {after}")

    def with_chain(self, chain: str) -> Candidate:
        return replace(self.trace, reasoning=chain, reasoning_tokens=None)


Plant = Callable[[Soil], Candidate]


def break_of(dice: random.Random, text: str) -> int:
    """A place between two sentences, in the middle two thirds."""
    ends = [m.end() for m in re.finditer(r"[.!?\n]\s+", text) if len(text) / 6 < m.end() < 5 * len(text) / 6]
    return dice.choice(ends) if ends else len(text)


# ---- language


def _spoken(dice: random.Random, languages: dict[str, list[str]], count: int) -> str:
    sentences = dice.choice(list(languages.values()))
    picked = dice.sample(sentences, min(count, len(sentences)))
    return " ".join(s.format(a=dice.randrange(3, 90), b=dice.randrange(2, 40)) for s in picked)


def wholly(s: Soil, languages: dict[str, list[str]]) -> Candidate:
    return s.with_chain(_spoken(s.dice, languages, s.dice.randrange(4, 9)))


def half(s: Soil, languages: dict[str, list[str]]) -> Candidate:
    return s.with_chain(s.chain[: break_of(s.dice, s.chain)] + _spoken(s.dice, languages, 8))


# ---- repetition


def _sentence(s: Soil) -> str:
    found = [
        x for x in re.split(r"(?<=[.!?])\s+", s.chain) if 20 < len(x) < 200 and sum(map(str.isalpha, x)) > 15
    ]  # fmt: skip
    return s.dice.choice(found) if found else "So the answer is the one above. "


def loop_at_end(s: Soil) -> Candidate:
    words = _sentence(s) + s.dice.choice([" ", "\n", "\n\n"])
    return s.with_chain(f"{s.chain}\n" + words * max(s.dice.randrange(6, 60), 260 // len(words) + 1))


def loop_inside(s: Soil) -> Candidate:
    words = _sentence(s) + s.dice.choice([" ", "\n"])
    return s.inside(words * max(s.dice.randrange(5, 40), 260 // len(words) + 1))


def loop_of_paragraphs(s: Soil) -> Candidate:
    at = s.dice.randrange(max(1, len(s.chain) - 900)) if len(s.chain) > 900 else 0
    return s.inside((s.chain[at : at + s.dice.randrange(200, 800)] + "\n\n") * s.dice.randrange(4, 12))


def loop_of_a_word(s: Soil) -> Candidate:
    return s.with_chain(s.chain + "\n" + s.dice.choice(s.texts.words) * s.dice.randrange(200, 2000))


def counted(s: Soil) -> Candidate:
    form, first = s.dice.choice(s.texts.counted), s.dice.randrange(1, 5)
    return s.inside("\n" + "".join(form.format(n=n) for n in range(first, first + s.dice.randrange(15, 80))))


def paraphrased(s: Soil) -> Candidate:
    x = s.dice.choice(["the first group", "the number of items", "the last step", "the second condition"])
    forms = s.dice.choice(s.texts.paraphrases)
    said = "".join(s.dice.choice(forms).format(x=x) for _ in range(s.dice.randrange(80, 200)))
    return s.with_chain(f"{s.chain}\n{said}")


# ---- the others


def refuses(s: Soil) -> Candidate:
    chain = s.dice.choice([s.trace.reasoning, None, s.dice.choice(s.texts.refusals)])
    return replace(s.trace, answer=s.dice.choice(s.texts.refusals), reasoning=chain)


def refuses_beside(s: Soil) -> Candidate:
    words, answer = s.dice.choice(s.texts.refusals), s.trace.answer
    return replace(s.trace, answer=s.dice.choice([f"{words}\n\n{answer}", f"{answer}\n\n{words}"]))


def leaks(s: Soil) -> Candidate:
    gold = s.trace.question.answer or str(s.dice.randrange(3, 999))
    words = s.dice.choice(s.texts.leaks).format(g=gold)
    asked = s.trace.question.question + s.dice.choice(["\n", " ", "\n\n"]) + words
    question = s.trace.question.model_copy(update={"question": asked, "answer": gold})
    return replace(s.trace, question=question, asked=(*s.trace.asked[:-1], {"role": "user", "content": asked}))


def stray_tag(s: Soil) -> Candidate:
    tag = s.dice.choice(s.texts.tags)
    where = s.dice.randrange(3)
    if where == 0:
        return s.inside(tag)
    return replace(s.trace, answer=f"{s.trace.answer}\n{tag}" if where == 1 else f"{tag}\n{s.trace.answer}")


def no_box(s: Soil) -> Candidate:
    asked = ({"role": "system", "content": "Give the final answer in \\boxed{}."}, *s.trace.asked)
    return replace(s.trace, asked=asked, answer=re.sub(r"\\(?:boxed|fbox)", "", s.trace.answer) or "24")


def long_chain(s: Soil) -> Candidate:
    chains, size = [s.chain], len(s.chain)
    for each in s.dice.sample(s.others, len(s.others)):
        if size > 4.5 * LONG_TOKENS:
            break
        if len(each.reasoning or "") > 2000:
            chains.append(each.reasoning or "")
            size += len(chains[-1])
    return s.with_chain("\n\n".join(chains))


FAULTS: dict[str, dict[str, Plant]] = {
    "language": {
        "wholly, Latin letters": lambda s: wholly(s, s.texts.latin),
        "wholly, other letters": lambda s: wholly(s, s.texts.other),
        "second half, Latin letters": lambda s: half(s, s.texts.latin),
        "second half, other letters": lambda s: half(s, s.texts.other),
        "five sentences inside, Latin letters": lambda s: s.inside(_spoken(s.dice, s.texts.latin, 5)),
        "two sentences inside, Latin letters": lambda s: s.inside(_spoken(s.dice, s.texts.latin, 2)),
        "one sentence inside, Latin letters": lambda s: s.inside(_spoken(s.dice, s.texts.latin, 1)),
        "one sentence inside, other letters": lambda s: s.inside(_spoken(s.dice, s.texts.other, 1)),
        "a stray word of other letters": lambda s: s.inside(s.dice.choice(s.texts.stray)),
    },
    "repetition": {
        "a sentence at the end": loop_at_end, "a sentence inside": loop_inside, "paragraphs inside": loop_of_paragraphs,
        "a word": loop_of_a_word, "with a counter": counted, "paraphrased": paraphrased,
    },
    "refusal": {"the whole answer": refuses, "beside the answer": refuses_beside},
    "meta": {
        "a sentence of the chain": lambda s: s.inside(s.dice.choice(s.texts.meta).format(g=s.dice.randrange(3, 99)))
    },
    "leaked_gold": {"behind the question": leaks},
    "format": {
        "a stray tag": stray_tag,
        "no answer": lambda s: replace(s.trace, answer=s.dice.choice(["", " \n", "\n\n"])),
        "no box where one is asked for": no_box,
        "a fence that never closes": lambda s: replace(s.trace, answer=s.trace.answer + "\n\n```python\nprint(24)\n"),
    },
    "no_chain": {"no chain": lambda s: replace(s.trace, reasoning=s.dice.choice([None, "", "\n\n"]))},
    "short_chain": {"a few words": lambda s: s.with_chain(s.dice.choice(["So it is 24.", "Easy.", "12 × 2 = 24."]))},
    "long_chain": {"many chains in one": long_chain},
}  # fmt: skip

_M = 1_000_000


def _fibonacci() -> str:
    a, b = "a", "ab"
    while len(b) < _M:
        a, b = b, b + a
    return b[:_M]


HOSTILE = {
    "ordinary words": ("the hens of the farm lay " + "two eggs and so on, which makes ") * (_M // 57),
    "one letter": "a" * _M,
    "one space": " " * _M,
    "line breaks": "\n" * _M,
    "quotation marks": '"' * _M,
    "opening braces": "\\boxed{" * (_M // 7),
    "angle brackets": "<" * _M,
    "tags that never end": "<|a" * (_M // 3),
    "backticks": "```\n" * (_M // 4),
    "sorry": "sorry i " * (_M // 8),
    "i cannot": "i cannot i am not able to " * (_M // 26),
    "the answer is": "the answer is " * (_M // 14),
    "hint: hint:": "hint: " * (_M // 6),
    "Chinese": "答案是因为" * (_M // 15),
    "Chinese and Latin by turns": "答a" * (_M // 4),
    "curly quotes": "“a" * (_M // 4),
    "random digits": "".join(random.Random(0).choices("0123456789 ", k=_M)),
    "Fibonacci's word": _fibonacci(),
    "spaces and a letter": " " * (_M - 1) + "x",
    "spaces and line breaks": " \n" * (_M // 2),
    "one fence of backticks": "`" * _M,
    "fences": "```python\nx\n" * (_M // 12),
    "nested boxes": "\\boxed{" * (_M // 14) + "}" * (_M // 14),
    "opening tags": "<answer>" * (_M // 8),
    "nested thoughts": "<think>" * (_M // 7),
    "greetings": "Sure! Here is the " * (_M // 18),
    "farewells": "\n\nHope this helps! Let me know. " * (_M // 32),
    "headings": "### Final answer\n\n" * (_M // 18),
    "answers": "**Answer:** 24\n" * (_M // 15),
    "worked solutions": "reference solution: " * (_M // 20),
    "being a machine": "as an ai " * (_M // 9),
    "French": "il y a donc une autre question que nous avons dans la liste et " * (_M // 62),
    "lone surrogates": "\ud800" * (_M // 3),
    "random letters": "".join(random.Random(1).choices([chr(n) for n in range(10, 0x3000)], k=_M // 2)),
    "almost the same line": "".join(
        f"the {'x' * (n % 97)} of the hens is not the one that we want\n" for n in range(_M // 90)
    ),
}
