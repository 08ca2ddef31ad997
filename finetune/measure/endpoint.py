"""An endpoint evaluated like a student: asked through harvest's teacher and budget, as a run of its own.

So an answer that is paid for is kept, asked once, judged by the same checks, and bounded by the same kind of cap.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune.measure.evaluate import Asked, Generated
from finetune.measure.sampling import Sampling
from finetune.rows.layout import LAYOUTS
from harvest.asking.hooks import Hooks
from harvest.asking.run import Run, answerer_of, checked_tariff, prepare, take_keys
from harvest.asking.session import INTERRUPTED, ask
from harvest.checks import CheckPool, gold_problems
from harvest.commands.progress import asking_shown, say
from harvest.core.config import Budget, Plan, RunConfig, runs_folder
from harvest.core.errors import ConfigError
from harvest.core.files import write_whole
from harvest.core.money import usd
from harvest.core.nouns import Question, Reply, content_hash
from harvest.core.teachers import Sampling as Asking
from harvest.core.teachers import Teacher
from harvest.endpoint import REPETITION, Prompt, cut_short
from harvest.store import Store

FLAGS = {
    'set budget.usd, e.g. usd = "5.00"': "give one, e.g. --usd 5.00",
    "set its price, or take out budget.usd": "give --price IN OUT, or no --usd",
    "budget.usd": "--usd",
    "teacher.price_usd_per_mtok": "--price",
    "teacher.api_key_env": "--api-key-env",
    "api_key_env is": "--api-key-env is",
    "base_url is": "the endpoint's URL is",
    "this teacher": "this endpoint",
    "and the run has no cap": "and there is no cap",
    "is a setting of its own: write it under [sampling]": "has a flag of its own",
    "write sampling.max_tokens": "give --max-tokens",
    "write teacher.model": "give --model",
    "extra.": "--extra: ",
}
"""What settings of a RUN.toml are called on this command line."""
OF_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p")


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, what, and what it may cost."""

    teacher: Teacher
    questions: Sequence[Question]
    """All of the evaluation, whatever of it is still missing: they are one run with one cap."""
    prompt: Prompt
    cap_usd: Decimal | None
    store: str
    with_examples: bool = False
    """Asked with the prompt's worked examples, as a teacher is; else as a student is."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Put into the request's body as it is."""
    reasoning_effort: str | None = None
    served: dict[str, Any] = field(default_factory=dict)
    """Filled while answering: who it was, by its own account."""

    @property
    def model(self) -> str:
        return self.teacher.local or self.teacher.model or ""

    @property
    def about(self) -> Mapping[str, Any]:
        model, endpoint = answerer_of(RunConfig(questions="none", teacher=self.teacher))
        more = {
            "revision": self.teacher.revision,
            "extra": dict(self.extra),
            "reasoning_effort": self.reasoning_effort,
            "examples": self.with_examples,
        }
        return {"endpoint": endpoint, "model": model, **{k: v for k, v in more.items() if v}}

    @property
    def beside(self) -> Mapping[str, Any]:
        return {"engine": "endpoint", **self.served, "max_concurrency": self.teacher.max_concurrency}

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """All of them as one batch: each is on the disk as it comes, so a start that is cut short goes on.

        Raises, after what came, what ended the asking: a cap reached, a refusal, Ctrl-C.
        """
        config = self._config(sampling)
        with _as_flags():
            checked_tariff(config)
            keys = take_keys(config)
        with Store.open(config.store) as store, CheckPool() as judge:
            run = prepare(config, Path(), store, lambda page: gold_problems(page, judge))
            store.reopen_failed(run.id)
            prompt = self.prompt if self.with_examples else _without_examples(self.prompt)
            ending = ask(replace(run, prompt=prompt), store, judge, keys, Hooks(say, asking_shown))
            found = list(_generated(store, run, asked))
            figures = store.figures(run.id)
        self.served.update(
            run=config.name,
            served=figures["served"],
            spent_usd=usd(figures["run"]["spent"]),
            in_doubt_usd=usd(figures["run"]["in_doubt"]),
        )
        yield found  # after the store is let go, since whoever takes them may write to it
        if ending.reason is not None:
            raise ending.reason
        if ending.exit_code == INTERRUPTED:
            raise KeyboardInterrupt

    def _config(self, sampling: Sampling) -> RunConfig:
        with _as_flags():
            asking = Asking(
                **{name: getattr(sampling, name) for name in OF_SAMPLING},
                seed=sampling.seed,
                samples=sampling.samples,
                stop_after_accepted=sampling.samples,
                extra=dict(self.extra),
                reasoning_effort=self.reasoning_effort,
            )
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
            sampling=asking,
            plan=Plan(order="file"),
            budget=Budget(usd=self.cap_usd),
        )


class _as_flags:
    """Faults of settings in the words of this command line."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            raise ConfigError(_flagged(str(first["msg"]).removeprefix("Value error, "))) from None
        if isinstance(error, ConfigError):
            raise ConfigError(_flagged(str(error))) from None


def _flagged(words: str) -> str:
    for setting, flag in FLAGS.items():
        words = words.replace(setting, flag)
    return words


def teacher_at(base_url: str, model: str | None, **settings: Any) -> Teacher:
    """An endpoint by its address, settings as they are in [teacher] where they are not None. Raises ConfigError."""
    if not model:
        raise ConfigError(f"{base_url}: --model names the model there")
    with _as_flags():
        return Teacher(base_url=base_url, model=model, **{k: v for k, v in settings.items() if v is not None})


def teacher_of(folder: Path, **settings: Any) -> tuple[Teacher, Asking]:
    """The teacher of a run by its folder, and how it is asked there, with these settings over it where they are set.

    Raises ConfigError where the run has none.
    """
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        over = {k: v for k, v in settings.items() if v is not None}
        return Teacher.model_validate({**config["teacher"], **over}), Asking.model_validate(config["sampling"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{folder / 'config.json'}: this run has no teacher to ask: name the endpoint's URL and --model instead"
        ) from None


def extra_of(text: str | None) -> dict[str, Any]:
    """`--extra` as JSON. Raises ConfigError where it is no object or holds what is a setting of its own."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as e:
        raise ConfigError(f"--extra: no JSON: {e}") from None
    if not isinstance(found, dict):
        raise ConfigError('--extra: no JSON object, e.g. \'{"chat_template_kwargs": {"enable_thinking": true}}\'')
    return found


def _without_examples(prompt: Prompt) -> Prompt:
    """Asked as a student is asked."""
    return replace(prompt, parts=(*(p for p in prompt.parts if p[0] == "system"), prompt.parts[-1]))


def _generated(store: Store, run: Run, asked: Sequence[Asked]) -> Iterator[tuple[Asked, Generated]]:
    """What came, for those that got an answer: of the others nothing is known, least of all that it was wrong."""
    wanted = {(a.question.id, a.sample): a for a in asked}
    for row in store.answered_attempts(run.id, "all"):
        if (a := wanted.get((row.question.id, row.sample))) is not None:
            reply, cost = row.reply, 0 if row.reused else row.cost_pusd
            ended = cut_short(reply)
            tokens = reply.usage.output_tokens
            yield a, Generated(_text(reply), ended is None, tokens, cost, ended == REPETITION)


def _text(reply: Reply) -> str:
    """Chain and answer as a student writes them."""
    if reply.reasoning is None:
        return reply.answer
    if not reply.answer and cut_short(reply):
        return LAYOUTS["think"].open + reply.reasoning
    return LAYOUTS["think"].write(reply.reasoning, reply.answer)
