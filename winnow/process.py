"""Runs a command of harvest or finetune as a process, for a script, a thread of an event loop, or a notebook.

A process of its own has its own event loop, signals, keys and memory, so none of these is the caller's.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import harvest
from finetune.job.stage_process import end_with
from harvest.core.errors import CapReached, InputError, Overbilled, TeacherRefused, WinnowError
from harvest.store import without_passwords

INTERRUPTED = 130
LAST_LINES = 40
"""So many of the last lines on stderr are kept, for the words of an error."""
ERRORS: Mapping[int, type[WinnowError]] = {
    error.exit_code: error for error in (InputError, CapReached, TeacherRefused, Overbilled)
}


def called(package: str, words: Sequence[str], *, quiet: bool, ends: Collection[int] = (0,)) -> dict[str, Any]:
    """Runs `python -m PACKAGE WORDS… --json` and returns the object that it prints.

    What it says meanwhile goes to stderr, unless `quiet`. `ends` are the exit codes that are no error. For any other
    one, raises the WinnowError with that exit code and the command's own words. Ctrl-C stops the command as it would in
    a terminal, and raises KeyboardInterrupt once it has stored all that came.
    """
    words, passwords = without_passwords(words)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", package, *words, "--json"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**_environment(), **passwords},
        process_group=0,  # a terminal's Ctrl-C comes once, from here
        preexec_fn=partial(end_with, os.getpid()),
    )
    said: list[str] = []
    listening = threading.Thread(target=_listen, args=(process, said, quiet), daemon=True)
    listening.start()
    assert process.stdout is not None
    interrupted = False
    while True:
        try:
            out = process.stdout.read()
            code = process.wait()
            break
        except KeyboardInterrupt:
            interrupted = True
            process.send_signal(signal.SIGINT)
    listening.join()
    process.stdout.close()
    if interrupted or code == INTERRUPTED:
        raise KeyboardInterrupt
    if code not in ends:
        raise ERRORS.get(code, WinnowError)(_fault(said, code))
    found: dict[str, Any] = json.loads(out)
    return found


def _listen(process: "subprocess.Popen[str]", said: list[str], quiet: bool) -> None:
    """Reads the lines on the process's stderr until it ends, and passes them on."""
    assert process.stderr is not None
    for line in process.stderr:
        said.append(line.rstrip("\n"))
        del said[:-LAST_LINES]
        if not quiet:
            sys.stderr.write(line)
            sys.stderr.flush()
    process.stderr.close()


def _fault(said: Sequence[str], code: int) -> str:
    """Returns the lines that name the fault, without the word `error:`."""
    first = next((n for n, line in enumerate(said) if line.startswith(("error: ", "stopped: "))), None)
    if first is None:
        return "\n".join(said[-5:]) or f"the command ended with exit code {code}"
    lines = (line for line in said[first:] if line.startswith(("error: ", "stopped: ", "  ", "…")))
    return "\n".join(line.removeprefix("error: ").removeprefix("stopped: ") for line in lines)


def _environment() -> dict[str, str]:
    """Returns the environment, with the place of a checkout that is not installed."""
    root = Path(harvest.__file__).resolve().parents[1]
    if "site-packages" in root.parts:
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}


def setting_words(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Returns settings as words of a command line.

    >>> setting_words({"sampling": {"max_tokens": 100}, "prompt": "steps"})
    ['--sampling.max_tokens=100', '--prompt=steps']
    """
    words = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            words += setting_words(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            words.append(f"--{prefix}{key}={text}")
    return words
