"""Writes the marks around a chain and its answer, and finds such marks in an assistant's turn."""

from dataclasses import dataclass
from pathlib import Path

from finetune.note import note_of
from finetune.rows.faults import RowFault
from harvest.core.chain_marks import TRAINING_MARKS

Part = tuple[str, bool]
"""(a text, whether special tokens in it are meant). They are meant in what the template and the recipe write, never in
the content of a message."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The marks around a chain and around its answer, line breaks included."""

    open: str
    close: str
    answer_open: str = ""
    answer_close: str = ""

    def write(self, reasoning: str | None, answer: str) -> str:
        """Returns the assistant's turn. A turn without a chain has no marks of a chain."""
        chain = "" if reasoning is None else f"{self.open}{reasoning}{self.close}"
        return f"{chain}{self.answer_open}{answer}{self.answer_close}"

    def read(self, content: str) -> tuple[str, str] | None:
        """Returns (reasoning, answer) of a content in this layout; None when it has no chain in these marks.

        The chain reaches to the last closing mark. Raises RowFault, which says what is wrong, when a chain has no end
        or no beginning, or no answer follows it.
        """
        begin, end = self.open.strip(), self.close.strip()
        if not begin or not end:
            return None
        if not content.lstrip().startswith(begin):
            if end in content and begin not in content:
                raise RowFault("chain", f"{end} closes a chain that was never opened with {begin}")
            return None
        head, found, tail = content.rpartition(end)
        if not found:
            raise RowFault("chain", f"the chain is open: {begin} is never closed with {end}")
        reasoning = head.lstrip().removeprefix(begin)
        answer = tail
        if mark := self.answer_open.strip():
            _, found, answer = tail.partition(mark)
            if not found:
                raise RowFault("answer", f"no {mark} after the chain")
        if mark := self.answer_close.strip():
            answer, found, _ = answer.rpartition(mark)
            if not found:
                raise RowFault("answer", f"the answer is open: no {mark} at its end")
        if not answer.strip():
            raise RowFault("answer", "no answer after the chain")
        return _unwrap(reasoning, self.open, self.close), _unwrap(
            answer, self.answer_open or self.close, self.answer_close
        )

    def cut(self, written: str) -> list[Part]:
        """Cuts an assistant's turn in this layout at the layout's marks, and returns the parts: texts and marks. White
        space next to a mark stays in the text."""
        parts: list[Part] = []
        begin, end = self.open.strip(), self.close.strip()
        if begin and end and written.lstrip().startswith(begin):
            head, _, tail = written.partition(begin)
            chain, _, written = tail.rpartition(end)
            parts = [(head, False), (begin, True), (chain, False), (end, True)]
        if (mark := self.answer_open.strip()) and mark in written:
            head, _, written = written.partition(mark)
            parts += [(head, False), (mark, True)]
        if (mark := self.answer_close.strip()) and mark in written:
            head, _, written = written.rpartition(mark)
            parts += [(head, False), (mark, True)]
        return [*parts, (written, False)]


def _unwrap(text: str, before: str, after: str) -> str:
    """Returns the text without the line breaks that belong to the marks."""
    lead = before[len(before.rstrip("\n")) :]
    trail = after[: len(after) - len(after.lstrip("\n"))]
    return text.removeprefix(lead).removesuffix(trail)


LAYOUTS = {name: Layout(*marks) for name, marks in TRAINING_MARKS.items()}
"""The layouts that are known by their names."""


def learnt_layout(folder: Path) -> Layout | None:
    """Returns the marks that a trained student learnt, as `finetune sft` noted them; None when there is no note."""
    noted = note_of(folder).get("layout")
    return Layout(**noted) if noted else None


def turn(content: str, layout: Layout) -> str:
    """Returns an assistant's content in the recipe's layout, whichever known layout the content has.

    A content in this layout is returned unchanged. A content without a chain only gets the marks of an answer, if they
    are missing. Raises RowFault as `Layout.read` does.
    """
    # The layout it begins in comes first: its chain may quote the marks of another.
    begun = sorted((layout, *LAYOUTS.values()), key=lambda known: not content.lstrip().startswith(known.open.strip()))
    for known in begun:
        if (parts := known.read(content)) is not None:
            return content if known == layout else layout.write(*parts)
    return content if content.startswith(layout.answer_open) else layout.write(None, content)
