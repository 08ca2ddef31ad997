"""Tells whether a stated phrase names the same thing as the gold answer, with words around it that add nothing new.

"Pacific Ocean" names what "Pacific" does, after a question for an ocean; "5th place" names "fifth" after a question for
a place; "Japanese yen" names "yen" after a question about Japan; "3 kilograms of lead" is "lead".
"""

import re

from harvest.answers.spelled import CARDINALS, DENOMINATORS
from harvest.answers.words import hedges, plain_words

MOST_EXTRA = 3
"""A phrase with more words than this beside the gold answer says something of its own."""
_ORDINALS = {"first": 1, "second": 2} | {name: n for name, n in DENOMINATORS.items() if name.endswith(("d", "th"))}
_NUMERAL = {f"{n}{end}": n for n in range(1, 101) for end in ("st", "nd", "rd", "th")}
_NUMERAL_WORDS = frozenset(f"{n}th" for n in range(1, 1001))
_RANK = re.compile(r" (?:place|position|spot|rank)$")
_SIDES = frozenset(("north", "south", "east", "west"))
_DERIVED = ("an", "ian", "ean", "ese", "ish", "ic", "i")
"""Endings of the adjectives that are made of a country's or a region's name."""
_QUANTITY = re.compile(
    rf"^(?:\d[\d.,]*|{'|'.join(CARDINALS)}|a|an) (?:kilo|milli|centi)?"
    r"(?:g|kg|mg|lb|lbs|oz|l|ml|m|km|cm|mm|grams?|tons?|tonnes?|pounds?|ounces?|lit(?:er|re)s?|gallons?|cups?|met(?:er|re)s?"
    r"|miles?|pieces?|pairs?) of "
)


def same_thing(gold: str, stated: str, question: str) -> bool:
    """Whether `stated` names the gold answer in a phrase whose other words the question has already said.

    Other words may only be the kind of thing that was asked for, an adjective made of a name in the question, or a
    quantity. A phrase that denies, doubts, lists, or stands in the question as one of the things to choose from is no
    such phrase.
    """
    wanted, said = normal(gold), normal(re.sub(r"\s+\([^()]*\)\s*$", "", stated))
    if not wanted or re.fullmatch(r"[\d.,]+", wanted) or hedges(stated) or re.search(r"[,;/]|\band\b", stated):
        return False
    if said == wanted:
        return True
    if wanted in _NUMERAL_WORDS and _RANK.sub("", said) == wanted:
        return True
    bare = _QUANTITY.sub("", said)
    if bare == wanted:
        return True
    if bare != said or f" {said} " in f" {normal(question)} ":
        return False
    before, found, after = f" {said} ".partition(f" {wanted} ")
    first, last = before.split(), after.split()
    if not found or len(first) + len(last) > MOST_EXTRA:
        return False
    names = re.findall(r"(?<![.?!:] )(?<!^)\b[A-Z][a-z]{2,}", question)
    kinds: list[str] = re.findall(r"\b[a-z]{4,}", question)
    if first and first[0] in _SIDES and len(first) > 1:
        first = first[1:]  # "South Korean": the adjective after it must be of the question
    is_name = gold[:1].isupper()
    return all(_is_made_of(word, names) or (is_name and _is_kind(word, kinds)) for word in first) and all(
        _is_kind(word, kinds) for word in last
    )


def normal(text: str) -> str:
    """Returns the plain words of a text, each ordinal as a number, and no 's behind a name."""
    words = [word for word in plain_words(text).split() if word != "s"]
    return " ".join(f"{n}th" if (n := _ORDINALS.get(word) or _NUMERAL.get(word)) else word for word in words)


def _is_kind(word: str, kinds: list[str]) -> bool:
    """Whether the question asks for this kind of thing: "ocean", or "mount" for a mountain."""
    return len(word) > 3 and any(kind.startswith(word) or word == f"{kind}s" for kind in kinds)


def _is_made_of(word: str, names: list[str]) -> bool:
    """Whether an adjective is made of a name in the question: "japanese" of Japan."""
    if not word.endswith(_DERIVED):
        return False
    return any(word != name.lower() and word[:3] == name[:3].lower() and len(word) > 4 for name in names)
