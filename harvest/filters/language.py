"""The filter `language` refuses chains and answers that are not wholly in the language of the question.

The script says most: a Chinese word in an English sentence is foreign. A language in Latin letters is recognized by its
commonest words (words.txt). A passage is foreign if it holds many common words of another language and few common words
of the language of the question. Names, formulas, quotations and single terms hold hardly any common words. An answer to
a question about another language may use words of that language.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harvest.core.config import Filters
from harvest.filters.phrases import around
from harvest.filters.reading import Reading, Text, plain

_LISTS = {
    heading: words.split()
    for heading, words in re.findall(
        r"^\[(.+)\]\n([^\[]*)", Path(__file__).with_name("words.txt").read_text("utf-8"), re.M
    )
}
WORDS = {heading.split()[0]: frozenset(words) for heading, words in _LISTS.items()}
"""Maps the two-letter code of each language in Latin letters to the commonest words of that language."""
_ELSEWHERE = """a all also am an are as do for give go had half has he her i im in is let me most my no of okay on once
        one or over per problem question six so sum ten to total under was we will"""
ENGLISH_ELSEWHERE = frozenset(_ELSEWHERE.split())
"""English words that another language has too. They are no sign of English, although only the English list has them."""
NAMES = dict(name.split() for name in _LISTS) | {
    "zh": "chinese", "ja": "japanese", "ko": "korean", "ru": "russian", "ar": "arabic", "he": "hebrew", "th": "thai",
    "hi": "hindi", "el": "greek", "ka": "georgian", "hy": "armenian", "am": "amharic",
}  # fmt: skip
"""Maps the code of each language that the filter knows to the name of the language.

The filter knows a language by its words or by its script."""

RUNS = ((3, 3, 3, 0), (4, 6, 4, 0), (5, 12, 4, 1), (8, 36, 5, 4))
"""Each row describes passages that are foreign. A row is (how many common words of other languages the passage has at
least, the most words of the passage, how many of the foreign words are different at least, how many common words of the
text's own language it has at most)."""
OWN_SHARE, OWN_DIFFERENT = 0.08, 3
"""A text is in a language if at least OWN_SHARE of its words, and OWN_DIFFERENT different words, are common words of
that language."""
MUCH = 8_000
"""A text's language is found from its first MUCH characters."""
LEAST_DIFFERENT = 3
"""A text has no foreign passage if it holds fewer different common words of other languages than this."""
ENGLISH_SHARE, ENGLISH_WORDS = 0.04, 20
"""A chain is not English if it has at least ENGLISH_WORDS different long words and less than ENGLISH_SHARE of all its
words are common English words."""

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
_GREEK_WORD = re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]{4,}")
_LEAST_RUN = {"thai": 4, "greek": 4}
"""Maps a script to the number of its letters in a row that count as a word. Other scripts need 2 letters."""
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
    own = wanted or language_of(_unquoted(question)) or language_of(reading.asked) or by_words(reading.chain.whole)
    if (found := _fault(reading, own, frozenset(), 0.5)) is None:
        return None
    about = _languages_in(question, reading.question_plain, own)
    most = 1.0 if _TRANSLATES.search(question) or _IN_ENGLISH.search(question) else 0.5
    return _fault(reading, own, about, most) if about else found


def _fault(reading: Reading, own: str | None, about: frozenset[str], share: float) -> str | None:
    """Returns the fault in words if something is foreign to the language `own`; None if nothing is.

    The languages in `about` may make up at most `share` of the chain, and all of the answer.
    """
    for text, most in ((reading.chain, share), (reading.answer, 1.0)):
        if found := _other_script(text.prose, own, about, most) or _other_words(text, own, about, most):
            return f"the {text.name} {found}"
    if own == "en" and about != _ALL and _is_not_english(reading):
        return "the chain does not read as English"
    return None


def _languages_in(question: str, low: str, own: str | None) -> frozenset[str]:
    """Returns the codes of the languages that a question may be about.

    These are the languages that the question names (even in "a Turkish restaurant"), and the languages whose letters it
    holds. If the question speaks of translating or the like, or holds foreign words itself, all languages are returned.
    """
    if _ABOUT_LANGUAGE.search(question) or (own != "en" and _IN_ENGLISH.search(question)):
        return _ALL
    if own is not None and len(_foreign_to(own).intersection(low.split())) >= 2:
        return _ALL
    named = frozenset(_BY_NAME[name.lower()] for name in _NAMED.findall(question))
    return named | {_OF_SCRIPT[script] for script in _scripts(question)}


def language_of(text: str) -> str | None:
    """Returns the two-letter code of the language that most of a text is in; None if the text does not tell."""
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
    """Returns the question without its quotations; the whole question if too little would be left."""
    rest = _QUOTED.sub(" ", question)
    return rest if len(rest) > 20 else question


def _is_sentence(text: str, code: str) -> bool:
    """Whether a short text is a sentence of the language `code` with a foreign word ("What does 一期一会 mean?")."""
    words = _WORD.findall(plain(text[:MUCH]))
    found = [word for word in words if word in WORDS[code]]
    return len(set(found)) >= 2 and len(found) >= 0.4 * len(words)


def by_words(text: str) -> str | None:
    """Returns the code of the language (in Latin letters) that has the most common words in the text.

    Returns None when the text has too few of them.
    """
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
    """Yields each script, except Latin, of which the text has letters. Greek counts only as words, not as symbols."""
    if text.isascii():
        return
    rest = text.encode("utf-8", "replace").translate(None, bytes(range(128))).decode("utf-8", "replace")
    if _ANY.search(rest) or (_GREEK.search(rest) and _GREEK_WORD.search(text)):
        yield from (script for script, run in _RUNS.items() if run.search(rest))


def _other_script(text: str, own: str | None, about: frozenset[str], share: float) -> str | None:
    """Returns what is wrong with the scripts of a text, in words; None if nothing is wrong.

    A text is at fault if it has, outside quotations, letters of a script that belongs neither to its language nor to
    the languages in `about`; or if more than `share` of its letters are in a script of a language in `about`.
    """
    if text.isascii():
        return None
    others = [s for s in _scripts(text) if s not in _ALLOWED.get(own or "", ())]
    if not others:
        is_chinese = own == "ja" and sum(map(len, _RUNS["han"].findall(text))) >= 60 and not _RUNS["kana"].search(text)
        return "is in Chinese, and the question in Japanese" if is_chinese else None
    letters = sum(map(str.isalpha, text))
    bare = _QUOTED.sub(" ", text)
    excused = {script for code in about for script in _ALLOWED.get(code, ())}
    for script in others:
        runs = [m for m in _RUNS[script].finditer(bare) if len(m[0]) >= _LEAST_RUN.get(script, 2)]
        total = sum(len(m[0]) for m in _RUNS[script].finditer(text))
        if script == "greek" and sum(len(m[0]) for m in runs) < 12:
            continue
        if script in excused:
            if share < 1 and total > share * letters:
                return f"is for the most part in {script} letters, which the question is not"
        elif runs:
            return f"slips into {script} letters: “{around(bare, runs[0].start(), len(runs[0][0]))}”"
    return None


def _other_words(text: Text, own: str | None, about: frozenset[str], share: float) -> str | None:
    """Returns a description of the first passage in another language of Latin letters; None if there is none.

    A language in `about` is foreign only if it makes up more than `share` of the text.
    """
    if own is None or len(_foreign_to(own).intersection(text.vocabulary)) < LEAST_DIFFERENT:
        return None
    if share >= 1 and about == _ALL:
        return None
    words = _words_of(text.prose)
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
    """Returns the words in lower case. A capital inside a sentence stays: the word is part of a name or title."""
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
    """A foreign passage. `marks` are the positions of its foreign words in the text; `code` is its language."""

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
    """Returns (the code of the language to which most of the words belong, how many words belong to it)."""
    counts = Counter(code for word in words for code in _CODES.get(word, ()))
    return counts.most_common(1)[0] if counts else ("", 0)


def _is_accented(word: str) -> bool:
    return not word.isascii() and len(word) > 2 and word.islower() and all(c < "\u0250" or c > "\u1dff" for c in word)


def _is_not_english(reading: Reading) -> bool:
    """Whether a chain has many words but hardly any common English word.

    Such a chain may be in a language for which words.txt has no list.
    """
    english = WORDS["en"]
    if len(english.intersection(reading.chain.vocabulary)) > 12:
        return False
    words = _WORD.findall(reading.chain.prose)
    long = {word for word in words if len(word) > 2 and word.islower()}
    return len(long) >= ENGLISH_WORDS and sum(word in english for word in words) < ENGLISH_SHARE * len(words)


@cache
def _foreign_to(own: str | None) -> frozenset[str]:
    """Returns the common words of all other languages that are not common in the language `own`."""
    mine = WORDS.get(own or "", frozenset())
    return frozenset(word for code, words in WORDS.items() if code != own for word in words) - mine


@cache
def _told_by(own: str) -> frozenset[str]:
    """Returns the common words of the language `own` that are common in no other language."""
    others = frozenset(word for code, words in WORDS.items() if code != own for word in words)
    return WORDS.get(own, frozenset()) - others - (ENGLISH_ELSEWHERE if own == "en" else frozenset())
