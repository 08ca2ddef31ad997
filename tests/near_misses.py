"""Near misses of real questions: one small edit after which another thing is asked. And the same question respelled."""

import random
import re
from collections.abc import Callable, Iterator, Sequence

Edit = Callable[[str, random.Random], str | None]
"""Returns the question with one edit; None if the edit does not fit it."""

OPPOSITES = (
    ("least", "greatest"), ("smallest", "largest"), ("minimum", "maximum"), ("more", "less"), ("most", "fewest"),
    ("first", "last"), ("even", "odd"), ("positive", "negative"), ("before", "after"), ("left", "right"),
    ("above", "below"), ("increase", "decrease"), ("sum", "product"), ("area", "perimeter"), ("mean", "median"),
    ("and", "or"), ("all", "some"), ("twice", "half"), ("day", "week"), ("each", "all"), ("older", "younger"),
)  # fmt: skip
UNITS = (
    ("miles", "kilometers"), ("feet", "inches"), ("pounds", "kilograms"), ("hours", "minutes"), ("cents", "dollars"),
    ("meters", "centimeters"), ("gallons", "liters"), ("degrees", "radians"), ("years", "months"), ("%", " percent"),
)  # fmt: skip


def _of_pairs(pairs: Sequence[tuple[str, str]]) -> Edit:
    def edit(text: str, draw: random.Random) -> str | None:
        fitting = [
            (a, b)
            for pair in pairs
            for a, b in (pair, pair[::-1])
            if re.search(rf"(?<![\\\w]){re.escape(a)}(?!\w)", text)
        ]
        if not fitting:
            return None
        a, b = draw.choice(fitting)
        return re.sub(rf"(?<![\\\w]){re.escape(a)}(?!\w)", lambda _: b, text, count=1)

    return edit


def _numbers(text: str) -> list["re.Match[str]"]:
    return list(re.finditer(r"\d+", text))


def another_number(text: str, draw: random.Random) -> str | None:
    found = _numbers(text)
    if not found:
        return None
    m = draw.choice(found)
    return text[: m.start()] + str(int(m[0]) + draw.choice((1, 2, 10))) + text[m.end() :]


def numbers_swapped(text: str, draw: random.Random) -> str | None:
    found = _numbers(text)
    pairs = [(a, b) for a in found for b in found if a.start() < b.start() and a[0] != b[0]]
    if not pairs:
        return None
    a, b = draw.choice(pairs)
    return text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :]


def digit_dropped(text: str, draw: random.Random) -> str | None:
    found = [m for m in _numbers(text) if len(m[0]) > 1]
    if not found:
        return None
    m = draw.choice(found)
    return text[: m.start()] + m[0][:-1] + text[m.end() :]


def space_in_a_number(text: str, draw: random.Random) -> str | None:
    found = [m for m in _numbers(text) if len(m[0]) > 1 and not re.search(r"frac ?$", text[: m.start()])]
    if not found:
        return None
    m = draw.choice(found)
    return text[: m.start() + 1] + " " + text[m.start() + 1 :]


def sign_changed(text: str, draw: random.Random) -> str | None:
    found = [m for m in re.finditer(r"[-+](?= ?[0-9a-z\\(])", text) if m.start() and not text[m.start() - 1].isalpha()]
    if not found:
        return None
    m = draw.choice(found)
    return text[: m.start()] + ("+" if m[0] == "-" else "-") + text[m.end() :]


def negated(text: str, draw: random.Random) -> str | None:
    found = list(re.finditer(r"\b(?:is|are|can|does|did|will|has)\b", text))
    if not found:
        return None
    m = draw.choice(found)
    return text[: m.end()] + " not" + text[m.end() :]


def another_letter(text: str, draw: random.Random) -> str | None:
    """Changes one letter inside a formula."""
    found = [
        m.start() + at
        for m in re.finditer(r"\$[^$]+\$", text)
        for at, c in enumerate(m[0])
        if c.isalpha() and not re.search(r"\\[A-Za-z]*$", m[0][:at])
    ]
    if not found:
        return None
    at = draw.choice(found)
    return text[:at] + ("w" if text[at] != "w" else "v") + text[at + 1 :]


def case_changed(text: str, draw: random.Random) -> str | None:
    """Changes the case of one letter that stands alone or begins a name inside the text."""
    found = [m.start() for m in re.finditer(r"(?<=[ $(])[A-Za-z](?=[ $),.=^_'])|(?<=[a-z,] )[A-Z](?=[a-z])", text)]
    if not found:
        return None
    at = draw.choice(found)
    return text[:at] + text[at].swapcase() + text[at + 1 :]


def sentence_dropped(text: str, draw: random.Random) -> str | None:
    parts = re.split(r"(?<=[.?!]) (?=[A-Z])", text)
    if len(parts) < 3:
        return None
    at = draw.randrange(len(parts) - 1)
    return " ".join(parts[:at] + parts[at + 1 :])


def sentences_swapped(text: str, draw: random.Random) -> str | None:
    parts = re.split(r"(?<=[.?!]) (?=[A-Z])", text)
    if len(parts) < 3:
        return None
    at = draw.randrange(len(parts) - 2)
    parts[at], parts[at + 1] = parts[at + 1], parts[at]
    return " ".join(parts)


def word_dropped(text: str, draw: random.Random) -> str | None:
    words = text.split(" ")
    found = [n for n, word in enumerate(words) if n and len(word) > 1 and word.isalpha()]
    if not found:
        return None
    at = draw.choice(found)
    return " ".join(words[:at] + words[at + 1 :])


def names_swapped(text: str, draw: random.Random) -> str | None:
    names = sorted({m[0] for m in re.finditer(r"(?<=[a-z,] )[A-Z][a-z]{2,}", text)})
    if len(names) < 2:
        return None
    a, b = draw.sample(names, 2)
    return re.sub(rf"\b(?:{a}|{b})\b", lambda m: b if m[0] == a else a, text)


def exponent_lost(text: str, draw: random.Random) -> str | None:
    found = list(re.finditer(r"\^\{?(\d)\}?", text))
    if not found:
        return None
    m = draw.choice(found)
    return text[: m.start()] + m[1] + text[m.end() :]


def options_swapped(text: str, draw: random.Random) -> str | None:
    """Swaps the texts of two options, (A) … and (B) …, each on a line of its own."""
    lines = text.split("\n")
    found = [n for n, line in enumerate(lines) if re.match(r"\([A-Z]\) ", line)]
    pairs = [(a, b) for a in found for b in found if a < b and lines[a][4:] != lines[b][4:]]
    if not pairs:
        return None
    a, b = draw.choice(pairs)
    lines[a], lines[b] = lines[a][:4] + lines[b][4:], lines[b][:4] + lines[a][4:]
    return "\n".join(lines)


EDITS: dict[str, Edit] = {
    "opposite": _of_pairs(OPPOSITES), "unit": _of_pairs(UNITS), "number": another_number, "swapped": numbers_swapped,
    "digit": digit_dropped, "split number": space_in_a_number, "sign": sign_changed, "not": negated,
    "letter": another_letter, "case": case_changed, "sentence": sentence_dropped, "order": sentences_swapped,
    "word": word_dropped, "names": names_swapped, "exponent": exponent_lost, "options": options_swapped,
}  # fmt: skip


def near_misses(questions: Sequence[str], number: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """Yields (edit, question, the edited question), as many as are wanted, the edits in turn."""
    draw = random.Random(seed)
    names = list(EDITS)
    made = 0
    while made < number:
        name = names[made % len(names)]
        question = draw.choice(questions)
        edited = EDITS[name](question, draw)
        if edited is not None and edited != question:
            made += 1
            yield name, question, edited


def respelled(question: str, draw: random.Random) -> str:
    """Returns the same question as another set may print it."""
    text = question
    if "$" in text and draw.random() < 0.5:
        text = re.sub(r"(?<!\\)\$([^$]+)\$", lambda m: rf"\({m[1]}\)", text)
    for pattern, put in (
        (r"\\frac(?=\{)", r"\\dfrac"), (r"\\le(?:q)?(?![a-z])", r"\\leq"), (r"\^(\d)(?!\d)", r"^{\1}"),
        (r"'", "\u2019"), (r" = ", "="), (r"(?<=\d) \+ (?=\d)", "+"), (r"\. (?=[A-Z])", ".  "), (r"-(?=\d)", "\u2212"),
    ):  # fmt: skip
        if draw.random() < 0.5:
            text = re.sub(pattern, put, text)
    ends = ("", "\n", "\n\nPlease reason step by step, and put your final answer within \\boxed{}.")
    begins = ("", " ", "Return your final response within \\boxed{}. ")
    return draw.choice(begins) + text + draw.choice(ends)
