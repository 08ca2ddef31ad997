"""Holds the models of RUN.toml, which are frozen: they say what may be set and what each setting means.

Field docstrings are the reference: `python -m harvest collect -h` and docs/configuration.md print them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from harvest.core.errors import ConfigError
from harvest.core.files import RUN_NAME, package_folder
from harvest.core.nouns import STUDENT, Question
from harvest.core.printable import one_line
from harvest.core.settings import OneRow, Section, override, read_toml, validated
from harvest.core.teachers import (
    INHERITED,
    NOT_THE_STUDENTS,
    SEEN_BY_NOBODY,
    Count,
    JudgeModel,
    OneTeacher,
    RewriteModel,
    Sampling,
    Student,
    Teacher,
)
from harvest.core.withdrawable import WITHDRAWABLE

DEFAULT_STORE = "sqlite:///data/winnow.db"


class Plan(Section):
    """Which question is asked next, and which teacher is asked."""

    teachers: Literal["cascade", "all"] = "cascade"
    """Which of several teachers is asked. `cascade`: the first teacher is asked every question. Each further teacher is
    asked only the questions that the teachers before it failed (their answers were wrong, cut short or refused). `all`:
    every teacher is asked every question."""
    order: Literal["auto", "file", "promising"] = "auto"
    """Which question is asked next. `file`: in the order of the file, each question until it has ended. `promising`:
    the question that is expected to bring the most accepted traces for a dollar; questions that got a wrong answer come
    after those that were not asked yet. `auto`: as `file`, but as `promising` once the cap will not be enough for all
    questions."""


class Budget(Section):
    """How much money the run may spend."""

    usd: Annotated[Decimal, Field(gt=0, lt=1_000_000, allow_inf_nan=False, max_digits=18)] | Literal["none"] | None = (
        None
    )
    """The cap: the most that this run may be billed, in USD. Optional for a local teacher, which costs nothing. `none`
    asks a remote teacher whose price nobody knows, without a cap and at a cost that stays unknown. If it is a server of
    your own, set `teacher.price_usd_per_mtok` to { input = "0", output = "0" } in its place."""

    @property
    def cap_usd(self) -> Decimal | None:
        """Returns the cap in USD; None if the run has no cap."""
        return None if self.usd == "none" else self.usd


class Reuse(Section):
    """Answers that others have published: a question that one of them answers right is not asked. docs/public.md."""

    public: tuple[str, ...] = ()
    """The public sets in which questions are looked up before they are asked: a set that winnow knows by its name on
    the hub ("open-thoughts/OpenThoughts3-1.2M"), the same with its files ("open-r1/OpenR1-Math-220k=data/openr1/"),
    `hub:owner/name?…`, or files alone (a path, a folder, or a pattern with *), relative to this file."""
    licences: tuple[str, ...] = ()
    """Takes only answers under one of these licences, e.g. ["apache-2.0", "mit"]; "unknown" stands for answers whose
    licence nobody states. Empty: any licence that is stated."""
    teachers: tuple[str, ...] = ()
    """Takes only answers that one of these models wrote, e.g. ["QwQ-32B", "DeepSeek-R1"]; "unknown" stands for answers
    whose model nobody states. Empty: whoever wrote them."""
    per_question: Count = 4
    """At most so many public answers to one question are taken and judged."""


class Checks(Section):
    """What makes an attempt accepted."""

    require: tuple[
        Literal["correct", "format", "refusal", "language", "repetition", "meta", "leaked_gold", "no_chain"], ...
    ] = ("correct",)
    """The verdicts that an attempt needs to be accepted: "correct", and filters by name. An answer that such a filter
    refuses is rejected, and another sample may be asked. If a filter is set only under [filters], an answer that it
    refuses stays accepted but is not trained on."""
    without_gold: Literal["refuse", "majority"] = "refuse"
    """What happens with rows without a gold answer. `refuse`: they are bad rows. `majority`: an answer is right when it
    agrees with most of the `sampling.samples` answers to its question."""
    majority: Annotated[Decimal, Field(ge=Decimal("0.5"), lt=1, allow_inf_nan=False, max_digits=18)] = Decimal("0.5")
    """The answers that agree are a majority if they are more than this share of the finished answers. A decimal
    string."""
    without_chain: Literal["stop", "keep"] = "stop"
    """What happens when the prompt takes the chain from the endpoint, but the endpoint kept back the chains of 20
    answers and sent no chain at all. `stop`: the run stops with exit code 4. `keep`: the run goes on, and its traces
    are answers without chains."""
    unsafe_code: bool = False
    """Run the teacher's programs without isolation: as you, with access to your files. Each verdict says so."""

    @model_validator(mode="after")
    def _correct_and_each_once(self) -> "Checks":
        if "correct" not in self.require or len(set(self.require)) < len(self.require):
            raise ValueError('require has "correct" in it, and each name once (all answers: export --which all)')
        return self


class Filters(Section):
    """Filters that keep accepted answers out of the training. docs/filters.md shows what each one refuses and what it
    keeps."""

    format: bool = True
    """Refuse answers that do not fit the training format: there is no answer, the text holds tags of a layout or of a
    chat template, the final box or the fenced program that was asked for is missing, or two boxes hold different
    answers."""
    refusal: bool = True
    """Refuse answers in which the teacher declines to answer ("I can't help with that")."""
    language: Literal[
        False, "question",
        "ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "hu", "id", "it", "ja",
        "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "vi", "zh",
    ] = "question"  # fmt: skip
    """Refuse chains and answers that are written, in whole or in part, in another language than the question's
    ("question") or than the language named here. false turns the filter off."""
    repetition: bool = True
    """Refuse chains and answers that repeat themselves, at their end or before it."""
    meta: bool = True
    """Refuse chains and answers that talk about a reference answer, a hidden hint, a system message, a grader, or about
    being a language model."""
    leaked_gold: bool = True
    """Refuse answers where the question or the prompt already told the gold answer."""
    no_chain: bool = False
    """Refuse answers without a chain."""
    short_chain: Annotated[int, Field(ge=0, le=100_000_000, strict=True)] = 0
    """Refuse chains of fewer tokens than this. The endpoint's count is used if there is one, else 3.8 characters count
    as one token. 0 turns the filter off."""
    long_chain: Annotated[int, Field(ge=0, le=100_000_000, strict=True)] = 0
    """Refuse chains of more tokens than this, counted as for `short_chain`. 0 turns the filter off."""

    @model_validator(mode="after")
    def _some_length_is_left(self) -> "Filters":
        if self.long_chain and self.short_chain > self.long_chain:
            raise ValueError(f"short_chain ({self.short_chain}) is above long_chain ({self.long_chain}): no chain fits")
        return self


class Rewrite(Section):
    """How answers are brought into the training format, by rules and by a model that change no number:
    docs/filters.md."""

    on: bool = False
    """Rewrites answers before the filters see them. The check judges each rewritten answer again. An answer that fails
    stays as it came. Both texts are kept."""
    model: RewriteModel | None = None


class Select(Section):
    """Which accepted traces are trained on, after the filters: docs/selection.md has an example of each setting."""

    preset: str | None = None
    """Takes the settings of recipes/select-<name>.toml ("sky-t1", "s1", "openthoughts"), or of a file of your own by
    its path, relative to the working directory. Settings written beside it take precedence."""
    without: tuple[Annotated[str, Field(pattern=rf"^({'|'.join(WITHDRAWABLE)})=")], ...] = ()
    """Leaves out what was withdrawn: "source=gsm8k", and in the same way a licence, teacher, provider, public (the name
    of a public set), question, attempt or response. "question=@ids.txt" names every id in a file, one a line, relative
    to RUN.toml."""
    pool: Literal["accepted", "all"] = "accepted"
    """`accepted` selects from the accepted answers, `all` from all answers that ended by themselves, right or wrong."""
    exact: bool = True
    """If several answers to a question differ only in case and spaces, keeps one of them."""
    near: bool = True
    """Keeps one of several answers that are nearly the same, if their questions have the same numbers."""
    near_similarity: Annotated[Decimal, Field(ge=Decimal("0.4"), le=1, max_digits=18)] = Decimal("0.6")
    """Two traces are near-duplicates if both contain at least this share of all the sequences of three words that occur
    in one or both of them."""
    near_questions: bool = False
    """If several questions ask the same in other words, another order or another frame, keeps only the answers to the
    first. Questions with other numbers or another gold answer are different."""
    against_columns: dict[str, str] = Field(default_factory=dict)
    """The columns of the rows of `against` that hold our fields under other names, as in `questions_columns`."""
    against: tuple[str, ...] = ()
    """The evaluations (files, relative to RUN.toml, or built-in sources). Traces whose question one of them asks are
    left out."""
    per_question: Count | None = None
    """Keeps at most this many answers to a question. The same question under several ids counts as one."""
    prefer: Literal["first", "shortest", "longest", "random", "rsr", "surprisal"] = "first"
    """Which of several duplicates, or of several answers to a question, is kept. `rsr` and `surprisal`: the one with
    the lowest Rank-Surprisal Ratio, or the lowest surprisal, by the scores of `student`."""
    difficulty: tuple[str, ...] = ()
    """Keeps only questions whose field `difficulty` is one of these, whatever the case. Empty: all questions."""
    min_failed: Annotated[Decimal, Field(ge=0, le=1, max_digits=18)] | None = None
    """Keeps only questions where at least this share of the answers was wrong. The student's answers count if it was
    asked, else the teachers'. A question without a judged answer is left out."""
    balance: Literal["none", "domains"] = "none"
    """How traces are drawn when `traces` or `tokens` limits the selection. `none`: each draw chooses among all traces.
    `domains`: each draw first chooses a domain, all with the same chance, then a trace of that domain."""
    favour: Literal["random", "longer", "rsr", "surprisal"] = "random"
    """With `traces` or `tokens`, "random" gives all traces the same chance to be drawn. "longer" gives the longest
    trace a chance of about a half, the next longest a quarter, and so on. "rsr" and "surprisal" take the traces with
    the lowest Rank-Surprisal Ratio, or the lowest surprisal, by the scores of `student`."""
    student: str | None = None
    """The student whose scores count for `surprisal_most`, and for "rsr" and "surprisal": the name under which `python
    -m finetune score RUN --student NAME` stored them. A trace without a score is left out then."""
    surprisal_most: Annotated[Decimal, Field(gt=0, le=1000, max_digits=18)] | None = None
    """Leaves out traces that surprise `student` more than this: their mean negative log-probability, in nats a
    token."""
    long_tokens: Count | None = None
    """The chains and answers with this many tokens or more are long. Of these, at most one is kept for each
    `short_per_long` shorter ones."""
    short_per_long: Count = 4
    """How many short traces there must be for each long one, if `long_tokens` says which ones are long. Students of
    three billion weights or fewer learn best from about four (arXiv 2502.12143)."""
    traces: Count | None = None
    """Selects at most this many traces."""
    tokens: Annotated[int, Field(ge=1, lt=2**62, strict=True)] | None = None
    """Selects traces until their chains and answers fill this many tokens. The endpoint's count is used if there is
    one, else 3.8 characters count as one token."""
    seed: Annotated[int, Field(ge=0, lt=2**62, strict=True)] = 0
    """The seed of every random choice in selection. The same answers, settings and seed give the same selection."""

    @property
    def takes_scores(self) -> bool:
        """Whether a setting needs the scores of a student."""
        return self.surprisal_most is not None or bool({self.prefer, self.favour} & {"rsr", "surprisal"})

    @model_validator(mode="after")
    def _by_whose_scores(self) -> "Select":
        if self.takes_scores and self.student is None:
            raise ValueError(
                'surprisal_most, "rsr" and "surprisal" need `student`: the name under which `python -m finetune score'
                " RUN --student NAME` stored its scores"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _over_its_preset(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or not isinstance(name := data.get("preset"), str):
            return data
        return {**_preset(name), **data}


def _preset(name: str) -> dict[str, Any]:
    """Returns the settings of the preset that is called `name`. Raises ValueError when there is no such preset."""
    named = re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) is not None
    path = package_folder("recipes") / f"select-{name}.toml" if named else Path(name)
    if not path.is_file():
        there = ", ".join(sorted(p.stem.removeprefix("select-") for p in path.parent.glob("select-*.toml")))
        raise ValueError(f"preset {name!r}: there is none; there are {there or 'none here'}")
    try:
        data = read_toml(path)
    except ConfigError as e:
        raise ValueError(f"preset {e}") from None
    if "preset" in data:
        raise ValueError(f"preset {path}: names a preset itself")
    return data


class Export(Section):
    """How collect, import and verify write the dataset, and `harvest export` if no flag says otherwise."""

    layout: Literal["messages", "trl", "prompt-completion", "axolotl", "sharegpt", "llama-factory"] = "messages"
    """The program that will train on the dataset. docs/export.md shows a row of each layout."""
    format: Literal["jsonl", "parquet"] = "jsonl"
    """Writes JSON lines or Parquet."""
    which: Literal["selected", "accepted", "all"] = "selected"
    """`selected` writes the selected traces. `accepted` writes all accepted answers. `all` writes every whole answer,
    right or wrong: the columns `accepted` and `reason` say which."""
    reasoning: Literal["inline", "apart", "none"] = "inline"
    """`inline` writes the chain into the content, between marks. `apart` writes it into a field of its own beside the
    content. `none` leaves it out."""
    reasoning_field: Literal["reasoning_content", "thinking", "reasoning"] = "reasoning_content"
    """The name of the chain's field if reasoning = "apart". Choose the one that the student's chat template reads
    (gpt-oss: thinking)."""
    marks: Literal["think", "sky-t1"] = "think"
    """The marks around a chain in the content."""
    columns: Literal["all", "training"] = "all"
    """`all` writes the training part of each trace and all else that is known of the trace, `training` the training
    part alone."""
    shard_mb: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 500
    """About how many megabytes a file may have. A larger dataset is split into several files."""

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
    """The run's name, which is also the name of its folder, data/runs/<name>/. Without it the run is named after the
    file."""
    questions: str | tuple[str, ...]
    """Where the questions come from: a file, a built-in source such as "reasoning-gym:chain_sum?n=200&seed=1", a
    dataset of the hub ("hub:owner/name?config=…&split=…&revision=…&n=…&seed=…&column=value"), or a list of them."""
    questions_columns: dict[str, str] = Field(default_factory=dict)
    """The columns of the questions' rows that hold our fields under other names, e.g. { question = "instruction",
    answer = "output" }. A row that has the field itself, and not the column, keeps its own."""
    prompt: str = "boxed"
    """The prompt: the name of a built-in prompt (prompts/<name>.md), or the path of your own, relative to this file."""
    store: str = DEFAULT_STORE
    """The database that keeps everything: sqlite:///path, relative to the working directory, or sqlite:////path,
    absolute; or postgresql://user@host/database, which several processes may share (docs/many-machines.md)."""
    teacher: Teacher
    teachers: Annotated[tuple[OneTeacher, ...], OneRow()] = ()
    """Several teachers, in the order in which they are asked: write a [[teachers]] section for each, in place of
    [teacher]. Each has the settings of [teacher] and, under [teachers.sampling], the settings of [sampling] that differ
    for it. `teacher` is then the first of them."""
    sampling: Sampling = Sampling()
    plan: Plan = Plan()
    student: Student | None = None
    budget: Budget = Budget()
    reuse: Reuse = Reuse()
    checks: Checks = Checks()
    judge: JudgeModel | None = None
    filters: Filters = Filters()
    rewrite: Rewrite = Rewrite()
    select: Select = Select()
    export: Export = Export()

    @model_validator(mode="before")
    @classmethod
    def _one_or_several(cls, data: Any) -> Any:
        """Completes the sampling of the student and of each of several teachers with the settings of [sampling], and
        sets `teacher` to the first teacher."""
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
    def _continues_live_alone(self) -> "RunConfig":
        for teacher in self.teachers or (self.teacher,):
            sampling = teacher.sampling if isinstance(teacher, OneTeacher) else self.sampling
            if teacher.mode == "batch" and sampling.when_truncated == "continue":
                raise ValueError(
                    'sampling.when_truncated = "continue" beside teacher.mode = "batch": cut answers are gone on with'
                    ' live alone; take "raise" or "give_up"'
                )
        return self

    @model_validator(mode="after")
    def _reuses_for_the_first(self) -> "RunConfig":
        if self.reuse.public and self.plan.teachers == "all":
            raise ValueError(
                'reuse.public beside plan.teachers = "all": every teacher is asked every question then, whatever is'
                " public; take one of the two out"
            )
        return self

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
    def _known_fields(self) -> "RunConfig":
        for field in self.questions_columns.keys() - Question.model_fields.keys():
            close = get_close_matches(field, Question.model_fields, 1)
            there = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(Question.model_fields)}"
            raise ValueError(f"questions_columns.{field}: a question has no such field: {there}")
        return self

    @model_validator(mode="after")
    def _name(self) -> "RunConfig":
        if self.name and not RUN_NAME.fullmatch(self.name):
            raise ValueError(
                f"name {self.name!r}: letters, digits, dots, dashes and underscores alone (it names a folder)"
            )
        return self


def _what_it_sees(teacher: OneTeacher, limit: int) -> str:
    """Returns everything that a teacher sees, as one text. Two teachers with the same text give the same attempts."""
    sampled = teacher.sampling.model_dump(mode="json", exclude=SEEN_BY_NOBODY) | {"max_tokens": limit}
    address = urlsplit((teacher.base_url or "").rstrip("/"))
    seen = [teacher.local, address.netloc.lower(), address.path, teacher.model, teacher.revision, teacher.seen_headers]
    return json.dumps([*seen, sampled])


def _over(base: Any, section: Mapping[str, Any]) -> Any:
    """Returns [sampling] (`base`) with the settings of the section's own `sampling` put over it."""
    own = section.get("sampling", {})
    return dict(base) | dict(own) if isinstance(base, Mapping) and isinstance(own, Mapping) else own


def load(path: Path, overrides: Sequence[tuple[str, str]] = ()) -> RunConfig:
    """Reads RUN.toml, puts the pairs (setting, text) of `overrides` over it, and returns the settings.

    Raises ConfigError with a line for each fault.
    """
    data = read_toml(path)
    override(RunConfig, data, overrides)
    data.setdefault("name", re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "run")
    return validated(RunConfig, data, str(path))


def configs(config: RunConfig) -> dict[int, RunConfig]:
    """Maps the index of the student and of each teacher to the settings of a run that asks only this one.

    The indices are STUDENT, 0, 1, …, in the order of asking. `teacher` and `sampling` of the returned settings are
    those of the student or teacher.
    """
    asked: dict[int, Student | OneTeacher] = {} if config.student is None else {STUDENT: config.student}
    asked.update(enumerate(config.teachers))
    alone = {n: config.model_copy(update={"teacher": who, "sampling": who.sampling}) for n, who in asked.items()}
    return alone if config.teachers else alone | {0: config}


def section_of(config: RunConfig, place: int) -> str:
    """Returns the name of RUN.toml's section on the teacher with this index, or on the student."""
    return "student" if place == STUDENT else f"teachers.{place}" if config.teachers else "teacher"


def called(config: RunConfig, place: int) -> str:
    """Names the teacher with this index, or the student, on one printable line, whatever the model's name holds."""
    if place != STUDENT and not config.teachers:
        return "the teacher"
    teacher = configs(config)[place].teacher
    who = "the student" if place == STUDENT else f"teacher {place + 1} of {len(config.teachers)}"
    return f"{who} ({one_line(teacher.local or teacher.model or '', 100)})"


def teachers_of(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the teachers in the stored settings of a run, each with its own `sampling` and `endpoint`."""
    if several := settings.get("teachers"):
        return list(several)
    if "teacher" not in settings:  # a run that nothing was asked for
        return []
    return [settings["teacher"] | {"sampling": settings["sampling"], "endpoint": settings.get("endpoint")}]
