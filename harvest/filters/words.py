"""The commonest words of languages in Latin letters (words.txt), by which the filter `language` knows a language."""

import re
from pathlib import Path

_LISTS = {
    heading: words.split()
    for heading, words in re.findall(
        r"^\[(.+)\]\n([^\[]*)", Path(__file__).with_suffix(".txt").read_text("utf-8"), re.M
    )
}
WORDS = {heading.split()[0]: frozenset(words) for heading, words in _LISTS.items()}
"""The words of each language, by its two-letter code."""
_ELSEWHERE = """a all also am an are as do for give go had half has he her i im in is let me most my no of okay on once
        one or over per problem question six so sum ten to total under was we will"""
ENGLISH_ELSEWHERE = frozenset(_ELSEWHERE.split())
"""English words that another language has too. They stand in the English list alone, and do not count as English."""
NAMES = dict(name.split() for name in _LISTS) | {
    "zh": "chinese", "ja": "japanese", "ko": "korean", "ru": "russian", "ar": "arabic", "he": "hebrew", "th": "thai",
    "hi": "hindi", "el": "greek", "ka": "georgian", "hy": "armenian", "am": "amharic",
}  # fmt: skip
"""The name of each language that the filter knows, by its own words or by its script."""
