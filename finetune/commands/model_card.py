"""The model card of a trained student, written anew after a training, an evaluation and a merge."""

from pathlib import Path

from finetune.note import note_of
from finetune.run import standalone_evaluations
from finetune.train.output_folder.card import report_of, write_card


def write_model_card(folder: Path) -> None:
    """Writes README.md of a student that finetune trained; does nothing for any other."""
    note = note_of(folder)
    if run := note.get("run"):
        write_card(folder, note, report_of(run["name"], run["store"]))
    else:
        write_card(folder, note, None, standalone_evaluations(folder))
