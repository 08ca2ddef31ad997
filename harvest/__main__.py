"""The command line: parses it, calls one function a command, turns errors into exit codes.

Each command is imported only when it is called, so that the others and `-h` do not wait for it.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from harvest.commands.arguments import parser
from harvest.core.errors import WinnowError
from harvest.core.overrides import take_overrides

if TYPE_CHECKING:
    from harvest.core.config import RunConfig

INTERRUPTED = 130
DEFAULT_RECIPE = "demo"
TOP_LEVEL = ("name", "questions", "prompt", "teacher", "sampling", "budget", "checks")
EXPORT_SETTINGS = ("layout", "format", "which", "reasoning", "reasoning_field", "marks", "columns", "shard_mb")
Overrides = list[tuple[str, str]]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. The exit code. An error of the user's is a line on stderr, or one for each fault."""
    os.umask(0o077)
    given = sys.argv[1:] if argv is None else list(argv)
    words, overrides = (given, []) if given[:1] == ["import"] else take_overrides(given, TOP_LEVEL)
    args = parser().parse_args(words)
    if overrides and not args.overrides:
        section, _, setting = overrides[0][0].partition(".")
        flag = f"; did you mean --{setting.replace('_', '-')}?" if setting and section == words[0] else ""
        args.command_parser.error(f"unknown argument --{overrides[0][0]}{flag}")
    try:
        return COMMANDS[args.command](args, overrides)
    except WinnowError as e:
        for line in str(e).splitlines():
            print(f"error: {line}" if not line.startswith(("  ", "…")) else line, file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has closed it; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _collect(args: argparse.Namespace, overrides: Overrides) -> int:
    from harvest.commands.collect import collect, student_settings

    if args.student is not None:
        overrides = [*overrides, *student_settings(args.student)]
    config, base = _settings(args, overrides)
    return collect(config, base, skip_bad_rows=args.skip_bad_rows, as_json=args.json)


def _doctor(args: argparse.Namespace, overrides: Overrides) -> int:
    from harvest.commands.doctor import doctor

    config, base = _settings(args, overrides)
    return doctor(config, base, as_json=args.json)


def _report(args: argparse.Namespace, _: Overrides) -> int:
    from harvest.commands.report import report

    return report(*_run(args), as_json=args.json)


def _export(args: argparse.Namespace, _: Overrides) -> int:
    from harvest.commands.export import export

    given = {setting: value for setting in EXPORT_SETTINGS if (value := getattr(args, setting)) is not None}
    return export(*_run(args), to=args.to, given=given, as_json=args.json)


def _import(args: argparse.Namespace, _: Overrides) -> int:
    from harvest.commands.import_answers import import_answers, store_of

    return import_answers(
        args.files,
        args.name,
        store_of(args.name, args.store),
        questions=args.questions,
        skip_bad_rows=args.skip_bad_rows,
        majority=args.majority,
        require=None if args.require is None else [name.strip() for name in args.require.split(",")],
        unsafe_code=args.unsafe_code,
        as_json=args.json,
    )


def _verify(args: argparse.Namespace, _: Overrides) -> int:
    from harvest.commands.verify import verify

    return verify(*_run(args), again=args.again, unsafe_code=args.unsafe_code, as_json=args.json)


def _select(args: argparse.Namespace, overrides: Overrides) -> int:
    from harvest.commands.select_traces import select_traces

    return select_traces(*_run(args), overrides, preset=args.preset, dry_run=args.dry_run, as_json=args.json)


def _sandbox(args: argparse.Namespace, _: Overrides) -> int:
    from harvest.commands.sandbox import sandbox

    return sandbox(cold=args.cold, limit_s=args.limit, as_json=args.json)


def _why(args: argparse.Namespace, _: Overrides) -> int:
    from harvest.commands.why import why

    return why(*_run(args), args.question_id, full=args.full, as_json=args.json)


COMMANDS: dict[str, Callable[[argparse.Namespace, Overrides], int]] = {
    "collect": _collect, "doctor": _doctor, "report": _report, "export": _export, "import": _import,
    "verify": _verify, "select": _select, "sandbox": _sandbox, "why": _why,
}  # fmt: skip


def _settings(args: argparse.Namespace, overrides: Overrides) -> "tuple[RunConfig, Path]":
    """The run's settings, and the folder that its paths are relative to."""
    from harvest.core.config import load
    from harvest.core.files import package_folder

    path = Path(args.config) if args.config else package_folder("recipes") / f"{DEFAULT_RECIPE}.toml"
    return load(path, [*overrides, ("store", args.store)] if args.store else overrides), path.parent


def _run(args: argparse.Namespace) -> tuple[str, str]:
    """(name, store URL) of the run that the command line names."""
    from harvest.commands.run_folder import find_run

    return find_run(args.name, args.store)


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main())
