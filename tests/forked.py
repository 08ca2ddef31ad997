"""Starts commands of finetune as forks of a process that has imported torch, transformers and TRL (five seconds).

Each command is a real process. A test can kill it at any moment, also in the middle of writing a file.
"""

import functools
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
END_S = 600
"""More than any of these trainings takes on a machine that has much else to do."""


def train(
    recipe: Path,
    *words: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    torn: tuple[str, int] | None = None,
    room: int | None = None,
) -> ForkServerProcess:
    """`finetune sft RECIPE words…`, begun; what it prints goes to `log`.

    `torn`: a file's name and a step. With half of that file of that step's checkpoint on the disk it dies.
    `room`: so many bytes it may allocate beyond what its imports took.
    """
    return _begun(["sft", str(recipe), *words], log, dict(env or {}), torn, room)


def evaluate(student: Path, *words: str, log: Path, env: Mapping[str, str] | None = None) -> ForkServerProcess:
    """`finetune eval STUDENT words…`, begun; what it prints goes to `log`."""
    return _begun(["eval", str(student), *words], log, dict(env or {}), None, None)


def _begun(
    words: list[str], log: Path, env: Mapping[str, str], torn: tuple[str, int] | None, room: int | None
) -> ForkServerProcess:
    loaded = ["finetune.train.sft", "finetune.commands.sft", "finetune.commands.eval", "finetune.__main__"]
    FORKS.set_forkserver_preload(loaded)
    process = FORKS.Process(target=_run, args=(words, log, env, torn, room))
    process.start()
    return process


def trained(recipe: Path, *words: str, log: Path, env: Mapping[str, str] | None = None, room: int | None = None) -> int:
    """The exit code of the whole of it."""
    process = train(recipe, *words, log=log, env=env, room=room)
    process.join(END_S)
    assert process.exitcode is not None, f"still running: {log.read_text()}"
    return process.exitcode


def _run(words: list[str], log: Path, env: Mapping[str, str], torn: tuple[str, int] | None, room: int | None) -> None:
    to = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(to, 1)
    os.dup2(to, 2)
    os.environ.update(env)
    import torch

    torch.set_num_threads(1)
    if torn is not None:
        _tear(*torn)
    if room is not None:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))
    from finetune.__main__ import main

    sys.exit(main(words))


def _tear(name: str, step: int) -> None:
    """Has the process die with half of the file `name` of checkpoint-`step`.

    What writes it is other people's (torch, safetensors, transformers): it is let finish, then half is taken away.
    """
    import torch
    import transformers

    def then_dies(write: Callable[..., Any], at: int) -> Callable[..., Any]:
        """`write`, whose argument number `at` is the path that it writes to."""

        @functools.wraps(write)
        def writes(*args: Any, **kwargs: Any) -> Any:
            done = write(*args, **kwargs)
            path = Path(str(args[at] if len(args) > at else kwargs.get("filename", "")))
            if path.name == name and path.parent.name == f"checkpoint-{step}":
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return writes

    torch.save = then_dies(torch.save, 1)
    weights = transformers.modeling_utils
    weights.safe_save_file = then_dies(weights.safe_save_file, 1)
    transformers.TrainerState.save_to_json = then_dies(transformers.TrainerState.save_to_json, 1)
