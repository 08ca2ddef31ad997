"""A run as it asks: its settings, and the price, prompt and address of whoever is asked."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harvest.core.config import RunConfig, configs
from harvest.core.nouns import STUDENT, content_hash
from harvest.core.teachers import Sampling, Student
from harvest.endpoint import Prompt, Tariff, tariff_of
from harvest.endpoint import prompt as prompts
from harvest.local.models import find


@dataclass(frozen=True, slots=True)
class Run:
    """A run that may start, as it asks one endpoint: the first teacher, unless it was made by `runs_by_place`."""

    id: int
    """The run's row in the store."""
    config: RunConfig
    """The run's settings; `teacher` and `sampling` are those of whoever is asked."""
    prompt: Prompt
    tariff: Tariff | None
    """What the endpoint charges. None: nobody knows."""
    model: str
    """The model's name in a request."""
    endpoint: str
    """Who answers, for the key of an attempt: the address, or the checksum of local weights."""
    folder: Path

    @property
    def is_free(self) -> bool:
        """Whether an answer costs nothing for sure."""
        teacher = self.config.teacher
        return teacher.local is not None or (isinstance(teacher, Student) and teacher.free)

    @property
    def is_routed(self) -> bool:
        """Whether OpenRouter answers, which chooses a provider within `max_price`."""
        return (urlsplit(self.config.teacher.base_url or "").hostname or "").endswith("openrouter.ai")

    def key(self, body: dict[str, Any], sample: int) -> str:
        """The key of an attempt: a hash of all that the teacher sees, and of which sample of it this is."""
        return content_hash(
            {"endpoint": self.endpoint, "revision": self.config.teacher.revision, "body": body, "sample": sample}
        )


def runs_by_place(run: Run) -> dict[int, Run]:
    """The run as it asks each of those it may ask, by their places: the student, where there is one, then the teachers.

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


def judging_settings(config: RunConfig) -> RunConfig | None:
    """The run's settings with the judging model in the teacher's place, asked for one word. None: it has none."""
    if config.judge is None:
        return None
    sampling = Sampling(max_tokens=config.judge.max_tokens, temperature=0.0, tries=config.sampling.tries)
    return config.model_copy(update={"teacher": config.judge, "sampling": sampling})


def judging_run(run: Run) -> Run | None:
    """The run as it asks its judging model, under the same cap. None: it has none."""
    config = judging_settings(run.config)
    if config is None:
        return None
    model, endpoint = endpoint_of(config)
    prompt = prompts.load("judge")
    return replace(run, config=config, prompt=prompt, tariff=tariff_of(config), model=model, endpoint=endpoint)


def endpoint_of(config: RunConfig) -> tuple[str, str]:
    """(model, endpoint) as an attempt's key names them: a local model by its weights, not by its address."""
    if config.teacher.local is not None:
        from harvest.local.weights import checksum

        return find(config.teacher.local).name, f"weights:{checksum(config.teacher.local)}"
    parts = urlsplit((config.teacher.base_url or "").rstrip("/"))
    return config.teacher.model or "", f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"
