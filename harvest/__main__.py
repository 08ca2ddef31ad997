"""The command line: parses it, calls one function a command, turns errors into exit codes.

Each command is imported only when it is called, so that the others and `-h` do not wait for it.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harvest.commands.arguments import parser
from harvest.core.errors import InputError, WinnowError
from harvest.core.machine import missing_package, refused_by_the_system, unfit
from harvest.core.overrides import take_overrides
from harvest.core.signals import interrupt_on_signals

if TYPE_CHECKING:
    from harvest.core.config import RunConfig

INTERRUPTED = 130
TOP_LEVEL = ("name", "questions", "prompt", "teacher", "sampling", "budget", "checks")
Overrides = list[tuple[str, str]]


def main(argv: Sequence[str] | None = None, prog: str = "python -m harvest") -> int:
    """Runs one command and returns its exit code. For an error of the user's, stderr gets one line for each fault.

    `prog` is how the help calls this program.
    """
    if fault := unfit():
        print(f"error: {fault}", file=sys.stderr)
        return InputError.exit_code
    os.umask(0o077)
    given = sys.argv[1:] if argv is None else list(argv)
    words, overrides = (given, []) if given[:1] == ["import"] else take_overrides(given, TOP_LEVEL)
    args = parser(prog).parse_args(words)
    if overrides and not args.overrides:
        section, _, setting = overrides[0][0].partition(".")
        flag = f"; did you mean --{setting.replace('_', '-')}?" if setting and section == words[0] else ""
        args.command_parser.error(f"unknown argument --{overrides[0][0]}{flag}")
    try:
        return _called(args, overrides)
    except WinnowError as e:
        for line in str(e).splitlines():
            print(f"error: {line}" if not line.startswith(("  ", "…")) else line, file=sys.stderr)
        return e.exit_code
    except ModuleNotFoundError as e:
        if (fault := missing_package(e)) is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has closed it; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        if (fault := refused_by_the_system(e)) is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        return InputError.exit_code


def _called(args: argparse.Namespace, overrides: Overrides) -> int:
    """Calls the command that the words name, and returns its exit code."""
    as_json: bool = args.json
    match args.command:
        case "collect":
            from harvest.commands.collect import collect, student_settings

            if args.student is not None:
                overrides = [*overrides, *student_settings(args.student)]
            settings, base = _settings(args, overrides)
            if args.dry_run:
                from harvest.commands.dry_run import dry_run

                return dry_run(settings, base, skip_bad_rows=args.skip_bad_rows, as_json=as_json)
            return collect(settings, base, skip_bad_rows=args.skip_bad_rows, as_json=as_json, file=args.config)
        case "estimate":
            from harvest.commands.estimate import estimate

            settings, base = _settings(args, overrides)
            return estimate(
                settings, base, pilot=args.pilot, recipe=args.recipe, skip_bad_rows=args.skip_bad_rows, as_json=as_json
            )
        case "doctor":
            from harvest.commands.doctor import doctor

            return doctor(*_settings(args, overrides), as_json=as_json)
        case "import":
            from harvest.commands.import_answers import import_answers, store_of

            if args.public is not None:
                from harvest.commands.import_public import import_public

                return import_public(
                    args.public, args.files, args.name, store_of(args.name, args.store), questions=args.questions,
                    licences=args.licence, teachers=args.teacher, majority=args.majority,
                    require=None if args.require is None else [name.strip() for name in args.require.split(",")],
                    unsafe_code=args.unsafe_code, as_json=as_json,
                )  # fmt: skip
            if args.licence or args.teacher:
                args.command_parser.error("--licence and --teacher are for --public")
            if not args.files:
                args.command_parser.error("needs a FILE, or --public and a set's name")
            return import_answers(
                args.files,
                args.name,
                store_of(args.name, args.store),
                questions=args.questions,
                skip_bad_rows=args.skip_bad_rows,
                majority=args.majority,
                require=None if args.require is None else [name.strip() for name in args.require.split(",")],
                unsafe_code=args.unsafe_code,
                as_json=as_json,
            )
        case "copy":
            from harvest.commands.copy_runs import copy_runs

            return copy_runs(args.source, args.target, args.run or (), as_json=as_json)
        case "sandbox":
            from harvest.commands.sandbox import sandbox

            return sandbox(cold=args.cold, limit_s=args.limit, as_json=as_json)
        case "shards":
            from harvest.commands.shards import shards

            return shards(
                args.export, args.to, overrides, preset=args.preset, questions=args.questions, judges=args.judge,
                unsafe_code=args.unsafe_code, workers=args.workers, slurm=args.slurm, ray=args.ray,
                memory_gb=args.memory_gb, python=args.activate, as_json=as_json,
            )  # fmt: skip
        case "view":
            from harvest.commands.view import view

            return view(args.runs, args.store, port=args.port, to=args.to, cases=args.export_cases, as_json=as_json)
    return _called_of_a_run(args, overrides)


def _called_of_a_run(args: argparse.Namespace, overrides: Overrides) -> int:
    """Calls a command about a run that is there, and returns its exit code."""
    from harvest.commands.run_folder import find_run

    name, url = find_run(args.name, args.store)
    as_json: bool = args.json
    match args.command:
        case "report":
            from harvest.commands.report import compare, report

            if args.others:
                others = [find_run(other, args.store) for other in args.others]
                return compare([(name, url), *others], to=args.to, as_json=as_json)
            if args.to is not None:
                args.command_parser.error("--to is for several runs: one run's page is in its folder")
            return report(name, url, as_json=as_json)
        case "export":
            from harvest.commands.export import export
            from harvest.core.config import Export

            given = {key: value for key in Export.model_fields if (value := getattr(args, key)) is not None}
            return export(name, url, to=args.to, given=given, as_json=as_json)
        case "verify":
            from harvest.commands.verify import verify

            return verify(name, url, again=args.again, unsafe_code=args.unsafe_code, as_json=as_json)
        case "select":
            from harvest.commands.select_traces import select_traces

            return select_traces(name, url, overrides, preset=args.preset, dry_run=args.dry_run, as_json=as_json)
        case "settle":
            from harvest.commands.settle import settle

            return settle(name, url, ask=args.ask, amount=args.amount, tries=args.tries, as_json=as_json)
        case "why":
            from harvest.commands.why import why, why_list

            if args.question_id is None:
                return why_list(name, url, reason=args.reason, most=args.most, as_json=as_json)
            return why(name, url, args.question_id, full=args.full, as_json=as_json)
    raise AssertionError(args.command)


def _settings(args: argparse.Namespace, overrides: Overrides) -> "tuple[RunConfig, Path]":
    """The run's settings, and the folder that its paths are relative to."""
    from harvest.core.config import load
    from harvest.core.files import settings_path
    from harvest.core.settings import folder_of

    path = settings_path(args.config) if args.config else _demo(args.command)
    return load(path, [*overrides, ("store", args.store)] if args.store else overrides), folder_of(path)


def _demo(command: str) -> Path:
    """Returns the recipe of the demo, which a command takes that names no RUN.toml. Says so on stderr."""
    from harvest.core.files import package_folder

    path, own = package_folder("recipes") / "demo.toml", Path("run.toml")
    remedy = "there is a run.toml here: " if own.is_file() else "for a run of your own: "
    print(
        f"no RUN.toml is named, so this is the demo, {path}, with an embedded teacher (1.1 GB, downloaded once) at no"
        f" cost; {remedy}`{command} {own}`",
        file=sys.stderr,
    )
    return path


if __name__ == "__main__":
    interrupt_on_signals()
    sys.exit(main())
