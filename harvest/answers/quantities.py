r"""Plain numbers, exactly: 1,234.50, $18, 50\%, \frac{3}{4}, 2 1/2, 1.5e6, 12 \text{ cm}, 3 million.

Fraction throughout, no float. What is longer or larger than a person would write is no plain number: it
costs time to convert, and belongs in a process that can be killed.
"""

import itertools
import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from harvest.answers.notation import plain_characters

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
    "cent": "cent cents ¢ penny pennies",
    "€": "€ eur euro euros", "£": "£ gbp pounds_sterling",
    "₹": "₹ rs rupee rupees inr", "¥": "¥ yen jpy yuan rmb",
    "deg": "degree degrees deg °", "rad": "radian radians rad",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres", "km": "km kilometer kilometers kilometre kilometres",
    "in": "in inch inches", "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mi mile miles",
    "mg": "mg milligram milligrams", "g": "g gram grams", "kg": "kg kilogram kilograms kilo kilos",
    "oz": "oz ounce ounces", "lb": "lb lbs", "t": "ton tons tonne tonnes",
    "s": "s sec secs second seconds", "min": "min mins minute minutes", "h": "h hr hrs hour hours",
    "day": "day days", "week": "week weeks", "month": "month months", "year": "year years yr yrs",
    "am": "am a.m", "pm": "pm p.m", "ml": "ml milliliter milliliters millilitre millilitres",
    "L": "l liter liters litre litres", "mi/h": "mph", "km/h": "kph",
    "°C": "celsius", "°F": "fahrenheit", "gal": "gallon gallons",
}  # fmt: skip
_SIZES = {
    "mm": ("length", 1), "cm": ("length", 10), "m": ("length", 1000), "km": ("length", 10**6),
    "in": ("span", 1), "ft": ("span", 12), "yd": ("span", 36), "mi": ("span", 63360),
    "mg": ("mass", 1), "g": ("mass", 1000), "kg": ("mass", 10**6), "oz": ("weight", 1), "lb": ("weight", 16),
    "s": ("time", 1), "min": ("time", 60), "h": ("time", 3600), "day": ("time", 86400), "week": ("time", 604800),
    "ml": ("volume", 1), "L": ("volume", 1000), "gal": ("fluid", 1), "°C": ("Celsius", 1), "°F": ("Fahrenheit", 1),
    "cent": ("money", 1), "$": ("money", 100),
}  # fmt: skip
_CURRENCIES = frozenset("€£₹¥")
"""What units measure, and how much of it: 18 dollars are 1800 cents, and no metre is a mile."""
_CANONICAL = {word: unit for unit, words in _UNITS.items() for word in words.split()}
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
_MAGNITUDES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SPELLED_SMALL = tuple(_ONES.split())
_SPELLED_TENS = tuple(_TENS.split())
CARDINALS = {
    **{name: n for n, name in enumerate(SPELLED_SMALL)},
    **{tens: 10 * n for n, tens in enumerate(_SPELLED_TENS, 2)},
}
_PARTS = {
    "half": Fraction(1, 2), "a half": Fraction(1, 2), "one half": Fraction(1, 2), "a third": Fraction(1, 3),
    "one third": Fraction(1, 3), "two thirds": Fraction(2, 3), "a quarter": Fraction(1, 4),
    "one quarter": Fraction(1, 4), "one fourth": Fraction(1, 4), "three quarters": Fraction(3, 4),
    "three fourths": Fraction(3, 4),
}  # fmt: skip
_NOT_UNIT_NAMES = """
    and or not no nor is are was were to than plus minus times over if but unless wrong incorrect between either
    modulo mod divided multiplied squared cubed root through until versus vs pi sqrt sin cos tan log ln exp
    factorial dozen dozens half halves third thirds quarter quarters remainder because instead maybe perhaps
    possibly probably below negative less fewer pairs pair roughly etc must should can could may might will
    would does do has have had cannot tens hundreds thousands millions gross hundred thousand million billion
    trillion point
"""
_NOT_UNITS = frozenset((*_NOT_UNIT_NAMES.split(), *CARDINALS))

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
_REST = re.compile(r"(?:[\s/.·-]*+(?:%|°|¢|\$|€|£|[A-Za-z][A-Za-z.]*+(?:\s?\^\s?\{?-?[123]\}?)?+))*+\s*+")


def _cleaned(text: str) -> str:
    text = re.sub(r"(?<!\\)\$([^$]*[^$\\])\$", r" \1 ", _TEXT.sub(r" \1 ", text))
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
    power = _POWERS.get(words[0], "")
    if power:
        words = words[1:]
    if len(words) == 2 and words[0] in ("°", "degrees", "degree") and words[1][0] in "cf":
        return "°C" if words[1][0] == "c" else "°F"
    rate = re.split(r"/|\bper\b", rest.lower())
    if len(rate) == 2 and not power and all(part.strip() in _CANONICAL for part in rate):
        return "/".join(_CANONICAL[part.strip()] for part in rate)
    if len(words) != 1 or "/" in rest or (unit := _CANONICAL.get(words[0], "")) == "":
        return ""
    raised = re.search(r"\^\s?\{?(-?[123])", rest)
    return unit + (power or (raised[1] if raised and raised[1] != "1" else ""))


def _integer(text: str) -> Fraction:
    return Fraction(Decimal(re.sub(r"[,_' ]", "", text)))


_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
"""What most answers are; all that follows would find the same."""


def parse_number(text: str) -> Number | None:
    """The plain number that `text` is, with at most a name before it and a unit after it; else None."""
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


_TWO_PARTS = re.compile(r"\d\s*[$A-Za-z]+[\s,]+(?:and\s+)?\d|^\d+ and ")
_AND_A_PART = re.compile(rf"(\d+) and ({'|'.join(sorted(_PARTS, key=len, reverse=True))})(?![a-z])(.*)")
_AND_LESS = re.compile(r"(\$?)(\d+)\s*([a-z]+)(?:,?\s+and\s+|,?\s+)(\d+(?:\.\d+)?)\s*([a-z]+)")


def _compound(text: str, name: str) -> Number | None:
    """One quantity in two parts: "2 hours and 30 minutes" is 2.5 hours, "5 and a half dollars" 5.5; else None."""
    text = " ".join(text.lower().split())
    part = _AND_A_PART.fullmatch(text)
    if part:
        unit = _unit_of(part[3])
        return None if unit is None else Number(int(part[1]) + _PARTS[part[2]], None, unit, name)
    two = _AND_LESS.fullmatch(text)
    if two is None:
        return None
    unit, smaller = _CANONICAL.get(two[3], ""), _CANONICAL.get(two[5], "")
    (kind, size), (other, less) = _SIZES.get(unit, ("", 0)), _SIZES.get(smaller, ("?", 0))
    below = Fraction(two[4]) * less
    if kind != other or below >= size:
        return None
    return Number(int(two[2]) + below / size, None, unit, name)


def _spelled(text: str, name: str) -> Number | None:
    """Twenty-one, "five hundred dollars", "five point two", "three and a half hours", "two thirds"."""
    words = text.lower().replace("-", " ").split()
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
    unit = _unit_of(" ".join(words[read:]))
    return None if unit is None else Number(value, places, unit, name)


def _part(words: list[str]) -> tuple[Fraction | None, int]:
    """A spelled fraction that words begin with, and how many of them it takes."""
    for count in (2, 1):
        if len(words) >= count and (part := _PARTS.get(" ".join(words[:count]))) is not None:
            return part, count
    return None, 0


def _cardinal(words: list[str]) -> tuple[Fraction | None, int]:
    """A spelled whole number that words begin with, and how many of them it takes."""
    total, group, last, read = 0, None, 10**4, 0
    for place, word in enumerate(words[:12]):
        if word in CARDINALS:
            value = CARDINALS[word]
            if group is not None and (not value or value >= last or (value > 9 and last < 100)):
                break
            group, last = (group or 0) + value, value if value > 19 else 1
        elif word in _MAGNITUDES and group is not None:
            scale = 10 ** _MAGNITUDES[word]
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


_BASED = re.compile(r"(-?[0-9A-Fa-f]+)(?:_\{?\(?(?:\\text\{)?(\w+)\}?\)?\}?|(?:\\text\{)?(?:in)?base\}?(\w+)\}?)")
_BASES = {name: str(base) for base, name in enumerate(SPELLED_SMALL[2:17], 2)}


def based_numeral(squeezed: str) -> tuple[str, str] | None:
    """Digits and base of 2516_8, 2516_{\\text{eight}} or "2516 base 8", written without spaces."""
    match = _BASED.fullmatch(squeezed) if len(squeezed) < MOST_DIGITS else None
    if match is None:
        return None
    base = (match[2] or match[3]).lower()
    return match[1].upper(), _BASES.get(base, base)


def counts(rest: str) -> bool:
    """Whether what follows a figure leaves it what it is: "eggs" do, "dozen" and "or" do not."""
    word = re.match(r"[\s*$]*([A-Za-z]+)", rest)
    return word is None or word[1].lower() not in _NOT_UNITS


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
EXACT_DIGITS = 3
"""Hardly anyone writes an exact decimal with more digits than these, all of them after the point or not."""


def is_rounded(gold: Number, question: str) -> bool:
    """Whether the gold answer is a rounded decimal: the question says so, or it has four decimals that count."""
    if not gold.places:
        return False
    return (gold.places > EXACT_DIGITS and _digits(gold) > EXACT_DIGITS) or bool(_ROUNDS.search(question))


def looks_rounded(gold: Number) -> bool:
    """Whether a decimal that an exact value without an end rounds to (1/3, \\sqrt{2}) may stand for it: from
    three places that count on it is no accident."""
    return (gold.places or 0) >= EXACT_DIGITS and _digits(gold) >= EXACT_DIGITS


def _digits(decimal: Number) -> int:
    """How many of its digits count: two in 0.0045."""
    return len(str(abs(int(decimal.value * 10 ** (decimal.places or 0)))))


def half_step(gold: Number) -> Fraction:
    """Half a unit in the last place of a gold decimal."""
    return Fraction(1, 2 * 10 ** (gold.places or 0))


def rounds(value: Fraction, gold: Number) -> bool:
    """Whether a value rounds to a gold decimal, halves away from zero."""
    below = abs(gold.value) - (value if gold.value >= 0 else -value)
    return -half_step(gold) < below <= half_step(gold)


_ASKED = re.compile(
    r"\bhow many (?:more |fewer |less |total |additional |whole |full )?([A-Za-z]+)"
    r"|\b(?:what|which|how much) (?:is the )?(percent)|\bwhat \(?(percent)age\b|\b(percent)(?:age)? of .{0,60}\?"
    r"|\bas an? (percent)|\bin ([A-Za-z]{3,})\s*(?:\?|does\b|is\b|are\b|did\b)",
    re.IGNORECASE,
)


_ASKED_MEASURE = re.compile(
    r"\bin,? (?:degrees )?(celsius|fahrenheit|mph|(?:square|cubic) [a-z]+|[a-z]+(?: per |/)[a-z]+)\s*[?.]",
    re.IGNORECASE,
)


def asked_unit(question: str) -> str:
    """The unit that the question asks for ("how many minutes", "what percent"), "" where it names none."""
    named = _ASKED_MEASURE.findall(question[-2000:])
    if named and (unit := _unit_of(named[-1])):
        return unit
    asked = [next(filter(None, match.groups())) for match in _ASKED.finditer(question[-2000:])]
    return _CANONICAL.get(asked[-1].lower(), "") if asked else ""


def _foreign_unit(unit: str, question: str) -> bool:
    """Whether a question speaks of other units of the kind, money or length say, and never of this one."""
    kind = "currency" if unit in _CURRENCIES else _SIZES.get(unit, ("", 0))[0]
    if kind in ("", "time") or unit == "$":
        return False
    named = {_CANONICAL.get(word.lower(), "") for word in re.findall(r"[A-Za-z]+|[$¢€£₹¥]", question[-4000:])} - {""}
    if kind == "currency":
        return unit not in named and bool(named & {"$", "cent", *_CURRENCIES})
    return unit not in named and any(_SIZES.get(other, ("", 0))[0] == kind for other in named)


def _endless(value: Fraction) -> bool:
    """Whether its decimals never end."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below > 1


def same_number(gold: Number, given: Number, question: str = "") -> bool:
    """Whether the answer's number is the gold one.

    50% is 0.5, and either may leave the percent sign out where the question asks for percent or the figure
    can be nothing else; 0.5 is never 50. Two known units must make the same quantity (18 dollars, 1800 cents),
    an omitted one is not missed. Close is right only for a rounded gold decimal, within half a unit of its last
    place.
    """
    if len(gold.name) == len(given.name) == 1 and gold.name != given.name:
        return False
    wanted = gold.unit or (asked_unit(question) if given.unit else "")
    if "%" in (wanted, given.unit):
        return _same_percent(gold, given, wanted, question)
    value = given.value
    if given.unit == "deg" and wanted in ("°C", "°F"):
        wanted = "deg"
    if wanted and given.unit and wanted != given.unit:
        one, other = _SIZES.get(wanted, ("gold", 1)), _SIZES.get(given.unit, ("given", 1))
        if one[0] != other[0]:
            return False
        value = value * other[1] / one[1]
    elif not wanted and given.unit and _foreign_unit(given.unit, question):
        return False
    if gold.value == value:
        return True
    return _rounds_to(gold, given, value, question)


def _same_percent(gold: Number, given: Number, wanted: str, question: str) -> bool:
    if wanted and given.unit and wanted != given.unit:
        return False
    if wanted == given.unit == "%":
        return gold.value == given.value or _rounds_to(gold, given, given.value, question)
    if gold.true_value == given.true_value:
        return True
    if gold.value == given.value:
        asks_nothing = len(question.split()) < 3
        return wanted == "%" or (abs(gold.value) > 1 and (asks_nothing or bool(re.search(r"percent|%", question))))
    return _rounds_to(gold, given, given.value, question)


def _rounds_to(gold: Number, given: Number, value: Fraction, question: str) -> bool:
    finer = given.places is None or given.places > (gold.places or 0)
    rounded = is_rounded(gold, question) or (looks_rounded(gold) and given.places is None and _endless(value))
    return finer and rounded and rounds(value, gold)


_UNIT_WORDS = "|".join(sorted((word for word in _CANONICAL if re.fullmatch("[a-z]{2,}", word)), key=len, reverse=True))
_LAST_UNIT = re.compile(
    r"(?:\\text\s*\{\s*(?!(?:and|or)\b)(?P<text>[^{}]*)\}|(?<=[\s})\d])(?:(?P<kind>square|cubic|sq\.?|cu\.?)\s+)?"
    rf"(?P<word>units?|{_UNIT_WORDS})(?![A-Za-z]))(?P<power>\s*\^\s*\{{?\s*[23]\s*\}}?)?\s*\.?$",
    re.IGNORECASE,
)


def split_unit(text: str) -> tuple[str, str]:
    """An expression without the unit at its end, and that unit: "6\\pi" and "cm^2", say; "" where none is known."""
    unit = ""
    for _ in range(2):
        found = _LAST_UNIT.search(text)
        if found is None or not text[: found.start()].strip():
            break
        words = ((found["kind"] or "") + " " + (found["text"] or found["word"])).lower() + (found["power"] or "")
        unit = _unit_of(words) or unit
        text = text[: found.start()].strip()
    return text, unit
