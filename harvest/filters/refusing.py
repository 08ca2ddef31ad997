"""The filter `refusal` refuses answers in which the teacher says that it will not answer or may not answer.

"I can't help with that" is a refusal; "I can't measure 4 litres with these jugs" is a result. The words after "I can't"
decide: help, comply, answer your request. Of the chain, only the beginning and the end are searched, because in between
a model talks to itself ("I'm sorry, I can't see it").
"""

import re

from harvest.filters.phrases import around, matches, phrases
from harvest.filters.reading import Reading, Text

_CANNOT = (
    r"(?:can(?:no|')t|can not|could ?n[o']t|won't|will not"
    r"|(?:(?:am|are) )?(?:not able|unable|not allowed|not permitted|not going|not willing|unwilling)(?: to| with)?"
    r"|(?:do not|don't) (?:feel (?:comfortable|able)|have the (?:ability|capability))(?: to)?)"
)
_NOT = (
    rf"(?:{_CANNOT}"
    r"|must(?: respectfully)? (?:decline|refuse)(?: to)?|(?:have|need) to (?:decline|refuse)(?: to)?)"
)
_SELF = r"\b(?:i|we|this assistant)(?: am|'m| are|'re)?(?: sorry,?)?(?: but)?(?: i| we)?"
_ADVERB = (
    r"(?:,? (?:really|simply|just|currently|ethically|in good conscience|directly|personally|unfortunately|be able"
    r"|legally|responsibly|and will not|and won't|or will not),?)?(?: to)?"
)
_HELP = (
    r"(?:help|assist|comply|oblige|ful+fil+|engage|accommodate|participate|continue with|proceed with|support|helping"
    r"|assisting|complying|providing|answering|discussing|responding)"
)
_GIVE = (
    r"(?:answer|provide|give|offer|discuss|respond to|share|do|create|generate|produce|write|complete|solve|process"
    r"|disclose|reveal|talk about)"
)
_RESULT = (
    r"(?! (?:you )?(?:an?|the|any) (?:single |more )?(?:definitive|definite|exact|precise|unique|closed|numerical"
    r"|numeric|general|specific|simple|better|formula|proof|counterexample|example)\b)"
)
"""Excludes results such as "I can't give a closed formula": nobody can give what does not exist."""
_SERVE = (
    r"(?:help|assist|comply|oblige|ful+fil+|satisfy|engage|answer|provide|give|offer|share|discuss|respond|generate|create"
    r"|produce|recommend|suggest|advise|endorse|condone|promote|encourage|support|speak|comment|disclose|reveal|talk)\b"
    rf"{_RESULT}"
)
_REQUEST = (
    r"(?:(?:assistance|advice|help|information)\b"
    r"|(?:with )?(?:an? |any |the |your |you |that|this|these|those|such|questions (?:of|like) )[^.!?\n]{0,60}?"
    r"(?:request|question|topic|task|prompt|query|information|content|advice|assistance|help|problem"
    r"|answer to (?:this|that|your)|details|instructions|solution|inquiry|matter|response|for you|kind|sort|like this"
    r"|like that)\b)"
)
_TROUBLE = r"can(?:no|')t|unable|not able|won't|will not|must|not allowed"
_MACHINE = rf"(?:{_TROUBLE}|decline)"
_RULES = r"(?:\w+ )?(?:guidelines|polic(?:y|ies)|principles|programming|values)\b"
_ANCHORS = (
    "can't|cannot|can not|couldn't|could not|won't|will not|not able|unable|not allowed|not permitted|not going"
    "|not willing|unwilling|decline|refuse|feel comfortable|feel able|have the ability|have the capability"
)
_PHRASES = phrases(
    (
        (_ANCHORS, rf"{_SELF} {_NOT}{_ADVERB} {_HELP}\b(?! (?:it|but|noticing|wondering|feeling|thinking)\b)"),
        (_ANCHORS, rf"{_SELF} {_NOT}{_ADVERB} {_GIVE}{_RESULT} {_REQUEST}"),
        (
            _ANCHORS,
            rf"{_SELF} {_NOT}{_ADVERB} (?:answer|discuss|do|provide|solve|complete|respond to) (?:that|this)\b"
            r"(?=[.,!;]|\n|$| (?:one|for you|here)\b)",
        ),
        (
            "not allowed|not permitted|not willing|unwilling",
            rf"\bi(?: am|'m) (?:not (?:allowed|permitted|willing)|unwilling) to {_SERVE}",
        ),
        (
            "sorry",
            rf"\bsorry,? (?:but )?(?:as an ai,? )?(?:i|we|this is)(?: am|'m)? (?:\w+ )?(?:{_TROUBLE}|not something"
            r"|something i can(?:no|')t|beyond)[^.!?\n]{0,40}?\b(?:help|assist|answer|provid|comply|discuss|request"
            r"|fulfil|engage|do that|do this|continue|respond)",
        ),
        (
            "apologize|apologise|apologies",
            r"\b(?:i|we|my) (?:sincerely |deeply )?apolog(?:i[sz]e|ies),? (?:for [^.\n]{0,40},? )?but (?:i|we)"
            rf"(?: am|'m)? (?:\w+ )?(?:{_TROUBLE})",
        ),
        ("as an ai", rf"\bas an ai\b[^.!?\n]{{0,80}}?\b{_MACHINE}"),
        ("language model", rf"\b(?:as|i am|i'm) an?(?: ai| large)* language model\b[^.!?\n]{{0,80}}?\b{_MACHINE}"),
        ("against my|against our|against openai's", rf"\b(?:goes|is|be|go) against (?:my|our|openai's) {_RULES}"),
        (
            "violates|violate|violating",
            rf"\bviolat(?:e|es|ing) (?:my|our|openai's|the (?:usage|content|safety)) {_RULES}",
        ),
        (
            "my guidelines|our guidelines|my policies|our policies|our policy|my programming|my principles",
            rf"\b(?:my|our) {_RULES} (?:do(?:es)? not|don't|doesn't|prevents?|forbids?|prohibits?|restricts?)\b",
        ),
        ("within my", r"\bnot (?:within|part of) my (?:programming|capabilit|abilit|guidelines|scope)"),
        (
            "programmed|designed",
            r"\bi(?: am|'m) (?:programmed|designed) to (?:be|provide) [^.!?\n]{0,40}\b(?:harmless|safe)\b",
        ),
        (
            "for me to",
            r"\b(?:is|would be|wouldn't be|isn't|be) (?:not |in)?(?:appropriate|ethical|right|possible|responsible"
            rf"|proper) for me to {_SERVE}",
        ),
        ("rather not|prefer not to", rf"\bi(?: would|'d)? (?:rather not|prefer not to) {_SERVE}"),
        ("think i", rf"\bi (?:do not|don't) think i(?: can|'m able to| am able to|'ll be able to| should) {_SERVE}"),
        (
            "not something",
            rf"\bnot something (?:that )?i(?: can|'m able to| am able to|'m allowed to| am allowed to) (?:do|{_SERVE})",
        ),
        ("refuse to", rf"\bi (?:must |have to |will |'ll )?refuse to {_SERVE}"),
        ("not comfortable", r"\bi(?: am|'m) not comfortable (?:with |in )?\w+ing\b"),
        ("beyond|outside", r"\b(?:is|are|lies|falls) (?:beyond|outside)(?: of)? (?:my|the scope of (?:my|what i))\b"),
        (
            "decline",
            r"\bi (?:must |have to |need to |will have to |'ll have to |would have to |should )?(?:respectfully "
            r"|politely )?decline (?:to|this|your)\b",
        ),
        ("different question", r"\bplease (?:try|ask) (?:me )?(?:a|another) different question\b"),
        ("flagged", r"\byour (?:request|prompt|message|question|input) (?:was|has been|is) flagged\b"),
        ("désolé", r"\bdésolée?s?\b[^.!?\n]{0,30}\bje ne (?:peux|suis|saurais) pas"),
        (
            "mir leid",
            r"\btut mir leid\b[^.!?\n]{0,40}\b(?:ich (?:kann|darf|bin)|(?:kann|darf) ich)\b[^.!?\n]{0,60}"
            r"\b(?:nicht|leider)",
        ),
        ("lo siento", r"\blo siento\b[^.!?\n]{0,30}\bno (?:puedo|me es posible)"),
        ("mi dispiace", r"\bmi dispiace\b[^.!?\n]{0,30}\bnon (?:posso|sono in grado)"),
        ("desculpe|desculpa", r"\bdesculp[ea]\b[^.!?\n]{0,30}\bnão posso"),
        ("抱歉", r"抱歉[^。！？\n]{0,20}(?:无法|不能|没办法|無法)"),
        ("对不起", r"对不起[^。！？\n]{0,20}(?:无法|不能|没办法|没有学会)"),
        ("我无法", r"我无法(?:回答|提供|帮助|协助|满足)"),
        ("申し訳", r"申し訳[^。！？\n]{0,40}(?:できません|お答え|お手伝い)"),
        ("к сожалению|извините", r"(?:к сожалению|извините)[^.!?\n]{0,20}я не могу"),
    )
)
_OPENING = re.compile(
    r"\A[^\w\"]*(?:[^.!?\n\"]{0,160}[.!?]\s+)??(?:[^.!?\n\"]{0,80}?\b)??"
    rf"i(?: am|'m)? (?:\w+ )??{_CANNOT}{_ADVERB} {_SERVE}"
    r"|\A[^\w\"]*(?:i(?: am|'m) (?:\w+ )?sorry|sorry|my apologies|i (?:\w+ )?apologi[sz]e)\b,?(?: but)?"
    rf" i(?: am|'m)? (?:\w+ )?{_CANNOT}"
)
"""Matches a refusal at the very beginning of an answer. After an apology, "I can't" is enough."""
_ENDS_OF_CHAIN = 300
"""Only this many characters at the beginning of the chain, and as many at its end, are searched."""
_HYPOTHETICAL = re.compile(
    r"\b(?:if|unless|whether|because|so that|that means|would|could say|says?|said|reads?:?|replie[sd]|answer(?:s|ed):?"
    r"|wrote|writes)(?! (?:i|we) (?:am|'m))\b[^.!?\n]{0,40}$"
)


def refusal(reading: Reading, _: object) -> str | None:
    answer, ends = reading.answer.plain, reading.chain.plain
    if (found := _OPENING.match(answer[:400])) and found[0].strip() not in reading.question_plain:
        said = found[0]
        if not _HYPOTHETICAL.search(said[: said.rfind(" i")]):
            return f"the answer refuses: “{around(said, 0, 160, 0)}”"
    if len(ends) > 2 * _ENDS_OF_CHAIN:
        ends = f"{ends[:_ENDS_OF_CHAIN]}\n\n{ends[-_ENDS_OF_CHAIN:]}"
    text = Text("answer and chain", f"{answer}\n\n{ends}")
    for at, said in matches(_PHRASES, text, reading.question_plain):
        if not _HYPOTHETICAL.search(text.plain, max(0, at - 60), at):
            where = "answer" if at < len(answer) else "chain"
            return f"the {where} refuses: “{around(text.plain, at, len(said), 0)}”"
    return None
