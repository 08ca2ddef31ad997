"""Reads what an endpoint lists of one of its models (`GET /models`), which costs nothing."""

from dataclasses import dataclass

from harvest.core.errors import AttemptFailed
from harvest.core.foreign_json import as_dict, as_list, count, label
from harvest.endpoint.client import Teacher

ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class ListedModel:
    """What an endpoint lists of a model. vLLM and SGLang list all of it, others only that it is there."""

    is_there: bool
    loaded_from: str | None = None
    """The folder or the hub's name that the model was loaded from."""
    context_tokens: int | None = None
    """How many tokens a prompt and its answer may have together."""

    def __str__(self) -> str:
        if not self.is_there:
            return "does not list the model"
        context = "" if self.context_tokens is None else f" with {self.context_tokens:,} tokens of context"
        return f"serves {self.loaded_from or 'it'}{context}"


async def listed_model(teacher: Teacher, base_url: str, name: str) -> ListedModel | None:
    """Returns what the endpoint lists of the model with this name; None if it lists no models."""
    try:
        status, listed = await teacher.look_up(f"{base_url.rstrip('/')}/models", ANSWER_S)
    except AttemptFailed:
        return None
    cards = [as_dict(card) for card in as_list(listed.get("data"))]
    if status != 200 or not cards:
        return None
    card = next((card for card in cards if card.get("id") == name), None)
    if card is None:
        return ListedModel(is_there=False)
    return ListedModel(True, label(card.get("root")), count(card.get("max_model_len")))
