"""What a trainer would get, from a student that has a configuration and a tokenizer and no weights."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families import CHATML, QWEN3, byte_level, template_of, tokenizer_of
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
HYBRID = (["linear_attention"] * 3 + ["full_attention"]) * 6


def sizes(kind: str, *numbers: int, **more: Any) -> dict[str, Any]:
    names = (
        "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size",
    )  # fmt: skip
    return {"model_type": kind, "max_position_embeddings": 32_768, **dict(zip(names, numbers, strict=True)), **more}


CONFIGS: dict[str, dict[str, Any]] = {
    "1.5B": sizes("qwen2", 1536, 8960, 28, 12, 2, 151_936, tie_word_embeddings=True),
    "7B": sizes("qwen2", 3584, 18_944, 28, 28, 4, 152_064),
    "32B": sizes("qwen2", 5120, 27_648, 64, 40, 8, 152_064),
    "Qwen3 0.6B": sizes("qwen3", 1024, 3072, 28, 16, 8, 151_936, head_dim=128, tie_word_embeddings=True),
    "Qwen3 1.7B": sizes("qwen3", 2048, 6144, 28, 16, 8, 151_936, head_dim=128, tie_word_embeddings=True),
    "Qwen3 4B": sizes("qwen3", 2560, 9728, 36, 32, 8, 151_936, head_dim=128, tie_word_embeddings=True),
    "Qwen3 8B": sizes("qwen3", 4096, 12_288, 36, 32, 8, 151_936, head_dim=128),
    "Qwen3.5 2B": {"model_type": "qwen3_5", "tie_word_embeddings": True, "text_config": sizes(
        "qwen3_5_text", 2048, 6144, 24, 8, 2, 248_320, head_dim=256, tie_word_embeddings=True, layer_types=HYBRID,
        linear_num_key_heads=16, linear_num_value_heads=16,
    )},
}  # fmt: skip
"""The sizes of Qwen2.5 and its successors, from the config.json of each model."""
WEIGHTS = {
    "1.5B": 1.544e9, "7B": 7.616e9, "32B": 32.76e9, "Qwen3 0.6B": 0.596e9, "Qwen3 1.7B": 1.72e9, "Qwen3 4B": 4.02e9,
    "Qwen3 8B": 8.19e9, "Qwen3.5 2B": 1.88e9,
}  # fmt: skip
"""Source: the model cards; of Qwen3.5 2B the language model alone, counted."""
BY_HAND = {
    "lora-1.5b": 12.7, "lora-7b": 33.8, "full-7b": 25.3, "sky-t1-32b": 37.3, "sky-t1-32b-lora": 30.1, "s1-32b": 70.9,
    "r1-distill": 34.1, "mixed-short-long": 30.8, "qwen3-0.6b": 13.7, "qwen3-1.7b": 35.0, "qwen3-4b": 23.1,
    "qwen3-8b": 26.9, "qwen3-4b-base": 23.2, "qwen3.5-2b": 37.9,
}  # fmt: skip
"""GiB a GPU, as the sums in docs/training.md have them."""
STUDENT_OF = {
    "lora-1.5b": "1.5B", "lora-7b": "7B", "full-7b": "7B", "sky-t1-32b": "32B", "sky-t1-32b-lora": "32B",
    "s1-32b": "32B", "r1-distill": "7B", "mixed-short-long": "1.5B", "qwen3-0.6b": "Qwen3 0.6B",
    "qwen3-1.7b": "Qwen3 1.7B", "qwen3-4b": "Qwen3 4B", "qwen3-8b": "Qwen3 8B", "qwen3-4b-base": "Qwen3 4B",
    "qwen3.5-2b": "Qwen3.5 2B",
}  # fmt: skip


def tokenizer_for(size: str, *, is_base: bool = False) -> Any:
    if is_base:  # it has the tokens of the chat, no template, and another end
        return byte_level(CHATML, QWEN3, CHATML[2], None)
    kind = CONFIGS[size]["model_type"]
    return tokenizer_of({"qwen2": "Qwen2.5", "qwen3": "Qwen3", "qwen3_5": "Qwen3.5, small"}[kind])


def student_without_weights(folder: Path, size: str, *, is_base: bool = False) -> Path:
    tokenizer_for(size, is_base=is_base).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(CONFIGS[size]))
    return folder


def dry_run(recipe: Path, *words: str) -> int:
    return main(["sft", str(recipe), "--dry-run", "--json", *words])


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """Writes a recipe of recipes/ for a student without weights, with two rows as long as the recipe allows."""

    def make(name: str, more: str = "") -> Path:
        text = (ROOT / f"recipes/{name}.toml").read_text("utf-8")
        longest = read_recipe(ROOT / f"recipes/{name}.toml").render.max_tokens - 400
        tokens = len(tokenizer_for(STUDENT_OF[name])("7 8 9\n" * 100)["input_ids"]) / 100
        chains = ["7 + 8 = 15"] * 6 + ["7 8 9\n" * int(longest / tokens)] * 2
        rows = [{"messages": chat(f"q {i}", f"<think>\n{c}\n</think>\n\n15")} for i, c in enumerate(chains)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        student = student_without_weights(tmp_path / "student", STUDENT_OF[name], is_base=name.endswith("-base"))
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
    assert resolved["parameters"] == pytest.approx(WEIGHTS[size], rel=0.05)
    assert resolved["gradient_checkpointing"] is True
    assert resolved["bf16"] is True
    is_hybrid = name.startswith("qwen3.5")  # whose linear attention is tried on the weights
    assert (resolved["packing"], resolved["attn_implementation"]) == (None if is_hybrid else True, "winnow_rows")
    assert (resolved["target_modules"], resolved["exclude_modules"]) == (
        ("all-linear", None) if recipe.method == "lora" else (None, None)
    )
    reduced = {"single": None, "fsdp2": "float32"}.get(recipe.launch.strategy, "chosen by DeepSpeed")
    assert resolved["gradient_reduce_dtype"] == reduced
    assert (resolved["save_strategy"], resolved["saves_by_clock"]) == ("no", True), "TRL saves nothing, winnow does"
    processes = recipe.launch.gpus if recipe.launch.strategy != "single" else 1
    assert resolved["per_device_train_batch_size"] == 1, "a pack"
    room = max(16_384, found["row_tokens"]["max"])
    assert resolved["gradient_accumulation_steps"] * processes * room >= found["tokens"], "no pack is longer than that"
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
    shape, work = shape_of(CONFIGS["7B"], round(WEIGHTS["7B"])), work_of([16_384] * 500, 3, 96)
    page = (ROOT / "docs/training.md").read_text("utf-8").partition("**One recipe in full.**")[2]
    sums = re.search(r"^\| sum \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    shown = re.search(r"^\| `finetune estimate` \| ([\d.]+) \| ([\d.]+) \|$", page, re.M)
    assert sums
    assert shown
    for n, recompute in ((1, True), (2, False)):
        said = total_gib(shape, work, replace(launching_of(recipe), recompute=recompute))
        assert float(shown[n]) == round(said, 1)
        assert float(sums[n]) == pytest.approx(said, rel=0.15)


def test_a_base_model_without_a_template_is_refused_and_takes_the_one_that_it_is_given(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = made("qwen3-4b-base")
    path.write_text(path.read_text().replace('chat_template = "qwen3"\n', ""))
    assert dry_run(path) == 2
    assert "render.chat_template" in capsys.readouterr().err
    assert dry_run(path, "--render.chat_template", "qwen33") == 2
    assert "TRL ships no 'qwen33'; did you mean 'qwen3'?" in capsys.readouterr().err
    own = path.parent / "own.jinja"
    own.write_text(template_of("qwen3"))
    assert dry_run(path, "--render.chat_template", str(own)) == 0


def test_rows_that_are_padded_and_activations_that_are_kept_are_resolved_so(
    made: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(made("full-7b", "packing = false\nactivation_checkpointing = false\n")) == 0
    resolved = json.loads(capsys.readouterr().out)["resolved"]
    assert (resolved["packing"], resolved["gradient_checkpointing"]) == (False, False)
    assert resolved["attn_implementation"] == "sdpa"
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
