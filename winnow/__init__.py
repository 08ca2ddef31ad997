"""The thin door to winnow: the command `winnow`, and a Python API of a dozen names.

It stands above `harvest`, which asks the teacher, and `finetune`, which trains the student. All work is theirs.

    import winnow

    run = winnow.collect("questions.jsonl", teacher={"base_url": "…", "model": "…", "api_key_env": "…"}, budget_usd="5")
    for trace in run:
        print(trace.question, trace.reasoning, trace.answer, trace.cost_usd)

docs/python.md has the rest. A name is imported when it is used, so `import winnow` takes no time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harvest.core.errors import WinnowError as WinnowError
    from harvest.core.nouns import Verdict as Verdict
    from winnow.checking import check as check
    from winnow.collecting import collect as collect
    from winnow.collecting import foresee as foresee
    from winnow.collecting import open_run as open_run
    from winnow.run import Run as Run
    from winnow.run import Trace as Trace
    from winnow.training import Evaluation as Evaluation
    from winnow.training import Student as Student
    from winnow.training import evaluate as evaluate
    from winnow.training import train as train

_HOME = {
    "collect": "winnow.collecting",
    "foresee": "winnow.collecting",
    "open_run": "winnow.collecting",
    "Run": "winnow.run",
    "Trace": "winnow.run",
    "check": "winnow.checking",
    "Verdict": "harvest.core.nouns",
    "train": "winnow.training",
    "Student": "winnow.training",
    "evaluate": "winnow.training",
    "Evaluation": "winnow.training",
    "WinnowError": "harvest.core.errors",
}
"""The file of each name of the API."""

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from harvest.core.machine import release

        return release()
    if name not in _HOME:
        raise AttributeError(f"module 'winnow' has no attribute {name!r}; it has {', '.join(_HOME)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*_HOME, "__version__"]
