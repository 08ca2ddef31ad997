"""Measures the viewer at size: python benchmarks/view.py [--attempts N] [--keep DIR] [--chromium PATH]

Makes a store of N attempts (100,000), starts `python -m harvest view`, opens the page in Chromium, and measures: the
time until the address is printed; the first screen, from the request of the page until a trace can be read; each
filter and the next trace, from the key or the choice until the page shows it; a search through all chains; and the
most memory of the server. Every figure is the slowest of five, except the first screen, which is one cold start.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harvest.core.money import Usage
from harvest.core.nouns import Ask, Outcome, Question, Reply, Verdict
from harvest.store import Sent, Store

AT = "2026-11-24T12:00:00.000Z"
DOMAINS = ("algebra", "geometry", "number theory", "word problems", None)
WORDS = """we let then so the sum of first second number is equal to because if each side has two three ways check that
value again wait no actually multiply divide both by which gives total remaining therefore subtract add hence consider
case when even odd divides prime triangle angle area length hours miles apples price each twice half left over""".split()
SETTINGS = {
    "teacher": {"base_url": "https://api.example.com/v1", "model": "deepseek-reasoner"},
    "sampling": {"max_tokens": 8192},
    "budget": {"usd": "500"},
    "prompt_text": "<<<user>>>\n{question}\n",
}


def chain(rng: random.Random, opening: str) -> str:
    """A chain of 8 to 30 paragraphs, about 4,000 characters on average, with the same first sentences per question."""
    steps = [opening]
    for n in range(rng.randrange(8, 30)):
        steps.append(f"Step {n}: " + " ".join(rng.choices(WORDS, k=rng.randrange(15, 55))) + f" = {rng.randrange(999)}.")
    return "\n\n".join(steps)


def make_store(url: str, attempts: int, samples: int = 4) -> None:
    """Makes a store with one run: `samples` attempts at each question, their money, and their verdicts."""
    rng = random.Random(7)
    with Store.open(url) as store, store.transaction():
        run = store.put_run("bench", SETTINGS, None, AT)
        for q in range(attempts // samples):
            gold = str(rng.randrange(1000))
            domain = rng.choice(DOMAINS)
            text = f"Question {q}: what is {' '.join(rng.choices(WORDS, k=25))}?"
            store.put_question(run, Question(id=f"q{q}", question=text, answer=gold, check="math", domain=domain))
            opening = "Let me think. " + " ".join(rng.choices(WORDS, k=30)) + "."
            for sample in range(samples):
                sent = store.reserve(run, q + 1, Ask(sample, 8192), f"sha256:{q}-{sample}", 10**10, AT)
                assert isinstance(sent, Sent)
                text = chain(rng, opening)
                tokens = len(text) // 4
                right = rng.random() < 0.7
                answer = f"The answer is \\boxed{{{gold if right else rng.randrange(1000)}}}."
                usage = Usage(120, None, tokens + 20, tokens)
                reply = Reply(answer, text, finish_reason="stop", usage=usage, served_model="deepseek-reasoner")
                store.settle(sent.try_id, reply, tokens * 2_190_000 + 66_000_000, "config", AT)
                verdicts = [Verdict("math", "2", Outcome.RIGHT if right else Outcome.WRONG, f"gold {gold}")]
                if rng.random() < 0.1:
                    verdicts.append(Verdict("judge", "1", Outcome.RIGHT, "judge says RIGHT"))
                passed = any(v.passed for v in verdicts)
                store.put_verdicts(sent.attempt_id, verdicts, passed, None if passed else "wrong", AT)
            store.close_question(q + 1, "solved")
