"""Finds vLLM and the GPUs of this machine, and builds the command line of `vllm serve`.

The arguments are those of vLLM 0.33.0: vllm/entrypoints/common/cli_args.py (host, port, lora-modules, chat-template),
vllm/engine/arg_utils.py (all others), vllm/config/lora.py (the ranks), vllm/envs.py (VLLM_API_KEY).
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.cost.answering import Spread
from finetune.student import Student, adapter_base, find, folder_of
from harvest.core.errors import ConfigError, InputError

NAME = "student"
"""The served model's name. Attempts are known by the checksum of the weights, not by this name."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that --max-lora-rank takes."""
INSTALL = "pipx install vllm"
"""The command that installs vLLM in an environment of its own: it pins torch and transformers (0.33.0: torch 2.14.0,
transformers below 5.21), and would replace those that trainings are tested with."""


def vllm_command() -> list[str] | None:
    """Returns the words that start vLLM: the command on the path, else the package beside winnow. None: neither."""
    if found := shutil.which("vllm") or shutil.which("vllm", path=str(Path(sys.executable).parent)):
        return [found]
    if importlib.util.find_spec("vllm") is not None:
        return [sys.executable, "-m", "vllm.entrypoints.cli.main"]
    return None


def vllm_version(command: Sequence[str]) -> str:
    """Returns vLLM's version. Raises InputError, with what the command said, when it does not tell one."""
    if Path(command[0]).parent == Path(sys.executable).parent and importlib.util.find_spec("vllm") is not None:
        return importlib.metadata.version("vllm")
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if done.returncode or not words:
        raise InputError(f"{' '.join(command)} --version: {(done.stderr.strip().splitlines() or ['no version'])[-1]}")
    return words[-1]


def gpus_gib() -> list[float]:
    """Returns the memory of each NVIDIA GPU that this process may use, in GiB; [] when there is none."""
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None and (not chosen.strip() or chosen.strip().startswith("-")):
        return []
    which = ["-i", chosen] if chosen else []
    asked = [program, *which, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    lines = done.stdout.split() if not done.returncode else []
    return [float(line) / 1024 for line in lines if line.replace(".", "", 1).isdigit()]


@dataclass(frozen=True, slots=True)
class Serving:
    """What is served: a folder with a model, or an adapter over it."""

    model: Path
    adapter: Path | None = None
    max_lora_rank: int = 0

    @property
    def tokenizer(self) -> Path:
        """Returns the folder whose tokenizer and template are used: the adapter's, if it has one of its own."""
        if self.adapter is not None and (self.adapter / "tokenizer_config.json").is_file():
            return self.adapter
        return self.model


def serving_of(student: Student) -> Serving:
    """Returns what vLLM loads for a student. Raises ConfigError, which says to merge, for an adapter that vLLM cannot
    serve."""
    folder = folder_of(student)
    if (base := adapter_base(folder)) is None:
        return Serving(folder)
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    ranks = [config.get("r") or 0, *(config.get("rank_pattern") or {}).values()]
    cannot = [
        *(["modules_to_save"] if config.get("modules_to_save") else []),
        *(["use_dora"] if config.get("use_dora") else []),
        *([f"rank {max(ranks)}"] if max(ranks) > RANKS[-1] else []),
    ]
    if cannot:
        merge = f"python -m finetune merge {student.name}"
        raise ConfigError(f"{student.name}: vLLM serves no adapter with {', '.join(cannot)}: merge it first: {merge}")
    return Serving(folder_of(find(base)), folder, next(r for r in RANKS if r >= max(ranks)))


def serve_arguments(serving: Serving, template: Path, max_model_len: int, spread: Spread) -> list[str]:
    """Returns the words after `vllm`, but for host and port."""
    words = ["serve", str(serving.model)]
    if serving.adapter is None:
        words += ["--served-model-name", NAME]
    else:
        module = json.dumps({"name": NAME, "path": str(serving.adapter)})  # NAME=PATH takes no comma in the path
        words += ["--served-model-name", f"{NAME}-base", "--enable-lora", "--lora-modules", module]
        words += ["--max-lora-rank", str(serving.max_lora_rank)]
    words += ["--tokenizer", str(serving.tokenizer), "--chat-template", str(template)]
    words += ["--chat-template-content-format", "string"]
    words += ["--dtype", "bfloat16", "--max-model-len", str(max_model_len), "--generation-config", "vllm"]
    if spread.tensor > 1:
        words += ["--tensor-parallel-size", str(spread.tensor)]
    if spread.data > 1:
        words += ["--data-parallel-size", str(spread.data)]
    return [*words, "--disable-uvicorn-access-log"]
