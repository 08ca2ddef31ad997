"""Measures how long made-up rows take to render, and how long each later start takes that finds them rendered.

    python benchmarks/rows.py 10000 [--tokens 5000] [--copies 1]

A start is a process of its own. It does what `sft` does before the student's weights are loaded: it reads the recipe
and the tokenizer, finds the rows, divides them into packs, and reads the rows of the first step. Memory is what the
process holds itself (RssAnon in /proc/self/status). Pages of the mapped file are not counted, since all processes share
them and the kernel may drop them.

Rendering takes about 30 ms of a core for a row of 5,000 tokens. With `--copies 100` the file and what was rendered of
it are laid one after another 100 times, so that later starts can be measured at a size whose rendering takes too long.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STUDENT = "SmolLM2-135M-Instruct"
WORDS = """so we take the number of apples and add it to what was left over then divide by seven which gives us wait let
me check that again because if x equals 14 then 2x + 3 = 31 and not 29 hence the sum is at most n(n+1)/2 therefore"""


def write(rows: int, tokens: int, to: Path) -> None:
    """Writes rows of about this many tokens. A word is about 1.2 tokens."""
    draw, words = random.Random(0), WORDS.split()
    with to.open("w") as f:
        for n in range(rows):
            length = round(draw.uniform(0.2, 1.8) * tokens / 1.2)
            chain = " ".join(draw.choices(words, k=length))
            asked = {"role": "user", "content": f"How many apples are in basket {n}?"}
            said = {"role": "assistant", "content": f"<think>\n{chain}\n</think>\n\nThere are {n % 97} apples."}
            f.write(json.dumps({"messages": [asked, said], "question_id": f"q{n}"}) + "\n")


def start(folder: Path) -> dict[str, Any]:
    """Starts as `sft` does, in this process, and says what that took."""
    began = time.perf_counter()
    from finetune.recipe import Recipe
    from finetune.rows.cache import examples
    from finetune.student import find, load_tokenizer
    from finetune.train.batches.packing import Packed
    from finetune.train.batches.steps import Split
    from finetune.train.trainer import WinnowTrainer
    from finetune.train.training_args import training_config

    imported = time.perf_counter()
    given = {"student": STUDENT, "data": str(folder / "train.jsonl"), "output": str(folder / "out")}
    recipe = Recipe.model_validate({**given, "train": {"packing": True}})
    made = examples(recipe, load_tokenizer(find(STUDENT)))
    found = time.perf_counter()
    config = training_config(recipe, made, 135_000_000, bf16=False)
    accumulated = config.gradient_accumulation_steps
    steps = Packed(made.lengths, recipe.train.traces_per_step, recipe.train.seed, Split(1, accumulated))
    rows = WinnowTrainer.dataset(made)
    for _, pack in zip(range(accumulated), steps, strict=False):
        rows.__getitems__(pack)
    ended = time.perf_counter()
    held = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "rows": len(made),
        "tokens": sum(made.lengths),
        "import_s": round(imported - began, 1),
        "rows_s": round(found - imported, 1),
        "packs_and_first_step_s": round(ended - found, 1),
        "start_s": round(ended - began, 1),
        "own_gb": round(int(held["RssAnon"].split()[0]) / 1e6, 2),
        "mapped_gb": round(int(held["RssFile"].split()[0]) / 1e6, 2),
    }


def copy(folder: Path, copies: int) -> None:
    """Makes the file `copies` times as long, and lays what was rendered of it under the longer file's name."""
    import pyarrow as pa

    from finetune.recipe import Recipe
    from finetune.rows import cache
    from finetune.rows.dataset import contents_of
    from finetune.student import find, load_tokenizer

    data, tokenizer = folder / "train.jsonl", load_tokenizer(find(STUDENT))
    recipe = Recipe.model_validate({"student": STUDENT, "data": str(data), "output": "out"})
    made, _ = cache.rendered(recipe, tokenizer)
    place = cache.place_of(recipe, tokenizer, contents_of(recipe))
    once = data.read_bytes()
    with data.open("ab") as f:
        for _ in range(copies - 1):
            f.write(once)
    longer = cache.place_of(recipe, tokenizer, contents_of(recipe))
    longer.mkdir()
    with pa.ipc.new_stream(str(longer / cache.ROWS), made.table.schema) as writer:
        for _ in range(copies):
            writer.write_table(made.table)
    (longer / cache.FOUND).write_bytes((place / cache.FOUND).read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=int)
    parser.add_argument("--tokens", type=int, default=5000, help="mean tokens of a row")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start:
        print(json.dumps(start(args.start)))
        return
    with tempfile.TemporaryDirectory(prefix="winnow-rows-") as folder:
        data = Path(folder) / "train.jsonl"
        write(args.rows, args.tokens, data)
        print(f"{args.rows:,} rows, {data.stat().st_size / 1e9:.2f} GB, {os.cpu_count()} cores", flush=True)
        for name in ("first start", "second start", "third start"):
            if name == "second start" and args.copies > 1:
                copy(Path(folder), args.copies)
                print(f"{args.copies} copies of the file: {data.stat().st_size / 1e9:.2f} GB", flush=True)
            command = [sys.executable, __file__, str(args.rows), "--start", folder]
            made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(f"{name}: {made.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main()
