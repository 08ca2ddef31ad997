"""Writes the page as files that open without a server: index.html, its script, and the attempts in data/.

A browser reads no JSON and no modules beside a page that it opened from a file, only scripts. So the modules are
joined into one script, and the data are scripts too. A copy takes no marks.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harvest.core.files import write_whole
from harvest.report.viewer.attempt_list import Chosen, attempt_list
from harvest.report.viewer.attempt_values import attempt_values
from harvest.report.viewer.server import PAGE, STYLE

MOST_ATTEMPTS = 20_000
"""A copy holds at most this many attempts, the first ones of the runs."""
CHUNK_BYTES = 2_000_000
"""A file of data is closed when it has this many bytes."""
MODULES = ("elements.js", "source.js", "attempts.js", "trace.js", "siblings.js", "filters.js", "main.js")
"""The page's modules; each one imports only earlier ones."""
POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src 'self' file:; base-uri 'none';"
    " form-action 'none'"
)
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./[\w.]+";\n', re.MULTILINE)
_PRELOAD = re.compile(r'^<link rel="modulepreload"[^>]*>\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def write_copy(runs: Sequence[Chosen], to: Path) -> dict[str, Any]:
    """Writes the page and the data of the runs into the folder `to`. Returns how many attempts the copy holds and how
    many were left out. Raises OSError."""
    (to / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
    for earlier in (to / "data").glob("[0-9]*.js"):  # an earlier copy's attempts
        earlier.unlink()
    found = json.loads(attempt_list(runs, {}))
    columns = found["columns"]
    in_all = len(columns["id"])
    for name, column in columns.items():
        columns[name] = column[:MOST_ATTEMPTS]
    starts = [0]
    chunk: list[str] = []
    size = done = 0
    for text in _attempts(runs, columns["run"], columns["id"]):
        if size > CHUNK_BYTES:
            _write_data(to, len(starts) - 1, chunk)
            starts.append(done)
            chunk, size = [], 0
        chunk.append(text)
        size += len(text)
        done += 1
    _write_data(to, len(starts) - 1, chunk)
    copy = json.dumps({"list": found, "starts": starts}, separators=(",", ":"))
    write_whole(to / "data" / "list.js", f"globalThis.winnowCopy = {copy};\n")
    write_whole(to / "page.js", joined_modules())
    for path in (STYLE, PAGE / "viewer.css", PAGE / "icon.svg"):
        write_whole(to / path.name, path.read_text("utf-8"))
    write_whole(to / "index.html", _page())
    return {"attempts": done, "left_out": in_all - done}


def _attempts(runs: Sequence[Chosen], places: Sequence[int], ids: Sequence[int]) -> Iterator[str]:
    for place, attempt_id in zip(places, ids, strict=True):
        story = runs[place][0].one_story(attempt_id)
        yield json.dumps(None if story is None else attempt_values(*story, None), separators=(",", ":"))


def _write_data(to: Path, number: int, chunk: Sequence[str]) -> None:
    write_whole(to / "data" / f"{number}.js", f"globalThis.winnowCopy.chunk = [{','.join(chunk)}];\n")


def joined_modules() -> str:
    """Returns the page's modules as one script."""
    texts = (_EXPORT.sub("", _IMPORT.sub("", (PAGE / name).read_text("utf-8"))) for name in MODULES)
    return '(() => {\n"use strict";\n' + "\n".join(texts) + "})();\n"


def _page() -> str:
    page = _PRELOAD.sub("", (PAGE / "index.html").read_text("utf-8"))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    scripts = '<script defer src="data/list.js"></script>\n<script defer src="page.js"></script>'
    return page.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}').replace(
        '<script type="module" src="main.js"></script>', scripts
    )
