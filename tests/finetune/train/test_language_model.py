"""Students that also read pictures: nothing but their language model is trained."""

import json
import re
from pathlib import Path

import pytest
from students import smol_tokenizer
from trainings import Make, make, student, trainer_for

from finetune.__main__ import main

transformers = pytest.importorskip("transformers", reason="needs the extra `train`")

__all__ = ["make", "student"]


def test_adapters_and_training_leave_a_tower_for_pictures_alone(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Gemma 3: its vision tower has layers of the same names, q_proj to v_proj, which text alone never reaches."""
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = smol_tokenizer()
    config = transformers.Gemma3Config(
        text_config={**text, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": len(tokenizer)},
        vision_config={**text, "image_size": 28, "patch_size": 14},
    )
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path / "gemma")
    tokenizer.save_pretrained(tmp_path / "gemma")
    recipe = make()
    assert (
        main(
            [
                "sft",
                str(recipe),
                "--dry-run",
                "--json",
                "--student",
                f"{tmp_path}/gemma",
                "--method",
                "lora",
                "--train.r",
                "2",
            ]
        )
        == 0
    )
    resolved = json.loads(capsys.readouterr().out)["resolved"]
    excluded = re.compile(resolved["exclude_modules"])
    for inside, name in ((True, "model.language_model.layers.0.self_attn.q_proj"),
                         (False, "model.vision_tower.encoder.layers.0.self_attn.q_proj"),
                         (False, "model.multi_modal_projector")):  # fmt: skip
        assert bool(excluded.fullmatch(name)) is not inside
    for method, some in (("lora", "lora_"), ("full", "layers.")):
        trainer, _ = trainer_for(recipe, student=f"{tmp_path}/gemma", method=method)
        learnt = [n for n, p in trainer.model.named_parameters() if p.requires_grad]
        assert any(some in n for n in learnt)
        assert [n for n in learnt if "language_model" not in n and "lm_head" not in n] == []
