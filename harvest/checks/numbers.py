r"""Plain numbers, exactly: 1,234.50, $18, 50\%, \frac{3}{4}, 2 1/2, 1.5e6, 12 \text{ cm}, 3 million.

Fraction throughout, no float. What is longer or larger than a person would write is no plain number: it
costs time to convert, and belongs in a process that can be killed.
"""

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

MOST_DIGITS = 400
MOST_EXPONENT = 400


@dataclass(frozen=True, slots=True)
class Number:
    """`value` as written: 50% is 50 with the unit "%". `places` are its decimal places, None for a fraction.

    `unit` is the canonical unit where it is a known one, else "". `name` is what it was assigned to.
    """

    value: Fraction
    places: int | None
    unit: str = ""
    name: str = ""

    @property
    def true_value(self) -> Fraction:
        return self.value / 100 if self.unit == "%" else self.value


_UNITS = {
    "%": "% percent percentage pct",
    "$": "$ us$ usd dollar dollars buck bucks",
    "cent": "cent cents ¢",
    "€": "€ eur euro euros", "£": "£ gbp pounds_sterling", 
    "₹": "₹ rs rupee rupees inr", "¥": "¥ yen jpy yuan",
    "deg": "degree degrees deg °", "rad": "radian radians rad",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres", "km": "km kilometer kilometers kilometre kilometres",
    "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mi mile miles",
    "mg": "mg milligram milligrams", "g": "g gram grams", "kg": "kg kilogram kilograms", 
    "oz": "oz ounce ounces",
    "s": "s sec secs second seconds", "min": "min mins minute minutes", "h": "h hr hrs hour hours",
    "day": "day days", "week": "week weeks", "month": "month months", "year": "year years yr yrs",
    "am": "am a.m", "pm": "pm p.m", "ml": "ml milliliter milliliters", "L": "l liter liters litre litres",
}  # fmt: skip
_CANONICAL = {word: unit for unit, words in _UNITS.items() for word in words.split()}
_MAGNITUDES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_SMALL_NAMES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty
"""
_SMALL = _SMALL_NAMES.split()
_NOT_UNIT_NAMES = """
    and or not no nor is are was were to than plus minus times over if but unless wrong incorrect between either
    modulo mod divided multiplied squared cubed root through until versus vs pi sqrt sin cos tan log ln exp
    factorial dozen dozens half halves third thirds quarter quarters remainder because instead maybe perhaps
    possibly probably
"""
_NOT_UNITS = frozenset(_NOT_UNIT_NAMES.split())

_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox|emph)\s*\{([^{}]*)\}")
_INTEGER = r"\d{1,3}(?:[,_' ]\d{3})+|\d+"
_DECIMAL = rf"(?:(?:{_INTEGER})(?:\.\d*)?|\.\d+)"
_PATTERN = re.compile(
    rf"""
    (?P<sign>[-+]?)\s*(?P<currency>US\$|USD|EUR|GBP|Rs\.?|[$€£₹¥])?\s*(?P<sign2>-?)\s*
    (?: (?P<whole>\d+)\s*\\frac\s*\{{\s*(?P<n1>\d+)\s*\}}\s*\{{\s*(?P<d1>\d+)\s*\}}
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
_NAME = re.compile(r"^\s*([A-Za-z][A-Za-z_ ]{0,30}?(?:_\{?\w+\}?)?(?:\([a-z]\))?)\s*(?:=|\\approx|≈)\s*(?!.*=)")
_HEDGE = re.compile(
    r"^(?:approximately|approx\.?|about|around|roughly|exactly|only|just|simply|equal to|equals|a total of|"
    r"≈|\\approx|=|~)\s*",
    re.IGNORECASE,
)
_REST = re.compile(r"(?:[\s/.·-]*+(?:%|°|¢|\$|€|£|[A-Za-z][A-Za-z.]*+(?:\s?\^\s?\{?-?[123]\}?)?+))*+\s*+")


def _spelled_out(text: str) -> str:
    """Unicode's own digits, fractions, exponents and minus signs in ASCII, without losing what they mean."""
    if text.isascii():
        return text
    out = []
    for character in text:
        form = unicodedata.decomposition(character)
        if form.startswith("<super>"):
            out.append("^" + unicodedata.normalize("NFKC", character))
        elif form.startswith("<fraction>"):
            out.append(" " + unicodedata.normalize("NFKC", character).replace("\N{FRACTION SLASH}", "/"))
        elif unicodedata.category(character) == "Pd" or character == "\N{MINUS SIGN}":
            out.append("-")
        else:
            out.append(unicodedata.normalize("NFKC", character))
    return "".join(out)


def _cleaned(text: str) -> str:
    text = re.sub(r"(?<!\\)\$([^$]*[^$\\])\$", r" \1 ", _TEXT.sub(r" \1 ", text))
    text = re.sub(r",\s*\\!\s*", ",", text)
    text = re.sub(r"\\(?:left|right|displaystyle|textstyle|bigl?|bigr?)(?![A-Za-z])|\\!|\$(?=\s*$)", "", text)
    text = text.replace(r"\$", "$").replace(r"\%", "%").replace("{,}", ",").replace(r"\#", "#")
    text = re.sub(r"\\[dtc]frac(?![a-z])", r"\\frac", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])", "° ", text)
    text = re.sub(r"(?<=\d)\\,(?=\d{3})", ",", text)
    text = re.sub(r"\\[,;: ]|\\q?quad(?![A-Za-z])|~|\*\*(?!\s*\d)", " ", text)
    return text.replace("\N{MULTIPLICATION SIGN}", "*").strip().rstrip(".,;:!").strip()


def _unit_of(rest: str) -> str | None:
    """The canonical unit of what follows a number, "" for an unknown one, None where it is no unit."""
    rest = rest.strip().strip("()")
    if not rest:
        return ""
    if len(rest) > 80 or not _REST.fullmatch(rest):
        return None
    words = [word.strip(".").lower() for word in re.findall(r"%|°|¢|\$|€|£|[A-Za-z][A-Za-z.]*", rest)]
    if any(word in _NOT_UNITS for word in words):
        return None
    if any(len(word) == 1 and word.isalpha() and word not in "mgshlnjwvackf" for word in words):
        return None
    if len(words) == 1 and "^" not in rest and "/" not in rest:
        return _CANONICAL.get(words[0], "")
    return ""


def _integer(text: str) -> Fraction:
    return Fraction(Decimal(re.sub(r"[,_' ]", "", text)))


def parse_number(text: str) -> Number | None:
    """The plain number that `text` is, with at most a name before it and a unit after it; else None."""
    if len(text) > MOST_DIGITS or not text.strip():
        return None
    text = _cleaned(_spelled_out(text))
    name = ""
    named = _NAME.match(text)
    if named and "\\" not in named[1]:
        name, text = named[1].strip().lower(), text[named.end() :]
    for _ in range(2):
        text = _HEDGE.sub("", text)
    if text.lower() in _SMALL:
        return Number(Fraction(_SMALL.index(text.lower())), 0, "", name)
    text = re.sub(r"^\{(.*)\}$", r"\1", text).strip()
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    parts = match.groupdict()
    rest = parts["rest"]
    attached = re.match(r"[A-Za-z](?![A-Za-z])", rest)
    if attached:
        return None
    scale = 1
    magnitude = re.match(r"\s*(hundred|thousand|million|billion|trillion)\b", rest, re.IGNORECASE)
    if magnitude:
        scale, rest = 10 ** _MAGNITUDES[magnitude[1].lower()], rest[magnitude.end() :]
    unit = _unit_of(rest)
    if unit is None:
        return None
    if parts["currency"] and not unit:
        unit = _CANONICAL.get(parts["currency"].lower().strip("."), "")
    read = _magnitude(parts)
    if read is None:
        return None
    value, places = read
    negative = (parts["sign"] == "-") != (parts["sign2"] == "-")
    return Number(-value * scale if negative else value * scale, places if scale == 1 else None, unit, name)


def _magnitude(parts: dict[str, str | None]) -> tuple[Fraction, int | None] | None:
    """The unsigned value and its decimal places; None where it is no number after all (3/0, 1 5/2)."""
    for whole_key, top, bottom in (
        ("whole", "n1", "d1"), ("whole2", "n2", "d2"), ("", "n3", "d3"), ("", "n4", "d4"), ("", "n5", "d5"),
        ("", "n6", "d6"), ("", "n7", "d7"),
    ):  # fmt: skip
        numerator, denominator = parts[top], parts[bottom]
        if numerator is None or denominator is None:
            continue
        below = _integer(denominator)
        if not below:
            return None
        fraction = _integer(numerator) / below
        whole = parts[whole_key] if whole_key else None
        if whole is not None and fraction >= 1:
            return None
        return fraction + (_integer(whole) if whole else 0), None
    digits = parts["decimal"]
    if digits is None:
        return None
    exponent = int((parts["exponent"] or parts["power"] or "0")[:8])
    if abs(exponent) > MOST_EXPONENT:
        return None
    value = _integer(digits)
    places = len(digits.partition(".")[2])
    if exponent:
        return value * Fraction(10) ** exponent, max(0, places - exponent)
    return value, places


_ROUNDS = re.compile(
    r"\bround|\bnearest\b|decimal place|\bapproximat|significant (?:figure|digit)|≈|\\approx", re.IGNORECASE
)
EXACT_PLACES = 4
"""Nobody writes an exact value with so many decimals: from here on a gold decimal counts as rounded."""


def is_rounded(gold: Number, question: str) -> bool:
    """Whether the gold answer is a rounded decimal: the question says so, or it has many decimals."""
    if not gold.places:
        return False
    return gold.places >= EXACT_PLACES or bool(_ROUNDS.search(question))


def half_step(gold: Number) -> Fraction:
    """Half a unit in the last place of a gold decimal."""
    return Fraction(1, 2 * 10 ** (gold.places or 0))


def same_number(gold: Number, given: Number, question: str = "") -> bool:
    """Whether the answer's number is the gold one.

    50% is 0.5, and either may leave the percent sign out where the question asks for percent or the figure
    can be nothing else; 0.5 is never 50. Two known units must agree, an omitted one is not missed. Close is
    right only for a rounded gold decimal, within half a unit of its last place.
    """
    if gold.name and given.name and gold.name != given.name:
        return False
    percent = "%" in (gold.unit, given.unit)
    if gold.unit and given.unit and gold.unit != given.unit:
        return False
    if not percent:
        if gold.value == given.value:
            return True
    elif gold.true_value == given.true_value:
        return True
    elif gold.value == given.value:
        return gold.unit == "%" or abs(gold.value) >= 1 or bool(re.search(r"percent|%", question, re.IGNORECASE))
    if is_rounded(gold, question) and (given.places is None or given.places > (gold.places or 0)):
        return abs(given.value - gold.value) <= half_step(gold)
    return False
