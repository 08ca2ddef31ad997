"""Answers questions with a student that vLLM serves, through harvest, as any other endpoint is asked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.cost.answering import IN_FLIGHT, Spread, spread_of
from finetune.measure.endpoint import Endpoint
from finetune.measure.engine import Asked, Generated
from finetune.measure.sampling import Sampling
from finetune.measure.vllm.command import NAME, serve_arguments, serving_of, vllm_version
from finetune.measure.vllm.server import VllmServer
from finetune.rows.render import prompt_ids
from finetune.rows.template import THINKING, end_token, template_read
from finetune.student import Student, count_parameters, identity, limit_of, load_tokenizer, sizes, text_sizes
from harvest.asking.planning.run import Served
from harvest.commands.progress import say
from harvest.core.errors import TeacherUnavailable, WinnowError
from harvest.core.files import runs_folder, write_whole
from harvest.core.nouns import Message, Question, content_hash
from harvest.core.teachers import Teacher
from harvest.endpoint import Prompt

SPARE_TOKENS = 16
"""The context is so much longer than the longest prompt and its answer."""
ANSWER_S = 43_200
OUTAGE_S = 5


@dataclass(frozen=True, slots=True)
class Machine:
    """What vLLM runs on: its command, the memory of each GPU in GiB, and how the user spreads the model over them."""

    command: Sequence[str]
    gpus_gib: Sequence[float]
    tensor_parallel: int | None = None
    data_parallel: int | None = None


class VllmEngine:
    """An engine that answers with a student on this machine, in bfloat16, served by vLLM while the answers come."""

    def __init__(
        self,
        student: Student,
        questions: Sequence[Question],
        prompt: Prompt,
        machine: Machine,
        store: str,
        in_flight: int | None = None,
    ) -> None:
        self.model = student.name
        self._questions, self._prompt, self._store = questions, prompt, store
        self._machine = machine
        self._serving = serving_of(student)
        self._tokenizer = load_tokenizer(student)
        config = text_sizes(sizes(student))
        self.limit = limit_of(config)
        heads = int(config.get("num_attention_heads") or 1)
        self._spread = spread_of(
            count_parameters(student) if machine.gpus_gib else 0,
            heads,
            machine.gpus_gib,
            machine.tensor_parallel,
            machine.data_parallel,
        )
        self._in_flight = in_flight or IN_FLIGHT * self._spread.data
        self.about: Mapping[str, Any] = {
            "weights": identity(student),
            "tokenizer": content_hash([self._tokenizer.chat_template, self._tokenizer.get_vocab()]),
            "engine": f"vllm {vllm_version(machine.command)}",
            "precision": "bfloat16",
        }
        self._served: dict[str, Any] = {}

    @property
    def beside(self) -> Mapping[str, Any]:
        spread = {"tensor_parallel": self._spread.tensor, "data_parallel": self._spread.data}
        return {"engine": "vllm", "gpus_gib": list(self._machine.gpus_gib), **spread, **self._served}

    def prompt_tokens(self, messages: Sequence[Message]) -> int:
        return len(prompt_ids(messages, self._tokenizer))

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """Starts vLLM, yields all answers as one batch, and ends vLLM. Each answer is on the disk as it comes.

        Raises TeacherUnavailable when vLLM does not start, or ends; else what `Endpoint.answers` raises.
        """
        name = content_hash(self.about).removeprefix("sha256:")[:16]
        place = runs_folder() / ".vllm" / name
        with VllmServer(self._command(place, asked, sampling), place / "server.log", say) as server:
            say(f"vLLM serves {self.model} ({_spread_in_words(self._spread)})")
            endpoint = Endpoint(
                teacher=Teacher(
                    base_url=f"http://{name}.invalid/v1",  # the weights' name: the address is another at each start
                    model=NAME,
                    max_concurrency=self._in_flight,
                    timeout_s=ANSWER_S,
                    outage_wait_s=OUTAGE_S,
                ),
                questions=self._questions,
                prompt=self._prompt,
                cap_usd=None,
                store=self._store,
                extra={
                    "skip_special_tokens": False,  # a student's marks may be such tokens
                    "chat_template_kwargs": THINKING,
                    # vLLM knows the end tokens of the base alone, and the student may have learnt another.
                    "stop_token_ids": [end_token(self._tokenizer)],
                },
                started=Served(server.base_url, server.key),
                served=self._served,
            )
            try:
                yield from endpoint.answers(asked, sampling)
            except WinnowError:
                if (why := server.died()) is not None:
                    raise TeacherUnavailable(f"{why}; what it answered is kept") from None
                raise

    def _command(self, place: Path, asked: Sequence[Asked], sampling: Sampling) -> list[str]:
        """Returns the words that start the server. Its template is written to a file: it is read as in training."""
        place.mkdir(parents=True, exist_ok=True)
        write_whole(template := place / "chat_template.jinja", template_read(self._tokenizer))
        longest = max(self.prompt_tokens(a.messages) for a in asked)
        context = longest + sampling.max_tokens + SPARE_TOKENS
        words = serve_arguments(self._serving, template, min(context, self.limit or context), self._spread)
        return [*self._machine.command, *words]


def _spread_in_words(spread: Spread) -> str:
    copies = f"{spread.data} copies" if spread.data > 1 else "one copy"
    return f"{copies}, each over {spread.tensor} GPUs" if spread.tensor > 1 else copies
