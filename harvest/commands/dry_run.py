"""`harvest collect --dry-run` says what will be asked, what it may cost, and how many are asked at once.

It asks nothing and writes nothing. `collect` says the same in short when it starts.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from harvest.asking.planning.foreseen import Foreseen, foreseen
from harvest.asking.planning.preparation import GOLD_PAGE, check_prices
from harvest.asking.planning.public_answers import Found, ToLookUp, look_up, tables
from harvest.checks import ROW_RULES, CheckPool, gold_problems
from harvest.commands.collect import refuse_terms
from harvest.commands.estimate import quoted
from harvest.commands.foreseen_costs import costs_in_words, room_pusd
from harvest.commands.progress import Warnings, steps
from harvest.core.config import RunConfig, configs
from harvest.core.errors import CapReached, NoStoreYet, RowFaults
from harvest.core.money import usd
from harvest.core.nouns import Question
from harvest.core.printable import one_line
from harvest.endpoint import prompt as prompts
from harvest.questions.sources import Tally, read_rows
from harvest.report.prediction.quote import in_words as quote_in_words
from harvest.store import Store
from harvest.store.reading.figures import Money

PILOT = 1000
"""A quote goes by so many of the questions that have ended, drawn at random."""


def dry_run(config: RunConfig, base: Path, *, skip_bad_rows: bool, as_json: bool) -> int:
    """Prints what `collect` would do, and returns the exit code: 3 if the cap has no room for one answer. Raises an
    InputError where `collect` would."""
    refuse_terms(config)
    check_prices(config)
    prompt = prompts.load(config.prompt, base)
    tally, skipped = Tally(), Warnings("skipped: ")
    questions: Iterable[Question] = _questions(config, base, tally, skipped if skip_bad_rows else None)
    if config.reuse.public:
        questions = list(questions)
    found = foreseen(config, prompt, questions)
    skipped.close("bad rows skipped")
    ended, money, quote = _so_far(config)
    rest = found.times(max(0, found.questions - ended))
    public = None
    if isinstance(questions, list) and rest.questions:
        public = _public(config, base, questions)
    room = room_pusd(config, money)
    said = {
        "run": config.name,
        "questions": found.questions,
        "rows": tally.rows,
        "open": rest.questions,
        "answers_at_most": rest.answers,
        "usd_at_most": None if rest.pusd is None else usd(rest.pusd),
        "usd_at_most_of_one": None if found.one_pusd is None else usd(found.one_pusd),
        "cap_usd": None if config.budget.cap_usd is None else str(config.budget.cap_usd),
        "spent_usd": usd(money.spent),
        "in_doubt_usd": usd(money.in_doubt),
        "reserved_usd": usd(money.reserved),
        "at_once": found.at_once(config, room),
        "quote": quote,
        "public": None if public is None else public.as_json(),
    }
    if as_json:
        print(json.dumps(said, ensure_ascii=False))
    else:
        words = [*tally.words(), *_in_words(config, found, rest, money, quote)]
        if public is not None:
            words.append(f"{public.in_words()}; a question is not asked if the checks accept one of its answers")
        print("\n".join(words))
    return CapReached.exit_code if rest.questions and not said["at_once"] else 0


def _questions(config: RunConfig, base: Path, tally: Tally, skipped: Warnings | None) -> Iterator[Question]:
    """Yields the questions whose gold answers pass their own checks. Raises QuestionError for the others."""
    faults, page = RowFaults(), list[tuple[str, Question]]()
    rows = read_rows(
        config.questions, base, ROW_RULES, skip_bad_rows=skipped, without_gold=config.checks.without_gold,
        columns=config.questions_columns, tally=tally,
    )  # fmt: skip
    with CheckPool(unsafe_code=config.checks.unsafe_code) as pool:

        def checked() -> Iterator[Question]:
            problems = gold_problems([question for _, question in page], pool)
            for (where, question), problem in zip(page, problems, strict=True):
                if problem is None:
                    yield question
                else:
                    (skipped or faults.add)(f"{where}: answer: {problem}")
            page.clear()

        for row in rows:
            page.append(row)
            if len(page) == GOLD_PAGE:
                yield from checked()
        yield from checked()
    faults.refuse("Mend the rows, or go on without them: --skip-bad-rows.")


def _public(config: RunConfig, base: Path, questions: Sequence[Question]) -> Found:
    """Returns what the public sets have of the questions. Nothing of it is stored but the sets' indexes."""
    found = Found()
    every = ToLookUp(lambda: iter([list(enumerate(questions))]), lambda numbers: {n: questions[n] for n in numbers})
    with steps("public sets") as step:
        for _ in look_up(every, tables(config, base), config.reuse, found, step):
            pass
    return found


def _so_far(config: RunConfig) -> tuple[int, Money, dict[str, Any] | None]:
    """Returns what the store has of the run: how many questions have ended, the money, and the quote by the answers
    that there are (None: there are none)."""
    try:
        with closing(Store.open(config.store, write=False)) as store:
            if (run := store.find_run(config.name)) is None:
                return 0, Money(None, 0, 0, 0), None
            run_id = run.id
            found = quoted(config, run_id, store, store.drawn_questions(run_id, PILOT, config.name))
            statuses = store.question_statuses(run_id)
            return (
                sum(statuses.values()) - statuses.get("open", 0),
                store.money(run_id),
                found if found["pilot"]["questions"] else None,
            )
    except NoStoreYet:
        return 0, Money(None, 0, 0, 0), None


def _in_words(
    config: RunConfig, found: Foreseen, rest: Foreseen, money: Money, quote: dict[str, Any] | None
) -> Iterator[str]:
    models = (one.teacher.local or one.teacher.model or "" for one in configs(config).values())
    asked = " and ".join(one_line(model, 100) for model in models)
    ended = f", {found.questions - rest.questions:,} of them ended already" if rest.questions < found.questions else ""
    yield f"{found.questions:,} questions{ended}; prompt {config.prompt}, to {asked}: at most {rest.answers:,} answers"
    yield from costs_in_words(config, rest, money)
    if quote is not None:
        yield from quote_in_words(quote)
    elif found.pusd != 0:
        yield "likely cost: nobody knows before there are answers; `estimate` in place of `collect` asks a few"
