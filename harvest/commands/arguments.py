"""Defines the commands of `harvest` and their arguments for argparse. Imports nothing heavy, so that `-h` is fast."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

UNSAFE = "run programs of answers without isolation, as you; each verdict says so"
STORE = "sqlite:///path (relative), sqlite:////path (absolute) or postgresql://user@host/database"
RUN = "a run's name or its folder"


class Parser(argparse.ArgumentParser):
    """Parses a command line like argparse does, but reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (`{self.prog} -h` lists what there is)\n")

    def _check_value(self, action: argparse.Action, value: str) -> None:
        if isinstance(action.choices, Mapping) and value not in action.choices:
            from harvest.core.settings import nearest

            self.error(f"{value}: there is no such command{nearest(value, [*action.choices])}")
        super()._check_value(action, value)


class Commands:
    """Adds commands to a parser, and gives each command the arguments that all commands have."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    def add(
        self, name: str, text: str, *, json: str, run: bool = False, overrides: bool = False
    ) -> argparse.ArgumentParser:
        """Adds one command and returns its parser.

        `text` is the help. `json` says in words what --json prints. `run`: the command takes the argument RUN.
        `overrides`: the command takes settings (`--section.key value`).
        """
        p = self._commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        p.set_defaults(overrides=overrides, command_parser=p)
        if run:
            p.add_argument("name", metavar="RUN", help=RUN)
        p.add_argument("--store", metavar="URL", help=STORE)
        p.add_argument("--json", action="store_true", help=f"print {json} as JSON")
        return p


def parser(prog: str = "python -m harvest") -> argparse.ArgumentParser:
    """Returns the parser of the whole command line."""
    found = Parser(
        prog=prog,
        description="Ask a reasoning teacher questions, keep the chains of thought that check out, count the money.",
    )
    commands = Commands(found)
    _add_asking(commands)
    _add_import(commands)
    _add_of_a_run(commands)
    _add_export(commands)
    _add_copy(commands)
    _add_shards(commands)
    _add_sandbox(commands)
    return found


def _add_asking(commands: Commands) -> None:
    p = commands.add(
        "collect", "the main job: ask, check, store, report, export; started again it goes on", json="the report",
        overrides=True,
    )  # fmt: skip
    p.add_argument("config", nargs="?", metavar="RUN.toml", help="without it: the demo recipe on the embedded teacher")
    p.add_argument(
        "--student", metavar="URL",
        help="a student that is asked first, so that the teachers are asked only what it cannot do: the URL of its"
        " endpoint (with --student.model NAME), or the name of an embedded model; docs/asking.md",
    )  # fmt: skip
    p.add_argument("--skip-bad-rows", action="store_true", help="count and skip questions that cannot be asked")
    p.add_argument(
        "--dry-run", action="store_true",
        help="say what will be asked, what one answer and all may cost, and how many are asked at once; ask nothing",
    )  # fmt: skip
    p.epilog = "Any setting of RUN.toml: --section.key value, e.g. --budget.usd 5. All of them: docs/configuration.md"

    p = commands.add(
        "estimate", "a quote before the money: asks a few of the questions, says what all of them will cost and bring",
        json="the quote", overrides=True,
    )  # fmt: skip
    p.add_argument("config", nargs="?", metavar="RUN.toml", help="without it: the demo recipe on the embedded teacher")
    p.add_argument(
        "--pilot", type=int, metavar="N", default=30,
        help="how many questions are asked, drawn at random; the answers are kept (default: 30)",
    )  # fmt: skip
    p.add_argument("--recipe", metavar="RECIPE.toml", help="quotes the training on the accepted traces too")
    p.add_argument("--skip-bad-rows", action="store_true", help="count and skip questions that cannot be asked")

    p = commands.add(
        "doctor", "one small request: what does the endpoint send, announce, refuse and cost", json="the findings",
        overrides=True,
    )  # fmt: skip
    p.add_argument("config", nargs="?", metavar="RUN.toml", help="without it: the demo recipe's embedded teacher")


def _add_import(commands: Commands) -> None:
    p = commands.add(
        "import", "answers paid for elsewhere become attempts of a run and are judged; again to go on",
        json="what was imported, and the report,",
    )  # fmt: skip
    p.add_argument(
        "files", nargs="*", type=Path, metavar="FILE",
        help="JSON lines, a JSON array or Parquet; plain, .gz or .zst",
    )  # fmt: skip
    p.add_argument(
        "--public", metavar="SET",
        help="a public set, e.g. open-thoughts/OpenThoughts3-1.2M: read from FILE if there is one, else from the hub;"
        " with --questions, only answers to these",
    )  # fmt: skip
    p.add_argument("--licence", action="append", default=[], metavar="L", help="with --public: only under this licence")
    p.add_argument(
        "--teacher", action="append", default=[], metavar="M", help="with --public: only written by this model"
    )
    p.add_argument("--name", required=True, metavar="RUN", help="the run that the answers are put into")
    p.add_argument(
        "--questions", type=Path, metavar="F",
        help="questions and gold answers, for lines that hold none: found by custom_id, id, metadata, or the text",
    )  # fmt: skip
    p.add_argument(
        "--majority", metavar="SHARE",
        help="judge a question without a gold answer by what more than SHARE of its answers agree on, e.g. 0.5",
    )  # fmt: skip
    p.add_argument(
        "--require", metavar="NAMES",
        help="the verdicts that an answer needs: `correct`, and filters by name, e.g. correct,format,language",
    )  # fmt: skip
    p.add_argument("--skip-bad-rows", action="store_true", help="count and skip lines that cannot be read")
    p.add_argument("--unsafe-code", action="store_true", help=UNSAFE)
    p.epilog = (
        "Recognised by what a line holds: a question's fields and `response` (a text or a whole chat completion);"
        " OpenAI's\nbatch output and stored completions; logs of LiteLLM and OpenRouter; datasets in ShareGPT's form,"
        " Sky-T1's,\nor with `messages`. An example of each: docs/import.md. Public sets: docs/public.md"
    )


def _add_of_a_run(commands: Commands) -> None:
    p = commands.add(
        "verify", "judge stored answers again with today's checks; the teacher is asked nothing", json="what changed",
        run=True,
    )  # fmt: skip
    p.add_argument("--again", action="store_true", help="also answers that today's checks have judged already")
    p.add_argument("--unsafe-code", action="store_true", help=UNSAFE)

    p = commands.add(
        "select", "which accepted traces are trained on: filters, duplicates, evaluations, difficulty, number",
        json="what was selected", run=True, overrides=True,
    )  # fmt: skip
    p.add_argument("--preset", metavar="NAME", help="sky-t1, s1, openthoughts, or a path to a TOML of your own")
    p.add_argument("--dry-run", action="store_true", help="say what would be selected and change nothing")
    p.epilog = "Any setting of [select] and [filters]: --select.traces 1000. The run keeps them. All: docs/selection.md"

    p = commands.add(
        "report", "rebuild report.html, report.md and report.json from the store alone; of several runs: side by side",
        json="the report", run=True,
    )  # fmt: skip
    p.add_argument("others", nargs="*", metavar="RUN", help="more runs to put beside it")
    p.add_argument("--to", metavar="FILE", type=Path, help="with several runs: write them side by side as a page, too")
    p = commands.add(
        "settle", "what is in doubt, try by try; or book what each of these tries cost", json="the tries", run=True
    )
    p.add_argument(
        "--ask", action="store_true", help="ask the provider, where it tells what an answer cost or a balance"
    )
    p.add_argument(
        "--as", dest="amount", metavar="free|worst|USD", help="book each try at nothing, its worst case, or USD"
    )
    p.add_argument(
        "--try", dest="tries", nargs="+", action="extend", type=int, default=[], metavar="ID",
        help="only these tries; default: all in doubt",
    )  # fmt: skip
    p = commands.add(
        "view", "a local page to look through attempts with the keyboard, and to mark them right or wrong",
        json="the address (or what was written)",
    )  # fmt: skip
    p.add_argument("runs", nargs="*", metavar="RUN", help=f"{RUN}; default: all runs of the store")
    p.add_argument("--port", type=int, default=0, metavar="N", help="default: one that is free")
    p.add_argument("--to", type=Path, metavar="DIR", help="write the page as files that open without a server")
    p.add_argument(
        "--export-cases", type=Path, metavar="FILE", help="write the marks as cases for a check's tests, and end"
    )
    p = commands.add(
        "why", "what became of one question, attempt by attempt; without a question: a list of all", json="it", run=True
    )
    p.add_argument("question_id", nargs="?", metavar="QUESTION_ID", help="without it: the attempts are listed")
    p.add_argument(
        "--reason", metavar="R",
        help="list those with this reason alone: why an attempt was rejected, e.g. wrong, failed, or was not selected",
    )  # fmt: skip
    p.add_argument("--most", type=int, metavar="N", default=20, help="list at most so many (default: 20)")
    p.add_argument("--full", action="store_true", help="print chains and answers to their last character")


def _add_export(commands: Commands) -> None:
    p = commands.add(
        "export", "the traces as a dataset that datasets.load_dataset and TRL take as they are",
        json="what was written", run=True,
    )  # fmt: skip
    p.add_argument("--to", metavar="DIR", type=Path, help="default: dataset/ in the run's folder")
    p.add_argument("--format", choices=("jsonl", "parquet"))
    p.add_argument(
        "--which", choices=("selected", "accepted", "all"),
        help="all has every answer, with `accepted` and `reason`: train on both to see what the checks are worth",
    )  # fmt: skip
    p.add_argument(
        "--layout", choices=("messages", "trl", "prompt-completion", "axolotl", "sharegpt", "llama-factory"),
        help="the program that trains on it; an example of each: docs/export.md",
    )  # fmt: skip
    p.add_argument(
        "--reasoning", choices=("inline", "apart", "none"),
        help="where the chain is: in the content, in a field beside it, or left out",
    )  # fmt: skip
    p.add_argument(
        "--reasoning-field", choices=("reasoning_content", "thinking", "reasoning"),
        help="the name of that field, with --reasoning apart",
    )  # fmt: skip
    p.add_argument("--marks", choices=("think", "sky-t1"), help="the marks around a chain in the content")
    p.add_argument(
        "--columns", choices=("all", "training"), help="all that is known of a row, or its training part alone"
    )
    p.add_argument("--shard-mb", type=int, metavar="MB", help="about how large one file may be before there are more")
    p.epilog = "A setting that no flag gives is taken from the run's [export]: docs/configuration.md"


def _add_copy(commands: Commands) -> None:
    p = commands.add(
        "copy", "copy runs from one store to another, with everything that belongs to them: from a file to PostgreSQL,"
        " or back", json="which runs were copied",
    )  # fmt: skip
    p.add_argument("source", metavar="FROM", help=STORE)
    p.add_argument("target", metavar="TO", help="the store that they are copied into; it is made if there is none")
    p.add_argument("--run", action="append", metavar="NAME", help="copy this run and those it needs (default: all)")


def _add_shards(commands: Commands) -> None:
    p = commands.add(
        "shards", "select from an export too large for one process: by tasks on this machine, Slurm or Ray",
        json="what was selected", overrides=True,
    )  # fmt: skip
    p.add_argument("export", type=Path, metavar="EXPORT", help="a folder as `harvest export --to` writes it")
    p.add_argument("--to", type=Path, required=True, metavar="DIR", help="where the selected rows are written")
    p.add_argument("--preset", metavar="NAME", help="sky-t1, s1, openthoughts, or a path to a TOML of your own")
    p.add_argument("--judge", action="store_true", help="judge each answer again with today's checks first")
    p.add_argument("--unsafe-code", action="store_true", help=UNSAFE)
    p.add_argument(
        "--questions", nargs="+", action="extend", default=[], metavar="F",
        help="the questions' files, for choices and tests, which an export does not have",
    )  # fmt: skip
    p.add_argument("--workers", type=int, metavar="N", help="most tasks at once; default: one a core, or all files")
    p.add_argument("--slurm", nargs=2, metavar=("PARTITION", "TIME"), help="submit the tasks to Slurm")
    p.add_argument("--ray", action="store_true", help="run the tasks on the Ray cluster that RAY_ADDRESS names")
    p.add_argument("--memory-gb", type=int, default=4, metavar="GB", help="of a task on Slurm or Ray (default: 4)")
    p.add_argument("--activate", default="", metavar="COMMAND", help="what makes winnow's Python the node's, on Slurm")
    p.epilog = "Any setting of [select] and [filters]: --select.traces 1000. All of it: docs/shards.md"


def _add_sandbox(commands: Commands) -> None:
    p = commands.add(
        "sandbox", "run the corpus of attacks against this machine's sandbox; 1 if any gets through",
        json="the results",
    )  # fmt: skip
    p.add_argument("--cold", action="store_true", help="use a jail for each program, in place of one that forks")
    p.add_argument("--limit", type=float, default=1.0, metavar="S", help="how many seconds each program may take")
