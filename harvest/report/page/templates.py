"""The templates of the pages. Each is compiled once in a process, when this file is imported; it takes 0.2 s in all."""

from pathlib import Path

import jinja2
from markupsafe import Markup

__all__ = ["PAGES", "Markup"]

PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip
for _name in ("report.html", "comparison.html"):
    PAGES.get_template(_name)
