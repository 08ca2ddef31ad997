"""The command line: parse, call, turn errors into exit codes. Heavy imports stand inside the commands."""

import argparse
import errno
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from harvest.core.errors import InputError, MissingExtra, QuestionError, StoreUnusable, WinnowError
from harvest.core.overrides import take_overrides

if TYPE_CHECKING:
    from finetune.cost.estimate import Measured
    from finetune.measure.evaluate import Engine
    from finetune.measure.sampling import Sampling
    from finetune.recipe import Recipe
    from finetune.run import Run
    from finetune.student import Student
    from harvest.core.nouns import Question
    from harvest.endpoint.prompt import Prompt

INTERRUPTED = 130
TOP_LEVEL = ("student", "data", "output", "method")
TRAIN_EXTRA = {"torch", "transformers", "trl", "peft", "accelerate", "gguf"}
Overrides = list[tuple[str, str]]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code. Errors of the user's are one line (or one a fault) on stderr."""
    words, overrides = take_overrides(sys.argv[1:] if argv is None else argv, TOP_LEVEL)
    args = _parser().parse_args(words)
    if overrides and not args.overrides:
        args.command_parser.error(f"unknown argument --{overrides[0][0]}")
    signal.signal(signal.SIGTERM, _terminated)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # what libraries say to each other is not for the user
    try:
        return int(args.run(args, overrides))
    except WinnowError as e:
        return _tell(e)
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in TRAIN_EXTRA:
            raise
        return _tell(MissingExtra(f"finetune {args.command}", "train"))
    except BrokenPipeError:
        # Whoever read our output has closed it; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _tell(InputError(f"{e.filename or 'the disk'}: no space left: free some; the same command goes on"))
    except KeyboardInterrupt:
        if _speaks():
            print("stopped; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED


def _speaks() -> bool:
    """Whether this process talks to the user: of those that a launcher started together the first of each machine."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _tell(e: WinnowError) -> int:
    for line in str(e).splitlines() if _speaks() else ():
        print(line if line.startswith("  ") else f"error: {line}", file=sys.stderr)
    return e.exit_code


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    """A mistake is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} ({self.prog} -h lists what there is)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m finetune",
        description="Train a small student on checked traces, look at a row, measure it.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[..., int], text: str, *, recipe: bool | None = None
    ) -> argparse.ArgumentParser:
        """`recipe`: takes one, and settings over it; False: takes settings alone; None: neither."""
        p = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        p.set_defaults(run=run, command=name, overrides=recipe is not None, command_parser=p)
        p.add_argument("--json", action="store_true", help="print one JSON object")
        if recipe:
            p.add_argument("recipe", nargs="?", metavar="RECIPE.toml", help="without it: the demo's recipe")
        if recipe is not None:
            p.epilog = "Any setting of RECIPE.toml: --section.key value, e.g. --train.learning_rate 2e-4"
        return p

    p = command("sft", _sft, "train the student on an export or a run; started again it goes on", recipe=True)
    p.add_argument("--dry-run", action="store_true", help="check every row and setting, then stop")
    _add_eval_files(p)
    p.add_argument(
        "--run",
        dest="run_name",
        metavar="RUN",
        help="whose report gets the training; without it: the run of `data`",
    )
    p.add_argument("--store", metavar="URL", help="the store of that run; without it: the one its config.json names")

    p = command(
        "check",
        _check,
        "any dataset, looked at as a student would read it; for training elsewhere too",
        recipe=False,
    )
    p.add_argument("data", metavar="DATA", help="a file, a folder, a run, or a hub's dataset")
    p.add_argument("student", metavar="STUDENT", help="a folder, an entry of the model table, a hub's name")
    _add_eval_files(p)

    p = command("show", _show, "one training row as the model sees it, trained tokens coloured", recipe=True)
    p.add_argument("--row", type=int, default=0, metavar="N", help="counted from 0")
    p.add_argument("--page", metavar="FILE", help="as an HTML page instead, of that row and those after it")
    p.add_argument("--rows", type=_count, default=20, metavar="N", help="how many rows the page has")

    p = command("curve", _curve, "the loss curve of a training, while it runs and after")
    p.add_argument("output", metavar="OUTPUT", help="the folder of a student in training or trained")

    p = command("merge", _merge, "the adapter into its model, and the lines that serve it")
    p.add_argument("output", metavar="OUTPUT", help="the folder of a trained student")
    p.add_argument("--to", metavar="DIR", help="without it: OUTPUT-merged")

    p = command("estimate", _estimate, "GPU-hours, memory and money before training", recipe=True)
    p.add_argument("--params-b", type=_positive, metavar="B", help="in place of the student: its weights, in billions")
    p.add_argument("--rows", type=_count, metavar="N", help="in place of the data: its rows,")
    p.add_argument("--calibrate", action="store_true", help="by twenty real steps on this machine; nothing is kept")
    p.add_argument("--mean-tokens", type=_positive, metavar="T", help="and how many tokens one has on average")
    p.add_argument(
        "--eval-questions", type=_count, default=500, metavar="N", help="that will be asked before and after"
    )
    p.add_argument("--eval-samples", type=_count, default=1, metavar="N", help="answers to each of them")
    p.add_argument("--eval-tokens", type=_positive, metavar="T", help="tokens an answer; without it: as a row has")

    p = command("eval", _eval, "held-out accuracy with its interval, tokens an answer, unfinished answers")
    _add_eval(p)
    return parser


def _add_eval(p: argparse.ArgumentParser) -> None:
    from finetune.measure.sampling import PRESETS

    p.add_argument(
        "student", nargs="?", metavar="STUDENT",
        help="a trained folder, an entry of the model table, a hub's name, an endpoint's URL, or the word teacher:"
        " the teacher of --run, asked as it is there",
    )  # fmt: skip
    p.add_argument("--questions", metavar="F", help='a file, or e.g. "reasoning-gym:chain_sum?n=100&seed=9"')
    p.add_argument("--prompt", metavar="NAME", help="without it: the run's, else boxed")
    p.add_argument("--limit", type=_count, metavar="N", help="the first N questions alone")
    p.add_argument(
        "--label", choices=("before", "after", "teacher"),
        help="without it: after for what finetune trained, before for what it began with, else neither",
    )  # fmt: skip
    p.add_argument("--run", dest="run_name", metavar="RUN", help="whose report gets it; else the run it was trained on")
    p.add_argument("--store", metavar="URL", help="the store of that run; without it: the one its config.json names")
    p.add_argument("--details", type=Path, metavar="FILE", help="every answer with its text, as JSON lines")
    p.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"),
        help="asks nothing: B's answers against A's, two files of --details, paired by question",
    )  # fmt: skip
    s = p.add_argument_group("how answers are drawn")
    s.add_argument("--samples", type=_count, metavar="N", help="answers for each question (1)")
    s.add_argument("--max-tokens", type=_count, metavar="N", help="most tokens of an answer (1024)")
    s.add_argument("--temperature", type=_temperature, metavar="T", help="0 is greedy (0)")
    s.add_argument("--top-p", type=_share, metavar="P")
    s.add_argument("--top-k", type=_count, metavar="K")
    s.add_argument("--min-p", type=_share, metavar="P")
    s.add_argument("--seed", type=_seed, metavar="N", help="(0)")
    presets = "; ".join(f"{name}: {_settings(preset.settings)} ({preset.source})" for name, preset in PRESETS.items())
    s.add_argument("--preset", choices=PRESETS, help=f"as others publish, where nothing else is given. {presets}")
    s.add_argument("--batch-size", type=_count, metavar="N", help="rows at once on this machine; else what fits")
    e = p.add_argument_group("for an endpoint (https://…/v1), which is asked through harvest's ledger")
    e.add_argument("--model", metavar="NAME", help="the model's name there")
    e.add_argument("--api-key-env", metavar="VAR", help="the environment variable that holds the key")
    e.add_argument("--usd", type=_usd, metavar="CAP", help="the most it may be billed")
    e.add_argument("--price", nargs=2, type=_usd, metavar=("IN", "OUT"), help="USD a million tokens, if not known")
    e.add_argument("--concurrency", type=_count, metavar="N", help="a ceiling for requests in flight (64)")
    e.add_argument("--timeout-s", type=_positive, metavar="S", help="for a whole answer (600)")
    e.add_argument("--extra", metavar="JSON", help="put into the request's body, e.g. for chat_template_kwargs")


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v:g}" for k, v in settings.items())


def _add_eval_files(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--eval", dest="evaluations", action="append", default=[], metavar="F",
        help="with the checks: questions that no row may ask; may be given again",
    )  # fmt: skip


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount") from None
    if not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount")
    return amount


def _number(text: str, kind: type[int] | type[float], holds: Callable[[float], bool], must: str) -> Any:
    try:
        x = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no {'whole number' if kind is int else 'number'}") from None
    if not holds(x):
        raise argparse.ArgumentTypeError(f"{text} is not {must}")
    return x


def _count(text: str) -> int:
    return int(_number(text, int, lambda n: n >= 1, "at least 1"))


def _seed(text: str) -> int:
    return int(_number(text, int, lambda n: 0 <= n < 2**31, "from 0 to 2147483647"))


def _positive(text: str) -> float:
    return float(_number(text, float, lambda x: 0 < x < 1e9, "above 0 and below 1e9"))


def _temperature(text: str) -> float:
    return float(_number(text, float, lambda t: 0 <= t <= 10, "between 0 and 10"))


def _share(text: str) -> float:
    return float(_number(text, float, lambda x: 0 < x <= 1, "above 0 and at most 1"))


def _recipe_path(args: argparse.Namespace) -> Path:
    from harvest.core.config import package_folder

    return Path(args.recipe) if args.recipe else package_folder("recipes") / "demo-student.toml"


def _sft(args: argparse.Namespace, overrides: Overrides) -> int:
    from finetune.progress import Progress
    from finetune.recipe import check_method, read_recipe
    from finetune.rows.dataset import examples, run_folder
    from finetune.student import find, load_tokenizer
    from finetune.train.launch import check_started, devices, joined
    from finetune.train.output import unrecorded
    from finetune.train.sft import quiet, sft

    recipe = read_recipe(_recipe_path(args), overrides, train=True)
    check_method(recipe)
    gpus = recipe.launch.gpus if "gpus" in recipe.launch.model_fields_set else None
    if not args.dry_run:
        check_started(recipe.launch.strategy, gpus, os.environ, devices(), str(_recipe_path(args)))
    quiet()
    run = None
    if (name := args.run_name or run_folder(recipe.data)) is not None:
        from finetune.run import find_run

        run = find_run(name, args.store)
    if args.dry_run:
        if run is not None:
            run.check()
        student = find(recipe.student)
        return _preflight(recipe, student, load_tokenizer(student), args, settings=True)
    with joined(os.environ) as world:
        progress = Progress("sft", mute=not world.is_first)
        block = None
        with world.together():
            student = find(recipe.student)
            if run is not None and world.is_first:
                run.check()
                block = unrecorded(recipe, student)
        if (block := world.hear(block)) is not None:
            progress.say(f"{recipe.output}: finished already, and not in the report yet")
            return _trained(recipe, block, run, args.json) if world.is_first else 0
        with world.together():
            tokenizer = load_tokenizer(student)
            rows = examples(recipe, tokenizer)
        for line in rows.notes:
            progress.say(f"warning: {line}")
        for line in rows.dropped[:20]:
            progress.say(f"left out: {line}")
        if len(rows.dropped) > 20:
            progress.say(f"left out: {len(rows.dropped) - 20} more")
        block = sft(recipe, rows, tokenizer, student, progress, world, run)
        return _trained(recipe, block, run, args.json) if world.is_first else 0


def _expected(recipe: "Recipe", lengths: list[int]) -> dict[str, Any] | None:
    """What it will take, None where the recipe names no GPU or nothing would be trained."""
    from finetune.cost.quote import Figures, quote

    return quote(recipe, Figures(), lengths).as_json() if recipe.launch.gpu and lengths else None


def _check(args: argparse.Namespace, overrides: Overrides) -> int:
    from finetune.recipe import recipe_of
    from finetune.student import find, load_tokenizer

    given = {"student": args.student, "data": args.data, "output": "unused"}
    recipe = recipe_of(given, "check", overrides)
    student = find(recipe.student)
    return _preflight(recipe, student, load_tokenizer(student), args, settings=False)


def _preflight(
    recipe: "Recipe", student: "Student", tokenizer: Any, args: argparse.Namespace, *, settings: bool
) -> int:
    """Says what was found, then stops with the rows that cannot be trained; `settings`: with what sft refuses too."""
    from finetune.rows.preflight import in_words, preflight
    from harvest.questions.sources import read_questions
    from harvest.selection.decontamination import Evaluation

    evaluations = [
        Evaluation(f, ((q.id, q.question, q.answer) for q in read_questions(f, Path()))) for f in args.evaluations
    ]
    found, findings, made = preflight(recipe, tokenizer, evaluations)
    found["estimate"] = _expected(recipe, [len(e) for e in made.examples])
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        from rich.console import Console

        Console().print(in_words(found, [len(e) for e in made.examples]), soft_wrap=True)
    findings.stop(recipe.data)
    made.refuse_none(recipe.data)
    if settings:
        from finetune.train.sft import check

        check(recipe, made, student)
    return 0


def _trained(recipe: "Recipe", block: dict[str, Any], run: "Run | None", as_json: bool) -> int:
    """Into the run's report, and said."""
    if run is not None:
        from finetune.train.loss_curve import read_curve
        from finetune.train.output import attach_run, training_key
        from harvest.commands.report import write_report

        output = Path(recipe.output)
        try:
            run.put_training(training_key(output), block, read_curve(output))
            write_report(run.name, run.url)
        except StoreUnusable as e:
            raise StoreUnusable(
                f"{e}\n  the training is finished and safe in {output}; the same command records it"
            ) from None
        attach_run(output, run.name, run.url)
    _write_card(Path(recipe.output))
    if as_json:
        print(json.dumps(block, ensure_ascii=False))
        return 0
    first, last = block["loss_first"], block["loss_last"]
    loss = "" if first is None else f", loss {first:.3f} to {last:.3f}"
    print(f"{recipe.output}: {block['rows']} rows, {block['tokens']:,} tokens in {block['wall_s']:.0f} s{loss}")
    return 0


def _estimate(args: argparse.Namespace, overrides: Overrides) -> int:
    from finetune.cost.estimate import Evaluating, gpu_named, in_words
    from finetune.cost.quote import GPU, Figures, quote
    from finetune.recipe import read_recipe, recipe_of

    figures = Figures(args.params_b and args.params_b * 1e9, args.rows, args.mean_tokens)
    if is_free := args.recipe is None and bool(figures.parameters and figures.rows):
        given = {"student": "unnamed", "data": "unnamed", "output": "unused", "launch": {"gpus": 8}}
        recipe = recipe_of(given, "estimate", overrides)
    else:
        recipe = read_recipe(_recipe_path(args), overrides)
    evaluating = Evaluating(args.eval_questions, args.eval_samples, args.eval_tokens or 0)
    choose = is_free and not any(key == "launch.strategy" for key, _ in overrides)
    lengths: list[int] | None
    measured: Measured | None
    if args.calibrate:
        if figures.parameters or args.rows or args.mean_tokens:
            raise InputError("--calibrate trains the recipe's student on its data: leave the figures out")
        gpu_named(recipe.launch.gpu or GPU)  # before the steps, not after them
        measured, lengths = _calibrated(recipe)
    else:
        measured, lengths = None, None if args.rows or args.mean_tokens else _lengths(recipe)
    found = quote(recipe, figures, lengths, evaluating, measured, choose=choose).as_json()
    print(json.dumps(found) if args.json else in_words(found))
    return 0


def _calibrated(recipe: "Recipe") -> "tuple[Measured, list[int]]":
    from finetune.progress import Progress
    from finetune.recipe import check_method
    from finetune.rows.dataset import examples
    from finetune.student import find, load_tokenizer
    from finetune.train.sft import calibrate, quiet

    check_method(recipe)
    quiet()
    student = find(recipe.student)
    tokenizer = load_tokenizer(student)
    rows = examples(recipe, tokenizer)
    return calibrate(recipe, rows, tokenizer, student, Progress("calibrate")), list(map(len, rows.examples))


def _lengths(recipe: "Recipe") -> list[int]:
    from finetune.rows.dataset import examples
    from finetune.student import find, load_tokenizer

    return [len(e) for e in examples(recipe, load_tokenizer(find(recipe.student))).examples]


def _write_card(folder: Path) -> None:
    """The model card of a student that finetune trained, anew; of any other nothing."""
    from finetune.measure.stored_answers import evaluations_of
    from finetune.run import note_of
    from finetune.train.card import report_of, write_card

    note = note_of(folder)
    if run := note.get("run"):
        write_card(folder, note, report_of(run["name"], run["store"]))
    else:
        write_card(folder, note, None, evaluations_of(folder))


def _curve(args: argparse.Namespace, _: Overrides) -> int:
    from finetune.train.loss_curve import curve_of, in_words

    points = curve_of(Path(args.output))
    print(json.dumps({"output": args.output, "points": points}) if args.json else in_words(points))
    return 0


def _merge(args: argparse.Namespace, _: Overrides) -> int:
    from finetune.train.merge import in_words, merge, serving
    from finetune.train.sft import quiet

    quiet()
    output = Path(args.output)
    to = Path(args.to) if args.to else output.with_name(f"{output.name}-merged")
    place = merge(output, to)
    _write_card(place)
    lines = serving(place)
    found = {"folder": str(place), "merged": place != output, "serve": lines}
    print(json.dumps(found) if args.json else in_words(place, lines, is_merged=place != output))
    return 0


def _show(args: argparse.Namespace, overrides: Overrides) -> int:
    from finetune.recipe import read_recipe
    from finetune.rows.show import CLOSE, OPEN, marked, show, write_page

    if args.page:
        recipe, page = read_recipe(_recipe_path(args), overrides), Path(args.page)
        count = write_page(recipe, args.row, args.rows, page)
        print(json.dumps({"page": str(page), "rows": count}) if args.json else f"{page}: {count} rows")
        return 0
    found, text = show(read_recipe(_recipe_path(args), overrides), args.row)
    if args.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.text import Text

    console = Console()
    is_coloured = console.color_system is not None and not console.no_color
    console.print(text if is_coloured else Text(marked(text)), soft_wrap=True)
    how = "green" if is_coloured else f"between {OPEN} and {CLOSE}"
    console.print(f"row {found['row']}: {found['tokens']} tokens, {found['trained_tokens']} of them trained ({how})")
    return 0


def _eval(args: argparse.Namespace, _: Overrides) -> int:
    from finetune.measure import answers
    from finetune.measure.evaluate import Record, evaluate
    from finetune.measure.stored_answers import Kept, evaluations_of
    from finetune.progress import Progress
    from finetune.run import began_with_of, label_of, layout_of, prompt_of
    from harvest.checks import judged_together
    from harvest.endpoint import prompt as prompts
    from harvest.questions.sources import read_questions
    from harvest.report.evaluation import against_teacher, gains, warnings

    if args.compare:
        compared = answers.compare(*args.compare)
        print(json.dumps(compared, ensure_ascii=False) if args.json else answers.compared_in_words(compared))
        return 0
    if not args.student or not args.questions:
        args.command_parser.error("takes STUDENT and --questions F, or --compare A B")
    _check_answerer(args)
    if args.details:
        answers.check_details(args.details)
    run = _run_of(args)
    prompt = prompts.load(args.prompt) if args.prompt else prompt_of(run)
    try:
        questions = list(read_questions(args.questions, Path()))[: args.limit]  # a bad row is named wherever it stands
    except QuestionError as e:
        raise QuestionError(str(e).replace(", or pass --skip-bad-rows to go on without them", "")) from None
    if not questions:
        raise InputError(f"{args.questions}: not one question in it")
    if (without := next((q for q in questions if judged_together(q)), None)) is not None:
        raise InputError(f"{args.questions}: question {without.id!r} has no gold answer to measure a student by")
    engine, sampling, label = _asked_of(args, prompt, run, questions)
    record: Record = run or Kept()
    label = label or label_of(args.student, run)
    layout, began_with = layout_of(Path(args.student)), began_with_of(Path(args.student))
    if run is not None and label == "after":
        run.label_befores(Path(args.student))
    try:
        progress = Progress("eval")
        measured = evaluate(
            engine, questions, args.questions, prompt, sampling, record, progress, label, layout, began_with
        )
    finally:
        if run is not None:
            _write_report(run)  # also of a part: what is there was asked and paid for
    if args.details:
        answers.write_details(args.details, measured, questions)
    if run is not None:
        beside = run.evaluations()
    else:
        mine = {"key": measured.key, "settings": measured.settings, "answers": measured.answers}
        beside = evaluations_of(Path(args.student)) or [mine]
    if not _is_url(args.student):
        _write_card(Path(args.student))
    trained_on = run.mean_output_tokens() if run is not None else None
    said = [words for key, words in warnings(beside, trained_on) if key == measured.key]
    gain = next((g for g in gains(beside) if g["key"] == measured.key), None)
    against = next((g for g in against_teacher(beside) if g["key"] == measured.key), None)
    found = measured.entry | {"gain": gain, "against_teacher": against, "warnings": said}
    for words in said:
        print(f"warning: {words}", file=sys.stderr)
    print(json.dumps(found, ensure_ascii=False) if args.json else answers.in_words(found, gain, against))
    return 0


OF_ENDPOINTS = ("model", "api_key_env", "usd", "price", "concurrency", "timeout_s", "extra")


def _is_url(student: str) -> bool:
    return student.startswith(("http://", "https://"))


def _check_answerer(args: argparse.Namespace) -> None:
    """Raises InputError for what says nothing to the one who answers: a cap, say, that would bound nothing."""
    if "://" in args.student and not _is_url(args.student):
        raise InputError(f"{args.student}: an endpoint's URL begins with http:// or https://")
    is_here = not _is_url(args.student) and args.student != "teacher"
    idle = OF_ENDPOINTS if is_here else ("batch_size", *(("model",) if args.student == "teacher" else ()))
    if given := [f"--{name.replace('_', '-')}" for name in idle if getattr(args, name) is not None]:
        where = "for an endpoint's URL" if is_here else "for a student on this machine"
        where = "the run's own" if given == ["--model"] and not is_here else where
        raise InputError(f"{', '.join(given)}: {where}, and {args.student} is asked: leave it out")


def _run_of(args: argparse.Namespace) -> "Run | None":
    """The run whose report gets the evaluation, None with a warning where a student's own is not here any more."""
    from finetune.run import find_run, trained_on

    run = find_run(args.run_name, args.store) if args.run_name else trained_on(Path(args.student))
    if run is not None:
        try:
            run.check()
        except StoreUnusable as e:
            if args.run_name:
                raise
            print(f"warning: in no report, since its run is not here: {e}", file=sys.stderr)
            run = None
    return run


def _write_report(run: "Run") -> None:
    from harvest.commands.report import write_report

    write_report(run.name, run.url)


def _asked_of(
    args: argparse.Namespace, prompt: "Prompt", run: "Run | None", questions: "Sequence[Question]"
) -> "tuple[Engine, Sampling, str | None]":
    """Who answers, how, and the label that is given or plain from that."""
    from finetune.measure.sampling import sampling_of

    names = ("samples", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed")
    given = {name: getattr(args, name) for name in names}
    is_teacher = args.student == "teacher"
    if is_teacher or _is_url(args.student):
        return _endpoint(args, prompt, run, questions, given)
    from finetune.measure.generate import TransformersEngine
    from finetune.student import find
    from finetune.train.sft import quiet

    sampling = sampling_of(args.preset, given)
    student = find(args.student)
    quiet()
    return TransformersEngine(student, args.batch_size), sampling, args.label


def _endpoint(
    args: argparse.Namespace,
    prompt: "Prompt",
    run: "Run | None",
    questions: "Sequence[Question]",
    given: Mapping[str, Any],
) -> "tuple[Engine, Sampling, str | None]":
    from finetune.measure import endpoint
    from finetune.measure.sampling import sampling_of
    from harvest.core.config import DEFAULT_STORE, runs_folder

    price = {"input": str(args.price[0]), "output": str(args.price[1])} if args.price else None
    settings = {"price_usd_per_mtok": price, "timeout_s": args.timeout_s, "max_concurrency": args.concurrency}
    label = args.label
    extra, effort, base = endpoint.extra_of(args.extra), None, None
    if args.student == "teacher":
        if run is None:
            raise InputError("teacher: --run names the run whose teacher is asked")
        teacher, asking = endpoint.teacher_of(runs_folder() / run.name, **settings, api_key_env=args.api_key_env)
        base = {name: getattr(asking, name) for name in endpoint.OF_SAMPLING}
        extra, effort, label = {**asking.extra, **extra}, asking.reasoning_effort, label or "teacher"
    else:
        settings["max_concurrency"] = args.concurrency or 64
        teacher = endpoint.teacher_at(args.student, args.model, api_key_env=args.api_key_env, **settings)
    engine = endpoint.Endpoint(
        teacher=teacher,
        questions=questions,
        prompt=prompt,
        cap_usd=args.usd,
        store=args.store or (run.url if run else DEFAULT_STORE),
        with_examples=label == "teacher",
        extra=extra,
        reasoning_effort=effort,
    )
    return engine, sampling_of(args.preset, given, base), label


if __name__ == "__main__":
    sys.exit(main())
