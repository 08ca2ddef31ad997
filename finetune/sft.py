"""Supervised training of the student on TRL, from the rendered rows to a folder that transformers loads.

What is ours: which tokens are trained, which rows share a step, the checkpoints one may trust, and when it is
finished. The rest (optimizer, schedule, accumulation, mixed precision) is TRL's SFTTrainer.
"""

import fcntl
import itertools
import json
import logging
import math
import os
import random
import shutil
import signal
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before trl: its trainers send a message when they are built

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn import functional
from torch.utils.data import Sampler
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import SaveStrategy
from trl import SFTConfig, SFTTrainer

from finetune.card import provenance
from finetune.config import Recipe, lora_keys
from finetune.dataset import Examples
from finetune.estimate import MICRO_TOKENS, SMALL_PARAMETERS, Interval, Measured
from finetune.launch import running
from finetune.progress import Progress
from finetune.render import Tokenizer, end_token, thinking_template
from finetune.student import Student, identity, load_model
from harvest.errors import ConfigError, InputError
from harvest.money import pusd, usd
from harvest.run import write_whole
from harvest.trace import content_hash

LOCK = ".lock"
STATE = "winnow.json"
"""In the output folder: what is trained there, and once it is finished, the training block."""
SAVE_EVERY_S = 300.0
CHECKPOINTS_KEPT = 2
WARM_UP_STEPS = 2
"""Steps of a calibration that do not count: kernels are chosen and caches fill."""
FREE_TO_CHANGE = {
    "logging_steps",
    "save_steps",
    "save_strategy",
    "save_total_limit",
    "report_to",
    "run_name",
    "project",
}
"""Keys of [train] that change nothing of what is learnt."""
REFUSALS = (ValueError, TypeError, ImportError, RuntimeError)
"""What TRL, transformers and PEFT raise for settings that do not suit the student or the machine."""


def sft(
    recipe: Recipe, examples: Examples, tokenizer: Tokenizer, student: Student, progress: Progress
) -> dict[str, Any]:
    """Trains, or goes on, or does nothing where it is finished; gives the training block of the report.

    Raises ConfigError for settings that don't go together, InputError where `output` holds something else, is
    being trained into or the disk is too small, KeyboardInterrupt when stopped (the same call goes on from the
    checkpoint).
    """
    output = Path(recipe.output)
    what = identity_of(recipe, examples, student)
    read_state(output, what)  # before the lock: it would be a file in a folder that is not ours
    with alone(output):
        state = read_state(output, what)
        if state.get("training"):
            drop_checkpoints(recipe, output)
            return dict(state["training"])
        if "provenance" not in state:  # now, while the data is here
            state["provenance"] = provenance(recipe)
        if "bf16" not in state:  # once for a training: a second start must not compute otherwise
            state["bf16"] = is_bf16_faster()
        config = training_config(recipe, examples, student_parameters(student), bf16=state["bf16"])
        torch.manual_seed(recipe.train.seed)
        model = load_model(student, torch.bfloat16 if recipe.method == "lora" and config.bf16 else torch.float32)
        checkpoint = newest_checkpoint(output)
        parameters = sum(p.numel() for p in model.parameters())
        check_disk(output, parameters, recipe.method, config.save_total_limit or CHECKPOINTS_KEPT)
        trainer = build_trainer(recipe, examples, tokenizer, model, config)
        progress.say(f"{output}: runs as {running(trainer)}")
        write_state(output, state)
        with Pace(output, state, progress, trainer) as pace:
            trainer.add_callback(pace)
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            if trainer.state.global_step < trainer.state.max_steps:
                raise KeyboardInterrupt
        state["layout"] = asdict(recipe.render.layout(tokenizer))
        save_student(trainer.model, tokenizer, output)
        block = training_block(recipe, examples, trainer, pace.wall_s)
        write_state(output, {**state, "wall_s": pace.wall_s, "training": block})
        drop_checkpoints(recipe, output)
    return block


def check(recipe: Recipe, examples: Examples, student: Student) -> None:
    """What `sft` refuses before its first step, as far as that can be said without the weights in memory.

    Writes nothing. Raises ConfigError, InputError.
    """
    output = Path(recipe.output)
    state = read_state(output, identity_of(recipe, examples, student))
    parameters = student_parameters(student)
    config = training_config(recipe, examples, parameters, bf16=state.get("bf16", False))
    if not state.get("training"):
        check_disk(output, parameters, recipe.method, config.save_total_limit or CHECKPOINTS_KEPT)


class StepClock(TrainerCallback):  # type: ignore[misc]
    """When each step ended, and how many tokens had gone through the student by then."""

    def __init__(self, trainer: "WinnowTrainer", progress: Progress) -> None:
        self.trainer, self.progress, self.ends = trainer, progress, list[tuple[float, int]]()

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress.begin(state.max_steps, 0)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.ends.append((time.monotonic(), self.trainer.tokens))
        self.progress.note(state.global_step, f"{self.trainer.tokens:,} tokens")

    def rates(self) -> list[float]:
        """Tokens a second of each step but the first two, which warm up."""
        later = self.ends[WARM_UP_STEPS - 1 :]
        return [(b - a) / (until - since) for (since, a), (until, b) in itertools.pairwise(later)]


def calibrate(
    recipe: Recipe, examples: Examples, tokenizer: Tokenizer, student: Student, progress: Progress, steps: int = 20
) -> Measured:
    """How fast `steps` real steps are on this machine. Nothing is kept of what they learn.

    Raises ConfigError for settings that don't go together.
    """
    with tempfile.TemporaryDirectory(prefix="winnow-calibrate-") as nowhere:
        there = recipe.model_copy(update={"output": nowhere})
        config = training_config(there, examples, student_parameters(student), bf16=is_bf16_faster())
        config.max_steps, config.save_strategy = steps + WARM_UP_STEPS, SaveStrategy.NO
        model = load_model(student, torch.bfloat16 if recipe.method == "lora" and config.bf16 else torch.float32)
        trainer = build_trainer(there, examples, tokenizer, model, config)
        clock = StepClock(trainer, progress)
        trainer.add_callback(clock)
        try:
            trainer.train()
        finally:
            progress.close()
    rates = sorted(clock.rates())
    (since, first), (until, last) = clock.ends[WARM_UP_STEPS - 1], clock.ends[-1]
    has_gpu = torch.cuda.is_available()
    return Measured(
        tokens_per_s=Interval(rates[len(rates) // 10], (last - first) / (until - since), rates[-1 - len(rates) // 10]),
        steps=steps,
        device=torch.cuda.get_device_name() if has_gpu else "cpu",
        peak_gib=torch.cuda.max_memory_allocated() / 2**30 if has_gpu else None,
    )


# ---- the trainer


class StepSampler(Sampler[int]):
    """Rows in the order of `seed` and epoch; within a step the longest first, so that little is padded.

    Which rows share a step is left to chance: it is the order within, which the gradient does not see.
    """

    def __init__(self, lengths: Sequence[int], traces_per_step: int, seed: int) -> None:
        self.lengths, self.traces_per_step, self.seed, self.epoch = lengths, traces_per_step, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.lengths)))
        # Seeded by text: the same everywhere, and no number of one epoch meets another seed's.
        random.Random(f"{self.seed}/{self.epoch}").shuffle(order)
        for at in range(0, len(order), self.traces_per_step):
            yield from sorted(order[at : at + self.traces_per_step], key=lambda i: -self.lengths[i])


class WinnowTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with our order of rows, and on a CPU a head that looks at the trained tokens alone.

    `tokens` counts what went through the student since it was built, padding left out.
    """

    sampler: StepSampler
    tokens: int = 0

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> StepSampler:
        return self.sampler

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The mean negative log-likelihood over the step's trained tokens; TRL's own off the CPU.

        There TRL scores every position in chunks, twice (again in the backward pass), with entropy and
        accuracy beside. The same loss from the trained positions alone takes a fraction of it.
        """
        self.tokens += int(inputs["attention_mask"].sum())
        if return_outputs or not self.plain_head or inputs["input_ids"].device.type != "cpu":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]
        trained = labels != -100
        backbone = self.accelerator.unwrap_model(model)
        backbone = backbone.get_base_model() if hasattr(backbone, "get_base_model") else backbone
        with self.accelerator.autocast():  # which accelerate puts around the model's own forward alone
            states = backbone.base_model(
                input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
            ).last_hidden_state[:, :-1]
            logits = backbone.get_output_embeddings()(states[trained])
        loss = functional.cross_entropy(logits.float(), labels[trained], reduction="sum")
        return loss / (trained.sum() if num_items_in_batch is None else num_items_in_batch)

    @property
    def plain_head(self) -> bool:
        """Whether the student's logits are its head times its last state, nothing more."""
        config = self.accelerator.unwrap_model(self.model).config.get_text_config()
        scales = (
            "final_logit_softcapping",
            "logit_scale",
            "output_multiplier",
            "lm_head_multiplier",
            "logits_scaling",
        )
        alone = (
            self.accelerator.num_processes == 1
            and self.args.loss_type == "nll"
            and not self.args.label_smoothing_factor
        )
        return alone and not self.aux_loss_enabled and all(getattr(config, s, None) in (None, 1) for s in scales)

    def _save_checkpoint(self, model: PreTrainedModel, trial: Any) -> None:
        # Past TRL's own, which writes a model card with every checkpoint.
        Trainer._save_checkpoint(self, model, trial)


def training_config(recipe: Recipe, examples: Examples, parameters: int, *, bf16: bool) -> SFTConfig:
    """SFTConfig of a recipe. Raises ConfigError where TRL refuses a value or the batch cannot be divided."""
    further = recipe.train.further
    for key in lora_keys(further):
        further.pop(key)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    per_step = recipe.train.traces_per_step
    longest = max(map(len, examples.examples))
    micro = further.pop("per_device_train_batch_size", None)
    if micro is None:
        most = max(1, MICRO_TOKENS[device] // longest)
        micro = max(d for d in range(1, per_step + 1) if per_step % d == 0 and d <= most)
    elif micro < 1 or per_step % micro:
        raise ConfigError(
            f"train.traces_per_step: {per_step} cannot be divided by per_device_train_batch_size = {micro}"
        )
    settings: dict[str, Any] = {
        "activation_checkpointing": parameters >= SMALL_PARAMETERS or longest > MICRO_TOKENS[device],
        "bf16": bf16,
        "logging_steps": 1,
        "save_strategy": "steps" if "save_steps" in further else "no",
        "save_total_limit": CHECKPOINTS_KEPT,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "report_to": "none",
    }
    if further.get("fp16"):
        settings["bf16"] = False
    settings |= further
    try:
        config = SFTConfig(
            **settings,
            output_dir=recipe.output,
            num_train_epochs=recipe.train.epochs,
            learning_rate=recipe.train.learning_rate,
            seed=recipe.train.seed,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=per_step // micro,
            max_length=recipe.render.max_tokens,
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=device == "cpu",
            disable_tqdm=True,
        )
    except REFUSALS as e:
        raise ConfigError(_refused(e)) from None
    if config.n_gpu > 1:  # else transformers spreads each batch over all of them, whatever `launch.strategy` says
        config._n_gpu = 1
    return config


def _refused(e: Exception) -> str:
    return f"[train]: {(str(e).strip().splitlines() or [type(e).__name__])[0]}"


def build_trainer(
    recipe: Recipe, examples: Examples, tokenizer: Tokenizer, model: PreTrainedModel, config: SFTConfig
) -> WinnowTrainer:
    """The trainer, and the proof that the rows it holds are the rows that were rendered."""
    rows = Dataset.from_dict(
        {
            "input_ids": [list(e.ids) for e in examples.examples],
            "labels": [e.labels for e in examples.examples],
        }
    )
    try:
        lora = None
        if recipe.method == "lora":
            given = {"target_modules": "all-linear", **lora_keys(recipe.train.further)}
            lora = LoraConfig(task_type="CAUSAL_LM", **given)
        trainer = WinnowTrainer(
            model=model, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=lora
        )
        trainer.get_optimizer_cls_and_kwargs(config, model)
    except REFUSALS as e:
        raise ConfigError(_refused(e)) from None
    trainer.sampler = StepSampler(list(map(len, examples.examples)), recipe.train.traces_per_step, recipe.train.seed)
    held = trainer.train_dataset
    assert len(held) == len(examples.examples)
    assert all(row["labels"] == e.labels for row, e in zip(held, examples.examples, strict=True))
    # Generation must stop where the training rows do, whatever the tokenizer calls its end token.
    trainer.model.generation_config.eos_token_id = end_token(tokenizer)
    # transformers' own printing; ours is on stderr.
    trainer.callback_handler.callbacks = [
        c for c in trainer.callback_handler.callbacks if type(c).__name__ not in ("PrinterCallback", "ProgressCallback")
    ]
    return trainer


def is_bf16_faster() -> bool:
    """Whether this machine multiplies faster in bfloat16: on a CPU measured, in under a second.

    The instruction set does not say: with AVX512-BF16 but without AMX we saw half the speed of float32 (88 for
    168 GFLOPS a core), and elsewhere half as much again. Processor time of one thread, so that a busy machine
    gives the same answer as an idle one.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    for _ in range(3):
        for dtype in seconds:
            a, b = torch.ones(512, 768, dtype=dtype), torch.ones(1024, 768, dtype=dtype)
            started = time.thread_time()
            for _ in range(12):
                functional.linear(a, b)
            seconds[dtype] = min(seconds[dtype], time.thread_time() - started)
    torch.set_num_threads(threads)
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


def student_parameters(student: Student) -> int:
    """How many weights, without loading them: of GGUF about, at a byte each; 0 where it is not here yet."""
    place = Path(student.place)
    if student.is_hub or not place.exists():
        return 0
    if place.is_file():
        return place.stat().st_size
    shapes = (t["shape"] for p in place.glob("*.safetensors") for t in _tensors(p).values())
    return sum(math.prod(shape) for shape in shapes)


class Pace(TrainerCallback):  # type: ignore[misc]
    """Watches a training: shows it, saves it in time, stops it at a step's end when a signal says so."""

    def __init__(self, output: Path, state: dict[str, Any], progress: Progress, trainer: WinnowTrainer) -> None:
        self.output, self.state, self.progress, self.trainer = output, state, progress, trainer
        self.before_s = float(state["wall_s"])
        self.started = self.saved = time.monotonic()
        self.noted = float("-inf")
        self.stop = False
        self.handlers: dict[int, Any] = {}

    @property
    def wall_s(self) -> float:
        """Of all starts together, what was lost in a kill included up to ten seconds."""
        return round(self.before_s + time.monotonic() - self.started, 1)

    def __enter__(self) -> "Pace":
        for s in (signal.SIGINT, signal.SIGTERM):
            self.handlers[s] = signal.signal(s, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for s, handler in self.handlers.items():
            signal.signal(s, handler)
        self.progress.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stop:
            raise KeyboardInterrupt
        self.stop = True
        self.progress.say("stopping at the end of this step, with a checkpoint; once more to stop at once")

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.progress.begin(state.max_steps, state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        if logs and "loss" in logs:
            seconds = time.monotonic() - self.started
            self.progress.step(state.global_step, float(logs["loss"]), self.trainer.tokens / seconds)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        if self.stop:
            control.should_training_stop = True
            control.should_save = state.global_step < state.max_steps
        elif args.save_strategy == "no" and now - self.saved > SAVE_EVERY_S:
            control.should_save = True
        if now - self.noted > 10 or self.stop:
            self.noted = now
            write_state(self.output, {**self.state, "wall_s": self.wall_s})

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.saved = time.monotonic()


# ---- the output folder


def identity_of(recipe: Recipe, examples: Examples, student: Student) -> dict[str, Any]:
    """All that decides what is learnt. Two trainings with the same are the same training."""
    return {**_identity(recipe, student), "data": examples.digest}


def _identity(recipe: Recipe, student: Student) -> dict[str, Any]:
    train = {k: v for k, v in recipe.train.model_dump(mode="json").items() if k not in FREE_TO_CHANGE}
    return {
        "student": identity(student),
        "method": recipe.method,
        **{f"train.{k}": v for k, v in train.items()},
    }


@contextmanager
def alone(output: Path) -> Iterator[None]:
    """The output folder to ourselves, made where it is not there. Raises InputError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = os.open(output / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise InputError(f"output {output}: cannot be written: {e.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError(f"output {output}: another process is training into it: wait for it") from None
    finally:
        os.close(lock)


def read_state(output: Path, what: Mapping[str, Any]) -> dict[str, Any]:
    """The state of this training in its output folder, a fresh one where nothing was begun. Writes nothing.

    Raises InputError where the folder holds another training, naming what differs, or something else.
    """
    fresh = {"schema": 1, "of": dict(what), "wall_s": 0.0, "training": None}
    state = _noted(output)
    if state is None:
        if output.exists() and (not output.is_dir() or {f.name for f in output.iterdir()} - {LOCK}):
            raise InputError(f"output {output}: holds something that is no training of ours: name an empty folder")
        return fresh
    if not state["training"] and not state["wall_s"] and not checkpoints(output):
        return fresh  # it ended before its first step, on a setting say: nothing is lost
    if changes := _changes(state["of"], what):
        raise InputError(
            f"output {output} holds a training of something else: name another output, or delete that folder\n  "
            + "\n  ".join(changes.values())
        )
    return state


def _noted(output: Path) -> dict[str, Any] | None:
    """What winnow.json says, None where there is none. Raises InputError where it is not what we wrote."""
    try:
        state = json.loads((output / STATE).read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:
        raise InputError(f"{output / STATE}: cannot be read: {e}") from None
    if not isinstance(state, dict) or not isinstance(state.get("of"), dict) or not {"wall_s", "training"} <= {*state}:
        raise InputError(f"{output / STATE}: not what winnow wrote: name another output")
    return state


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    return {
        k: f"{k}: {_short(before.get(k))} there, {_short(now.get(k))} now"
        for k in sorted({*before, *now})
        if before.get(k) != now.get(k)
    }


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 30 else text[:27] + '…"'


def write_state(output: Path, state: Mapping[str, Any]) -> None:
    write_whole(output / STATE, json.dumps(state, indent=1, ensure_ascii=False) + "\n")


def checkpoints(output: Path) -> list[Path]:
    """Newest first, whole or not."""
    found = [p for p in output.glob("checkpoint-*") if p.name.partition("-")[2].isdigit()]
    return sorted(found, key=lambda p: -int(p.name.partition("-")[2]))


def drop_checkpoints(recipe: Recipe, output: Path) -> None:
    """A finished training needs none. They stay where the recipe says how many to keep."""
    if "save_total_limit" not in recipe.train.further:
        for folder in checkpoints(output):
            shutil.rmtree(folder)


def unrecorded(recipe: Recipe, student: Student) -> dict[str, Any] | None:
    """The block of a training that is finished and that no run has yet; whatever became of its data since."""
    state = _noted(Path(recipe.output))
    if state is None or not state["training"] or state.get("run"):
        return None
    now = {**_identity(recipe, student), "data": state["of"].get("data")}
    return None if _changes(state["of"], now) else dict(state["training"])


def training_key(output: Path) -> str:
    """Of a finished training, in its run's report: however its folder was spelt."""
    state = _noted(output)
    assert state is not None
    return content_hash({"of": state["of"], "output": str(output.resolve())})


def attach_run(output: Path, name: str, store: str) -> None:
    """Notes the run that has a finished training in its report."""
    write_state(output, {**(_noted(output) or {}), "run": {"name": name, "store": store}})


def newest_checkpoint(output: Path) -> Path | None:
    """The newest that is complete; newer ones that broke off are removed, so that nothing of them is read."""
    for folder in checkpoints(output):
        if is_complete(folder):
            return folder
        shutil.rmtree(folder)
    return None


def is_complete(checkpoint: Path) -> bool:
    """Whether every file of it was written to its end. `trainer_state.json` is the last to be written."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    archives = [checkpoint / name for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")]
    weights = list(checkpoint.glob("*.safetensors"))
    return bool(weights) and all(map(zipfile.is_zipfile, archives)) and all(map(_is_whole, weights))


def _is_whole(safetensors: Path) -> bool:
    """Whether the file is as long as its own header says (eight bytes of length, JSON, data)."""
    size = safetensors.stat().st_size
    with safetensors.open("rb") as f:
        header_bytes = int.from_bytes(f.read(8), "little")
    ends = [t["data_offsets"][1] for t in _tensors(safetensors).values()]
    return size == 8 + header_bytes + max(ends, default=0)


def _tensors(safetensors: Path) -> dict[str, dict[str, Any]]:
    """The file's own table of its tensors, empty where it broke off before its end."""
    with safetensors.open("rb") as f:
        header_bytes = int.from_bytes(f.read(8), "little")
        if header_bytes > safetensors.stat().st_size:
            return {}
        try:
            header: dict[str, Any] = json.loads(f.read(header_bytes))
        except ValueError:
            return {}
    return {name: t for name, t in header.items() if name != "__metadata__"}


def check_disk(output: Path, parameters: int, method: str, kept: int) -> None:
    """Raises InputError where checkpoints and student will not fit. One checkpoint more than are kept is on
    disk for a moment; each has the trained weights and two moments of Adam, four bytes apiece."""
    trained = parameters * 4
    if method == "lora":
        trained //= 10  # a generous adapter
    one = 3 * trained
    there = sum(f.stat().st_size for c in checkpoints(output) for f in c.iterdir())
    need = (kept + 1) * one + trained - there
    free = shutil.disk_usage(next(p for p in (output, *output.absolute().parents) if p.is_dir())).free
    if free < need:
        raise InputError(
            f"output {output}: {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB needed ({kept + 1} checkpoints of "
            f"{one / 1e9:.1f} GB and the student): free some, set train.save_total_limit = 1, or name another output"
        )


def save_student(model: Any, tokenizer: Tokenizer, output: Path) -> None:
    """Weights, configuration and tokenizer into `output`, whole files alone."""
    made = output / ".student"
    shutil.rmtree(made, ignore_errors=True)
    model.config.use_cache = True  # training turns it off, and generation would be slow without
    model.save_pretrained(str(made))
    template = tokenizer.chat_template
    tokenizer.chat_template = thinking_template(tokenizer)
    tokenizer.save_pretrained(str(made))
    tokenizer.chat_template = template
    for file in sorted(made.iterdir()):
        file.chmod(0o644)
        file.replace(output / file.name)
    made.rmdir()


def training_block(recipe: Recipe, examples: Examples, trainer: WinnowTrainer, wall_s: float) -> dict[str, Any]:
    """The report's `training` entry. A cost that nobody named is null, not zero."""
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    gpus = 1 if torch.cuda.is_available() else 0  # the strategy "single" uses one, however many there are
    tokens = round(sum(map(len, examples.examples)) * recipe.train.epochs)
    mixed = "bfloat16" if trainer.args.bf16 else "float16" if trainer.args.fp16 else None
    held = "bfloat16" if trainer.args.bf16 and recipe.method == "lora" else "float32"
    gpu_hours = wall_s / 3600 * gpus
    price = recipe.launch.price_usd_per_gpu_hour
    return {
        "student": recipe.student,
        "method": "sft",
        "weights": recipe.method,
        "output": recipe.output,
        "rows": len(examples.examples),
        "dropped": len(examples.dropped),
        "data": examples.digest,
        "epochs": recipe.train.epochs,
        "learning_rate": recipe.train.learning_rate,
        "seed": recipe.train.seed,
        "tokens": tokens,
        "trained_tokens": round(sum(e.trained_tokens for e in examples.examples) * recipe.train.epochs),
        "tokens_per_s": round(tokens / wall_s, 1) if wall_s else None,
        "steps": trainer.state.max_steps,
        "wall_s": wall_s,
        "gpu_hours": round(gpu_hours, 4),
        "cost_usd": usd(pusd(price * round(wall_s * gpus) / 3600)) if price is not None and gpus else None,
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "precision": f"{mixed} over {held}" if mixed else held,
        "device": torch.cuda.get_device_name() if gpus else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
    }


def quiet() -> None:
    """transformers and its like speak on stderr only where something is wrong."""
    import datasets
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    for name in ("trl", "accelerate", "peft", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
