"""RUN.toml as frozen models: what may be set, and what it means.

Field docstrings are the reference: `python -m harvest collect -h` and docs/configuration.md print them.
"""

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from harvest.core.settings import OneRow, Section, override, read_toml, validated

PACKAGE = Path(__file__).resolve().parents[1]
DEFAULT_STORE = "sqlite:///data/winnow.db"
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""It names a folder too."""
Usd = Annotated[Decimal, Field(ge=0, lt=1_000_000, allow_inf_nan=False, max_digits=18)]
Count = Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63 - 2**32, strict=True)]


class PriceSetting(Section):
    """USD for a million tokens, as decimal strings."""

    input: Usd
    """For a million input tokens."""
    cached_input: Usd | None = None
    """For a million input tokens that the endpoint had cached; the same as `input` where it is not given."""
    output: Usd
    """For a million output tokens, the reasoning among them."""


class Teacher(Section):
    """Who answers: an OpenAI-compatible endpoint, or the embedded local model."""

    local: str | None = None
    """A model of the table in harvest/local/models.py, served on this machine. In place of base_url and model."""
    base_url: str | None = None
    """The endpoint up to and without /chat/completions, e.g. https://api.example.com/v1."""
    model: str | None = None
    """The model's name there."""
    revision: str = ""
    """Part of an attempt's key. Set it anew when the provider moves the name to another model."""
    api_key_env: str | None = None
    """The environment variable that holds the key. A key itself is refused."""
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 256
    """A ceiling for requests in flight; the right number below it is found while running."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600
    """For the whole answer, from the first byte sent to the last byte received."""
    stream: bool = False
    """Ask for a stream of events rather than one body: what has come is kept when a connection breaks."""
    idle_timeout_s: Annotated[float, Field(ge=0, le=86_400)] = 300
    """With `stream`: a connection on which nothing came for so long, not even a keep-alive, is dead. Leave room for a
    queue at the endpoint, and for models that hide their chain and are silent while they think. 0 turns it off."""
    stop_repeating: bool = True
    """With `stream`: an answer that has run into a loop (the same words four times over and 6,000 characters long) is
    broken off. It is rejected as `repetition` and, since nobody says what it cost, in doubt at its worst case."""
    price_usd_per_mtok: Annotated[PriceSetting | None, OneRow()] = None
    """Optional: else what the endpoint says, else known prices, else unpriced."""
    terms: str | None = None
    """The provider's terms on training with its answers, as you read them; copied into every trace."""

    @model_validator(mode="after")
    def _one_kind(self) -> "Teacher":
        if self.local is not None and (self.base_url or self.model):
            raise ValueError("has both `local` and `base_url`/`model`: keep one")
        if self.local is None and not (self.base_url and self.model):
            raise ValueError("needs either `local`, or `base_url` and `model`")
        if self.base_url and not _is_address(self.base_url):
            raise ValueError("base_url is no http(s) address, or has a ? or # in it: https://host/v1, without a query")
        if self.base_url and "@" in self.base_url.split("/")[2]:
            raise ValueError(
                "base_url holds a user or a password: put the key in a variable and name it in api_key_env"
            )
        if self.api_key_env and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.api_key_env):
            raise ValueError("api_key_env is the name of an environment variable, not a key")
        return self


def _max_price(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """OpenRouter's `provider.max_price`, where it is set."""
    provider = extra.get("provider")
    found = provider.get("max_price") if isinstance(provider, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _is_price(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return False
    return amount.is_finite() and 0 <= amount < 1_000_000


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
            and not {"?", "#", " "} & set(text)
        )
    except ValueError:
        return False


_SET_HERE = "is a setting of its own: write it under [sampling]"
_OURS = "is winnow's own part of a request: the worst case of an answer is reckoned from it"
NOT_EXTRA = {
    **dict.fromkeys(
        ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "reasoning_effort", "top_logprobs"), _SET_HERE
    ),
    **dict.fromkeys(("messages", "n", "best_of", "stream_options", "max_output_tokens"), _OURS),
    "max_completion_tokens": "write sampling.max_tokens: the name is learned from the endpoint",
    "logprobs": "write sampling.top_logprobs",
    "model": "write teacher.model",
    "stream": "write teacher.stream",
}
"""What `sampling.extra` may not hold."""


class Sampling(Section):
    """What is asked for. top_p, top_k, min_p, seed and reasoning_effort are sent only where set."""

    max_tokens: Count = 16384
    """Most output tokens of one answer, reasoning included. What bounds an answer's worst case."""
    temperature: Annotated[float, Field(ge=0, le=10)] | None = 0.7
    """Sampling temperature."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling."""
    top_k: Count | None = None
    """Only the k likeliest tokens."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Only tokens at least this share as likely as the likeliest."""
    seed: Int64 | None = None
    """Sample n is sent seed + n, so that samples differ and a run can be repeated."""
    reasoning_effort: str | None = None
    """E.g. low, medium, high."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Anything else, put into the request body as it is."""
    samples: Count = 1
    """Most answers for one question. A failed or in-doubt try is none: it is tried again under the same key."""
    tries: Count = 5
    """Most tries for one answer in one start. Refusals for asking too fast are not counted."""
    stop_after_accepted: Count = 1
    """No more attempts for a question once so many are accepted."""
    give_up_after: Count | None = None
    """No more attempts for a question once so many of its answers were found wrong; all of `samples` if not given."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    """Store the teacher's top-k log-probabilities where the endpoint gives them."""
    when_truncated: Literal["give_up", "raise"] = "give_up"
    """An answer cut at max_tokens is never asked again with the same limit: give the question up, or raise
    the limit once to raised_max_tokens."""
    raised_max_tokens: Count | None = None
    """The limit of the one further attempt under when_truncated = "raise"; twice max_tokens if not given."""

    @property
    def raised_limit(self) -> int:
        """Under which a truncated answer is asked for once more; 0 where it is not."""
        return 0 if self.when_truncated == "give_up" else self.raised_max_tokens or 2 * self.max_tokens

    @model_validator(mode="after")
    def _extra_is_extra(self) -> "Sampling":
        for name in self.extra:
            if name in NOT_EXTRA:
                raise ValueError(f"extra.{name}: {NOT_EXTRA[name]}")
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("extra holds something that JSON has not (a date, NaN)") from None
        for part, value in _max_price(self.extra).items():
            if not _is_price(value):
                raise ValueError(f"extra.provider.max_price.{part}: not an amount in USD")
        return self


SEEN_BY_NOBODY = {
    "samples", "tries", "stop_after_accepted", "give_up_after", "when_truncated", "raised_max_tokens",
}  # fmt: skip
"""Settings of [sampling] that are in no request."""


class OneTeacher(Teacher):
    """One of several, each with its own price, key and limits."""

    sampling: Annotated[Sampling, OneRow("[sampling]")] = Sampling()
    """What differs from [sampling] for this teacher, under [teachers.sampling]."""


class Student(Teacher):
    """The student, asked first: the teachers are asked only what it could not do. Its answers never become traces."""

    samples: Count = 1
    """Most tries of one question."""
    solved_after: Count = 1
    """So many right answers say that it can do the question."""
    keep_solved: Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False, max_digits=18)] = Decimal(0)
    """The share of the questions that it solves which the teachers are asked all the same, as a decimal string."""
    free: bool = False
    """It costs nothing: it is served on a machine of yours. Else its price is what is set or known."""
    sampling: Annotated[Sampling, OneRow("[sampling]")] = Sampling()
    """What differs for the student, under [student.sampling]. From [sampling] it has max_tokens, temperature, top_p,
    top_k, min_p, seed and tries."""

    @model_validator(mode="after")
    def _can_be_solved(self) -> "Student":
        if self.solved_after > self.samples:
            raise ValueError(f"solved_after = {self.solved_after} is more than samples = {self.samples}")
        if self.free and self.price_usd_per_mtok is not None:
            raise ValueError("has both `free` and a price: keep one")
        return self


INHERITED = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "tries")
"""What the student has from [sampling]: `extra` and `reasoning_effort` are words of the teacher's endpoint."""
NOT_THE_STUDENTS = {
    "samples": "write student.samples", "stop_after_accepted": "write student.solved_after",
    "give_up_after": "student.samples bounds its tries", "when_truncated": "a student is not asked again",
    "raised_max_tokens": "a student is not asked again",
}  # fmt: skip


class Plan(Section):
    """What is asked next, and of whom."""

    teachers: Literal["cascade", "all"] = "cascade"
    """With several teachers: `cascade` asks the first, and each of the others only what those before it failed (their
    answers were wrong, cut short or refused); `all` asks every one of them every question."""
    order: Literal["auto", "file", "promising"] = "auto"
    """Which question is next: `file` as they are given, each until it ends; `promising` by the accepted traces that a
    dollar is expected to bring, those with a wrong answer after fresh ones; `auto` begins with the file's order and
    goes over to `promising` where the cap will not reach all."""


class Budget(Section):
    """The cap."""

    usd: Annotated[Decimal, Field(gt=0, lt=1_000_000, allow_inf_nan=False, max_digits=18)] | None = None
    """The most that this run may be billed, in USD. Optional for a local teacher, which costs nothing."""


class Checks(Section):
    """What makes an attempt accepted."""

    require: tuple[
        Literal["correct", "format", "refusal", "language", "repetition", "meta", "leaked_gold", "no_chain"], ...
    ] = ("correct",)
    """The verdicts that an attempt needs: "correct", and filters by name. What a filter that is named here refuses is
    rejected, and another sample may be asked; under [filters] alone it is only not trained on."""
    without_gold: Literal["refuse", "majority"] = "refuse"
    """Rows without a gold answer: bad rows, or judged by what most of their `sampling.samples` answers agree on."""
    majority: Annotated[Decimal, Field(ge=Decimal("0.5"), lt=1, allow_inf_nan=False, max_digits=18)] = Decimal("0.5")
    """Of a majority: more than this share of the finished answers must agree, as a decimal string."""
    unsafe_code: bool = False
    """Runs programs that the teacher wrote without isolation, as you, with your files. Each verdict says so."""

    @model_validator(mode="after")
    def _correct_and_each_once(self) -> "Checks":
        if "correct" not in self.require or len(set(self.require)) < len(self.require):
            raise ValueError('require has "correct" in it, and each name once (all answers: export --which all)')
        return self


class JudgeModel(Teacher):
    """A model that is asked about answers which the checks refused or could not read: off where it is not set."""

    max_tokens: Count = 1024
    """Most output tokens of one opinion, reasoning included. It answers with one word."""
    about: tuple[Literal["wrong", "no_answer", "timeout", "error"], ...] = ("wrong", "no_answer", "timeout", "error")
    """The verdicts of the checks that it is asked about."""


class Filters(Section):
    """Which accepted answers are not trained on: docs/filters.md has an example of each filter, both ways."""

    format: bool = True
    """Refuses what does not fit the training format: no answer, tags of a layout or of a chat template in the text, no
    final box or fenced program where one was asked for, two answers in boxes apart."""
    refusal: bool = True
    """Refuses answers that refuse ("I can't help with that")."""
    language: Literal[
        False,
        "question",
        "ar",
        "cs",
        "da",
        "de",
        "el",
        "en",
        "es",
        "fi",
        "fr",
        "he",
        "hi",
        "hu",
        "id",
        "it",
        "ja",
        "ko",
        "nl",
        "no",
        "pl",
        "pt",
        "ro",
        "ru",
        "sv",
        "th",
        "tr",
        "vi",
        "zh",
    ] = "question"
    """Refuses chains and answers that are in another language than the question ("question"), or than the one named
    here, or that slip into another. false turns it off."""
    repetition: bool = True
    """Refuses chains and answers that repeat themselves, at the end or before."""
    meta: bool = True
    """Refuses talk about a reference answer, a hidden hint, a system message, a grader, or being a language model."""
    leaked_gold: bool = True
    """Refuses answers to a question, or under a prompt, that told the gold answer."""
    no_chain: bool = False
    """Refuses answers without a chain."""
    short_chain: Annotated[int, Field(ge=0, le=100_000_000, strict=True)] = 0
    """Refuses chains of fewer tokens than this, by the endpoint's count, else about 3.8 characters to one. 0: off."""
    long_chain: Annotated[int, Field(ge=0, le=100_000_000, strict=True)] = 0
    """Refuses chains of more tokens than this, counted in the same way. 0: off."""

    @model_validator(mode="after")
    def _some_length_is_left(self) -> "Filters":
        if self.long_chain and self.short_chain > self.long_chain:
            raise ValueError(f"short_chain ({self.short_chain}) is above long_chain ({self.long_chain}): no chain fits")
        return self


class Rewrite(Section):
    """The teacher's free form brought into the training format, by rules that change no number: docs/filters.md."""

    on: bool = False
    """Rewrites answers before the filters see them. The check judges again; one that fails stays as it was. Both
    versions are kept."""


class Select(Section):
    """Which accepted traces are trained on, after the filters: docs/selection.md has an example of each setting."""

    preset: str | None = None
    """recipes/select-<name>.toml of the package ("sky-t1", "s1", "openthoughts"), or a path to your own, relative to
    the working directory. What is set beside it goes over it."""
    pool: Literal["accepted", "all"] = "accepted"
    """What is selected from: accepted answers, or all that ended by themselves, right or wrong."""
    exact: bool = True
    """Of the same answers to the same question, case and spaces apart, keeps one."""
    near: bool = True
    """Of answers that are nearly the same, to questions with the same numbers, keeps one."""
    near_similarity: Annotated[Decimal, Field(ge=Decimal("0.4"), le=1, max_digits=18)] = Decimal("0.6")
    """How much two traces share that are nearly the same: runs of three words in both, of all in either."""
    near_questions: bool = False
    """Of questions that ask the same in other words, another order or another frame, keeps the answers to the first.
    Other numbers or another gold answer make another question."""
    against: tuple[str, ...] = ()
    """Evaluations that no trace may ask a question of: files or built-in sources, relative to RUN.toml."""
    per_question: Count | None = None
    """At most so many answers to a question; to one that stands there under several ids, so many in all."""
    prefer: Literal["first", "shortest", "longest", "random"] = "first"
    """Which of several duplicates, and of several answers to a question, stays."""
    difficulty: tuple[str, ...] = ()
    """Questions of these labels alone, as their field `difficulty` has them, in any case. Empty: all."""
    min_failed: Annotated[Decimal, Field(ge=0, le=1, max_digits=18)] | None = None
    """Questions alone of whose answers at least this share was wrong: the student's answers where it was asked, else
    the teachers'. A question that nobody failed or tried is left out."""
    balance: Literal["none", "domains"] = "none"
    """With `traces` or `tokens`: draws a domain first, each as likely, then a trace in it."""
    favour: Literal["random", "longer"] = "random"
    """With `traces` or `tokens`: which trace is drawn in a domain (or of all): any, or with a chance that halves from
    the longest to the next, and so on."""
    traces: Count | None = None
    """At most so many traces."""
    tokens: Annotated[int, Field(ge=1, lt=2**62, strict=True)] | None = None
    """Traces until their chains and answers fill so many tokens, by the endpoint's count, else about 3.8 characters
    to one."""
    seed: Annotated[int, Field(ge=0, lt=2**62, strict=True)] = 0
    """Of all that is random. The same answers, settings and seed give the same selection."""

    @model_validator(mode="before")
    @classmethod
    def _over_its_preset(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(name := data.get("preset"), str):
            return data
        return {**_preset(name), **data}


def _preset(name: str) -> dict[str, Any]:
    """The settings of a preset. Raises ValueError where there is none."""
    named = re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) is not None
    path = package_folder("recipes") / f"select-{name}.toml" if named else Path(name)
    try:
        data = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError:
        there = ", ".join(sorted(p.stem.removeprefix("select-") for p in path.parent.glob("select-*.toml")))
        raise ValueError(f"preset {name!r}: there is none; there are {there or 'none here'}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ValueError(f"preset {path}: not TOML: {e}") from None
    if "preset" in data:
        raise ValueError(f"preset {path}: names a preset itself")
    return data


class Export(Section):
    """How the dataset is written: by collect, import, verify, and by `harvest export` where no flag says otherwise."""

    layout: Literal["messages", "trl", "prompt-completion", "axolotl", "sharegpt", "llama-factory"] = "messages"
    """Who trains on it: docs/export.md has a line of each."""
    format: Literal["jsonl", "parquet"] = "jsonl"
    """JSON lines, or Parquet."""
    which: Literal["selected", "accepted", "all"] = "selected"
    """Traces that the selection kept; all that passed their checks; every whole reply, with `accepted` and `reason`."""
    reasoning: Literal["inline", "apart", "none"] = "inline"
    """The chain in the content between marks; in a field of its own beside the content; or left out."""
    reasoning_field: Literal["reasoning_content", "thinking", "reasoning"] = "reasoning_content"
    """The field's name under reasoning = "apart": what the student's chat template reads (gpt-oss: thinking)."""
    marks: Literal["think", "sky-t1"] = "think"
    """The marks around a chain that stands in the content."""
    columns: Literal["all", "training"] = "all"
    """All that is known of a trace after its training part, or the training part alone."""
    shard_mb: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 500
    """Megabytes of one file, about. What fits into one is one file."""

    @model_validator(mode="after")
    def _fits(self) -> "Export":
        if self.reasoning == "apart" and self.layout in ("sharegpt", "llama-factory"):
            raise ValueError(
                f'reasoning = "apart": readers of the layout {self.layout} know no field for a chain and would drop it:'
                ' take "inline"'
            )
        if self.marks != "think" and self.reasoning != "inline":
            raise ValueError(f'marks = "{self.marks}": no marks are written under reasoning = "{self.reasoning}"')
        if self.reasoning_field != "reasoning_content" and self.reasoning != "apart":
            raise ValueError(
                f'reasoning_field = "{self.reasoning_field}": it is written under reasoning = "apart" alone'
            )
        return self


class RunConfig(Section):
    """One run: what is asked, of whom, how, and for how much."""

    name: str = ""
    """The run's name; it lives in data/runs/<name>/. The file's name where it is not given."""
    questions: str | tuple[str, ...]
    """A file, a built-in source such as "reasoning-gym:chain_sum?n=200&seed=1", or a list of them."""
    prompt: str = "boxed"
    """prompts/<name>.md of the package, or a path to your own, relative to this file."""
    store: str = DEFAULT_STORE
    """Where everything is kept, relative to the working directory: sqlite:///path, or sqlite:////absolute."""
    teacher: Teacher
    teachers: Annotated[tuple[OneTeacher, ...], OneRow()] = ()
    """[[teachers]] in place of [teacher]: several, in the order in which they are asked, each with the settings of
    [teacher] and, under [teachers.sampling], what of [sampling] differs for it. `teacher` is the first of them then."""
    sampling: Sampling = Sampling()
    plan: Plan = Plan()
    student: Student | None = None
    budget: Budget = Budget()
    checks: Checks = Checks()
    judge: JudgeModel | None = None
    filters: Filters = Filters()
    rewrite: Rewrite = Rewrite()
    select: Select = Select()
    export: Export = Export()

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, data: Any) -> Any:
        """Each of several teachers, and the student, with all of its own sampling; the first as `teacher`."""
        if not isinstance(data, Mapping):
            return data
        filled = dict(data)
        base = data.get("sampling", {})
        if (teachers := data.get("teachers")) is not None:
            if "teacher" in data:
                raise ValueError("teacher: there are [[teachers]] too: keep one of the two")
            if not isinstance(teachers, Sequence) or not teachers or not all(isinstance(t, Mapping) for t in teachers):
                raise ValueError("teachers: write a [[teachers]] section for each")
            filled["teachers"] = [{**t, "sampling": _over(base, t)} for t in teachers]
            filled["teacher"] = {k: v for k, v in teachers[0].items() if k != "sampling"}
        if isinstance(student := data.get("student"), Mapping):
            own = student.get("sampling", {})
            for name in NOT_THE_STUDENTS.keys() & (own.keys() if isinstance(own, Mapping) else ()):
                raise ValueError(f"student.sampling.{name}: {NOT_THE_STUDENTS[name]}")
            inherited = {k: v for k, v in base.items() if k in INHERITED} if isinstance(base, Mapping) else {}
            counts = {"samples": student.get("samples", 1), "stop_after_accepted": student.get("solved_after", 1)}
            merged = _over(inherited, student)
            filled["student"] = {**student, "sampling": merged | counts if isinstance(merged, dict) else merged}
        return filled

    @model_validator(mode="after")
    def _each_asks_otherwise(self) -> "RunConfig":
        asked: dict[str, int] = {}
        for n, teacher in enumerate(self.teachers):
            # Of all its limits: the raised one of one teacher may be the other's own.
            limits = {teacher.sampling.max_tokens, teacher.sampling.raised_limit or teacher.sampling.max_tokens}
            first = min(asked.setdefault(_what_it_sees(teacher, limit), n) for limit in limits)
            if first != n:
                raise ValueError(
                    f"teachers.{n}: asks the same as teachers.{first} (endpoint, model, revision and what is"
                    " sampled), so its answers would be the ones that are there: change one of them, or ask the first"
                    " for more samples"
                )
        return self

    @model_validator(mode="after")
    def _name(self) -> "RunConfig":
        if self.name and not RUN_NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r}: letters, digits, dots, dashes and underscores alone (it names a folder)"
            )
        return self


def _what_it_sees(teacher: OneTeacher, limit: int) -> str:
    """All that makes two attempts at one question the same attempt, but for the sample's number."""
    sampled = teacher.sampling.model_dump(mode="json", exclude=SEEN_BY_NOBODY) | {"max_tokens": limit}
    address = urlsplit((teacher.base_url or "").rstrip("/"))
    return json.dumps([teacher.local, address.netloc.lower(), address.path, teacher.model, teacher.revision, sampled])


def _over(base: Any, section: Mapping[str, Any]) -> Any:
    """[sampling] with what a section of its own says of it put over."""
    own = section.get("sampling", {})
    return dict(base) | dict(own) if isinstance(base, Mapping) and isinstance(own, Mapping) else own


def package_folder(name: str) -> Path:
    """`prompts`, `recipes` or `data`: inside an installed package, beside it in a checkout."""
    inside = PACKAGE / name
    return inside if inside.is_dir() else PACKAGE.parent / name


def runs_folder() -> Path:
    return Path(os.environ.get("WINNOW_RUNS", "data/runs"))


def load(path: Path, overrides: Sequence[tuple[str, str]] = ()) -> RunConfig:
    """RUN.toml with `--section.key value` put over it. Raises ConfigError with a line for each fault."""
    data = read_toml(path)
    override(RunConfig, data, overrides)
    data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "run")
    return validated(RunConfig, data, str(path))
