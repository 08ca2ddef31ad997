"""What an engine is: whoever answers questions, local weights or an endpoint."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from finetune.measure.sampling import Sampling
from harvest.core.nouns import Message, Question


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer that an engine is asked for: the question, the number of the sample, the prompt."""

    question: Question
    sample: int
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer of an engine. `output_tokens` counts the end token. None stands for a count or a cost nobody knows."""

    text: str
    is_finished: bool
    """False where it was cut at max_tokens, before the student ended its turn."""
    output_tokens: int | None
    cost_pusd: int | None = None
    is_looping: bool = False
    """True where the endpoint's stream was broken off, since the answer repeated itself."""


class Engine(Protocol):
    """Whoever answers: local weights by transformers, or an endpoint."""

    @property
    def model(self) -> str:
        """The model's name in the report."""

    @property
    def about(self) -> Mapping[str, Any]:
        """All that changes the answers: weights by checksum, engine, precision. It is part of the evaluation's key."""

    @property
    def beside(self) -> Mapping[str, Any]:
        """What else is worth knowing: batch size, hardware, who served. It is no part of the key."""

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """Answers each of `asked` once, batch by batch, in the order that suits the engine."""
