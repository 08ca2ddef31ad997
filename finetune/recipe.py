"""RECIPE.toml as frozen models: student, data, rendering, training, launch. One line for each fault of it.

In [train], `epochs` and `traces_per_step` are ours; every other name is one of TRL's SFTConfig, or with
adapters of PEFT's LoraConfig, and is held against the installed version.
"""

import dataclasses
import difflib
import importlib.util
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from finetune.rows.render import LAYOUTS, Layout, Tokenizer, template_layout
from harvest.core.errors import ConfigError, MissingExtra

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class OwnLayout(Section):
    """Marks of your own around the chain and the answer, line breaks included."""

    open: Annotated[str, Field(min_length=1)]
    """Before the chain."""
    close: Annotated[str, Field(min_length=1)]
    """After the chain."""
    answer_open: str = ""
    """Before the answer."""
    answer_close: str = ""
    """After the answer."""


class Render(Section):
    """How a trace becomes tokens."""

    reasoning: Literal["think", "sky-t1", "template"] | OwnLayout = "think"
    """The marks around the chain: "think", "sky-t1", those of the student's own chat template, or a table of yours."""
    max_tokens: Count = 16384
    """Most tokens of a row, prompt included. Nothing is ever cut."""
    too_long: Literal["drop", "refuse"] = "drop"
    """What becomes of a longer row: left out and counted by name, or exit code 2."""

    def layout(self, tokenizer: Tokenizer) -> Layout:
        """The marks for a student with this tokenizer. Raises ConfigError where its template has none of its own."""
        if isinstance(self.reasoning, OwnLayout):
            return Layout(**self.reasoning.model_dump())
        return template_layout(tokenizer) if self.reasoning == "template" else LAYOUTS[self.reasoning]


class Train(BaseModel):
    """How it is trained. Further keys are TRL's SFTConfig's and PEFT's LoraConfig's, by their names."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3
    """How often each row is seen."""
    traces_per_step: Count = 96
    """Rows that one step of the optimizer learns from."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    """At its highest. Ten times as much suits LoRA."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Order of the rows, fresh weights and dropout."""

    @property
    def further(self) -> dict[str, Any]:
        """What goes to SFTConfig or LoraConfig as it is."""
        return dict(self.model_extra or {})

    @property
    def packs(self) -> bool:
        """Whether the rows of a step are laid into packs."""
        return bool(self.further.get("packing"))


class Launch(Section):
    """Where it runs."""

    strategy: Literal["single", "ddp", "fsdp2", "fsdp2-cp", "zero3", "zero3-offload"] = "single"
    """How it is spread over processes, one a GPU: what was started otherwise is refused, never downgraded. "fsdp2-cp"
    has context parallelism too: a row's tokens are spread over two GPUs."""
    gpu: str | None = None
    """The GPU's name, for the estimate."""
    gpus: Count = 1
    """How many of them, and so of processes: where it is given, as many must have been started."""
    price_usd_per_gpu_hour: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    """What an hour of one costs. Without it the cost of training is unknown, not zero."""


class Mixed(Section):
    """Rows of another dataset beside those of `data`."""

    data: Annotated[str, Field(min_length=1)]
    """As the recipe's `data`."""
    per_row: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """How many of its rows for each row of the recipe's `data`, chosen by train.seed; all where it has fewer."""


class Recipe(Section):
    """One training: which student learns what, how, and where it is put."""

    student: Annotated[str, Field(min_length=1)]
    """The hub's name, a folder, a .gguf file, or an entry of the model table."""
    data: Annotated[str, Field(min_length=1)]
    """A run, an export, a file, or a dataset with `messages`, or `prompt` and `completion`."""
    output: Annotated[str, Field(min_length=1)]
    """The folder of the trained student, relative to the working directory."""
    method: Literal["full", "lora", "qlora"] = "full"
    """Which weights are trained: all, low-rank adapters, or adapters over weights held in four bits ("qlora")."""
    mix: tuple[Mixed, ...] = ()
    """[[mix]]: rows of other datasets beside those of `data`, e.g. long chains among short ones."""
    render: Render = Render()
    train: Train = Train()
    launch: Launch = Launch()


OURS = {
    "output_dir": "it is `output`",
    "max_length": "it is `render.max_tokens`",
    "num_train_epochs": "it is `train.epochs`",
    "max_steps": "set `train.epochs`: a part of one is allowed",
    "gradient_accumulation_steps": "it follows from `train.traces_per_step` and `per_device_train_batch_size`",
    "eval_packing": "there is no evaluation while training: use `finetune eval`",
    "use_liger_kernel": "leave it out: TRL's own head is fused, and on a CPU ours",
    "truncation_mode": "nothing is cut here",
    "completion_only_loss": "exactly the assistant's turns are trained",
    "assistant_only_loss": "exactly the assistant's turns are trained",
    "dataset_text_field": "rows are rendered before TRL sees them",
    "dataset_kwargs": "rows are rendered before TRL sees them",
    "chat_template_path": "the student's own template is used",
    "data_seed": "it is `train.seed`",
    "train_sampling_strategy": "rows are shuffled by `train.seed` and grouped by length within a step",
    "resume_from_checkpoint": "it goes on from the newest complete checkpoint by itself",
    "use_cpu": "a GPU is used where there is one; set CUDA_VISIBLE_DEVICES= to leave it out",
    "push_to_hub": "not yet: upload the output folder yourself",
    "load_best_model_at_end": "there is no evaluation while training: use `finetune eval`",
    "eval_strategy": "there is no evaluation while training: use `finetune eval`",
    "do_eval": "there is no evaluation while training: use `finetune eval`",
    "save_only_model": "a checkpoint without the optimizer cannot be gone on from: leave it out",
    "ignore_data_skip": "after a kill rows would be trained again that were",
    "average_tokens_across_devices": "the loss is the mean over the step's trained tokens of all processes",
    "auto_find_batch_size": "set `per_device_train_batch_size`; the step stays `train.traces_per_step`",
    "dataloader_drop_last": "each row is trained once an epoch",
    "shuffle_dataset": "rows are shuffled by `train.seed`",
    "logging_nan_inf_filter": "a loss that is no number ends the training",
    "eval_on_start": "there is no evaluation while training: use `finetune eval`",
    "task_type": "a causal language model is trained, nothing else",
}
"""Settings of SFTConfig and LoraConfig that winnow decides, and where to say it instead."""

PACKING = ("packing", "packing_strategy", "padding_free")
"""Names of SFTConfig's that winnow carries out itself."""
STRATEGIES = {
    "wrapped": 'rows would be cut and see each other: leave it out, "bfd" keeps them whole and apart',
    "bfd_split": 'rows would be cut: leave it out, "bfd" keeps them whole',
}
"""Values of packing_strategy that are refused."""

GONE = {
    "warmup_ratio": "it is `warmup_steps` since transformers 5, where a number under 1 is a share of all steps",
    "gradient_checkpointing": "it is `activation_checkpointing` now",
    "gradient_checkpointing_kwargs": "it is `activation_checkpointing_kwargs` now",
    "loss_type=chunked_nll": 'it is "nll" now, which is the fused head',
}
"""Settings, and values of settings, that other people's recipes still have."""


def read_recipe(path: Path, overrides: Sequence[tuple[str, str]] = (), train: bool = False) -> Recipe:
    """RECIPE.toml with `--section.key value` put over it.

    With `train`, the further keys of [train] are held against TRL and PEFT too, which takes seconds to import.
    Raises ConfigError with a line for each fault: `RECIPE.toml: train.learnig_rate: unknown, did you mean …`.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder; name the RECIPE.toml in it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: not TOML: {e}") from None
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror}") from None
    return recipe_of(data, str(path), overrides, train)


def recipe_of(
    data: dict[str, Any], source: str, overrides: Sequence[tuple[str, str]] = (), train: bool = False
) -> Recipe:
    """The same of settings that were read or given; `source` stands in front of each fault."""
    for key, text in overrides:
        _put(data, key, text)
    faults: list[str] = []
    recipe: Recipe | None = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as e:
        faults += _faults(e)
    given = data.get("train")
    if train and isinstance(given, dict):
        method = data.get("method", "full")
        further = {k: v for k, v in given.items() if k not in Train.model_fields}
        faults += train_faults(further, method if isinstance(method, str) else "full")
    if faults or recipe is None:
        raise ConfigError("\n".join(f"{source}: {line}" for line in faults))
    return recipe


def check_method(recipe: Recipe) -> None:
    """Raises MissingExtra or ConfigError for a method that this machine or this launch cannot carry out."""
    if recipe.method != "qlora":
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra('method = "qlora"', "qlora")
    if recipe.launch.strategy not in ("single", "ddp"):
        raise ConfigError(
            f'method: "qlora" is for launch.strategy = "single" or "ddp", not "{recipe.launch.strategy}": '
            'take "lora" there'
        )


def lora_keys(further: Mapping[str, Any]) -> dict[str, Any]:
    """Those of [train]'s further keys that are LoraConfig's."""
    from peft import LoraConfig

    names = {f.name for f in dataclasses.fields(LoraConfig)}
    return {k: v for k, v in further.items() if k in names}


def train_faults(further: Mapping[str, Any], method: str) -> Iterator[str]:
    """A line for each further key of [train] that the installed TRL and PEFT do not have, or not with that value."""
    from peft import LoraConfig
    from trl import SFTConfig

    sft, lora = _hints(SFTConfig), _hints(LoraConfig)
    known = sft if method == "full" else sft | lora
    for key, value in further.items():
        if why := OURS.get(key) or GONE.get(key) or GONE.get(f"{key}={value}"):
            yield f"train.{key}: {why}"
        elif key == "packing_strategy" and value != "bfd":
            yield f"train.{key}: " + STRATEGIES.get(value, 'it is "bfd"')
        elif key in known:
            try:
                TypeAdapter(known[key]).validate_python(value)
            except ValidationError as e:
                yield f"train.{key}: {e.errors(include_url=False)[0]['msg']} (it is {value!r})"
        elif key in lora:
            yield f'train.{key}: a setting of LoRA, but method = "{method}"'
        else:
            yield f"train.{key}: unknown{_nearest(key, [*known, *Train.model_fields])}"
    if further.get("packing") is True:
        if further.get("padding_free") is False:
            yield "train.padding_free: packs are never padded: leave it out, or packing"
        if "per_device_train_batch_size" in further:
            yield "train.per_device_train_batch_size: with packing a pack goes through at a time: leave one of them out"


def _hints(config: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(config)
    return {f.name: hints[f.name] for f in dataclasses.fields(config) if f.init}


def parse_value(text: str) -> Any:
    """A value of the command line: TOML where it reads as TOML, else the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text


def _put(data: dict[str, Any], key: str, text: str) -> None:
    *sections, last = key.split(".")
    at = data
    for s in sections:
        at = at.setdefault(s, {})
        if not isinstance(at, dict):
            raise ConfigError(f"--{key}: {s} is no section")
    value = parse_value(text)
    wants_text = not sections or last in ("price_usd_per_gpu_hour", "gpu")
    at[last] = text if wants_text and not isinstance(value, str) else value


def _faults(e: ValidationError) -> Iterator[str]:
    told = set()
    for fault in e.errors(include_url=False):
        loc = [str(p) for p in fault["loc"]]
        if loc[:2] == ["render", "reasoning"] and len(loc) > 2:
            if loc[2] != "OwnLayout":  # the branch of the fixed names says nothing about a table
                loc, wants_table = loc[:2], isinstance(fault.get("input"), dict)
                if wants_table:
                    continue
            elif fault["type"] == "model_type":
                continue
            else:
                del loc[2]
        where = ".".join(loc)
        if where in told:
            continue
        told.add(where)
        if fault["type"] == "extra_forbidden":
            yield f"{where}: unknown{_nearest(loc[-1], _known(loc[:-1]))}"
        elif fault["type"] == "missing":
            yield f"{where}: missing"
        else:
            yield f"{where}: {fault['msg'].removeprefix('Value error, ')}{_got(fault)}"


def _known(sections: Iterable[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for s in (s for s in sections if not s.isdigit()):  # a place in a list, as in mix.0.data
        annotation = model.model_fields[s].annotation
        model = next(a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel))
    return list(model.model_fields)


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5)
    if close:
        return f", did you mean {close[0]}?"
    return f"; known are {', '.join(sorted(known))}" if len(known) < 20 else ""


def _got(fault: Mapping[str, Any]) -> str:
    value = fault.get("input")
    return f" (it is {value!r})" if isinstance(value, str | int | float | bool) and len(str(value)) < 60 else ""


def describe() -> Iterator[tuple[str, str, str]]:
    """(setting, default, meaning) of every setting of ours, for the reference. Those of a table that may stand in a
    setting's place, or several times, come after it."""

    def walk(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
        for name, f in model.model_fields.items():
            if isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel):
                yield from walk(f.annotation, f"{prefix}{name}.")
                continue
            tables = [a for a in get_args(f.annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
            default = "required" if f.is_required() else repr(f.get_default(call_default_factory=True))
            yield f"{prefix}{name}", default, " ".join((f.description or "").split())
            for table in tables:
                yield from walk(table, f"{prefix}{name}.")

    yield from walk(Recipe, "")
