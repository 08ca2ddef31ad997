"""What a trainer would get, from a student that has a configuration and a tokenizer and no weights."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families import tokenizer_of
from students import SMOL, chat, smol_tokenizer, tiny_student

from finetune.__main__ import main
from finetune.cost.memory import total_gib
from finetune.cost.quote import launching_of
from finetune.cost.shape import shape_of
from finetune.cost.work import work_of
from finetune.recipe import read_recipe
from finetune.student import count_parameters, find, load_model, outline
from harvest.core.errors import ConfigError

pytest.importorskip("trl", reason="needs the extra `train`")

ROOT = Path(__file__).parents[3]
QWEN: dict[str, dict[str, Any]] = {
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
             "num_key_value_heads": 2, "vocab_size": 151_936, "tie_word_embeddings": True},
    "7B": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152_064, "tie_word_embeddings": False},
    "32B": {"hidden_size": 5120, "intermediate_size": 27_648, "num_hidden_layers": 64, "num_attention_heads": 40,
            "num_key_value_heads": 8, "vocab_size": 152_064, "tie_word_embeddings": False},
}  # fmt: skip
"""The sizes of Qwen2.5, from the config.json of each model."""
WEIGHTS = {"1.5B": 1.544e9, "7B": 7.616e9, "32B": 32.76e9}
"""Source: the model cards."""
BY_HAND = {
    "lora-1.5b": 12.4, "lora-7b": 33.8, "full-7b": 25.3, "sky-t1-32b": 37.3, "sky-t1-32b-lora": 30.1, "s1-32b": 70.9,
    "r1-distill": 34.1, "mixed-short-long": 30.8,
}  # fmt: skip
"""GiB a GPU, as the sums in docs/training.md have them."""
STUDENT_OF = {
    "lora-1.5b": "1.5B", "lora-7b": "7B", "full-7b": "7B", "sky-t1-32b": "32B", "sky-t1-32b-lora": "32B",
    "s1-32b": "32B", "r1-distill": "7B", "mixed-short-long": "1.5B",
}  # fmt: skip


def student_without_weights(folder: Path, size: str) -> Path:
    tokenizer_of("Qwen2.5").save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({
        "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 32_768, **QWEN[size],
    }))  # fmt: skip
    return folder


def dry_run(recipe: Path, *words: str) -> int:
    return main(["sft", str(recipe), "--dry-run", "--json", *words])


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """Writes a recipe of recipes/ for a student without weights, with two rows as long as the recipe allows."""

    def make(name: str, more: str = "") -> Path:
        text = (ROOT / f"recipes/{name}.toml").read_text("utf-8")
        longest = read_recipe(ROOT / f"recipes/{name}.toml").render.max_tokens - 400
        tokens = len(tokenizer_of("Qwen2.5")("7 8 9\n" * 100)["input_ids"]) / 100
        chains = ["7 + 8 = 15"] * 6 + ["7 8 9\n" * int(longest / tokens)] * 2
        rows = [{"messages": chat(f"q {i}", f"<think>\n{c}\n</think>\n\n15")} for i, c in enumerate(chains)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        student = student_without_weights(tmp_path / "student", STUDENT_OF[name])
        text = re.sub(r"^student\s*=.*$", f'student = "{student}"', text, flags=re.M)
        text = re.sub(r"^data\s*=.*$", f'data = "{tmp_path}/rows.jsonl"', text, flags=re.M)
        text = re.sub(r"^output\s*=.*$", f'output = "{tmp_path}/out"', text, flags=re.M)
        path = tmp_path / f"{name}.toml"
        path.write_text(text.replace("[train]\n", f"[train]\n{more}", 1))
        return path

    return make


@pytest.mark.parametrize("name", STUDENT_OF)
def test_a_recipe_resolves_without_the_students_weights(
    name: str, made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made(name)
    assert dry_run(path) == 0
    found = json.loads(capsys.readouterr().out)
    recipe, resolved = read_recipe(path), found["resolved"]
    size = STUDENT_OF[name]
    assert recipe.render.max_tokens - 500 < found["row_tokens"]["max"] <= recipe.render.max_tokens
    assert resolved["parameters"] == pytest.approx(WEIGHTS[size], rel=0.01)
    assert resolved["gradient_checkpointing"] is True
    assert resolved["bf16"] is True
    assert resolved["attn_implementation"] == "sdpa"
    assert (resolved["save_strategy"], resolved["saves_by_clock"]) == ("no", True), "TRL saves nothing, winnow does"
    processes = recipe.launch.gpus if recipe.launch.strategy != "single" else 1
    in_a_step = resolved["per_device_train_batch_size"] * resolved["gradient_accumulation_steps"] * processes
    assert in_a_step == recipe.train.traces_per_step
    assert main(["estimate", str(path), "--json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["memory_gib_per_gpu"] == resolved["memory_gib_per_gpu"]
    assert estimate["parameters"] == resolved["parameters"]
    assert estimate["fits"]
    assert estimate["memory_gib_per_gpu"] == pytest.approx(BY_HAND[name], rel=0.05)
    page = (ROOT / "docs/training.md").read_text("utf-8")
    assert re.search(rf"^\| `{re.escape(name)}` .* \| {BY_HAND[name]} of \d+ \|$", page, re.M)
    reentrant = {"use_reentrant": True} if name == "sky-t1-32b-lora" else None
    assert resolved["gradient_checkpointing_kwargs"] == reentrant
    assert not (tmp_path / "out").exists()


def test_the_sum_of_one_recipe_by_hand_is_what_the_estimate_says() -> None:
    """The page has it with activations that are computed again and with activations that are kept."""
    recipe = read_recipe(ROOT / "recipes/full-7b.toml")
    shape, work = shape_of(QWEN["7B"], round(WEIGHTS["7B"])), work_of([16_384] * 500, 3, 96)
    page = (ROOT / "docs/training.md").read_text("utf-8").partition("**One recipe in full.**")[2]
    sums = re.search(r"^\| sum \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    shown = re.search(r"^\| `finetune estimate` \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    assert sums
    assert shown
    for n, recompute in ((1, True), (2, False)):
        said = total_gib(shape, work, replace(launching_of(recipe), recompute=recompute))
        assert float(shown[n]) == round(said, 1)
        assert float(sums[n]) == pytest.approx(said, rel=0.15)


def test_rows_that_are_packed_and_activations_that_are_kept_are_resolved_so(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(made("full-7b", "packing = true\nactivation_checkpointing = false\n")) == 0
    resolved = json.loads(capsys.readouterr().out)["resolved"]
    assert (resolved["packing"], resolved["gradient_checkpointing"]) == (True, False)
    assert resolved["attn_implementation"] == "winnow_rows"
    assert (resolved["per_device_train_batch_size"], resolved["fits"]) == (1, False)


@pytest.mark.parametrize(
    ("name", "said"),
    [("eager", None), ("flash_attention_2", None), ("no_such_kernel", '="no_such_kernel"` is not supported')],
)
def test_an_attention_that_transformers_does_not_know_is_refused(
    name: str, said: str | None, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made("lora-1.5b", f'model_init_kwargs = {{ attn_implementation = "{name}" }}\n')
    code = dry_run(path)
    out, err = capsys.readouterr()
    if said is None:
        assert code == 0, "another machine may have its package"
        assert json.loads(out)["resolved"]["attn_implementation"] == name
    else:
        assert code == 2
        assert said in err
        assert json.loads(out)["resolved"] is None


def test_an_attention_that_is_asked_for_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    import torch

    student = find(str(tiny_student(tmp_path)))
    assert load_model(student, torch.float32, attention="eager").config._attn_implementation == "eager"
    with pytest.raises(ConfigError, match="no_such_kernel"):
        load_model(student, torch.float32, attention="no_such_kernel")


def test_adapters_under_zero_3_refuse_what_would_train_them_wrongly(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made("sky-t1-32b-lora", "activation_checkpointing_kwargs = { use_reentrant = false }\n")
    assert dry_run(path) == 2
    assert "use_reentrant: adapters under ZeRO-3 need it" in capsys.readouterr().err
    path = made("sky-t1-32b-lora", "activation_checkpointing_kwargs = { every_n_layers = 2 }\n")
    assert dry_run(path) == 0
    resolved = json.loads(capsys.readouterr().out)["resolved"]
    assert resolved["gradient_checkpointing_kwargs"] == {"every_n_layers": 2, "use_reentrant": True}


@pytest.mark.parametrize(
    "setting",
    [
        'hub_model_id = "a/b"', "eval_steps = 10", 'metric_for_best_model = "loss"', "trust_remote_code = true",
        'model_init_kwargs = { dtype = "bfloat16" }',
    ],
)  # fmt: skip
def test_a_setting_that_nothing_reads_is_refused_by_name(
    setting: str, made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(made("full-7b", setting + "\n")) == 2
    err = capsys.readouterr().err
    assert f"train.{setting.partition(' ')[0]}" in err
    assert err.count("\n") == 1


def test_weights_are_counted_from_the_configuration_as_they_are_loaded(tmp_path: Path) -> None:
    import torch

    for place in (str(tiny_student(tmp_path)), SMOL):
        smol_tokenizer()
        model = load_model(find(place), torch.float32)
        assert count_parameters(find(place)) == sum(p.numel() for p in model.parameters())


def test_gradients_stay_in_shards_while_rows_are_accumulated(made: Any) -> None:
    from finetune.rows.cache import examples
    from finetune.train.training_args import training_config

    for name, is_asked in (("full-7b", True), ("lora-7b", None)):
        recipe = read_recipe(made(name))
        config = training_config(recipe, examples(recipe, tokenizer_of("Qwen2.5")), 7_000_000_000, bf16=True)
        kwargs = config.accelerator_config.gradient_accumulation_kwargs or {}
        assert kwargs.get("sync_each_batch") is is_asked


def test_an_architecture_that_transformers_does_not_know_is_one_line(tmp_path: Path) -> None:
    folder = student_without_weights(tmp_path, "7B")
    config = json.loads((folder / "config.json").read_text())
    for kind in ("of_tomorrow", None):
        (folder / "config.json").write_text(json.dumps({**config, "model_type": kind}))
        with pytest.raises(ConfigError, match="cannot be loaded") as e:
            outline(find(str(folder)))
        assert "\n" not in str(e.value)
