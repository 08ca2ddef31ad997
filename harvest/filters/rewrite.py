r"""Rewrites an answer into the training format by rules: the chain, then the answer in the form that was asked for.

The rules cut tags of another layout, separate a chain from the answer that holds it, and drop greetings, headings and
farewells without a digit. They put a stated result into `\boxed{}` if a box was asked for, and tidy spaces outside
programs. They never add a word. At the end `keeps_all` compares the old text with the new text. If the content differs,
nothing is rewritten. What rules cannot bring into the format, a model may (harvest/judging/model_rewriting.py).

All functions are pure. The store keeps the answer as it came, and each rewriting starts again from that answer. The
example for this is Sky-T1, which had a language model rewrite its answers: Sky-T1's parser could then read over 90% of
the APPS answers instead of 25%.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harvest.answers.boxes import find_boxes, split_at_final_box
from harvest.answers.stated import find_stated
from harvest.core.chain_marks import CHAIN_MARKS, SOLUTION
from harvest.core.nouns import Candidate
from harvest.filters.content import NUMBER, Parts, keeps_all
from harvest.filters.reading import FENCE, Reading

VERSION = "2"
LEAST_CHAIN = 40
"""A text before the answer counts as a chain only if it has at least this many characters."""
LONGEST_RESULT, LONGEST_WORDS = 100, 60
"""A result with more than LONGEST_RESULT characters, or with more than LONGEST_WORDS if it is in words, is not put into
a box."""
MOST_MENTIONS = 8
"""At most this many occurrences of a stated result are tried, the last one first. If none fits, no box is added."""
MOST_ROUNDS = 6
"""All rules are applied in at most this many rounds, until a round changes nothing ("Sure! Sure! Here is…" takes two
rounds). An answer that needs more rounds stays as it is."""
MOST_FAREWELLS = 8
"""At most this many farewells in a row are cut. An answer with more farewells is a loop, and keeps all of them."""
_ANSWER_TAGS = {
    SOLUTION[0]: SOLUTION[1], "<answer>": "</answer>", "<final_answer>": "</final_answer>",
    "<solution>": "</solution>", "<output>": "</output>", "<response>": "</response>",
}  # fmt: skip
_MARK = r"[ \t]*+(?:[#>]{1,6}+[ \t]*+)?+[*_]{0,2}+[ \t]*+"
_COLON = r"[ \t]*+:?+[ \t]*+[*_]{0,2}+[ \t]*+:?+[ \t]*+\n++"
"""Matches the end of a heading. The quantifiers are possessive, so that a megabyte of spaces takes linear time."""
_CHAIN_HEADING = re.compile(
    rf"\A{_MARK}(?:(?:my |detailed |step[- ]by[- ]step )?(?:reasoning|thinking|thoughts?|thought process|analysis"
    r"|solution|explanation|approach|working|work|step[- ]by[- ]step)(?: process| steps| explanation| solution)?)"
    rf"{_COLON}",
    re.IGNORECASE,
)
_ANSWER_HEADING = re.compile(
    rf"^{_MARK}(?:the )?(?:final )?(?:answer|result|solution|output|code|conclusion|implementation)"
    rf"(?: code)?{_COLON}(?=\s*+\S)",
    re.IGNORECASE | re.MULTILINE,
)
_ANSWER_LINE = re.compile(
    rf"^{_MARK}(?:so,? |thus,? |therefore,? |hence,? )?(?:the )?(?:final |correct )?answer\b[^\n]{{0,300}}\Z",
    re.IGNORECASE | re.MULTILINE,
)
_LAST_WORD = re.compile(
    r"\n[ \t]*\n[ \t]*(?=(?:\*\*)?(?:so|thus|therefore|hence|in conclusion|in total|altogether|finally)\b[^\n]*\s*\Z)",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"\A\s*+(?:(?:sure(?: thing)?|certainly|of course|absolutely|great question|good question|hello|hi(?: there)?)"
    r"(?:[!.]++|,(?=\s*+(?:here|let|i'll|i will|i'd|i would)\b))\s*+)"
    r"(?:(?:here(?:'s| is| are)|let(?:'s| us| me)|i(?:'d| would|'ll| will))\b[^.!:\n\d]{0,120}[.!:]\s++)?"
    r"|\A\s*+(?:here(?:'s| is| are)|let(?:'s| us) (?:solve|work|go)) [^.!:\n\d]{0,80}(?:solution|answer|explanation"
    r"|step[- ]by[- ]step|breakdown|code)[^.!:\n\d]{0,40}[.!:]\s++",
    re.IGNORECASE,
)
_FAREWELL = re.compile(
    r"(?:\n+|(?<=[.!?])[ \t]+)[ \t]*(?:---+\s+)?[*_]{0,2}"
    r"(?:(?:i )?hope (?:this|that|it) (?:helps?|clarifies|is helpful)|(?:please )?(?:let me know|feel free)"
    r"|(?:please )?(?:don't|do not) hesitate|if you (?:have|need|want|would like|'d like)"
    r"|(?:i'm |i am )?happy (?:to help|coding|learning|studying|to assist)|good luck|is there anything else"
    r"|have a (?:great|nice|good) |would you like)\b[^\n\d]{0,200}\s*\Z",
    re.IGNORECASE,
)
_RULE = re.compile(r"(?:---+|\*\*\*+|___+)")
"""Matches a ruled line between chain and answer."""
_HEDGED = re.compile(
    r"\b(?:cannot|can't|may|might|could|would|maybe|perhaps|probably|possibly|not|no|n't|if|unless|about|around|roughly|than"
    r"|least|most|guess|between|nor|neither|wrong|incorrect|except|first|step)\b",
    re.IGNORECASE,
)
"""Matches words that make a last line uncertain. The number in such a line is not put into a box."""
_INVISIBLE = re.compile("[\u200b\u200c\u2060\ufeff]")


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A chain and an answer in the training format, and the names of the rules that changed them."""

    reasoning: str | None
    answer: str
    rules: tuple[str, ...]


def rewritten(candidate: Candidate) -> Rewritten | None:
    """Returns the candidate's chain and answer in the training format.

    Returns None when the rules change nothing, when they would change the content, or when they need more than
    MOST_ROUNDS rounds. A rewritten answer stays the same when it is rewritten again.
    """
    asked, is_code = Reading(candidate).asked, candidate.question.check == "code"
    came: Parts = (candidate.reasoning, candidate.answer)
    now, rules = came, dict[str, None]()
    for _ in range(MOST_ROUNDS):
        found = _round(now, asked, is_code, rules)
        if found == now:
            break
        now = found
    else:
        return None
    return Rewritten(*now, tuple(rules) or ("spaces",)) if now != came and keeps_all(came, now) else None


def _round(before: Parts, asked: str, is_code: bool, rules: dict[str, None]) -> Parts:
    """Applies every rule once and returns the new parts. Adds the names of the rules that changed them to `rules`."""
    untagged = _untagged(*before, asked)
    reasoning, answer = split = _split(*untagged, is_code)
    done = ["tags"] * (untagged != before) + ["split"] * (split != untagged)
    said = _without_courtesies(answer, done)
    if "\\boxed" in asked and not is_code and (boxed := _boxed(said)) is not None:
        said, done = boxed, [*done, "box"]
    if not done and not _is_untidy(reasoning or "") and not _is_untidy(said):
        return before
    rules.update(dict.fromkeys(done))
    return (_tidy(reasoning).strip() or None if reasoning is not None else None), _tidy(said).strip()


# ---- tags and sections


def _untagged(reasoning: str | None, answer: str, asked: str) -> Parts:
    """Returns (chain, answer) without the tags of another layout. A chain in tags is taken out of the answer."""
    if reasoning is not None and reasoning.strip():
        reasoning, answer = _unwrapped_ends(reasoning, answer)
    else:
        for opening, closing in CHAIN_MARKS:
            head, tag, tail = answer.rpartition(closing)
            before, _, chain = head.partition(opening) if opening in head else ("", "", head)
            if tag and chain.strip() and (not before.strip() or _is_courtesy(before)) and tail.strip():
                reasoning, answer = chain, tail
                break
    wrapped = next((opening for opening in _ANSWER_TAGS if answer.lstrip().startswith(opening)), None)
    return reasoning, answer if wrapped is None or wrapped in asked else _inside(answer, wrapped)


def _unwrapped_ends(reasoning: str, answer: str) -> tuple[str, str]:
    """Returns (chain, answer) without tags that were left around a separate chain and before the answer."""
    for opening, closing in CHAIN_MARKS:
        if reasoning.lstrip().startswith(opening) and reasoning.count(opening) == 1:
            reasoning = reasoning.lstrip().removeprefix(opening)
        if reasoning.rstrip().endswith(closing) and reasoning.count(closing) == 1:
            reasoning = reasoning.rstrip().removesuffix(closing)
        if answer.lstrip().startswith(closing) and answer.count(closing) == 1:
            answer = answer.lstrip().removeprefix(closing)
    return reasoning, answer


def _inside(answer: str, opening: str) -> str:
    """Returns the text inside the tags if one pair of tags encloses the whole answer; else the answer as it is."""
    closing, text = _ANSWER_TAGS[opening], answer.strip()
    whole = text.count(opening) == 1 and text.count(closing) == 1 and text.endswith(closing)
    inside = text.removeprefix(opening).removesuffix(closing)
    return inside if whole and inside.strip() else answer


def _split(reasoning: str | None, answer: str, is_code: bool) -> Parts:
    """Returns (chain, answer). If the answer begins with a chain, the text is cut in two: the chain, and the result at
    its end.

    If there is a separate chain, or no place to cut, both parts stay as they are.
    """
    if reasoning is not None and reasoning.strip():
        return reasoning, answer
    text = answer.strip()
    for at in _places(text, is_code):
        chain, rest = text[:at], text[at:]
        if is_code and "```" in chain:
            continue
        if len(chain.strip()) >= LEAST_CHAIN and rest.strip() and chain.count("```") % 2 == 0:
            chain = _CHAIN_HEADING.sub("", _GREETING.sub("", _unruled(chain), count=1), count=1)
            return (chain, rest) if len(chain.strip()) >= LEAST_CHAIN else (reasoning, answer)
    return reasoning, answer


def _unruled(chain: str) -> str:
    """Returns the chain without a ruled line at its end."""
    above, stop, last = chain.rstrip().rpartition("\n")
    return above.rstrip() if stop and _RULE.fullmatch(last.strip()) else chain


def _places(text: str, is_code: bool) -> Iterator[int]:
    """Yields the indices of the characters at which the answer may begin, the most certain one first."""
    if is_code:
        fences = list(FENCE.finditer(text))
        if len(fences) == 1:
            heading = list(_ANSWER_HEADING.finditer(text, 0, fences[0].start()))
            is_above = heading and not text[heading[-1].end() : fences[0].start()].strip()
            yield heading[-1].start() if is_above else fences[0].start()
        return
    tail = max(0, len(text) - 4000)
    headings = list(_ANSWER_HEADING.finditer(text, tail))
    if headings:
        yield headings[-1].start()
    if (cut := split_at_final_box(text)) is not None:
        yield len(cut[0])
    for pattern in (_ANSWER_LINE, _LAST_WORD):
        if found := list(pattern.finditer(text, max(0, len(text) - 600))):
            yield found[-1].start()


# ---- courtesies


def _without_courtesies(answer: str, rules: list[str]) -> str:
    """Returns the answer without a greeting, without farewells and without a heading at its top.

    The names of the parts that were cut are added to `rules`.
    """
    said = answer
    for name, pattern in (("greeting", _GREETING), ("heading", _CHAIN_HEADING)):
        shorter = pattern.sub("", said, count=1)
        if shorter != said and shorter.strip():
            said = shorter
            rules.append(name)
    shorter = said
    for _ in range(MOST_FAREWELLS):
        if (found := _last_farewell(shorter)) is None:
            break
        shorter = shorter[:found].rstrip()
    if shorter == said or _last_farewell(shorter) is not None:
        return said
    rules.append("farewell")
    return shorter


def _last_farewell(said: str) -> int | None:
    found = _FAREWELL.search(said, max(0, len(said) - 260))
    return found.start() if found is not None and said[: found.start()].strip() else None


def _is_courtesy(text: str) -> bool:
    return len(text) < 200 and not _GREETING.sub("", text.strip() + " ").strip()


# ---- the box


def _boxed(answer: str) -> str | None:
    r"""Returns the answer with `\boxed{}` around the result that it states.

    Returns None when the answer has a box already, or states no clear result.
    """
    if "\\boxed" in answer or "\\fbox" in answer:
        return None
    stated = find_stated(answer)
    if stated.value is None or stated.also is not None or len(stated.value) > LONGEST_RESULT or "\n" in stated.value:
        return None
    value = stated.value
    if (at := _place_of(value, answer)) is None:
        return None
    if stated.how == "last line":
        line = answer[at : at + len(value)]
        numbers = list(NUMBER.finditer(line))
        if len(numbers) != 1 or _HEDGED.search(line):
            return None
        at, value = at + numbers[0].start(), numbers[0][0]
        if line[numbers[0].end() :].startswith(("%", "/", "^", ":")):
            return None
    if any(m.start() <= at < m.end() for m in FENCE.finditer(answer)):
        return None
    if (inside := _as_maths(value)) is None:
        return None
    before, after = answer[:at], answer[at + len(value) :]
    while before.endswith("`") and after.startswith("`"):
        before, after = before[:-1], after[1:]
    boxed = f"{before}\\boxed{{{inside}}}{after}"
    found, unclosed = find_boxes(boxed)
    return boxed if found and unclosed is None and find_stated(boxed).how == "boxed" else None


def _place_of(value: str, answer: str) -> int | None:
    """Returns the index in `answer` of the last `value` that is stated as a result; None if none is.

    A `value` is stated as a result if another text in its place would change the answer's result. A `value` inside a
    longer word or number does not count.
    """
    at = len(answer)
    for _ in range(MOST_MENTIONS):
        at = answer.rfind(value, 0, at + len(value) - 1)
        if at < 0:
            return None
        end = at + len(value)
        is_part = any(
            len(two) == 2 and two.isalnum() for two in (answer[max(0, at - 1) : at + 1], answer[end - 1 : end + 1])
        )
        if not is_part and find_stated(f"{answer[:at]}zz{answer[end:]}").value != value:
            return at
    return None


_QUANTITY = re.compile(r"([-+\N{MINUS SIGN}]?\$?\d[\d.,]*(?:/\d+)?)([ \t]*(?:%|[A-Za-z][A-Za-z .-]*))?")
_BARE_POWER = re.compile(r"[\^_]\s*-?[0-9A-Za-z]{2}")
"""Matches a power without braces, such as 2^10. In a box, LaTeX would print it as 2¹0."""
_WORDS = re.compile(r"[A-Za-z(][A-Za-z0-9 ,.'()+-]*")


def _as_maths(value: str) -> str | None:
    """Returns a stated result in the form that it has in a box: words stand in `\\text{}`.

    Returns None when the result is no number, no formula and no words.
    """
    if found := _QUANTITY.fullmatch(value):
        number, unit = found[1].replace("$", "\\$"), found[2] or ""
        if unit.strip() == "%":
            return number + "\\%"
        return number + (f"\\text{{{unit}}}" if unit else "")
    is_formula = re.fullmatch(r"[\w+\-*/^=<>().,:;!| ]{1,40}", value) and not re.search(r"[A-Za-z]{2}", value)
    if _BARE_POWER.search(value):
        return None
    if "\\" in value or is_formula:
        balanced = value.count("{") == value.count("}")
        return value if balanced and "$" not in value and "%" not in value.replace("\\%", "") else None
    return f"\\text{{{value}}}" if len(value) <= LONGEST_WORDS and _WORDS.fullmatch(value) else None


# ---- spaces


def _is_untidy(text: str) -> bool:
    return "\r" in text or "\n\n\n\n" in text or bool(_INVISIBLE.search(text))


def _tidy(text: str) -> str:
    """Returns the text with one kind of line break, without spaces before line breaks, and without double empty lines.

    Programs stay byte for byte.
    """
    if "```" not in text and "~~~" not in text:
        return _tidy_prose(text)
    pieces, at = [], 0
    for fence in FENCE.finditer(text):
        pieces += [_tidy_prose(text[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*pieces, _tidy_prose(text[at:])])


def _tidy_prose(text: str) -> str:
    *lines, last = _INVISIBLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join([*(line.rstrip(" \t") for line in lines), last]))
