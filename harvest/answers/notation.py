r"""Writes mathematical notation in one spelling. LaTeX, Unicode and plain text have many spellings for one thing.

This file only rewrites text. It evaluates nothing, and leaves notation that it does not know as it is. `tidied` is for
formulas: it drops every dollar sign. parse_number (quantities.py) cleans its text itself, because "$" is a currency
there.
"""

import re
import unicodedata

TEXT_COMMAND = re.compile(r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it)|mbox|emph)\s*\{([^{}]*)\}")
"""Matches a LaTeX command that sets words or a bold or upright letter. Group 1 is the text inside the command."""
_SIGNS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "﹣": "-", "⁻": "^-",
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "•": r"\cdot ", "∙": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≃": r"\approx ",
    "±": r"\pm ", "∓": r"\mp ", "∞": r"\infty ", "π": r"\pi ", "√": r"\sqrt ", "∛": r"\sqrt[3]", "°": r"^\circ ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "Ø": r"\emptyset ", "∖": r"\setminus ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}",
    "⟨": r"\langle ", "⟩": r"\rangle ", "∨": " or ", "∧": " and ", "′": "'", "∶": ":", "，": ",", "；": ";",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ", "θ": r"\theta ",
    "λ": r"\lambda ", "μ": r"\mu ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ", "ω": r"\omega ",
}  # fmt: skip


def plain_characters(text: str) -> str:
    """Returns the text with Unicode's digits, signs, fractions and exponents written in LaTeX or ASCII.

    Invisible characters are dropped.
    """
    if text.isascii():
        return text
    out: list[str] = []
    raised = ""
    for character in text:
        form = unicodedata.decomposition(character)
        if form.startswith(("<super>", "<sub>")) and character not in "ªº™":
            mark = "^" if form.startswith("<super>") else "_"
            inner = unicodedata.normalize("NFKC", character).replace("\N{MINUS SIGN}", "-")
            if raised == mark:
                out[-1] = out[-1][:-1] + inner + "}"
            else:
                out.append(f"{mark}{{{inner}}}")
            raised = mark
            continue
        raised = ""
        if character in _SIGNS:
            out.append(_SIGNS[character])
        elif form.startswith("<fraction>"):
            top, _, bottom = unicodedata.normalize("NFKC", character).partition("\N{FRACTION SLASH}")
            out.append(rf"\frac{{{top}}}{{{bottom}}}")
        elif unicodedata.category(character) == "Cf":
            continue
        elif unicodedata.category(character) in ("Zs", "Zl", "Zp"):
            out.append(" ")
        elif unicodedata.category(character) == "Nd":
            out.append(str(unicodedata.decimal(character)))
        else:
            out.append(unicodedata.normalize("NFKC", character))
    return "".join(out)


def _rules(*pairs: tuple[str, str]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(pattern), by) for pattern, by in pairs]


_SPACING = _rules(
    (r"\+\s*(?=\\infty|\\infinity)", ""),
    (r"\\(?:left|right)\s*\.", ""),
    (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|ensuremath|hfill|centering)(?![A-Za-z])", ""),
    (r"\\(?:hspace|vspace|phantom|kern|label|tag)\*?\s*\{[^{}]*\}", " "),
    (r"(?<=\d)(?:\{,\}|,\s*\\!|\\,|\\!,|\\;)\s*(?=\d{3}(?!\d))", ","),
    (r"\\!", ""),
    (r"(?<!\\)\\(?:[,;:> ]|q?quad(?![A-Za-z]))|(?<!\\)~", " "),
    (r"\{([,:;=])\}", r"\1"),
    (r"(?<!\\)(?:\\[()\[\]]|\$+)", " "),
)
_WRAPPERS = _rules(
    (r"\\(?:color|textcolor|colorbox)\s*\{[^{}]*\}", ""),
    (r"\\(?:boxed|fbox|mathbf|boldsymbol|bm|mathit|mathsf|mathtt|mathnormal|underline)\s*\{([^{}]*)\}", r" \1 "),
    (r"\\(?:boxed|fbox|mathbf|boldsymbol|bm|mathit|mathsf|mathtt|mathnormal|underline|displaylines)(?![A-Za-z])", ""),
    (r"\\(?:textbf|textit|textrm|textnormal|textsf|textup|mbox|hbox|emph)(?![A-Za-z])", r"\\text"),
    (r"\\mathrm\s*\{\s*([A-Za-z])\s*\}", r" \1 "),
    (r"\\mathrm(?![A-Za-z])", r"\\text"),
    (r"\\text\s*\{\s*([A-Za-z]?|[^{}A-Za-z\\]*)\s*\}", r" \1 "),
    (r",?\s*\\text\s*\{\s*,?\s*(and|or)\s*\}\s*", r" \1 "),
    (r"\\(?:land|wedge)(?![A-Za-z])", " and "),
    (r"\\(?:lor|vee)(?![A-Za-z])", " or "),
    (r"\\frac\s*\{\s*\\text\s*\{([^{}]*)\}\s*\}\s*\{\s*\\text\s*\{([^{}]*)\}\s*\}", r"\\text{\1/\2}"),
    (r"\\operatorname\*?\s*\{\s*([A-Za-z]+)\s*\}", r"\\\1 "),
    (r"\\(?:begin|end)\s*\{(?:align|equation|gather|aligned|split)\*?\}", " "),
)  # fmt: skip
_SPELLINGS = _rules(
    (r"\\log\s*_\s*\{?\s*e\s*\}?(?![A-Za-z])", r"\\ln "),
    (r"\\pi\s*(?=\()", r"\\pi \\cdot "),
    (r"\\therefore(?![a-z])|∴", " "),
    (r"\\(?:mathdollar|textdollar)(?![a-z])", r"\\$"),
    (r"\{\s*([^{}]{1,60}?)\s*\\over(?![a-z])\s*([^{}]{1,60}?)\s*\}", r"\\frac{\1}{\2}"),
    (r"\{\s*([^{}]{1,60}?)\s*\\choose(?![a-z])\s*([^{}]{1,60}?)\s*\}", r"\\binom{\1}{\2}"),
    (r"(?:\{\})?[\^_]\s*\{?\s*(\d+)\s*\}?\s*C\s*_\s*\{?\s*(\d+)\s*\}?", r"\\binom{\1}{\2}"),
    (r"(?<![A-Za-z\\])(?:C|nCr)\s*\(\s*(\d+)\s*,\s*(\d+)\s*\)", r"\\binom{\1}{\2}"),
    (r"\\[dt]binom(?![a-z])", r"\\binom"),
    (r"\\[dtc]frac(?![a-z])", r"\\frac"),
    (r"\\(?:leqslant|leqq|leq)(?![a-z])|<=|=<", r"\\le "),
    (r"\\(?:geqslant|geqq|geq)(?![a-z])|>=|=>(?=\s*-?\d)", r"\\ge "),
    (r"\\(?:neq)(?![a-z])|!=|\\not\s*=", r"\\ne "),
    (r"\\lt(?![a-z])", "<"),
    (r"\\gt(?![a-z])", ">"),
    (r"\\(?:equiv)(?![a-z])|≡", "="),
    (
        r"\\pmod\s*\{([^{}]*)\}|\(\s*\\?(?:b?mod|text\s*\{\s*mod\s*\})\s*(\d+)\s*\)|\\text\s*\{\s*\(mod\s*\}\s*(\d+)\s*\)",
        r" \\pmod{\1\2\3}",
    ),
    (r"\\(?:thickapprox|simeq|cong|approxeq)(?![a-z])", r"\\approx "),
    (r"\\(?:lbrace)(?![a-z])", r"\\{"),
    (r"\\(?:rbrace)(?![a-z])", r"\\}"),
    (r"\\(?:langle|lparen)(?![a-z])", "("),
    (r"\\(?:rangle|rparen)(?![a-z])", ")"),
    (r"\\(?:lbrack)(?![a-z])", "["),
    (r"\\(?:rbrack)(?![a-z])", "]"),
    (r"\\(?:lvert|rvert|vert|mid)(?![a-z])", "|"),
    (r"\\(?:varnothing|empty)(?![a-z])|\\\{\s*\\\}", r"\\emptyset "),
    (r"\\(?:R|reals|Reals)(?![A-Za-z])", r"\\mathbb{R}"),
    (r"\\infin(?:ity)?(?![a-z])|(?<![\\A-Za-z])(?:infinity|infty|oo)(?![A-Za-z])", r"\\infty "),
    (r"\\(?:smallsetminus|backslash)(?![a-z])", r"\\setminus "),
    (r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degrees?(?![a-z])", r"^\\circ "),
    (r"(?<![\\A-Za-z])(pi|theta|sqrt|sin|cos|tan|cot|sec|csc|ln|log|exp|arcsin|arccos|arctan)(?![A-Za-z])", r"\\\1 "),
    (r"(?<![\\A-Za-z])(sin|cos|tan|ln|log)(?=[a-z](?![A-Za-z]))", r"\\\1 "),
    (r"\\dots[cbm]?(?![a-z])|\\[lc]dots(?![a-z])|\.{3}|…", r"\\ldots "),
    (r"\*\*", "^"),
    (r"\\begin\s*\{array\}\s*(?:\{[^{}]*\})?", r"\\begin{matrix}"),
    (r"\\end\s*\{array\}", r"\\end{matrix}"),
    (r"\\(begin|end)\s*\{(?:small|[pbB])?matrix\*?\}(?:\[[a-z]\])?", r"\\\1{matrix}"),
    (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"\\sqrt\s*(\[[^\]]{1,9}\])?\s*(\d+|[A-Za-z])", r"\\sqrt\1{\2}"),
    (r"\\frac\s*(\\[a-z]+)\s*([A-Za-z\d])(?![A-Za-z])", r"\\frac{\1}{\2}"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*(\{[^{}]*\})\s*([A-Za-z\d])", r"\\frac\1{\2}"),
    (r"\\frac\s*([A-Za-z\d])\s*(\{|[A-Za-z\d])", r"\\frac{\1}\2"),
    (r"\\frac(\{[^{}]*\})([A-Za-z\d])", r"\\frac\1{\2}"),
)


def tidied(text: str) -> str:
    r"""Returns the formula in one spelling: "$\left(1,\dfrac34\right)$" becomes "(1,\frac{3}{4})"."""
    text = " ".join(plain_characters(text).split())
    if "\\\\" in text and r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z{},;!])", r"\\", text)  # escaped once too often
    for rules in (_SPACING, _WRAPPERS, _SPELLINGS):
        for pattern, by in rules:
            text = pattern.sub(by, text)
    text = " ".join(text.split())
    return text.rstrip(".,;: ").lstrip(",;: ")


def squeezed(text: str) -> str:
    """Returns the tidied text without spaces, so that equal notation gives equal strings.

    A space between two digits stays, because "4 2" is not "42".
    """
    return re.sub(r"\s+(?!\d)|(?<!\d)\s+", "", tidied(text))
