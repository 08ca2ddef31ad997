"""The recipes: what each one says about itself agrees with the code."""

import json
import re
from array import array
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from families import tokenizer_of
from students import chat, smol_tokenizer

from finetune.__main__ import main
from finetune.cost.quote import Figures, quote
from finetune.recipe import Recipe, read_recipe
from finetune.rows.cache import examples
from finetune.rows.dataset import recipe_rows
from finetune.rows.examples import Examples
from finetune.rows.render import Example, render
from finetune.rows.show import examples_of_row
from finetune.rows.template import layout_of
from finetune.train.launch import launch_line
from harvest.core.errors import ConfigError, DatasetError

ROOT = Path(__file__).parents[3]
RECIPES = sorted(p for p in (ROOT / "recipes").glob("*.toml") if re.search(r"^student\s*=", p.read_text("utf-8"), re.M))
EXPECT = re.compile(r"^# Expect: (?P<said>.+) for (?P<rows>\d+) rows of (?P<mean>\d+) tokens at (?P<b>[\d.]+)B$", re.M)
PUBLISHED_HOURS = {"sky-t1-32b": 152, "s1-32b": 7}

recipes = pytest.mark.parametrize("path", RECIPES, ids=[p.stem for p in RECIPES])
expecting = pytest.mark.parametrize(
    "path", [p for p in RECIPES if p.stem != "demo-student"], ids=[p.stem for p in RECIPES if p.stem != "demo-student"]
)


def test_every_recipe_that_was_promised_is_there() -> None:
    assert {p.stem for p in RECIPES} == {
        "demo-student", "lora-1.5b", "lora-7b", "full-7b", "sky-t1-32b", "sky-t1-32b-lora", "s1-32b", "r1-distill",
        "mixed-short-long", "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b", "qwen3-4b-base", "qwen3.5-2b",
    }  # fmt: skip


@recipes
def test_a_recipe_is_read_by_this_winnow_and_its_settings_by_this_trl(path: Path) -> None:
    pytest.importorskip("trl", reason="needs the extra `train`")
    from finetune.train.training_args import training_config

    recipe = read_recipe(path, train=True)
    row = Example(array("i", [0] * 100), array("b", [1] * 100))
    config = training_config(recipe, Examples.of((row,) * 4), 10**9, bf16=False)
    assert config.learning_rate == recipe.train.learning_rate
    if not recipe.train.packs:
        assert config.per_device_train_batch_size * config.gradient_accumulation_steps == recipe.train.traces_per_step


def test_the_demos_recipe_says_its_source_its_launch_and_what_was_measured() -> None:
    text = (ROOT / "recipes/demo-student.toml").read_text("utf-8")
    assert re.search(r"^# Source: .{20}", text, re.M)
    assert f"\n# Launch: {launch_line('single', 1, ('sft', 'recipes/demo-student.toml'))}\n" in text
    expect = re.search(r"^# Expect: .* measured: (\d+ s) for (\d+ rows)$", text, re.M)
    assert expect
    readme = (ROOT / "README.md").read_text("utf-8")
    assert re.search(rf"data/students/demo: {expect[2]}, .* in {expect[1]}, loss", readme)


@expecting
def test_a_recipe_says_its_source_its_launch_and_what_to_expect_as_estimate_has_it(path: Path) -> None:
    text, recipe = path.read_text("utf-8"), read_recipe(path)
    assert re.search(r"^# Source: .{20}", text, re.M)
    strategy, gpus = recipe.launch.strategy, recipe.launch.gpus
    line = launch_line(strategy, gpus, ("sft", f"recipes/{path.name}"))
    if gpus > 8:
        line = f"NODES={gpus // 8} NODE=0 FIRST=address sh recipes/launch/nodes.sh {strategy} recipes/{path.name}"
    assert f"\n# Launch: {line}\n" in text
    expect = EXPECT.search(text)
    assert expect
    figures = Figures(float(Decimal(expect["b"]) * 10**9), int(expect["rows"]), float(expect["mean"]))
    found = quote(recipe, figures, None).as_json()
    hours = found["gpu_hours"]
    assert expect["said"] == f"{hours['mid']} GPU-hours ({hours['low']} to {hours['high']}), ${found['cost_usd']}"
    assert found["fits"]
    if published := PUBLISHED_HOURS.get(path.stem):
        assert hours["low"] < published < hours["high"]
    assert "# Not trained here, for want of " in text


def test_sky_t1s_recipes_have_the_published_settings() -> None:
    full, lora = (read_recipe(ROOT / f"recipes/{name}.toml") for name in ("sky-t1-32b", "sky-t1-32b-lora"))
    for recipe in (full, lora):
        assert (recipe.train.epochs, recipe.train.traces_per_step, recipe.render.max_tokens) == (3, 96, 16_384)
        assert recipe.train.further.items() >= {"lr_scheduler_type": "cosine", "warmup_steps": 0.1}.items()
        assert (recipe.student, recipe.render.reasoning) == ("Qwen/Qwen2.5-32B-Instruct", "sky-t1")
    assert (full.method, full.train.learning_rate, full.launch.strategy) == ("full", 1e-5, "zero3-offload")
    assert (lora.method, lora.train.learning_rate) == ("lora", 1e-4)
    assert (lora.train.further["r"], lora.train.further["lora_alpha"]) == (64, 128)


def test_s1s_marks_are_tokens_of_its_student() -> None:
    tokenizer = tokenizer_of("Qwen2.5")
    layout = layout_of(read_recipe(ROOT / "recipes/s1-32b.toml").render, tokenizer)
    example = render(chat("q", "<think>\nwhy\n</think>\n\nAnswer: 6"), tokenizer, 512, layout)
    trained = [i for i, m in zip(example.ids, example.mask, strict=True) if m]
    assert tokenizer.decode(trained) == "<|im_start|>think\nwhy\n<|im_start|>answer\nAnswer: 6<|im_end|>"
    assert trained.count(tokenizer.convert_tokens_to_ids("<|im_start|>")) == 2


# ---- rows of several datasets


@pytest.fixture
def mixed(tmp_path: Path) -> Any:
    def make(short: int, long: int, per_row: float, seed: int = 0) -> Recipe:
        for name, n in (("short", short), ("long", long)):
            rows = [chat(f"{name} {i}", f"<think>\n{i}\n</think>\n\n{i}") for i in range(n)]
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in rows))
        return Recipe.model_validate({
            "student": "s", "data": f"{tmp_path}/short.jsonl", "output": "o", "train": {"seed": seed},
            "mix": [{"data": f"{tmp_path}/long.jsonl", "per_row": per_row}],
        })  # fmt: skip

    return make


def asked(recipe: Recipe) -> list[str]:
    return [value["messages"][0]["content"] for _, _, value in recipe_rows(recipe)]  # type: ignore[index]


def test_rows_of_another_dataset_are_mixed_in_by_the_share_that_was_asked_for(mixed: Any) -> None:
    found = asked(mixed(20, 50, 0.25))
    assert found[:20] == [f"short {i}" for i in range(20)]
    assert len(found) == 25
    assert len(set(found)) == 25
    assert asked(mixed(20, 50, 0.25)) == found != asked(mixed(20, 50, 0.25, seed=1))
    assert len(asked(mixed(20, 3, 0.25))) == 23  # there are no more


def test_fewer_rows_to_mix_in_than_were_asked_for_are_told(mixed: Any) -> None:
    assert examples(mixed(20, 5, 0.25), smol_tokenizer()).notes == ()
    (note,) = examples(mixed(20, 3, 0.25), smol_tokenizer()).notes
    assert "long.jsonl has 3 rows, 5 were asked for (per_row = 0.25 of 20 rows)" in note


def test_a_fault_in_a_mixed_row_is_named_with_its_own_place(mixed: Any, tmp_path: Path) -> None:
    recipe = mixed(4, 2, 1)
    with (tmp_path / "long.jsonl").open("a") as f:
        f.write('{"messages": []}\n')
    with pytest.raises(DatasetError, match=r"row 6, which is row 2 \(long\.jsonl line 3\) of .*long\.jsonl: "):
        examples(recipe, smol_tokenizer())
    assert examples_of_row(recipe, smol_tokenizer(), 5)[0].trained_tokens > 0


def test_a_mix_from_the_recipes_file_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('student = "s"\ndata = "d"\noutput = "o"\n[[mix]]\ndata = "e"\nper_rw = 0.25\n')
    with pytest.raises(ConfigError) as e:
        read_recipe(path)
    assert "mix.0.per_rw: unknown setting; did you mean 'per_row'?" in str(e.value)
    assert "mix.0.per_row: missing" in str(e.value)


def test_show_finds_a_mixed_row(mixed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smol_tokenizer()
    recipe = mixed(2, 1, 1)
    (tmp_path / "r.toml").write_text(
        f'student = "SmolLM2-135M-Instruct"\ndata = "{recipe.data}"\noutput = "o"\n'
        f'[[mix]]\ndata = "{recipe.mix[0].data}"\nper_row = 1\n'
    )
    assert main(["show", str(tmp_path / "r.toml"), "--row", "2", "--json"]) == 0
    assert "long 0" in json.loads(capsys.readouterr().out)["text"]
