"""Loads winnow's exports with other programs: python benchmarks/loaders.py axolotl|llama-factory

Imports two answers, exports them in the program's layout, and lets the program itself load and tokenise them, under the
chat templates of several families with small tokenizers (tests/families.py). Prints what the program trains on. The
program must be importable. Neither is among winnow's dependencies, and each pins other versions of what winnow uses:

    pip install --no-deps --target axolotl axolotl addict colorama distro llvmlite numba posthog
    pip install --no-deps --target llama-factory llamafactory omegaconf antlr4-python3-runtime==4.9.3 torchaudio
    PYTHONPATH=axolotl python benchmarks/loaders.py axolotl

Where torchaudio does not load, an empty module of its name is enough for LLaMA-Factory's text data.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]  # not this folder, whose coverage.py numba would take for its own
os.environ |= {"DISABLE_VERSION_CHECK": "1", "AXOLOTL_DO_NOT_TRACK": "1"}
CHAIN, ANSWER = "First I add one.\n\nThen the other.", "So it is \\boxed{3}."
FAMILIES = {"Qwen2.5": "qwen", "Qwen3": "qwen3", "Llama 3": "llama3", "R1-distill": "deepseekr1"}
"""The families' names in tests/families.py, and LLaMA-Factory's templates for them."""
WAYS: dict[str, list[tuple[str, ...]]] = {
    "axolotl": [(), ("--marks", "sky-t1"), ("--reasoning", "apart"), ("--format", "parquet")],
    "llama-factory": [(), ("--marks", "sky-t1"), ("--format", "parquet")],
}
MARKS = {"think": ("<think>", "</think>"), "sky-t1": ("<|begin_of_thought|>", "<|end_of_solution|>")}


def exported(place: Path, layout: str, flags: tuple[str, ...]) -> Path:
    """A fresh export, under a name of its own: `datasets` keeps what it has read."""
    to = place / ("-".join((layout, *flags)).replace("--", "") or layout)
    env = {**os.environ, "WINNOW_RUNS": str(place / "runs"), "PYTHONPATH": str(ROOT)}
    store = f"sqlite:///{place}/store.db"
    answers = place / "answers.jsonl"
    if not answers.exists():
        reply = {"choices": [{"message": {"content": ANSWER, "reasoning_content": CHAIN}, "finish_reason": "stop"}]}
        rows = [{"id": f"q{i}", "question": f"What is 1 + 2? ({i})", "answer": "3", "response": reply} for i in (1, 2)]
        answers.write_text("".join(json.dumps(r) + "\n" for r in rows))
        words = [sys.executable, "-m", "harvest", "import", str(answers), "--name", "r", "--store", store]
        subprocess.run(words, env=env, check=True, capture_output=True, cwd=place)
    words = [sys.executable, "-m", "harvest", "export", "r", "--which", "accepted", "--layout", layout, *flags]
    subprocess.run([*words, "--to", str(to), "--store", store], env=env, check=True, capture_output=True, cwd=place)
    return to


def by_axolotl(folder: Path, tokenizer: Any, _: str) -> Any:
    import yaml
    from axolotl.utils.data.sft import _load_and_process_single_dataset
    from axolotl.utils.dict import DictDefault

    os.chdir(folder.parent)
    config = yaml.safe_load((folder / "axolotl.yaml").read_text())
    more = {"sequence_len": 4096, "train_on_inputs": False, "dataset_num_proc": 1, "chat_template": "tokenizer_default"}
    of = DictDefault(config["datasets"][0])
    rows, _prompter = _load_and_process_single_dataset(of, DictDefault(config | more), tokenizer, "train", 0)
    return rows


def by_llama_factory(folder: Path, tokenizer: Any, template: str) -> Any:
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import Seq2SeqTrainingArguments

    data = DataArguments(template=template, dataset="winnow", dataset_dir=str(folder), cutoff_len=4096)
    training = Seq2SeqTrainingArguments(output_dir=str(folder.parent / "none"), use_cpu=True, report_to=[])
    model = ModelArguments(model_name_or_path="none", cache_dir=str(folder.parent / "cache"))
    known = get_template_and_fix_tokenizer(tokenizer, data)
    return get_dataset(known, model, data, training, stage="sft", tokenizer=tokenizer)["train_dataset"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", choices=sorted(WAYS))
    program = parser.parse_args().program
    load = by_axolotl if program == "axolotl" else by_llama_factory
    from families import tokenizer_of

    found = []
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_HOME"] = f"{name}/hf"
        for flags in WAYS[program]:
            folder = exported(Path(name), program, flags)
            opens, closes = MARKS["sky-t1" if "sky-t1" in flags else "think"]
            for family, template in FAMILIES.items():
                tokenizer = tokenizer_of(family)
                rows = load(folder, tokenizer, template)
                read = tokenizer.decode(rows[0]["input_ids"])
                ids = [i for i in rows[0]["labels"] if i != -100]
                trained = tokenizer.decode(ids)
                said = [" ".join(flags) or "as it is", family, str(len(rows))]
                parts = [opens, CHAIN, closes, ANSWER]
                said += ["trained" if p in trained else "read" if p in read else "lost" for p in parts]
                said.append("yes" if "What is 1 + 2?" in trained else "no")
                found.append(said)
    which = {"axolotl": "axolotl", "llama-factory": "llamafactory"}[program]
    seen = {p: importlib.metadata.version(p) for p in (which, "datasets", "transformers")}
    print(f"\n{json.dumps(seen)}\n")
    print("| written | family | rows | opening mark | chain | closing mark | answer | trains the question |")
    print("| --- | --- | ---: | --- | --- | --- | --- | --- |")
    for said in found:
        print("| " + " | ".join(said) + " |")


if __name__ == "__main__":
    main()
