"""The engine on this machine: its answers are those of transformers, and do not depend on what is asked beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_student import questions
from students import smol_tokenizer, tiny_student

from finetune.measure.engine import Asked
from finetune.measure.sampling import Sampling, fitted
from finetune.student import find, identity
from harvest.core.errors import ConfigError, InputError


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    torch.set_num_threads(1)  # with so small a student two wait for each other
    from finetune.measure.generate import TransformersEngine

    return TransformersEngine(find(str(tiny_student(tmp_path_factory.mktemp("student")))))


def asked(n: int, sample: int = 0) -> list[Asked]:
    return [
        Asked(q, sample, [{"role": "user", "content": q.question + " why" * (i % 5)}])
        for i, q in enumerate(questions(n))
    ]


def texts(engine: Any, wanted: Sequence[Asked], **sampling: Any) -> dict[str, str]:
    batches = engine.answers(wanted, Sampling(**sampling))
    return {a.question.id: g.text for batch in batches for a, g in batch}


def test_greedy_answers_are_those_of_transformers(engine: Any) -> None:
    import torch

    found = texts(engine, asked(9), max_tokens=24)
    for a in asked(9):
        ids = smol_tokenizer().apply_chat_template(
            a.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            out = engine.network.generate(**ids, max_new_tokens=24, do_sample=False)
        want = smol_tokenizer().decode(out[0, ids["input_ids"].shape[1] :]).removesuffix("<|im_end|>")
        assert found[a.question.id] == want


def test_an_answer_does_not_depend_on_what_is_asked_beside_it(engine: Any) -> None:
    together = texts(engine, asked(9), max_tokens=24, temperature=1.0, seed=3)
    alone = [texts(engine, [a], max_tokens=24, temperature=1.0, seed=3) for a in asked(9)]
    assert together == {q: t for one in alone for q, t in one.items()}
    assert together != texts(engine, asked(9), max_tokens=24, temperature=1.0, seed=4)
    assert together != texts(engine, asked(9, sample=1), max_tokens=24, temperature=1.0, seed=3)


def test_rows_that_end_early_leave_and_the_rest_goes_on_unchanged(engine: Any) -> None:
    whole = texts(engine, asked(9), max_tokens=24)
    ends, engine.ends = engine.ends, engine.ends | set(smol_tokenizer()(whole["q3"])["input_ids"][5:6])
    try:
        batches = [pair for batch in engine.answers(asked(9), Sampling(max_tokens=24)) for pair in batch]
    finally:
        engine.ends = ends
    assert any(g.is_finished and g.output_tokens < 24 for _, g in batches)
    for a, g in batches:
        assert whole[a.question.id].startswith(g.text)
        assert g.is_finished or g.text == whole[a.question.id]


def test_a_limit_over_the_students_own_is_lowered_to_what_the_prompt_leaves(engine: Any) -> None:
    prompt = engine.prompt_tokens(asked(1)[0].messages)
    assert fitted(Sampling(max_tokens=5000), prompt, engine.limit).max_tokens == 2048 - prompt
    assert fitted(Sampling(max_tokens=32768), 700, 32768).max_tokens == 32000
    assert fitted(Sampling(max_tokens=100), 700, 32768).max_tokens == 100
    assert fitted(Sampling(max_tokens=100), 700, None).max_tokens == 100
    with pytest.raises(InputError, match="a prompt of 3000 tokens is over the model's limit of 2048"):
        fitted(Sampling(), 3000, 2048)


def test_weights_that_broke_off_are_one_line(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra `train`")
    from finetune.student import load_model

    weights = tiny_student(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be loaded") as e:
        load_model(find(str(tmp_path)), torch.float32)
    assert "\n" not in str(e.value)


def test_an_adapter_is_known_by_its_base_too(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the extra `train`")
    found = set()
    for seed in (1, 2):
        base, adapter = tiny_student(tmp_path / f"base{seed}", seed=seed), tmp_path / f"adapter{seed}"
        adapter.mkdir()
        (adapter / "adapter_model.safetensors").write_bytes(b"the same")
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
        found.add(identity(find(str(adapter))))
    assert len(found) == 2


def test_another_chat_template_is_another_student(tmp_path: Path, engine: Any) -> None:
    from finetune.measure.generate import TransformersEngine

    student = tiny_student(tmp_path)
    template = student / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    other = TransformersEngine(find(str(student))).about
    assert other["weights"] == engine.about["weights"]
    assert other["tokenizer"] != engine.about["tokenizer"]


def test_the_filters_keep_what_those_of_transformers_keep(engine: Any) -> None:
    import torch
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    from finetune.measure.generate import kept_shares

    torch.manual_seed(0)
    logits = (3 * torch.randn(20, 200)).double()
    for top_k, top_p, min_p in [(None, 0.9, None), (20, None, None), (None, None, 0.1), (30, 0.8, 0.05), (1, 0.5, 0.9)]:
        scores = TemperatureLogitsWarper(0.6)(None, logits)
        for warper in (
            top_k and TopKLogitsWarper(top_k),
            top_p and TopPLogitsWarper(top_p),
            min_p and MinPLogitsWarper(min_p),
        ):
            scores = warper(None, scores) if warper else scores
        sampling = Sampling(temperature=0.6, top_k=top_k, top_p=top_p, min_p=min_p)
        share, tokens = kept_shares(logits / 0.6, sampling)
        ours = torch.zeros_like(logits).scatter(1, tokens, share / share.sum(-1, keepdim=True))
        assert torch.allclose(ours, scores.softmax(-1), atol=1e-9)


def test_draws_follow_the_shares_that_the_filters_leave(engine: Any) -> None:
    import torch

    from finetune.measure.generate import draw

    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    stream = torch.Generator().manual_seed(1)
    sampling = Sampling(temperature=1.0, top_k=3, top_p=0.75)
    drawn = [int(draw(logits, sampling, [stream])) for _ in range(2000)]
    assert set(drawn) == {0, 1}
    assert drawn.count(0) / 2000 == pytest.approx(0.625, abs=0.035)


def test_an_answer_with_filters_does_not_depend_on_what_is_asked_beside_it(engine: Any) -> None:
    settings: dict[str, Any] = {
        "max_tokens": 24,
        "temperature": 1.0,
        "top_p": 0.9,
        "top_k": 50,
        "min_p": 0.01,
        "seed": 3,
    }
    together = texts(engine, asked(9), **settings)
    alone = {q: t for a in asked(9)[::4] for q, t in texts(engine, [a], **settings).items()}
    assert alone == {q: together[q] for q in alone}


def test_a_batch_that_is_too_large_is_halved_and_no_answer_is_lost(engine: Any) -> None:
    import torch

    from finetune.measure.generate import TransformersEngine

    class Small(TransformersEngine):
        """Has memory for three rows."""

        def __init__(self) -> None:
            self.__dict__.update(engine.__dict__)
            self.most_rows, self.sizes = 0, list[int]()

        def _batch(self, batch: Any, sampling: Any) -> Any:
            self.sizes.append(len(batch))
            if len(batch) > 3:
                raise torch.OutOfMemoryError
            return super()._batch(batch, sampling)

    small = Small()
    assert texts(small, asked(9), max_tokens=8) == texts(engine, asked(9), max_tokens=8)
    assert small.sizes == [9, 4, 2, 2, 2, 2, 1]
