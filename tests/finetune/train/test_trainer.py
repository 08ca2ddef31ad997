"""What the trainer holds: every row once an epoch, the labels, the loss, the precision."""

import random
from pathlib import Path

import pytest
from students import smol_tokenizer
from trainings import OTHERS_WARN, Make, make, student, trainer_for

from harvest.core.errors import ConfigError

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures

pytestmark = OTHERS_WARN


def test_weights_that_were_gathered_from_shards_are_saved_in_the_students_own_precision(
    make: Make, tmp_path: Path
) -> None:
    """The gathering itself needs GPUs; this is what comes after it."""
    from safetensors import safe_open

    trainer, _ = trainer_for(make())
    trainer.saved_dtype = torch.bfloat16
    trainer._save(str(tmp_path / "made"), {n: t.detach().clone() for n, t in trainer.model.state_dict().items()})
    with safe_open(tmp_path / "made/model.safetensors", "pt") as saved:
        assert {saved.get_tensor(name).dtype for name in saved.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_every_row_is_trained_once_an_epoch_and_none_is_cut(make: Make) -> None:
    trainer, made = trainer_for(make(train="packing = false"))
    assert trainer.args.max_length == 256
    seen = [i for batch in trainer.get_train_dataloader() for i in batch["input_ids"]]
    want = {tuple(e.ids) for e in made}
    assert len(seen) == 40
    assert {tuple(i[: len(w)].tolist()) for i in seen for w in want if tuple(i[: len(w)].tolist()) == w} == want


def test_labels_are_the_turn_and_its_end_and_padding_is_not_trained(make: Make) -> None:
    trainer, _ = trainer_for(make(train="packing = false"))
    tokenizer = smol_tokenizer()
    for batch in trainer.get_train_dataloader():
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            trained = labels[labels != -100]
            assert tokenizer.decode(trained).startswith("<think>\n")
            assert trained[-1] == tokenizer.eos_token_id
            assert (labels[mask == 0] == -100).all()
            assert (ids[labels != -100] == trained).all()


def test_rows_share_a_step_by_chance_and_lie_in_it_by_length() -> None:
    from finetune.train.batches.steps import Split, Steps

    lengths = [random.Random(i).randint(1, 900) for i in range(50)]
    steps = Steps(lengths, 16, 3, Split(4, 4))
    first = list(steps.steps())
    assert sorted(i for step in first for i in step) == list(range(50))
    assert list(steps.steps()) == first
    for step in first:
        assert [lengths[i] for i in step] == sorted((lengths[i] for i in step), reverse=True)
    assert [i for rows in steps for i in rows] == [i for step in first for i in step]
    steps.set_epoch(1)
    assert set(first[0]) != set(next(steps.steps()))


def test_the_loss_is_trls_own(make: Make) -> None:
    trainer, _ = trainer_for(make())
    trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    ours = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(100))
    theirs = super(type(trainer), trainer).compute_loss(
        trainer.model, dict(batch), num_items_in_batch=torch.tensor(100)
    )
    model_s = trainer.model(**batch).loss * (batch["labels"][:, 1:] != -100).sum() / 100
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert ours.item() == pytest.approx(model_s.item(), rel=1e-6)


def test_bfloat16_is_what_a_cpu_multiplies_in_where_it_was_chosen(make: Make) -> None:
    trainer, _ = trainer_for(make(train="bf16 = true"))
    seen = []
    layer = trainer.model.model.layers[0].mlp.up_proj
    layer.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=torch.tensor(100))
    assert seen == [torch.bfloat16]
    assert (loss.dtype, layer.weight.dtype) == (torch.float32, torch.float32)


def test_one_batch_or_several_small_ones_learn_the_same(make: Make) -> None:
    losses = []
    for n, micro in enumerate((8, 2, 1)):
        trainer, _ = trainer_for(make(str(n)), train__per_device_train_batch_size=micro, train__epochs=1)
        trainer.train()
        losses.append([e["loss"] for e in trainer.state.log_history if "loss" in e])
    assert len(losses[0]) == 5
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert losses[0] == pytest.approx(losses[2], abs=2e-5)


@pytest.mark.parametrize("micro", [3, 0, -2])
def test_a_batch_that_does_not_divide_the_step_is_refused(make: Make, micro: int) -> None:
    with pytest.raises(ConfigError, match=f"8 cannot be divided by per_device_train_batch_size = {micro}"):
        trainer_for(make(), train__per_device_train_batch_size=micro)


def test_long_rows_go_through_fewer_at_a_time(make: Make) -> None:
    trainer, made = trainer_for(make(train="packing = false"))
    longest = max(map(len, made))
    micro = trainer.args.per_device_train_batch_size
    assert micro * trainer.args.gradient_accumulation_steps == 8
    assert micro == 8 or micro * longest <= 2048


@pytest.mark.parametrize(
    "train",
    [
        'lr_scheduler_type = "sideways"',
        'target_modules = ["no_such_layer"]',
        "r = 0",
        'eos_token = "<no such token>"',
        'report_to = "nobody"',
        'optim = "adamw_bnb_8bit"',
    ],
)
def test_a_value_that_trl_or_peft_refuses_is_one_line(make: Make, train: str) -> None:
    top = 'method = "lora"' if train.startswith(("r ", "target")) else ""
    with pytest.raises(ConfigError, match=r"^\[train\]: ") as e:
        trainer_for(make(train=train, top=top))
    assert "\n" not in str(e.value)


def test_adapters_alone_learn_under_lora(make: Make) -> None:
    trainer, _ = trainer_for(make(train="r = 16\nlora_alpha = 256", top='method = "lora"'), train__epochs=8)
    trained = [n for n, p in trainer.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in n for n in trained)
    before = trainer.model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight.clone()
    trainer.train()
    losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    assert losses[-1] < losses[0]
    assert torch.equal(before, trainer.model.get_base_model().model.layers[0].mlp.up_proj.base_layer.weight)
