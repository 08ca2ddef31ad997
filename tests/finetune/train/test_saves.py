"""When a training saves: as rarely as what a save takes allows, by the recipe, or never before the end."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from students import smol_tokenizer, sums
from trainings import Make, make, run, student, trainer_for

from finetune.recipe import Recipe, Train

torch = pytest.importorskip("torch", reason="needs the extra `train`")
transformers = pytest.importorskip("transformers", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures


@given(st.floats(0, 1e6))
def test_saving_costs_at_most_a_thirtieth_and_comes_at_most_every_five_minutes(took_s: float) -> None:
    from finetune.train.callback import save_interval_s

    interval_s = save_interval_s(took_s)
    assert interval_s >= 300
    assert took_s <= 0.03 * (interval_s + took_s) * (1 + 1e-9)
    assert interval_s == 300 or took_s == pytest.approx(0.03 * (interval_s + took_s))


def saved_at(recipe: Path, state: dict[str, Any], stopped_in: int = 0) -> list[int]:
    """The steps after which a training saves whose steps take 100 s and whose saves take 20 s.

    In step `stopped_in` it gets a signal.
    """
    from finetune.progress import Progress
    from finetune.train.callback import Watch

    trainer, _ = trainer_for(recipe, train__epochs=5)
    now_s, steps = [0.0], []

    class Time(transformers.TrainerCallback):  # type: ignore[misc,name-defined]  # transformers ships no types
        """The clock of a slow machine with a slow disk."""

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now_s[0] += 100
            if state.global_step + 1 == stopped_in:
                signal.raise_signal(signal.SIGTERM)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            now_s[0] += 20
            steps.append(state.global_step)

    output = Path(trainer.args.output_dir)
    output.mkdir(exist_ok=True)
    with Watch(output, state, Progress("sft"), trainer, clock=lambda: now_s[0]) as watch:
        trainer.add_callback(Time())
        trainer.add_callback(watch)
        trainer.train()
    return steps


def test_the_interval_follows_from_what_the_last_save_took_at_the_next_start_too(make: Make) -> None:
    """The first save is after five minutes, the next ones after 20 s × 97/3, which is 647 s."""
    state = {"wall_s": 0.0}
    assert saved_at(make("first"), state) == [4, 11, 18]
    assert state["save_s"] == 20
    assert saved_at(make("again"), state) == [7, 14, 21]


def test_a_recipe_that_says_when_to_save_is_obeyed(make: Make) -> None:
    assert saved_at(make("steps", "save_steps = 10"), {"wall_s": 0.0}) == [10, 20, 25]
    assert saved_at(make("never", 'save_strategy = "no"'), {"wall_s": 0.0}) == []


def test_a_training_that_saves_nothing_before_the_end_says_so_when_it_is_stopped(
    make: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    assert saved_at(make("clock"), {"wall_s": 0.0}, stopped_in=2) == [2]
    assert "end of this step, with a checkpoint" in capfd.readouterr().err
    assert saved_at(make("never", 'save_strategy = "no"'), {"wall_s": 0.0}, stopped_in=2) == []
    assert "end of this step, without a checkpoint" in capfd.readouterr().err


@pytest.mark.parametrize(("train", "most"), [({"save_strategy": "no"}, 0), ({}, 3), ({"save_total_limit": 1}, 2)])
def test_room_is_asked_for_only_where_checkpoints_are_saved(train: dict[str, Any], most: int, tmp_path: Path) -> None:
    from finetune.rows.cache import examples
    from finetune.train.training_args import most_checkpoints, training_config

    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps({"messages": m}) + "\n" for m in sums(8)))
    recipe = Recipe(student="s", data=str(data), output=str(tmp_path / "out"), train=Train(**train))
    config = training_config(recipe, examples(recipe, smol_tokenizer()), 1000, bf16=False)
    assert most_checkpoints(recipe, config) == most


def test_a_student_is_saved_in_its_own_precision_and_its_checkpoints_in_that_of_the_training(
    make: Make, student: Path, tmp_path: Path
) -> None:
    small = tmp_path / "bf16"
    model = transformers.AutoModelForCausalLM.from_pretrained(student, dtype=torch.bfloat16)
    model.save_pretrained(small)
    smol_tokenizer().save_pretrained(small)
    recipe = make(train="save_steps = 2\nsave_total_limit = 1")
    code, _, err = run(recipe, "--student", str(small), "--train.epochs", "1")
    assert code == 0, err
    output = recipe.parent / "out"
    newest = next(output.glob("checkpoint-*"))
    trained, exact = (transformers.AutoModelForCausalLM.from_pretrained(p) for p in (output, newest))
    assert (trained.dtype, exact.dtype) == (torch.bfloat16, torch.float32)
    for a, b in zip(trained.parameters(), exact.parameters(), strict=True):
        assert torch.equal(a, b.to(torch.bfloat16))
    sizes = [(p / "model.safetensors").stat().st_size for p in (output, newest)]
    assert sizes[0] < 0.6 * sizes[1]
