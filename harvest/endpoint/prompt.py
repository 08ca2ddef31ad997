"""Reads prompts, and makes the messages that are sent. A prompt is a Markdown file. Pure, except for `load`.

    ---
    for: maths with one final value
    reasoning: endpoint
    ---
    ## system
    Reason step by step …
    ## user
    {question}

Worked examples (`## user` and `## assistant` before the last `## user`) are sent to the teacher, not to the student.

`reasoning` says where the chain is when the endpoint does not send it apart: `endpoint` (there is none: all of the text
is the answer) or `before_box` (the text before the final box is the chain).
"""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from harvest.core.errors import PromptError
from harvest.core.files import package_folder
from harvest.core.nouns import Question

ROLES = ("system", "user", "assistant")
PLACES = ("endpoint", "before_box")


@dataclass(frozen=True, slots=True)
class Prompt:
    """Holds the messages around a question. `parts` are pairs (role, text); the last text holds `{question}`."""

    name: str
    path: str
    sha256: str
    text: str
    """This is the text of the whole file. A run stores it, since the file may change."""
    reasoning: str
    parts: tuple[tuple[str, str], ...]

    def messages(self, question: Question) -> list[dict[str, str]]:
        """Returns the messages that the teacher reads, each with role and content. Braces in a question are left as
        they are."""
        text = text_of(question)
        return [{"role": role, "content": body.replace("{question}", text)} for role, body in self.parts]

    def without_examples(self) -> "Prompt":
        """Returns the prompt without its worked examples, as it is used to ask the student."""
        return replace(self, parts=(*(p for p in self.parts if p[0] == "system"), self.parts[-1]))

    def student_messages(self, question: Question) -> list[dict[str, str]]:
        """Returns the messages that the student reads, in training and afterwards: those without the worked
        examples."""
        return self.without_examples().messages(question)


def text_of(question: Question) -> str:
    """Returns the question's text, followed by its choices if the text does not list them already."""
    text, choices = question.question, question.choices
    if not choices or all(c in text for c in choices):
        return text
    return f"{text}\n" + "".join(f"\n({chr(65 + i)}) {c}" for i, c in enumerate(choices))


def load(name: str, base: Path | None = None) -> Prompt:
    """Reads a built-in prompt by its name, or a file by its path, which is relative to `base`. Raises PromptError."""
    own = name.endswith(".md") or "/" in name
    path = ((base or Path()) / name) if own else package_folder("prompts") / f"{name}.md"
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        known = ", ".join(sorted(p.stem for p in package_folder("prompts").glob("*.md")))
        raise PromptError(
            f"prompt {name!r}: no such prompt ({path}); built in are {known}; your own is a path to a .md file"
        ) from None
    return parse(text, path.stem if own else name, str(path.absolute()))


def parse(text: str, name: str, where: str) -> Prompt:
    """Reads the prompt from the text of a file. `where` is the file's name.

    Raises PromptError, which names the file and says what is wrong in it.
    """
    m = re.match(r"---\n(.*?)\n---\n(.*)", text.replace("\r\n", "\n"), re.DOTALL)
    if not m:
        raise PromptError(f"{where}: no front matter: begin with --- lines around `for:` and `reasoning:`")
    front = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", m[1], re.MULTILINE))
    reasoning = front.get("reasoning", "endpoint")
    if reasoning not in PLACES:
        raise PromptError(f"{where}: reasoning: {reasoning!r} is none of {', '.join(PLACES)}")
    pieces = re.split(r"^## (\w+)[ \t]*\n", m[2], flags=re.MULTILINE)
    roles, bodies = pieces[1::2], [b.strip("\n") for b in pieces[2::2]]
    if pieces[0].strip() or not roles or any(r not in ROLES for r in roles):
        raise PromptError(f"{where}: the text stands under `## system`, `## user` and `## assistant` headings alone")
    if roles[-1] != "user" or bodies[-1].count("{question}") != 1 or any("{question}" in b for b in bodies[:-1]):
        raise PromptError(f"{where}: the last part must be `## user` and hold {{question}}, once and nowhere else")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Prompt(name, where, digest, text, reasoning, tuple(zip(roles, bodies, strict=True)))
