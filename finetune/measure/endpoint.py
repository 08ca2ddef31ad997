"""Asks an endpoint the questions of an evaluation, through harvest and as a separate winnow run.

So every paid answer is kept, bought only once, judged by the same checks as a teacher's, and bounded by a cap.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from finetune.measure.engine import Asked, Generated
from finetune.measure.sampling import Sampling
from finetune.rows.layout import LAYOUTS
from harvest.asking.hooks import Hooks
from harvest.asking.planning.keys_and_prices import take_keys
from harvest.asking.planning.preparation import prepare
from harvest.asking.planning.run import Run, Served, endpoint_of
from harvest.asking.session import ask
from harvest.asking.stopping import INTERRUPTED
from harvest.checks import CheckPool, gold_problems
from harvest.commands.progress import asking_shown, say
from harvest.core.config import Budget, Plan, RunConfig
from harvest.core.errors import ConfigError
from harvest.core.files import runs_folder, write_whole
from harvest.core.money import usd
from harvest.core.nouns import Message, Question, Reply, content_hash
from harvest.core.settings import validated
from harvest.core.teachers import Sampling as Asking
from harvest.core.teachers import Teacher, refused_extra
from harvest.endpoint import REPETITION, Prompt, cut_short, tariff_of
from harvest.store import Store, StoredRun

OF_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p")
OWN_FLAGS = {name: f"--{name.replace('_', '-')}" for name in (*OF_SAMPLING, "seed", "model")}
"""The parts of a request that have their own flag, so that `--extra` may not hold them."""
TEMPLATE_TOKENS = 64
"""A chat template writes fewer tokens than this around a message."""


@dataclass(frozen=True)
class Endpoint:
    """An engine that asks an endpoint. It knows where to ask, what to ask, and how much the answers may cost."""

    teacher: Teacher
    questions: Sequence[Question]
    """All questions of the evaluation, also those that have an answer already: they make one run with one cap."""
    prompt: Prompt
    cap_usd: Decimal | None
    store: str
    under: str | None = None
    """The run under whose cap the answers are bought, beside `cap_usd`. None: no run is named."""
    with_examples: bool = False
    """Whether the endpoint is asked with the prompt's worked examples, as a teacher is, or without them, as a student
    is."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Values that are put into the request's body unchanged."""
    reasoning_effort: str | None = None
    weights: str | None = None
    """The checksum of the student's weights, if it is known which folder the endpoint serves."""
    started: Served | None = None
    """The server that was started for this evaluation, which is asked in place of the teacher's address."""
    served: dict[str, Any] = field(default_factory=dict)
    """Who answered, as the endpoint reports it, and what was spent. Filled while the endpoint answers."""

    @property
    def model(self) -> str:
        return self.teacher.local or self.teacher.model or ""

    @property
    def about(self) -> Mapping[str, Any]:
        model, endpoint = endpoint_of(RunConfig(questions="none", teacher=self.teacher))
        more = {
            "weights": self.weights,
            "revision": self.teacher.revision,
            "extra": dict(self.extra),
            "reasoning_effort": self.reasoning_effort,
            "examples": self.with_examples,
            "headers": self.teacher.seen_headers,
        }
        return {"endpoint": endpoint, "model": model, **{k: v for k, v in more.items() if v}}

    @property
    def beside(self) -> Mapping[str, Any]:
        return {"engine": "endpoint", **self.served, "max_concurrency": self.teacher.max_concurrency}

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """Yields all answers as one batch. Each answer is on the disk as it comes, so a stopped evaluation can go on.

        After that batch it raises what ended the asking: CapReached, a refusal, or KeyboardInterrupt.
        """
        config = self._config(sampling)
        if self.started is None:
            _check_price(config)
        checked_key(self.teacher.api_key_env)
        keys = take_keys(config)
        with Store.open(config.store, say=say) as store, CheckPool() as judge:
            store.join(config.name, alone=True)
            run = prepare(config, Path(), store, lambda page: gold_problems(page, judge), under=self.under)
            store.reopen_failed(run.id)
            prompt = self.prompt if self.with_examples else _without_examples(self.prompt)
            ending = ask(replace(run, prompt=prompt, served=self.started), store, judge, keys, Hooks(say, asking_shown))
            found = list(_generated(store, run, asked))
            figures = store.figures(run.id)
        self.served.update(
            run=config.name,
            served=[{k: v for k, v in asdict(s).items() if k != "teacher"} for s in figures.served],
            spent_usd=usd(figures.money.spent),
            in_doubt_usd=usd(figures.money.in_doubt),
        )
        yield found  # after the store is closed, since the caller may write to it
        if ending.reason is not None:
            raise ending.reason
        if ending.exit_code == INTERRUPTED:
            raise KeyboardInterrupt

    def _config(self, sampling: Sampling) -> RunConfig:
        asking = {
            **{name: getattr(sampling, name) for name in OF_SAMPLING},
            "seed": sampling.seed,
            "samples": sampling.samples,
            "stop_after_accepted": sampling.samples,
            "extra": dict(self.extra),
            "reasoning_effort": self.reasoning_effort,
        }
        rows = [q.model_dump_json(exclude_none=True) for q in self.questions]
        content = {**self.about, "questions": rows, "prompt": self.prompt.sha256, "sampling": sampling.content}
        name = "eval-" + content_hash(content).removeprefix("sha256:")[:12]
        folder = runs_folder() / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(folder / "questions.jsonl", "".join(row + "\n" for row in rows))
        words = folder / f"{self.prompt.name}.md"  # a run's own prompt is no file any more
        write_whole(words, self.prompt.text)
        return RunConfig(
            name=name,
            questions=str(folder / "questions.jsonl"),
            prompt=str(words.absolute()),
            store=self.store,
            teacher=self.teacher,
            sampling=validated(Asking, asking),
            plan=Plan(order="file"),
            # Without --usd, a price that nobody knows is allowed: most endpoints here serve a student of one's own.
            budget=Budget(usd="none" if self.cap_usd is None else self.cap_usd),
        )


def cap_of(given: Decimal | None, teacher: Teacher, run: StoredRun | None) -> Decimal | None:
    """Returns the cap of an evaluation in USD; None if it has no cap.

    The cap is `given`. If none was given, it is the cap of `run`, for which the evaluation is made, provided that the
    price of the endpoint is known.
    """
    if given is not None or run is None or tariff_of(RunConfig(questions="none", teacher=teacher)) is None:
        return given
    return run.config.budget.cap_usd


def _check_price(config: RunConfig) -> None:
    """Raises ConfigError when the endpoint has a price but no cap is given.

    It also raises ConfigError when a cap is given but the price is not known.
    """
    tariff, cap, teacher = tariff_of(config), config.budget.cap_usd, config.teacher
    if teacher.local is not None:
        return
    if tariff is not None and cap is None and not tariff.at(datetime.now(UTC), 0).is_free:
        raise ConfigError(
            f"--usd: {teacher.model!r} at {teacher.base_url} is priced (by {tariff.source}), and there is no cap: give"
            " one, e.g. --usd 5.00"
        )
    if tariff is None and cap is not None:
        raise ConfigError(
            f"--price: nobody knows the price of {teacher.model!r} at {teacher.base_url}, so a cap cannot be kept: give"
            " --price IN OUT, or no --usd"
        )


def checked_key(variable: str | None) -> str | None:
    """Returns the key in this variable. Raises ConfigError when the variable is not set."""
    if variable is None:
        return None
    if not (key := os.environ.get(variable, "").strip()):
        raise ConfigError(f"--api-key-env: the variable {variable} is not set: export {variable}=…")
    return key


def likely_prompt_tokens(messages: Sequence[Message]) -> int:
    """Estimates how many tokens a prompt has, for an endpoint whose tokenizer is not known. The estimate is rather too
    high: one token for three bytes, and some for the chat template."""
    return sum(len(m["content"].encode()) // 3 + TEMPLATE_TOKENS for m in messages) + TEMPLATE_TOKENS


def teacher_at(base_url: str, model: str, settings: Mapping[str, Any]) -> Teacher:
    """Returns the endpoint at an address. `settings` are settings of [teacher]; a None in it means the default.

    Raises ConfigError when a setting is wrong.
    """
    given = {k: v for k, v in settings.items() if v is not None}
    return validated(Teacher, {"base_url": base_url, "model": model, **given}, base_url)


def teacher_of(run: StoredRun, settings: Mapping[str, Any]) -> Teacher:
    """Returns a run's teacher. Each value of `settings` that is not None replaces the teacher's value.

    Raises ConfigError when the run has no teacher, or when a setting is wrong.
    """
    if not run.has_teacher:
        raise ConfigError(f"run {run.name!r} has no teacher to ask: name the endpoint's URL and --model instead")
    given = {k: v for k, v in settings.items() if v is not None}
    return validated(Teacher, {**run.config.teacher.model_dump(exclude_unset=True), **given}, f"teacher of {run.name}")


def extra_of(text: str | None) -> dict[str, Any]:
    """Returns the JSON object of `--extra`; {} when the flag is not given.

    Raises ConfigError when the text is no JSON object, or holds a part of the request that `--extra` may not set.
    """
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as e:
        raise ConfigError(f"--extra: no JSON: {e}") from None
    if not isinstance(found, dict):
        raise ConfigError('--extra: no JSON object, e.g. \'{"chat_template_kwargs": {"enable_thinking": true}}\'')
    if (refused := refused_extra(found)) is not None:
        name, reason = refused
        raise ConfigError(f"--extra: {name}: " + (f"give {OWN_FLAGS[name]}" if name in OWN_FLAGS else reason))
    return found


def _without_examples(prompt: Prompt) -> Prompt:
    """Returns the prompt without its worked examples, as a student is asked."""
    return replace(prompt, parts=(*(p for p in prompt.parts if p[0] == "system"), prompt.parts[-1]))


def _generated(store: Store, run: Run, asked: Sequence[Asked]) -> Iterator[tuple[Asked, Generated]]:
    """Yields the answers that came. A question without an answer is left out: it does not count as wrong."""
    wanted = {(a.question.id, a.sample): a for a in asked}
    for row in store.answered_attempts(run.id, "all"):
        if (a := wanted.get((row.question.id, row.sample))) is not None:
            reply, cost = row.reply, 0 if row.reused else row.cost_pusd
            ended = cut_short(reply)
            tokens = reply.usage.output_tokens
            yield a, Generated(_text(reply), ended is None, tokens, cost, ended == REPETITION)


def _text(reply: Reply) -> str:
    """Returns chain and answer as one text, in the marks that a student writes."""
    if reply.reasoning is None:
        return reply.answer
    if not reply.answer and cut_short(reply):
        return LAYOUTS["think"].open + reply.reasoning
    return LAYOUTS["think"].write(reply.reasoning, reply.answer)
