"""Defines the layouts: how a trace is written for a training program, and the files that the program needs. Pure.

A layout is one entry of LAYOUTS. All layouts hold the same conversation, and `finetune` can read every layout.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harvest.core.chain_marks import TRAINING_MARKS
from harvest.core.config import Export
from harvest.core.nouns import Message

T, N, F, B = "string", "int64", "float64", "bool"
Columns = Mapping[str, Any]
"""The type of each column, by the name of the column. `[t]` is a list of `t`, and a mapping is a struct."""
SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}
"""The name that ShareGPT gives to each role."""
DATASET_NAME = "winnow"
"""The name of the dataset in LLaMA-Factory's dataset_info.json."""


@dataclass(frozen=True, slots=True)
class TrainingLayout:
    """Describes one way to write a trace."""

    for_whom: str
    """The programs that read this layout."""
    write: Callable[[Sequence[Message], Mapping[str, Any]], dict[str, Any]]
    """Makes the training part of a row from the messages asked and the assistant's message."""
    columns: Callable[[Columns], Columns]
    """Makes the columns of the training part from the columns of one message."""
    prompt_column: str = "prompt_file"
    """The name of the column with the prompt file's name and sha256. It is not `prompt` for most layouts, because TRL
    takes a column `prompt` for the text to complete."""
    turn_apart: bool = True
    """Whether programs that read this layout accept the chain in a field of its own."""


def _messages(asked: Sequence[Message], turn: Mapping[str, Any]) -> dict[str, Any]:
    return {"messages": [*asked, turn]}


def _prompt_completion(asked: Sequence[Message], turn: Mapping[str, Any]) -> dict[str, Any]:
    return {"prompt": list(asked), "completion": [turn]}


def _sharegpt(asked: Sequence[Message], turn: Mapping[str, Any]) -> dict[str, Any]:
    begins_with_system = bool(asked) and asked[0]["role"] == "system"
    spoken = [*asked[int(begins_with_system) :], turn]
    return {
        "conversations": [{"from": SPEAKERS[m["role"]], "value": m["content"]} for m in spoken],
        "system": asked[0]["content"] if begins_with_system else "",
    }


def _columns_of_messages(message: Columns) -> Columns:
    return {"messages": [message]}


def _columns_of_sharegpt(_: Columns) -> Columns:
    return {"conversations": [{"from": T, "value": T}], "system": T}


LAYOUTS = {
    "messages": TrainingLayout("datasets, finetune; the contract's", _messages, _columns_of_messages, "prompt"),
    "trl": TrainingLayout("TRL's SFTTrainer", _messages, _columns_of_messages),
    "prompt-completion": TrainingLayout(
        "TRL's SFTTrainer, which then trains the completion alone",
        _prompt_completion,
        lambda message: {"prompt": [{"role": T, "content": T}], "completion": [message]},
    ),
    "axolotl": TrainingLayout("axolotl, type chat_template", _messages, _columns_of_messages),
    "sharegpt": TrainingLayout("readers of ShareGPT's form", _sharegpt, _columns_of_sharegpt, turn_apart=False),
    "llama-factory": TrainingLayout("LLaMA-Factory", _sharegpt, _columns_of_sharegpt, turn_apart=False),
}


def assistant_turn(reasoning: str | None, answer: str, settings: Export) -> dict[str, Any]:
    """Returns the assistant's message.

    By the settings, the chain stands between marks in the content, stands in a field of its own, or is left out.
    """
    turn: dict[str, Any] = {"role": "assistant", "content": answer}
    if settings.reasoning == "apart":
        turn[settings.reasoning_field] = reasoning
    elif settings.reasoning == "inline" and reasoning is not None:
        before, after, answer_before, answer_after = TRAINING_MARKS[settings.marks]
        turn["content"] = f"{before}{reasoning}{after}{answer_before}{answer}{answer_after}"
    return turn


def training_part(asked: Sequence[Message], reasoning: str | None, answer: str, settings: Export) -> dict[str, Any]:
    return LAYOUTS[settings.layout].write(asked, assistant_turn(reasoning, answer, settings))


def training_columns(settings: Export) -> Columns:
    message = {"role": T, "content": T}
    if settings.reasoning == "apart":
        message[settings.reasoning_field] = T
    return LAYOUTS[settings.layout].columns(message)


def quotes_marks(reasoning: str | None, answer: str, settings: Export) -> bool:
    """Whether the chain or the answer itself holds one of the marks that are written around chain and answer.

    A program that reads such a row may cut the text at the wrong mark.
    """
    if settings.reasoning != "inline" or reasoning is None:
        return False
    marks = [mark.strip() for mark in TRAINING_MARKS[settings.marks] if mark]
    return any(mark in text for mark in marks for text in (reasoning, answer))


# ---- files beside the data


def files_beside(settings: Export, folder: str) -> dict[str, str]:
    """Returns the files that the layout's program needs beside the data: the text of each file by its name.

    `folder` is the name of the dataset folder.
    """
    if settings.layout == "llama-factory":
        return {"dataset_info.json": json.dumps(dataset_info(), indent=2) + "\n"}
    if settings.layout == "axolotl":
        return {"axolotl.yaml": axolotl_lines(settings, folder) + "\n"}
    return {}


def dataset_info() -> dict[str, Any]:
    """Returns the content of LLaMA-Factory's dataset_info.json, for a `dataset_dir` that is the export's folder.

    `script_url` makes LLaMA-Factory load the folder by its card. With `file_name` instead, each column's type would be
    guessed from the first 10 MB, which fails if a column is filled only later. `formatting` is not "openai", because
    that value adds "detailed thinking off" to every system message.
    Source: LLaMA-Factory, src/llamafactory/data/loader.py and converter.py.
    """
    return {
        DATASET_NAME: {
            "script_url": ".",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "system": "system"},
        }
    }


def axolotl_lines(settings: Export, folder: str) -> str:
    """Returns the lines of an axolotl configuration that load the dataset folder.

    A chain in a field of its own reaches the chat template under `template_thinking_key`. `path` is not ".", because
    `datasets` finds no name for a dataset in that path.
    Source: axolotl, docs/dataset-formats/conversation.qmd and src/axolotl/prompt_strategies/chat_template.py.
    """
    lines = ["datasets:", f"  - path: {json.dumps(folder)}   # from where axolotl is started"]
    lines += ["    split: train", "    type: chat_template", "    field_messages: messages"]
    if settings.reasoning == "apart":
        field = settings.reasoning_field
        lines += [f"    field_thinking: {field}", f"    template_thinking_key: {field}"]
    elif settings.marks == "sky-t1" and settings.reasoning == "inline":
        lines += ["    # split_thinking: true   # where the template writes the chain itself, as Qwen3's does"]
    return "\n".join(lines)
