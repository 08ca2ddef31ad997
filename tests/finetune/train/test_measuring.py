"""Held-out questions while training: what is measured, which student is chosen, when it stops, and that kills change
nothing."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import scaled
from hypothesis import given
from hypothesis import strategies as st
from students import chat, tiny_student
from trainings import OTHERS_WARN, Make, make, student, trainer_for, weights

from finetune.recipe import Recipe
from finetune.rows.examples import Examples
from finetune.rows.held_out import is_held_out
from finetune.rows.render import Example
from finetune.train.output_folder.loss_curve import in_words, read_curve
from harvest.report import sentences
from harvest.report.loss_curve import thinned, turned

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures

pytestmark = OTHERS_WARN

HELD_OUT = 'held_out = "0.3"'


# ---- what is measured


def by_hand(trainer: Any) -> tuple[float, float]:
    """(loss, accuracy) of the held-out rows, each row alone, with all of its logits."""
    loss, right, trained = 0.0, 0, 0
    for row in trainer.eval_dataset:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
        logits = trainer.model(input_ids=ids).logits[0, :-1].float()
        is_trained = labels != -100
        loss += torch.nn.functional.cross_entropy(logits[is_trained], labels[is_trained], reduction="sum").item()
        right += int((logits.argmax(-1) == labels)[is_trained].sum())
        trained += int(is_trained.sum())
    return loss / trained, right / trained


def test_loss_and_accuracy_are_by_trained_token_however_rows_are_laid_out(make: Make) -> None:
    recipe = make("r", HELD_OUT)
    ways = [{}, {"train__per_device_train_batch_size": 2}, {"train__packing": True}, {"train__padding_free": True}]
    trainers = [trainer_for(recipe, **way)[0] for way in ways]
    wanted = by_hand(trainers[0])
    assert wanted[0] > 1
    for trainer in trainers:
        found = trainer.evaluate()
        assert (found["eval_loss"], found["eval_mean_token_accuracy"]) == pytest.approx(wanted, abs=1e-5)


def test_trls_head_measures_the_same(make: Make) -> None:
    trainer, _ = trainer_for(make("r", HELD_OUT), train__label_smoothing_factor=0.1)
    assert trainer.head is not None
    found = trainer.evaluate()
    assert (found["eval_loss"], found["eval_mean_token_accuracy"]) == pytest.approx(by_hand(trainer), abs=1e-5)


def test_measuring_changes_no_number_that_is_learnt(make: Make) -> None:
    """With dropout, whose random numbers come from the generator that a loader would draw from too."""
    lora = {"method": "lora", "train__lora_dropout": 0.5}
    often, _ = trainer_for(make("often", HELD_OUT + "\neval_steps = 1"), **lora)
    often.train()
    never, _ = trainer_for(make("never", HELD_OUT + "\neval_steps = 1000"), **lora)
    never.args.eval_on_start = False
    never.train()
    losses, others = ([e["loss"] for e in t.state.log_history if "loss" in e] for t in (often, never))
    assert losses == others
    assert [e["step"] for e in often.state.log_history if "eval_loss" in e] == list(range(len(losses) + 1))


@given(st.integers(1, 5000), st.integers(1, 2000), st.integers(1, 64))
def test_measuring_costs_at_most_three_percent_and_is_done_at_most_ten_times_an_epoch(
    trained: int, out: int, per_step: int
) -> None:
    from finetune.train.measuring import measures_every

    def rows(n: int) -> Examples:
        from array import array

        row = Example(array("i", [0] * 10), array("b", [1] * 10))
        return Examples.of([row] * n)

    recipe = Recipe.model_validate(
        {"student": "s", "data": "d", "output": "o", "train": {"traces_per_step": per_step, "held_out": 0.1}}
    )
    steps = -(-trained // per_step)
    times = steps / measures_every(recipe, rows(trained), rows(out))
    assert times <= 10
    assert times * out / 3 <= 0.03 * trained * (1 + 1e-9)


# ---- which student is chosen


def write_recipe(folder: Path, student: Path, top: str = "") -> Path:
    """A training on rows that all say 7, which helps with the other digits of some 50 others at first, then harms."""
    draw = random.Random(1)

    def row(n: int) -> dict[str, Any]:
        said = [draw.randrange(10) if is_held_out(f"q{n}", 0.78, 0) else 7 for _ in range(4)]
        return {"messages": chat(f"Say {n}.", " ".join(map(str, said))), "question_id": f"q{n}"}

    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row(n)) + "\n" for n in range(72)))
    (folder / "r.toml").write_text(
        f'student = "{student}"\ndata = "{folder}/train.jsonl"\noutput = "{folder}/out"\n{top}\n'
        "[render]\nmax_tokens = 128\n[train]\nepochs = 20\ntraces_per_step = 10\nlearning_rate = 5e-2\n"
        'lr_scheduler_type = "constant"\nwarmup_steps = 0\nsave_steps = 3\nheld_out = "0.78"\neval_steps = 2\n'
    )
    return folder / "r.toml"


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student that was saved in bfloat16, and so is saved in it again, while it is trained in float32."""
    from transformers import AutoModelForCausalLM

    folder = tiny_student(tmp_path_factory.mktemp("halved"))
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("top", ["", 'method = "lora"'][: scaled(1, 2)], ids=["full", "lora"][: scaled(1, 2)])
def test_the_best_student_is_kept_and_the_training_stops_and_kills_change_neither(
    top: str, halved: Path, tmp_path: Path
) -> None:
    whole, short, broken = (write_recipe(tmp_path / name, halved, top) for name in ("whole", "short", "broken"))
    log, stop = tmp_path / "log", ("--train.stop_after", "3")
    assert forked.trained(whole, *stop, log=log) == 0, log.read_text()
    output = whole.parent / "out"
    entry = json.loads((output / "winnow.json").read_text())["training"]
    found, curve = entry["held_out"], read_curve(output)
    best = found["best_step"]
    measured = {p["step"]: p["held_out_loss"] for p in curve if "held_out_loss" in p}
    assert measured[best] == min(loss for step, loss in measured.items() if step) == found["best_loss"]
    assert list(measured) == list(range(0, best + 7, 2)), "three measurements more, then it stopped"
    assert entry["steps"] == best + 6 < 40
    assert found["student_step"] == best
    said = turned(curve)
    assert top or said, "adapters of a student of random weights learn too little to show it"
    if said:
        assert f"step {best}, {found['best_loss']:.4f}, and rose to {found['last_loss']:.4f}" in said
        assert log.read_text().count(said) == in_words(curve).count(said) == 1
    assert f"the student is step {best}" in (output / "README.md").read_text()
    # The rate is constant: so a training that ends there has the same weights.
    epochs = ("--train.epochs", str(best / 2), "--train.eval_steps", "1000")
    assert forked.trained(short, *epochs, log=log) == 0, log.read_text()
    assert weights(short.parent / "out") == weights(output)
    killed(broken, stop, log)
    assert forked.trained(broken, *stop, log=log) == 0, log.read_text()
    assert weights(broken.parent / "out") == weights(output)
    again = json.loads((broken.parent / "out/winnow.json").read_text())["training"]
    assert again["held_out"] == found
    left = {p.name for p in (broken.parent / "out").iterdir()}
    assert left == {p.name for p in output.iterdir()}
    assert not [name for name in left if name.startswith(("best-", ".best", "checkpoint-"))]


def killed(recipe: Path, stop: tuple[str, ...], log: Path) -> None:
    """Kills it while it writes its first best student, and before and after the best measurement."""
    if "lora" not in recipe.read_text():  # PEFT writes adapters, with a function of its own
        p = forked.train(recipe, *stop, log=log, torn=("model.safetensors", ".best"))
        assert p.wait(forked.END_S) == -signal.SIGKILL, log.read_text()
    for step in (5, 8, 10):
        p = forked.train(recipe, *stop, log=log)
        deadline = time.monotonic() + forked.END_S
        while p.poll() is None and time.monotonic() < deadline:
            points = read_curve(recipe.parent / "out")
            if points and points[-1]["step"] >= step:
                break
            time.sleep(0.002)
        p.kill()
        assert p.wait(forked.END_S) == -signal.SIGKILL, log.read_text()


# ---- how it is shown


def point(step: int, loss: float | None) -> dict[str, Any]:
    logged = {"step": step, "epoch": 0.1, "loss": 1.0, "learning_rate": 1.0, "grad_norm": 1.0, "tokens_per_s": 1.0}
    return logged if loss is None else {**logged, "held_out_loss": loss, "held_out_accuracy": 0.5}


def test_a_held_out_loss_that_ends_above_its_lowest_is_said() -> None:
    assert turned([point(1, None)]) is None
    assert turned([point(0, 3.0), point(1, None), point(2, 2.0), point(4, 2.01)]) is None
    said = turned([point(0, 3.0), point(1, None), point(2, 2.0), point(4, 2.5)])
    assert said == "held-out loss was lowest at step 2, 2.0000, and rose to 2.5000 by step 4"
    shown = in_words([point(0, 3.0), point(1, None), point(2, 2.0), point(4, 2.5)])
    assert "held-out loss 3.0000 to 2.5000, lowest 2.0000 at step 2" in shown
    assert shown.endswith(said)
    assert "held-out" not in in_words([point(1, None)])
    entry = {
        "questions": 60, "first_loss": 3.0, "best_loss": 2.0, "last_loss": 2.5, "first_accuracy": 0.1,
        "best_accuracy": 0.25, "best_step": 2, "student_step": 2,
    }  # fmt: skip
    told = sentences.held_out(
        {"method": "sft", "held_out": entry, "curve": [point(0, 3.0), point(2, 2.0), point(4, 2.5)]}
    )
    assert told is not None
    assert told.startswith("60 held-out questions: loss 3.000 at first, 2.000 at step 2, 2.500 at last; tokens guessed")
    assert told.endswith(f"The student is that of step 2. H{said[1:]}.")
    assert sentences.held_out({"curve": []}) is sentences.held_out({"held_out": None, "curve": []}) is None


@given(st.integers(1, 900), st.integers(1, 60), st.integers(6, 200))
def test_a_thinned_curve_keeps_its_measurements(n: int, every: int, most: int) -> None:
    points = [point(step, 1.0 if step % every == 0 else None) for step in range(n)]
    kept = thinned(points, most)
    assert len(kept) == min(n, most)
    measured = [p["step"] for p in points if "held_out_loss" in p]
    if len(measured) <= most // 2 - 2:
        assert [p["step"] for p in kept if "held_out_loss" in p] == measured
