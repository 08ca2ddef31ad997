"""Draws pictures as SVG: bars, curves, histograms and intervals. Pure.

What is drawn is placed in per cent of the width, and heights and letters are in pixels, so that a picture fits a phone
and its text keeps its size. Colours are classes of style.css.
"""

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

Point = tuple[float, float]


def element(name: str, *inside: str, **attributes: object) -> Markup:
    """Returns one element. Texts and values are escaped; `class_` and `text_anchor` stand for class and text-anchor."""
    given = "".join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup(given), Markup("").join(map(escape, inside)))


def picture(label: str, height: float, *inside: str) -> Markup:
    """Returns a picture as wide as the page allows. `label` is read aloud in place of it."""
    return element("svg", *inside, role="img", aria_label=label, height=height, width="100%")


def rect(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    """Returns a filled rectangle; `x` and `width` are in per cent, `y` and `height` in pixels."""
    return element("rect", class_=kind, x=_percent(x), y=_number(y), width=_percent(width), height=_number(height))


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", class_=kind, x1=_percent(x1), y1=_number(y1), x2=_percent(x2), y2=_number(y2))


def dot(x: float, y: float, kind: str) -> Markup:
    return element("circle", class_=kind, cx=_percent(x), cy=_number(y), r=5)


def text(x: float, y: float, words: str, anchor: str | None = None, kind: str | None = None) -> Markup:
    return element("text", words, x=_percent(x), y=_number(y), text_anchor=anchor, class_=kind)


def curve(points: Sequence[Point], kind: str, height: float, top: float = 0, *, filled: bool = False) -> Markup:
    """Returns a curve through points whose parts go from 0 to 1, in a field `height` pixels high."""
    places = [(_number(1000 * x), _number(100 * (1 - y))) for x, y in points]
    drawn = [element("path", class_=f"curve stroke {kind}", d="M" + "L".join(f"{x} {y}" for x, y in places))]
    if filled and places:
        outline = "L".join(f"{x} {y}" for x, y in [(places[0][0], "100"), *places, (places[-1][0], "100")])
        drawn.insert(0, element("path", class_=f"area fill {kind}", d=f"M{outline}Z"))
    return element(
        "svg", *drawn, viewBox="0 0 1000 100", preserveAspectRatio="none", x="0", y=_number(top), width="100%",
        height=_number(height),
    )  # fmt: skip


def grid(height: float, top: float, shares: Iterable[float]) -> Markup:
    """Returns lines across the picture, at heights from 0 to 1."""
    lines = ((top + height * (1 - share), "base" if share == 0 else "grid") for share in shares)
    return Markup("").join(line(0, y, 100, y, kind) for y, kind in lines)


def scale(height: float, top: float, labels: Iterable[tuple[float, str]], *, at_the_end: bool = False) -> Markup:
    """Returns the labels of lines of `grid`, above them: (a height from 0 to 1, words). They stand where a curve is
    not: at the right of one that falls (`at_the_end`), at the left of one that rises."""
    x, anchor = (100, "end") if at_the_end else (0, None)
    return Markup("").join(text(x, top + height * (1 - share) - 4, words, anchor) for share, words in labels)


def _percent(value: float) -> str:
    return f"{_number(value)}%"


def _number(value: float) -> str:
    """Returns a number with two decimals at most, the same on every machine."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
