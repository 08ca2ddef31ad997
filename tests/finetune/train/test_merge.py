"""After a training: merging the adapter into its model, the lines that serve it, and the model card."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from proofs import checked
from students import chat, smol_tokenizer, tiny_student

from finetune.__main__ import main
from finetune.recipe import Recipe
from finetune.rows.cache import rendered
from finetune.train.merge import precision
from finetune.train.output_folder.card import card, provenance
from harvest.proof.manifest import root_of

ROWS = [
    {
        "messages": chat(f"What is {i} + 3?", f"<think>\n{i} + 3 = {i + 3}\n</think>\n\n{i + 3}"),
        "teacher": {"model": "some-reasoner"},
        "licence": "MIT" if i % 2 else "CC-BY-4.0",
        "source": "sums",
        "teacher_terms": "may be trained on",
    }
    for i in range(16)
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a student trained by LoRA, strongly enough that the adapter shows."""
    pytest.importorskip("trl", reason="needs the extra `train`")
    folder = tmp_path_factory.mktemp("merge")
    (folder / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    (folder / "r.toml").write_text(
        f'student = "{tiny_student(folder / "student")}"\ndata = "{folder}/d.jsonl"\noutput = "{folder}/out"\n'
        'method = "lora"\n[render]\nmax_tokens = 256\n[train]\nepochs = 2\ntraces_per_step = 4\nlearning_rate = 0.05\n'
        "r = 4\nlora_alpha = 64\n"
    )
    with pytest.MonkeyPatch.context() as m:
        m.setattr("warnings.filters", [])
        m.setenv("PYTHONWARNINGS", "ignore")
        assert main(["sft", str(folder / "r.toml")]) == 0
    return folder / "out"


def merged(trained: Path, capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> Any:
    assert main(["merge", str(trained), "--json", *more]) == code
    out, err = capsys.readouterr()
    return json.loads(out) if not code else err


def logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.arange(100, 140)[None]).logits


@pytest.mark.filterwarnings("ignore")
def test_the_merged_student_is_the_adapter_over_its_base_and_transformers_loads_it(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from finetune.student import find, load_model

    place = Path(merged(trained, capsys)["folder"])
    assert place == trained.with_name("out-merged")
    one = AutoModelForCausalLM.from_pretrained(place)
    over_base = load_model(find(str(trained)), torch.float32)
    base = AutoModelForCausalLM.from_pretrained(trained.parent / "student")
    torch.testing.assert_close(logits(one), logits(over_base), atol=1e-4, rtol=0)
    assert (logits(one) - logits(base)).abs().max() > 1e-2, "the adapter did nothing: this would prove nothing"
    assert not any("lora" in name for name, _ in one.named_parameters())
    assert one.dtype == base.dtype
    assert one.generation_config.eos_token_id == smol_tokenizer().eos_token_id
    assert AutoTokenizer.from_pretrained(place).chat_template == smol_tokenizer().chat_template
    when = (place / "model.safetensors").stat().st_mtime_ns
    merged(trained, capsys)
    assert (place / "model.safetensors").stat().st_mtime_ns == when  # merged is not merged again
    assert not list(place.parent.glob(".*.part"))
    before, after = (json.loads((p / "winnow.manifest").read_text().splitlines()[0]) for p in (trained, place))
    assert (before["method"], after["method"], after["data"]) == ("sft", "merge", [])
    assert after["began_with"]["manifest"] == root_of(trained / "winnow.manifest")
    for folder in (trained, place):
        assert not checked(folder)[1].total


@pytest.mark.filterwarnings("ignore")
def test_a_folder_with_something_else_is_left_alone_and_another_may_be_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    assert "name another folder with --to" in merged(trained, capsys, "--to", str(tmp_path), code=2)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    assert merged(trained, capsys, "--to", str(tmp_path / "b"))["folder"] == str(tmp_path / "b")


@pytest.mark.filterwarnings("ignore")
def test_a_student_of_whole_weights_needs_no_merge_and_gets_its_lines(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student = trained.parent / "student"
    found = merged(student, capsys)
    assert found["folder"] == str(student)
    assert found["merged"] is False
    assert main(["merge", str(student)]) == 0
    assert capsys.readouterr().out.startswith(f"{student}: whole weights, no adapter: nothing to merge\n")
    assert not (student / "README.md").exists()  # it is not ours
    assert "--reasoning-parser" not in found["serve"]["vllm"]  # nobody knows its marks


def test_a_folder_without_adapter_or_weights_and_a_name_that_is_no_folder_get_no_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for place, why in ((tmp_path, "neither an adapter to merge nor weights"), (tmp_path / "none", "no such folder")):
        assert main(["merge", str(place)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert why in err


@pytest.mark.filterwarnings("ignore")
def test_the_lines_name_the_folder_the_length_and_how_the_chain_is_set_apart(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "a b"
    lines = merged(trained, capsys, "--to", str(place))["serve"]
    assert shlex.split(lines["vllm"]) == [
        "vllm",
        "serve",
        str(place),
        "--max-model-len",
        "2048",
        "--reasoning-parser",
        "deepseek_r1",
    ]
    assert shlex.split(lines["sglang"])[3:] == [
        "--model-path",
        str(place),
        "--context-length",
        "2048",
        "--reasoning-parser",
        "deepseek-r1",
    ]
    assert shlex.split(lines["transformers"]) == ["transformers", "serve", str(place)]
    assert main(["merge", str(trained), "--to", str(place)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(place)


@pytest.mark.parametrize(
    ("config", "want"),
    [
        ({}, "float32"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"dtype": "int4"}, "float32"),
    ],
)
def test_merged_weights_are_as_precise_as_the_models_own(config: dict[str, str], want: str) -> None:
    assert precision(config) == want


def test_what_is_no_student_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert merged(tmp_path, capsys, code=2).count("\n") == 1


# ---- the card


@pytest.mark.filterwarnings("ignore")
def test_the_card_says_data_teacher_terms_and_that_nothing_was_measured(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (trained / "README.md").read_text()
    for words in (
        "library_name: peft",
        "| teacher | some-reasoner: 16 rows |",
        "| its terms on training | may be trained on: 16 rows |",
        "| licences | CC-BY-4.0: 8 rows; MIT: 8 rows |",
        "Not evaluated",
        "| teacher | not recorded |",
        "`<think>` … `</think>`",
        "| training | unknown, 0 GPU-hours",
    ):
        assert words in text, words
    merged(trained, capsys)
    after = (trained.with_name("out-merged") / "README.md").read_text()
    assert "library_name: transformers" in after
    assert "lora adapters merged into it" in after


NOTE = {
    "training": {
        "student": "Qwen/Qwen2.5-7B-Instruct",
        "weights": "full",
        "rows": 324,
        "dropped": 2,
        "data": "sha256:0",
        "tokens": 70530,
        "trained_tokens": 9000,
        "epochs": 2,
        "steps": 42,
        "learning_rate": 2e-4,
        "seed": 0,
        "loss_first": 1.9,
        "loss_last": 0.27,
        "precision": "float32",
        "device": "cpu",
        "versions": {"trl": "1.16.0"},
        "cost_usd": "4.50",
        "gpu_hours": 1.5,
        "wall_s": 5400.0,
    },
    "layout": {"open": "<think>\n", "close": "\n</think>\n\n"},
}
REPORT = {
    "money": {"spent_usd": "1.20", "in_doubt_usd": "0.10", "usd_per_accepted_trace": "0.0037"},
    "evaluation": [
        {
            "model": "m",
            "questions": "q.jsonl",
            "n": 100,
            "accuracy": 0.4,
            "low": 0.309,
            "high": 0.498,
            "mean_output_tokens": 41.2,
            "unfinished": 0.0,
        },
        {
            "model": "m",
            "questions": "r.jsonl",
            "n": 1,
            "accuracy": None,
            "low": None,
            "high": None,
            "mean_output_tokens": None,
            "unfinished": None,
        },
    ],
    "gains": [{"model": "m", "questions": "q.jsonl", "points": 37.0, "low": 26.2, "high": 46.4}],
    "total_usd": "5.70",
    "total_leaves_out": ["the electricity"],
}


def test_the_card_says_what_it_cost_and_how_it_does_and_what_is_unknown() -> None:
    text = card("mine", NOTE, REPORT)
    for words in (
        "base_model: Qwen/Qwen2.5-7B-Instruct",
        "| teacher | $1.20, in doubt $0.10 |",
        "| training | $4.50, 1.5 GPU-hours, 5,400 s |",
        "| in all | $5.70; without the electricity |",
        "| m | q.jsonl | 100 | 40.0% | 30.9% to 49.8% | 41 | 0.0% |",
        "| m | r.jsonl | 1 | unknown |",
        "+37.0 points (95%: +26.2 to +46.4",
        "| teacher | not recorded |",
    ):
        assert words in text, words


def test_what_a_dataset_says_of_itself_is_no_markup_in_the_card(tmp_path: Path) -> None:
    hostile = "MIT | <script>alert(1)</script>\n## Evaluation\n[x](http://y)"
    (tmp_path / "d.jsonl").write_text(json.dumps({**ROWS[0], "licence": hostile, "teacher": 3}) + "\nnot json\n")
    recipe = Recipe.model_validate({"student": "s", "data": f"{tmp_path}/d.jsonl", "output": "o"})
    found = provenance(recipe, rendered(recipe, smol_tokenizer())[0])
    assert "teacher" not in found
    text = card("mine", {**NOTE, "provenance": found}, None)
    assert "<script>" not in text
    assert text.count("\n## Evaluation") == 1
    assert "[x](" not in text
