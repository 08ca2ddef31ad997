"""Training a student with random weights: what it learns, what is saved, and that no kill changes either."""

import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import scaled
from students import SMOL, smol_tokenizer, sums, tiny_student

from harvest.core.errors import ConfigError, InputError

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

pytestmark = [
    # Other people's code warns of its own future.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

ROOT = Path(__file__).parents[3]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("student"))


@pytest.fixture
def make(tmp_path: Path, student: Path) -> Make:
    """A RECIPE.toml over 40 short rows; `train` and `top` are lines of TOML."""

    def recipe(name: str = "a", train: str = "", top: str = "", rows: int = 40) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in sums(rows)))
        (folder / "r.toml").write_text(
            f'student = "{student}"\ndata = "{folder}/train.jsonl"\noutput = "{folder}/out"\n{top}\n'
            f"[render]\nmax_tokens = 256\n[train]\nepochs = 2\ntraces_per_step = 8\nlearning_rate = 3e-3\n{train}\n"
        )
        return folder / "r.toml"

    return recipe


def start(recipe: Path, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "finetune", "sft", str(recipe), *more]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(recipe: Path, *more: str) -> tuple[int, str, str]:
    p = start(recipe, *more)
    out, err = p.communicate(timeout=600)
    return p.returncode, out, err


def trainer_for(recipe: Path, **changes: Any) -> Any:
    """(trainer, examples) of a recipe, in this process."""
    from finetune.recipe import read_recipe
    from finetune.rows.dataset import examples
    from finetune.student import find, load_model
    from finetune.train.trainer import build_trainer
    from finetune.train.training_args import training_config

    read = read_recipe(recipe, [(k.replace("__", "."), json.dumps(v)) for k, v in changes.items()], train=True)
    made = examples(read, smol_tokenizer())
    torch.manual_seed(0)
    config = training_config(read, made, 1_000_000, bf16=False)
    return build_trainer(read, made, smol_tokenizer(), load_model(find(read.student), torch.float32), config), made


def weights(output: Path) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(output.glob("*.safetensors")))


# ---- what the trainer holds


def test_every_row_is_trained_once_an_epoch_and_none_is_cut(make: Make) -> None:
    trainer, made = trainer_for(make())
    assert trainer.args.max_length == 256
    seen = [i for batch in trainer.get_train_dataloader() for i in batch["input_ids"]]
    want = {tuple(e.ids) for e in made.examples}
    assert len(seen) == 40
    assert {tuple(i[: len(w)].tolist()) for i in seen for w in want if tuple(i[: len(w)].tolist()) == w} == want


def test_labels_are_the_turn_and_its_end_and_padding_is_not_trained(make: Make) -> None:
    trainer, _ = trainer_for(make())
    tokenizer = smol_tokenizer()
    for batch in trainer.get_train_dataloader():
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            trained = labels[labels != -100]
            assert tokenizer.decode(trained).startswith("<think>\n")
            assert trained[-1] == tokenizer.eos_token_id
            assert (labels[mask == 0] == -100).all()
            assert (ids[labels != -100] == trained).all()


def test_rows_share_a_step_by_chance_and_lie_in_it_by_length() -> None:
    from finetune.train.batches.steps import Split, Steps

    lengths = [random.Random(i).randint(1, 900) for i in range(50)]
    steps = Steps(lengths, 16, 3, Split(4, 4))
    first = list(steps.steps())
    assert sorted(i for step in first for i in step) == list(range(50))
    assert list(steps.steps()) == first
    for step in first:
        assert [lengths[i] for i in step] == sorted((lengths[i] for i in step), reverse=True)
    assert [i for rows in steps for i in rows] == [i for step in first for i in step]
    steps.set_epoch(1)
    assert set(first[0]) != set(next(steps.steps()))


def test_the_loss_is_trls_own(make: Make) -> None:
    trainer, _ = trainer_for(make())
    trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    ours = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(100))
    theirs = super(type(trainer), trainer).compute_loss(
        trainer.model, dict(batch), num_items_in_batch=torch.tensor(100)
    )
    model_s = trainer.model(**batch).loss * (batch["labels"][:, 1:] != -100).sum() / 100
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert ours.item() == pytest.approx(model_s.item(), rel=1e-6)


def test_bfloat16_is_what_a_cpu_multiplies_in_where_it_was_chosen(make: Make) -> None:
    trainer, _ = trainer_for(make(train="bf16 = true"))
    seen = []
    layer = trainer.model.model.layers[0].mlp.up_proj
    layer.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(100))
    assert seen == [torch.bfloat16]
    assert (loss.dtype, layer.weight.dtype) == (torch.float32, torch.float32)


def test_one_batch_or_several_small_ones_learn_the_same(make: Make) -> None:
    losses = []
    for n, micro in enumerate((8, 2, 1)):
        trainer, _ = trainer_for(make(str(n)), train__per_device_train_batch_size=micro, train__epochs=1)
        trainer.train()
        losses.append([e["loss"] for e in trainer.state.log_history if "loss" in e])
    assert len(losses[0]) == 5
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert losses[0] == pytest.approx(losses[2], abs=2e-5)


@pytest.mark.parametrize("micro", [3, 0, -2])
def test_a_batch_that_does_not_divide_the_step_is_refused(make: Make, micro: int) -> None:
    with pytest.raises(ConfigError, match=f"8 cannot be divided by per_device_train_batch_size = {micro}"):
        trainer_for(make(), train__per_device_train_batch_size=micro)


def test_long_rows_go_through_fewer_at_a_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, made = trainer_for(make())
    longest = max(map(len, made.examples))
    micro = trainer.args.per_device_train_batch_size
    assert micro * trainer.args.gradient_accumulation_steps == 8
    assert micro == 8 or micro * longest <= 2048


@pytest.mark.parametrize(
    "train",
    [
        'lr_scheduler_type = "sideways"',
        'target_modules = ["no_such_layer"]',
        "r = 0",
        'eos_token = "<no such token>"',
        'report_to = "nobody"',
        'optim = "adamw_bnb_8bit"',
    ],
)
def test_a_value_that_trl_or_peft_refuses_is_one_line(make: Make, train: str) -> None:
    top = 'method = "lora"' if train.startswith(("r ", "target")) else ""
    with pytest.raises(ConfigError, match=r"^\[train\]: ") as e:
        trainer_for(make(train=train, top=top))
    assert "\n" not in str(e.value)


def test_adapters_alone_learn_under_lora(make: Make) -> None:
    trainer, _ = trainer_for(make(train="r = 16\nlora_alpha = 256", top='method = "lora"'), train__epochs=8)
    trained = [n for n, p in trainer.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in n for n in trained)
    before = trainer.model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight.clone()
    trainer.train()
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    assert losses[-1] < losses[0]
    assert torch.equal(before, trainer.model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight)


# ---- the whole command


def test_a_trained_student_is_a_folder_that_transformers_loads(make: Make) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetune.rows.layout import LAYOUTS
    from finetune.run import layout_of

    recipe = make()
    code, out, err = run(recipe, "--json")
    assert code == 0, err
    block = json.loads(out)
    output = recipe.parent / "out"
    assert block["rows"] == 40
    assert block["steps"] == 10
    assert block["loss_last"] < block["loss_first"]
    assert block["tokens"] > block["trained_tokens"] > 0
    assert (block["epochs"], block["seed"], set(block["versions"])) == (2, 0, {"torch", "transformers", "trl"})
    assert block["cost_usd"] is None  # nobody said what this machine costs, which is not nothing
    model = AutoModelForCausalLM.from_pretrained(output)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert model.dtype == torch.float32
    assert model.config.use_cache
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert "<|im_start|>" in tokenizer.chat_template
    assert layout_of(output) == LAYOUTS["think"]
    assert not list(output.glob("checkpoint-*"))
    when = (output / "model.safetensors").stat().st_mtime_ns
    assert json.loads(run(recipe, "--json")[1]) == block
    assert (output / "model.safetensors").stat().st_mtime_ns == when  # finished is not trained again


def test_a_trained_adapter_is_a_folder_that_transformers_loads_over_its_base(make: Make) -> None:
    from finetune.student import find, load_model, load_tokenizer

    recipe = make(train="r = 4", top='method = "lora"')
    code, out, err = run(recipe, "--json")
    assert code == 0, err
    assert json.loads(out)["weights"] == "lora"
    trained = find(str(recipe.parent / "out"))
    assert load_tokenizer(trained).chat_template
    names = [n for n, _ in load_model(trained, torch.float32).named_parameters()]
    assert any("lora_" in n for n in names)


def claimed(recipe: Path, **changes: Any) -> None:
    from finetune.recipe import read_recipe
    from finetune.rows.dataset import examples
    from finetune.student import find
    from finetune.train.output_folder.state import identity_of, read_state, write_state

    read = read_recipe(recipe, [(k.replace("__", "."), json.dumps(v)) for k, v in changes.items()])
    output = Path(read.output)
    state = read_state(output, identity_of(read, examples(read, smol_tokenizer()), find(read.student)))
    output.mkdir(exist_ok=True)
    write_state(output, {**state, "wall_s": 1.0})


def test_another_recipe_for_the_same_output_is_refused_and_the_difference_named(make: Make) -> None:
    recipe = make()
    claimed(recipe)
    claimed(recipe, train__save_steps=7, train__logging_steps=3)  # these change nothing of what is learnt
    with pytest.raises(InputError) as e:
        claimed(recipe, train__learning_rate=1e-4, train__seed=9, train__weight_decay=0.1)
    assert "train.learning_rate: 0.003 there, 0.0001 now" in str(e.value)
    assert "train.seed: 0 there, 9 now" in str(e.value)
    assert "train.weight_decay: null there, 0.1 now" in str(e.value)
    with (recipe.parent / "train.jsonl").open("a") as f:
        f.write(json.dumps({"messages": sums(1)[0]}) + "\n")
    with pytest.raises(InputError, match="  data: "):
        claimed(recipe)


def test_a_folder_with_something_else_in_it_is_left_alone(make: Make) -> None:
    recipe = make()
    (recipe.parent / "out").mkdir()
    (recipe.parent / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="name an empty folder"):
        claimed(recipe)


def test_a_wrong_setting_does_not_spoil_the_output_folder(make: Make) -> None:
    recipe = make()
    code, _, err = run(recipe, "--train.optim", "adamw_bnb_8bit", "--train.epochs", "1")
    assert (code, err.count("\n")) == (2, 1), err
    code, _, err = run(recipe, "--train.epochs", "1")
    assert code == 0, err


def test_a_dry_run_checks_settings_and_output_and_writes_nothing(make: Make) -> None:
    recipe = make()
    output = recipe.parent / "out"
    code, out, err = run(recipe, "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["rows"] == 40
    assert not output.exists()
    assert run(recipe, "--dry-run", "--train.lr_scheduler_type", "sideways")[0] == 2
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    code, _, err = run(recipe, "--dry-run")
    assert code == 2
    assert "name an empty folder" in err


def test_two_trainings_into_one_folder_are_one_too_many(tmp_path: Path) -> None:
    from finetune.train.output_folder.state import alone

    with alone(tmp_path), pytest.raises(InputError, match="another process"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


@pytest.mark.parametrize("text", ["{}", "[]", "{"])
def test_a_state_that_is_not_ours_is_one_line(tmp_path: Path, text: str) -> None:
    from finetune.train.output_folder.state import read_state

    (tmp_path / "winnow.json").write_text(text)
    with pytest.raises(InputError, match=r"winnow\.json: (not what|cannot be read)"):
        read_state(tmp_path, {})


def test_where_nothing_can_be_written_it_is_one_line(tmp_path: Path) -> None:
    from finetune.train.output_folder.state import alone

    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), alone(tmp_path / "file" / "out"):
        pass


def test_the_parameters_of_a_student_are_counted_in_its_files(student: Path) -> None:
    from finetune.student import find, load_model
    from finetune.train.training_args import student_parameters

    model = load_model(find(str(student)), torch.float32)
    assert student_parameters(find(str(student))) == sum(p.numel() for p in model.parameters())


def test_a_finished_training_is_recorded_later_though_its_data_has_changed(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harvest.store import Store

    recipe, url = make(), f"sqlite:///{tmp_path}/w.db"
    short = ("--train.epochs", "0.2")
    assert run(recipe, *short)[0] == 0
    code, _, err = run(recipe, *short, "--run", "r", "--store", url)
    assert code == 2  # no such store
    assert not (tmp_path / "w.db").exists()
    with Store.open(url) as store:
        store.put_run("r", {}, None, "2026-01-01T00:00:00+00:00")
    with (recipe.parent / "train.jsonl").open("a") as f:
        f.write(json.dumps({"messages": sums(1)[0]}) + "\n")
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"messages": sums(1)[0]}) + "\n")
    code, _, err = run(recipe, *short, "--run", "r", "--store", url, "--data", str(other))
    assert code == 2, "what was asked for now was never trained"
    assert "holds a training of something else" in err
    code, out, err = run(recipe, *short, "--run", "r", "--store", url, "--json")
    assert code == 0, err
    with Store.open(url, write=False) as store:
        assert store.figures(store.run_id("r"))["training"] == [json.loads(out)]
    assert json.loads((recipe.parent / "out" / "winnow.json").read_text())["run"] == {"name": "r", "store": url}


def test_a_training_whose_loss_is_no_number_is_stopped_and_saves_nothing(make: Make) -> None:
    recipe = make()
    code, out, err = run(
        recipe, "--train.learning_rate", "1e38", "--train.warmup_steps", "0", "--train.save_steps", "1"
    )
    assert (code, out) == (2, "")
    assert "no number, and the training was stopped: lower train.learning_rate" in err
    assert not (recipe.parent / "out" / "model.safetensors").exists()
    assert len(list((recipe.parent / "out").glob("checkpoint-*"))) <= 1  # what came after is not kept


def test_a_training_that_cannot_be_recorded_is_said_to_be_safe(make: Make, tmp_path: Path) -> None:
    from finetune.commands.sft import record
    from finetune.recipe import read_recipe
    from finetune.run import Run
    from harvest.core.errors import StoreUnusable

    recipe = make()
    claimed(recipe)
    (tmp_path / "w.db").write_text("no store")
    with pytest.raises(StoreUnusable, match=r"finished and safe in .*out; the same command records it"):
        record(read_recipe(recipe), {}, Run("r", f"sqlite:///{tmp_path}/w.db"))


def test_a_training_without_losses_is_said_too(make: Make) -> None:
    from finetune.commands.sft import in_words
    from finetune.recipe import read_recipe

    block = {"rows": 1, "tokens": 2, "wall_s": 3.0, "loss_first": None, "loss_last": None}
    assert in_words(read_recipe(make()), block).endswith("1 rows, 2 tokens in 3 s")


def test_a_trainings_key_does_not_know_how_its_folder_was_spelt(tmp_path: Path) -> None:
    from finetune.train.output_folder.state import read_state, training_key, write_state

    write_state(tmp_path, read_state(tmp_path, {"data": "x"}))
    (tmp_path / "in").mkdir()
    assert training_key(tmp_path) == training_key(tmp_path / "in" / "..")


PACKED, PADDED = "packing = true\nsave_steps = 2", "save_steps = 2"


@pytest.mark.parametrize("train", [PACKED, PADDED], ids=["packed", "padded"])
def test_killed_at_any_moment_it_ends_with_the_weights_of_an_unbroken_run(
    train: str, make: Make, tmp_path: Path
) -> None:
    """Each start is killed a step or two after the checkpoint that it went on from: some in a step, some in a save."""
    from finetune.train.output_folder.checkpoints import newest_checkpoint
    from finetune.train.output_folder.loss_curve import read_curve

    whole, broken, log = make("whole", train), make("broken", train), tmp_path / "log"
    epochs = ("--train.epochs", str(scaled(3, 10)))  # of 5 steps each
    assert forked.trained(whole, *epochs, log=log) == 0, log.read_text()
    output, rng = broken.parent / "out", random.Random(5)
    for _ in range(scaled(3, 20)):
        newest = newest_checkpoint(output)
        until = (int(newest.name.partition("-")[2]) if newest else 0) + rng.randint(1, 2)
        before = [p["at"] for p in read_curve(output)]
        p = forked.train(broken, *epochs, log=log)
        deadline = time.monotonic() + forked.END_S
        while p.is_alive() and time.monotonic() < deadline:
            points = read_curve(output)
            if points and points[-1]["step"] >= until and [q["at"] for q in points] != before:
                break
            time.sleep(0.002)
        time.sleep(rng.random() * 0.05)
        p.kill()
        p.join()
        assert p.exitcode == -signal.SIGKILL, log.read_text()
    assert forked.trained(broken, *epochs, log=log) == 0, log.read_text()
    assert weights(output) == weights(whole.parent / "out")


@pytest.mark.parametrize("train", [PADDED, PACKED], ids=["padded", "packed"])
def test_killed_inside_a_save_it_ends_with_the_weights_of_an_unbroken_run(
    train: str, make: Make, tmp_path: Path
) -> None:
    """Half of a file of each kind is on the disk; the next start goes on from the checkpoint before."""
    whole, broken, log = make("whole", train), make("broken", train), tmp_path / "log"
    assert forked.trained(whole, log=log) == 0, log.read_text()
    output = broken.parent / "out"
    files = ["optimizer.pt", "trainer_state.json", "model.safetensors", "rng_state.pth", "scheduler.pt"]
    for step, name in list(zip(range(2, 12, 2), files, strict=True))[: scaled(3, 5)]:
        p = forked.train(broken, log=log, torn=(name, step))
        p.join(forked.END_S)
        assert p.exitcode == -signal.SIGKILL, log.read_text()
        assert not is_whole(output / f"checkpoint-{step}"), name
    assert forked.trained(broken, log=log) == 0, log.read_text()
    assert weights(output) == weights(whole.parent / "out")


def test_stopped_by_a_signal_it_leaves_a_checkpoint_and_ends_as_if_it_had_not(make: Make) -> None:
    many = "weight_decay = 0.01"
    whole, stopped = make("whole", many), make("stopped", many)
    for r in (whole, stopped):
        r.write_text(r.read_text().replace("epochs = 2\n", "epochs = 12\n"))
    output = stopped.parent / "out"
    p = start(stopped)
    while p.poll() is None and not has_begun(output):
        time.sleep(0.02)
    p.send_signal(signal.SIGTERM)
    _, err = p.communicate(timeout=600)
    assert p.returncode == 130, err
    assert "goes on from here" in err
    assert json.loads((output / "winnow.json").read_text())["training"] is None
    assert [is_whole(c) for c in output.glob("checkpoint-*")] == [True]
    assert run(whole)[0] == run(stopped)[0] == 0
    assert weights(output) == weights(whole.parent / "out")


def has_begun(output: Path) -> bool:
    """Whether its first step is over."""
    state = output / "winnow.json"
    return state.exists() and json.loads(state.read_text())["wall_s"] > 0


def is_whole(checkpoint: Path) -> bool:
    from finetune.train.output_folder.checkpoints import is_complete

    return is_complete(checkpoint)


# ---- checkpoints


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, student: Path) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    (folder / "train.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in sums(8)))
    (folder / "r.toml").write_text(
        f'student = "{student}"\ndata = "{folder}/train.jsonl"\noutput = "{folder}/out"\n'
        "[train]\nepochs = 2\ntraces_per_step = 4\nsave_steps = 2\n"
    )
    trainer, _ = trainer_for(folder / "r.toml")
    trainer.train()
    return folder / "out" / "checkpoint-2"


@pytest.mark.parametrize(
    "harm",
    ["no state", "torn state", "no optimizer", "torn optimizer", "torn weights", "no weights", "no random state"],
)
def test_a_checkpoint_that_broke_off_is_passed_over(harm: str, checkpoint: Path, tmp_path: Path) -> None:
    from finetune.train.output_folder.checkpoints import is_complete, newest_checkpoint

    for n in (2, 4):
        shutil.copytree(checkpoint, tmp_path / f"checkpoint-{n}")
    newest = tmp_path / "checkpoint-4"
    assert newest_checkpoint(tmp_path) == newest
    file = newest / {"state": "trainer_state.json", "optimizer": "optimizer.pt", "weights": "model.safetensors"}.get(
        harm.partition(" ")[2], "rng_state.pth"
    )
    if harm.startswith("no "):
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-9])
    assert not is_complete(newest)
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert not newest.exists()


def test_a_disk_that_fills_up_is_one_line_before_anything_of_a_checkpoint_is_written(
    make: Make, tmp_path: Path
) -> None:
    """On a disk of 34 MB, which holds two checkpoints of this student and not three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    jail = ["bwrap", "--dev-bind", "/", "/", "--size", "34000000", "--tmpfs", str(disk)]
    if not shutil.which("bwrap") or subprocess.run([*jail, "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs bubblewrap, which makes the small disk: make system")
    words = [sys.executable, "-m", "finetune", "sft", str(make(train="save_steps = 2")), "--output", f"{disk}/out"]
    shell = f'"$@"; code=$?; ls {disk}/out; exit $code'
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*jail, "sh", "-c", shell, "sh", *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 2, done.stderr
    told = done.stderr.splitlines()[-1]
    assert re.fullmatch(
        rf"error: output {disk}/out: \d\.\d MB free, 1\d\.\d MB needed for the checkpoint of step 6, of which nothing "
        "was written: free some; the same command goes on from checkpoint-4",
        told,
    ), done.stderr
    assert done.stdout.split() == ["checkpoint-2", "checkpoint-4", "curve.jsonl", "winnow.json"]


def test_a_disk_that_fills_up_inside_a_save_is_one_line_and_other_failures_stay_what_they_are(
    checkpoint: Path, tmp_path: Path
) -> None:
    from finetune.train.output_folder.disk import check_room, disk_watched

    errors = (
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        Exception("No space left on device (os error 28)"),  # tokenizers
        RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed writing file data/1"),
    )
    for error in errors:
        with pytest.raises(InputError, match=r"is full: free some; .* begins again$"), disk_watched(tmp_path):
            raise error
    shutil.copytree(checkpoint, tmp_path / "checkpoint-2")
    with pytest.raises(InputError, match=r"goes on from checkpoint-2$"), disk_watched(tmp_path):
        raise errors[0]
    with pytest.raises(InputError, match=r"GB needed for the student, .* goes on from checkpoint-2$"):
        check_room(tmp_path, 10**15, "the student")
    for error in (RuntimeError("out of memory"), InputError("No space left on device, as a user's file says")):
        with pytest.raises(type(error), match=re.escape(str(error))), disk_watched(tmp_path):
            raise error


def test_a_disk_that_is_too_small_is_named_before_the_first_step(tmp_path: Path) -> None:
    from finetune.train.output_folder.disk import check_disk

    with pytest.raises(InputError, match=r"GB free, \d+\.\d GB needed"):
        check_disk(tmp_path / "not" / "there", 10**13, "full", 2)


# ---- the real student


def test_a_student_from_gguf_can_be_saved_and_is_float32(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from finetune.student import find, load_model

    smol_tokenizer()
    model = load_model(find(SMOL), torch.float32)
    assert model.dtype == torch.float32
    assert not getattr(model.config, "quantization_config", None)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(100, 120)[None]
    assert torch.equal(model(ids).logits, again(ids).logits)


def test_a_student_by_name_is_loaded_in_the_precision_that_was_asked_for(student: Path) -> None:
    from finetune.student import find, load_model

    for dtype in (torch.float32, torch.bfloat16):
        assert load_model(find(str(student)), dtype).dtype == dtype


def test_a_student_that_is_nowhere_says_where_was_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune.student import find, load_tokenizer

    with pytest.raises(ConfigError, match="no such folder, no entry of the model table"):
        find("SmolLM3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"without config\.json"):
        find(str(tmp_path / "empty"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="neither here nor to be had from the hub") as e:
        load_tokenizer(find("nobody/nothing-at-all"))
    assert "\n" not in str(e.value)
