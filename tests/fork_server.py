"""The program that tests/forked.py starts: it imports modules once, then forks itself for each command that it is sent.

    python tests/fork_server.py MODULE …     with a socket as standard input

A request is one message: JSON and four descriptors, which are the command's stdin, stdout and stderr, and a pipe. The
server writes two numbers of four bytes to the pipe: the process id at once, and the status of waitpid at the end.
"""

import contextlib
import gc
import importlib
import json
import os
import pickle
import runpy
import select
import signal
import socket
import sys
from typing import Any

NUMBER = "little"
LONGEST = 200_000


def requested(requests: socket.socket) -> dict[str, Any]:
    """Returns in each forked process, with its request. The server itself ends here, when nobody can ask any more."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pipes: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, woken], [], [])
        if woken in ready:
            os.read(woken, 512)
            for pid in list(pipes):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    _tell(pipes.pop(pid), status, last=True)
        if requests not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(requests, LONGEST, 4)
        if not message:
            sys.exit(0)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for at, descriptor in enumerate(descriptors[:3]):
                os.dup2(descriptor, at)
            os.closerange(3, max([*descriptors, *pipes.values(), wake]) + 1)
            requests.detach()
            found: dict[str, Any] = json.loads(message)
            return found
        pipes[pid] = descriptors.pop()
        _tell(pipes[pid], pid)
        for descriptor in descriptors:
            os.close(descriptor)


def _tell(pipe: int, number: int, *, last: bool = False) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test has let go of the process
        os.write(pipe, number.to_bytes(4, NUMBER))
    if last:
        os.close(pipe)


def main() -> None:
    requests = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for module in sys.argv[1:]:
        importlib.import_module(module)
    if "harvest.commands.report" in sys.modules:
        importlib.import_module("harvest.report.page.templates")  # compiles them
    gc.collect()
    gc.freeze()
    try:
        request = requested(requests)
    except KeyboardInterrupt:
        sys.exit(130)
    os.environ.clear()
    os.environ.update(request["env"])
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    sys.argv = ["", *request["words"]]
    if request["before"]:
        pickle.loads(bytes.fromhex(request["before"]))()  # noqa: S301 - the test that started the server sent it
    runpy.run_module(request["package"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
