"""The filter `meta` refuses talk about a reference answer, a hidden hint, a system message, a grader or the teacher.

Only the teacher could see such things. A student that learns "the reference answer says 42" learns to rely on something
that the student will never be shown. Words that the question itself uses are allowed. Phrases that any solver may use
are allowed too: "the expected answer is 12", "the prompt asks for a last line", "the problem says that the answer
should be an integer".
"""

from harvest.filters.phrases import around, matches, phrases
from harvest.filters.reading import Reading

_GIVEN = r"(?:given|provided|supplied|listed|stated|specified|quoted|marked|recorded)"
_SAYS = (
    r"(?:says?|said|gives?|gave|states?|suggests?|indicates?|tells? (?:me|us)|claims?|shows?|lists?|has|confirms?|reads"
    r"|mentions?|specif(?:y|ies)|arrives? at|gets?|uses|concludes?|is|was)\b(?! (?:likely|probably|perhaps|not))"
)
_BY = r"(?:according to|as per|match(?:es|ing)?|consistent with|agrees? with|based on|per|following)"
_MINE = r"(?:the|this|your|their|its|the user's|that)"
_I_AM = r"(?: was|'ve been| have been| am|'m)"
_MAKERS = r"(?:openai|anthropic|google|deepseek|alibaba|meta|mistral|microsoft|zhipu|moonshot|xai)"
_MODELS = r"(?:chatgpt|gpt-?\d|deepseek|qwen|claude|gemini|llama|grok|kimi)"
_PHRASES = phrases(
    (
        # an answer that somebody else gave
        (
            "reference",
            r"\breference (?:answer|solution|result|output)s?\b",
            "reference answer|reference solution",
        ),
        (
            "gold|golden|gold-answer",
            r"\bgold(?:en)?[- ](?:answer|label|solution)\b",
            "gold answer|golden answer|gold label",
        ),
        (
            "ground|ground-truth",
            r"\bground[- ]truth (?:answer|label|solution|value|is|says|given|provided)\b",
            "ground truth|ground-truth",
        ),
        (
            "expected ",
            rf"\bexpected (?:final )?(?:answer|output|result|solution) (?:is |was |has been )?{_GIVEN}"
            r"(?: (?:as|in|by|to|here|above|at)\b|[.,;:])",
            "expected answer|expected output",
        ),
        (
            "expected ",
            rf"\b(?:{_GIVEN}|the prompt's|the user's|their|the dataset's|official) expected (?:final )?(?:answer"
            r"|solution)\b",
            "expected answer",
        ),
        (
            "expected ",
            rf"\b(?:{_BY}|compared? (?:to|with)|same as|in line with) {_MINE} expected (?:final )?(?:answer"
            r"|solution|output)\b",
            "expected answer|expected output",
        ),
        ("answer key", rf"\banswer key (?:{_SAYS}|provided|given)", "answer key"),
        (
            "answer key",
            rf"\b(?:{_BY}|in|from|check(?:ing|ed)?(?: against)?) {_MINE} (?:{_GIVEN} |official )?answer key\b",
            "answer key",
        ),
        (
            "provided|official|supplied|reference|model|sample|given solution|given answer|given final|given correct",
            rf"\b{_BY} (?:{_MINE}|an?) (?:{_GIVEN}|official|reference|model|sample) (?:final |correct )?(?:solution"
            r"|answer|result)\b",
            "solution|provided answer|given answer|official answer",
        ),
        (
            "solution provided|solution given|solution that|solution supplied|answer provided|answer given|answer that"
            "|answer supplied|answer listed",
            rf"\b{_BY} the (?:solution|answer|result) (?:that (?:was|is|has been) )?{_GIVEN}\b",
            "solution",
        ),
        (
            "provided|official|supplied|model",
            rf"\bthe (?:provided|official|supplied|model) (?:final |correct )?(?:solution|answer),? {_SAYS}",
            "solution|provided answer|'s answer",
        ),
        (
            "answer is given|answer was given|provided|listed|stated|specified|answer has been|supplied",
            rf"\b(?:correct|final|right|true|actual) answer (?:is|was|has been) {_GIVEN} (?:to (?:me|us)|in the"
            r" (?:prompt|system|hint|metadata|context|instructions?)|above|beforehand|already"
            r"|as (?!an?\b|the\b|in\b|such|follows?|part|one\b))",
            "answer is given|answer was given|answer given",
        ),
        (
            "told|given the|provided|shown|informed",
            rf"\bi{_I_AM} (?:already )?(?:told|given|provided with|shown|informed of) (?:that )?(?:the )?(?:correct"
            r" |final |right |reference |expected )?answer\b",
        ),
        (
            "backward|backwards|reverse-engineer|reverse-engineering|reverse engineer|reverse engineering",
            r"\b(?:work(?:ing)? backwards?|reverse[- ]engineer(?:ing)?) (?:from )?(?:the )?"
            rf"(?:{_GIVEN}|known|expected) (?:final |correct )?(?:answer|solution)\b",
            "answer|backward",
        ),
        (
            "given answer|given solution",
            rf"\b(?:the|with|to|against) (?:the )?given (?:final |correct )?(?:answer|solution)[,:]? (?:it )?{_SAYS}",
            "given answer|given solution|answer given|solution given",
        ),
        (
            "answer provided|answer given|answer supplied",
            r"(?:\bthe (?:final|correct)|\b(?:given|since|as) (?:that )?the) answer (?:provided|given|supplied)"
            r" (?:to me )?(?:is|was|says)\b",
            "answer provided|answer given|answer is given|'s answer",
        ),
        ("solution key", r"\bsolution key\b", "solution key"),
        ("official answer", rf"\bthe official (?:final |correct )?answer {_SAYS}", "official answer"),
        (
            "me the|gave the|gives the|give the|given the|provided the|provides the|supplied the|tells the|told the"
            "|included the|includes the|with the answer|its answer",
            r"\b(?:user|prompt|question|system)(?: has| had)?(?: already)? (?:gave|gives?|given|provide[sd]|supplied"
            r"|tells?|told|include[sd]) (?:me )?(?:with )?(?:the|its) (?:final |correct |right )?answer\b"
            r"(?! (?:format|as|template|choices|options|line))",
            "answer",
        ),
        (
            "because it|seen the answer|given the answer",
            r"\b(?:i (?:have |had |'ve )?(?:seen|saw|kn[eo]w)|reveal|pretend)[^.!?\n]{0,40}\b(?:(?:correct|final)"
            r" answer (?:is|was)[^.!?\n]{0,40}\bbecause it|(?:seen|given) the answer)\b",
        ),
        (
            "label|ground truth",
            r"\b(?:the label|ground truth) (?:says|is given|gives|states)\b",
            "label|ground truth",
        ),
        (
            "reference",
            r"\bcompar(?:e|es|ed|ing) (?:my|the|this) (?:final )?(?:answer|result|output) (?:to|with|against) (?:the|a)"
            r" (?:reference|key|gold|label)\b",
            "reference|key|label",
        ),
        # a hint that nobody gave
        ("hint", rf"\b(?:{_MINE}|user's|provided|given) hint,? (?:{_SAYS}|{_GIVEN}|that\b)", "hint"),
        ("hint", rf"\b(?:{_BY}|given|using|from|trust(?:ing)?|with) {_MINE} (?:{_GIVEN} |user's )?hint\b", "hint"),
        (
            "hint",
            r"\bhint(?:s|ed)? (?:\w+ ){0,3}?(?:that )?(?:the|our|my) (?:final |correct |right )?(?:answer|result)"
            r" (?:is|should be|must be|equals|would be)\b",
        ),
        ("hint", r"\buser's hint\b"),
        # being a model
        (
            "ai",
            r"\b(?:as|i'm|i am|being) (?:just |only |simply |merely )?an? (?:\w+ )?ai\b"
            r"(?! (?:researcher|engineer|student|expert|start))",
            "i am an ai|i'm an ai|as an ai",
        ),
        ("artificial intelligence", r"\b(?:as|i'm|i am|being) (?:just |only )?an? artificial intelligence\b"),
        (
            "language model",
            r"\b(?:as|i'm|i am|being|just|only) (?:just |only )?an? (?:ai |large )*language model\b",
            "language model",
        ),
        (
            "my training|my pretraining|my pre-training",
            r"\bmy (?:pre-?)?training\b(?! (?:plan|run|schedule|session|partner|pace|shoes|day|time|program))",
            "my training",
        ),
        (
            "in training|training data|training set",
            r"\bi (?:have |had |'ve )?(?:saw|seen|remember|recall|encountered|met)\b[^.!?\n]{0,60}\b(?:in|from|during)"
            r" (?:my |the )?(?:pre-?)?training\b(?! (?:plan|run|schedule|session|camp|course))",
            "training",
        ),
        ("cutoff|cut-off", r"\bmy (?:knowledge|training)(?: data)? cut-?off\b"),
        (
            "trained by|created by|developed by|made by|built by",
            rf"\bi{_I_AM} (?:created|trained|developed|made|built) by {_MAKERS}\b",
        ),
        (
            "i am chatgpt|deepseek|qwen|claude|gemini|llama|grok|kimi|gpt-4|gpt-5|chatgpt|gpt",
            rf"\bi(?: am|'m) {_MODELS}\b",
        ),
        # instructions and grading
        ("system prompt|system prompts", r"\bsystem prompts?\b", "system prompt"),
        ("system message", r"\bsystem message\b", "system message"),
        ("system instruction|system instructions", r"\bsystem instructions?\b", "system instruction"),
        ("developer message", r"\bdeveloper message\b", "developer message"),
        (
            "instructions",
            r"\bmy (?:\w+ )?instructions (?:say|state|are|tell|require|forbid|were|do not|don't|only)\b",
            "my instructions",
        ),
        ("my guidelines", r"\bmy guidelines\b", "my guidelines"),
        ("prompt", r"\bmy (?:initial |hidden )?prompt (?:says|tells|asks|states|is)\b", "my prompt"),
        (
            "instructed|prompted|programmed|configured",
            rf"\bi{_I_AM} (?:instructed|prompted|programmed|configured) (?:to|not to|by|that)\b",
            "instructed|programmed",
        ),
        ("instructions", r"\bthe instructions (?:that )?i (?:was|am|have been) given\b", "instructions"),
        (
            "reveal|mention|disclose",
            r"\bi (?:must|should|may|am|'m|was) (?:not|not supposed to|told not to|not to) (?:to )?(?:reveal|mention"
            r"|disclose|admit|say) (?:that |the )[^.!?\n]{0,40}\b(?:answer|solution|hint)\b",
        ),
        ("grader", r"\bthe (?:auto-?|automatic |automated )?grader\b(?! of\b)", "grader"),
        ("graded", r"\b(?:will|would|might|could|may|to|is going to) be graded\b", "grade"),
        (
            "grading",
            r"\b(?:the|for|my|this|automat\w+) grading (?:script|rubric|criteria|system|scheme)\b",
            "grading",
        ),
        ("rubric", r"\bthe (?:\w+ )?rubric\b", "rubric"),
        (
            "reward",
            r"\b(?:get|receive|earn|maximi[sz]e) (?:the|a|my|full|maximum) (?:full |maximum )?reward\b",
            "reward",
        ),
        (
            "evaluator|verifier|checker|judge",
            r"\bthe (?:automat\w+ )?(?:evaluator|verifier|(?:checker|judge)(?= will compare))"
            r" (?:will|wants?|expects?|checks?|may|might|would)\b",
            "evaluator|verifier|checker|judge",
        ),
        ("answer checker", r"\bthe (?:automat\w+ )?answer checker\b", "checker"),
    )
)


def meta(reading: Reading, _: object) -> str | None:
    for text in (reading.chain, reading.answer):
        for at, said in matches(_PHRASES, text, reading.question_plain):
            return f"the {text.name} says “{around(text.plain, at, len(said))}”"
    return None
