"""TRL's trainer as a recipe sets it up: its settings, which rows share a step, and the loss."""

import importlib.util
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before trl: its trainers send a message when they are built

import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from peft import LoraConfig
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer
from trl import SFTConfig, SFTTrainer

from finetune.cost.work import MICRO_TOKENS, SMALL_PARAMETERS
from finetune.recipe import PACKING, Recipe, lora_keys
from finetune.rows.dataset import Examples
from finetune.rows.render import Tokenizer, end_token
from finetune.student import Student, load_model
from finetune.train.launch import World
from finetune.train.loss import add_loss, beyond_the_head
from finetune.train.output import CHECKPOINTS_KEPT, check_room, checkpoint_bytes, mark, rotate, tensors_of
from finetune.train.packing import ROWS, Packed, attend_by_rows, flattened, packs_a_step, refuse_leaks
from finetune.train.steps import Split, Steps, divided
from harvest.core.errors import ConfigError

REFUSALS = (ValueError, TypeError, ImportError, RuntimeError)
"""What TRL, transformers and PEFT raise for settings that do not suit the student or the machine."""


class WinnowTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with our order of rows, and on a CPU a head that looks at the trained tokens alone.

    `tokens` counts what went through the student in this process since it was built, padding left out.
    """

    steps: Steps
    tokens: int = 0
    world: World
    strategy: str = "single"
    kept: int | None = None
    """Checkpoints; None: all."""
    attention: str | None = None
    """What keeps the rows of a pack apart; None where rows are padded."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        add_loss(self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model)

    def pack(self) -> None:
        """Rows one after another from now on, where this student keeps them apart. Raises ValueError where not."""
        own_attention = self.model.config._attn_implementation
        self.attention = attend_by_rows(self.model)
        self.data_collator = flattened
        if self.accelerator.is_main_process:  # to spare memory, FSDP lets no other process have the weights
            refuse_leaks(self.model, self.accelerator.autocast(), own_attention)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The rows of this process. Accelerate would deal them itself, and fill up an epoch's end with rows that were
        trained already."""
        loader = DataLoader(
            self._remove_unused_columns(self.train_dataset, description="training"),
            batch_sampler=self.steps,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type != "cpu",
            persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )
        prepared: DataLoader[Any] = prepare_data_loader(
            loader, device=self.args.device, num_processes=1, process_index=0, put_on_device=True
        )
        return prepared

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The mean negative log-likelihood over the step's trained tokens, padded or packed.

        On a CPU TRL scores every position, twice (again in the backward pass), with entropy and accuracy beside;
        ours the trained ones, once. On a GPU its kernel takes the trained ones too, and is left to do it.
        """
        padded = inputs.get("attention_mask")
        self.tokens += inputs["input_ids"].numel() if padded is None else int(padded.sum())
        if return_outputs or self.head is not None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        with self.accelerator.autocast():  # outside `train` accelerate has put none around the model
            loss = model(**inputs, trained_loss=True)
        if num_items_in_batch is None:
            return loss / (inputs["labels"][:, 1:] != -100).sum().clamp(min=1)
        # The count is of all processes, whose gradients DDP averages.
        shares = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return loss * shares / num_items_in_batch

    @property
    def head(self) -> str | None:
        """Why TRL's own head makes the loss; None where ours does."""
        if self.accelerator.device.type not in ("cpu", "mps"):
            return "its kernel looks at trained tokens alone too"
        if str(self.accelerator.distributed_type.value) not in ("NO", "MULTI_CPU"):
            return "the weights are spread"
        if self.args.loss_type != "nll" or self.args.label_smoothing_factor:
            return "another loss was asked for"
        if self.aux_loss_enabled:
            return "the routers have a loss of their own"
        return beyond_the_head(self.accelerator.unwrap_model(self.model).config)

    @property
    def manner(self) -> str:
        """How rows and loss go through the student, in words."""
        if not self.attention:
            rows = "padded"
        else:
            how = "row by row" if self.attention == ROWS else f"by {self.attention}"
            rows = f"{'packed' if isinstance(self.steps, Packed) else 'not padded'}, attention {how}"
        return f"rows {rows}; loss of trained tokens " + (f"by TRL's head ({self.head})" if self.head else "in chunks")

    @property
    def weight_bytes(self) -> int:
        """Of the weights that are trained, in all processes."""
        trained = (p for p in self.model.parameters() if p.requires_grad)
        return sum(getattr(p, "ds_numel", p.numel()) * p.element_size() for p in trained)

    @property
    def optimizer_bytes(self) -> int:
        """Of what the optimizer remembers, as far as that can be seen: DeepSpeed's says nothing."""
        held = (t for state in getattr(self.optimizer, "state", {}).values() for t in state.values())
        return sum(t.numel() * t.element_size() for t in held if isinstance(t, torch.Tensor))

    def _save_checkpoint(self, model: PreTrainedModel, trial: Any) -> None:
        output, step = Path(self.args.output_dir), self.state.global_step
        with self.world.together():
            if self.world.is_first:
                need = checkpoint_bytes(output) or self.weight_bytes + self.optimizer_bytes
                check_room(output, need, f"the checkpoint of step {step}")
        # Past TRL's own, which writes a model card with every checkpoint.
        Trainer._save_checkpoint(self, model, trial)
        self.world.wait()  # until each process has written its part: only then may an older one go
        if self.world.is_first:
            mark(output / f"checkpoint-{step}", self.strategy, self.world.size)
            if self.kept is not None:
                rotate(output, self.kept)


def training_config(
    recipe: Recipe, examples: Examples, parameters: int, *, bf16: bool, processes: int = 1
) -> SFTConfig:
    """SFTConfig of a recipe; `processes` each take other rows. Raises ConfigError where TRL refuses a value or the
    batch cannot be divided."""
    further = recipe.train.further
    for key in lora_keys(further):
        further.pop(key)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    per_step = recipe.train.traces_per_step
    lengths = list(map(len, examples.examples))
    longest = max(lengths)
    micro = further.pop("per_device_train_batch_size", None)
    for key in PACKING:
        further.pop(key, None)
    if recipe.train.packs:
        micro, room = 1, MICRO_TOKENS[device]
        accumulated = packs_a_step(
            lengths, per_step, recipe.train.seed, math.ceil(recipe.train.epochs), room, processes
        )
    elif micro is None:
        micro, accumulated = divided(per_step, MICRO_TOKENS[device] // longest, processes)
    elif micro < 1 or per_step % (micro * processes):
        raise ConfigError(
            f"train.traces_per_step: {per_step} cannot be divided by per_device_train_batch_size = {micro}"
            + (f" in {processes} processes" if processes > 1 else "")
        )
    else:
        accumulated = per_step // (micro * processes)
    settings: dict[str, Any] = {
        "activation_checkpointing": parameters >= SMALL_PARAMETERS or longest > MICRO_TOKENS[device],
        "bf16": bf16,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # else a loss that is no number is shown as one
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
            gradient_accumulation_steps=accumulated,
            max_length=recipe.render.max_tokens,
            dataset_kwargs={"skip_prepare_dataset": True},
            use_cpu=device == "cpu",
            disable_tqdm=True,
        )
    except REFUSALS as e:
        raise ConfigError(_refused(e)) from None
    check_trackers(config)
    if config.n_gpu > 1:  # else transformers spreads each batch over all of them, whatever `launch.strategy` says
        config._n_gpu = 1
    return config


TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "trackio": ("trackio",), "wandb": ("wandb",)}
"""For train.report_to: which packages can do it, the first of them named where none is installed."""


def check_trackers(config: SFTConfig) -> None:
    """Raises ConfigError for a tracker that is not installed, with the command that does it."""
    for name in config.report_to:
        if (packages := TRACKERS.get(name)) and not any(map(importlib.util.find_spec, packages)):
            raise ConfigError(f'train.report_to: "{name}" is not installed: pip install {packages[0]}')


def _refused(e: Exception) -> str:
    return f"[train]: {(str(e).strip().splitlines() or [type(e).__name__])[0]}"


def load_student(recipe: Recipe, student: Student, config: SFTConfig) -> PreTrainedModel:
    """Its weights as the method trains them: float32 where they are trained, else what multiplies fastest."""
    dtype = torch.bfloat16 if recipe.method != "full" and config.bf16 else torch.float32
    model: PreTrainedModel = load_model(student, dtype, four_bit=recipe.method == "qlora")
    return model


def build_trainer(
    recipe: Recipe,
    examples: Examples,
    tokenizer: Tokenizer,
    model: PreTrainedModel,
    config: SFTConfig,
    world: World = World(),  # noqa: B008  frozen
) -> WinnowTrainer:
    """The trainer of one of the processes, and the proof that the rows it holds are the rows that were rendered."""
    ids, labels = [list(e.ids) for e in examples.examples], [e.labels for e in examples.examples]
    if world.readers > 1:  # what a process reads while others have the last rows of an epoch; nothing is learnt from it
        ids.append([end_token(tokenizer)] * 2)
        labels.append([-100] * 2)
    rows = Dataset.from_dict({"input_ids": ids, "labels": labels})
    if config.ddp_find_unused_parameters is None:  # looked for in every step otherwise; only experts can be left out
        config.ddp_find_unused_parameters = hasattr(model.config.get_text_config(), "output_router_logits")
    try:
        lora = None
        if recipe.method != "full":
            given = {"target_modules": "all-linear", **lora_keys(recipe.train.further)}
            lora = LoraConfig(task_type="CAUSAL_LM", **given)
        trainer = WinnowTrainer(
            model=model, args=config, train_dataset=rows, processing_class=tokenizer, peft_config=lora
        )
        trainer.get_optimizer_cls_and_kwargs(config, model)
        if recipe.train.packs or recipe.train.further.get("padding_free"):
            trainer.pack()
    except REFUSALS as e:
        raise ConfigError(_refused(e)) from None
    split = Split(config.per_device_train_batch_size, config.gradient_accumulation_steps, world.readers, world.reader)
    rows_of = Packed if recipe.train.packs else Steps
    trainer.steps = rows_of(list(map(len, examples.examples)), recipe.train.traces_per_step, recipe.train.seed, split)
    trainer.world, trainer.strategy = world, recipe.launch.strategy
    # transformers would remove the older checkpoint before the other processes have written their part of the newer.
    trainer.kept, trainer.args.save_total_limit = config.save_total_limit, None
    held = trainer.train_dataset
    assert len(held) == len(labels)
    assert all(row["labels"] == of for row, of in zip(held, labels, strict=True))
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
    shapes = (t["shape"] for p in place.glob("*.safetensors") for t in tensors_of(p).values())
    return sum(math.prod(shape) for shape in shapes)
