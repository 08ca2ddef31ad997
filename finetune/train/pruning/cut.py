"""Makes a model of some layers of another one, and saves it as a folder like any other model's."""

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from finetune.proof.student import write_made
from finetune.rows.template import Tokenizer
from finetune.train.pruning.card import card
from harvest.core.errors import ConfigError
from harvest.core.files import write_whole


def cut_config(config: PretrainedConfig, kept: Sequence[int]) -> PretrainedConfig:
    """Returns the configuration of a model that has the layers with these numbers alone.

    Every list with an entry for each layer (`layer_types`, for example) loses the entries of the others.
    """
    cut = copy.deepcopy(config)
    text = cut.get_text_config()
    layers = text.num_hidden_layers
    for name, value in text.to_dict().items():
        if isinstance(value, list) and len(value) == layers:
            setattr(text, name, [value[n] for n in kept])
        elif name == "max_window_layers" and value == layers:
            setattr(text, name, len(kept))
    text.num_hidden_layers = len(kept)
    return cut


def cut(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """Returns a new model of the layers with these numbers, in the same precision, with equal weights.

    Raises ConfigError when a layer's place decides what it is made of, so that it cannot stand at another place.
    """
    made: PreTrainedModel = AutoModelForCausalLM.from_config(cut_config(model.config, kept), dtype=model.dtype)
    inside = next(name for name, module in model.named_modules() if module is model.get_decoder().layers)
    weights = dict[str, Any]()
    for name, tensor in model.state_dict().items():
        number, _, rest = name.removeprefix(f"{inside}.").partition(".")
        if not name.startswith(f"{inside}."):
            weights[name] = tensor
        elif int(number) in kept:
            weights[f"{inside}.{kept.index(int(number))}.{rest}"] = tensor
    wanted = {name: tensor.shape for name, tensor in made.state_dict().items()}
    if (given := {name: tensor.shape for name, tensor in weights.items()}) != wanted:
        odd = sorted({*given.items()} ^ {*wanted.items()})[0][0]
        raise ConfigError(f"this model's layers differ by their place ({odd}), so that none can be cut out")
    made.load_state_dict(weights)
    made.generation_config = model.generation_config
    return made


def save_cut(model: PreTrainedModel, tokenizer: Tokenizer, cut_from: Mapping[str, Any], to: Path) -> None:
    """Writes the model, its tokenizer and its card into the folder `to`, which appears when it is complete.

    `cut_from` stands in its config.json, and stays there when the student is trained.
    """
    made = to.with_name(f".{to.name}.part")
    shutil.rmtree(made, ignore_errors=True)
    model.config.cut_from = dict(cut_from)
    try:
        made.mkdir(parents=True)
        model.save_pretrained(str(made))
        tokenizer.save_pretrained(str(made))
        write_whole(made / "README.md", card(to.name, cut_from))
        for file in made.iterdir():
            file.chmod(0o644)
        if (source := Path(str(cut_from["model"]))).is_dir():
            write_made(made, "init", source)
        if to.is_dir():
            to.rmdir()
        made.rename(to)
    finally:
        shutil.rmtree(made, ignore_errors=True)
