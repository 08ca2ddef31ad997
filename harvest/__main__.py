"""The command line: parse, call, turn errors into exit codes. Heavy imports stand inside the commands."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harvest.core.errors import ConfigError, InputError, WinnowError
from harvest.core.overrides import take_overrides

if TYPE_CHECKING:
    from harvest.core.config import RunConfig
    from harvest.store.store import Store

INTERRUPTED = 130
DEFAULT_RECIPE = "demo"
UNSAFE = "run programs of answers without isolation, as you; each verdict says so"
TOP_LEVEL = ("name", "questions", "prompt", "teacher", "sampling", "budget", "checks")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. Errors of the user's are one line (or one a fault) on stderr."""
    os.umask(0o077)
    given = sys.argv[1:] if argv is None else list(argv)
    words, overrides = (given, []) if given[:1] == ["import"] else take_overrides(given, TOP_LEVEL)
    args = _parser().parse_args(words)
    if overrides and not args.overrides:
        section, _, setting = overrides[0][0].partition(".")
        flag = f"; did you mean --{setting.replace('_', '-')}?" if setting and section == words[0] else ""
        args.command_parser.error(f"unknown argument --{overrides[0][0]}{flag}")
    try:
        return int(args.run(args, overrides))
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


class _Parser(argparse.ArgumentParser):
    """A mistake is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (`{self.prog} -h` lists what there is)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m harvest",
        description="Ask a reasoning teacher questions, keep the chains of thought that check out, count the money.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., int], text: str, *, overrides: bool = False) -> argparse.ArgumentParser:
        p = commands.add_parser(
            name,
            help=text,
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        p.set_defaults(run=run, overrides=overrides, command_parser=p)
        p.add_argument("--store", metavar="URL", help="sqlite:///path (relative) or sqlite:////path (absolute)")
        return p

    p = command(
        "collect", _collect, "the main job: ask, check, store, report, export; started again it goes on", overrides=True
    )
    p.add_argument("config", nargs="?", metavar="RUN.toml", help="without it: the demo recipe on the embedded teacher")
    p.add_argument(
        "--student", metavar="URL",
        help="asked first, and the teachers only what it cannot do: its endpoint (with --student.model NAME), or the"
        " name of an embedded model; docs/asking.md",
    )  # fmt: skip
    p.add_argument("--skip-bad-rows", action="store_true", help="count and skip questions that cannot be asked")
    p.add_argument("--json", action="store_true", help="print the report as JSON")
    p.epilog = "Any setting of RUN.toml: --section.key value, e.g. --budget.usd 5. All of them: docs/configuration.md"

    p = command(
        "doctor", _doctor, "one small request: what does the endpoint send, announce, refuse and cost", overrides=True
    )
    p.add_argument("config", nargs="?", metavar="RUN.toml", help="without it: the demo recipe's embedded teacher")
    p.add_argument("--json", action="store_true", help="print the findings as JSON")

    p = command("report", _report, "rebuild report.json and report.md of a run from the store alone")
    p.add_argument("name", metavar="RUN", help="a run's name or its folder")
    p.add_argument("--json", action="store_true", help="print the report as JSON")

    p = command("export", _export, "the traces as a dataset that datasets.load_dataset and TRL take as they are")
    p.add_argument("name", metavar="RUN", help="a run's name or its folder")
    p.add_argument("--to", metavar="DIR", type=Path, help="default: dataset/ in the run's folder")
    p.add_argument("--format", choices=("jsonl", "parquet"))
    p.add_argument(
        "--which", choices=("selected", "accepted", "all"),
        help="all has every answer, with `accepted` and `reason`: train on both to see what the checks are worth",
    )  # fmt: skip
    p.add_argument(
        "--layout", choices=("messages", "trl", "prompt-completion", "axolotl", "sharegpt", "llama-factory"),
        help="who trains on it; an example of each: docs/export.md",
    )  # fmt: skip
    p.add_argument("--reasoning", choices=("inline", "apart", "none"), help="the chain: in the content, beside it, out")
    p.add_argument("--reasoning-field", choices=("reasoning_content", "thinking", "reasoning"), help="with apart")
    p.add_argument("--marks", choices=("think", "sky-t1"), help="around a chain in the content")
    p.add_argument("--columns", choices=("all", "training"), help="all that is known of a row, or its training part")
    p.add_argument("--shard-mb", type=int, metavar="MB", help="of one file, about: what is more becomes several")
    p.epilog = "What no flag says, the run's [export] does: docs/configuration.md"
    p.add_argument("--json", action="store_true", help="print what was written as JSON")

    p = command("import", _import, "answers paid for elsewhere become attempts of a run and are judged; again to go on")
    p.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="JSON lines, a JSON array or Parquet; plain, .gz or .zst",
    )  # fmt: skip
    p.add_argument("--name", required=True, metavar="RUN", help="the run that they become")
    p.add_argument(
        "--questions", type=Path, metavar="F",
        help="questions and gold answers, for lines that hold none: found by custom_id, id, metadata, or the text",
    )  # fmt: skip
    p.add_argument(
        "--majority", metavar="SHARE",
        help="a question without a gold answer is judged by what more than SHARE of its answers agree on, e.g. 0.5",
    )  # fmt: skip
    p.add_argument(
        "--require", metavar="NAMES",
        help="verdicts that an answer needs: `correct`, and filters by name, e.g. correct,format,language",
    )  # fmt: skip
    p.add_argument("--skip-bad-rows", action="store_true", help="count and skip lines that cannot be read")
    p.add_argument("--unsafe-code", action="store_true", help=UNSAFE)
    p.add_argument("--json", action="store_true", help="print what was imported, and the report, as JSON")
    p.epilog = (
        "Recognised by what a line holds: a question's fields and `response` (a text or a whole chat completion);"
        " OpenAI's\nbatch output and stored completions; logs of LiteLLM and OpenRouter; datasets in ShareGPT's form,"
        " Sky-T1's,\nor with `messages`. An example of each: docs/import.md"
    )

    p = command("verify", _verify, "judge stored answers again with today's checks; the teacher is asked nothing")
    p.add_argument("name", metavar="RUN", help="a run's name or its folder")
    p.add_argument("--again", action="store_true", help="also answers that today's checks have judged already")
    p.add_argument("--unsafe-code", action="store_true", help=UNSAFE)
    p.add_argument("--json", action="store_true", help="print what changed as JSON")

    p = command(
        "select", _select, "which accepted traces are trained on: filters, duplicates, evaluations, difficulty, number",
        overrides=True,
    )  # fmt: skip
    p.add_argument("name", metavar="RUN", help="a run's name or its folder")
    p.add_argument("--preset", metavar="NAME", help="sky-t1, s1, openthoughts, or a path to a TOML of your own")
    p.add_argument("--dry-run", action="store_true", help="say what would be selected and change nothing")
    p.add_argument("--json", action="store_true", help="print what was selected as JSON")
    p.epilog = "Any setting of [select] and [filters]: --select.traces 1000. The run keeps them. All: docs/selection.md"

    p = command("sandbox", _sandbox, "run the corpus of attacks against this machine's sandbox; 1 if any gets through")
    p.add_argument("--cold", action="store_true", help="a jail for each program, in place of one that forks")
    p.add_argument("--limit", type=float, default=1.0, metavar="S", help="seconds that each program may take")
    p.add_argument("--json", action="store_true", help="print the results as JSON")

    p = command("why", _why, "what became of one question, attempt by attempt")
    p.add_argument("name", metavar="RUN", help="a run's name or its folder")
    p.add_argument("question_id", metavar="QUESTION_ID")
    p.add_argument("--full", action="store_true", help="chains and answers to their last character")
    p.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


def _settings(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> tuple["RunConfig", Path]:
    from harvest.core.config import load, package_folder

    path = Path(args.config) if args.config else package_folder("recipes") / f"{DEFAULT_RECIPE}.toml"
    return load(path, [*overrides, ("store", args.store)] if args.store else overrides), path.parent


def _collect(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> int:
    if args.student is not None:
        overrides = [*overrides, *_student(args.student)]
    config, base = _settings(args, overrides)

    from harvest.commands.session import collect

    return collect(config, base, skip_bad_rows=args.skip_bad_rows, as_json=args.json)


def _student(given: str) -> list[tuple[str, str]]:
    """`--student` as the setting that it means. Raises ConfigError for a folder, which must be served first."""
    if given.startswith(("http://", "https://")):
        return [("student.base_url", given)]
    if Path(given).is_dir():
        raise ConfigError(
            f"--student {given}: a student is asked over HTTP. Serve the folder (`python -m finetune merge {given}`"
            " prints the lines), then --student http://127.0.0.1:8000/v1 --student.model NAME"
        )
    return [("student.local", given)]


def _doctor(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> int:
    config, base = _settings(args, overrides)

    from harvest.commands.doctor import doctor
    from harvest.core.errors import RunRefused, TeacherRefused

    examined = doctor(config, base)
    said = [
        {
            "answers": e.failure is None,
            "failure": e.failure and {"class": e.failure.kind, "message": str(e.failure)},
            **asdict(e.found),
        }
        for e in examined
    ]
    if args.json:
        several = {"asked": [{"name": e.name, **s} for e, s in zip(examined, said, strict=True)]}
        answers = {"answers": all(e.failure is None for e in examined)}
        print(json.dumps(said[0] if len(said) == 1 else answers | several, ensure_ascii=False))
    else:
        for e in examined:
            if len(examined) > 1:
                print(f"# {e.name}")
            for f in e.found.findings:
                print(f"{ {True: 'ok', False: '!!', None: '--'}[f.good] }  {f.name}: {f.words}")
            if e.found.toml:
                print("\nLines for RUN.toml:", *(f"  {t}" for t in e.found.toml), sep="\n")
    for e in sorted(examined, key=lambda e: not isinstance(e.failure, RunRefused)):
        if isinstance(e.failure, RunRefused):
            raise TeacherRefused(f"{e.name} refuses for good: {e.failure}")
        if e.failure is not None:
            of = f" from {e.name}" if len(examined) > 1 else ""
            raise InputError(f"no answer{of} ({e.failure.kind}): {e.failure}")
    return 0


def _report(args: argparse.Namespace, _: list[tuple[str, str]]) -> int:
    from harvest.commands.session import write_report
    from harvest.report.figures import markdown

    name, url = _known_run(args)
    report = write_report(name, url)
    print(json.dumps(report, ensure_ascii=False) if args.json else markdown(report), end="\n" if args.json else "")
    return 0


def _export(args: argparse.Namespace, _: list[tuple[str, str]]) -> int:
    from harvest.commands.session import write_export

    name, url = _known_run(args)
    named = ("layout", "format", "which", "reasoning", "reasoning_field", "marks", "columns", "shard_mb")
    given = {setting: value for setting in named if (value := getattr(args, setting)) is not None}
    to, n, settings = write_export(name, url, to=args.to, given=given)
    said = {"run": name, "to": str(to), "rows": n, **settings.model_dump()}
    print(json.dumps(said) if args.json else f"{n} rows in {to}")
    return 0


def _import(args: argparse.Namespace, _: list[tuple[str, str]]) -> int:
    from harvest.commands.session import import_answers
    from harvest.core.config import DEFAULT_STORE, runs_folder
    from harvest.report.figures import markdown

    url = args.store
    if url is None and (runs_folder() / args.name / "config.json").is_file():
        url = _known_run(args)[1]
    said = import_answers(
        args.files,
        args.name,
        url or DEFAULT_STORE,
        questions=args.questions,
        skip_bad_rows=args.skip_bad_rows,
        majority=args.majority,
        require=None if args.require is None else [name.strip() for name in args.require.split(",")],
        unsafe_code=args.unsafe_code,
    )
    if args.json:
        print(json.dumps(said, ensure_ascii=False))
        return 0
    lines = said["lines"]
    words = {
        "new": "new answers", "there": "imported before", "without_answer": "of requests that brought no answer",
        "bad": "bad", "torn": "torn off at the end",
    }  # fmt: skip
    print(markdown(said["report"]))
    print(
        f"{lines['lines']:,} lines:", ", ".join(f"{lines[k]:,} {w}" for k, w in words.items() if lines[k] or k == "new")
    )
    return 0


def _verify(args: argparse.Namespace, _: list[tuple[str, str]]) -> int:
    from harvest.commands.session import verify
    from harvest.judging.stored import in_words

    name, url = _known_run(args)
    said = verify(name, url, again=args.again, unsafe_code=args.unsafe_code)
    print(json.dumps(said, ensure_ascii=False) if args.json else "\n".join(in_words(said)))
    return 0


def _select(args: argparse.Namespace, overrides: list[tuple[str, str]]) -> int:
    from harvest.commands.session import select
    from harvest.selection.summary import in_words

    name, url = _known_run(args)
    said, new = select(name, url, overrides, preset=args.preset, dry_run=args.dry_run)
    whole = {"run": name, "dry_run": args.dry_run, **said, "new": new}
    print(json.dumps(whole, ensure_ascii=False) if args.json else "\n".join(in_words(said)))
    if not args.json and not new:
        print("Nothing has changed since the newest selection.", file=sys.stderr)
    return 0


def _sandbox(args: argparse.Namespace, _: list[tuple[str, str]]) -> int:
    from harvest.commands.attacks import corpus, run_all
    from harvest.sandbox import isolation

    where = str(isolation())
    attacks, results = corpus(), []
    print(where, file=sys.stderr)
    for result in run_all(attacks, "cold" if args.cold else "warm", args.limit):
        results.append(result)
        if not args.json:
            held = f"THROUGH: {result.why}" if result.why else "held"
            print(f"{result.kind:10} {result.seconds:5.2f} s  {held:6} {result.name} ({result.saw})", flush=True)
    through = sum(bool(r.why) for r in results)
    if args.json:
        rows = [asdict(r) | {"held": not r.why} for r in results]
        said = {"isolation": where, "attacks": len(results), "through": through, "results": rows}
        print(json.dumps(said, ensure_ascii=False))
    else:
        print(f"{len(results) - through} of {len(results)} attacks held")
    return 1 if through else 0


def _why(args: argparse.Namespace, _: list[tuple[str, str]]) -> int:
    from harvest.report.question_story import story_json, tell

    name, url = _known_run(args)
    with _reading(url) as store:
        run_id = store.run_id(name)
        story = store.story(run_id, args.question_id)
        if story is None:
            some = ", ".join(store.some_question_names(run_id, 5))
            raise InputError(f"run {name!r} has no question {args.question_id!r}; it has {some}, …")
    if args.json:
        print(json.dumps(story_json(story), ensure_ascii=False))
    else:
        tell(story, full=args.full)
    return 0


def _reading(url: str) -> "Store":
    from harvest.store.store import Store

    return Store.open(url, write=False)


def _known_run(args: argparse.Namespace) -> tuple[str, str]:
    """(name, store URL) of RUN, a name or a folder; --store first, then its config.json, then the default."""
    from harvest.core.config import DEFAULT_STORE, runs_folder

    given = Path(args.name)
    folder = given if (given / "config.json").is_file() else runs_folder() / args.name
    name, url = folder.name, args.store
    try:
        settings: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
        name, url = settings["name"], url or settings["store"]
    except OSError:
        if "/" in args.name:
            raise ConfigError(f"{args.name}: no run's folder (there is no config.json in it)") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{folder / 'config.json'}: not what winnow wrote; name the store with --store") from None
    return name, url or DEFAULT_STORE


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main())
