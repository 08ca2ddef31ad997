"""Chooses the engine that answers with a student of this machine: vLLM or transformers."""

from collections.abc import Sequence

from finetune.measure.engine import LocalEngine
from finetune.measure.sampling import Sampling, fitted
from finetune.measure.vllm.command import INSTALL, gpus_gib, vllm_command
from finetune.student import find
from harvest.commands.progress import say
from harvest.core.errors import ConfigError
from harvest.core.nouns import Question
from harvest.endpoint import Prompt

VLLM, TRANSFORMERS = "vllm", "transformers"
FOR_STUDENTS_HERE = ("engine", "batch_size", "tensor_parallel", "data_parallel")
"""The settings that an endpoint or a teacher does not take."""


def chosen(engine: str | None, *, batch_size: int | None = None) -> str:
    """Returns "vllm" or "transformers" for what `--engine` names (None: auto).

    `auto` takes vLLM if it is installed, a GPU is there, and `batch_size` is None (vLLM has no such setting). Raises
    ConfigError, with the command that installs it, when vLLM is named and not there.
    """
    is_there = vllm_command() is not None
    if engine == VLLM and not is_there:
        raise ConfigError(f"--engine vllm: vLLM is not installed: {INSTALL} (docs/evaluation.md)")
    if engine in (VLLM, TRANSFORMERS):
        return engine
    has_gpu = batch_size is None and bool(gpus_gib())
    if has_gpu and not is_there:
        say(f"vLLM is not installed, and transformers is many times slower on a GPU: {INSTALL}")
    return VLLM if has_gpu and is_there else TRANSFORMERS


def vllm_engine(
    student: str,
    questions: Sequence[Question],
    prompt: Prompt,
    store: str,
    parallel: tuple[int | None, int | None] = (None, None),
    in_flight: int | None = None,
) -> LocalEngine:
    """Returns the engine that serves the student with vLLM.

    `parallel` is (how many GPUs each copy of the student gets, how many copies). None: the user gave no number.
    """
    from finetune.measure.vllm.engine import Machine, VllmEngine

    command = vllm_command()
    assert command is not None, "chosen() has looked"
    machine = Machine(command, gpus_gib(), *parallel)
    return VllmEngine(find(student), questions, prompt, machine, store, in_flight)


def fitted_to(engine: LocalEngine, sampling: Sampling, questions: Sequence[Question], prompt: Prompt) -> Sampling:
    """Returns the sampling within the student's limit of tokens. Says so if that lowers max_tokens."""
    longest = max(engine.prompt_tokens(prompt.student_messages(q)) for q in questions)
    return said(sampling, fitted(sampling, longest, engine.limit), engine.limit)


def said(wanted: Sampling, sampling: Sampling, limit: int | None) -> Sampling:
    """Says in one line that max_tokens was lowered, if it was. Returns the sampling that is used."""
    if sampling != wanted:
        say(f"max_tokens is {sampling.max_tokens:,}, not {wanted.max_tokens:,}: the model's limit is {limit:,} tokens")
    return sampling
