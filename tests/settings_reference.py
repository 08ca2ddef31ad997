"""The tables of settings in docs/, as the models of the settings give them."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from harvest.core.settings import OneRow, model_in


def describe(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(setting, default, meaning) of every setting, for the reference.

    A section without a docstring has no row of its own, only its settings have. A setting that may be a table, or
    several, has a row, and the settings of the table come after it unless it is marked `OneRow`.
    """
    for name, field in model.model_fields.items():
        marks = [m for m in field.metadata if isinstance(m, OneRow)]
        if field.description is not None:
            value = field.get_default(call_default_factory=True)
            default = "required" if field.is_required() else repr(str(value) if isinstance(value, Decimal) else value)
            shown = marks[0].default if marks and marks[0].default is not None else default
            words = [repr(word) for word in _choices(field.annotation)]
            choices = f" One of {', '.join(words)}." if len(words) > 1 else ""
            yield f"{prefix}{name}", shown, " ".join(field.description.split()) + choices
        section = model_in(field.annotation)
        if section is not None and not marks:
            yield from describe(section, f"{prefix}{name}.")


def _choices(annotation: Any) -> list[Any]:
    """The words that a setting may be, if it is one of a few."""
    if get_origin(annotation) is Literal:
        return [*get_args(annotation)]
    return [word for part in get_args(annotation) for word in _choices(part)]
