"""Says how answers are drawn, and under which settings other people publish their evaluations."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from harvest.core.errors import InputError


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. Temperature 0 is greedy. top_p, top_k and min_p are off when None."""

    max_tokens: int = 1024
    temperature: float | None = 0.0
    """None means the endpoint's default."""
    samples: int = 1
    seed: int = 0
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None

    @property
    def content(self) -> dict[str, Any]:
        """Returns every setting that changes an answer. The evaluation's key contains them."""
        return {k: v for k, v in asdict(self).items() if k != "samples"}


ROUND_DOWN = 256


@dataclass(frozen=True, slots=True)
class Preset:
    """Settings that somebody published. `source` says where."""

    settings: Mapping[str, Any]
    source: str


PRESETS = {
    "greedy": Preset({"temperature": 0.0}, "one answer a question, the same each time; thinking models may loop"),
    "deepseek-r1": Preset(
        {"temperature": 0.6, "top_p": 0.95, "max_tokens": 32768},
        "as DeepSeek-R1's README says it was evaluated, with 64 samples a question; OpenR1's evaluations have it too",
    ),
    "qwen3-thinking": Preset(
        {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.0, "max_tokens": 32768},
        "Qwen3's model cards, best practices for thinking mode, and its generation_config.json",
    ),
}


def sampling_of(preset: str | None, given: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> Sampling:
    """Returns the sampling of `given`. A setting that is None or missing there comes from the preset, else from `base`.

    Raises InputError when several samples are asked for at temperature 0: they would all be the same answer.
    """
    named = {k: v for k, v in given.items() if v is not None}
    settings = {**(base or {}), **(PRESETS[preset].settings if preset else {}), **named}
    found = Sampling(**settings)
    if found.samples > 1 and found.temperature == 0:
        raise InputError(
            f"--samples {found.samples}: at temperature 0 they would all be the same answer: give --temperature, or"
            f" --preset {' or '.join(p for p in PRESETS if p != 'greedy')}"
        )
    return found


def fitted(sampling: Sampling, prompt_tokens: int, limit: int | None) -> Sampling:
    """Returns the sampling with as many max_tokens as the model's limit leaves after the longest prompt.

    What is left over 4,096 is rounded down to a multiple of 256, so that a template that is a few tokens longer does
    not make it another evaluation. Raises InputError when a prompt alone is over the limit.
    """
    if limit is None or prompt_tokens + sampling.max_tokens <= limit:
        return sampling
    left = limit - prompt_tokens
    if left < 1:
        raise InputError(f"a prompt of {prompt_tokens} tokens is over the model's limit of {limit}: leave it out")
    return replace(sampling, max_tokens=left // ROUND_DOWN * ROUND_DOWN if left > 4096 else left)
