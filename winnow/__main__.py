"""The command `winnow`: finds the package that has the command, and calls its command line.

`winnow COMMAND …` is the same as `python -m harvest COMMAND …` or `python -m finetune COMMAND …`. Each package is
imported only when one of its commands is called.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harvest.core.errors import InputError, WinnowError
from harvest.core.machine import release, unfit
from harvest.core.signals import interrupt_on_signals
from winnow.command_list import help_text, routed

USAGE = "usage: winnow COMMAND … (`winnow --help` lists the commands, `winnow COMMAND -h` explains one)"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    if fault := unfit():
        return _say_error(fault)
    try:
        return _called(words)
    except BrokenPipeError:
        # Whoever read our output has closed it; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _called(words: list[str]) -> int:
    match words:
        case ["-h" | "--help", *_]:
            print(help_text(), flush=True)
            return 0
        case ["-V" | "--version", *_]:
            print(f"winnow {release()}")
            return 0
        case ["context", *_]:
            print((Path(__file__).parent / "context.md").read_text("utf-8"), end="", flush=True)
            return 0
        case ["completion", *rest]:
            from winnow.completion import completion

            return completion(rest)
        case []:
            print(USAGE, file=sys.stderr)
            return InputError.exit_code
    try:
        package, words = routed(words)
    except WinnowError as e:
        return _say_error(str(e))
    interrupt_on_signals()
    if package == "harvest":
        from harvest.__main__ import main as harvest

        return harvest(words, "winnow")
    from finetune.__main__ import main as finetune

    return finetune(words, "winnow")


def _say_error(fault: str) -> int:
    print(f"error: {fault}", file=sys.stderr)
    return InputError.exit_code


if __name__ == "__main__":
    sys.exit(main())
