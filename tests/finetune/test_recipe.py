"""RECIPE.toml: which settings exist, which do not, and that all mistakes are reported at once."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from settings_reference import describe

from finetune.__main__ import main
from finetune.recipe import Recipe, check_method, read_recipe
from finetune.rows.template import layout_of
from finetune.trl_settings import OURS
from harvest.core.errors import ConfigError, MissingExtra

BASE = 'student = "s"\ndata = "d"\noutput = "o"\n'


def recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "RECIPE.toml"
    path.write_text(text, "utf-8")
    return path


def faults(path: Path, *overrides: tuple[str, str], train: bool = True) -> list[str]:
    with pytest.raises(ConfigError) as e:
        read_recipe(path, overrides, train=train)
    return [line.removeprefix(f"{path}: ") for line in str(e.value).splitlines()]


def test_the_contracts_recipe_is_read_as_it_stands(tmp_path: Path) -> None:
    text = (
        BASE
        + """method = "full"
[render]
reasoning = "think"
max_tokens = 16384
too_long = "drop"
[train]
epochs = 3
traces_per_step = 96
learning_rate = 1e-5
seed = 0
[launch]
strategy = "single"
gpu = "H100"
gpus = 8
price_usd_per_gpu_hour = "2.95"
"""
    )
    read = read_recipe(recipe(tmp_path, text), train=True)
    assert (read.train.traces_per_step, read.launch.gpus, str(read.launch.price_usd_per_gpu_hour)) == (96, 8, "2.95")


def test_a_layout_of_ones_own(tmp_path: Path) -> None:
    read = read_recipe(recipe(tmp_path, BASE + 'render.reasoning = { open = "[", close = "]", answer_open = "(" }\n'))
    assert layout_of(read.render, None).write("a", "b") == "[a](b"


def test_all_faults_are_told_at_once_one_line_each(tmp_path: Path) -> None:
    path = recipe(
        tmp_path,
        """student = "s"
output = "o"
methd = "full"
[render]
max_tokens = 0
too_long = "cut"
reasoning = { open = "<", closed = ">" }
[train]
learnig_rate = 1e-4
epochs = "many"
lr_scheduler_tpe = "cosine"
""",
    )
    told = faults(path)
    assert "methd: unknown setting; did you mean 'method'?" in told
    assert "data: missing" in told
    assert "train.learnig_rate: unknown setting; did you mean 'learning_rate'?" in told
    assert "train.lr_scheduler_tpe: unknown setting; did you mean 'lr_scheduler_type'?" in told
    assert "render.reasoning.closed: unknown setting; did you mean 'close'?" in told
    assert "render.reasoning.close: missing" in told
    assert any(t.startswith("render.max_tokens: ") and "(it is 0)" in t for t in told)
    assert any(t.startswith("render.too_long: ") and "'drop'" in t for t in told)
    assert any(t.startswith("train.epochs: ") for t in told)
    assert len(told) == 9


@pytest.mark.parametrize("text", ['student = "s\n', "\xff".encode("latin-1"), None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: Any) -> None:
    path = tmp_path / "RECIPE.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert len(faults(path, train=False)) == 1
    assert faults(tmp_path, train=False)[0].endswith("name the TOML file in it")


def test_overrides_are_toml_or_text(tmp_path: Path) -> None:
    path = recipe(tmp_path, BASE)
    read = read_recipe(
        path,
        [("train.learning_rate", "2e-4"), ("output", "123"), ("render.too_long", "refuse"), ("train.optim", "sgd"),
         ("launch.price_usd_per_gpu_hour", "2.95"), ("render.reasoning", '{ open = "a", close = "b" }')],
        train=True,
    )  # fmt: skip
    assert (read.train.learning_rate, read.output, read.render.too_long) == (2e-4, "123", "refuse")
    assert read.train.further == {"optim": "sgd"}
    assert str(read.launch.price_usd_per_gpu_hour) == "2.95"
    assert faults(path, ("student.x", "1")) == ["--student.x: student is no section"]


def test_a_setting_that_winnow_decides_says_where(tmp_path: Path) -> None:
    told = faults(recipe(tmp_path, BASE + "[train]\nmax_length = 1024\nnum_train_epochs = 3\neval_packing = true\n"))
    assert told[0] == "train.max_length: it is `render.max_tokens`"
    assert len(told) == 3


def test_a_value_of_the_wrong_kind_is_named_for_trls_settings_too(tmp_path: Path) -> None:
    told = faults(recipe(tmp_path, BASE + '[train]\nweight_decay = "much"\n'))
    assert told[0].startswith("train.weight_decay: ")


def test_settings_of_lora_need_lora(tmp_path: Path) -> None:
    path = recipe(tmp_path, BASE + "[train]\nr = 64\nlora_alpha = 128\n")
    assert faults(path)[0] == 'train.r: a setting of LoRA, but method = "full"'
    assert read_recipe(path, [("method", "lora")], train=True).train.further == {"r": 64, "lora_alpha": 128}


@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is here")
def test_qlora_without_its_extra_is_one_line_that_installs_it(tmp_path: Path) -> None:
    path = recipe(tmp_path, BASE + 'method = "qlora"\ntrain.r = 64\n')
    with pytest.raises(MissingExtra, match=r"pip install 'winnow-distill\[qlora\]'"):
        check_method(read_recipe(path, train=True))
    check_method(read_recipe(path, [("method", "lora")]))


def test_every_setting_of_ours_is_explained() -> None:
    for name, default, meaning in describe(Recipe):
        assert len(meaning) > 10, name
        assert default


def test_what_is_said_of_trls_settings_names_settings_that_it_has() -> None:
    from peft import LoraConfig
    from trl import SFTConfig

    names = {f.name for config in (SFTConfig, LoraConfig) for f in dataclasses.fields(config)}
    gone = set(OURS) - names
    assert not gone


@pytest.mark.parametrize("setting", ["epochs = inf", "learning_rate = inf", "seed = 4294967296", "epochs = nan"])
def test_a_number_that_cannot_be_counted_with_is_refused(tmp_path: Path, setting: str) -> None:
    told = faults(recipe(tmp_path, BASE + f"[train]\n{setting}\n"), train=False)
    assert [t.partition(":")[0] for t in told] == [f"train.{setting.partition(' ')[0]}"]


@pytest.mark.parametrize("words", [["sft", "--train.epochs"], ["eval", "s", "--questions", "q", "--train.epochs", "1"]])
def test_an_override_without_a_value_or_a_recipe_is_a_mistake(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as e:
        main(words)
    assert e.value.code == 2
    assert "--train.epochs" in capsys.readouterr().err
