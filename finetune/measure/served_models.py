"""Asks an endpoint which models it serves (`GET /models`), which costs nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harvest.core.errors import AttemptFailed, ConfigError, InputError
from harvest.core.foreign_json import as_dict, as_list, count, label
from harvest.endpoint.client import Teacher
from harvest.endpoint.transport import LOOPBACK

TIMEOUT_S = 10.0
SHOWN = 12


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model as an endpoint lists it. vLLM lists all fields; others list the name, and perhaps who owns it."""

    name: str
    owner: str | None = None
    """vLLM writes "vllm" here."""
    folder: str | None = None
    """The folder or the hub's name that it was loaded from (vLLM's `root`)."""
    base: str | None = None
    """The name of the model that this adapter stands over; None for a whole model."""
    limit: int | None = None
    """How many tokens a prompt and its answer may have together."""

    @property
    def extra(self) -> dict[str, Any]:
        """Returns what is put into each request. vLLM is asked to leave special tokens in the text: a student's marks
        may be such tokens."""
        return {"skip_special_tokens": False} if self.owner == "vllm" else {}

    def student_folder(self, base_url: str) -> Path | None:
        """Returns the student's folder, if it is certain: the endpoint is on this machine, and names a folder here."""
        if urlsplit(base_url).hostname not in LOOPBACK:
            return None
        places = [Path(p) for p in (self.folder, self.name) if p]
        is_model = ("config.json", "adapter_config.json")
        return next((p for p in places if any((p / file).is_file() for file in is_model)), None)


def the_served_model(base_url: str, key: str | None, name: str | None) -> ServedModel:
    """Returns the model with this name at an endpoint, or its only model when no name is given.

    Raises ConfigError, which lists the names, when the name must be given.
    """
    status, models = 0, list[ServedModel]()
    try:
        status, models = asyncio.run(_listed(base_url.rstrip("/"), key))
    except AttemptFailed as e:
        if not name:
            raise InputError(f"{base_url}: does not answer: {e}") from None
    if status in (401, 403) and not name:
        raise ConfigError(f"{base_url}: refuses the key ({status}): --api-key-env names the variable that holds it")
    if name:
        return next((m for m in models if m.name == name), ServedModel(name))
    if len(models) != 1:
        raise ConfigError(f"{base_url}: --model names the model there{_names(models)}")
    return models[0]


def _names(models: Sequence[ServedModel]) -> str:
    if not models:
        return " (it lists none)"
    more = ", …" if len(models) > SHOWN else ""
    return f": {', '.join(m.name for m in models[:SHOWN])}{more}"


def served_models(base_url: str, key: str | None) -> list[ServedModel] | None:
    """Returns the models at an address; None if the endpoint lists none, refuses the key, or does not answer."""
    try:
        status, found = asyncio.run(_listed(base_url.rstrip("/"), key))
    except AttemptFailed:
        return None
    return found if status == 200 and found else None


async def _listed(base_url: str, key: str | None) -> tuple[int, list[ServedModel]]:
    """Returns (the answer's status, the models that it names). Raises AttemptFailed when no answer comes."""
    async with Teacher(base_url, key) as teacher:
        status, listed = await teacher.look_up(f"{base_url}/models", TIMEOUT_S)
    cards = [as_dict(card) for card in as_list(listed.get("data"))]
    found = [
        ServedModel(
            name, label(c.get("owned_by")), label(c.get("root")), label(c.get("parent")), count(c.get("max_model_len"))
        )
        for c in cards
        if (name := label(c.get("id"))) is not None
    ]
    return status, found
