"""Writes the model card of a trained student: its data, its teachers and their terms, its cost, and its accuracy.

The card is written again after each training, evaluation and merge, from winnow.json and the run's report.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.note import note_of
from finetune.recipe import Recipe
from finetune.rows.examples import Examples
from finetune.run import standalone_evaluations, trained_on
from finetune.student import find, sizes
from finetune.train.pruning.card import in_words
from harvest.core.files import write_whole
from harvest.core.printable import cell, table
from harvest.proof.manifest import NAME, root_of
from harvest.report.evaluations import evaluation_entry, gains

SHOWN = 12
"""At most so many values of a column are named."""
UNTITLED = ("", "")
"""A table of names and values has this head."""


def provenance(recipe: Recipe, examples: Examples) -> dict[str, Any]:
    """Returns where the rows come from, by their columns: {"datasets": […], "teacher": {"r1": 324}, …}."""
    counts = {name: Counter(count).most_common(SHOWN) for name, count in examples.origins.items() if count}
    return {"datasets": datasets_of(recipe), **{name: dict(most) for name, most in counts.items()}}


def datasets_of(recipe: Recipe) -> list[str]:
    """Returns the datasets of a recipe, by the names that the recipe gives them."""
    return [recipe.data, *(m.data for m in recipe.mix)]


def write_model_card(folder: Path) -> None:
    """Writes the README.md of a student that finetune trained. For any other student it does nothing."""
    note = note_of(folder)
    if not note.get("training"):
        return
    run = trained_on(folder)
    report, kept = (run.report(), []) if run else (None, standalone_evaluations(folder))
    note["manifest_root"] = root_of(folder / NAME)
    note["cut_from"] = sizes(find(str(folder))).get("cut_from")
    write_whole(folder / "README.md", card(folder.name, note, report, kept))


def card(
    name: str,
    note: Mapping[str, Any],
    report: Mapping[str, Any] | None,
    kept: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Returns the card as text, from winnow.json (`note`) and the run's report. The card names what is not known.

    `kept` are the evaluations of a student that has no report.
    """
    training, data = note["training"], note.get("provenance") or {}
    pairs = training.get("pairs")
    is_adapter = training["weights"] != "full" and not note.get("merged")
    entries = [evaluation_entry(e["settings"], e["answers"]) for e in kept if e["answers"]]
    measured = {"evaluation": entries, "gains": gains(kept)} if report is None else report
    lines = [
        "---",
        f"library_name: {'peft' if is_adapter else 'transformers'}",
        "pipeline_tag: text-generation",
        *([f"base_model: {training['student'].partition('@')[0]}"] if training["student"].count("/") == 1 else []),
        "tags: [reasoning, distillation, winnow]",
        "---",
        "",
        f"# {name}",
        "",
        f"{cell(training['student'])}, {_weights(training, note)}, "
        f"trained by winnow on {training['rows']:,} {'preference pairs' if pairs else 'conversations'}.",
        "",
        "## Data",
        "",
        *table(UNTITLED, _data(training, data)),
        "",
        *_proof(note.get("manifest_root")),
        "## Training",
        "",
        *table(UNTITLED, _training(training, note)),
        "",
        "## Evaluation",
        "",
        *_evaluation(measured),
        "",
        "## Costs",
        "",
        *table(UNTITLED, _costs(training, report)),
        "",
    ]
    return "\n".join(lines)


def _proof(root: str | None) -> Iterator[str]:
    if root is not None:
        yield "`winnow.manifest` says of each row that was trained which answer it is, what it cost and who judged it."
        yield f"`winnow verify-student FOLDER` checks it without a network. Its root is `{root}`."
        yield ""


def _weights(training: Mapping[str, Any], note: Mapping[str, Any]) -> str:
    if training["weights"] == "full":
        return "all weights"
    return f"{training['weights']} adapters{' merged into it' if note.get('merged') else ''}"


def _data(training: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "datasets", ", ".join(map(cell, data.get("datasets", ()))) or "not recorded"
    yield "rows", f"{training['rows']:,}, and {training['dropped']:,} left out as too long"
    yield "what was trained", training["data"]
    words = {"teacher": "teacher", "teacher_terms": "its terms on training", "licence": "licences", "source": "sources"}
    for name, title in words.items():
        counts = data.get(name, {})
        yield title, "; ".join(f"{cell(k)}: {n:,} rows" for k, n in counts.items()) or "not recorded"


def _training(training: Mapping[str, Any], note: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if cut := note.get("cut_from"):
        yield "its body", in_words(cut)
    if pairs := training.get("pairs"):
        loss = f"SimPO with beta {training['beta']:g} and gamma {training['gamma']:g}"
        of = f"{pairs['shorter']:,} of the shortest right answer over the longest, {pairs['longer']:,} of a right one"
        yield "pairs", f"{of} over a shorter wrong one; {loss}"
    yield "tokens", f"{training['tokens']:,}, of which {training['trained_tokens']:,} were trained"
    yield "epochs, steps", f"{training['epochs']:g}, {training['steps']:,}"
    yield "learning rate, seed", f"{training['learning_rate']:g}, {training['seed']}"
    first, last = training["loss_first"], training["loss_last"]
    yield "loss", "not recorded" if first is None else f"{first:.4f} at first, {last:.4f} at last"
    if h := training.get("held_out"):
        losses = f"{h['first_loss']:.4f} at first, {h['best_loss']:.4f} at step {h['best_step']}, {h['last_loss']:.4f}"
        yield (
            "held-out loss",
            f"{losses} at last, of {h['questions']:,} questions; the student is step {h['student_step']}",
        )
    yield "precision, device", f"{training['precision']}, {training['device']}"
    if commit := training.get("student_commit"):
        yield "the student's commit", commit
    yield "versions", ", ".join(f"{k} {v}" for k, v in training["versions"].items())
    if layout := note.get("layout"):
        yield "marks of a chain", f"`{layout['open'].strip()}` … `{layout['close'].strip()}`"


def _evaluation(report: Mapping[str, Any]) -> list[str]:
    entries = report["evaluation"]
    if not entries:
        return ["Not evaluated: whether it is better than what it was trained from is not known."]
    rows = []
    for e in entries:
        share, low, high, unfinished = (_percent(e[k]) for k in ("accuracy", "low", "high", "unfinished"))
        tokens = "unknown" if e["mean_output_tokens"] is None else f"{e['mean_output_tokens']:.0f}"
        asked = (cell(e["model"]), cell(e["questions"]), str(e["n"]))
        rows.append((*asked, share, f"{low} to {high}", tokens, unfinished))
    head = ("model", "questions", "n", "right", "95% interval", "tokens an answer", "unfinished")
    lines = table(head, rows)
    for g in report["gains"]:
        lines += ["", f"{cell(g['model'])}, {cell(g['questions'])}: {g['points']:+.1f} points "
                      f"(95%: {g['low']:+.1f} to {g['high']:+.1f}, paired by question)."]  # fmt: skip
    return lines


def _costs(training: Mapping[str, Any], report: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if report is None:
        yield "teacher", "not recorded"
    else:
        money = report["money"]
        yield "teacher", f"${money['spent_usd']}, in doubt ${money['in_doubt_usd']}"
        yield "an accepted trace", _dollars(money["usd_per_accepted_trace"])
    hours = f"{training['gpu_hours']:g} GPU-hours, {training['wall_s']:,.0f} s"
    yield "training", f"{_dollars(training['cost_usd'])}, {hours}"
    if report is not None:
        left = "".join(f"; without {what}" for what in report["total_leaves_out"])
        yield "in all", f"${report['total_usd']}{left}"


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f}%"


def _dollars(usd: str | None) -> str:
    return "unknown" if usd is None else f"${usd}"
