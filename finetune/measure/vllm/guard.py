"""Runs one server and ends it. This file is a program: server.py starts it by its path, and it imports nothing of ours.

    python guard.py PARENT COMMAND …

The server gets a process group of its own. All processes of that group are ended when stdin closes, or when the process
PARENT is no longer the parent of this one: so they end with that process, even if it is killed with -9. They are ended
too when the server itself ends, since its workers may outlive it and hold the GPU. If this program is killed, the
kernel ends the server. The exit code is the server's.
"""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress

LOOK_EVERY_S = 0.2
GRACE_S = 10.0
"""So long the processes have to end by themselves, before they are killed."""
REAP_S = 3.0


def end_with_starter() -> None:
    """Asks the kernel to end this process when the one that started it ends (prctl(2), PR_SET_PDEATHSIG; Linux)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def is_wanted(stdin: selectors.BaseSelector, parent: int) -> bool:
    """Waits a moment. Returns whether the process that asked for the server is still there and has not closed stdin."""
    if stdin.select(LOOK_EVERY_S) and not os.read(0, 1):
        return False
    return os.getppid() == parent


def end(server: "subprocess.Popen[bytes]") -> None:
    """Ends all processes of the server's group: asks them first, kills them after GRACE_S.

    Processes that nobody reaps, as in a container without an init, stay in the group: they are not waited for.
    """
    with suppress(ProcessLookupError):
        for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, REAP_S)):
            os.killpg(server.pid, number)
            until = time.monotonic() + wait_s
            while time.monotonic() < until:
                server.poll()  # else its process stays in the group when it has ended
                os.killpg(server.pid, 0)
                time.sleep(0.02)
    server.wait()


def main() -> int:
    parent, *command = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with_starter,
    )
    try:
        with selectors.DefaultSelector() as stdin:
            stdin.register(0, selectors.EVENT_READ)
            while server.poll() is None and is_wanted(stdin, int(parent)):
                pass
    finally:
        end(server)
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


if __name__ == "__main__":
    sys.exit(main())
