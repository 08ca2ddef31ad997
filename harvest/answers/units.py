"""Reads units of measure and of money: the unit after a number, and the unit that a question asks for."""

import re

from harvest.answers.spelled import CARDINALS, DENOMINATORS, PLURALS

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
"""Maps each canonical unit to the words that mean this unit, with spaces between the words."""
SIZES = {
    "mm": ("length", 1), "cm": ("length", 10), "m": ("length", 1000), "km": ("length", 10**6),
    "in": ("span", 1), "ft": ("span", 12), "yd": ("span", 36), "mi": ("span", 63360),
    "mg": ("mass", 1), "g": ("mass", 1000), "kg": ("mass", 10**6), "oz": ("weight", 1), "lb": ("weight", 16),
    "s": ("time", 1), "min": ("time", 60), "h": ("time", 3600), "day": ("time", 86400), "week": ("time", 604800),
    "ml": ("volume", 1), "L": ("volume", 1000), "gal": ("fluid", 1), "°C": ("Celsius", 1), "°F": ("Fahrenheit", 1),
    "cent": ("money", 1), "$": ("money", 100),
}  # fmt: skip
"""Maps each unit to (what it measures, its size in the smallest unit of that kind): a dollar is 100 cents.

Metric and imperial units are different kinds, so no number of metres counts as a mile."""
_CURRENCIES = frozenset("€£₹¥")
CANONICAL = {word: unit for unit, words in _UNITS.items() for word in words.split()}
"""Maps each word for a unit to the canonical unit."""
_POWERS = {"square": "2", "sq": "2", "cubic": "3", "cu": "3"}
_NOT_UNIT_NAMES = """
    and or not no nor is are was were to than plus minus times over if but unless wrong incorrect between either
    modulo mod divided multiplied squared cubed root through until versus vs pi sqrt sin cos tan log ln exp
    factorial dozen dozens remainder because instead maybe perhaps possibly probably below negative less fewer pairs
    pair roughly etc must should can could may might will would does do has have had cannot tens hundreds thousands
    millions gross hundred thousand million billion trillion point
"""
_NOT_UNITS = frozenset((*_NOT_UNIT_NAMES.split(), *CARDINALS, *DENOMINATORS, *PLURALS.values()))
"""Holds words that may stand after a number, are no unit, and change what the number means: "dozen", "or"."""
_REST = re.compile(r"(?:[\s/.·-]*+(?:%|°|¢|\$|€|£|[A-Za-z][A-Za-z.]*+(?:\s?\^\s?\{?-?[123]\}?)?+))*+\s*+")


def unit_of(rest: str) -> str | None:
    """Returns the canonical unit in `rest`, the text after a number.

    Returns "" when there is no unit or an unknown unit, and None when the text cannot be a unit.
    """
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
    if len(rate) == 2 and not power and all(part.strip() in CANONICAL for part in rate):
        return "/".join(CANONICAL[part.strip()] for part in rate)
    if len(words) != 1 or "/" in rest or (unit := CANONICAL.get(words[0], "")) == "":
        return ""
    raised = re.search(r"\^\s?\{?(-?[123])", rest)
    return unit + (power or (raised[1] if raised and raised[1] != "1" else ""))


def counts(rest: str) -> bool:
    """Whether `rest`, the text after a number, leaves the number's value as it is: "eggs" does, "dozen" does not."""
    word = re.match(r"[\s*$]*([A-Za-z]+)", rest)
    return word is None or word[1].lower() not in _NOT_UNITS


_UNIT_WORDS = "|".join(sorted((word for word in CANONICAL if re.fullmatch("[a-z]{2,}", word)), key=len, reverse=True))
_LAST_UNIT = re.compile(
    r"(?:\\text\s*\{\s*(?!(?:and|or)\b)(?P<text>[^{}]*)\}|(?<=[\s})\d])(?:(?P<kind>square|cubic|sq\.?|cu\.?)\s+)?"
    rf"(?P<word>units?|{_UNIT_WORDS})(?![A-Za-z]))(?P<power>\s*\^\s*\{{?\s*[23]\s*\}}?)?\s*\.?$",
    re.IGNORECASE,
)


def split_unit(text: str) -> tuple[str, str]:
    """Returns (the expression without the unit at its end, that unit): ("6\\pi", "cm^2").

    The second part is "" when there is no unit or an unknown unit.
    """
    unit = ""
    for _ in range(2):
        found = _LAST_UNIT.search(text)
        if found is None or not text[: found.start()].strip():
            break
        words = ((found["kind"] or "") + " " + (found["text"] or found["word"])).lower() + (found["power"] or "")
        unit = unit_of(words) or unit
        text = text[: found.start()].strip()
    return text, unit


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
    """Returns the canonical unit that a question asks for ("how many minutes", "what percent"), or ""."""
    named = _ASKED_MEASURE.findall(question[-2000:])
    if named and (unit := unit_of(named[-1])):
        return unit
    asked = [next(filter(None, match.groups())) for match in _ASKED.finditer(question[-2000:])]
    return CANONICAL.get(asked[-1].lower(), "") if asked else ""


def foreign_unit(unit: str, question: str) -> bool:
    """Whether a question names other units of the same kind (money, length …) but does not name `unit`."""
    kind = "currency" if unit in _CURRENCIES else SIZES.get(unit, ("", 0))[0]
    if kind in ("", "time") or unit == "$":
        return False
    named = {CANONICAL.get(word.lower(), "") for word in re.findall(r"[A-Za-z]+|[$¢€£₹¥]", question[-4000:])} - {""}
    if kind == "currency":
        return unit not in named and bool(named & {"$", "cent", *_CURRENCIES})
    return unit not in named and any(SIZES.get(other, ("", 0))[0] == kind for other in named)
