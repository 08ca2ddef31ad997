"""Training on preference pairs: SimPO's loss against its formula, batches, resuming, and what is said of the pairs."""

import json
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import forked
import pytest
from students import smol_tokenizer, tiny_student
from test_pairs import row
from trainings import OTHERS_WARN, ROOT, weights

from finetune.proof.check import index_of
from finetune.recipe import Prefer, read_recipe
from finetune.run import Run
from finetune.train.preference.attempts import preference_pairs

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

pytestmark = OTHERS_WARN

PADDED = "packing = false\nper_device_train_batch_size = 4"
ONE_BY_ONE = "packing = false\nper_device_train_batch_size = 1"
PACKED = "packing = true"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("student"))


def recipe_of(folder: Path, student: Path, train: str = "", prefer: str = "", questions: int = 10) -> Path:
    """A RECIPE.toml over four answers to each of some questions, of different lengths; two are right, two wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        row(q, "so " * (1 + (5 * q + 3 * n) % 11), None if n % 2 else "wrong")
        for q in range(questions)
        for n in range(4)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "r.toml").write_text(
        f'student = "{student}"\ndata = "{folder}/train.jsonl"\noutput = "{folder}/out"\n[render]\nmax_tokens = 256\n'
        f"[prefer]\nwrong_share = 0.4\n{prefer}\n[train]\ntraces_per_step = 8\nlearning_rate = 3e-3\n{train}\n"
    )
    return folder / "r.toml"


def trainer_for(path: Path) -> tuple[Any, Any]:
    """(trainer, the pairs that it trains) of a recipe, in this process."""
    from finetune.recipe import read_recipe
    from finetune.rows.held_out import split
    from finetune.student import find
    from finetune.train.preference.attempts import preference_pairs
    from finetune.train.preference.simpo import PreferenceTrainer
    from finetune.train.trainer import build_trainer, load_arranged

    recipe = read_recipe(path, train=True)
    pairs, held_out = split(preference_pairs(recipe, None, smol_tokenizer()).examples, recipe.train)
    found = find(recipe.student)
    recipe, config, model, _ = load_arranged(recipe, pairs, found, 1_000_000, bf16=False, held_out=held_out)
    made = build_trainer(recipe, pairs, smol_tokenizer(), model, config, held_out=held_out, kind=PreferenceTrainer)
    return made, pairs


def by_formula(model: Any, pairs: Any, numbers: list[int], beta: float, gamma: float) -> Any:
    """SimPO's mean loss by its formula, one answer at a time, in plain PyTorch."""
    losses = []
    for n in numbers:
        ids, labels, at = pairs[n].ids, pairs[n].labels, pairs.table["chosen_tokens"][n].as_py()
        means = []
        for begin, end in ((0, at), (at, len(ids))):
            logits = model(input_ids=torch.tensor([list(ids[begin:end])])).logits[0].float()
            said = [
                logits[t].log_softmax(-1)[labels[begin + t + 1]]
                for t in range(end - begin - 1)
                if labels[begin + t + 1] != -100
            ]
            means.append(sum(said) / len(said))
        losses.append(-torch.log(torch.sigmoid(beta * (means[0] - means[1]) - gamma)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("train", [PADDED, ONE_BY_ONE, PACKED], ids=["padded", "one by one", "packed"])
def test_loss_and_gradient_of_a_step_are_the_formulas_however_pairs_are_batched(
    train: str, tmp_path: Path, student: Path
) -> None:
    trainer, pairs = trainer_for(recipe_of(tmp_path, student, train, "beta = 2.5\ngamma = 0.5"))
    model, lengths = trainer.model.train(), {len(e) for e in pairs}
    assert len(lengths) > 4
    batches = list(trainer.get_train_dataloader())[: len(list(iter(trainer.steps))) * 8 // len(pairs)]
    batches = batches[: trainer.args.gradient_accumulation_steps]
    step = next(trainer.steps.steps())
    count = trainer._get_num_items_in_batch(batches, torch.device("cpu"))
    assert int(count) == 8
    loss = sum(trainer.compute_loss(model, dict(b), num_items_in_batch=count) for b in batches)
    loss.backward()
    found = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model.set_attn_implementation("sdpa")
    plain = by_formula(model, pairs, step, 2.5, 0.5)
    plain.backward()
    assert float(loss) == pytest.approx(float(plain), abs=1e-5)
    assert max(float(p.grad.abs().max()) for p in model.parameters()) > 1e-3
    for got, p in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(got, p.grad, atol=1e-5, rtol=0)


def test_a_filler_is_no_pair_and_has_no_gradient(tmp_path: Path, student: Path) -> None:
    """In a launch of several processes one of them may have no pair left in the last step of an epoch."""
    from finetune.train.preference.simpo import PreferenceTrainer, pairs_in

    trainer, pairs = trainer_for(recipe_of(tmp_path, student, PACKED))
    rows = PreferenceTrainer.dataset(pairs, [2, 2])
    assert len(rows) == len(pairs) + 1
    batch = trainer.data_collator([rows[len(pairs)]])
    assert pairs_in(batch) == 0
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(8))
    loss.backward()
    assert float(loss) == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())
    with torch.no_grad():
        assert trainer.measure(batch) == (0, 0, 0)


def test_training_makes_chosen_answers_likelier_and_measures_held_out_pairs(tmp_path: Path, student: Path) -> None:
    path = recipe_of(tmp_path, student, "held_out = 0.3\neval_steps = 4\nepochs = 4")
    log = tmp_path / "log"
    assert forked.train(path, "--json", log=log, command="prefer").wait(forked.END_S) == 0, log.read_text()
    *said, block = log.read_text().splitlines()
    block = json.loads(block)
    assert block["method"] == "prefer"
    assert block["rows"] == sum(block["pairs"].values())
    assert (block["beta"], block["gamma"]) == (2.0, 0.3)
    assert block["loss_last"] < block["loss_first"]
    assert any("of a right over a shorter wrong" in line for line in said)
    assert f"{block['rows']} preference pairs" in (tmp_path / "out/README.md").read_text()
    points = [json.loads(line) for line in (tmp_path / "out/curve.jsonl").read_text().splitlines()]
    trained = [p for p in points if p["loss"] is not None]
    assert trained[-1]["preferred"] > trained[0]["preferred"]
    assert trained[-1]["margin"] > trained[0]["margin"]
    measured = [p for p in points if p.get("held_out_loss") is not None]
    assert measured[0]["step"] == 0
    assert all(0 <= p["held_out_accuracy"] <= 1 for p in measured)
    assert measured[0]["held_out_loss"] == pytest.approx(-math.log(1 / (1 + math.exp(0.3))), abs=0.05)
    again = forked.run("finetune", "prefer", str(path), "--json", "--prefer.beta", "3.0", cwd=ROOT)
    assert again.returncode == 2
    assert "prefer.beta: 2.0 there, 3.0 now" in again.stderr
    wrong = forked.run("finetune", "sft", str(path), "--dry-run", cwd=ROOT)
    assert wrong.returncode == 2
    assert "[prefer] is for `python -m finetune prefer`" in wrong.stderr


def test_a_dry_run_counts_pairs_by_kind_and_writes_nothing(tmp_path: Path, student: Path) -> None:
    path = recipe_of(tmp_path, student)
    text = path.read_text().replace("learning_rate = 3e-3\n", "").replace("traces_per_step = 8\n", "")
    path.write_text(text)
    done = forked.run("finetune", "prefer", str(path), "--dry-run", "--json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["answers"] == {"right": 20, "wrong": 20}
    assert said["pairs"]["shorter"] > said["pairs"]["longer"] > 0
    assert said["mean_tokens"]["chosen"] < said["mean_tokens"]["rejected"]
    assert said["resolved"]["learning_rate"] == 5e-7
    assert said["resolved"]["num_train_epochs"] == 1
    assert said["steps"] == 1
    assert not (tmp_path / "out").exists()
    words = forked.run("finetune", "prefer", str(path), "--dry-run", cwd=ROOT).stdout
    assert f"{said['pairs']['longer']} of a right over a shorter wrong" in words


def test_an_adapter_is_trained_further_merged(tmp_path: Path, student: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    adapter = tmp_path / "adapter"
    get_peft_model(
        AutoModelForCausalLM.from_pretrained(student), LoraConfig(target_modules=["q_proj"])
    ).save_pretrained(str(adapter))
    smol_tokenizer().save_pretrained(str(adapter))
    path = recipe_of(tmp_path, adapter)
    of_two = {**os.environ, "WORLD_SIZE": "2", "RANK": "0"}
    refused = forked.run("finetune", "prefer", str(path), "--launch.strategy", "ddp", cwd=ROOT, env=of_two)
    assert refused.returncode == 2
    assert f"an adapter: `python -m finetune merge {adapter}` first" in refused.stderr
    assert not (tmp_path / "adapter-merged").exists()
    done = forked.run("finetune", "prefer", str(path), "--json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["student"] == str(tmp_path / "adapter-merged")


def test_pairs_of_a_run_are_made_of_all_its_answers(tmp_path: Path, student: Path) -> None:
    """Its export has one answer to each question; the run has them all."""
    lines = [
        {"id": f"q{n}", "question": f"What is {n} + 1?", "answer": str(n + 1), "response": f"{said} \\boxed{{{n + 1}}}"}
        for n in range(3)
        for said in ("So", "So so so so")
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    imported = forked.run("harvest", "import", "log.jsonl", "--name", "r", cwd=tmp_path)
    assert imported.returncode == 0, imported.stderr
    (tmp_path / "r.toml").write_text(f'student = "{student}"\ndata = "data/runs/r"\noutput = "out"\n')
    done = forked.run("finetune", "prefer", "r.toml", "--dry-run", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["answers"], said["pairs"]) == ({"right": 6, "wrong": 0}, {"shorter": 3, "longer": 0})
    run = Run("r", f"sqlite:///{tmp_path}/data/winnow.db")
    pairs = preference_pairs(read_recipe(tmp_path / "r.toml", []).model_copy(update={"prefer": Prefer()}), run,
                             smol_tokenizer()).examples  # fmt: skip
    known = index_of(Path(pairs.manifests[0]))
    assert len(known) == 6
    chosen, rejected = (pairs.table[name].to_pylist() for name in ("sha256", "rejected_sha256"))
    assert {known[one] for one in chosen} | {known[one] for one in rejected} == set(range(6))


def test_killed_at_any_step_pairs_end_with_the_weights_of_an_unbroken_run(tmp_path: Path, student: Path) -> None:
    from finetune.train.output_folder.loss_curve import read_curve

    many, log = "epochs = 3\nsave_steps = 2", tmp_path / "log"
    whole, broken = recipe_of(tmp_path / "whole", student, many), recipe_of(tmp_path / "broken", student, many)
    assert forked.train(whole, log=log, command="prefer").wait(forked.END_S) == 0, log.read_text()
    output = broken.parent / "out"
    for until in (3, 6):
        p = forked.train(broken, log=log, command="prefer")
        deadline = time.monotonic() + forked.END_S
        while p.poll() is None and time.monotonic() < deadline and len(read_curve(output)) < until:
            time.sleep(0.002)
        p.kill()
        assert p.wait(forked.END_S) == -signal.SIGKILL, log.read_text()
    assert forked.train(broken, log=log, command="prefer").wait(forked.END_S) == 0, log.read_text()
    assert weights(output) == weights(whole.parent / "out")
