"""A run made ready: every setting, file and key looked at before the first request, all in one place."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harvest.asking.plan import rules_of
from harvest.asking.promise import Strata
from harvest.checks.majority import Majority
from harvest.core.clock import now
from harvest.core.config import RunConfig, configs, runs_folder, section_of, teachers_of
from harvest.core.errors import ConfigError, InputError, QuestionError, StoreUnusable
from harvest.core.files import write_whole
from harvest.core.money import pusd
from harvest.core.nouns import STUDENT, Question, content_hash
from harvest.core.teachers import Sampling, Student
from harvest.endpoint import prompt as prompts
from harvest.endpoint.price import Tariff, tariff_of
from harvest.endpoint.prompt import Prompt
from harvest.local.models import find
from harvest.questions.sources import SHOWN_FAULTS, fingerprint, read_rows
from harvest.store import Store

GOLD_PAGE = 512
QUESTIONS_READ = "questions read"
FREE_TO_CHANGE = {
    "store", "budget", "checks", "judge", "filters", "rewrite", "select", "export", "plan", "questions",
}  # fmt: skip
"""Settings that a run may go on with when they changed: the teacher sees none of them. (A question that changed
is caught by its content.)"""
FREE_OF_ONE = {
    "max_concurrency", "timeout_s", "stream", "idle_timeout_s", "stop_repeating", "price_usd_per_mtok", "terms",
    "api_key_env", "sampling.samples", "sampling.tries", "sampling.stop_after_accepted", "sampling.give_up_after",
    "sampling.when_truncated", "sampling.raised_max_tokens", "samples", "solved_after", "keep_solved", "free",
}  # fmt: skip
"""The same of each teacher, and of the student."""
OF_THE_ASKED = {"teacher", "teachers", "sampling", "endpoint", "student"}


@dataclass(frozen=True, slots=True)
class Run:
    """A run that may start: its row in the store, and what it needs to ask."""

    id: int
    config: RunConfig
    prompt: Prompt
    tariff: Tariff | None
    model: str
    """The model's name in a request."""
    endpoint: str
    """Who answers, for the key: the address, or the checksum of local weights."""
    folder: Path

    @property
    def is_free(self) -> bool:
        """Whether an answer costs nothing, for sure."""
        teacher = self.config.teacher
        return teacher.local is not None or (isinstance(teacher, Student) and teacher.free)

    @property
    def is_routed(self) -> bool:
        """Whether OpenRouter answers, which chooses a provider within `max_price`."""
        return (urlsplit(self.config.teacher.base_url or "").hostname or "").endswith("openrouter.ai")

    def key(self, body: dict[str, Any], sample: int) -> str:
        """The content of an attempt: all that the teacher sees, and which sample of it this is."""
        return content_hash(
            {"endpoint": self.endpoint, "revision": self.config.teacher.revision, "body": body, "sample": sample}
        )


def asked_alone(run: Run) -> dict[int, Run]:
    """The same run under the same cap as each of those it may ask: the student, where there is one, and the teachers,
    by their places. The student reads no worked examples, as in training."""
    found = {}
    for place, config in configs(run.config).items():
        model, endpoint = answerer_of(config)
        prompt = run.prompt.without_examples() if place == STUDENT else run.prompt
        if isinstance(config.teacher, Student):
            # Where a teacher is the same model, neither's answers are the other's. And weights change under one
            # address and one name: what an earlier student said is not this one's answer, unless weights are named.
            known = config.teacher.local is not None or config.teacher.revision
            endpoint = f"{endpoint} as {'a student' if known else f'the student of run {config.name}'}"
        tariff = tariff_of(config)
        found[place] = replace(run, config=config, prompt=prompt, tariff=tariff, model=model, endpoint=endpoint)
    return found


def judge_config(config: RunConfig) -> RunConfig | None:
    """The settings under which the judging model is asked: in the teacher's place, for one word."""
    if config.judge is None:
        return None
    sampling = Sampling(max_tokens=config.judge.max_tokens, temperature=0.0, tries=config.sampling.tries)
    return config.model_copy(update={"teacher": config.judge, "sampling": sampling})


def as_judge(run: Run) -> Run | None:
    """The same run under the same cap, as its judging model is asked."""
    config = judge_config(run.config)
    if config is None:
        return None
    model, endpoint = answerer_of(config)
    prompt = prompts.load("judge")
    return replace(run, config=config, prompt=prompt, tariff=tariff_of(config), model=model, endpoint=endpoint)


def take_keys(config: RunConfig) -> dict[str, str]:
    """The keys of all who may be asked, by the names of their variables. Raises ConfigError where one is missing."""
    keys: dict[str, str] = {}
    asked = [(section_of(config, place), one) for place, one in configs(config).items()]
    judging = judge_config(config)
    for name, one in [*asked, *([("judge", judging)] if judging is not None else [])]:
        variable = one.teacher.api_key_env
        if variable is not None and variable not in keys and (key := take_key(one, name)) is not None:
            keys[variable] = key
    return keys


def take_key(config: RunConfig, section: str = "teacher") -> str | None:
    """The key out of the environment, so that no child inherits it. Raises ConfigError where it is missing."""
    name = config.teacher.api_key_env
    if name is None:
        return None
    key = os.environ.pop(name, "").strip()
    if not key:
        if name.upper() != name:
            raise ConfigError(
                f"{section}.api_key_env: there is no such variable. Is it a key? It takes a variable's name"
            )
        raise ConfigError(f"{section}.api_key_env: the variable {name} is not set: export {name}=…")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{section}.api_key_env: the variable {name} holds something that cannot be a key")
    return key


def checked_tariff(config: RunConfig, section: str = "teacher") -> Tariff | None:
    """What the teacher, or the judging model, charges. Raises ConfigError: priced without a cap, or a cap where no
    price is known."""
    tariff, cap = tariff_of(config), config.budget.usd
    if config.teacher.local is not None:
        return tariff
    if tariff is not None and cap is None and not tariff.at(datetime.now(UTC), 0).is_free:
        raise ConfigError(
            f"budget.usd: {section} is priced (by {tariff.source}) and the run has no cap: set budget.usd,"
            ' e.g. usd = "5.00"'
        )
    if tariff is None and cap is not None:
        own = isinstance(config.teacher, Student)
        raise ConfigError(
            f"{section}.free: nobody knows what {config.teacher.model!r} at {config.teacher.base_url} costs, so a cap"
            " cannot be kept: --student.free true where it is a machine of yours, else set student.price_usd_per_mtok"
            if own
            else f"{section}.price_usd_per_mtok: nobody knows the price of {config.teacher.model!r} at"
            f" {config.teacher.base_url}, so a cap cannot be kept: set its price, or take out budget.usd"
        )
    return tariff


def answerer_of(config: RunConfig) -> tuple[str, str]:
    """(model, endpoint) as an attempt's key names them: a local model by its weights, not by its address."""
    if config.teacher.local is not None:
        from harvest.local.weights import checksum

        return find(config.teacher.local).name, f"weights:{checksum(config.teacher.local)}"
    parts = urlsplit((config.teacher.base_url or "").rstrip("/"))
    return config.teacher.model or "", f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"


def prepare(
    config: RunConfig,
    base: Path,
    store: Store,
    gold_problems: Callable[[Sequence[Question]], list[str | None]],
    skip_bad_rows: Callable[[str], None] | None = None,
) -> Run:
    """Writes the run and its questions, all or nothing. Raises an InputError before anything is asked.

    `gold_problems` says of each question what is wrong with its gold answer by its own check; it is asked of
    new questions alone. A file that this run has read without a fault is not read again until it changes.
    """
    if (judging := judge_config(config)) is not None:
        checked_tariff(judging, "judge")
    for place, one in configs(config).items():
        checked_tariff(one, section_of(config, place))
    with store.transaction():
        run, settings = put_run(config, base, store, may_change=False)
        sha256, without_gold = fingerprint(config.questions, base), config.checks.without_gold
        read = {"sha256": sha256, "without_gold": without_gold}
        if sha256 is None or read not in store.events(run.id, QUESTIONS_READ)[-1:]:
            skipped = _put_questions(config, base, store, run.id, gold_problems, skip_bad_rows)
            whole = not skipped and fingerprint(config.questions, base) == sha256
            store.add_event(run.id, QUESTIONS_READ, read if whole else {"sha256": None}, now())
        _refuse_lonely(config, store, run.id)
    try:
        run.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(run.folder / "config.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
    except OSError as e:
        raise InputError(f"{run.folder}: cannot be written: {e.strerror}; WINNOW_RUNS names another place") from None
    return run


def put_run(config: RunConfig, base: Path, store: Store, *, may_change: bool) -> tuple[Run, dict[str, Any]]:
    """(the run, its settings as they are stored). Raises ConfigError where a run of that name asked otherwise."""
    prompt = prompts.load(config.prompt, base)
    first = configs(config)[0]
    model, endpoint = answerer_of(first)
    tariff = tariff_of(first)
    settings = config.model_dump(mode="json") | {
        "prompt_sha256": prompt.sha256,
        "prompt_text": prompt.text,
        "endpoint": endpoint,
        "base": str(base.absolute()),
        "price_source": tariff.source if tariff else "none",
    }
    for place, one in configs(config).items():
        if place == STUDENT:
            settings["student"]["endpoint"] = answerer_of(one)[1]
        elif config.teachers:
            settings["teachers"][place]["endpoint"] = answerer_of(one)[1]
    before = store.config_of(config.name)
    if before is not None and before.get("imported"):
        raise ConfigError(
            f"run {config.name!r} holds imported answers, and no run mixes two: give this one another name"
        )
    if before is not None and not may_change:
        _refuse_changes(config.name, before, settings)
        if rules_of(before) != rules_of(settings):
            store.reopen_all(config.name)
    cap = None if config.budget.usd is None else pusd(config.budget.usd)
    run_id = store.put_run(config.name, settings, cap, now())
    return Run(run_id, config, prompt, tariff, model, endpoint, runs_folder() / config.name), settings


def _put_questions(
    config: RunConfig,
    base: Path,
    store: Store,
    run_id: int,
    gold_problems: Callable[[Sequence[Question]], list[str | None]],
    skip_bad_rows: Callable[[str], None] | None,
) -> int:
    """How many rows were bad, and skipped."""
    total, faults, skipped = 0, [], 0

    def skip(fault: str) -> None:
        nonlocal skipped
        skipped += 1
        if skip_bad_rows is not None:
            skip_bad_rows(fault)

    strata = Strata(store.strata(run_id))
    rows = read_rows(
        config.questions,
        base,
        skip_bad_rows=skip if skip_bad_rows else None,
        without_gold=config.checks.without_gold,
    )
    while page := list(islice(rows, GOLD_PAGE)):
        new = [q for _, q in page if not store.has_question(run_id, q.id)]
        wrong = {q.id: fault for q, fault in zip(new, gold_problems(new), strict=True) if fault}
        for where, question in page:
            if question.id not in wrong:
                store.put_question(run_id, question, strata.of(question))
                total += 1
                continue
            line = f"{where}: answer: {wrong[question.id]}"
            if skip_bad_rows is None:
                faults.append(line)
            else:
                skip(line)
    if faults:
        more = f"\n… and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        raise QuestionError("\n".join(faults[:SHOWN_FAULTS]) + more + "\nMend the rows, or pass --skip-bad-rows.")
    if not total:
        raise QuestionError(f"questions = {config.questions!r}: not one question in it")
    stored = store.question_count(run_id)
    if stored != total:
        raise StoreUnusable(
            f"run {config.name!r} asked {stored - total} questions that are no longer in {config.questions!r}: put them"
            " back, or give the run another name"
        )
    return skipped


def _refuse_lonely(config: RunConfig, store: Store, run_id: int) -> None:
    """Raises ConfigError where a question is judged by a majority of one."""
    most = sum(sampling.samples for sampling in rules_of(config).teachers)
    if most < 2 and (name := store.question_judged_by(run_id, Majority.name)) is not None:
        raise ConfigError(
            f"sampling.samples: {most}, and question {name!r} has no gold answer and is judged by"
            " what most of its answers agree on: ask 2 samples at least, better 4 or more"
        )


def _refuse_changes(name: str, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Raises ConfigError that names each setting which a teacher, or the student, would see changed.

    Teachers may come after those that are there: they see nothing of what was asked before. Where one is taken out,
    the answers that it gave would have nobody who gave them. A student may come, and may go.
    """
    changes = [
        (key, old, new)
        for key, old, new in _differences(before, after)
        if key.split(".")[0] not in FREE_TO_CHANGE | OF_THE_ASKED | {"base", "price_source", "prompt_text"}
    ]
    were, are = teachers_of(before), teachers_of(after)
    alone = len(were) == len(are) == 1
    for n, (old, new) in enumerate(zip(were, are, strict=False)):
        prefix = "teacher." if alone else f"teachers.{n}."
        for key, was, is_now in _seen_by_one(old, new):
            changes.append((key if alone and key.startswith("sampling.") else prefix + key, was, is_now))
    if len(are) < len(were):
        changes.append(("teachers", len(were), len(are)))
    if before.get("student") and after.get("student"):
        changes += [(f"student.{key}", *rest) for key, *rest in _seen_by_one(before["student"], after["student"])]
    if changes:
        lines = [f"{key}: {_short(old)} before, {_short(new)} now" for key, old, new in changes]
        raise ConfigError(
            f"run {name!r} is there already and asked something else; give this one another name, or change back:\n  "
            + "\n  ".join(lines)
        )


def _seen_by_one(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [d for d in _differences(before, after) if d[0] not in FREE_OF_ONE and d[0].split(".")[0] not in FREE_OF_ONE]


def _differences(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        else:
            found.append((prefix + key, old, new))
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else text[:77] + "…"
