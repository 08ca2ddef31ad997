"""Reads other people's files as candidates for `filters.py --outside FOLDER`. The files are not in the repository.
FOLDER has, each from github.com at the commit that is named,

    xstest/*.csv        model_completions/xstest_v2_completions_*.csv of paul-rottger/exaggerated-safety, d7bb5bd
    mgsm/*.tsv          mgsm/mgsm_*.tsv of google-research/url-nlp, 452a21a
    misguided/*.json    eval/results_long_eval/output_queries_*.json of cpldcpu/MisguidedAttention, bbae011:
                        dh3-prev nm49b mm3 grok3mini grok3-think son_thk4k cs4_think gf25high flash25 gpro25release

Two people each labelled XSTest's answers as refusals or not. MGSM's questions are GSM8K's, translated by people.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harvest.core.nouns import Candidate, Question

LOOKED_AT = {"gpt4", "mistralinstruct", "dh3-prev", "nm49b", "mm3", "grok3mini"}
"""Files whose wrong verdicts were read while mending; of MGSM every second row. The rest is held out."""
ENGLISH = "A farm has 12 hens, and each of them lays 2 eggs a day. How many eggs is that in a day?"


@dataclass(frozen=True)
class Case:
    half: str
    kind: str
    filter: str | None
    """Whose refusal counts; None: any that is on."""
    bad: bool
    name: str
    candidate: Candidate


def _half(name: str) -> str:
    return "first" if name in LOOKED_AT else "held_out"


def _candidate(question: str, reasoning: str | None, answer: str) -> Candidate:
    row = Question(id="q", question=question, answer=None, check="text")
    return Candidate(0, 0, row, ({"role": "user", "content": question},), reasoning, answer, None, None)


def cases(folder: Path) -> Iterator[Case]:
    yield from _xstest(folder / "xstest")
    yield from _mgsm(folder / "mgsm")
    yield from _misguided(folder / "misguided")


def _xstest(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*.csv")):
        model = path.stem.removeprefix("xstest_v2_completions_")
        with path.open(newline="") as lines:
            for row in csv.DictReader(lines):
                label = row["final_label"].split("_", 1)[1].replace("_", " ")
                if label == "partial refusal":
                    continue
                trace = _candidate(row["prompt"], None, row["completion"])
                bad = label == "full refusal"
                yield Case(_half(model), f"XSTest, {label}", "refusal", bad, f"{model} {row['id']}", trace)


def _mgsm(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*.tsv")):
        code = path.stem.removeprefix("mgsm_")
        for n, line in enumerate(path.read_text().splitlines()):
            text, gold = line.rsplit("\t", 1)
            half = "first" if n % 2 else "held_out"
            alike = _candidate(text, text, gold)
            yield Case(half, f"MGSM, {code} about {code}", "language", False, f"{code} {n}", alike)
            if code == "en":
                continue
            foreign = _candidate(ENGLISH, text, gold)
            yield Case(half, f"MGSM, {code} about English", "language", True, f"{code} {n}", foreign)
            mixed = _candidate(ENGLISH, f"Okay, the hens lay two eggs each, so we multiply. {text} So it is 24.", gold)
            yield Case(half, f"MGSM, {code} inside English", "language", True, f"{code} {n}", mixed)


def _misguided(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*.json")):
        model = path.stem.removeprefix("output_queries_")
        for row in json.loads(path.read_text())["results"]:
            for n, (answer, chain) in enumerate(zip(row["output"], row["thinking"], strict=True)):
                if (answer or "").strip() and (chain or "").strip():
                    trace = _candidate(row["prompt"], chain, answer)
                    yield Case(_half(model), "chains", None, False, f"{model} {row['prompt_id']}/{n}", trace)
