"""A student that is cut out of an open model's layers: its weights, its configuration, its folder."""

import json
from pathlib import Path
from typing import Any

import forked
import pytest
from students import sums, tiny_student
from trainings import ROOT

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("transformers", reason="needs the extra `train`")

SIZES = {
    "vocab_size": 96, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": 2,
}  # fmt: skip
MIXED = ["sliding_attention", "sliding_attention", "full_attention"] * 2
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": True},  # SmolLM2 too
    "qwen2": {"layer_types": MIXED, "sliding_window": 4, "use_sliding_window": True, "max_window_layers": 6},
    "qwen3": {"tie_word_embeddings": False},
    "gemma3_text": {"layer_types": MIXED, "sliding_window": 4},
}
KEPT = [0, 2, 3, 5]


def model_of(family: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **{**SIZES, **FAMILIES[family]})).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_layers_have_the_models_weights_bit_for_bit_and_answer_as_it_does_without_the_others(family: str) -> None:
    from finetune.train.pruning.cut import cut

    whole = model_of(family)
    small = cut(whole, KEPT)
    config = small.config.get_text_config()
    assert config.num_hidden_layers == 4
    assert whole.config.get_text_config().num_hidden_layers == 6, "the whole model stays as it is"
    if "layer_types" in FAMILIES[family]:
        assert config.layer_types == [MIXED[n] for n in KEPT]
    for n, place in enumerate(KEPT):
        mine, its = (m.get_decoder().layers[k].state_dict() for m, k in ((small, n), (whole, place)))
        assert mine.keys() == its.keys()
        assert all(torch.equal(mine[name], its[name]) for name in mine)
    ids = torch.randint(3, 96, (2, 20), generator=torch.Generator().manual_seed(0))
    before = whole(input_ids=ids).logits
    whole.get_decoder().layers = torch.nn.ModuleList(whole.get_decoder().layers[n] for n in KEPT)
    whole.config.num_hidden_layers = 4
    if hasattr(whole.config, "layer_types"):
        whole.config.layer_types = config.layer_types
    with torch.no_grad():
        found, wanted = (
            small.eval()(input_ids=ids, use_cache=False).logits,
            whole(input_ids=ids, use_cache=False).logits,
        )
        generated = small.generate(ids[:1], max_new_tokens=6, do_sample=False)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert not torch.allclose(found, before, atol=1e-3), "the others did something"
    assert generated.shape[1] > 20, "each layer has its own place in the cache"


def test_the_window_of_all_layers_is_that_of_the_layers_that_are_left() -> None:
    from transformers import Qwen2Config

    from finetune.train.pruning.cut import cut_config

    config = Qwen2Config(num_hidden_layers=6, max_window_layers=6)
    cut = cut_config(config, KEPT)
    assert (cut.num_hidden_layers, cut.max_window_layers, len(cut.layer_types)) == (4, 4, 4)
    assert (config.num_hidden_layers, config.max_window_layers) == (6, 6)


def test_evenly_spaced_layers_are_distilberts() -> None:
    from finetune.train.pruning.importance import evenly, most_important

    assert evenly(12, 6) == [0, 2, 4, 7, 9, 11]
    assert evenly(30, 1) == [0]
    assert evenly(5, 4) == sorted(set(evenly(5, 4)))
    assert most_important([0.9, 0.1, 0.5, 0.5, 0.2], 3) == [0, 2, 3]


def test_a_layer_that_changes_nothing_has_no_influence() -> None:
    from finetune.train.pruning.importance import block_influence, most_important

    model = model_of("llama")
    idle = model.get_decoder().layers[3]
    for weights in (idle.self_attn.o_proj.weight, idle.mlp.down_proj.weight):
        torch.nn.init.zeros_(weights)
    found = block_influence(model, [[5, 6, 7, 8], [9, 10]])
    assert found[3] == pytest.approx(0, abs=1e-6)
    assert all(x > 1e-4 for n, x in enumerate(found) if n != 3)
    assert most_important(found, 5) == [0, 1, 2, 4, 5]
    with torch.no_grad():
        states = model(input_ids=torch.tensor([[5, 6, 7, 8]]), output_hidden_states=True).hidden_states
    assert block_influence(model, [[5, 6, 7, 8]])[1] == pytest.approx(
        1 - float(torch.nn.functional.cosine_similarity(states[1], states[2], dim=-1).mean()), abs=1e-6
    )


def test_the_command_makes_a_folder_that_loads_trains_and_says_what_it_was_cut_from(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    student = tiny_student(tmp_path / "whole", layers=5)
    data, to = tmp_path / "rows.jsonl", tmp_path / "small"
    data.write_text("".join(json.dumps({"messages": m}) + "\n" for m in sums(8)))
    words = ("init", str(student), "--layers", "3", "--to", str(to), "--keep", "importance")
    refused = forked.run("finetune", *words, cwd=ROOT)
    assert refused.returncode == 2
    assert "--rows" in refused.stderr
    done = forked.run("finetune", *words, "--rows", str(data), "--json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "94 billion tokens" in done.stderr
    said = json.loads(done.stdout)
    assert len(said["influence"]) == 5
    assert said["parameters"]["cut"] < said["parameters"]["whole"]
    whole, small = (AutoModelForCausalLM.from_pretrained(str(p)) for p in (student, to))
    for n, place in enumerate(said["kept"]):
        mine, its = small.model.layers[n].state_dict(), whole.model.layers[place].state_dict()
        assert all(torch.equal(mine[name], its[name]) for name in mine)
    assert small.config.cut_from["kept"] == said["kept"]
    assert "Cut from " in (to / "README.md").read_text()
    assert forked.run("finetune", *words, "--rows", str(data), cwd=ROOT).returncode == 2, "the folder is not empty"
    recipe, log = tmp_path / "r.toml", tmp_path / "log"
    recipe.write_text(
        f'student = "{to}"\ndata = "{data}"\noutput = "{tmp_path}/out"\n[train]\nepochs = 1\ntraces_per_step = 4\n'
    )
    assert forked.trained(recipe, log=log) == 0, log.read_text()
    assert "3 of its 5 layers" in (tmp_path / "out/README.md").read_text()
