"""The language of a chain and its answer: another than the question's, or one that it slips into.

Scripts tell most: a Chinese word in an English sentence. Languages in Latin letters are told by their commonest words
(harvest/filters/words.py), a sentence or a paragraph at a time: it is foreign where it has many of them, and few of its
own language's. Names, formulas, quotations and single terms have none. What a question about another
language needs, passes.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from harvest.core.config import Filters
from harvest.filters.phrases import around
from harvest.filters.reading import Reading, plain
from harvest.filters.words import ENGLISH_ELSEWHERE, NAMES, WORDS

RUNS = ((3, 3, 3, 0), (4, 6, 4, 0), (5, 12, 4, 1), (8, 36, 5, 4))
"""Of words in a row that are another language's commonest: how many, within how many words, how many different ones,
and at most how many of its own language's between them: a few words, a sentence, a paragraph."""
OWN_SHARE, OWN_DIFFERENT = 0.08, 3
"""What makes a text be in a language: of its words, and how many different ones."""

MUCH = 8_000
"""Characters that tell what language a text is in."""
LEAST_DIFFERENT = 3
"""Of a whole text: with fewer of other languages' words there is nothing to look for."""
ENGLISH_SHARE, ENGLISH_WORDS = 0.04, 20
"""A chain of so many long words, of which fewer than that share is among the commonest of English, is not English."""

_SCRIPTS = {
    "han": "\u2e80-\u2fdf\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff",
    "kana": "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9d",
    "hangul": "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "cyrillic": "\u0400-\u052f",
    "arabic": "\u0620-\u064a\u066e-\u06d3\u0750-\u077f",
    "hebrew": "\u05d0-\u05ea",
    "thai": "\u0e01-\u0e4e",
    "indic": "\u0900-\u0dff",
    "greek": "\u0370-\u03ff\u1f00-\u1fff",
    "georgian": "\u10a0-\u10ff",
    "armenian": "\u0531-\u0587",
    "ethiopic": "\u1200-\u137f",
}
_OF_SCRIPT = {
    "han": "zh", "kana": "ja", "hangul": "ko", "cyrillic": "ru", "arabic": "ar", "hebrew": "he", "thai": "th",
    "indic": "hi", "greek": "el", "georgian": "ka", "armenian": "hy", "ethiopic": "am",
}  # fmt: skip
_ALLOWED = {"ja": {"han", "kana"}, "ko": {"hangul", "han"}} | {
    language: {script} for script, language in _OF_SCRIPT.items() if language not in ("ja", "ko")
}
_RUNS = {script: re.compile(f"[{letters}]+(?:[ \u00b7\u30fb]?[{letters}]+)*") for script, letters in _SCRIPTS.items()}
_ANY = re.compile("[" + "".join(letters for script, letters in _SCRIPTS.items() if script != "greek") + "]")
_GREEK = re.compile("[" + _SCRIPTS["greek"] + "]{4}")
_ASCII = bytes(range(128))
_GREEK_WORD = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]{4,}")
_LEAST_RUN = {"han": 2, "kana": 2, "hangul": 2, "thai": 4, "greek": 4}
_LEAST_LETTERS = 2
_QUOTED = re.compile(
    "[\"“„«「『][^\"“”„«»「」『』\n]{1,120}[\"”“»」』]|(?<!\\w)['‘‚][^'‘’‚\n]{1,120}['’](?!\\w)"
    "|[(（][^()（）\n]{1,20}[)）]|`[^`\n]{1,120}`"
)
_ABOUT_LANGUAGE = re.compile(
    r"\b(?:translat\w*|languages?|linguistic\w*|vocabulary|alphabet|kanji|hiragana|katakana|pinyin|hanzi|cyrillic|idiom"
    r"|etymology|palindromes?|romani[sz]\w*|transliterat\w*|pronounc\w*|words? (?:for|meaning)|unicode"
    r"|spell(?:ed|ing|s)?)\b",
    re.IGNORECASE,
)
_BY_NAME = {name: code for code, name in NAMES.items() if code != "en"}
_IN_ENGLISH = re.compile(
    r"\b(?:in english|auf englisch|en anglais|en inglés|in inglese|em inglês|in het engels|på engelska|på engelsk"
    r"|po angielsku|по-английски)\b|用英[语文語]|英語で|영어로",
    re.IGNORECASE,
)
_TRANSLATES = re.compile(r"\btranslat\w*|\b(?:say|write|put|answer|reply|respond)\b[^.?!\n]{0,60}\bin\b", re.IGNORECASE)
_NAMED = re.compile(rf"\b(?:{'|'.join(_BY_NAME)})\b", re.IGNORECASE)
_ALL = frozenset(NAMES)
_CODES: dict[str, list[str]] = {}
for _code, _words in WORDS.items():
    for _word in _words:
        _CODES.setdefault(_word, []).append(_code)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_WORD_OR_STOP = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|[.!?:;…|(\n]")


def language(reading: Reading, settings: Filters) -> str | None:
    question = reading.question.question
    wanted = settings.language if settings.language != "question" else None
    own = wanted or language_of(_unquoted(question)) or language_of(reading.asked) or by_words(reading.chain)
    if (found := _fault(reading, own, frozenset(), 0.5)) is None:
        return None
    about = _languages_in(question, reading.question_plain, own)
    most = 1.0 if _TRANSLATES.search(question) or _IN_ENGLISH.search(question) else 0.5
    return _fault(reading, own, about, most) if about else found


def _fault(reading: Reading, own: str | None, about: frozenset[str], share: float) -> str | None:
    """`about` are languages that may be so much of the chain, and all of the answer."""
    for where, prose, vocabulary, most in (
        ("chain", reading.chain_prose, reading.chain_vocabulary, share),
        ("answer", reading.answer_prose, reading.answer_vocabulary, 1.0),
    ):
        if found := _other_script(prose, own, about, most) or _other_words(vocabulary, prose, own, about, most):
            return f"the {where} {found}"
    if own == "en" and about != _ALL and _is_not_english(reading):
        return "the chain does not read as English"
    return None


def _languages_in(question: str, low: str, own: str | None) -> frozenset[str]:
    """The languages that a question is about, as far as its words tell: those that it names ("a Turkish restaurant" is
    Turkish too), asks for or has letters of; all, where it speaks of translating or the like, or has foreign words
    itself."""
    asks_english = own != "en" and _IN_ENGLISH.search(question)
    if _ABOUT_LANGUAGE.search(question) or asks_english:
        return _ALL
    if own is not None and len(_foreign_to(own).intersection(low.split())) >= 2:
        return _ALL
    named = frozenset(_BY_NAME[name.lower()] for name in _NAMED.findall(question))
    return named | {_OF_SCRIPT[script] for script in _scripts(question)}


def language_of(text: str) -> str | None:
    """The language that most of a text is in, as a two-letter code; None where its words do not tell."""
    letters = _letters(text)
    script, most = letters.most_common(1)[0] if letters else ("", 0)
    latin = sum(map(str.isalpha, text[:MUCH])) - letters.total()
    if script == "han" and letters["kana"] > most / 10:
        return "ja"
    if script in ("han", "kana") and latin >= 2 * most and _is_sentence(text, "en"):
        return "en"
    if script and most > (0.15 if script in ("han", "kana") else 0.4) * (most + latin):
        return _OF_SCRIPT[script]
    return by_words(text)


def _unquoted(question: str) -> str:
    """Without what it quotes, if enough is left to tell its language by."""
    rest = _QUOTED.sub(" ", question)
    return rest if len(rest) > 20 else question


def _is_sentence(text: str, code: str) -> bool:
    """Whether a short text with a foreign word in it ("What does 一期一会 mean?") is in this language."""
    words = _WORD.findall(plain(text[:MUCH]))
    found = [word for word in words if word in WORDS[code]]
    return len(set(found)) >= 2 and len(found) >= 0.4 * len(words)


def by_words(text: str) -> str | None:
    """The language of Latin letters whose commonest words a text has most of, or None."""
    words = _WORD.findall(plain(text[:MUCH]))
    found = [word for word in words if word in _CODES]
    code, times = max(Counter(c for word in found for c in _CODES[word]).items(), key=lambda n: n[1], default=("", 0))
    different = len({word for word in found if code in _CODES[word]})
    return code if different >= OWN_DIFFERENT and times >= OWN_SHARE * len(words) else None


def _letters(text: str) -> Counter[str]:
    if text.isascii():
        return Counter()
    return Counter({s: sum(map(len, _RUNS[s].findall(text[:MUCH]))) for s in _scripts(text)})


def _scripts(text: str) -> Iterator[str]:
    """Other scripts than Latin that a text has letters of; Greek as words alone."""
    if text.isascii():
        return
    rest = text.encode("utf-8", "replace").translate(None, _ASCII).decode("utf-8", "replace")
    if _ANY.search(rest) or (_GREEK.search(rest) and _GREEK_WORD.search(text)):
        yield from (script for script, run in _RUNS.items() if run.search(rest))


def _other_script(text: str, own: str | None, about: frozenset[str], share: float) -> str | None:
    """Letters of a script that neither the language nor the question has, outside quotations."""
    if text.isascii():
        return None
    others = [s for s in _scripts(text) if s not in _ALLOWED.get(own or "", ())]
    if not others:
        return _no_kana(text) if own == "ja" else None
    letters = sum(map(str.isalpha, text))
    bare = _QUOTED.sub(" ", text)
    excused = {script for code in about for script in _ALLOWED.get(code, ())}
    for script in others:
        runs = [m for m in _RUNS[script].finditer(bare) if len(m[0]) >= _LEAST_RUN.get(script, _LEAST_LETTERS)]
        total = sum(len(m[0]) for m in _RUNS[script].finditer(text))
        if script == "greek" and sum(len(m[0]) for m in runs) < 12:
            continue
        if script in excused:
            if share < 1 and total > share * letters:
                return f"is for the most part in {script} letters, which the question is not"
        elif runs:
            return f"slips into {script} letters: “{around(bare, runs[0].start(), len(runs[0][0]))}”"
    return None


def _no_kana(text: str) -> str | None:
    han = sum(map(len, _RUNS["han"].findall(text)))
    return "is in Chinese, and the question in Japanese" if han >= 60 and not _RUNS["kana"].search(text) else None


def _other_words(
    vocabulary: Collection[str], prose: str, own: str | None, about: frozenset[str], share: float
) -> str | None:
    """Words in a row of another language of Latin letters; where the question is about languages, most of the text."""
    if own is None or len(_foreign_to(own).intersection(vocabulary)) < LEAST_DIFFERENT:
        return None
    if share >= 1 and about == _ALL:
        return None
    words = _words_of(prose)
    excused: dict[str, set[int]] = {}
    for run in _runs(words, own):
        if run.code in about:
            excused.setdefault(run.code, set()).update(run.marks)
            if share >= 1 or 2 * len(excused[run.code]) <= share * len(words):
                continue
        spoken = f"{NAMES[run.code].title()}, and should be in {NAMES[own].title()}"
        start, end = run.marks[0], run.marks[-1] + 1
        return f"has a passage in {spoken}: “{' '.join(words[max(0, start - 1) : max(end, start + 12)])}”"
    return None


def _words_of(prose: str) -> list[str]:
    """Words in lower case, but for those with a capital within a sentence, which are names and titles."""
    if "’" in prose:
        prose = prose.replace("’", "'")
    words, first = [], True
    for word in _WORD_OR_STOP.findall(prose):
        if word[0].isalpha():
            words.append(word.lower() if first else word)
            first = False
        else:
            first = True
    return words


@dataclass(frozen=True, slots=True)
class Run:
    """Words of another language so close together that RUNS calls it a passage: their places, and the language."""

    marks: Sequence[int]
    code: str


def _runs(words: Sequence[str], own: str) -> Iterator[Run]:
    foreign, mine = _foreign_to(own), _told_by(own)
    marks = [n for n, word in enumerate(words) if word in foreign or (own == "en" and _is_accented(word))]
    before = [0]
    for word in words if len(marks) >= LEAST_DIFFERENT else ():
        before.append(before[-1] + (word in mine))
    for least, within, different, most in RUNS:
        for first, last in zip(marks, marks[least - 1 :], strict=False):
            if last - first >= within or before[last] - before[first] > most:
                continue
            run = marks[bisect_left(marks, first) : bisect_left(marks, last) + 1]
            found = [words[n] for n in run]
            code, times = _spoken(found)
            if len(set(found)) >= different and times >= least - 1 - (least > 5) and times >= 3:
                yield Run(run, code)


def _spoken(words: Sequence[str]) -> tuple[str, int]:
    """The language that most of the words are of, and how many."""
    counts = Counter(code for word in words for code in _CODES.get(word, ()))
    return counts.most_common(1)[0] if counts else ("", 0)


def _is_accented(word: str) -> bool:
    return not word.isascii() and len(word) > 2 and word.islower() and all(c < "\u0250" or c > "\u1dff" for c in word)


def _is_not_english(reading: Reading) -> bool:
    """A chain of many words of which hardly one is English: in a language that no list here has."""
    english = WORDS["en"]
    if len(english.intersection(reading.chain_vocabulary)) > 12:
        return False
    words = _WORD.findall(reading.chain_prose)
    long = {word for word in words if len(word) > 2 and word.islower()}
    return len(long) >= ENGLISH_WORDS and sum(word in english for word in words) < ENGLISH_SHARE * len(words)


@cache
def _foreign_to(own: str | None) -> frozenset[str]:
    """The commonest words of all other languages that are none of this one."""
    mine = WORDS.get(own or "", frozenset())
    return frozenset(word for code, words in WORDS.items() if code != own for word in words) - mine


@cache
def _told_by(own: str) -> frozenset[str]:
    """Words that this language alone has."""
    others = frozenset(word for code, words in WORDS.items() if code != own for word in words)
    return WORDS.get(own, frozenset()) - others - (ENGLISH_ELSEWHERE if own == "en" else frozenset())
