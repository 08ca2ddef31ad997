"""`finetune show`: trained tokens stand out, on a terminal and on a page, and no text of a model becomes markup."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from families import tokenizer_of
from students import SMOL, chat, smol_tokenizer

from finetune.__main__ import main
from finetune.rows.layout import LAYOUTS
from finetune.rows.render import render
from finetune.rows.show import coloured

HOSTILE = "<think>\n<script>alert(1)</script> & \x1b[31mred \u202e\n</think>\n\n</pre>6"


class Read(HTMLParser):
    """The tags of a page, and its texts by class."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.texts, self.now = list[str](), dict[str, str](), ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.now = dict(attrs).get("class") or ""

    def handle_data(self, data: str) -> None:
        if "pre" in self.tags:
            self.texts[self.now] = self.texts.get(self.now, "") + data

    def handle_endtag(self, tag: str) -> None:
        self.now = ""


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    smol_tokenizer()

    def make(*rows: Any) -> Path:
        (tmp_path / "d.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in rows))
        (tmp_path / "r.toml").write_text(f'student = "{SMOL}"\ndata = "{tmp_path}/d.jsonl"\noutput = "o"\n')
        return tmp_path / "r.toml"

    return make


def test_on_a_terminal_exactly_the_trained_text_is_green_and_the_end_token_reversed() -> None:
    tokenizer = tokenizer_of("Qwen2.5")
    text = coloured(render(chat("USER", HOSTILE), tokenizer, 512, LAYOUTS["think"]), tokenizer)
    by_style: dict[str, str] = {}
    for span in text.spans:
        by_style[str(span.style)] = by_style.get(str(span.style), "") + text.plain[span.start : span.end]
    assert by_style["bold green reverse"] == "<|im_end|>"
    assert by_style["green"].startswith("<think>\n<script>")
    assert "USER" in by_style["bright_black"]
    assert "\x1b" not in text.plain
    assert "\\x1b[31mred" in text.plain


def test_without_colours_what_is_trained_stands_between_marks(
    recipe: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(chat("USER", "<think>\n3 + 3\n</think>\n\n6"))
    assert main(["show", str(path)]) == 0
    out = capsys.readouterr().out
    assert re.findall("⟦(.*?)⟧", out, re.S)[0] == "<think>\n3 + 3\n</think>\n\n6<|im_end|>"
    assert "trained (between ⟦ and ⟧)" in out
    assert "\x1b" not in out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["show", str(path)]) == 0
    assert "⟦" not in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["show", str(path)]) == 0
    assert "⟦<think>" in capsys.readouterr().out


def test_a_page_holds_the_rows_with_what_is_trained_set_apart(
    recipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(chat("q0", "a0"), chat("USER-MARK", HOSTILE), chat("q2", "a2"), chat("q3", "a3"))
    assert main(["show", str(path), "--row", "1", "--rows", "1", "--page", str(tmp_path / "p.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/p.html: 1 rows\n"
    page = (tmp_path / "p.html").read_text()
    read = Read()
    read.feed(page)
    assert set(read.tags) <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "b", "section", "pre"}
    assert read.texts["end"] == "<|im_end|>"
    assert read.texts["trained"].startswith("<think>\n<script>alert(1)</script> & \\x1b[31mred \\x202e\n</think>")
    assert read.texts["trained"].endswith("</pre>6")
    assert "USER-MARK" in read.texts["read"]
    assert not re.search(r"https?://|src=|href=", page), "a page loads nothing"


def test_a_page_begins_at_the_row_that_was_named_and_ends_with_the_data(
    recipe: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(*(chat(f"question {i}", f"answer {i}") for i in range(5)), chat("q", "<think>\nopen"))
    words = ["show", str(path), "--page", str(tmp_path / "p.html"), "--json"]
    assert main([*words, "--row", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 3
    page = (tmp_path / "p.html").read_text()
    assert "answer 2" not in page
    assert "answer 3" in page
    assert "row 5 (d.jsonl line 6)" in page
    assert "the chain is open" in page
    assert main([*words, "--row", "6"]) == 2
    assert "no row 6" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "not/there.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err
