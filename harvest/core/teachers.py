"""Who may be asked in a run: the student and each teacher, by its place, as settings of a run that asks it alone. Pure.

Code that asks one endpoint (its price, its key, its requests) reads `config.teacher` and `config.sampling`, so whoever
is asked stands there.
"""

from collections.abc import Mapping
from typing import Any

from harvest.core.config import RunConfig
from harvest.core.nouns import STUDENT

LONGEST_NAME = 100


def configs(config: RunConfig) -> dict[int, RunConfig]:
    """Of each place, the lowest first: STUDENT, where there is one, then 0, 1, … in the order written."""
    student = config.student
    found = {STUDENT: _asking(config, student, student.sampling)} if student is not None else {}
    if not config.teachers:
        return found | {0: config}
    return found | {n: _asking(config, teacher, teacher.sampling) for n, teacher in enumerate(config.teachers)}


def _asking(config: RunConfig, who: Any, sampling: Any) -> RunConfig:
    return config.model_copy(update={"teacher": who, "sampling": sampling})


def section_of(config: RunConfig, place: int) -> str:
    """The section of RUN.toml that names who stands there."""
    return "student" if place == STUDENT else f"teachers.{place}" if config.teachers else "teacher"


def called(config: RunConfig, place: int) -> str:
    """Who stands there, in words for people: one line, whatever its name holds."""
    if place == STUDENT and config.student is not None:
        return f"the student ({_shown(config.student.local or config.student.model)})"
    if not config.teachers:
        return "the teacher"
    teacher = config.teachers[place]
    return f"teacher {place + 1} of {len(config.teachers)} ({_shown(teacher.local or teacher.model)})"


def _shown(name: str | None) -> str:
    text = "".join(c if c.isprintable() else " " for c in name or "")
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def teachers_of(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of a run's settings as they are stored: each teacher by its place, with its own `sampling` and `endpoint`."""
    if several := settings.get("teachers"):
        return list(several)
    if "teacher" not in settings:  # a run that nothing was asked for
        return []
    return [settings["teacher"] | {"sampling": settings["sampling"], "endpoint": settings.get("endpoint")}]
