"""Finds the model that a student's name means, and loads its tokenizer and its weights with transformers.

A GGUF file is converted once, and the result is cached: transformers can load a GGUF file but cannot save a model that
was trained from it, and reading a GGUF tokenizer takes seconds each time.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from harvest.core.errors import ConfigError
from harvest.core.printable import first_line


class MissingAttention(ConfigError):
    """Says that the package of an attention is not installed on this machine."""


@dataclass(frozen=True, slots=True)
class Student:
    """A student, by two things: what the recipe calls it, and where its files are.

    `place` is a folder, a .gguf file or, if `is_hub`, a hub's name. `revision` is a branch, tag or commit of the hub's
    model; None means its newest version.
    """

    name: str
    place: str
    is_hub: bool = False
    revision: str | None = None

    @property
    def gguf(self) -> Path | None:
        return Path(self.place) if self.place.endswith(".gguf") and not self.is_hub else None


def find(name: str) -> Student:
    """Returns the student that `name` means: a folder, a .gguf file, an entry of the model table, or a hub's name.

    An entry of the model table is downloaded. Raises ConfigError, which says where it looked, when the name means none
    of these.
    """
    path = Path(name)
    if path.suffix == ".gguf" and path.is_file():
        return Student(name, name)
    if path.is_dir():
        if not any((path / f).is_file() for f in ("config.json", "adapter_config.json")):
            state = (
                " (its training is not finished: run `finetune sft` again)" if (path / "winnow.json").is_file() else ""
            )
            raise ConfigError(f"{name}: a folder without config.json: no model{state}")
        return Student(name, name)
    from harvest.local import MODELS

    names = {n.casefold() for m in MODELS for n in (m.name, *m.aliases)}
    if name.casefold() in names:
        from harvest.local.weights import fetch

        return Student(name, str(fetch(name)))
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and path.suffix != ".gguf":
        repo, _, revision = name.partition("@")
        return Student(name, repo, is_hub=True, revision=revision or None)
    known = ", ".join(m.name for m in MODELS if m.use == "student")
    raise ConfigError(
        f"student {name!r}: no such folder, no entry of the model table (students: {known}), no hub's org/name"
    )


def identity(student: Student) -> str:
    """Returns the checksum of the student's weights. Equal weights have equal checksums, whatever their name."""
    if student.gguf is not None:
        return _sha256(student.gguf)
    folder = Path(student.place) if not student.is_hub else Path(_snapshot(student))
    files = sorted(p for s in ("*.safetensors", "*.bin") for p in folder.glob(s))
    if not files:
        raise ConfigError(f"{student.name}: no weights (*.safetensors) in {folder}")
    sums = [f"{p.name}={_sha256(p)}" for p in files]
    if base := adapter_base(folder):
        sums.append(f"base={identity(find(base))}")
    return (
        sums[0].partition("=")[2] if len(sums) == 1 else f"sha256:{hashlib.sha256(''.join(sums).encode()).hexdigest()}"
    )


def adapter_base(folder: Path) -> str | None:
    """Returns the name of the student that a folder's adapter was trained over; None if the folder has no adapter."""
    if (config := _adapter_config(folder)) is None:
        return None
    revision = config.get("revision")
    return str(config["base_model_name_or_path"]) + (f"@{revision}" if revision else "")


def _adapter_config(folder: Path) -> dict[str, Any] | None:
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:
        raise ConfigError(f"{folder / 'adapter_config.json'}: cannot be read: {e}") from None
    return dict(config)


@cache
def _sha256(path: Path) -> str:
    with path.open("rb") as f:
        return f"sha256:{hashlib.file_digest(f, 'sha256').hexdigest()}"


def load_tokenizer(student: Student) -> Any:
    """Returns the student's tokenizer and loads no weights. Raises ConfigError when the tokenizer cannot be loaded."""
    from transformers import AutoTokenizer

    if student.gguf is not None:
        gguf = student.gguf

        def convert(to: Path) -> None:
            AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(str(to))

        return AutoTokenizer.from_pretrained(str(_converted(gguf, "tokenizer", convert)))
    return _hub(student, lambda place: AutoTokenizer.from_pretrained(place, revision=student.revision))


def sizes(student: Student) -> dict[str, Any]:
    """Returns the student's configuration and loads no weights. Raises ConfigError when it cannot be loaded."""
    place = Path(student.place)
    if not student.is_hub and place.is_dir():
        if base := adapter_base(place):
            return sizes(find(base))
        try:
            config = json.loads((place / "config.json").read_text("utf-8"))
        except (OSError, ValueError) as e:
            raise ConfigError(f"{place / 'config.json'}: cannot be read: {e}") from None
        return config if isinstance(config, dict) else {}
    from transformers import AutoConfig

    if student.gguf is not None:
        gguf = student.gguf

        def convert(to: Path) -> None:
            AutoConfig.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(str(to))

        return sizes(Student(student.name, str(_converted(gguf, "config", convert))))
    loaded = _hub(student, lambda place: AutoConfig.from_pretrained(place, revision=student.revision))
    return dict(loaded.to_dict())


def text_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sizes of a configuration's language model, which stand apart where there are towers beside it."""
    return {**config, **(config.get("text_config") or {})}


def limit_of(config: Mapping[str, Any]) -> int | None:
    """Returns how many tokens a prompt and its answer may have together, by the model's config.json; None: it does not
    say."""
    found = text_sizes(config).get("max_position_embeddings")
    return found if isinstance(found, int) else None


def outline(student: Student, attention: str | None = None) -> Any:
    """Returns the student as a model whose weights have shapes and no numbers. It reads the configuration alone.

    `attention` is an attention of transformers by its name. Raises ConfigError when transformers does not know the
    architecture or the attention, MissingAttention when a package
    that it needs is not installed.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = sizes(student)
    kind = config.pop("model_type", None)

    def made(_: str) -> Any:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config), **_chosen(attention))

    return _hub(student, made)


@cache
def count_parameters(student: Student) -> int:
    """Returns how many weights the student has, from its configuration. Raises ConfigError as `outline` does."""
    return sum(p.numel() for p in outline(student).parameters())


def load_model(student: Student, dtype: Any, *, four_bit: bool = False, attention: str | None = None) -> Any:
    """Loads the student's weights in `dtype`, ready for training and saving. Raises ConfigError when that fails.

    `attention` is an attention of transformers by its name; None leaves the choice to transformers.

    With `four_bit` every linear layer except the head is held in NF4 with quantised scales, and is multiplied in
    `dtype`, as in QLoRA's paper (arXiv 2305.14314). Such layers cannot be trained, but adapters over them can.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantised = None
    if four_bit:
        quantised = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    place = student.place if student.is_hub else str(folder_of(student))
    # Of an adapter's folder transformers loads the base too, in the revision that it is given.
    revision = student.revision or (_adapter_config(Path(place)) or {}).get("revision")
    return _hub(
        replace(student, place=place),
        lambda p: AutoModelForCausalLM.from_pretrained(
            p, dtype=dtype, quantization_config=quantised, revision=revision, **_chosen(attention)
        ),
    )


def folder_of(student: Student) -> Path:
    """Returns a folder with the student's weights and tokenizer as transformers saves them.

    A hub's student is downloaded, and a GGUF file is converted.
    """
    if student.gguf is not None:
        return _converted(student.gguf, "model", lambda to: _convert_model(student, to))
    return Path(_hub(student, _snapshot)) if student.is_hub else Path(student.place)


def _chosen(attention: str | None) -> dict[str, str]:
    return {} if attention is None else {"attn_implementation": attention}


def _convert_model(student: Student, to: Path) -> None:
    """Converts a GGUF file to a folder with equal weights. The configuration loses its entry for quantisation."""
    import torch
    from transformers import AutoModelForCausalLM

    gguf = student.gguf
    assert gguf is not None
    loaded = AutoModelForCausalLM.from_pretrained(str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32)
    plain = {k: v for k, v in loaded.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**plain), dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(str(to))
    load_tokenizer(student).save_pretrained(str(to))


def _converted(gguf: Path, what: str, make: Callable[[Path], None]) -> Path:
    """Returns the cached folder that `make` fills from this GGUF file.

    The folder is complete even if two processes make it at the same time.
    """
    from harvest.local.weights import cache_folder

    place = cache_folder() / "converted" / _sha256(gguf).removeprefix("sha256:")[:16] / what
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{what}-", dir=place.parent))
    try:
        make(made)
        made.chmod(0o755)
        try:
            made.rename(place)
        except OSError:
            if not place.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return place


@cache
def _snapshot(student: Student) -> str:
    from huggingface_hub import snapshot_download

    return str(_hub(student, lambda name: snapshot_download(name, revision=student.revision)))


def commit_of(student: Student) -> str | None:
    """Returns the commit of the hub's model that is loaded; None when the student does not come from the hub."""
    return Path(_snapshot(student)).name if student.is_hub else None


def _hub(student: Student, load: Callable[[str], Any]) -> Any:
    """Returns what `load` makes of the student's place.

    Turns an error of transformers or the hub, for example about a missing file, into a ConfigError of one line.
    """
    from safetensors import SafetensorError

    try:
        return load(student.place)
    except ImportError as e:  # its message has many lines of advice
        raise MissingAttention(f"student {student.name!r}: {first_line(e)}") from None
    except (OSError, ValueError, SafetensorError) as e:
        first, *rest = str(e).strip().split("\n") if str(e).strip() else [type(e).__name__]
        why = " ".join(" ".join([first, *(rest if first.rstrip().endswith(":") else [])]).split())
        where = "neither here nor to be had from the hub (offline?)" if student.is_hub else "cannot be loaded"
        raise ConfigError(f"student {student.name!r}: {where}: {why[:300]}") from None
