"""Holds the settings of the teachers, the student and the judging model, and of how their answers are sampled."""

import json
import re
import shlex
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from harvest.core.foreign_json import as_dict, as_list
from harvest.core.settings import OneRow, Section

Usd = Annotated[Decimal, Field(ge=0, lt=1_000_000, allow_inf_nan=False, max_digits=18)]
Count = Annotated[int, Field(ge=1, le=100_000_000, strict=True)]
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63 - 2**32, strict=True)]


VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
FROM_ENVIRONMENT = "env:"
OUR_HEADERS = frozenset({
    "host", "connection", "content-type", "content-length", "content-encoding", "transfer-encoding", "accept-encoding",
    "accept", "expect", "te", "upgrade", "trailer", "keep-alive", "proxy-authorization", "proxy-connection",
})  # fmt: skip
SECRET_HEADER = re.compile(r"auth|key|token|secret|password|cookie|credential|signature", re.I)
"""A header with one of these words in its name may hold a secret."""


class PriceSetting(Section):
    """Prices in USD for a million tokens, as decimal strings."""

    input: Usd
    """The price of a million input tokens."""
    cached_input: Usd | None = None
    """The price of a million input tokens that the endpoint had cached. Without it they cost as much as `input`."""
    cache_write: Usd | None = None
    """The price of a million input tokens that the endpoint writes to its cache. Without it they cost as much as
    `input`."""
    output: Usd
    """The price of a million output tokens, reasoning included."""


LOCAL_SLOTS = 4
"""How many questions an embedded teacher answers at once."""


class Teacher(Section):
    """The teacher: an OpenAI-compatible endpoint, or a model that is served on this machine."""

    local: str | None = None
    """The name of an embedded model (harvest/local/models.py has the table), which is served on this machine. It takes
    the place of base_url and model."""
    base_url: str | None = None
    """The endpoint's address without /chat/completions, e.g. https://api.example.com/v1. A list of addresses names a
    fleet: replicas of one model, e.g. of vLLM, which are asked as one teacher (docs/fleet.md). The first address names
    the teacher in a run and must stay the first. Others may be added and taken out later."""
    replicas: tuple[str, ...] = ()
    """The addresses after the first one, if you would rather write them apart from base_url."""
    model: str | None = None
    """The model's name at the endpoint."""
    revision: str = ""
    """A name for the model's revision, of your choice. Change it when the provider puts another model behind the same
    name: answers of the old one are then not used for the new one."""
    api_key_env: str | None = None
    """The name of the environment variable that holds the key. A key itself is refused."""
    api_key_command: str = ""
    """A command that prints the key, in place of api_key_env. It is run without a shell, and run again when the
    endpoint refuses the key."""
    headers: Annotated[dict[str, str], OneRow()] = Field(default_factory=dict)
    """More headers of each request. A value "env:NAME" is taken from the environment variable NAME. The value of a
    header with a key or a token must be of this form."""
    azure_api_version: str = ""
    """The API version of a classic resource of Azure OpenAI, e.g. "2024-10-21". base_url is then the resource's address
    (https://NAME.openai.azure.com), and model is the deployment."""
    thinking_tokens: Annotated[int, Field(ge=0, le=100_000_000, strict=True)] = 0
    """The most tokens of a chain. Set it only if the endpoint does not count the chain under max_tokens. Money for
    these tokens is reserved in addition."""
    max_concurrency: Annotated[int, Field(ge=1, le=100_000)] = 256
    """The most requests in flight at once. The right number, up to this, is found while the run goes on. An embedded
    model is asked four times at once at most."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 600
    """How many seconds a whole answer may take, from the first byte sent to the last byte received. An answer
    that came too late is asked for once more, with twice the time. If it is late again, it is not asked for until
    timeout_s is raised."""
    outage_wait_s: Annotated[float, Field(ge=0, le=604_800)] = 45
    """How many seconds an endpoint that is down is waited for, before the run stops with exit code 4. At most 8 paid
    requests probe it meanwhile. In a longer wait, e.g. of a run overnight, `GET /models` is asked too, which costs
    nothing."""
    stream: bool = False
    """Ask for the answer as a stream of events, not as one body: the part that has come is kept when a connection
    breaks."""
    idle_timeout_s: Annotated[float, Field(ge=0, le=86_400)] = 300
    """With `stream`: a connection counts as dead after this many seconds without a byte, not even a keep-alive. Leave
    time for a queue at the endpoint, and for models that hide their chain and send nothing while they think. 0 turns
    this off."""
    stop_repeating: bool = True
    """With `stream`: break off an answer that has run into a loop (the same words four times over, 6,000 characters
    long). The answer is rejected as `repetition`, and its worst case stays in doubt, since nobody says what it cost."""
    mode: Literal["live", "batch"] = "live"
    """`live`: each answer is one request. `batch`: many requests go to the endpoint in one file. They are answered
    within a day at the batch price, which is half of the live price at most providers (docs/batch.md)."""
    batch_discount: Annotated[Decimal, Field(ge=0, lt=1, allow_inf_nan=False, max_digits=18)] = Decimal(0)
    """The share that a batch takes off the price, if no table knows the batch price: "0.5" is half. A decimal
    string."""
    batch_rows: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 50_000
    """The most rows in one batch. It has fewer where the endpoint allows fewer, or where the cap has no room for the
    worst case of all of them."""
    batch_poll_s: Annotated[float, Field(gt=0, le=86_400)] = 30
    """How many seconds pass before batches are looked at again."""
    price_usd_per_mtok: Annotated[PriceSetting | None, OneRow()] = None
    """What the endpoint charges, in USD for a million tokens: { input = "0.50", output = "2.00" }, and if you like
    cached_input and cache_write. Without it the price is what the endpoint says, else a known price, else unknown."""
    terms: str | None = None
    """What the provider's terms say of training with its answers, as you read them. For a teacher, what you write here
    is copied into each of its traces. Without this setting, the terms are looked up in data/teacher_terms.toml by the
    endpoint's host name. If that table says that the terms forbid training, the run is refused unless this setting
    begins with "accepted:" and says why you may train anyway. The terms of the student and of the judging model are
    not looked at, since nothing is trained on their answers."""

    @model_validator(mode="before")
    @classmethod
    def _several_addresses(cls, given: Any) -> Any:
        addresses = as_dict(given).get("base_url")
        if not isinstance(addresses, list | tuple):
            return given
        if given.get("replicas"):
            raise ValueError("has a list as `base_url`, and `replicas`: keep one")
        return {**given, "base_url": next(iter(addresses), None), "replicas": tuple(addresses[1:])}

    @model_validator(mode="after")
    def _one_kind(self) -> "Teacher":
        if self.local is not None and (self.base_url or self.model):
            raise ValueError("has both `local` and `base_url`/`model`: keep one")
        if self.local is None and not (self.base_url and self.model):
            raise ValueError("needs either `local`, or `base_url` and `model`")
        for address in self.addresses:
            if not _is_address(address):
                raise ValueError(
                    "base_url is no http(s) address, or has a ? or # in it: https://host/v1, without a query"
                )
            if "@" in address.split("/")[2]:
                raise ValueError(
                    "base_url holds a user or a password: put the key in a variable and name it in api_key_env"
                )
        if len({address.rstrip("/") for address in self.addresses}) < len(self.addresses):
            raise ValueError("base_url has an address twice")
        if self.replicas and not self.base_url:
            raise ValueError("has `replicas` and no `base_url`: write all addresses as base_url")
        if self.api_key_env and not VARIABLE.fullmatch(self.api_key_env):
            raise ValueError("api_key_env is the name of an environment variable, not a key")
        if self.api_key_env and self.api_key_command:
            raise ValueError("has both `api_key_env` and `api_key_command`: keep one")
        if self.azure_api_version and urlsplit(self.base_url or "").path.rstrip("/").endswith("/v1"):
            raise ValueError("base_url ends in /v1, which takes no azure_api_version: keep one (docs/endpoints.md)")
        if self.mode == "batch" and self.local is not None:
            raise ValueError('mode = "batch" is for an endpoint, not for `local`')
        if self.mode == "batch" and self.stream:
            raise ValueError('mode = "batch" brings no stream: leave `stream` out')
        if self.mode == "batch" and self.replicas:
            raise ValueError('mode = "batch" is for one endpoint: write one base_url, or mode = "live"')
        if self.local is not None and (self.headers or self.api_key_command or self.azure_api_version):
            raise ValueError("headers, api_key_command and azure_api_version are for an endpoint, not for `local`")
        return self

    @field_validator("api_key_command")
    @classmethod
    def _runs(cls, command: str) -> str:
        try:
            words = shlex.split(command)
        except ValueError:
            raise ValueError("has a quotation mark without its pair") from None
        if command and (not words or words[0] in ("echo", "printf")):
            raise ValueError("a key is never written into a file: name a command that gets it, or use api_key_env")
        return command

    @field_validator("headers")
    @classmethod
    def _may_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise ValueError("one of the names is none that a header can have")
            if name.lower() in OUR_HEADERS:
                raise ValueError(f"{name}: winnow writes this header itself")
            if value.startswith(FROM_ENVIRONMENT):
                if not VARIABLE.fullmatch(value.removeprefix(FROM_ENVIRONMENT)):
                    raise ValueError(f"{name}: what follows env: is no name of an environment variable")
            elif SECRET_HEADER.search(name):
                raise ValueError(f'{name}: a key is never written into a file: write "env:NAME", and export NAME')
            elif not value.isascii() or not value.isprintable():
                raise ValueError(f"{name}: its value has a character that no header can hold")
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("has a name twice: upper and lower case are the same")
        return headers

    @property
    def addresses(self) -> tuple[str, ...]:
        """Returns the addresses that are asked, the one that names the teacher first. Empty for `local`."""
        return (self.base_url, *self.replicas) if self.base_url else ()

    @property
    def most_at_once(self) -> int:
        """Returns the most requests in flight at once. More than an embedded model answers at once would only wait
        there, while their timeout_s runs out."""
        return min(self.max_concurrency, LOCAL_SLOTS) if self.local else self.max_concurrency

    @property
    def seen_headers(self) -> dict[str, str]:
        """Returns the headers that are part of an attempt's key: all but those whose values are secret."""
        return {k.lower(): v for k, v in self.headers.items() if not v.startswith(FROM_ENVIRONMENT)}


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_server and not {"?", "#", " "} & set(text)


_SET_HERE = "is a setting of its own: write it under [sampling]"
_OURS = "is winnow's own part of a request: the worst case of an answer is reckoned from it"
_SEVERAL = "asks for several answers in one request, beyond the worst case of one: write sampling.samples"
_LIMIT = "is another name of max_tokens, from which the worst case is reckoned: write sampling.max_tokens"
_ROUTED = "lets another model answer, at another price than the one that is reserved: write [[teachers]]"
_SEARCH = "searches the web, and each search is billed beside the tokens: winnow has no price for it"
_MODES = "asks for more than text, whose tokens have prices of their own: winnow has no price for them"
_PLUGINS = "runs programs of the provider's, each billed beside the tokens: winnow has no price for them"
_LATER = "brings the answer later, by another request, and this one would be paid for nothing"
_PREDICTED = "bills predicted tokens that are not taken beside max_tokens: the worst case would be too low"
_TOOLS = 'takes tools of the type "function" alone: others are run by the provider and billed beside the tokens'
NOT_EXTRA = {
    **dict.fromkeys(
        ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "reasoning_effort", "top_logprobs"), _SET_HERE
    ),
    **dict.fromkeys(("messages", "stream_options"), _OURS),
    **dict.fromkeys(("n", "best_of", "num_return_sequences", "num_completions", "num_generations"), _SEVERAL),
    **dict.fromkeys(("candidate_count", "candidateCount", "use_beam_search", "num_beams"), _SEVERAL),
    **dict.fromkeys(("max_output_tokens", "maxOutputTokens", "max_new_tokens", "max_tokens_to_sample"), _LIMIT),
    **dict.fromkeys(("num_predict", "n_predict", "max_gen_toks", "max_length"), _LIMIT),
    **dict.fromkeys(("models", "fallbacks", "fallback_models", "route"), _ROUTED),
    **dict.fromkeys(("web_search_options", "web_search", "enable_web_search", "enable_search"), _SEARCH),
    **dict.fromkeys(("search_options", "search_parameters"), _SEARCH),
    **dict.fromkeys(("modalities", "audio", "image_config"), _MODES),
    **dict.fromkeys(("deferred", "background"), _LATER),
    "plugins": _PLUGINS,
    "prediction": _PREDICTED,
    "extra_body": "is a word of openai's client, not of a request: write its content under sampling.extra",
    "max_completion_tokens": "write sampling.max_tokens: the name is learned from the endpoint",
    "logprobs": "write sampling.top_logprobs",
    "model": "write teacher.model",
    "stream": "write teacher.stream",
}
"""Names that are forbidden in `sampling.extra`, each with the reason. Sources: the API references of OpenAI, OpenRouter
(models, route, plugins), LiteLLM (fallbacks), DashScope (enable_search), xAI (search_parameters, deferred), Perplexity
(web_search_options), Gemini (candidateCount), vLLM and llama.cpp, read in November 2026."""


def refused_extra(extra: Mapping[str, Any]) -> tuple[str, str] | None:
    """Returns (name, reason) of the first part of `extra` that must not be sent; None if all of it may be."""
    for name, value in extra.items():
        if name in NOT_EXTRA:
            return name, NOT_EXTRA[name]
        if name == "tools" and not all(as_dict(tool).get("type") == "function" for tool in as_list(value)):
            return name, _TOOLS
    return None


class Sampling(Section):
    """How answers are sampled. top_p, top_k, min_p, seed and reasoning_effort are sent only where they are set."""

    max_tokens: Count = 16384
    """The most output tokens of one answer, reasoning included. The worst case of an answer is computed from it."""
    temperature: Annotated[float, Field(ge=0, le=10)] | None = 0.7
    """The sampling temperature: 0 always takes the likeliest token."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Nucleus sampling: sample from the likeliest tokens that together have this probability."""
    top_k: Count | None = None
    """Sample only from the k likeliest tokens."""
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """Sample only from tokens whose probability is at least this share of the likeliest token's."""
    seed: Int64 | None = None
    """The seed. Sample n is sent seed + n, so that samples differ and a run can be repeated."""
    reasoning_effort: str | None = None
    """How much the model is to think, in the endpoint's words, e.g. low, medium, high."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Any other fields of the request's body, which are sent as they are."""
    samples: Count = 1
    """The most answers for one question. A try that failed or is in doubt does not count as an answer: the same sample
    is asked for again."""
    tries: Count = 5
    """The most tries for one answer each time the run is started. Refusals for asking too fast are not counted."""
    stop_after_accepted: Count = 1
    """A question is no longer asked once it has this many accepted answers."""
    give_up_after: Count | None = None
    """A question is given up once this many of its answers were found wrong. Without it, all of `samples` are asked."""
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    """Ask for and store the log-probabilities of this many likeliest tokens, if the endpoint gives them."""
    when_truncated: Literal["give_up", "raise", "continue"] = "give_up"
    """What happens when an answer is cut at max_tokens. It is never asked for again with the same limit. `give_up`: the
    question is given up. `raise`: it is asked once more, with the limit raised_max_tokens. `continue`: only the rest of
    the answer is asked for, with raised_max_tokens as the limit of the whole answer. If the endpoint cannot go on from
    the cut text, the question is given up."""
    raised_max_tokens: Count | None = None
    """The limit of the whole answer after it was cut, with when_truncated = "raise" or "continue". Without it, twice
    max_tokens."""

    @property
    def raised_limit(self) -> int:
        """Returns the token limit with which a truncated answer is asked for once more; 0: it is not asked for
        again."""
        return 0 if self.when_truncated == "give_up" else self.raised_max_tokens or 2 * self.max_tokens

    @model_validator(mode="after")
    def _extra_is_extra(self) -> "Sampling":
        if (refused := refused_extra(self.extra)) is not None:
            raise ValueError("extra.{}: {}".format(*refused))
        try:
            json.dumps(self.extra, allow_nan=False)
        except (TypeError, ValueError):
            raise ValueError("extra holds something that JSON has not (a date, NaN)") from None
        for part, value in as_dict(as_dict(self.extra.get("provider")).get("max_price")).items():
            try:
                TypeAdapter(Usd).validate_python(value)
            except ValidationError:
                raise ValueError(f"extra.provider.max_price.{part}: not an amount in USD") from None
        return self


SEEN_BY_NOBODY = {
    "samples", "tries", "stop_after_accepted", "give_up_after", "when_truncated", "raised_max_tokens",
}  # fmt: skip
"""The settings of [sampling] that are not sent in any request."""


class OneTeacher(Teacher):
    """One of several teachers, with its own price, key and limits."""

    sampling: Annotated[Sampling, OneRow("[sampling]")] = Sampling()
    """The settings of [sampling] that differ for this teacher, under [teachers.sampling]."""


class AskedLive(Teacher):
    """One who is never asked in batches: the settings about batches do not exist there."""

    mode: ClassVar[Literal["live"]] = "live"  # type: ignore[misc]
    batch_discount: ClassVar[Decimal] = Decimal(0)  # type: ignore[misc]
    batch_rows: ClassVar[int] = 0  # type: ignore[misc]
    batch_poll_s: ClassVar[float] = 0  # type: ignore[misc]

    @model_validator(mode="before")
    @classmethod
    def _not_in_batches(cls, given: Any) -> Any:
        if as_dict(given).get("mode") == "batch":
            raise ValueError('mode = "batch" is for teachers alone: leave `mode` out')
        return given


class Student(AskedLive):
    """The student, which is asked first, so that teachers are asked only what it cannot do. Its answers never become
    traces."""

    samples: Count = 1
    """The most answers that the student gives to one question."""
    solved_after: Count = 1
    """If the student gives this many right answers, it counts as able to do the question, and no teacher is asked."""
    keep_solved: Annotated[Decimal, Field(ge=0, le=1, allow_inf_nan=False, max_digits=18)] = Decimal(0)
    """The share of the questions that teachers are asked although the student can do them. A decimal string."""
    free: bool = False
    """The student costs nothing, since it is served on a machine of yours. Otherwise its price must be set or known."""
    sampling: Annotated[Sampling, OneRow("[sampling]")] = Sampling()
    """The settings of [sampling] that differ for the student, under [student.sampling]. It takes max_tokens,
    temperature, top_p, top_k, min_p, seed and tries from [sampling], and no others."""

    @model_validator(mode="after")
    def _can_be_solved(self) -> "Student":
        if self.solved_after > self.samples:
            raise ValueError(f"solved_after = {self.solved_after} is more than samples = {self.samples}")
        if self.free and self.price_usd_per_mtok is not None:
            raise ValueError("has both `free` and a price: keep one")
        return self


INHERITED = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "tries")
"""The student takes these settings from [sampling]. It does not take `extra` and `reasoning_effort`, which are meant
for the teacher's endpoint."""
NOT_THE_STUDENTS = {
    "samples": "write student.samples", "stop_after_accepted": "write student.solved_after",
    "give_up_after": "student.samples bounds its tries", "when_truncated": "a student is not asked again",
    "raised_max_tokens": "a student is not asked again",
}  # fmt: skip


class JudgeModel(AskedLive):
    """A model that is asked about answers which the checks refused or could not read. Without [judge] none is asked."""

    max_tokens: Count = 1024
    """The most output tokens of one opinion, reasoning included. The opinion itself is one word."""
    about: tuple[Literal["wrong", "no_answer", "timeout", "error"], ...] = ("wrong", "no_answer", "timeout", "error")
    """The model is asked about answers to which a check gave one of these verdicts."""


class RewriteModel(AskedLive):
    """A model that brings answers into the training format where the rules cannot. Without [rewrite.model] none is
    asked."""

    prompt: str = "rewrite"
    """The prompt that the model reads: a built-in prompt (prompts/<name>.md), or the path of your own, relative to
    RUN.toml. It may hold {question}, {text}, {layout}, {form} and {mark}."""
    max_tokens: Count = 16384
    """The most output tokens of one rewriting. An answer that is longer is not sent to the model."""
    about: tuple[Literal["no_answer", "format", "no_chain", "accepted"], ...] = ("no_answer", "format")
    """Which answers the model rewrites. `no_answer`: those in which the check found no answer. `format`: right ones
    that the filter `format` refuses. `no_chain`: right ones whose chain is not apart from the answer. `accepted`: all
    right ones. If `rewrite.on`, the rules come first: `format` and `no_chain` then mean the text that the rules made.
    Wrong answers are never rewritten."""
