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
    models: tuple[str, ...] = ()
    """How the names of its models begin at an address that forwards to many providers."""
    open_models: tuple[str, ...] = ()
    """How the names of those of its models begin whose weights are open."""
    forwards: bool = False
    """Whether its address forwards to many providers, whose terms count too."""
    page: str
    version: str | None = None
    """The date that the page gives itself."""
    read_on: date | None = None
    training: Literal["forbidden", "allowed", "depends", "not mentioned", "not read"]
    words: str = ""

    def in_words(self) -> str:
        """Returns what the terms say, with the page and the day on which it was read."""
        said = {"depends": "whether other models may be trained depends", "not mentioned": "training is not mentioned"}
        return (
            f"{self.name}: {said.get(self.training, f'training other models is {self.training}')}: {self.words}"
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


def providers_of(base_url: str | None, model: str | None) -> list[ProviderTerms]:
    """Returns the table's entries for a model at an address, the strictest one first, as far as somebody has read their
    pages. An address that forwards to many providers has an entry of its own beside that of the model's provider."""
    host = (urlsplit(base_url or "").hostname or "").rstrip(".").lower()
    asked = (model or "").lower()
    found = [p for p in providers() if any(host == h or host.endswith(f".{h}") for h in p.hosts)]
    if any(p.forwards for p in found):
        found += [p for p in providers() if asked.startswith(p.models) and not asked.startswith(p.open_models)]
    return sorted((p for p in found if p.training != "not read"), key=lambda p: p.training != "forbidden")


def terms_of(teacher: Mapping[str, Any]) -> Terms:
    """Returns the terms of a teacher with these stored settings."""
    if teacher.get("terms"):
        return Terms(teacher["terms"], "user")
    addresses = [teacher.get("base_url"), *teacher.get("replicas", ())]
    if found := list(dict.fromkeys(p for address in addresses for p in providers_of(address, teacher.get("model")))):
        return Terms("; ".join(p.in_words() for p in found), "table", found[0].page)
    licence = next((m.licence for m in MODELS if teacher.get("local") in (m.name, *m.aliases)), None)
    return Terms(f"{licence}, the licence of its weights", "licence") if licence else UNKNOWN


def refuse_unaccepted(teacher: Teacher, section: str) -> None:
    """Raises ConfigError when the teacher's terms forbid training other models and the user has not accepted that."""
    found = [p for address in teacher.addresses for p in providers_of(address, teacher.model)]
    forbidding = [p for p in found if p.training == "forbidden"]
    if not forbidding or (teacher.terms or "").startswith(ACCEPTED):
        return
    provider = forbidding[0]
    raise ConfigError(
        f"{section}.terms: the terms of {provider.name} forbid training other models with its answers"
        f" ({provider.page}, version of {provider.version}). Read them; if you may all the same,"
        f' say why: terms = "{ACCEPTED} …"'
    )
