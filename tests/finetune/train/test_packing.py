"""Packing: nothing is cut, no row sees another one, the loss is that of padded rows, and a step has its traces. Where a
student cannot keep rows apart, packing is refused. The chunked loss is compared with plain cross-entropy.
"""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from students import SMOL, smol_tokenizer
from test_traps import SIZES, _gemma3, _gptoss, _llama, _qwen3, _qwen35
from trainings import OTHERS_WARN, Make, make, run, student, trainer_for

from finetune.recipe import Recipe, assumed, with_packing
from harvest.core.errors import ConfigError

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

__all__ = ["make", "student"]  # fixtures
pytestmark = OTHERS_WARN


# ---- which rows share a pack

Lengths = st.lists(st.integers(2, 3000), min_size=1, max_size=60)


@given(Lengths, st.integers(1, 40), st.integers(1, 3), st.integers(0, 5), st.integers(100, 4000))
def test_every_row_is_in_one_pack_of_its_step_and_no_pack_is_too_long(
    lengths: list[int], traces: int, processes: int, epoch: int, most: int
) -> None:
    from finetune.train.batches.packing import Packed, packs_a_step
    from finetune.train.batches.steps import Split

    packs = packs_a_step(lengths, traces, 7, 6, most, processes)
    ranks = [Packed(lengths, traces, 7, Split(1, packs, processes, rank)) for rank in range(processes)]
    for packed in ranks:
        packed.set_epoch(epoch)
    dealt = [list(packed) for packed in ranks]
    assert [len(d) for d in dealt] == [len(p) for p in ranks]
    assert len({len(d) for d in dealt}) == 1, "a process that has more packs than another waits for ever"
    filler = len(lengths)
    assert max(sum(lengths[i] for i in pack if i != filler) for d in dealt for pack in d) <= max(most, *lengths)
    for n, rows in enumerate(ranks[0].steps()):
        mine = [pack for d in dealt for pack in d[n * packs : (n + 1) * packs]]
        assert sorted(i for pack in mine for i in pack if i != filler) == sorted(rows)


@given(Lengths, st.integers(1, 12))
def test_packs_of_a_step_are_about_as_long(lengths: list[int], packs: int) -> None:
    from finetune.train.batches.packing import packs_of

    made = packs_of(range(len(lengths)), lengths, packs)
    tokens = [sum(lengths[i] for i in pack) for pack in made]
    assert all(made)
    assert max(tokens) - min(tokens) <= max(lengths)
    assert made == packs_of(list(reversed(range(len(lengths)))), lengths, packs)


# ---- no row sees another


def _qwen2() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(vocab_size=64, **SIZES))


def _gemma2() -> Any:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return Gemma2ForCausalLM(Gemma2Config(vocab_size=64, head_dim=8, sliding_window=8, **SIZES))


def _qwen3_moe() -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=64, head_dim=8, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, **SIZES
        )
    )


def _qwen3_next() -> Any:
    from transformers import Qwen3NextConfig, Qwen3NextForCausalLM

    sizes = SIZES | {"num_hidden_layers": 4}
    return Qwen3NextForCausalLM(Qwen3NextConfig(
        vocab_size=64, head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        shared_expert_intermediate_size=16, **sizes,
    ))  # fmt: skip


def _mamba2() -> Any:
    from transformers import Mamba2Config, Mamba2ForCausalLM

    return Mamba2ForCausalLM(Mamba2Config(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_heads=8, head_dim=8, state_size=16, n_groups=1
    ))  # fmt: skip


def _jamba() -> Any:
    """Its state leaks a little where its weights are random: less than the rounding of bfloat16."""
    from transformers import JambaConfig, JambaForCausalLM

    return JambaForCausalLM(JambaConfig(
        vocab_size=64, attn_layer_period=2, attn_layer_offset=1, num_experts=2, num_experts_per_tok=1, mamba_d_state=8,
        use_mamba_kernels=False, pad_token_id=0, **SIZES,
    ))  # fmt: skip


def _lfm2() -> Any:
    from transformers import Lfm2Config, Lfm2ForCausalLM

    return Lfm2ForCausalLM(Lfm2Config(vocab_size=64, layer_types=["conv", "full_attention"], **SIZES))


def _llama4() -> Any:
    """Attention in chunks of more tokens than the proof has."""
    from transformers import Llama4ForCausalLM, Llama4TextConfig

    return Llama4ForCausalLM(Llama4TextConfig(
        vocab_size=64, head_dim=8, intermediate_size_mlp=48, num_local_experts=2, num_experts_per_tok=1,
        attention_chunk_size=64, pad_token_id=0, **SIZES,
    ))  # fmt: skip


def _bloom() -> Any:
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4))


def _smol() -> Any:
    from finetune.student import find, load_model

    smol_tokenizer()
    return load_model(find(SMOL), torch.float32)


APART = [_llama, _qwen2, _qwen3, _gemma2, _gemma3, _gptoss, _qwen3_moe]
"""Gemma 2 has windows and soft caps in its attention, gpt-oss windows and sinks."""


def _loss_and_gradients(model: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    model.zero_grad()
    loss = model(**inputs, use_cache=False).loss
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("build", [*APART, _smol])
def test_a_pack_gives_the_loss_and_gradients_of_its_rows_padded(build: Callable[[], Any]) -> None:
    """Ours against transformers' own attention over padded rows, windows and all, and the proof lets it pass."""
    from finetune.train.batches.packing import flattened
    from finetune.train.batches.row_attention import attend_by_rows
    from finetune.train.batches.row_probe import probe

    torch.manual_seed(0)
    model = build().eval()
    draw = random.Random(3)
    rows = []
    for n in (20, 7, 45, 1):
        ids = [draw.randrange(64) for _ in range(n)]
        rows.append({"input_ids": ids, "labels": [-100] * (n // 3) + ids[n // 3 :]})
    width = 45
    padded = {
        "input_ids": torch.tensor([r["input_ids"] + [0] * (width - len(r["input_ids"])) for r in rows]),
        "labels": torch.tensor([r["labels"] + [-100] * (width - len(r["labels"])) for r in rows]),
        "attention_mask": torch.tensor([[1] * len(r["input_ids"]) + [0] * (width - len(r["input_ids"])) for r in rows]),
    }
    want, gradients = _loss_and_gradients(model, padded)
    own = model.config._attn_implementation
    assert attend_by_rows(model) == "winnow_rows"
    pack = flattened(rows)
    loss, packed = _loss_and_gradients(model, pack)
    assert loss.item() == pytest.approx(want.item(), abs=1e-5)
    assert packed.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(packed[name], gradient, atol=2e-5, rtol=1e-4, msg=name)
    found = probe(model, None, own)
    assert not found.leaks, found
    assert found.gradient == 0
    assert found.by_itself > 1e-3, "logits that nothing moves prove nothing"


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (_qwen35, "can't keep packed sequences apart"),
        (_qwen3_next, "can't keep packed sequences apart"),
        (_lfm2, "can't keep packed sequences apart"),
        (_mamba2, "rows would see each other"),
        (_jamba, "rows would see each other"),
        (_llama4, "layers of chunked_attention"),
        (_bloom, "attention cannot be chosen"),
    ],
)
@pytest.mark.parametrize("bf16", [False, True])
def test_a_student_that_cannot_keep_rows_apart_is_refused_in_one_line(
    build: Callable[[], Any], why: str, bf16: bool
) -> None:
    """By what it does with the kernels that are here; with others the same student may pass."""
    from finetune.train.packs import settled, why_not_packed
    from finetune.train.world import World

    torch.manual_seed(0)
    model = build()
    given = {"student": "s", "data": "d", "output": "o"}
    recipe = Recipe.model_validate({**given, "train": {"packing": True}})
    config = SimpleNamespace(device=torch.device("cpu"), bf16=bf16)
    found = why_not_packed(recipe, model, config, World())  # type: ignore[arg-type]
    assert found is not None
    with pytest.raises(ConfigError, match=rf"^\[train\]: packing: .*{why}.*: leave packing out$") as e:
        settled(recipe, found)
    assert "\n" not in str(e.value)
    unset = Recipe.model_validate(given)
    assert settled(unset, found) == with_packing(unset, False), "padded where packing was not asked for"


@pytest.mark.parametrize("own", ["eager", "sdpa"])
@pytest.mark.parametrize("half", [False, True])
def test_rounding_alone_is_no_leak_and_a_leak_is_seen_through_it(own: str, half: bool) -> None:
    """In bfloat16 the student's own attentions differ by about a twentieth of what a token changes."""
    from finetune.train.batches.row_attention import attend_by_rows
    from finetune.train.batches.row_probe import probe

    model = _smol().eval()
    model.set_attn_implementation(own)
    attend_by_rows(model)
    found = probe(model, torch.autocast("cpu", torch.bfloat16, enabled=half), own)
    assert not found.leaks, found
    assert found.by_packing <= found.limit <= 0.2 * found.by_itself
    assert found._replace(by_another=0.5 * found.by_itself).leaks


def test_attention_that_does_not_stop_at_a_row_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof itself, on attention over the whole pack with its positions right."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from finetune.train.batches.row_probe import leak, probe

    def whole_pack(module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: Any = None, **_: Any) -> Any:
        return sdpa_attention_forward(module, q, k, v, None, scaling=scaling, is_causal=True)

    AttentionInterface.register("whole_pack", whole_pack)
    torch.manual_seed(0)
    model = _llama()
    model.set_attn_implementation("whole_pack")
    found = probe(model.train(), torch.autocast("cpu", torch.bfloat16))
    assert found.by_another > 0.2 * found.by_itself
    assert model.training
    assert "rows would see each other" in str(leak(model))


def test_attention_that_is_not_the_students_own_is_seen() -> None:
    """Nothing leaks, and yet a row reads otherwise: rows of a window that the attention in use knows nothing of."""
    from finetune.train.batches.row_attention import attend_by_rows
    from finetune.train.batches.row_probe import probe

    torch.manual_seed(0)
    model = _gemma3().eval()
    own = model.config._attn_implementation
    attend_by_rows(model)
    assert not probe(model, None, own).leaks
    for layer in model.model.layers:
        layer.self_attn.sliding_window = None
    found = probe(model, None, own)
    assert found.by_another == found.gradient == 0
    assert found.leaks
    assert not probe(model, None, None).leaks, "against itself it cannot be seen"


def test_numbers_that_are_none_count_as_a_leak() -> None:
    from finetune.train.batches.row_probe import Changes

    none = float("nan")
    assert Changes(none, 0.0, 1.0, 0.0).leaks
    assert Changes(0.0, none, 1.0, 0.0).leaks
    assert Changes(0.0, 0.0, none, 0.0).leaks
    assert Changes(0.0, 0.0, 1.0, none).leaks
    assert not Changes(0.0, 0.0, 1.0, 0.0).leaks


# ---- training


@pytest.mark.parametrize(
    ("setting", "top"),
    [
        ("packing = true", ""),
        ("padding_free = true", ""),
        ("packing = true\nactivation_checkpointing = true", 'method = "lora"'),
    ],
)
def test_packed_or_padded_the_same_is_learnt(make: Make, setting: str, top: str) -> None:
    learnt = []
    for name, train in (("padded", "packing = false"), ("packed", setting)):
        trainer, _ = trainer_for(make(name, train, top), train__epochs=1)
        trainer.train()
        losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
        learnt.append((losses, [p.detach().clone() for p in trainer.model.parameters()], trainer.tokens))
    (padded, weights_of_padded, tokens), (packed, weights_of_packed, packed_tokens) = learnt
    assert len(padded) == len(packed) == 5, "a step is 8 traces of 40"
    assert packed == pytest.approx(padded, abs=1e-5)
    assert packed_tokens == tokens
    for a, b in zip(weights_of_padded, weights_of_packed, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=0)


def test_a_step_counts_traces_though_its_packs_are_few(make: Make) -> None:
    from finetune.train.batches.packing import Packed

    trainer, made = trainer_for(make())
    assert isinstance(trainer.steps, Packed)
    batches = list(trainer.get_train_dataloader())
    accumulated = trainer.args.gradient_accumulation_steps
    seen = []
    for at in range(0, len(batches), accumulated):
        step = batches[at : at + accumulated]
        assert sum(len(b["row_lengths"]) for b in step) == 8
        seen += [tuple(r.tolist()) for b in step for r in b["input_ids"][0].split(b["row_lengths"])]
    assert sorted(seen) == sorted(tuple(e.ids) for e in made)
    for b in batches:
        starts = (b["position_ids"][0] == 0).nonzero().flatten().tolist()
        assert [*starts, b["input_ids"].shape[1]] == b["cu_seq_lens_q"].tolist()
        assert (b["labels"][0, starts] == -100).all()


def test_a_packed_training_says_so_and_leaves_no_trace_of_it_in_the_student(make: Make) -> None:
    """That it may be killed at any moment is in test_kills.py."""
    recipe = make()
    code, _, err = run(recipe)
    assert code == 0, err
    assert "rows packed, attention row by row; loss of trained tokens in chunks" in err
    assert "winnow_rows" not in (recipe.parent / "out" / "config.json").read_text()


def test_a_hybrid_student_is_padded_and_refused_where_packs_were_asked_for(tmp_path: Path, make: Make) -> None:
    torch.manual_seed(0)
    tokenizer = smol_tokenizer()
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    sizes = SIZES | {"num_hidden_layers": 4}
    model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(
        vocab_size=len(tokenizer), head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8,
        linear_value_head_dim=8, **sizes,
    ))  # fmt: skip
    model.save_pretrained(tmp_path / "hybrid")
    tokenizer.save_pretrained(tmp_path / "hybrid")
    with pytest.raises(ConfigError, match=r"^\[train\]: packing: .*can't keep packed sequences apart") as e:
        trainer_for(make("packed", "packing = true"), student=str(tmp_path / "hybrid"))
    assert "\n" not in str(e.value)
    trainer, _ = trainer_for(make(), student=str(tmp_path / "hybrid"))
    assert trainer.manner.startswith("rows padded; ")
    assert trainer.model.config._attn_implementation != "winnow_rows"


@pytest.mark.parametrize("setting", ["packing", "padding_free"])
def test_packing_is_refused_where_the_tokens_of_a_row_are_spread(setting: str) -> None:
    from finetune.train.packs import refuse_shared_rows

    def recipe(strategy: str, **train: Any) -> Recipe:
        given = {"student": "s", "data": "d", "output": "o", "train": train, "launch": {"strategy": strategy}}
        return Recipe.model_validate(given)

    with pytest.raises(ConfigError, match=r'^train\.packing: not with launch.strategy = "fsdp2-cp"'):
        refuse_shared_rows(recipe("fsdp2-cp", **{setting: True}))
    refuse_shared_rows(recipe("zero3", **{setting: True}))
    assert not assumed(recipe("fsdp2-cp")).train.packs, "and padded where it was not asked for"


def test_rows_are_packed_unless_the_recipe_asks_otherwise() -> None:
    def packs(**train: Any) -> bool:
        given = {"student": "s", "data": "d", "output": "o", "train": train}
        return assumed(Recipe.model_validate(given)).train.packs

    assert packs()
    assert packs(packing=True)
    assert packs(model_init_kwargs={"attn_implementation": "flash_attention_2"})
    assert not packs(packing=False)
    assert not packs(padding_free=True)
    assert not packs(per_device_train_batch_size=4)
    assert not packs(model_init_kwargs={"attn_implementation": "eager"})


def test_so_many_layers_are_tried_as_have_one_of_each_kind() -> None:
    from finetune.train.packs import layers_of_each_kind

    assert layers_of_each_kind(_llama()) == 1
    assert layers_of_each_kind(_gemma2()) == 2
    assert layers_of_each_kind(_jamba()) == 2
    assert layers_of_each_kind(_qwen3_next()) == 4


# ---- the loss


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [1, 37, 300])
def test_the_loss_in_chunks_is_plain_cross_entropy(monkeypatch: pytest.MonkeyPatch, bias: bool, chunk: int) -> None:
    from torch.nn import functional

    from finetune.train import loss

    torch.manual_seed(0)
    vocabulary = 999
    monkeypatch.setattr(loss, "CHUNK_BYTES", 4 * vocabulary * chunk)
    given = [torch.randn(300, 32), torch.randn(vocabulary, 32) * 0.3, *([torch.randn(vocabulary)] if bias else [])]
    targets = torch.randint(vocabulary, (300,))
    made = []
    for chunked in (True, False):
        leaves = [x.clone().requires_grad_() for x in given]
        states, weight, b = *leaves, *([] if bias else [None])
        if chunked:
            total = loss.ChunkedLoss.apply(states, weight, b, targets)  # type: ignore[no-untyped-call]
        else:
            total = functional.cross_entropy(functional.linear(states, weight, b), targets, reduction="sum")
        (total / 300).backward()
        made.append((total.detach() / 300, [x.grad for x in leaves]))
    (ours, our_gradients), (plain, gradients) = made
    assert ours.item() == pytest.approx(plain.item(), rel=1e-6)
    for a, b in zip(our_gradients, gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_no_tensor_of_all_logits_is_ever_made() -> None:
    """16,384 trained tokens over a vocabulary of 151,936 would be 9.3 GiB of logits in float32."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode

    from finetune.train.loss import CHUNK_BYTES, ChunkedLoss

    largest = 0

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            made = func(*args, **(kwargs or {}))
            for t in made if isinstance(made, tuple | list) else (made,):
                if isinstance(t, torch.Tensor):
                    largest = max(largest, t.numel() * t.element_size())
            return made

    with FakeTensorMode():  # shapes without numbers
        states = torch.empty(16384, 1024, requires_grad=True)
        weight = torch.empty(151_936, 1024, requires_grad=True)
        targets = torch.empty(16384, dtype=torch.long)
        with Watch():  # type: ignore[no-untyped-call]
            ChunkedLoss.apply(states, weight, None, targets).backward()  # type: ignore[no-untyped-call]
    assert largest == weight.numel() * 4, "the gradient of the head itself is the largest there is"
    assert largest > CHUNK_BYTES


def test_a_row_without_a_trained_token_has_a_gradient_of_nothing(make: Make) -> None:
    trainer, _ = trainer_for(make())
    inputs = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.full((1, 3), -100)}
    loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=torch.tensor(9))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in trainer.model.parameters())


def test_a_student_that_caps_its_logits_has_trls_loss_and_says_so(make: Make, tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = smol_tokenizer()
    Gemma2ForCausalLM(Gemma2Config(
        vocab_size=len(tokenizer), head_dim=8, **SIZES, bos_token_id=1, eos_token_id=2, pad_token_id=2
    )).save_pretrained(tmp_path / "g")  # fmt: skip
    tokenizer.save_pretrained(tmp_path / "g")
    for name, train in (("a", "packing = false"), ("b", "")):
        trainer, _ = trainer_for(make(name, train), student=str(tmp_path / "g"))
        assert trainer.manner.endswith("by TRL's head (final_logit_softcapping)")
        trainer.model.eval()
        inputs = dict(next(iter(trainer.get_train_dataloader())))
        count = (inputs["labels"][:, 1:] != -100).sum()
        loss = trainer.compute_loss(trainer.model, dict(inputs), num_items_in_batch=count)
        assert loss.item() == pytest.approx(trainer.model(**inputs).loss.item(), rel=1e-5)


def test_adapters_over_four_bits_learn(make: Make) -> None:
    """bitsandbytes has its products on a CPU too; on a GPU this was not tried."""
    pytest.importorskip("bitsandbytes", reason="needs the extra `qlora`")
    recipe = make(train="r = 8\nlora_alpha = 64", top='method = "qlora"')
    code, out, err = run(recipe, "--json", "--train.packing", "true")
    assert code == 0, err
    import json

    block = json.loads(out)
    assert (block["weights"], block["loss_last"] < block["loss_first"]) == ("qlora", True)
    assert "4-bit" in block["precision"]
    assert "4-bit weights" in err
