"""Reads RECIPE.toml into frozen models: student, data, rendering, training and launch.

In [train], `epochs`, `traces_per_step`, `learning_rate` and `seed` belong to winnow. Every other key belongs to TRL's
SFTConfig or, with adapters, to PEFT's LoraConfig.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from finetune.trl_settings import ATTENTION, train_faults
from harvest.core.errors import ConfigError, MissingExtra
from harvest.core.files import package_folder, settings_path
from harvest.core.settings import Section, override, read_toml, validated

Count = Annotated[int, Field(ge=1)]


class OwnLayout(Section):
    """Marks of your own around the chain and the answer, line breaks included."""

    open: Annotated[str, Field(min_length=1)]
    """The mark before the chain."""
    close: Annotated[str, Field(min_length=1)]
    """The mark after the chain."""
    answer_open: str = ""
    """The mark before the answer."""
    answer_close: str = ""
    """The mark after the answer."""


class Render(Section):
    """How a trace becomes tokens."""

    reasoning: Literal["think", "sky-t1", "s1", "template"] | OwnLayout = "think"
    """The marks around the chain: "think", "sky-t1", "s1", "template" (those of the student's own chat template), or a
    table of your own marks."""
    max_tokens: Count = 16384
    """The most tokens that a row may have, prompt included. A longer row is never cut."""
    chat_template: str | None = None
    """The chat template for a student whose tokenizer has none, or in place of its own: the name of a template that TRL
    ships, such as "qwen3" or "llama3_1", or a .jinja file. The trained student keeps it."""
    too_long: Literal["drop", "refuse"] = "drop"
    """What happens to a longer row: "drop" leaves it out and names it, "refuse" ends the command with exit code 2."""


class Train(BaseModel):
    """How the student is trained. Further keys are those of TRL's SFTConfig and PEFT's LoraConfig, by their names."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3
    """How often each row is trained."""
    traces_per_step: Count = 96
    """How many rows one step of the optimizer learns from."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    """The highest learning rate of the schedule. LoRA wants about ten times as much."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """The seed for the order of rows, for fresh weights, for dropout, and for which questions are held out."""
    held_out: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0
    """The share of questions that are kept out of training, with all their rows, for example "0.02". Their loss is
    measured every `eval_steps` steps. With 50 of them or more, the student is the one with the lowest such loss."""
    stop_after: Annotated[int, Field(ge=0)] = 0
    """The training stops after this many measurements of held-out questions without a lower loss. 0: it never stops
    early."""

    @model_validator(mode="after")
    def _check_held_out(self) -> "Train":
        if not self.held_out and (named := next((k for k in ("stop_after", "eval_steps") if getattr(self, k, 0)), "")):
            raise ValueError(f"train.{named} does nothing without train.held_out, the share of questions to measure")
        return self

    @property
    def further(self) -> dict[str, Any]:
        """Returns the keys that go to SFTConfig or LoraConfig unchanged."""
        return dict(self.model_extra or {})

    @property
    def attention(self) -> str | None:
        """Returns the name of the attention that the recipe asks for; None when it leaves that to transformers."""
        given: str | None = (self.further.get("model_init_kwargs") or {}).get(ATTENTION)
        return given

    @property
    def packs(self) -> bool:
        """Whether several rows are laid into one pack."""
        return bool(self.further.get("packing"))


class Launch(Section):
    """Where the training runs."""

    strategy: Literal["single", "ddp", "fsdp2", "fsdp2-cp", "zero3", "zero3-offload"] = "single"
    """How the training is spread over processes, one for each GPU. If the processes were started in another way, the
    command is refused. "fsdp2-cp" also spreads the tokens of a row over two GPUs (context parallelism)."""
    gpu: str | None = None
    """The GPU's name, for the estimate."""
    gpus: Count = 1
    """The number of GPUs. One process is started for each. If you set it, the command is refused when another number of
    processes was started."""
    price_usd_per_gpu_hour: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    """What an hour of one GPU costs, in USD. Without it the cost of training is unknown, not zero."""


class Prefer(Section):
    """`finetune prefer`: which pairs are made of a run's answers, and the two numbers of SimPO's loss."""

    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    """SimPO's beta: how much a difference between the mean log-probabilities of a pair's two sides counts."""
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.3
    """SimPO's margin: beta times the difference should be larger than this number."""
    wrong_share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.1
    """The share of all pairs in which a longer right answer is preferred to a short wrong one. The other pairs prefer
    the shortest right answer to the longest. Where the run has fewer, all are taken; where it has more, `train.seed`
    chooses."""
    most_pairs: Count | None = None
    """The most pairs that are trained or held out; `train.seed` chooses them. Without it: all."""
    truncated_is_wrong: bool = False
    """Whether an answer that was cut short at its limit counts as wrong. Otherwise it is in no pair."""


PREFER_TRAINS = {"epochs": 1, "learning_rate": 5e-7}
"""The defaults of [train] in a recipe with [prefer]. Source: Sky-T1-Flash, which also had 96 pairs a step."""


class Distill(Section):
    """`finetune distill`: how the probabilities of teachers are learnt beside their text."""

    temperature: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 1.0
    """The temperature that softens the probabilities of teacher and student. The teacher's own sampling temperature is
    another thing."""
    weight: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.9
    """The share of the soft loss in the loss of a token that has a soft target. The rest is the cross-entropy of the
    text. 0 is `finetune sft`."""
    top_k: Count = 20
    """The most tokens of one teacher that are learnt at each place. What it gave to all others is learnt as one sum."""
    teachers: tuple[str, ...] = ()
    """Models that are loaded here and give their probabilities to every row: folders, entries of the model table, or
    hub's names. The word "stored" stands for the log-probabilities that the run's store holds, which are taken alone
    where no teacher is named. The probabilities of several are averaged."""
    share: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """How much each teacher counts, by its name here or, for stored ones, the name of its model. Without it all count
    equally. With stored ones alone, where each row has the one teacher that wrote it, it is each teacher's share of the
    rows: `train.seed` chooses the rows that are left out."""
    tokenizers: dict[str, str] = Field(default_factory=dict)
    """The tokenizer of a remote teacher, by the name of its model: a folder or a hub's name. It is needed where the
    endpoint sends the ids of tokens without their text, as vLLM does with return_tokens_as_token_ids."""
    logprobs_are_raw: bool = False
    """Whether a remote teacher's log-probabilities are from before its sampling temperature. At temperature 1 this
    makes no difference. A remote teacher that was asked at another or an unknown temperature is refused unless this is
    true. vLLM and llama.cpp send such log-probabilities by default, SGLang does not
    (SGLANG_RETURN_ORIGINAL_LOGPROB)."""


class Mixed(Section):
    """Rows of another dataset beside those of `data`."""

    data: Annotated[str, Field(min_length=1)]
    """The other dataset, named like the recipe's `data`."""
    per_row: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """How many of its rows are taken for each row of the recipe's `data`. `train.seed` chooses them; where there are
    fewer, all are taken."""


class Recipe(Section):
    """One training: which student learns what, how, and where it is put."""

    student: Annotated[str, Field(min_length=1)]
    """The student: a hub's name (with "@" and a branch, tag or commit where it shall not be the newest version), a
    folder, a .gguf file, or an entry of the model table."""
    data: Annotated[str, Field(min_length=1)]
    """What it learns from: a run, an export, a file, or a dataset with `messages`, or `prompt` and `completion`.
    A dataset of the hub may be named with more: `hub:owner/name?config=…&split=…&revision=…&column=value`."""
    output: Annotated[str, Field(min_length=1)]
    """The folder of the trained student, relative to the working directory."""
    method: Literal["full", "lora", "qlora"] = "full"
    """Which weights are trained: all ("full"), low-rank adapters ("lora"), or adapters over weights that are held in
    four bits ("qlora")."""
    skip_bad_rows: bool = False
    """Whether rows that cannot be trained are left out and named, where they would end the command with exit code 2."""
    mix: tuple[Mixed, ...] = ()
    """[[mix]]: rows of other datasets beside those of `data`, e.g. long chains among short ones."""
    render: Render = Render()
    train: Train = Train()
    launch: Launch = Launch()
    prefer: Prefer | None = None
    """[prefer]: what `finetune prefer` trains. Only that command takes a recipe with this section."""
    distill: Distill | None = None
    """[distill]: what `finetune distill` learns beside the text. Only that command takes a recipe with this section."""


def assumed(recipe: Recipe) -> Recipe:
    """Returns the recipe as it is trained if the student keeps packed rows apart: packed, unless it asks otherwise.

    It asks otherwise with `packing`, `padding_free`, a number of rows at once, or an attention that cannot have the
    bounds of rows. Context parallelism cannot have them either.
    """
    further, attention = recipe.train.further, recipe.train.attention
    asks = {"packing", "padding_free", "per_device_train_batch_size"} & further.keys()
    if asks or (attention and "flash" not in attention) or recipe.launch.strategy == "fsdp2-cp":
        return recipe
    return with_packing(recipe, True)


def with_packing(recipe: Recipe, packs: bool) -> Recipe:
    """Returns the recipe with train.packing set."""
    train = recipe.train.model_copy(update={"packing": packs})
    return recipe.model_copy(update={"train": train})


def recipe_path(named: str | None) -> Path:
    """Returns the path of the recipe that the command line names, or of the demo's recipe when it names none."""
    return settings_path(named) if named else package_folder("recipes") / "demo-student.toml"


def read_recipe(path: Path, overrides: Sequence[tuple[str, str]] = (), train: bool = False) -> Recipe:
    """Returns the recipe in a file. Settings of the command line (`--section.key value`) replace those of the file.

    With `train`, the further keys of [train] are checked against TRL and PEFT too; importing them takes seconds. Raises
    ConfigError with a line for each fault: `RECIPE.toml: train.learnig_rate: unknown setting; did you mean …`.
    """
    return recipe_of(read_toml(path), str(path), overrides, train)


def recipe_of(
    data: dict[str, Any], source: str, overrides: Sequence[tuple[str, str]] = (), train: bool = False
) -> Recipe:
    """Returns the recipe from settings that were read already. `source` stands at the start of each fault's line.

    `overrides`, `train` and the errors are as in `read_recipe`.
    """
    override(Recipe, data, overrides)
    if "prefer" in data and isinstance(data.setdefault("train", {}), dict):
        data["train"] = {**PREFER_TRAINS, **data["train"]}
    faults: list[str] = []
    given, method = data.get("train"), data.get("method", "full")
    if train and isinstance(given, Mapping):
        further = {k: v for k, v in given.items() if k not in Train.model_fields}
        faults += train_faults(further, method if isinstance(method, str) else "full", Train.model_fields)
    return validated(Recipe, data, source, faults)


def check_method(recipe: Recipe) -> None:
    """Raises MissingExtra or ConfigError when this machine or this launch cannot carry out the recipe's method."""
    if recipe.method != "qlora":
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra('method = "qlora"', "qlora")
    if recipe.launch.strategy not in ("single", "ddp"):
        raise ConfigError(
            f'method: "qlora" is for launch.strategy = "single" or "ddp", not "{recipe.launch.strategy}": '
            'take "lora" there'
        )
