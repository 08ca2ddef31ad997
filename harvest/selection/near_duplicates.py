"""Whether two questions ask the same: numbers and formulas decide first, words second. Pure.

Two questions of one template share nearly all of their words and are different questions; the same question with
other names, in another order or in another frame shares few runs of words and is the same one. What tells them apart
is what is reckoned with: numbers, formulas, and the gold answers where both are known.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

VERSION = "2"
"""Of the rules here: what was found by another is looked for anew."""

_UNITS = (
    "zero . two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty"
)
_SPELLED = {word: str(n) for n, word in enumerate(_UNITS.split()) if word != "."} | {
    word: str(10 * n) for n, word in enumerate(["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], 3)
}
"""Not "one", which is a pronoun as often."""
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_SIGNS = str.maketrans({
    "−": "-", "–": "-", "—": " ", "×": "*", "·": "*", "⋅": "*", "÷": "/", "∕": "/", "≤": "<=", "≥": ">=", "≠": "!=",
    "“": " ", "”": " ", '"': " ", "’": "'", "‘": " ", "°": " degrees ", "{": "(", "}": ")", "[": "(", "]": ")",
    "π": "pi", "√": "sqrt", "∞": "infty",
})  # fmt: skip
_LATEX = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\\[dtc]frac(?![a-z])", r"\\frac"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\(?:left|right|bigg?|displaystyle|limits|quad|qquad)(?![a-z])|\\[,;:! ]|~|\\\\", " "),
        (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname|emph)(?![a-z])", " "),
        (r"\\(?:cdot|times)(?![a-z])|(?<=[\w)])\s*\*\*\s*(?=[\w(])", lambda m: "^" if "*" in m[0] else "*"),
        (r"\\div(?![a-z])", "/"),
        (r"\\leq?(?![a-z])", "<="),
        (r"\\geq?(?![a-z])", ">="),
        (r"\\neq?(?![a-z])", "!="),
        (r"\^\s*\{?\s*\\circ\s*\}?", " degrees "),
        (r"\\[()\[\]]|\$|\\(?=[$%])", " "),
    )
)
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_GROUP = re.compile(r"(\^|_|sqrt|\\[a-z]+(?<!frac)| )\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)")
_TOKEN = re.compile(r"\d+(?:\.\d+)?|\.\d+|[^\W\d_]+(?:'[^\W\d_]+)?|<=|>=|!=|[-+*/=^<>!(),]|[.?:;]+(?=\s|$)|\n(?=\s*\n)")
_OPERATORS = frozenset(["+", "-", "*", "/", "=", "^", "<", ">", "<=", ">=", "!=", "!"])
_JOINS = _OPERATORS | {","}
_MARKS = r"[(\[]\s*\d{1,3}\s*(?:points?|pts?|marks?)\.?\s*[)\]]"
_OF_A_SHEET = (
    re.compile(rf"^\s*{_MARKS}\s*[.:]?\s*(?=\S)", re.I),
    re.compile(
        r"^[\s#*]*(?:(?:problem|question|exercise|example|task|puzzle|item|q|no|nr)[\s.#]*)?"
        r"[(\[]?\d{1,4}(?:\.\d{1,3})*[.):\]]+[\s*]+(?=\S)",
        re.I,
    ),
    re.compile(rf"(?<=\S)\s*(?:{_MARKS}|(?<=[.?!)])\s\d{{1,3}} (?:points?|marks?))\.?\s*$", re.I),
)
NESTED = 8
"""Braces in braces are followed so deep."""
_REMARK = re.compile(r"(?<==)\s*(?=\(?[^\W\d]{2})|(?=\(\s*\d+\s+[^\W\d]{3})|(?<=\\\])")
"""Where words follow a sum, a bracket or a formula on a line of its own without a full stop: `98 - 93 = (2 points)`."""
_LONE = re.compile(r"\(([^(),+\-*/=^<>!]*)\)")


def plain(text: str) -> str:
    """`text` in small letters, with one spelling for each sign, number and formula."""
    text = text.casefold()
    if not text.isascii():
        text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
        text = unicodedata.normalize("NFKC", text.translate(_SIGNS))
    text = _REMARK.sub(" . ", text)
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    if "\\" in text or "$" in text or "**" in text:
        for pattern, put in _LATEX:
            text = pattern.sub(put, text)
        for _ in range(NESTED):
            before, text = text, _GROUP.sub(r"\1(\2)", _FRACTION.sub(r"(\1)/(\2)", text))
            if text == before:
                break
    return text.translate(_SIGNS)


def tokens(text: str) -> list[str]:
    """Words, numbers, signs and ends of sentences, each in one spelling."""
    found = []
    for token in _TOKEN.findall(plain(text)):
        if "." in token and token[-1].isdigit():
            token = f"0{token}" if token[0] == "." else token
            token = token.rstrip("0").rstrip(".")
        found.append(_SPELLED.get(token, token))
    return found


def sentences(found: Iterable[str]) -> list[list[str]]:
    """Tokens by sentence; what stands before a colon or an empty line is one too."""
    parts: list[list[str]] = [[]]
    for token in found:
        if token == "\n" or token[0] in ".?:;":
            parts.append([])
        else:
            parts[-1].append(token)
    return [p for p in parts if any(t[0].isalnum() for t in p)]


def unnumbered(text: str) -> str:
    """A question without the number that it has on its sheet, and without its points: `Problem 12.`, `7)`,
    `(5 points)`."""
    for pattern in _OF_A_SHEET:
        text = pattern.sub("", text, count=1)
    return text


def reckoned(sentence: Sequence[str]) -> Iterator[str]:
    """The numbers and formulas of a sentence: `98-93+77` is one, so that its order counts."""
    if not any(t[0].isdigit() or t in _OPERATORS for t in sentence):
        return
    run: list[str] = []
    for token, following in zip(sentence, [*sentence[1:], ""], strict=True):
        operand = token[0].isdigit() or (len(token) == 1 and token.isalpha())
        if not operand and token not in _JOINS and token not in "()":
            yield from _formulas(run)
            run = []
            continue
        if operand and run and (run[-1][0].isalnum() and not _is_factor(run[-1], token, following)):
            yield from _formulas(run)
            run = []
        run.append(token)
    yield from _formulas(run)


def _is_factor(number: str, letter: str, following: str) -> bool:
    return number[0].isdigit() and letter.isalpha() and (following in _JOINS or following == ")")


def _formulas(run: list[str]) -> Iterator[str]:
    while run and (run[0] in _JOINS or run[0] == ")"):
        run = run[1:]
    while run and (run[-1] in _JOINS - {"!"} or run[-1] == "("):
        run = run[:-1]
    if not any(t[0].isdigit() or t in _OPERATORS for t in run):
        return
    depth = 0
    for i in range(len(run) - 1, -1, -1):
        depth += (run[i] == ")") - (run[i] == "(")
        if depth < 0:  # opened and never closed: words follow, and what stands before is a formula of its own
            yield from _formulas(run[:i])
            yield from _formulas(run[i + 1 :])
            return
    text = "".join(run)
    while (shorter := _LONE.sub(r"\1", text)) != text:
        text = shorter
    yield text


SHARE_OF_WORDS = 0.8
"""So many of the shorter question's words in the longer one, where nothing else speaks for the same question."""
FRAME_SENTENCES = 2
"""At most so many before or after a question are a frame, whose numbers do not count: `Problem 12.`"""
MANY_NUMBERS = 3
"""So many numbers and formulas alike are no accident."""
FEW_WORDS = 8
"""A question of fewer, without a number, has to be the same word for word."""


class Asked:
    """A question, read once: what it reckons with, its words, and its gold answer where it is known."""

    def __init__(self, text: str, gold: str | None = None) -> None:
        self.sentences = sentences(tokens(unnumbered(text)))
        self.by_sentence = [Counter(reckoned(s)) for s in self.sentences]
        self.gold = _gold(gold)

    @cached_property
    def numbers(self) -> Counter[str]:
        return sum(self.by_sentence, Counter())

    @cached_property
    def words(self) -> Counter[str]:
        return Counter(t for s in self.sentences for t in s if t[0].isalnum())

    @cached_property
    def triples(self) -> frozenset[tuple[str, ...]]:
        """Three tokens in a row; within a sentence, so that an order of sentences does not count."""
        return frozenset(tuple(s[i : i + 3]) for s in self.sentences for i in range(len(s) - 2))

    @cached_property
    def whole(self) -> tuple[str, ...]:
        return tuple(t for s in self.sentences for t in s)

    @cached_property
    def without_frames(self) -> list[tuple[bool, bool, Counter[str]]]:
        """What it reckons with as it stands, and without its first or last sentences, where most of it remains:
        (whether some are left out at the beginning, at the end, the numbers of the rest)."""
        lengths, n = [len(s) for s in self.sentences], len(self.sentences)
        total = sum(lengths)
        found = [(False, False, self.numbers)]
        for first in range(min(FRAME_SENTENCES, n) + 1):
            for last in range(min(FRAME_SENTENCES, n - first) + 1):
                left_out = [*range(first), *range(n - last, n)]
                if 2 * (total - sum(lengths[i] for i in left_out)) <= total:
                    continue
                reckons = [self.by_sentence[i] for i in left_out if self.by_sentence[i]]
                if not reckons:
                    continue  # the numbers of all of it
                numbers = self.numbers - sum(reckons, Counter())
                if numbers and all(numbers != other for _, _, other in found):
                    found.append((first > 0, last > 0, numbers))
        return found


def _gold(gold: str | None) -> tuple[str, ...] | None:
    """A gold answer in one spelling; None where it is unknown, or so long that it has many."""
    if gold is None or not gold.strip() or len(gold) > 400:
        return None
    found = [t for s in sentences(tokens(gold)) for t in s]
    numbers = tuple(sorted(reckoned(found)))
    return numbers or tuple(t for t in found if t[0].isalnum()) or None


def same_question(a: Asked, b: Asked) -> bool:
    """Whether two questions ask the same, in other words, another order or another frame.

    Different gold answers are different questions. What is reckoned with has to be alike, apart from frames; then the
    more numbers and the same gold answer, the fewer words need to be.
    """
    if a.whole == b.whole:
        return True
    if not _may_agree(a, b):
        return False
    return (a.numbers == b.numbers or _alike_but_for_frames(a, b)) and _says_the_same(a, b)


def same_task(a: Asked, b: Asked) -> bool:
    """Whether two questions with nearly the same answer may be one: in any words, if they reckon with anything. Where a
    gold answer is unknown, few numbers alike say too little."""
    numbers = min(a.numbers.total(), b.numbers.total())
    if not numbers or (numbers < MANY_NUMBERS and (a.gold is None or b.gold is None)):
        return same_question(a, b)
    return a.whole == b.whole or (_may_agree(a, b) and (a.numbers == b.numbers or _alike_but_for_frames(a, b)))


def _alike_but_for_frames(a: Asked, b: Asked) -> bool:
    """Whether their numbers are alike once a frame is left out: at either end of one of them, never of both, since
    two that begin with different numbers are two questions."""
    return any(
        n == m and not (first and other_first) and not (last and other_last)
        for first, last, n in a.without_frames
        for other_first, other_last, m in b.without_frames
    )


def _may_agree(a: Asked, b: Asked) -> bool:
    return a.gold is None or b.gold is None or a.gold == b.gold


def _says_the_same(a: Asked, b: Asked) -> bool:
    """By their words, given that their numbers are alike."""
    shorter, longer = sorted((a, b), key=lambda q: q.words.total())
    n = shorter.words.total()
    words = (shorter.words & longer.words).total() / max(n, 1)
    triples = len(shorter.triples & longer.triples) / max(len(shorter.triples), 1)
    numbers = min(a.numbers.total(), b.numbers.total())
    if n < FEW_WORDS and not numbers:
        return False
    if a.gold is None or b.gold is None:
        if numbers >= MANY_NUMBERS:
            return words >= 0.7 and triples >= 0.35
        return words >= SHARE_OF_WORDS and triples >= SHARE_OF_WORDS
    if numbers >= MANY_NUMBERS:
        return words >= 0.55
    if numbers:
        return words >= 0.7 and triples >= 0.3
    return words >= SHARE_OF_WORDS and triples >= 0.5


class Evaluation:
    """The questions of one evaluation, ready to be looked for. `questions` are (id, text) or (id, text, gold)."""

    def __init__(self, name: str, questions: Iterable[Sequence[str | None]]) -> None:
        self.name = name
        self.questions = [(str(q[0]), Asked(q[1] or "", q[2] if len(q) > 2 else None)) for q in questions]

    @cached_property
    def _whole(self) -> dict[tuple[str, ...], str]:
        return {q.whole: key for key, q in self.questions}

    @cached_property
    def _by_triple(self) -> dict[tuple[str, ...], list[int]]:
        """Which questions hold a triple; none for one that a template gives to many of them."""
        found = defaultdict(list)
        for n, (_, q) in enumerate(self.questions):
            for triple in q.triples:
                found[triple].append(n)
        most = max(COMMON_TO, len(self.questions) // 100)
        return {triple: of for triple, of in found.items() if len(of) <= most}

    @cached_property
    def _by_numbers(self) -> dict[frozenset[tuple[str, int]], list[int]]:
        found = defaultdict(list)
        for n, (_, q) in enumerate(self.questions):
            if q.numbers:
                found[frozenset(q.numbers.items())].append(n)
        return found

    def asked_in(self, text: str, gold: str | None = None) -> str | None:
        """The id of the question that `text` asks, else None. Frames, names and more sentences do not count."""
        asked = Asked(text, gold)
        if (key := self._whole.get(asked.whole)) is not None:
            return key
        hits = Counter(n for t in asked.triples for n in self._by_triple.get(t, ()))
        likely = [n for n, _ in hits.most_common(LOOKED_AT)]
        for _, _, numbers in asked.without_frames:
            likely += self._by_numbers.get(frozenset(numbers.items()), ())[:LOOKED_AT]
        for n in dict.fromkeys(likely):
            key, question = self.questions[n]
            if _may_agree(asked, question) and _asks(asked, question):
                return key
        return None


COMMON_TO = 20
LOOKED_AT = 10


def _asks(row: Asked, question: Asked) -> bool:
    """Whether a row holds all that an evaluation's question reckons with, and says it; it may say more."""
    if same_question(row, question):
        return True
    n = question.words.total()
    if n < FEW_WORDS or not question.numbers <= row.numbers:
        return False
    words = (question.words & row.words).total() / n
    triples = len(question.triples & row.triples) / max(len(question.triples), 1)
    if question.numbers.total() >= MANY_NUMBERS:
        known = row.gold is not None and question.gold is not None
        return words >= 0.6 and triples >= (0.2 if known else 0.35)
    return words >= SHARE_OF_WORDS and triples >= 0.6
