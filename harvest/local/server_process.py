"""Runs the embedded teacher's server. This file is the program of the server process.

The program imports nothing else of winnow: server.py starts this file by its path, in an environment without the user's
keys.

One JSON line on stdin says what to serve. The server's address goes to stdout as one line. All output of llama.cpp goes
to stderr, which is a log file. The process ends when its stdin closes, or when the process that started it is no longer
its parent, whichever it sees first. So it ends when its parent ends, even if the parent is killed with -9. Both signs
are needed, because another process that the parent forked may hold a copy of the pipe's other end.
"""

import ctypes
import json
import os
import selectors
import signal
import sys
import threading
from typing import Any

LOOK_FOR_PARENT_EVERY_S = 0.5


def end_with_parent(parent: int) -> None:
    """Ends this process, whatever it is doing, when stdin closes or the process `parent` is no longer its parent."""
    with selectors.DefaultSelector() as stdin:
        stdin.register(0, selectors.EVENT_READ)
        while os.getppid() == parent:
            if stdin.select(LOOK_FOR_PARENT_EVERY_S) and not os.read(0, 1):
                break
    os._exit(0)


def die_with_starter(yes: bool) -> None:
    """Asks the kernel to kill this process when the *thread* that started this process ends.

    If `yes` is False, takes that request back. Does nothing on other systems than Linux (prctl(2), PR_SET_PDEATHSIG).
    The thread may end although the parent process lives on, so the request holds only while the weights load.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL if yes else 0)


def parameters(setup: dict[str, Any]) -> Any:
    """Returns llama.cpp's parameters for what `setup` says.

    `context_tokens` is the context of one slot. llama.cpp divides the whole context evenly among the slots.
    """
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = setup["weights"]
    params.model_alias = {setup["model"]}
    params.n_parallel = setup["slots"]
    params.n_ctx = setup["slots"] * setup["context_tokens"]
    params.fit_params = False  # else the context is cut to what memory is free
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = setup["threads"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [setup["api_key"]]
    params.ui = False
    params.endpoint_slots = False
    params.cache_ram_mib = 0  # prompts here share a beginning, which the slots have; 8 GiB of old ones help nobody
    params.verbosity = 2  # warnings: 3 writes a kilobyte for each request
    return params


def main() -> None:
    announce = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    setup = json.loads(line)
    threading.Thread(target=end_with_parent, args=(setup["parent"],), daemon=True).start()
    import xllamacpp

    die_with_starter(True)  # while the weights load, no other thread of ours runs
    try:
        server = xllamacpp.Server(parameters(setup))
    except RuntimeError as fault:
        sys.exit(str(fault))
    die_with_starter(False)
    with announce:
        announce.write(server.listening_address + "\n")
    threading.Event().wait()


if __name__ == "__main__":
    main()
