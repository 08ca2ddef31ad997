"""Defines the commands of `finetune` and their arguments for argparse. It imports nothing heavy, so `-h` is fast."""

import argparse
import json
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from finetune.measure.sampling import PRESETS
from harvest.commands.arguments import Parser
from harvest.core.withdrawable import WITHDRAWABLE

ENGINES = ("auto", "transformers", "vllm")
Overrides = list[tuple[str, str]]
"""Settings from the command line: `--train.learning_rate 2e-4` gives ("train.learning_rate", "2e-4")."""


def parser(prog: str = "python -m finetune") -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    whole = Parser(
        prog=prog,
        description="Train a small student on checked traces, look at a row, measure it.",
    )
    commands = whole.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name, (text, add_arguments) in COMMANDS.items():
        p = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        p.set_defaults(overrides=False, command_parser=p)
        p.add_argument("--json", action="store_true", help="print one JSON object")
        add_arguments(p)
    return whole


def _sft(p: argparse.ArgumentParser) -> None:
    _add_recipe(p)
    p.add_argument("--dry-run", action="store_true", help="check every row and setting, then stop")
    _add_evaluations(p)
    _add_run(p, "whose report gets the training; without it: the run of `data`")


def _prefer(p: argparse.ArgumentParser) -> None:
    p.add_argument("recipe", metavar="RECIPE.toml")
    _add_settings(p)
    p.add_argument("--dry-run", action="store_true", help="count the pairs by kind, check every setting, then stop")
    _add_run(p, "whose report gets the training; without it: the run of `data`")


def _init(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", metavar="MODEL", help="a folder, an entry of the model table, a hub's name")
    p.add_argument("--layers", type=_count, required=True, metavar="N", help="how many of its layers are kept")
    p.add_argument("--to", required=True, metavar="DIR", help="the folder of the smaller model")
    p.add_argument(
        "--keep", choices=("even", "importance"), default="even",
        help="which layers: evenly spaced ones, or those that change their input most (block influence, ShortGPT)",
    )  # fmt: skip
    p.add_argument("--rows", metavar="DATA", help="the rows on which importance is measured: a run, an export, a file")
    p.add_argument("--most-rows", type=_count, default=64, metavar="N", help="how many of them (64)")
    p.add_argument("--max-tokens", type=_count, default=2048, metavar="N", help="longer rows are left out (2048)")


def _distill(p: argparse.ArgumentParser) -> None:
    p.add_argument("recipe", metavar="RECIPE.toml")
    _add_settings(p)
    p.add_argument("--dry-run", action="store_true", help="check rows, teachers and settings, then stop")
    _add_evaluations(p)
    _add_run(p, "whose report gets the training; without it: the run of `data`")


def _check(p: argparse.ArgumentParser) -> None:
    _add_settings(p)
    p.add_argument("data", metavar="DATA", help="a file, a folder, a run, or a hub's dataset")
    p.add_argument("student", metavar="STUDENT", help="a folder, an entry of the model table, a hub's name")
    _add_evaluations(p)


def _score(p: argparse.ArgumentParser) -> None:
    _add_settings(p)
    p.add_argument("run_name", metavar="RUN", help="a run, by its name or its folder")
    _add_student(p)
    p.add_argument(
        "--which", choices=("accepted", "all"), default="accepted", help="the answers that are read (accepted)"
    )
    p.add_argument("--store", metavar="URL", help="the run's store; without it: the one its config.json names")


def _tryout(p: argparse.ArgumentParser) -> None:
    p.set_defaults(overrides=True)
    p.epilog = "Any setting of RUN.toml, and of [render]: --section.key value, e.g. --budget.usd 5"
    p.add_argument("run", metavar="RUN.toml", help="a run with several [[teachers]]")
    _add_student(p)
    p.add_argument(
        "--pilot", type=_count, default=200, metavar="N",
        help="how many questions each teacher answers, drawn at random; the answers are kept (default: 200)",
    )  # fmt: skip
    p.add_argument("--store", metavar="URL", help="the store; without it: the one that RUN.toml names")
    p.add_argument("--train", action="store_true", help="also train shortly on as many tokens of each teacher")
    _add_bench(p)
    p.add_argument("--skip-bad-rows", action="store_true", help="count and skip questions that cannot be asked")


def _show(p: argparse.ArgumentParser) -> None:
    _add_recipe(p)
    p.add_argument("--row", type=int, default=0, metavar="N", help="counted from 0")
    p.add_argument("--page", metavar="FILE", help="write an HTML page instead, of that row and those after it")
    p.add_argument("--rows", type=_count, default=20, metavar="N", help="how many rows the page has")


def _curve(p: argparse.ArgumentParser) -> None:
    p.set_defaults(overrides=True)
    p.add_argument("output", metavar="OUTPUT", help="the folder of a student in training or trained; with --buy: a run")
    g = p.add_argument_group("where the next dollars go: more questions, more samples of each, or more epochs")
    g.add_argument("--buy", action="store_true", help="train --student on parts of the run; started again it goes on")
    _add_student(g)
    g.add_argument("--usd", type=_usd, default=Decimal(10), metavar="USD", help="how many dollars (10)")
    g.add_argument("--usd-per-trace", type=_positive, metavar="USD", help="without it: what the run's traces cost")
    g.add_argument("--sizes", type=_counts, metavar="N,N,…", help="of how many questions; else a quarter, half and all")
    g.add_argument("--epochs", type=_positives, metavar="E,E,…", help="else half, once and twice the recipe's")
    g.add_argument("--store", metavar="URL", help="the run's store; without it: the one its config.json names")
    _add_bench(p)


def _merge(p: argparse.ArgumentParser) -> None:
    p.add_argument("output", metavar="OUTPUT", help="the folder of a trained student")
    p.add_argument("--to", metavar="DIR", help="without it: OUTPUT-merged")


def _estimate(p: argparse.ArgumentParser) -> None:
    _add_recipe(p)
    p.add_argument("--params-b", type=_positive, metavar="B", help="in place of the student: its weights, in billions")
    p.add_argument("--rows", type=_count, metavar="N", help="in place of the data: how many rows it has,")
    p.add_argument("--mean-tokens", type=_positive, metavar="T", help="and how many tokens a row has on average")
    p.add_argument("--calibrate", action="store_true", help="measure twenty real steps on this machine; keeps nothing")
    p.add_argument(
        "--eval-questions", type=_count, default=500, metavar="N", help="questions asked before and after training"
    )
    p.add_argument("--eval-samples", type=_count, default=1, metavar="N", help="answers to each of them")
    p.add_argument("--eval-tokens", type=_positive, metavar="T", help="tokens an answer; without it: as a row has")
    p.add_argument(
        "--eval-max-tokens", type=_positive, metavar="T", help="of the longest answers; else as the longest row"
    )
    p.add_argument("--eval-engine", choices=ENGINES[1:], default="vllm", help="who answers (vllm)")


def _eval(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "student", nargs="?", metavar="STUDENT",
        help="a trained folder, an entry of the model table, a hub's name, an endpoint's URL, or the word teacher:"
        " the teacher of --run, asked as it is there",
    )  # fmt: skip
    p.add_argument(
        "--questions", metavar="F",
        help='a file, e.g. "reasoning-gym:chain_sum?n=100&seed=9", or a benchmark with its protocol: aime24, aime25,'
        " math-500, gpqa-diamond, gsm8k, livecodebench",
    )  # fmt: skip
    p.add_argument(
        "--questions-columns", type=_columns, metavar="JSON", default={},
        help='columns with other names: \'{"question": "instruction", "answer": "output"}\'',
    )  # fmt: skip
    p.add_argument("--prompt", metavar="NAME", help="without it: the run's, else boxed")
    p.add_argument("--limit", type=_count, metavar="N", help="only the first N questions")
    p.add_argument(
        "--label", choices=("before", "after", "teacher"),
        help="without it: after for what finetune trained, before for what it began with, else neither",
    )  # fmt: skip
    _add_run(p, "whose report gets the evaluation; without it: the run it was trained on")
    p.add_argument("--details", type=Path, metavar="FILE", help="write every answer with its text, as JSON lines")
    p.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"),
        help="asks nothing: compares two files of --details, B's answers with A's, paired by question",
    )  # fmt: skip
    _add_sampling(p.add_argument_group("how answers are drawn"))
    _add_engine(p.add_argument_group("for a student on this machine"))
    _add_endpoint(p.add_argument_group("for an endpoint (https://…/v1), which is asked through harvest's ledger"))


def _add_sampling(g: "argparse._ArgumentGroup") -> None:
    g.add_argument("--samples", type=_count, metavar="N", help="answers for each question (1)")
    g.add_argument("--max-tokens", type=_count, metavar="N", help="most tokens of an answer (1024)")
    g.add_argument("--temperature", type=_temperature, metavar="T", help="0 is greedy (0)")
    g.add_argument("--top-p", type=_share, metavar="P")
    g.add_argument("--top-k", type=_count, metavar="K")
    g.add_argument("--min-p", type=_share, metavar="P")
    g.add_argument("--seed", type=_seed, metavar="N", help="(0)")
    presets = "; ".join(f"{name}: {_settings(preset.settings)} ({preset.source})" for name, preset in PRESETS.items())
    g.add_argument("--preset", choices=PRESETS, help=f"settings that others publish, under those given here. {presets}")


def _add_engine(g: "argparse._ArgumentGroup") -> None:
    g.add_argument(
        "--engine", choices=ENGINES,
        help="who answers: vLLM, which is started and ended again, or transformers (auto: vLLM where it is installed"
        " and a GPU is there)",
    )  # fmt: skip
    g.add_argument("--tensor-parallel", type=_count, metavar="N", help="vLLM: GPUs of each copy; else by the weights")
    g.add_argument("--data-parallel", type=_count, metavar="N", help="vLLM: copies; else what the GPUs have room for")
    g.add_argument("--batch-size", type=_count, metavar="N", help="transformers: rows at once; else what fits")


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v:g}" for k, v in settings.items())


def _add_endpoint(g: "argparse._ArgumentGroup") -> None:
    g.add_argument("--model", metavar="NAME", help="the model's name there, if it serves several")
    g.add_argument("--replicas", nargs="+", metavar="URL", help="more addresses that serve the same model")
    g.add_argument("--api-key-env", metavar="VAR", help="the environment variable that holds the key")
    g.add_argument(
        "--usd",
        type=_usd,
        metavar="CAP",
        help="the most it may be billed; with --run also within what the run's cap has left",
    )
    g.add_argument("--price", nargs=2, type=_usd, metavar=("IN", "OUT"), help="USD a million tokens, if not known")
    g.add_argument("--concurrency", type=_count, metavar="N", help="most requests in flight (64; vLLM: 256 a copy)")
    g.add_argument("--timeout-s", type=_positive, metavar="S", help="for a whole answer (600)")
    g.add_argument("--extra", metavar="JSON", help="put into the request's body, e.g. for chat_template_kwargs")


def _job(p: argparse.ArgumentParser) -> None:
    p.set_defaults(overrides=True)
    p.epilog = "Any setting of JOB.toml: --section.key value, e.g. --run.budget.usd 5"
    p.add_argument("job", nargs="?", metavar="JOB.toml", help="docs/jobs.md; without it: the demo's job")
    p.add_argument("--dry-run", action="store_true", help="say what each stage will do and cost, and ask nothing")
    p.add_argument("--check", action="store_true", help="check every setting of every stage, and end")


def _verify_student(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "folders", nargs="+", metavar="FOLDER",
        help="a student's folder, a dataset's, a run, or a manifest alone; with --withdraw also a folder of students",
    )  # fmt: skip
    p.add_argument("--root", metavar="SHA256", help="the root of the first FOLDER's manifest, as it was published")
    p.add_argument("--store", metavar="URL", help="compare each answer with this store, and make the dataset anew")
    p.add_argument(
        "--withdraw", action="append", default=[], metavar="FIELD=VALUE",
        help=f"say which rows come from it and what must be trained again; FIELD is one of {', '.join(WITHDRAWABLE)};"
        " question=@ids.txt takes the ids in a file; may be given again",
    )  # fmt: skip
    p.add_argument("--rows", type=Path, metavar="FILE", help="write each row that is withdrawn, as JSON lines")


COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "sft": ("train the student on an export or a run; started again it goes on", _sft),
    "prefer": ("shorter answers, by preference pairs out of what a run holds; started again it goes on", _prefer),
    "init": ("a smaller student, cut from an open model's layers and saved as a normal model", _init),
    "distill": ("train the student on its teachers' probabilities beside their text; it goes on as sft does", _distill),
    "check": ("look at any dataset as a student would read it, also for training elsewhere", _check),
    "tryout": ("several teachers on the same questions: which one teaches this student most for a dollar", _tryout),
    "score": ("how well each trace suits a student: its surprisal and ranks, kept in the store", _score),
    "show": ("one training row as the model sees it, trained tokens coloured", _show),
    "curve": ("the loss curve of a training; with --buy: whether more questions, samples or epochs pay", _curve),
    "merge": ("merge the adapter into its model, and print the lines that serve it", _merge),
    "estimate": ("GPU-hours, memory and money before training", _estimate),
    "eval": ("held-out accuracy with its interval, tokens an answer, unfinished answers", _eval),
    "verify-student": (
        "check offline where each row of a student or a dataset comes from; say what a withdrawn source touches",
        _verify_student,
    ),
    "job": ("collect, select, train, evaluate and report by one file; started again it goes on", _job),
}
"""Maps each command to its help text and to the function that adds its arguments. The file named after the command does
the work."""


# ---- arguments that several commands take


def _add_settings(p: argparse.ArgumentParser) -> None:
    """Lets the command accept any setting of RECIPE.toml as `--section.key value`."""
    p.set_defaults(overrides=True)
    p.epilog = "Any setting of RECIPE.toml: --section.key value, e.g. --train.learning_rate 2e-4"


def _add_recipe(p: argparse.ArgumentParser) -> None:
    """Adds the argument RECIPE.toml, and lets settings of the command line replace those of the recipe."""
    p.add_argument("recipe", nargs="?", metavar="RECIPE.toml", help="without it: the demo's recipe")
    _add_settings(p)


def _add_bench(p: argparse.ArgumentParser) -> None:
    """Adds the arguments of short trainings."""
    g = p.add_argument_group("short trainings")
    g.add_argument("--eval", metavar="F", help="the held-out questions on which they are measured: required")
    g.add_argument("--eval-max-tokens", type=_count, metavar="N", help="most tokens of an answer to them")
    g.add_argument("--recipe", metavar="RECIPE.toml", help="their settings; without it: the demo's")


def _add_student(p: "argparse.ArgumentParser | argparse._ArgumentGroup") -> None:
    """Shows `--student` in the help. Its value is taken with the settings, since it is one of RECIPE.toml."""
    p.add_argument("--student", metavar="S", help="required: a folder, an entry of the model table, a hub's name")


def _add_run(p: argparse.ArgumentParser, what: str) -> None:
    """Adds `--run` and `--store`, which name the run whose report gets the result. `what` is the help of `--run`."""
    p.add_argument("--run", dest="run_name", metavar="RUN", help=what)
    p.add_argument("--store", metavar="URL", help="the store of that run; without it: the one its config.json names")


def _add_evaluations(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--eval", dest="evaluations", action="append", default=[], metavar="F",
        help="questions of an evaluation: a row that asks one of them is reported; may be given again",
    )  # fmt: skip


# ---- kinds of numbers


def _columns(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise argparse.ArgumentTypeError(f'{text!r} is not as {{"question": "instruction"}}')
    return found


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


def _counts(text: str) -> list[int]:
    return sorted({_count(part) for part in text.split(",")})


def _positives(text: str) -> list[float]:
    return sorted({_positive(part) for part in text.split(",")})


def _seed(text: str) -> int:
    return int(_number(text, int, lambda n: 0 <= n < 2**31, "from 0 to 2147483647"))


def _positive(text: str) -> float:
    return float(_number(text, float, lambda x: 0 < x < 1e9, "above 0 and below 1e9"))


def _temperature(text: str) -> float:
    return float(_number(text, float, lambda t: 0 <= t <= 10, "between 0 and 10"))


def _share(text: str) -> float:
    return float(_number(text, float, lambda x: 0 < x <= 1, "above 0 and at most 1"))
