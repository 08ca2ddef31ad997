"""Says what a teacher's terms allow: as the user states them, else by data/teacher_terms.toml, else "unknown"."""

import tomllib
from collections.abc import Mapping
from datetime import date
from functools import cache
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from harvest.core.errors import ConfigError
from harvest.core.files import package_folder
from harvest.core.teachers import Teacher
from harvest.local import MODELS

ACCEPTED = "accepted:"
"""A `teacher.terms` that begins so says that the user has read terms which forbid training, and why it may be done."""


class ProviderTerms(BaseModel):
    """What one provider's terms say of training another model with the answers, and on which page."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    hosts: tuple[str, ...]
    page: str
    version: str | None = None
    """The date that the page gives itself."""
    read_on: date | None = None
    training: Literal["forbidden", "allowed", "depends", "not mentioned", "not read"]
    words: str = ""

    def in_words(self) -> str:
        """Returns what the terms say, with the page and the day on which it was read."""
        return (
            f"{self.name}: training other models is {self.training}: {self.words}"
            f" ({self.page}, version of {self.version}, read on {self.read_on})"
        )


class Terms(NamedTuple):
    """The terms of one teacher in words, and who says so: the `user`, the `table`, the `licence` of a local model's
    weights, or `nobody`."""

    words: str
    said_by: Literal["user", "table", "licence", "nobody"]
    page: str | None = None


UNKNOWN = Terms("unknown", "nobody")


@cache
def providers() -> tuple[ProviderTerms, ...]:
    """Returns the table."""
    rows = tomllib.loads((package_folder("data") / "teacher_terms.toml").read_text("utf-8"))["provider"]
    return tuple(ProviderTerms.model_validate(row) for row in rows)


def provider_at(base_url: str | None) -> ProviderTerms | None:
    """Returns the table's entry for an address; None if it has none, or nobody has read the page."""
    host = (urlsplit(base_url or "").hostname or "").rstrip(".").lower()
    for provider in providers():
        if provider.training != "not read" and any(host == h or host.endswith(f".{h}") for h in provider.hosts):
            return provider
    return None


def terms_of(teacher: Mapping[str, Any]) -> Terms:
    """Returns the terms of a teacher with these stored settings."""
    if teacher.get("terms"):
        return Terms(teacher["terms"], "user")
    if (provider := provider_at(teacher.get("base_url"))) is not None:
        return Terms(provider.in_words(), "table", provider.page)
    licence = next((m.licence for m in MODELS if teacher.get("local") in (m.name, *m.aliases)), None)
    return Terms(f"{licence}, the licence of its weights", "licence") if licence else UNKNOWN


def refuse_unaccepted(teacher: Teacher, section: str) -> None:
    """Raises ConfigError when the teacher's terms forbid training other models and the user has not accepted that."""
    provider = provider_at(teacher.base_url)
    if provider is None or provider.training != "forbidden" or (teacher.terms or "").startswith(ACCEPTED):
        return
    raise ConfigError(
        f"{section}.terms: the terms of {provider.name} forbid training other models with its answers"
        f" ({provider.page}, version of {provider.version}). Read them; if you may all the same,"
        f' say why: terms = "{ACCEPTED} …"'
    )
