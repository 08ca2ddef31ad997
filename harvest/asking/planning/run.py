"""Holds a run as it asks: its settings, and the price, prompt and address of the endpoint that is asked."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from harvest.core.config import RunConfig, configs
from harvest.core.nouns import STUDENT, Kind, content_hash
from harvest.core.teachers import JudgeModel, RewriteModel, Sampling, Student
from harvest.endpoint import Prompt, Tariff, tariff_of
from harvest.endpoint import prompt as prompts
from harvest.local.models import find

LEARNED = "learned"
"""The kind of the store's events that hold what a session or doctor found out about how an endpoint is asked."""


@dataclass(frozen=True, slots=True)
class Served:
    """Says where a server listens that was started for one run, and which key it takes. Both are new at each start, so
    no attempt's key holds them: the run's `base_url` names what is served, by its checksum."""

    base_url: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Run:
    """Holds a run that may start, with what it needs to ask one endpoint: the first teacher, unless `runs_by_place` or
    `runs_about` made it."""

    id: int
    """The run's row in the store."""
    config: RunConfig
    """The run's settings. Their `teacher` and `sampling` are those of the endpoint that is asked."""
    prompt: Prompt
    tariff: Tariff | None
    """What the endpoint charges. None: nobody knows."""
    model: str
    """The model's name in a request."""
    endpoint: str
    """Names who answers, for the key of an attempt: the endpoint's address, or the checksum of local weights."""
    folder: Path
    base: Path | None = None
    """The folder of RUN.toml. A prompt of the user's is relative to it."""
    served: Served | None = None
    """Where the requests go in place of the teacher's `base_url`, if a server was started for this run."""

    @property
    def is_free(self) -> bool:
        """Whether an answer surely costs nothing."""
        teacher = self.config.teacher
        if teacher.local is not None or self.served is not None:
            return True
        return isinstance(teacher, Student) and teacher.free

    @property
    def is_routed(self) -> bool:
        """Whether the endpoint is OpenRouter, which chooses a provider within `max_price`."""
        return (urlsplit(self.config.teacher.base_url or "").hostname or "") == "openrouter.ai"

    def key(self, body: dict[str, Any], sample: int) -> str:
        """Returns the key of an attempt: a hash of everything that the endpoint sees, and of the sample's number."""
        teacher = self.config.teacher
        headers = {"headers": teacher.seen_headers} if teacher.seen_headers else {}
        return content_hash(
            {"endpoint": self.endpoint, "revision": teacher.revision, "body": body, "sample": sample} | headers
        )


def runs_by_place(run: Run) -> dict[int, Run]:
    """Maps STUDENT (if there is one) and the index of each teacher to the run with what it needs to ask this one.

    All are under the same cap. The student reads no worked examples, as in training.
    """
    found = {}
    for place, config in configs(run.config).items():
        model, endpoint = endpoint_of(config)
        prompt = run.prompt.without_examples() if place == STUDENT else run.prompt
        if isinstance(config.teacher, Student):
            # Where a teacher is the same model, neither's answers are the other's. And weights change under one
            # address and one name: what an earlier student said is not this one's answer, unless weights are named.
            known = config.teacher.local is not None or config.teacher.revision
            endpoint = f"{endpoint} as {'a student' if known else f'the student of run {config.name}'}"
        tariff = tariff_of(config)
        found[place] = replace(run, config=config, prompt=prompt, tariff=tariff, model=model, endpoint=endpoint)
    return found


def in_mode(run: Run, mode: Literal["live", "batch"]) -> Run:
    """Returns the run as it asks its endpoint in this mode, at the price of that, whatever its settings say."""
    teacher = run.config.teacher.model_copy(update={"mode": mode})
    config = run.config.model_copy(update={"teacher": teacher})
    return replace(run, config=config, tariff=tariff_of(config))


def doctors_name(name: str) -> str:
    """Returns the name of the run that holds what doctor asked for the run `name`."""
    return f"{name[:90]}-doctor"


ABOUT: dict[Kind, str] = {"judge": "judge", "rewriter": "rewrite.model"}
"""The kinds of attempts about an answer, and the section of RUN.toml with the settings of the model that is asked."""


def asked_about(config: RunConfig) -> dict[Kind, RunConfig]:
    """Returns the run's settings with the judging model, and with the rewriting model, in the teacher's place. A model
    that the run does not have is left out."""
    models: dict[Kind, JudgeModel | RewriteModel | None] = {"judge": config.judge, "rewriter": config.rewrite.model}
    found = {}
    for kind, model in models.items():
        if model is not None:
            sampling = Sampling(max_tokens=model.max_tokens, temperature=0.0, tries=config.sampling.tries)
            found[kind] = config.model_copy(update={"teacher": model, "sampling": sampling})
    return found


def runs_about(run: Run) -> dict[Kind, Run]:
    """Returns the run of the judging model and that of the rewriting model, if the run has these models.

    Each is `run` with the model in the teacher's place: with the model's prompt, prices and endpoint, but under the
    same cap.
    """
    found = {}
    for kind, config in asked_about(run.config).items():
        model, endpoint = endpoint_of(config)
        rewrites = config.teacher.prompt if isinstance(config.teacher, RewriteModel) else None
        prompt = prompts.load(rewrites or "judge", run.base)
        found[kind] = replace(
            run, config=config, prompt=prompt, tariff=tariff_of(config), model=model, endpoint=endpoint
        )
    return found


def endpoint_of(config: RunConfig) -> tuple[str, str]:
    """Returns (the model's name, the endpoint) as an attempt's key names them. A local model is named by the checksum
    of its weights, not by an address."""
    if config.teacher.local is not None:
        from harvest.local.weights import checksum

        return find(config.teacher.local).name, f"weights:{checksum(config.teacher.local)}"
    parts = urlsplit((config.teacher.base_url or "").rstrip("/"))
    return config.teacher.model or "", f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"
