"""Checks a dataset before it is trained: every row with its tokens and mask, and oddities of the whole dataset."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from rich.text import Text

from finetune.cost import summary
from finetune.recipe import Recipe
from finetune.rows.conversation import has_chain
from finetune.rows.dataset import Examples, survey
from finetune.rows.faults import Findings
from finetune.rows.layout import Layout, turn
from finetune.rows.render import Example
from finetune.rows.template import Tokenizer, end_token, layout_of, opened_otherwise, quotes_special
from harvest.answers.repetition import loop_at_end
from harvest.core.chain_marks import CHAIN_MARKS
from harvest.core.nouns import Message
from harvest.report.loss_curve import BARS
from harvest.selection.decontamination import Evaluation

OTHER_MARKS = re.compile(
    rf"\s*({'|'.join(re.escape(opening) for opening, _ in CHAIN_MARKS)}"
    r"|<\|?(?:reasoning|thinking|thoughts?|analysis|scratchpad)\b[^>\n]*>)",
    re.I,
)
"""Finds the opening mark of a chain in marks that the recipe does not name. A row with such a mark is reported."""
WIDTH = 32


class _Rows:
    """Gathers what is found about a dataset, row by row."""

    def __init__(self, layout: Layout, tokenizer: Tokenizer, evaluations: Sequence[Evaluation]) -> None:
        self.layout, self.tokenizer, self.evaluations = layout, tokenizer, evaluations
        self.findings, self.chainless = Findings(), Findings()
        self.end = end_token(tokenizer)
        self.seen: dict[bytes, int] = {}
        self.questions: set[bytes] = set()
        self.overlaps = dict.fromkeys((e.name for e in evaluations), 0)
        self.chains = self.ended = self.several_turns = 0

    def look(self, row: int, where: str, value: Mapping[str, Any], messages: list[Message], example: Example) -> None:
        def add(kind: str, reason: str) -> None:
            self.findings.add(kind, row, where, reason)

        answer = messages[-1]["content"]
        self.ended += example.labels[-1] == self.end
        self.several_turns += sum(m["role"] == "assistant" for m in messages) > 1
        if has_chain(messages, self.layout):
            self.chains += 1
        elif marks := OTHER_MARKS.match(answer):
            add("marks", f"the answer begins with {marks[1]!r}, which is no mark of this recipe")
        else:
            self.chainless.add("chainless", row, where, "no chain")
        digest = _digest(example.ids.tobytes() + example.mask.tobytes())
        if (first := self.seen.setdefault(digest, row)) != row:
            add("duplicate", f"the same as row {first}")
        asked = [m["content"] for m in messages if m["role"] == "user"]
        self.questions.add(_digest("\0".join(asked).encode("utf-8", "surrogatepass")))
        for evaluation in self.evaluations:
            if key := next(filter(None, map(evaluation.asked_in, asked)), None):
                self.overlaps[evaluation.name] += 1
                add("overlap", f"asks {key} of {evaluation.name}")
        if quoted := next(filter(None, (self._quoted(m) for m in messages)), None):
            add("quoted", f"holds the text {quoted!r}")
        if (loop := loop_at_end(answer)) is not None:
            add("loop", f"{loop.block.strip()[:40]!r} again and again until its end")
        if value.get("accepted") is False:
            add("rejected", str(value.get("reason") or "not accepted"))

    def _quoted(self, message: Message) -> str | None:
        if message["role"] != "assistant":
            return quotes_special(message["content"], self.tokenizer)
        texts = [t for t, is_mark in self.layout.cut(turn(message["content"], self.layout)) if not is_mark]
        return next(filter(None, (quotes_special(t, self.tokenizer) for t in texts)), None)


def preflight(
    recipe: Recipe, tokenizer: Tokenizer, evaluations: Sequence[Evaluation] = ()
) -> tuple[dict[str, Any], Findings, Examples]:
    """Returns (what --json prints, all findings, the rows that can be trained). It loads no weights.

    Raises DatasetError when the dataset does not exist, ConfigError when the tokenizer cannot be used.
    """
    rows = _Rows(layout_of(recipe.render, tokenizer), tokenizer, evaluations)
    made = survey(recipe, tokenizer, rows.findings, rows.look)
    if rows.chains:
        rows.findings.of |= rows.chainless.of
        rows.findings.counts |= rows.chainless.counts
    steps = ceil(len(made.examples) / recipe.train.traces_per_step)
    warnings = list(made.notes)
    if (mark := opened_otherwise(tokenizer, rows.layout)) is not None:
        warnings.append(
            f"the student's chat template writes {mark} itself, and render.reasoning has {rows.layout.open.strip()!r}"
            f" after it: the chain would stand in both, and {mark} never be closed. Take render.reasoning ="
            ' "think", or a student whose template opens none'
        )
    found = {
        "data": recipe.data,
        "student": recipe.student,
        "max_tokens": recipe.render.max_tokens,
        **made.summary(),
        "faulty": rows.findings.faults,
        "questions": len(rows.questions),
        "several_turns": rows.several_turns,
        "chains": rows.chains,
        "end_token": tokenizer.convert_ids_to_tokens(rows.end),
        "ended": rows.ended,
        "steps_per_epoch": steps,
        "steps": ceil(steps * recipe.train.epochs),
        "evaluations": [
            {"questions": e.name, "n": len(e.questions), "rows": rows.overlaps[e.name]} for e in evaluations
        ],
        "warnings": warnings,
        "findings": [
            {
                "kind": kind,
                "is_fault": words.is_fault,
                "count": count,
                "what": words.title,
                "remedy": words.remedy,
                "rows": [first._asdict() for first in some],
            }
            for kind, words, count, some in rows.findings.kinds()
        ],
    }
    return found, rows.findings, made


def in_words(found: Mapping[str, Any], lengths: Sequence[int]) -> Text:
    """Returns what `preflight` found, as text. `lengths` are the token counts of the rows that can be trained."""
    text = Text()

    def line(name: str, words: str, *more: str) -> None:
        text.append(f"{name:<9}", "bold")
        text.append(words + "\n")
        for further in more:
            text.append(f"{'':<9}{further}\n")

    total = found["rows"] + found["dropped"] + found["faulty"]
    text.append(f"{found['data']} for {found['student']}\n\n", "bold")
    left = [f"{found[k]:,} {words}" for k, words in (("dropped", "too long"), ("faulty", "faulty")) if found[k]]
    line("rows", " · ".join([f"{found['rows']:,} of {total:,} can be trained", *left]))
    if lengths:
        row = found["row_tokens"]
        share = 100 * found["trained_tokens"] / found["tokens"]
        line(
            "tokens",
            f"a row has {row['mean']:,.0f}: half at most {row['p50']:,}, 95% at most {row['p95']:,}, "
            f"the longest {row['max']:,} of {found['max_tokens']:,}",
            f"{_histogram(lengths)} 0 to {row['max']:,}",
            f"{found['tokens']:,} in all, {found['trained_tokens']:,} of them trained ({share:.1f}%)",
        )
        several = f" · {found['several_turns']:,} of several turns" if found["several_turns"] else ""
        line("asks", f"{found['questions']:,} different questions{several}")
        line("chains", f"in {found['chains']:,} of {found['rows']:,} rows")
        line("ends", f"with {found['end_token']}, trained, {found['ended']:,} of {found['rows']:,} rows")
        line("steps", f"{found['steps_per_epoch']:,} an epoch, {found['steps']:,} in all")
    for e in found["evaluations"]:
        line("overlap", f"{e['rows']:,} rows ask one of the {e['n']:,} questions of {e['questions']}")
    if expected := found.get("estimate"):
        text.append(summary.in_words(expected) + "\n")
    elif lengths:
        line("hours", "name launch.gpu for hours and memory: --launch.gpu H100 --launch.gpus 8")
    text.append("\n")
    for warning in found["warnings"]:
        text.append("! ", "bold yellow")
        text.append(f"{warning}\n")
    if not found["findings"]:
        text.append("✓ nothing odd about any row\n", "green")
    for finding in found["findings"]:
        text.append("✗ " if finding["is_fault"] else "! ", "bold red" if finding["is_fault"] else "bold yellow")
        rows = ", ".join(str(r["row"]) for r in finding["rows"][:8])
        more = ", …" if finding["count"] > 8 else ""
        text.append(f"{finding['count']:,} {finding['what']}: ")
        text.append(f"row{'s' if finding['count'] > 1 else ''} {rows}{more}\n", "bright_black")
        text.append(f"  → {finding['remedy']}\n")
    text.rstrip()
    return text


def _histogram(lengths: Sequence[int]) -> str:
    """Returns a line of bars: how many rows have how many tokens, from 0 to the longest row."""
    counts, longest = [0] * WIDTH, max(lengths)
    for n in lengths:
        counts[min(WIDTH - 1, n * WIDTH // longest)] += 1
    most = max(counts)
    return "".join(" " if not c else BARS[(len(BARS) - 1) * c // most] for c in counts)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
