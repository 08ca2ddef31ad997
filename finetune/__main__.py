"""Runs the command line of finetune: reads the words, calls one command, and turns errors into exit codes.

A command's file is imported only when that command is called, so `-h` and the other commands need not wait for it.
"""

import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from finetune.commands.arguments import parser
from harvest.core.errors import InputError, MissingExtra, OutOfMemory, WinnowError
from harvest.core.machine import missing_package, refused_by_the_system, unfit
from harvest.core.overrides import take_overrides
from harvest.core.signals import interrupt_on_signals

INTERRUPTED = 130
TOP_LEVEL = ("student", "data", "output", "method", "at_cap")
"""The settings of a recipe, and of a job, that stand in no section."""
TRAIN_EXTRA = {"torch", "transformers", "trl", "peft", "accelerate", "gguf"}
"""The modules that `pip install winnow-distill[train]` installs."""


def main(argv: Sequence[str] | None = None, prog: str = "python -m finetune") -> int:
    """Runs one command and returns its exit code.

    For a mistake of the user it prints one line for each fault on stderr. `prog` is how the help calls this program.
    """
    if fault := unfit():
        return _say_error(InputError(fault))
    words, overrides = take_overrides(sys.argv[1:] if argv is None else argv, TOP_LEVEL)
    args = parser(prog).parse_args(words)
    if overrides and not args.overrides:
        args.command_parser.error(f"unknown argument --{overrides[0][0]}")
    interrupt_on_signals()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries say to each other is not for the user
    try:
        command = importlib.import_module(f"finetune.commands.{args.command.replace('-', '_')}")
        return int(command.run(args, overrides))
    except WinnowError as e:
        return _say_error(e)
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] in TRAIN_EXTRA:
            return _say_error(MissingExtra(f"finetune {args.command}", "train"))
        if (fault := missing_package(e)) is None:
            raise
        return _say_error(InputError(fault))
    except BrokenPipeError:
        # Whoever read our output has closed it; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        if fault := refused_by_the_system(e):
            return _say_error(InputError(fault))
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _say_error(InputError(f"{e.filename or 'the disk'}: no space left: free some; the same command goes on"))
    except KeyboardInterrupt as e:
        if _speaks():
            print(f"stopped; {e.args[0] if e.args else 'the same command goes on from here'}", file=sys.stderr)
        return INTERRUPTED


def _speaks() -> bool:
    """Whether this process prints messages. Of the processes that a launcher starts, the first on each machine does."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _say_error(e: WinnowError) -> int:
    # Memory may run out in one process alone: the others see only that it is gone.
    for line in str(e).splitlines() if _speaks() or isinstance(e, OutOfMemory) else ():
        print(line if line.startswith("  ") else f"error: {line}", file=sys.stderr)
    return e.exit_code


if __name__ == "__main__":
    sys.exit(main())
