"""Checks a dataset before it is trained: every row with its tokens and mask, and oddities of the whole dataset."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from rich.text import Text

from finetune.cost import summary
from finetune.recipe import Recipe
from finetune.rows.cache import rendered
from finetune.rows.examples import Examples
from finetune.rows.faults import Findings
from finetune.rows.held_out import counts, split
from finetune.rows.template import Tokenizer, end_token, layout_of, opened_otherwise
from finetune.student import count_parameters, find
from harvest.core.errors import ConfigError
from harvest.report.loss_curve import BARS
from harvest.selection.decontamination import Evaluation

WIDTH = 32
LONG_TOKENS = 2048
"""A row that trains so many tokens has a long chain. The paper below names no number; this one is ours."""
SHORT_PER_LONG, SMALL_WEIGHTS = 4, 3.5e9
"""Students of "3B" (3.1 to 3.2 billion weights) or less learn best from one long chain to four short ones. Source:
arXiv 2502.12143."""


def preflight(
    recipe: Recipe, tokenizer: Tokenizer, evaluations: Sequence[Evaluation] = ()
) -> tuple[dict[str, Any], Findings, Examples]:
    """Returns (what --json prints, all findings, the rows that can be trained or held out). It loads no weights.

    `rows` and the tokens are those that are trained; `held_out` counts the others.

    Raises DatasetError when the dataset does not exist or every question is held out, ConfigError when the tokenizer
    cannot be used.
    """
    layout = layout_of(recipe.render, tokenizer)
    made, survey = rendered(recipe, tokenizer)
    overlaps = _overlaps(made, survey.findings, evaluations)
    trained, held_out = split(made, recipe.train)
    steps = ceil(len(trained) / recipe.train.traces_per_step)
    warnings = list(made.notes)
    if (mark := opened_otherwise(tokenizer, layout)) is not None:
        warnings.append(
            f"the student's chat template writes {mark} itself, and render.reasoning has {layout.open.strip()!r}"
            f" after it: the chain would stand in both, and {mark} never be closed. Take render.reasoning ="
            ' "think", or a student whose template opens none'
        )
    if (words := long_for_a_small_student(recipe, trained)) is not None:
        warnings.append(words)
    found = {
        "data": recipe.data,
        "student": recipe.student,
        "max_tokens": recipe.render.max_tokens,
        **trained.summary(),
        "held_out": counts(held_out),
        "faulty": survey.findings.faults,
        "questions": len({"\0".join(asked) for _, _, asked in made.asked()}),
        "several_turns": survey.counts["several_turns"],
        "one_row_a_turn": survey.counts["split"],
        "chains": survey.counts["chains"],
        "end_token": tokenizer.convert_ids_to_tokens(end_token(tokenizer)),
        "ended": survey.counts["ended"],
        "steps_per_epoch": steps,
        "steps": ceil(steps * recipe.train.epochs),
        "evaluations": [{"questions": e.name, "n": len(e.questions), "rows": overlaps[e.name]} for e in evaluations],
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
            for kind, words, count, some in survey.findings.kinds()
        ],
    }
    return found, survey.findings, made


def long_for_a_small_student(recipe: Recipe, trained: Examples) -> str | None:
    """Returns a warning if a small student is to learn from more long chains than one to four short ones."""
    long = sum(tokens >= LONG_TOKENS for tokens in trained.trained_lengths)
    if long * (SHORT_PER_LONG + 1) <= len(trained):
        return None
    try:
        weights = count_parameters(find(recipe.student))
    except ConfigError:  # whoever loads the student says it
        return None
    if weights > SMALL_WEIGHTS:
        return None
    return (
        f"{long:,} of {len(trained):,} rows train {LONG_TOKENS:,} tokens or more, and the student has"
        f" {weights / 1e9:.1f} billion weights: students of 3 billion or fewer learn better from one long"
        " chain to four short ones"
        f" (arXiv 2502.12143). `harvest select RUN --select.long_tokens {LONG_TOKENS}` keeps that many of the long ones"
    )


def _overlaps(made: Examples, findings: Findings, evaluations: Sequence[Evaluation]) -> dict[str, int]:
    """Returns how many examples ask a question of each evaluation, and adds these rows to `findings`."""
    overlaps = dict.fromkeys((e.name for e in evaluations), 0)
    for row, where, asked in made.asked() if evaluations else ():
        for evaluation in evaluations:
            if key := next(filter(None, map(evaluation.asked_in, asked)), None):
                overlaps[evaluation.name] += 1
                findings.add("overlap", row, where, f"asks {key} of {evaluation.name}")
    return overlaps


def in_words(found: Mapping[str, Any], lengths: Sequence[int]) -> Text:
    """Returns what `preflight` found, as text. `lengths` are the token counts of the rows that can be trained."""
    text = Text()

    def line(name: str, words: str, *more: str) -> None:
        text.append(f"{name:<9}", "bold")
        text.append(words + "\n")
        for further in more:
            text.append(f"{'':<9}{further}\n")

    held_out = found["held_out"]
    good = found["rows"] + (held_out["rows"] if held_out else 0)
    total = good + found["dropped"] + found["faulty"]
    text.append(f"{found['data']} for {found['student']}\n\n", "bold")
    left = [f"{found[k]:,} {words}" for k, words in (("dropped", "too long"), ("faulty", "faulty")) if found[k]]
    line("rows", " · ".join([f"{good:,} of {total:,} can be trained", *left]))
    if held_out:
        counted = f"{held_out['rows']:,} of them, of {held_out['questions']:,} questions"
        line("held out", f"{counted}, {held_out['tokens']:,} tokens: measured, not trained")
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
        split = (
            f"{found['one_row_a_turn']:,} of them are one row a turn: the student's template strips earlier chains"
            if found["one_row_a_turn"]
            else ""
        )
        line("asks", f"{found['questions']:,} different questions{several}", *([split] if split else []))
        line("chains", f"in {found['chains']:,} of {good:,} rows")
        line("ends", f"with {found['end_token']}, trained, {found['ended']:,} of {good:,} rows")
        line("steps", f"{found['steps_per_epoch']:,} an epoch, {found['steps']:,} in all")
    for e in found["evaluations"]:
        line("overlap", f"{e['rows']:,} rows ask one of the {e['n']:,} questions of {e['questions']}")
    if expected := found.get("estimate"):
        text.append(summary.in_words({**expected, "held_out": None}) + "\n")  # said above
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
