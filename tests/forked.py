"""Starts `python -m harvest …` and `python -m finetune …` as forks of a process that has imported the package.

The imports take 0.6 s of harvest, and 5 s of torch, transformers and TRL. Each command is a real process all the same,
with its own process id, environment, folder and pipes. A test can kill it at any moment.
"""

import functools
import json
import os
import pickle
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from fork_server import NUMBER

TESTS = Path(__file__).parent
IMPORTED = {
    "harvest": (
        "harvest.commands.arguments", "harvest.commands.collect", "harvest.commands.doctor", "harvest.commands.export",
        "harvest.commands.import_answers", "harvest.commands.report", "harvest.commands.select_traces",
        "harvest.commands.settle", "harvest.commands.verify", "harvest.commands.why",
        # Imported by the commands when they come to it.
        "anyio._backends._asyncio", "stringprep",
        "harvest.endpoint.openai_client", "harvest.filters.language", "harvest.filters.meta",
        "harvest.filters.refusing", "harvest.judging.rewriting", "harvest.selection.pipeline",
        "harvest.selection.sketch_maker",
    ),
    "finetune": ("finetune.train.sft", "finetune.commands.sft", "finetune.commands.eval"),
}  # fmt: skip
READ_BY_IMPORTS = ("PYTHON", "HF_", "TRANSFORMERS_", "OMP_", "LD_")
END_S = 600
"""More than any of these commands takes on a machine that has much else to do."""


class Forked(subprocess.Popen[str]):
    """`python -m PACKAGE words…`, begun. `before` is called in the process before the command."""

    def __init__(
        self,
        package: str,
        *words: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[str] = subprocess.PIPE,
        stderr: int | IO[str] = subprocess.PIPE,
        before: Callable[[], None] | None = None,
    ) -> None:
        self._asked = {"package": package, "words": words, "before": before and pickle.dumps(before).hex()}
        super().__init__(
            [sys.executable, "-m", package, *words], cwd=cwd, env=env or dict(os.environ), stdout=stdout, stderr=stderr,
            text=True,
        )  # fmt: skip

    def _execute_child(self, *given: Any) -> None:
        """What Popen does to start a process; of `given`, the folder, the environment and the descriptors count."""
        cwd, env, (stdin, _, _, stdout, _, stderr) = given[5], given[6], given[10:16]
        if any(env.get(name) != os.environ.get(name) for name in {*env, *os.environ} if read_by_imports(name)):
            assert self._asked["before"] is None, "only a fork can prepare itself"
            return super()._execute_child(*given)
        self._ends, told = os.pipe()
        standard = [own if at == -1 else at for own, at in enumerate((stdin, stdout, stderr))]
        os.umask(mask := os.umask(0))
        request = {**self._asked, "cwd": os.fspath(cwd or Path.cwd()), "env": dict(env), "umask": mask}
        socket.send_fds(_server(request["package"])[0], [json.dumps(request).encode()], [*standard, told])
        os.close(told)
        self.pid = self._number()
        self._child_created = True
        self._close_pipe_fds(*given[10:16])

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """What Popen does to learn how the process ended: (0, 0) while it has not and `wait_flags` is not 0."""
        if not hasattr(self, "_ends"):
            return super()._try_wait(wait_flags)
        if wait_flags and not select.select([self._ends], [], [], 0)[0]:
            return 0, 0
        status = self._number()
        os.close(self._ends)
        return self.pid, status

    def _internal_poll(self, _deadstate: int | None = None, **_: Any) -> int | None:
        """What Popen.poll() does."""
        if self.returncode is None and hasattr(self, "_ends"):
            pid, status = self._try_wait(os.WNOHANG)
            if pid:
                self._handle_exitstatus(status)
            return self.returncode
        return super()._internal_poll(_deadstate)

    def _number(self) -> int:
        told = os.read(self._ends, 4)
        assert len(told) == 4, "tests/fork_server.py has ended: what it said stands above"
        return int.from_bytes(told, NUMBER)


def read_by_imports(name: str) -> bool:
    """Whether a module may read the variable as it is imported. Where it differs, the command is a new interpreter."""
    return name.startswith(READ_BY_IMPORTS) and name != "PYTHONPATH"


@functools.cache
def _server(package: str) -> "tuple[socket.socket, subprocess.Popen[bytes]]":
    """It ends with the process that asked for it, which holds the other end of its socket."""
    own, its = socket.socketpair(type=socket.SOCK_SEQPACKET)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), *filter(None, sys.path)])}
    program = [sys.executable, str(TESTS / "fork_server.py"), *IMPORTED[package]]
    process = subprocess.Popen(program, stdin=its, env=env)
    its.close()
    return own, process


def run(package: str, *words: str, **how: Any) -> "subprocess.CompletedProcess[str]":
    """The whole of `python -m PACKAGE words…`."""
    return finished(Forked(package, *words, **how))


def finished(process: "subprocess.Popen[str]", timeout_s: float = END_S) -> "subprocess.CompletedProcess[str]":
    """The process when it has ended. A process that takes longer is killed, and TimeoutExpired raised."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def train(
    recipe: Path,
    *words: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    torn: tuple[str, str] | None = None,
    room: int | None = None,
    command: str = "sft",
) -> Forked:
    """`finetune sft RECIPE words…`, begun; what it prints goes to `log`. `command` is another command that trains.

    `torn`: the names of a file and of its folder. With half of that file on the disk it dies.
    `room`: so many bytes it may allocate beyond what its imports took.
    """
    before = functools.partial(_prepare, torn, room)
    with log.open("a") as to:
        return Forked(
            "finetune", command, str(recipe), *words, env={**os.environ, **(env or {})}, stdout=to, stderr=to,
            before=before,
        )  # fmt: skip


def evaluate(student: Path, *words: str, log: Path, env: Mapping[str, str] | None = None) -> Forked:
    """`finetune eval STUDENT words…`, begun; what it prints goes to `log`."""
    with log.open("a") as to:
        return Forked("finetune", "eval", str(student), *words, env={**os.environ, **(env or {})}, stdout=to, stderr=to)


def trained(recipe: Path, *words: str, log: Path, env: Mapping[str, str] | None = None, room: int | None = None) -> int:
    """The exit code of the whole of it."""
    return train(recipe, *words, log=log, env=env, room=room).wait(END_S)


def _prepare(torn: tuple[str, str] | None, room: int | None) -> None:
    import torch

    torch.set_num_threads(1)
    if torn is not None:
        _tear(*torn)
    if room is not None:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + room, taken + room))


def _tear(name: str, folder: str) -> None:
    """Has the process die with half of the file `name` in a folder of that name.

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
            if path.name == name and path.parent.name == folder:
                os.truncate(path, path.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return writes

    torch.save = then_dies(torch.save, 1)
    weights = transformers.modeling_utils
    weights.safe_save_file = then_dies(weights.safe_save_file, 1)
    transformers.TrainerState.save_to_json = then_dies(transformers.TrainerState.save_to_json, 1)
