r"""Reads plain numbers exactly: 1,234.50, $18, 50\%, \frac{3}{4}, 2 1/2, 1.5e6, 12 \text{ cm}, 3 million.

Every value is a Fraction. A text that is longer than a person would write, or a number that is larger, is not read as a
plain number: converting it takes long, so a process that can be killed has to do that.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from harvest.answers.notation import TEXT_COMMAND, plain_characters
from harvest.answers.spelled import MAGNITUDES, PARTS, SPELLED_SMALL, spelled_number
from harvest.answers.units import CANONICAL, SIZES, unit_of

MOST_DIGITS = 400
"""A text with more characters than this is not read as a number."""
MOST_EXPONENT = 400
"""A number in scientific notation is not read if the absolute value of its power of ten is larger than this."""


@dataclass(frozen=True, slots=True)
class Number:
    """This is a number with its unit and its name. `value` is the number as written: 50% is 50 with the unit "%".

    `places` is the number of decimal places; None for a fraction. `unit` is a canonical unit; "" when the text has no
    unit or an unknown unit. `name` is the text before an equals sign; "" when there is none.
    """

    value: Fraction
    places: int | None
    unit: str = ""
    name: str = ""

    @property
    def true_value(self) -> Fraction:
        return self.value / 100 if self.unit == "%" else self.value


_INTEGER = r"\d{1,3}(?:[,_' ]\d{3})+|\d+"
_DECIMAL = rf"(?:(?:{_INTEGER})(?:\.\d*)?|\.\d+)"
_PATTERN = re.compile(
    rf"""
    (?P<sign>[-+]?)\s*(?P<currency>US\$|USD|EUR|GBP|Rs\.?|[$€£₹¥])?\s*(?P<sign2>-?)\s*
    (?: (?P<whole1>\d+)\s*\\frac\s*\{{\s*(?P<n1>\d+)\s*\}}\s*\{{\s*(?P<d1>\d+)\s*\}}
      | (?P<whole2>\d+)(?:\s+|\s+and\s+)(?P<n2>\d+)\s*/\s*(?P<d2>\d+)
      | \\frac\s*\{{\s*(?P<n3>[-+]?{_DECIMAL})\s*\}}\s*\{{\s*(?P<d3>-?{_DECIMAL})\s*\}}
      | \\frac\s*(?P<n4>\d)\s*(?P<d4>\d)(?!\d)
      | \\frac\s*\{{\s*(?P<n6>\d+)\s*\}}\s*(?P<d6>\d)(?!\d)
      | \\frac\s*(?P<n7>\d)\s*\{{\s*(?P<d7>\d+)\s*\}}
      | (?P<n5>{_DECIMAL})\s*/\s*(?P<d5>{_DECIMAL})
      | (?P<decimal>{_DECIMAL})
        (?:[eE](?P<exponent>[-+]?\d+)|\s*(?:\*|x|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{{?\s*(?P<power>[-+]?\d+)\s*\}}?)?
    )
    (?P<rest>.*)
    """,
    re.VERBOSE,
)
_FOREIGN_GROUPS = re.compile(
    r"(?P<sign>[-+]?)(?:(?P<points>\d{1,3}(?:\.\d{3})+(?=,\d)|\d{1,3}(?:\.\d{3}){2,})(?P<places>,\d+)?"
    r"|(?P<lakhs>\d{1,2}(?:,\d\d)+,\d{3}))(?![\d.,]*\d)"
)
_NAME = re.compile(r"^\s*([A-Za-z][A-Za-z_ ]{0,30}?(?:_\{?\w+\}?)?(?:\([a-z]\))?)\s*(?:=|\\approx|≈)\s*(?!.*=)")
_HEDGE = re.compile(
    r"^(?:approximately|approx\.?|about|around|roughly|exactly|only|just|simply|equal to|equals|a total of|"
    r"≈|\\approx|=|~)\s*",
    re.IGNORECASE,
)


def _cleaned(text: str) -> str:
    text = re.sub(r"(?<!\\)\$([^$]*[^$\\])\$", r" \1 ", TEXT_COMMAND.sub(r" \1 ", text))
    text = re.sub(r",\s*\\!\s*", ",", text)
    text = re.sub(r"\\(?:left|right|displaystyle|textstyle|bigl?|bigr?)(?![A-Za-z])|\\!|\$(?=\s*$)", "", text)
    text = text.replace(r"\$", "$").replace(r"\%", "%").replace("{,}", ",").replace(r"\#", "#")
    text = re.sub(r"\\[dtc]frac(?![a-z])", r"\\frac", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])", "° ", text)
    text = re.sub(r"(?<=\d)\\,(?=\d{3})", ",", text)
    text = re.sub(r"(?<=\d\.\d\d)(\d*)\s*(?:\\[lc]?dots[cb]?|\.{3}|…)\s*$", r"\1", text)
    text = re.sub(r"\bper cent\b", "percent", text, flags=re.IGNORECASE)
    text = re.sub(r"\\[,;: ]|\\q?quad(?![A-Za-z])|~|\*\*(?!\s*\d)", " ", text)
    return text.replace("\N{MULTIPLICATION SIGN}", "*").strip().rstrip(".,;:").strip()


def _integer(text: str) -> Fraction:
    return Fraction(Decimal(re.sub(r"[,_' ]", "", text)))


_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
"""Matches a whole number, as most answers are. It only saves time: the full pattern would read the same number."""


def parse_number(text: str) -> Number | None:
    """Returns the plain number that the whole text states, with at most a name before it and a unit after it.

    Returns None when the text is anything else.
    """
    if _WHOLE.fullmatch(text):
        return Number(Fraction(int(text)), 0, "", "")
    if len(text) > MOST_DIGITS or not text.strip():
        return None
    text = _cleaned(plain_characters(text))
    name = ""
    named = _NAME.match(text)
    if named and "\\" not in named[1]:
        name, text = named[1].strip().lower(), text[named.end() :]
    for _ in range(2):
        text = _HEDGE.sub("", text)
    if text[:1].isalpha() and (spelled := _spelled(text, name)):
        return spelled
    text = re.sub(r"^\{(.*)\}$", r"\1", text).strip()
    grouped = _FOREIGN_GROUPS.match(text)
    if grouped:
        whole = re.sub(r"[.,]", "", grouped["points"] or grouped["lakhs"])
        text = grouped["sign"] + whole + (grouped["places"] or "").replace(",", ".") + text[grouped.end() :]
    if _TWO_PARTS.search(text[:40]) and (compound := _compound(text, name)):
        return compound
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    parts = match.groupdict()
    rest = parts["rest"]
    if re.match(r"[A-Za-z](?![A-Za-z])", rest):
        return None
    scale = 1
    magnitude = re.match(r"\s*(hundred|thousand|million|billion|trillion)\b", rest, re.IGNORECASE)
    if magnitude:
        scale, rest = 10 ** MAGNITUDES[magnitude[1].lower()], rest[magnitude.end() :]
    unit = unit_of(rest)
    if unit is None:
        return None
    if parts["currency"] and not unit:
        unit = CANONICAL.get(parts["currency"].lower().strip("."), "")
    read = _magnitude(parts)
    if read is None:
        return None
    value, places = read
    negative = (parts["sign"] == "-") != (parts["sign2"] == "-")
    return Number(-value * scale if negative else value * scale, places if scale == 1 else None, unit, name)


_TWO_PARTS = re.compile(r"\d\s*[$A-Za-z]+[\s,]+(?:and\s+)?\d|^\d+ and ")
_AND_A_PART = re.compile(rf"(\d+) and ({'|'.join(sorted(PARTS, key=len, reverse=True))})(?![a-z])(.*)")
_AND_LESS = re.compile(r"(\$?)(\d+)\s*([a-z]+)(?:,?\s+and\s+|,?\s+)(\d+(?:\.\d+)?)\s*([a-z]+)")


def _compound(text: str, name: str) -> Number | None:
    """Returns one quantity that is written in two parts: 2.5 hours for "2 hours and 30 minutes".

    Returns None when the text is not such a quantity.
    """
    text = " ".join(text.lower().split())
    part = _AND_A_PART.fullmatch(text)
    if part:
        unit = unit_of(part[3])
        return None if unit is None else Number(int(part[1]) + PARTS[part[2]], None, unit, name)
    two = _AND_LESS.fullmatch(text)
    if two is None:
        return None
    unit, smaller = CANONICAL.get(two[3], ""), CANONICAL.get(two[5], "")
    (kind, size), (other, less) = SIZES.get(unit, ("", 0)), SIZES.get(smaller, ("?", 0))
    below = Fraction(two[4]) * less
    if kind != other or below >= size:
        return None
    return Number(int(two[2]) + below / size, None, unit, name)


def _spelled(text: str, name: str) -> Number | None:
    """Returns a number that is written in words, with its unit: "five hundred dollars", "three and a half hours".

    Returns None when the text is not such a number.
    """
    words = text.lower().replace("-", " ").split()
    found = spelled_number(words)
    if found is None:
        return None
    value, places, read = found
    unit = unit_of(" ".join(words[read:]))
    return None if unit is None else Number(value, places, unit, name)


def _magnitude(parts: dict[str, str | None]) -> tuple[Fraction, int | None] | None:
    """Returns (the value without its sign, the number of its decimal places). The second part is None for a fraction.

    Returns None when the parts make no number (3/0, 1 5/2), or when the exponent is too large.
    """
    for n in range(1, 8):
        numerator, denominator, whole = parts[f"n{n}"], parts[f"d{n}"], parts.get(f"whole{n}")
        if numerator is None or denominator is None:
            continue
        below = _integer(denominator)
        if not below:
            return None
        fraction = _integer(numerator) / below
        if whole is not None and fraction >= 1:
            return None
        return fraction + (_integer(whole) if whole else 0), None
    digits = parts["decimal"]
    if digits is None:
        return None
    exponent = int((parts["exponent"] or parts["power"] or "0")[:8])
    if abs(exponent) > MOST_EXPONENT:
        return None
    return _integer(digits) * Fraction(10) ** exponent, max(0, len(digits.partition(".")[2]) - exponent)


_BASED = re.compile(r"(-?[0-9A-Fa-f]+)(?:_\{?\(?(?:\\text\{)?(\w+)\}?\)?\}?|(?:\\text\{)?(?:in)?base\}?(\w+)\}?)")
_BASES = {name: str(base) for base, name in enumerate(SPELLED_SMALL[2:17], 2)}


def based_numeral(squeezed: str) -> tuple[str, str] | None:
    """Returns (digits, base) of a numeral such as 2516_8, 2516_{\\text{eight}} or "2516 base 8".

    `squeezed` is the text without spaces. Returns None when the text is no such numeral.
    """
    match = _BASED.fullmatch(squeezed) if len(squeezed) < MOST_DIGITS else None
    if match is None:
        return None
    base = (match[2] or match[3]).lower()
    return match[1].upper(), _BASES.get(base, base)
