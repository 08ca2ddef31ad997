"""`harvest estimate` asks a few questions of a run, and quotes the whole run from their answers.

The pilot belongs to the run itself: it spends under the run's cap, and `collect` buys none of its answers again.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harvest.asking.hooks import Hooks
from harvest.asking.planning.keys_and_prices import take_keys
from harvest.asking.planning.run import Run
from harvest.asking.session import PACE, ask
from harvest.asking.stopping import Ending
from harvest.checks import CheckPool
from harvest.commands.collect import in_batches, prepared, refuse_terms
from harvest.commands.progress import asking_shown, say
from harvest.core.clock import now
from harvest.core.config import RunConfig
from harvest.core.errors import CapReached, InputError
from harvest.core.files import settings_path
from harvest.report.prediction.quote import Rest, in_words, quote
from harvest.report.prediction.what_if import tariffs_of
from harvest.report.sentences import accuracy_quote
from harvest.store import QUOTE, Store

ANY_TOKENS = 1000
"""The length of a row with which a recipe is tried before anything is asked."""
LONGEST_S = 600
"""How many seconds `finetune estimate` may take."""


def estimate(
    config: RunConfig, base: Path, *, pilot: int, recipe: str | None, skip_bad_rows: bool, as_json: bool
) -> int:
    """Asks at most `pilot` questions, prints the quote, and returns the exit code. Raises an InputError when something
    is wrong before anything was asked. `recipe` names a recipe whose training is quoted too."""
    if pilot < 1:
        raise InputError(f"--pilot {pilot}: at least one question must be asked")
    if recipe is not None:
        _training(recipe, 1, ANY_TOKENS)  # a recipe that cannot be used is found before money is spent
    refuse_terms(config)
    with Store.open(config.store, say=say) as store:
        run, drawn, ending = ask_pilot(config, base, store, pilot=pilot, skip_bad_rows=skip_bad_rows)
        found = quoted(run.config, run.id, store, drawn)
        accuracies = store.accuracy_quotes(run.id)
        if found["pilot"]["questions"]:
            with store.transaction():
                store.add_event(run.id, QUOTE, found, now())
    if not found["pilot"]["questions"]:
        say(f"error: no question has ended, so there is nothing to quote from: {ending.words or 'nothing came'}")
        return ending.exit_code or InputError.exit_code
    found["student_accuracy"] = accuracies
    if recipe is not None:
        found["training"] = _training(recipe, max(1, found["accepted"]["mid"]), found["pilot"]["tokens_a_trace"])
    words = [*in_words(found), *map(accuracy_quote, accuracies)]
    print(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(words))
    if ending.words:
        say(f"{'stopped' if ending.exit_code == CapReached.exit_code else 'error'}: {ending.words}")
    return ending.exit_code


def ask_pilot(
    config: RunConfig, base: Path, store: Store, *, pilot: int, skip_bad_rows: bool
) -> tuple[Run, list[int], Ending]:
    """Asks `pilot` questions of a run, drawn by its name, and keeps the answers. Returns (the run, the rows of these
    questions in the store, how the asking ended). Raises an InputError before anything is asked."""
    keys = take_keys(config)
    with CheckPool(unsafe_code=config.checks.unsafe_code) as pool:
        store.join(config.name, alone=in_batches(config))
        with store.one_at_a_time("preparing", say):
            run = prepared(config, base, store, pool, skip_bad_rows=skip_bad_rows)
        drawn = sorted(store.drawn_questions(run.id, pilot, config.name))
        return run, drawn, ask(run, store, pool, keys, Hooks(say, asking_shown), drawn)


def quoted(config: RunConfig, run_id: int, store: Store, among: list[int]) -> dict[str, Any]:
    """Returns the quote of a run by those of the questions `among` that have ended. `among` are rows of the store."""
    figures, money = store.counts(run_id), store.money(run_id)
    ended = store.ended_among(run_id, among)
    rates = [event["rate"] for event in store.events(run_id, PACE)[-1:] if event.get("rate")]
    rest = Rest(
        total=figures["questions"],
        open=figures["questions"] - figures["ended"],
        spent_pusd=money.spent,
        in_doubt_pusd=money.in_doubt,
        accepted=figures["accepted"],
        cap_pusd=money.cap,
        rate=rates[0] if rates else None,
    )
    tries, bought = store.asked_tries(run_id, ended), store.bought_attempts(run_id, ended)
    return quote(config, tries, bought, ended, rest, tariffs_of(config), datetime.now(UTC))


def _training(recipe: str, rows: int, mean_tokens: int | None) -> dict[str, Any] | None:
    """Returns what `finetune estimate` says of a training on so many traces; None if their length is unknown.

    It is a process of its own, since harvest knows nothing of training. Raises InputError with its words when it fails.
    """
    if not settings_path(recipe).is_file():
        raise InputError(f"--recipe {recipe}: no such file")
    if mean_tokens is None:
        return None
    words = [sys.executable, "-m", "finetune", "estimate", recipe, "--json"]
    words += ["--rows", str(rows), "--mean-tokens", str(mean_tokens)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"--recipe {recipe}: `finetune estimate` has not ended after {LONGEST_S} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"--recipe {recipe}: {last.removeprefix('error: ')}")
    said: dict[str, Any] = json.loads(done.stdout)
    return {"rows": rows, **said}
