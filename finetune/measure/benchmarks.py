"""The benchmarks that `--questions` knows by name: where their questions are, and how others ask them."""

import csv
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from harvest.checks import ROW_RULES
from harvest.core.errors import QuestionError
from harvest.core.nouns import Question
from harvest.core.printable import first_line
from harvest.questions.hub import unreachable
from harvest.questions.rows import BadRow, question_of
from harvest.questions.sources import read_questions

LARGEST_FIELD_CHARS = 1 << 20


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A public set of questions, at one revision, with the protocol of those who publish figures on it."""

    dataset: str
    """The hub's dataset."""
    revision: str
    files: tuple[str, ...]
    """The files of the dataset with this config and split."""
    check: str
    prompt: str
    samples: int
    preset: str
    source: str
    """Whose protocol this is."""
    max_tokens: int | None = None
    """The most tokens of an answer; None: the preset's."""
    is_gated: bool = False


R1 = "deepseek-r1"
OPEN_R1 = "Open-R1's README: as many answers as it takes to reproduce DeepSeek-R1's figures"
BENCHMARKS = {
    "aime24": Benchmark(
        "HuggingFaceH4/aime_2024", "2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
        ("data/train-00000-of-00001.parquet",), "math", "boxed", 64, R1, OPEN_R1,
    ),
    "aime25": Benchmark(
        "yentinglin/aime_2025", "6f71d77b0b89b9dabe07ab466c51df33f514df7f",
        ("data/train-00000-of-00001-243207c6c994e1bd.parquet",), "math", "boxed", 64, R1,
        "as aime24; Qwen3's report (arXiv 2505.09388) takes 64 answers too",
    ),
    "math-500": Benchmark(
        "HuggingFaceH4/MATH-500", "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        ("test.jsonl",), "math", "boxed", 4, R1, OPEN_R1,
    ),
    "gpqa-diamond": Benchmark(
        "Idavidrein/gpqa", "633f5ee89ab8ad4522a9f850766b73f62147ffdd",
        ("gpqa_diamond.csv",), "choice", "boxed", 8, R1, OPEN_R1, is_gated=True,
    ),
    "gsm8k": Benchmark(
        "openai/gsm8k", "740312add88f781978c0658806c59bc2815b9866",
        ("main/test-00000-of-00001.parquet",), "math", "boxed", 1, "greedy",
        "one greedy answer without worked examples, as lm-evaluation-harness's gsm8k_cot_zeroshot", max_tokens=4096,
    ),
    "livecodebench": Benchmark(
        "livecodebench/code_generation_lite", "0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
        ("test4.jsonl", "test5.jsonl"), "code", "code", 16, R1,
        f"{OPEN_R1}; the problems that releases 4 and 5 added, as lighteval's lcb:codegeneration",
    ),
}  # fmt: skip
"""Maps each name to its benchmark. A revision and its files were read in public code that pins them."""


def benchmark_named(questions: str) -> Benchmark | None:
    """Returns the benchmark with this name, unless a file or a folder here has the name; else None."""
    return None if Path(questions).exists() else BENCHMARKS.get(questions.casefold())


def benchmark_questions(benchmark: Benchmark) -> list[Question]:
    """Returns the questions of a benchmark. Its files are downloaded once.

    Raises QuestionError, which says what to do, when the hub cannot be reached or does not give the files.
    """
    paths = [_file(benchmark, name) for name in benchmark.files]
    if benchmark.check == "choice":
        return [_choice_question(row, benchmark) for path in paths for row in _csv_rows(path)]
    found = read_questions([str(path) for path in paths], Path(), ROW_RULES, may_skip=False)
    return [q.model_copy(update={"check": benchmark.check}) for q in found]


def _file(benchmark: Benchmark, name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    terms = ", after you have accepted its terms" if benchmark.is_gated else ""
    page = f"https://huggingface.co/datasets/{benchmark.dataset}"
    elsewhere = f"Name a copy by --questions FILE ({page}{terms})"
    asked = partial(
        hf_hub_download,
        benchmark.dataset,
        name,
        repo_type="dataset",
        revision=benchmark.revision,
        endpoint=os.environ.get("HF_ENDPOINT"),
    )
    with suppress(LocalEntryNotFoundError):
        return Path(asked(local_files_only=True))
    if (why := unreachable()) is not None:
        raise QuestionError(f"{benchmark.dataset}: {name} is not on this machine, and {why}. {elsewhere}")
    try:
        return Path(asked())
    except GatedRepoError:
        raise QuestionError(
            f"{benchmark.dataset} is gated: accept its terms at {page}, then `hf auth login` or export HF_TOKEN=…"
        ) from None
    except (OSError, ValueError) as e:
        why = first_line(e).rstrip(".")
        raise QuestionError(f"{benchmark.dataset}: the hub does not give {name}: {why}. {elsewhere}") from None


def _csv_rows(path: Path) -> Iterator[Mapping[str, str]]:
    csv.field_size_limit(LARGEST_FIELD_CHARS)
    with path.open(encoding="utf-8", newline="") as f:
        yield from csv.DictReader(f)


def _choice_question(row: Mapping[str, Any], benchmark: Benchmark) -> Question:
    """Returns a question of GPQA. The order of its choices follows from its record's id, so it is always the same."""
    try:
        name, right = str(row["Record ID"]), str(row["Correct Answer"]).strip()
        choices = [right, *(str(row[f"Incorrect Answer {n}"]).strip() for n in (1, 2, 3))]
        choices.sort(key=lambda text: hashlib.sha256(f"{name}/{text}".encode()).digest())
        letter = "ABCD"[choices.index(right)]
        mine = {"id": name, "question": str(row["Question"]).strip(), "choices": choices, "answer": letter}
        return question_of(mine | {"check": benchmark.check}, ROW_RULES)
    except (KeyError, BadRow) as e:
        raise QuestionError(f"{benchmark.dataset}: a row of {benchmark.files[0]} cannot be read: {e}") from None
