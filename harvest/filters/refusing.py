"""Answers that refuse: the teacher says that it will not or may not, in place of answering.

"I can't measure 4 litres with these jugs" is a result; "I can't help with that" is a refusal. So the object decides:
help, comply, your request. Of the chain only its beginning and its end are read for it: in between a model talks to
itself ("I'm sorry, I can't see it").
"""

import re

from harvest.filters.phrases import around, bare, matches, phrases
from harvest.filters.reading import Reading

_NOT = (
    r"(?:can(?:no|')t|can not|could ?n[o']t|won't|will not"
    r"|(?:(?:am|are) )?(?:not able|unable|not allowed|not permitted|not going)(?: to| with)?"
    r"|must(?: respectfully)? (?:decline|refuse)(?: to)?|(?:have|need) to (?:decline|refuse)(?: to)?"
    r"|(?:do not|don't) feel comfortable)"
)
_SELF = r"\b(?:i|we|this assistant)(?: am|'m| are|'re)?(?: sorry,?)?(?: but)?(?: i| we)?"
_ADVERB = (
    r"(?: (?:really|simply|just|currently|ethically|in good conscience|directly|personally|unfortunately|be able"
    r"|legally|responsibly))?(?: to)?"
)
_HELP = (
    r"(?:help|assist|comply|oblige|fulfill?|engage|accommodate|participate|continue with|proceed with|support|helping"
    r"|assisting|complying|providing|answering|discussing|responding)"
)
_GIVE = (
    r"(?:answer|provide|give|offer|discuss|respond to|share|do|create|generate|produce|write|complete|solve|process"
    r"|disclose|reveal|talk about)"
)
_REQUEST = (
    r"(?:(?:assistance|advice|help|information)\b"
    r"|(?:with )?(?:an? |any |the |your |you |that|this|these|those|such)[^.!?\n]{0,60}?"
    r"(?:request|question|topic|task|prompt|query|information|content|advice|assistance|help|problem"
    r"|answer to (?:this|that|your)|details|instructions|solution|inquiry|matter|response|for you)\b)"
)
_TROUBLE = r"can(?:no|')t|unable|not able|won't|will not|must|not allowed"
_MACHINE = rf"(?:{_TROUBLE}|do(?:n't| not) (?:have|feel|hold)|decline)"
_RULES = r"(?:\w+ )?(?:guidelines|polic(?:y|ies)|principles|programming|values)\b"
_ANCHORS = (
    "can't|cannot|can not|couldn't|could not|won't|will not|not able|unable|not allowed|not permitted|not going|decline"
    "|refuse|feel comfortable"
)
_PHRASES = phrases(
    (
        (_ANCHORS, rf"{_SELF} {_NOT}{_ADVERB} {_HELP}\b(?! (?:it|but|noticing|wondering|feeling|thinking)\b)"),
        (_ANCHORS, rf"{_SELF} {_NOT}{_ADVERB} {_GIVE} {_REQUEST}"),
        (
            _ANCHORS,
            rf"{_SELF} {_NOT}{_ADVERB} (?:answer|discuss|do|provide|solve|complete|respond to) (?:that|this)\b"
            r"(?=[.,!;]|\n|$| (?:one|for you|here)\b)",
        ),
        (
            "sorry",
            rf"\bsorry,? (?:but )?(?:as an ai,? )?(?:i|we|this is)(?: am|'m)? (?:\w+ )?(?:{_TROUBLE}|not something"
            r"|beyond)[^.!?\n]{0,40}?\b(?:help|assist|answer|provid|comply|discuss|request|fulfil|engage|do that"
            r"|do this|continue|respond)",
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
        ("not comfortable", r"\bi(?: am|'m) not comfortable (?:with |in )?\w+ing\b"),
        ("beyond|outside", r"\b(?:is|are|lies|falls) (?:beyond|outside)(?: of)? (?:my|the scope of (?:my|what i))\b"),
        (
            "decline",
            r"\bi (?:must |have to |need to |will have to |'ll have to |would have to |should )?(?:respectfully "
            r"|politely )?decline (?:to|this|your)\b",
        ),
        ("different question", r"\bplease (?:try|ask) (?:me )?(?:a|another) different question\b"),
        ("désolé", r"\bdésolée?s?\b[^.!?\n]{0,30}\bje ne (?:peux|suis|saurais) pas"),
        ("mir leid", r"\btut mir leid\b[^.!?\n]{0,30}\bich (?:kann|darf|bin)\b[^.!?\n]{0,60}\b(?:nicht|leider)"),
        ("lo siento", r"\blo siento\b[^.!?\n]{0,30}\bno (?:puedo|me es posible)"),
        ("mi dispiace", r"\bmi dispiace\b[^.!?\n]{0,30}\bnon (?:posso|sono in grado)"),
        ("desculpe|desculpa", r"\bdesculp[ea]\b[^.!?\n]{0,30}\bnão posso"),
        ("抱歉", r"抱歉[^。！？\n]{0,20}(?:无法|不能|没办法|無法)"),
        ("对不起", r"对不起[^。！？\n]{0,20}(?:无法|不能|没办法)"),
        ("我无法", r"我无法(?:回答|提供|帮助|协助|满足)"),
        ("申し訳", r"申し訳[^。！？\n]{0,40}(?:できません|お答え|お手伝い)"),
        ("к сожалению|извините", r"(?:к сожалению|извините)[^.!?\n]{0,20}я не могу"),
    )
)
_ENDS_OF_CHAIN = 300
_HYPOTHETICAL = re.compile(
    r"\b(?:if|unless|whether|because|so that|that means|would|could say|says?|said)\b[^.!?\n]{0,40}$"
)


def refusal(reading: Reading, _: object) -> str | None:
    ends = reading.chain_plain
    if len(ends) > 2 * _ENDS_OF_CHAIN:
        ends = f"{ends[:_ENDS_OF_CHAIN]}\n\n{ends[-_ENDS_OF_CHAIN:]}"
    text = f"{reading.answer_plain}\n\n{ends}"
    for at, said in matches(_PHRASES, text, bare(text.split()), reading.question_plain):
        if not _HYPOTHETICAL.search(text, max(0, at - 60), at):
            where = "answer" if at < len(reading.answer_plain) else "chain"
            return f"the {where} refuses: “{around(text, at, len(said), 0)}”"
    return None
