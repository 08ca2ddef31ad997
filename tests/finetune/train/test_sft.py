"""`finetune sft`, on a student of random weights: the trained folder, refusals before the first step, the report."""

import json
from pathlib import Path
from typing import Any

import pytest
from proofs import checked
from students import SMOL, smol_tokenizer, sums
from trainings import OTHERS_WARN, Make, make, run, student

from finetune.proof.student import tokens_sha256
from finetune.recipe import read_recipe
from finetune.rows.cache import examples
from harvest.core.errors import ConfigError, InputError
from harvest.proof.lines import sha256

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures

pytestmark = OTHERS_WARN


def test_a_trained_student_is_a_folder_that_transformers_loads(make: Make) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetune.rows.layout import LAYOUTS, learnt_layout

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
    assert learnt_layout(output) == LAYOUTS["think"]
    assert not list(output.glob("checkpoint-*"))
    _, faults = checked(output)
    assert not faults.total, faults.kept
    lines = [json.loads(line) for line in (output / "winnow.manifest").read_text().splitlines()]
    assert [row["fate"] for row in lines[1:-2]] == ["trained"] * 40
    assert (lines[0]["examples"], lines[0]["data"][0]["manifest"]) == (block["data"], None)  # a file of its own
    assert lines[-1]["root"] in (output / "README.md").read_text()
    made = examples(read_recipe(recipe, []), smol_tokenizer())
    texts = [json.loads(line) for line in (recipe.parent / "train.jsonl").read_text().splitlines()]
    for row, example, text in zip(lines[1:-2], made, texts, strict=True):
        assert (row["tokens_sha256"], row["sha256"]) == (tokens_sha256(example), sha256(text))
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
    from finetune.rows.cache import examples
    from finetune.student import find
    from finetune.train.output_folder.state import identity_of, read_state, write_state

    read = read_recipe(recipe, [(k.replace("__", "."), json.dumps(v)) for k, v in changes.items()])
    output = Path(read.output)
    state = read_state(output, identity_of(read, examples(read, smol_tokenizer()).digest, find(read.student)))
    output.mkdir(exist_ok=True)
    write_state(output, {**state, "wall_s": 1.0})


def test_another_recipe_for_the_same_output_is_refused_and_the_difference_named(make: Make) -> None:
    recipe = make()
    claimed(recipe)
    claimed(recipe, train__save_steps=7, train__logging_steps=3)  # these change nothing of what is learnt
    claimed(recipe, train__activation_checkpointing=True, train__per_device_train_batch_size=2)
    claimed(recipe, train__packing=True, train__dataloader_num_workers=2, train__activation_offloading=True)
    state = json.loads((recipe.parent / "out" / "winnow.json").read_text())
    state["of"]["train.packing"] = False  # as an older winnow noted it
    (recipe.parent / "out" / "winnow.json").write_text(json.dumps(state))
    claimed(recipe, train__packing=True)
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
        assert store.figures(store.run_id("r")).training == [json.loads(out)]
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

    block = {"method": "sft", "rows": 1, "tokens": 2, "wall_s": 3.0, "loss_first": None, "loss_last": None}
    assert in_words(read_recipe(make()), block).endswith("1 rows, 2 tokens in 3 s")


def test_a_trainings_key_does_not_know_how_its_folder_was_spelt(tmp_path: Path) -> None:
    from finetune.train.output_folder.state import read_state, training_key, write_state

    write_state(tmp_path, read_state(tmp_path, {"data": "x"}))
    (tmp_path / "in").mkdir()
    assert training_key(tmp_path) == training_key(tmp_path / "in" / "..")


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
