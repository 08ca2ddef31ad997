"""Prepares a run: its settings, prompt and questions are checked and written to the store before anything is asked."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from harvest.asking.planning.keys_and_prices import checked_tariff
from harvest.asking.planning.plan import rules_of
from harvest.asking.planning.run import ABOUT, LEARNED, Run, asked_about, doctors_name, endpoint_of, runs_by_place
from harvest.asking.planning.run_changes import keep_selected, refuse_changes
from harvest.asking.planning.strata import Strata
from harvest.checks import ROW_RULES
from harvest.checks.majority import Majority
from harvest.core.clock import now
from harvest.core.config import RunConfig, configs, section_of
from harvest.core.errors import ConfigError, InputError, QuestionError, RowFaults, StoreUnusable
from harvest.core.files import runs_folder, write_settings
from harvest.core.money import pusd
from harvest.core.nouns import CutPart, Question
from harvest.endpoint import GENAI_PRICES, installed_list, tariff_of
from harvest.endpoint import prompt as prompts
from harvest.questions.sources import Tally, fingerprint, read_rows
from harvest.store import UNDER_SELECT, Store, stored_settings

GOLD_PAGE = 512
QUESTIONS_READ = "questions read"
"""The kind of the store's event that holds the hash of the questions file which a run has read without a fault."""
GoldProblems = Callable[[Sequence[Question]], list[str | None]]
"""A function that returns one entry per question: what its own check finds wrong with its gold answer; None:
nothing."""


def prepare(
    config: RunConfig,
    base: Path,
    store: Store,
    gold_problems: GoldProblems,
    skip_bad_rows: Callable[[str], None] | None = None,
    under: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Run:
    """Writes the run and all its questions, or nothing. Raises an InputError before anything is asked. `say` is told
    what is remarkable about the questions.

    `gold_problems` is called for new questions only. Files and datasets of the hub that this run has read are not read
    again until a file or a name changes; with bad rows in them, only where bad rows are skipped again. `under` names
    the run under whose cap this one spends. `skip_bad_rows` is called with the fault of each bad row. If it is None,
    bad rows raise QuestionError.
    """
    check_prices(config)
    with store.transaction():
        run, settings = put_run(config, base, store, may_change=False, under=under)
        sha256, without_gold = fingerprint(config.questions, base), config.checks.without_gold
        columns = {"columns": config.questions_columns} if config.questions_columns else {}
        read = {"sha256": sha256, "without_gold": without_gold} | columns
        in_part = read | {"skipped": True}
        known = [read] if skip_bad_rows is None else [read, in_part]
        if sha256 is None or not any(event in known for event in store.events(run.id, QUESTIONS_READ)[-1:]):
            skipped = _put_questions(config, base, store, run.id, gold_problems, skip_bad_rows, say)
            if fingerprint(config.questions, base) != sha256:
                read = {"sha256": None}
            store.add_event(run.id, QUESTIONS_READ, in_part if skipped and read["sha256"] else read, now())
        _refuse_majority_of_one(config, store, run.id)
        _refuse_continuing_in_vain(run, store)
    try:
        write_settings(config.name, settings)
    except OSError as e:
        raise InputError(f"{run.folder}: cannot be written: {e.strerror}; WINNOW_RUNS names another place") from None
    return run


def check_prices(config: RunConfig) -> None:
    """Raises ConfigError when a model that the run asks has a price and the run no cap, or when there is a cap and
    nobody knows the price."""
    for kind, asked in asked_about(config).items():
        checked_tariff(asked, ABOUT[kind])
    for place, one in configs(config).items():
        checked_tariff(one, section_of(config, place))


def continues_by_doctor(store: Store, run: Run) -> dict[CutPart, str]:
    """Returns what doctor found of how the endpoint that `run` asks goes on with cut answers: the form for each part in
    which they may be cut, or an empty text where it does not. Empty if doctor has not tried it."""
    doctor = store.find_run(doctors_name(run.config.name))
    found = [] if doctor is None else store.events(doctor.id, LEARNED)
    of_endpoint = [e for e in found if (e.get("endpoint"), e.get("model")) == (run.endpoint, run.model)]
    return of_endpoint[-1]["continues"] if of_endpoint else {}


def _refuse_continuing_in_vain(run: Run, store: Store) -> None:
    """Raises ConfigError when cut answers are to be continued at an endpoint that does not go on, as doctor found."""
    for place, alone in runs_by_place(run).items():
        found = continues_by_doctor(store, alone)
        if alone.config.sampling.when_truncated == "continue" and found and not any(found.values()):
            raise ConfigError(
                f'{section_of(run.config, place)}: sampling.when_truncated = "continue", and `harvest doctor` found'
                ' that the endpoint does not go on with a cut answer: write "raise" or "give_up"'
            )


def put_run(
    config: RunConfig, base: Path, store: Store, *, may_change: bool, under: str | None = None
) -> tuple[Run, dict[str, Any]]:
    """Writes the run. Returns (the run, its settings as they are stored). Raises ConfigError when a run of that name
    holds imported answers, or when it asked something else and not `may_change`."""
    before = store.find_run(config.name)
    config, under_select = (config, {}) if before is None else keep_selected(config, before)
    prompt = prompts.load(config.prompt, base)
    first = configs(config)[0]
    model, endpoint = endpoint_of(first)
    tariff = tariff_of(first)
    sources = {found.source for one in configs(config).values() if (found := tariff_of(one)) is not None}
    settings = stored_settings(
        config,
        prompt_text=prompt.text,
        prompt_sha256=prompt.sha256,
        endpoints={place: endpoint_of(one)[1] for place, one in configs(config).items()},
        base=base,
        price_source=tariff.source if tariff else "none",
        price_list=installed_list() if any(source.startswith(GENAI_PRICES) for source in sources) else None,
    )
    if under_select:
        settings[UNDER_SELECT] = under_select
    if before is not None and before.imported:
        raise ConfigError(
            f"run {config.name!r} holds imported answers, and no run mixes two: give this one another name"
        )
    if before is not None and not may_change:
        refuse_changes(config.name, before.settings, settings, answered=store.has_answers(before.id))
        if rules_of(before.config) != rules_of(config):
            store.reopen_all(config.name)
    cap = None if config.budget.cap_usd is None else pusd(config.budget.cap_usd)
    run_id = store.put_run(config.name, settings, cap, now(), under)
    return Run(run_id, config, prompt, tariff, model, endpoint, runs_folder() / config.name, base), settings


def _put_questions(
    config: RunConfig,
    base: Path,
    store: Store,
    run_id: int,
    gold_problems: GoldProblems,
    skip_bad_rows: Callable[[str], None] | None,
    say: Callable[[str], None],
) -> int:
    """Writes the questions. Returns how many bad rows were skipped."""
    total, faults, skipped = 0, RowFaults(), 0

    def skip(fault: str) -> None:
        nonlocal skipped
        skipped += 1
        if skip_bad_rows is not None:
            skip_bad_rows(fault)

    strata, tally = Strata(store.strata(run_id)), Tally()
    rows = read_rows(
        config.questions,
        base,
        ROW_RULES,
        skip_bad_rows=skip if skip_bad_rows else None,
        without_gold=config.checks.without_gold,
        columns=config.questions_columns,
        tally=tally,
    )
    while page := list(islice(rows, GOLD_PAGE)):
        new = [q for _, q in page if not store.has_question(run_id, q.id)]
        wrong = {q.id: fault for q, fault in zip(new, gold_problems(new), strict=True) if fault}
        for where, question in page:
            if question.id not in wrong:
                store.put_question(run_id, question, strata.of(question))
                total += 1
                continue
            (skip if skip_bad_rows else faults.add)(f"{where}: answer: {wrong[question.id]}")
    faults.refuse("Mend the rows, or go on without them: --skip-bad-rows (of a job: skip_bad_rows = true).")
    if not total:
        raise QuestionError(f"questions = {config.questions!r}: not one question in it")
    for line in tally.words():
        say(line)
    stored = sum(store.question_statuses(run_id).values())
    if stored != total:
        raise StoreUnusable(
            f"run {config.name!r} asked {stored - total} questions that are no longer in {config.questions!r}: put them"
            " back, or give the run another name"
        )
    return skipped


def _refuse_majority_of_one(config: RunConfig, store: Store, run_id: int) -> None:
    """Raises ConfigError when a question would be judged by the majority of a single answer."""
    most = sum(sampling.samples for sampling in rules_of(config).teachers)
    if most < 2 and (name := store.question_judged_by(run_id, Majority.name)) is not None:
        raise ConfigError(
            f"sampling.samples: {most}, and question {name!r} has no gold answer and is judged by"
            " what most of its answers agree on: ask 2 samples at least, better 4 or more"
        )
