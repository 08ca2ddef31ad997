"""Looks once at every row of a dataset: makes its example or says why it cannot be trained, and notes what is odd.

Rows are looked at in parts, so that several processes can share the work. What the parts gave is put together here.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from finetune.recipe import Recipe, Render
from finetune.rows.conversation import conversation, has_chain
from finetune.rows.dataset import BadRow
from finetune.rows.examples import SCHEMA, LeftOut, runs
from finetune.rows.faults import Findings, RowFault
from finetune.rows.layout import Layout, turn
from finetune.rows.render import Example, render, render_last, turns
from finetune.rows.template import Tokenizer, end_token, layout_of, quotes_special
from harvest.answers.repetition import loop_at_end
from harvest.core.chain_marks import CHAIN_MARKS
from harvest.core.errors import TooLong
from harvest.core.foreign_json import clean
from harvest.core.nouns import Message
from harvest.core.printable import one_line
from harvest.proof.lines import sha256

OTHER_MARKS = re.compile(
    rf"\s*({'|'.join(re.escape(opening) for opening, _ in CHAIN_MARKS)}"
    r"|<\|?(?:reasoning|thinking|thoughts?|analysis|scratchpad)\b[^>\n]*>)",
    re.I,
)
"""Finds the opening mark of a chain in marks that the recipe does not name. A row with such a mark is reported."""
ORIGINS = ("teacher", "source", "licence", "teacher_terms")
"""The values of these columns of an export are counted, for the model card."""

Place = tuple[int, str, "Mapping[str, Any] | BadRow"]
"""(the row's number, where it is, its fields), as `recipe_rows` yields it."""
Finding = tuple[str, int, str, str]
"""(the kind of the finding, the row's number, where it is, the reason)."""


@dataclass(slots=True)
class Part:
    """What some rows gave, in the order of the rows."""

    examples: pa.RecordBatch
    """The examples, with the columns of SCHEMA."""
    rows: int = 0
    """How many rows were looked at."""
    digests: list[bytes] = field(default_factory=list)
    """A digest of the ids and the mask of each example."""
    found: list[Finding] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """How many examples have a chain (`chains`) and end with the end token (`ended`); how many rows have several turns
    (`several_turns`), and how many are trained as one example a turn (`split`)."""
    origins: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in ORIGINS})


class Surveyor:
    """Looks at rows, for one recipe and one tokenizer."""

    def __init__(self, recipe: Recipe, tokenizer: Tokenizer) -> None:
        self.render, self.tokenizer = recipe.render, tokenizer
        self.layout, self.end = layout_of(recipe.render, tokenizer), end_token(tokenizer)

    def look(self, places: Iterable[Place]) -> Part:
        """Returns what these rows gave. No row raises."""
        columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
        part = Part(pa.RecordBatch.from_pydict(columns, SCHEMA))
        for row, where, value in places:
            part.rows += 1
            try:
                if isinstance(value, BadRow):
                    raise value
                _count_origins(value, part.origins)
                made = examples_of(value, where, self.render, self.tokenizer, self.layout)
            except RowFault as e:
                part.found.append((e.kind, row, where, e.reason))
                bad: Mapping[str, Any] = {} if isinstance(value, BadRow) else value
                digest = sha256(bad) if bad else ""
                part.left_out.append(LeftOut(row, digest, _text(bad, "id"), _text(bad, "question_id"), e.reason))
                continue
            part.counts["several_turns"] += sum(m["role"] == "assistant" for m in made[-1].messages) > 1
            part.counts["split"] += len(made) > 1
            asked = [m["content"] for m in made[-1].messages if m["role"] == "user"]
            named = value.get("question_id")
            is_id = isinstance(named, str | int) and named != "" and clean(str(named)) == str(named)
            question_id = str(named) if is_id else _digest("\0".join(asked)).hex()
            own, digest = _text(value, "id"), sha256(value)
            for place, messages, example in made:
                if isinstance(example, TooLong):
                    kind = "too long" if self.render.too_long == "refuse" else "left out"
                    part.found.append((kind, row, place, str(example)))
                    part.left_out.append(LeftOut(row, digest, own, question_id, str(example)))
                    continue
                columns["ids"].append(example.ids)
                columns["trained"].append(runs(example.mask))
                columns["id"].append(own)
                columns["sha256"].append(digest)
                columns["row"].append(row)
                columns["where"].append(place)
                columns["question_id"].append(question_id)
                columns["asked"].append([m["content"] for m in messages if m["role"] == "user"])
                part.digests.append(_digest(example.ids.tobytes() + example.mask.tobytes()))
                odd = self._odd(value, messages, example, part.counts)
                part.found += ((kind, row, place, why) for kind, why in odd)
        part.examples = pa.RecordBatch.from_pydict(columns, SCHEMA)
        return part

    def _odd(
        self, value: Mapping[str, Any], messages: Sequence[Message], example: Example, counts: Counter[str]
    ) -> Iterable[tuple[str, str]]:
        """Yields (kind, reason) of what is odd about a row that can be trained, and counts the row in `counts`."""
        answer = messages[-1]["content"]
        counts["ended"] += bool(example.mask[-1]) and example.ids[-1] == self.end
        if has_chain(messages, self.layout):
            counts["chains"] += 1
        elif marks := OTHER_MARKS.match(answer):
            yield "marks", f"the answer begins with {marks[1]!r}, which is no mark of this recipe"
        else:
            yield "chainless", "no chain"
        if quoted := next(filter(None, map(self._quoted, messages)), None):
            yield "quoted", f"holds the text {quoted!r}"
        if (loop := loop_at_end(answer)) is not None:
            yield "loop", f"{loop.block.strip()[:40]!r} again and again until its end"
        if value.get("accepted") is False:
            yield "rejected", str(value.get("reason") or "not accepted")

    def _quoted(self, message: Message) -> str | None:
        if message["role"] != "assistant":
            return quotes_special(message["content"], self.tokenizer)
        texts = [t for t, is_mark in self.layout.cut(turn(message["content"], self.layout)) if not is_mark]
        return next(filter(None, (quotes_special(t, self.tokenizer) for t in texts)), None)


class Made(NamedTuple):
    """What became of a row, or of one turn of a row: the example that is trained, or the error that it is too long."""

    where: str
    messages: Sequence[Message]
    example: Example | TooLong


def examples_of(
    value: Mapping[str, Any], where: str, render_as: Render, tokenizer: Tokenizer, layout: Layout
) -> list[Made]:
    """Returns the example of a row, or one for each turn where the student's template strips earlier chains.

    Raises RowFault when the row cannot be trained.
    """
    split = turns(conversation(value, layout), tokenizer, layout)
    made = []
    for n, messages in enumerate(split):
        place = f"{where}, turn {n}" if len(split) > 1 else where
        try:
            how = render_last if len(split) > 1 else render
            made.append(Made(place, messages, how(messages, tokenizer, render_as.max_tokens, layout)))
        except TooLong as e:
            made.append(Made(place, messages, e))
    return made


def _text(row: Mapping[str, Any], name: str) -> str:
    return value if isinstance(value := row.get(name), str) else ""


def _count_origins(row: Mapping[str, Any], origins: Mapping[str, Counter[str]]) -> None:
    teacher = row.get("teacher")
    named = {**row, "teacher": teacher.get("model") if isinstance(teacher, Mapping) else teacher}
    for name, count in origins.items():
        if isinstance(value := named.get(name), str) and value.strip():
            count[one_line(value, 120)] += 1


@dataclass(slots=True)
class Survey:
    """What the rows of a whole dataset gave, apart from their examples."""

    findings: Findings = field(default_factory=Findings)
    counts: Counter[str] = field(default_factory=Counter)
    """As in a part."""
    dropped: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    origins: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in ORIGINS})
    seen: dict[bytes, int] = field(default_factory=dict)
    """Maps the digest of each example to the first row that has it."""

    def add(self, part: Part) -> None:
        """Adds what the next rows gave."""
        rows, places = (part.examples[name].to_pylist() for name in ("row", "where"))
        for digest, row, where in zip(part.digests, rows, places, strict=True):
            if (first := self.seen.setdefault(digest, row)) != row:
                self.findings.add("duplicate", row, where, f"the same as row {first}")
        for kind, row, where, why in part.found:
            self.findings.add(kind, row, where, why)
            if kind == "left out":
                self.dropped.append(f"{where}: {why}")
        self.left_out += part.left_out
        self.counts += part.counts
        for name, count in part.origins.items():
            self.origins[name] += count

    def end(self) -> None:
        """Drops the findings of rows without a chain if no row at all has a chain. It is called after the last rows."""
        if not self.counts["chains"]:
            self.findings.of.pop("chainless", None)
            self.findings.counts.pop("chainless", None)


def _digest(data: bytes | str) -> bytes:
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return hashlib.blake2b(data, digest_size=16).digest()
