"""Defines what an engine is: it answers questions, with local weights or through an endpoint."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from finetune.measure.sampling import Sampling
from harvest.core.nouns import Message, Question


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer that an engine is asked for: to `question`, as sample number `sample`, with this prompt."""

    question: Question
    sample: int
    messages: Sequence[Message]


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer of an engine. `output_tokens` counts the end token too.

    A count or a cost that is not known is None.
    """

    text: str
    is_finished: bool
    """Whether the student ended its turn; False when the answer was cut at max_tokens."""
    output_tokens: int | None
    cost_pusd: int | None = None
    is_looping: bool = False
    """Whether the endpoint's stream was broken off because the answer repeated itself."""


class Engine(Protocol):
    """An engine answers questions, with local weights in transformers or through an endpoint."""

    @property
    def model(self) -> str:
        """Returns the model's name for the report."""

    @property
    def about(self) -> Mapping[str, Any]:
        """Returns all that changes the answers: weights by checksum, engine, precision.

        The evaluation's key contains it.
        """

    @property
    def beside(self) -> Mapping[str, Any]:
        """Returns what else is worth knowing: batch size, hardware, who served. It is no part of the key."""

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """Yields the answers to all of `asked`, each once, batch by batch, in the order that suits the engine."""


class LocalEngine(Engine, Protocol):
    """An engine that answers with a student of this machine."""

    @property
    def limit(self) -> int | None:
        """Returns how many tokens a prompt and its answer may have together; None when the model does not say."""

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        """Returns how many tokens a prompt has."""
