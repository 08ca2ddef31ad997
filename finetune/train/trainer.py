"""Sets up TRL's trainer for a recipe: which rows share a step, the loss, the checkpoints."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before trl is imported: its trainers send messages

import pyarrow as pa
import torch
from accelerate.data_loader import prepare_data_loader
from datasets import Dataset
from datasets.table import InMemoryTable
from peft import LoraConfig
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTConfig, SFTTrainer

from finetune.cost.work import MICRO_TOKENS
from finetune.recipe import Recipe, assumed
from finetune.rows.examples import SCHEMA, Examples
from finetune.rows.template import Tokenizer, end_token
from finetune.student import Student, find, load_model
from finetune.train.batches.packing import Packed, flattened, packs_a_step
from finetune.train.batches.row_attention import ROWS, attend_by_rows
from finetune.train.batches.steps import Split, Steps
from finetune.train.language_model import adapter_settings, freeze_the_rest
from finetune.train.loss import add_loss, beyond_the_head
from finetune.train.measuring import ACCURACY, LOSS, is_enough
from finetune.train.memory import loading_watched
from finetune.train.output_folder.best import drop_bests
from finetune.train.output_folder.checkpoints import mark, rotate
from finetune.train.output_folder.disk import check_room, checkpoint_bytes
from finetune.train.packs import settled, why_not_packed
from finetune.train.training_args import REFUSALS, is_saved_by_clock, training_config
from finetune.train.world import World
from harvest.core.errors import ConfigError
from harvest.core.printable import first_line


class WinnowTrainer(SFTTrainer):  # type: ignore[misc]  # TRL ships no types
    """TRL's trainer with winnow's order of rows and, on a CPU, winnow's loss, which skips untrained tokens.

    `tokens` counts the tokens that went through the student in this process, without padding.
    """

    method: ClassVar[str] = "sft"
    """The name of this training in the report."""
    recipe: Recipe
    steps: Steps
    tokens: int = 0
    world: World
    strategy: str = "single"
    saves_by_clock: bool = True
    """Whether the clock says when to save, because the recipe does not."""
    kept: int | None = None
    """How many checkpoints are kept; None means all."""
    measured: Steps
    """Which held-out rows this process measures."""
    chooses: bool = False
    """Whether the best measurement of held-out rows is the student."""
    stop_after: int = 0
    """The training stops after this many measurements without a better one; 0 means never."""
    is_over: bool = False
    """Whether it stopped for that reason."""
    keep_best: Callable[[], None] | None = None
    """Keeps the student as it is now on the disk. It is called after each measurement that is the best so far."""
    speed: Callable[[], dict[str, float | None]] | None = None
    """Returns what is logged with each loss: tokens a second, the share of the peak, the memory."""
    saved_dtype: torch.dtype | None = None
    """Weights that were gathered from shards are saved in this precision; None means as they are."""
    attention: str | None = None
    """The attention that keeps the rows of a pack apart; None when rows are padded."""

    @staticmethod
    def dataset(examples: Examples, filler: list[int] | None = None) -> Dataset:
        """Returns the examples as the rows that the trainer reads. `filler` is as in `rows_of`."""
        return rows_of(examples, labelled, filler)

    @staticmethod
    def collator(collate: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """Returns what makes one batch of rows; `collate` pads them or lays them into a pack."""
        return collate

    def report(self, examples: Examples) -> dict[str, Any]:
        """Returns what the report's entry has of this kind of training alone. `examples` were trained."""
        return {}

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        add_loss(self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Returns the loader of this process's rows.

        Accelerate's own loader would fill up the end of an epoch with rows that were trained already.
        """
        loader = DataLoader(
            self.train_dataset,
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

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Returns the loader of this process's held-out rows.

        It has a generator of its own, so that a training draws the same random numbers with and without measuring.
        """
        return DataLoader(
            self.eval_dataset,
            batch_sampler=self.measured,
            collate_fn=self.data_collator,
            generator=torch.Generator(),
        )

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Measures loss and accuracy by trained token, over the rows of all processes.

        transformers and TRL take the mean over batches of the means within them, which depends on how rows are batched.
        """
        self.model.eval()
        if self.optimizer is not None:  # one without a schedule keeps other weights for training
            self.optimizer.eval()
        loss = right = count = 0.0
        for batch in dataloader:
            inputs = self._prepare_inputs(batch)
            with torch.no_grad(), self.accelerator.autocast():
                found = self.measure(inputs)
            loss, right, count = loss + found[0], right + found[1], count + found[2]
        loss, right, count = self.world.sums(loss, right, count)
        metrics = {LOSS: loss / count, ACCURACY: right / count}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(self.eval_dataset))

    def measure(self, inputs: dict[str, Any]) -> tuple[float, float, int]:
        """Returns (the sum of the losses, how many are guessed right, how many there are) of the trained tokens."""
        if self.head is None:
            found = self.model(**inputs, measure=True)
        else:
            made = self.model(**inputs, use_cache=False, fused_lm_head=True)
            found = torch.stack([-made.log_probs.float().sum(), made.is_top1.float().sum()])
        return found[0].item(), found[1].item(), int((inputs["labels"][:, 1:] != -100).sum())

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Keeps the student on the disk where transformers finds the best measurement so far; else may stop.

        The checkpoint that names this measurement is written later, so it never names a student that is not there.
        """
        if not self.chooses:
            return False
        is_best = bool(super()._determine_best_metric(metrics, trial))
        if is_best:
            self.state.best_global_step = self.state.global_step  # transformers notes it only where it saves by steps
            if self.keep_best is not None:
                self.keep_best()
        elif self.stop_after:
            since = sum(e["step"] > self.state.best_global_step for e in self.state.log_history if LOSS in e)
            if since >= self.stop_after:  # and no checkpoint, which a next start would go on from
                self.is_over, self.control.should_training_stop, self.control.should_save = True, True, False
        return is_best

    def compute_loss(
        self,
        model: PreTrainedModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Returns the mean negative log-likelihood over the step's trained tokens, whether rows are padded or packed.

        On a CPU TRL computes the logits of every position twice (again in the backward pass), with entropy and
        accuracy. winnow's loss computes the logits of trained tokens only, once. On a GPU TRL's kernel also looks only
        at trained tokens.
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

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Logs the measures of the training too, so that trackers have them."""
        if "loss" in logs and self.speed is not None:
            logs.update({name: value for name, value in self.speed().items() if value is not None})
        super().log(logs, start_time)

    @property
    def head(self) -> str | None:
        """Returns the reason why TRL's own head computes the loss; None when winnow's loss does."""
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
    def saves(self) -> bool:
        """Whether checkpoints are saved before the end: train.save_strategy = "no" wants none."""
        return self.saves_by_clock or str(self.args.save_strategy.value) != "no"

    @property
    def manner(self) -> str:
        """Returns a phrase that says how rows are laid out and who computes the loss."""
        if not self.attention:
            rows = "padded"
        else:
            how = "row by row" if self.attention == ROWS else f"by {self.attention}"
            rows = f"{'packed' if isinstance(self.steps, Packed) else 'not padded'}, attention {how}"
        return f"rows {rows}; loss of trained tokens " + (f"by TRL's head ({self.head})" if self.head else "in chunks")

    @property
    def weight_bytes(self) -> int:
        """Returns the bytes of the trained weights, over all processes."""
        trained = (p for p in self.model.parameters() if p.requires_grad)
        return sum(getattr(p, "ds_numel", p.numel()) * p.element_size() for p in trained)

    @property
    def optimizer_bytes(self) -> int:
        """Returns the bytes of the optimizer's state; 0 with DeepSpeed, whose optimizer does not show its state."""
        held = (t for state in getattr(self.optimizer, "state", {}).values() for t in state.values())
        return sum(t.numel() * t.element_size() for t in held if isinstance(t, torch.Tensor))

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Saves the weights. Those that FSDP or ZeRO-3 gathered are in float32, and are rounded one after another.

        Source: transformers 5.23, Trainer.save_model, which passes what accelerate gathers. It was not run on GPUs.
        """
        if self.saved_dtype is not None and state_dict is not None:
            for name, tensor in state_dict.items():
                if torch.is_floating_point(tensor):
                    state_dict[name] = tensor.to(self.saved_dtype)
        super()._save(output_dir, state_dict)

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
            drop_bests(output, [self.state.best_global_step])


def load_student(recipe: Recipe, student: Student, config: SFTConfig) -> PreTrainedModel:
    """Loads the student's weights: in float32 if they are trained.

    Weights under adapters are loaded in the precision that multiplies fastest.
    """
    dtype = torch.bfloat16 if recipe.method != "full" and config.bf16 else torch.float32
    with loading_watched(recipe):
        model: PreTrainedModel = load_model(
            student, dtype, four_bit=recipe.method == "qlora", attention=recipe.train.attention
        )
    return model


def load_arranged(
    recipe: Recipe,
    examples: Examples,
    student: Student,
    parameters: int,
    *,
    bf16: bool,
    world: World = World(),  # noqa: B008  frozen
    held_out: Examples | None = None,
) -> tuple[Recipe, SFTConfig, PreTrainedModel, str | None]:
    """Returns (the recipe as it is trained, packed or padded; its arguments; the student; why it is not packed).

    Raises ConfigError when the recipe's settings do not go together, or when it asks for packs and the student does
    not keep their rows apart.
    """
    with world.together():
        packed = assumed(recipe)
        config = training_config(packed, examples, parameters, bf16=bf16, world=world, held_out=held_out)
        torch.manual_seed(recipe.train.seed)
        model = load_student(recipe, student, config)
        with loading_watched(recipe):
            why_not = why_not_packed(packed, model, config, world)
    why_not = world.hear(why_not)
    with world.together():
        recipe = settled(recipe, why_not)
        if why_not is not None:
            config = training_config(recipe, examples, parameters, bf16=bf16, world=world, held_out=held_out)
    return recipe, config, model, why_not


def reduce_in_float32(state: Any) -> None:
    """Makes FSDP2's processes add their gradients in float32, though they compute in half precision.

    `state` is accelerate's. accelerate 1.15 takes the precision of the products for the sums as well
    (FullyShardedDataParallelPlugin.set_mixed_precision), and no variable or launch file changes that. Not run on GPUs.
    """
    plugin = getattr(state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version == 2 and plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, reduce_dtype=torch.float32)


def rows_of(
    examples: Examples,
    made: Callable[[dict[str, Any]], dict[str, Any]],
    filler: list[int] | None = None,
    of_filler: Mapping[str, Any] | None = None,
) -> Dataset:
    """Returns the examples as TRL's dataset. `made` makes rows of the table's columns when they are read.

    `filler` are the ids of one more row at the end, of which nothing is trained. `of_filler` has what its other columns
    hold; those that it does not name are empty.
    """
    names = [name for name in examples.table.column_names if name not in SCHEMA.names or name in ("ids", "trained")]
    table = examples.table.select(names)
    lines = list(range(len(table))) if examples.at is None else list(examples.at)
    if filler is not None:
        lines.append(len(table))
        row: dict[str, Any] = {f.name: [] if pa.types.is_list(f.type) else None for f in table.schema}
        row |= {"ids": filler, **(of_filler or {})}
        table = pa.concat_tables([table, pa.Table.from_pylist([row], table.schema)])
    rows = Dataset(InMemoryTable(table), fingerprint=examples.digest)
    rows = rows.select(lines) if examples.at is not None else rows
    rows.set_transform(made)
    return rows


def labelled(rows: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    """Returns the ids of rows with their labels: the id of each trained token, and -100 for every other token."""
    labels = []
    for ids, trained in zip(rows["ids"], rows["trained"], strict=True):
        labels.append([-100] * len(ids))
        for begin, end in zip(trained[::2], trained[1::2], strict=True):
            labels[-1][begin:end] = ids[begin:end]
    return {"input_ids": rows["ids"], "labels": labels}


def build_trainer(
    recipe: Recipe,
    examples: Examples,
    tokenizer: Tokenizer,
    model: PreTrainedModel,
    config: SFTConfig,
    world: World = World(),  # noqa: B008  frozen
    held_out: Examples | None = None,
    kind: type[WinnowTrainer] = WinnowTrainer,
) -> WinnowTrainer:
    """Returns the trainer of this process. The recipe is a `settled` one: here it is packed if it says so.

    The rows of `held_out` are measured and not trained.

    Raises ConfigError when TRL, transformers or PEFT refuse a setting.
    """
    # What a process reads while others have the last rows of an epoch; nothing is learnt from it.
    filler = [end_token(tokenizer)] * 2 if world.readers > 1 else None
    rows = kind.dataset(examples, filler)
    measured = kind.dataset(held_out, filler) if held_out else None
    if config.ddp_find_unused_parameters is None:  # looked for in every step otherwise; only experts can be left out
        config.ddp_find_unused_parameters = hasattr(model.config.get_text_config(), "output_router_logits")
    try:
        lora = None
        if recipe.method != "full":
            settings = adapter_settings(recipe.train.further, model)
            lora = LoraConfig(task_type="CAUSAL_LM", revision=find(recipe.student).revision, **settings)
        else:
            freeze_the_rest(model)
        trainer = kind(
            model=model,
            args=config,
            train_dataset=rows,
            eval_dataset=measured,
            processing_class=tokenizer,
            peft_config=lora,
        )
        trainer.get_optimizer_cls_and_kwargs(config, model)
        if recipe.train.packs or recipe.train.further.get("padding_free"):
            trainer.attention, trainer.data_collator = attend_by_rows(model), flattened
        trainer.data_collator = kind.collator(trainer.data_collator)
    except REFUSALS as e:
        raise ConfigError(f"[train]: {first_line(e)}") from None
    reduce_in_float32(trainer.accelerator.state)
    split = Split(config.per_device_train_batch_size, config.gradient_accumulation_steps, world.readers, world.reader)
    steps = Packed if recipe.train.packs else Steps
    trainer.steps = steps(examples.lengths, recipe.train.traces_per_step, recipe.train.seed, split)
    if held_out:
        trainer.measured = _measured(recipe, held_out, trainer, world)
        trainer.chooses, trainer.stop_after = is_enough(held_out), recipe.train.stop_after
    trainer.recipe, trainer.world, trainer.strategy = recipe, world, recipe.launch.strategy
    trainer.saves_by_clock = is_saved_by_clock(recipe)
    # transformers would remove the older checkpoint before the other processes have written their part of the newer.
    trainer.kept, trainer.args.save_total_limit = config.save_total_limit, None
    assert trainer.train_dataset is rows, "TRL trains other rows than were rendered"
    # Generation must stop where the training rows do, whatever the tokenizer calls its end token.
    trainer.model.generation_config.eos_token_id = end_token(tokenizer)
    # transformers' own printing; ours is on stderr.
    trainer.callback_handler.callbacks = [
        c for c in trainer.callback_handler.callbacks if type(c).__name__ not in ("PrinterCallback", "ProgressCallback")
    ]
    return trainer


def _measured(recipe: Recipe, held_out: Examples, trainer: WinnowTrainer, world: World) -> Steps:
    """Returns which held-out rows go through the student together: all of them are one step, as large as fits."""
    lengths, room = held_out.lengths, MICRO_TOKENS[trainer.args.device.type]
    if recipe.train.packs:
        packs = packs_a_step(lengths, len(lengths), 0, 1, room, world.readers)
        return Packed(lengths, len(lengths), 0, Split(1, packs, world.readers, world.reader))
    most = recipe.train.further.get("per_device_train_batch_size") or len(lengths)
    micro = max(1, min(most, room // max(lengths)))
    times = ceil(len(lengths) / (micro * world.readers))
    return Steps(lengths, len(lengths), 0, Split(micro, times, world.readers, world.reader))
