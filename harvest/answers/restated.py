"""Tells whether a text states the gold answer in other words that add nothing: a sentence in the question's words, a
name without its middle name, a company without its form, the adjective of a country, a city with its country."""

import re

from harvest.answers.noun_phrases import normal, same_thing
from harvest.answers.words import hedges

_EMPTY = """
    a an the of in on at by to for from with as that which who whom whose this these those it its he she they his her
    their is are was were be been being has have had does did do so both there took place occurred happened than
"""
_SAY_NOTHING = frozenset(_EMPTY.split())
_COMPANY = re.compile(r" (?:corp|corporation|company|co|inc|incorporated|ltd|limited|llc|plc|gmbh|ag)$")
_PERSON = re.compile(
    r"\b(?:who|whom|whose|actor|actress|singer|songwriter|musician|composer|artist|painter|writer|author|poet|director|"
    r"player|coach|scientist|physicist|philosopher|president|governor|mayor|politician|king|queen|archbishop|winner|star|"
    r"host|founder|inventor|captain)\b",
    re.IGNORECASE,
)
_PLACE = re.compile(r"\b(?:where|city|town|village|county|located|headquartered|based)\b", re.IGNORECASE)
_ORDER = re.compile(r"\b(?:order|sort|rank|arrange|sequence|first|last|respectively|from)\b", re.IGNORECASE)
_LEADS = re.compile(r"^(at|in|on|by|from|to|of|born) (?:the |an? )?(?=\S)")
_LIE_AT = frozenset(("at", "in", "on", "born"))
_NATION = re.compile(r"\b(?:nationality|nationalities|country|ancestry|origin|descent)\b", re.IGNORECASE)
_OF_A_NATION = frozenset(("", "n", "a", "y", "e", "an", "ian", "ine", "ean", "ese", "ish", "i", "ic"))
_DENIES = re.compile(r"\b(?:not|never|no|except|neither|nor|without)\b|n't\b", re.IGNORECASE)


def restates(gold: str, stated: str, question: str) -> bool:
    """Whether `stated` names the same thing as the gold answer, by one of the rules above."""
    gold = re.sub(r"\s+\([^()]*\)\s*$", "", gold)
    wanted, said = _COMPANY.sub("", normal(gold)), _COMPANY.sub("", normal(stated))
    if not wanted or not said or re.fullmatch(r"[\d.,]+", wanted):
        return False
    if _LEADS.sub("", said) == _LEADS.sub("", wanted) and not hedges(stated):
        leads = {lead[1] for text in (said, wanted) if (lead := _LEADS.match(text)) is not None}
        return len(leads) < 2 or leads <= _LIE_AT  # "from Paris" is not "to Paris"
    return (
        same_thing(gold, stated, question)
        or (re.fullmatch(r"[\w' -]+", gold) is not None and same_thing(stated, gold, question))
        or _is_of_the_kind(gold, said, question)
        or _same_list(gold, stated, question)
        or _same_person(gold, stated, question)
        or _same_nation(wanted, said, question)
        or _same_place(gold, stated, question)
        or _in_the_question_s_words(wanted, stated, question)
    )


def _is_of_the_kind(gold: str, said: str, question: str) -> bool:
    """Whether the gold answer is `said` with the kind that was asked for: "English-language" is "English"."""
    core, hyphen, kind = gold.rpartition("-")
    return bool(hyphen) and normal(core) == said and {*normal(kind).split()[:1]} <= {*normal(question).split()}


def _same_list(gold: str, stated: str, question: str) -> bool:
    """Whether both list the same things: "red, green and blue" and "red, green, blue". If the question may ask for an
    order, it is the same one."""
    ours, theirs = ([part for part in map(normal, re.split(r"[,;&]|\band\b", text)) if part] for text in (gold, stated))
    if not _ORDER.search(question):
        ours, theirs = sorted(ours), sorted(theirs)
    return len(ours) > 1 and ours == theirs and not hedges(stated)


def _same_person(gold: str, stated: str, question: str) -> bool:
    """Whether one is the other's name without what stands in its middle: "Desmond Tutu" and "Desmond Mpilo Tutu"."""
    names = sorted((gold.split(), stated.split()), key=len)
    if not _PERSON.search(question) or not all(word[:1].isupper() for name in names for word in name):
        return False
    short, long = ([normal(word) for word in name] for name in names)
    return len(short) == 2 < len(long) <= 4 and short == [long[0], long[-1]]


def _same_nation(wanted: str, said: str, question: str) -> bool:
    """Whether one is the adjective of the other, after a question for a country: "Armenian" and "Armenia"."""
    if not _NATION.search(question) or " " in wanted + said:
        return False
    same = next((n for n, (a, b) in enumerate(zip(wanted, said, strict=False)) if a != b), min(len(wanted), len(said)))
    return same > 3 and {wanted[same:], said[same:]} <= _OF_A_NATION


def _same_place(gold: str, stated: str, question: str) -> bool:
    """Whether one is the other with what it lies in: "Mumbai" and "Mumbai, Maharashtra", after a question where."""
    short, long = sorted((gold, stated), key=len)
    place, comma, around = long.partition(",")
    is_name = all(word[:1].isupper() for word in around.split())
    return bool(_PLACE.search(question) and comma and is_name) and normal(place) == normal(short) and "," not in around


def _in_the_question_s_words(wanted: str, stated: str, question: str) -> bool:
    """Whether a sentence holds the gold answer, and all its other words are the question's or say nothing.

    If the question itself names the gold answer as one of several, the sentence must begin with it.
    """
    if hedges(stated) or _DENIES.search(question):
        return False
    asked = f" {normal(question)} "
    for phrase in (wanted,) if " " in wanted else (wanted, f"{wanted}s"):
        before, found, after = f" {normal(stated)} ".partition(f" {phrase} ")
        if not found:
            continue
        chosen = f" {phrase} " in asked
        if _lists(before, after):
            return False
        known = {*_SAY_NOTHING, *asked.split()}
        return not (chosen and before.strip()) and all(_is_known(w, known) for w in f"{before} {after}".split())
    return False


def _is_known(word: str, known: set[str]) -> bool:
    """Whether a word, its singular or plural, or the superlative of a comparative is known."""
    forms = {word, word.removesuffix("s"), f"{word}s", "most" if word == "more" else word}
    return bool(known & (forms | ({f"{word[:-2]}est"} if word.endswith("er") else set())))


def agrees(gold: str, stated: str, beside: str) -> bool:
    """Whether a second statement does not contradict `stated`, which is right: it names the same thing, or it is the
    beginning of `stated` and broke off, or it says nothing."""
    words = normal(beside)
    if hedges(beside):
        return False
    if normal(stated).startswith(words) or {*words.split()} <= _SAY_NOTHING:
        return True
    for phrase in (gold, stated):
        before, found, after = f" {words} ".partition(f" {normal(phrase)} ")
        if found and not _lists(before, after):
            return True
    return False


def _lists(before: str, after: str) -> bool:
    """Whether what stands around a phrase makes it one of several."""
    return bool(re.search(r" (?:and|or)(?: the)?$", before.rstrip())) or after.startswith(("and ", "or "))
