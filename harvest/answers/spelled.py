"""Reads numbers in English words: "twenty-one", "five point two", "three and a half", "two thirds"."""

import itertools
from fractions import Fraction

MAGNITUDES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
"""Maps the name of a magnitude to its power of ten: "thousand" to 3."""
_ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SPELLED_SMALL = tuple(_ONES.split())
"""Holds the words for 0 to 19, in order."""
CARDINALS = {name: n for n, name in enumerate(SPELLED_SMALL)} | {
    name: 10 * n for n, name in enumerate(_TENS.split(), 2)
}
"""Maps each number word to its value: the words for 0 to 19, and those for the tens from 20 to 90."""
_ORDINALS = """
    third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth
    seventeenth eighteenth nineteenth
"""
_TENTHS = "twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth hundredth"
DENOMINATORS = (
    {"half": 2, "quarter": 4, "thousandth": 1000}
    | {name: n for n, name in enumerate(_ORDINALS.split(), 3)}
    | {name: 10 * n for n, name in enumerate(_TENTHS.split(), 2)}
)
"""Maps the name of one part of a whole to the number of its parts: "fifth" to 5."""
PLURALS = {name: "halves" if name == "half" else f"{name}s" for name in DENOMINATORS}
PARTS = (
    {"half": Fraction(1, 2)}
    | {f"{one} {name}": Fraction(1, n) for one in ("a", "an", "one") for name, n in DENOMINATORS.items()}
    | {
        f"{several} {PLURALS[name]}": Fraction(count, n)
        for count, several in enumerate(SPELLED_SMALL)
        for name, n in DENOMINATORS.items()
        if count > 1
    }
)
"""Maps the name of a fraction to its value."""


def spelled_number(words: list[str]) -> tuple[Fraction, int | None, int] | None:
    """Reads the number at the beginning of the words. Returns (value, number of decimal places, number of words read).

    The number of decimal places is None for a fraction. Returns None when the words begin with no number, or with an
    unfinished number ("five point").
    """
    part, used = _part(words)
    value, read = (part, used) if part is not None else _cardinal(words)
    if value is None:
        return None
    if part is None and words[read : read + 1] == ["and"]:
        more, used = _part(words[read + 1 :])
        value, read = (value + more, read + 1 + used) if more is not None else (value, read)
    places: int | None = 0 if value.denominator == 1 else None
    if words[read : read + 1] == ["point"]:
        digits = list(itertools.takewhile(lambda word: CARDINALS.get(word, 10) < 10, words[read + 1 :]))
        if not digits:
            return None
        tail = "".join(str(CARDINALS[word]) for word in digits)
        value, places, read = value + Fraction(int(tail), 10 ** len(tail)), len(tail), read + 1 + len(digits)
    return value, places, read


def _part(words: list[str]) -> tuple[Fraction | None, int]:
    """Returns (the fraction at the beginning of the words, how many words it takes); (None, 0) if there is none."""
    for count in (2, 1):
        if len(words) >= count and (part := PARTS.get(" ".join(words[:count]))) is not None:
            return part, count
    return None, 0


def _cardinal(words: list[str]) -> tuple[Fraction | None, int]:
    """Returns (the whole number at the beginning of the words, how many words it takes); (None, 0) if there is none."""
    total, group, last, read = 0, None, 10**4, 0
    for place, word in enumerate(words[:12]):
        if word in CARDINALS:
            value = CARDINALS[word]
            if group is not None and (not value or value >= last or (value > 9 and last < 100)):
                break
            group, last = (group or 0) + value, value if value > 19 else 1
        elif word in MAGNITUDES and group is not None:
            scale = 10 ** MAGNITUDES[word]
            if scale == 100:
                group, last = group * 100, 100
            else:
                total, group, last = total + group * scale, 0, 100
        elif not (word == "and" and last == 100 and words[place + 1 : place + 2] and words[place + 1] in CARDINALS):
            break
        else:
            continue
        read = place + 1
    return (None, 0) if group is None else (Fraction(total + group), read)
