"""The language of a chain and its answer: another than the question's, or one that it slips into.

Scripts tell most: a Chinese word in an English sentence. Languages in Latin letters are told by their commonest words
(harvest/filters/words.py), a sentence or a paragraph at a time: it is foreign where it has many of them, and few of its
own language's. Names, formulas, quotations and single terms have none. What a question about another
language needs, passes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from harvest.config import Filters
from harvest.filters.phrases import around
from harvest.filters.reading import Reading, plain
from harvest.filters.words import NAMES, WORDS

PASSAGES = ((12, 5, 4, 5.0), (36, 8, 5, 2.0))
"""Words in a row; how many of them are other languages' commonest, how many different ones, and how many times as many
as of its own: a sentence, and a paragraph of a language that does with few such words."""
OWN_SHARE, OWN_DIFFERENT = 0.08, 3
"""What makes a text be in a language: of its words, and how many different ones."""

MUCH = 8_000
"""Characters that tell what language a text is in."""
SHORT = 12
"""Words of a text of which three are enough."""
LEAST_DIFFERENT = 3
"""Of a whole text: with fewer of other languages' words there is nothing to look for."""

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
_LEAST_LETTERS = 3
_QUOTED = re.compile(
    "[\"“„«「『][^\"“”„«»「」『』\n]{1,120}[\"”“»」』]|(?<!\\w)['‘‚][^'‘’‚\n]{1,120}['’](?!\\w)"
    "|[(（][^()（）\n]{1,120}[)）]|`[^`\n]{1,120}`"
)
_ABOUT_LANGUAGE = re.compile(
    r"\b(?:translat\w*|languages?|linguistic\w*|vocabulary|alphabet|kanji|hiragana|katakana|pinyin|hanzi|cyrillic|idiom"
    r"|etymology|palindromes?|romani[sz]\w*|transliterat\w*|pronounc\w*|words? (?:for|meaning)|unicode"
    r"|spell(?:ed|ing|s)?)\b",
    re.IGNORECASE,
)
_BY_NAME = {name: code for code, name in NAMES.items() if code != "en"}
_NAMED = re.compile(rf"\b(?:{'|'.join(_BY_NAME)})\b", re.IGNORECASE)
_ALL = frozenset(NAMES)
_CODES: dict[str, list[str]] = {}
for _code, _words in WORDS.items():
    for _word in _words:
        _CODES.setdefault(_word, []).append(_code)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")


def language(reading: Reading, settings: Filters) -> str | None:
    question = reading.question.question
    wanted = settings.language if settings.language != "question" else None
    own = wanted or language_of(question) or language_of(reading.asked) or by_words(reading.chain)
    if (found := _fault(reading, own, frozenset())) is None:
        return None
    about = _languages_in(question, reading.question_plain, own)
    return _fault(reading, own, about) if about else found


def _fault(reading: Reading, own: str | None, about: frozenset[str]) -> str | None:
    """`about` are languages that may be half of the chain, and all of the answer."""
    for where, text, low, words, share in (
        ("chain", reading.chain_prose, reading.chain_plain, reading.chain_vocabulary, 0.5),
        ("answer", reading.answer_prose, reading.answer_plain, reading.answer_words, 1.0),
    ):
        if found := _other_script(text, own, about, share) or _other_words(words, low, own, about, share):
            return f"the {where} {found}"
    return None


def _languages_in(question: str, low: str, own: str | None) -> frozenset[str]:
    """The languages that a question is about, as far as its words tell: those that it names ("a Turkish restaurant" is
    Turkish too) or has letters of; all, where it speaks of translating or the like, or has foreign words itself."""
    if _ABOUT_LANGUAGE.search(question):
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
    if script and most > (0.15 if script in ("han", "kana") else 0.4) * (most + latin):
        return _OF_SCRIPT[script]
    return by_words(text)


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
            if total > share * letters:
                return f"is for the most part in {script} letters, which the question is not"
        elif runs:
            return f"slips into {script} letters: “{around(bare, runs[0].start(), len(runs[0][0]))}”"
    return None


def _no_kana(text: str) -> str | None:
    han = sum(map(len, _RUNS["han"].findall(text)))
    return "is in Chinese, and the question in Japanese" if han >= 60 and not _RUNS["kana"].search(text) else None


def _other_words(
    vocabulary: Iterable[str], text: str, own: str | None, about: frozenset[str], share: float
) -> str | None:
    """A passage in another language of Latin letters; where the question is about languages, most of the text."""
    foreign = _foreign_to(own)
    if own is None or len(foreign.intersection(vocabulary)) < LEAST_DIFFERENT:
        return None
    words = _WORD.findall(text)
    mine = WORDS.get(own, frozenset())
    for size, least, different, times in PASSAGES if len(words) >= SHORT else ((SHORT, 3, 3, 9.0),):
        passages = list(_passages(words, size))
        others = [p for p in passages if _is_foreign(p, foreign, mine, least, different, times)]
        if not others:
            continue
        found = [w for passage in others for w in passage if w in foreign]
        code = max(WORDS, key=lambda c: (c != own) * sum(w in WORDS[c] for w in found))
        if code not in about or len(others) > share * len(passages):
            spoken = f"{NAMES[code].title()}, and should be in {NAMES[own].title()}"
            return f"has a passage in {spoken}: “{' '.join(others[0][:16])}”"
    return None


def _is_foreign(
    passage: Sequence[str], foreign: frozenset[str], mine: frozenset[str], least: int, different: int, times: float
) -> bool:
    found = [w for w in passage if w in foreign]
    return (
        len(found) >= least and len(set(found)) >= different and len(found) >= times * sum(w in mine for w in passage)
    )


def _passages(words: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """`size` words in a row, from every fourth part of it; all of a shorter text."""
    yield words[:size]
    for start in range(size // 2, len(words) - size // 2, size // 4):
        yield words[start : start + size]


@cache
def _foreign_to(own: str | None) -> frozenset[str]:
    """The commonest words of all other languages that are none of this one."""
    mine = WORDS.get(own or "", frozenset())
    return frozenset(word for code, words in WORDS.items() if code != own for word in words) - mine
