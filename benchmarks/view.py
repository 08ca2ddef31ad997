"""Measures the viewer at size: python benchmarks/view.py [--attempts N] [--keep DIR] [--chromium PATH]

Makes a store of N attempts (100,000), starts `python -m harvest view`, opens the page in Chromium, and measures: the
time until the address is printed; the first screen, from the request of the page until a trace can be read; each
filter and the next trace, from the key or the choice until the page shows it; the first hit and the end of a search
through all chains; and the most memory of the server. Filters and steps are the slowest of five. Needs the extra `dev`
and Debian's chromium.
"""

import argparse
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from harvest.core.money import Usage
from harvest.core.nouns import Ask, Outcome, Question, Reply, Verdict
from harvest.store import Sent, Store

ROOT = Path(__file__).parents[1]
AT = "2026-11-24T12:00:00.000Z"
DOMAINS = ("algebra", "geometry", "number theory", "word problems", None)
WORDS = """
we let then so the sum of first second number is equal to because if each side has two three ways check that value
again wait no actually multiply divide both by which gives total remaining therefore subtract add hence consider
case when even odd divides prime triangle angle area length hours miles apples price each twice half left over
""".split()  # noqa: SIM905 - as a list it would be a page long
SETTINGS = {
    "teacher": {"base_url": "https://api.example.com/v1", "model": "deepseek-reasoner"},
    "sampling": {"max_tokens": 8192},
    "budget": {"usd": "500"},
    "prompt_text": (ROOT / "prompts/boxed.md").read_text("utf-8"),
}


def chain(rng: random.Random, opening: str) -> str:
    """A chain of 8 to 30 paragraphs, about 4,000 characters on average, with the same first sentences per question."""
    steps = [opening]
    for n in range(rng.randrange(8, 30)):
        steps.append(
            f"Step {n}: " + " ".join(rng.choices(WORDS, k=rng.randrange(15, 55))) + f" = {rng.randrange(999)}."
        )
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


FILTERS = {
    "verdict": ("standing", "rejected"), "reason": ("reason", "wrong"), "domain": ("domain", "algebra"),
    "mark": ("mark", "none"), "tokens": ("least_tokens", "1000"), "cost": ("most_cost", "0.002"),
    "dearest first": ("order", "dearest"), "disagreements first": ("order", "disagreements"),
}  # fmt: skip
SET = """async ([name, value]) => {
  const form = document.getElementById("filters");
  const began = performance.now();
  form.elements[name].value = value;
  form.elements[name].dispatchEvent(new Event("change", {bubbles: true}));
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  const took = performance.now() - began;
  const position = document.getElementById("position").textContent;
  return [took, position];
}"""
"""Sets one filter, and returns the milliseconds until the page was painted with it, and the position that it shows."""


def cpu_s(pid: int) -> float:
    """How many seconds of CPU the server has used. On a quiet machine its part of a time is no longer than that."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(url: str, folder: Path, chromium: str) -> Iterator[tuple[str, str]]:
    """Gives (what was measured, the figure in words)."""
    from playwright.sync_api import sync_playwright

    began = time.monotonic()
    command = [sys.executable, "-m", "harvest", "view", "--store", url, "bench"]
    env = {**os.environ, "XDG_STATE_HOME": str(folder)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server, sync_playwright() as browsers:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            yield "from the command to its address", f"{time.monotonic() - began:.2f} s, CPU {cpu_s(server.pid):.2f} s"
            flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
            page = browsers.chromium.launch(executable_path=chromium, args=flags).new_page(bypass_csp=True)
            began = time.monotonic()
            page.goto(address, wait_until="commit")
            page.wait_for_selector(".attempt h1")
            yield "first screen", f"{time.monotonic() - began:.2f} s, CPU {cpu_s(server.pid):.2f} s in all"
            page.wait_for_selector("body[data-ready]")
            yield "all filters ready", f"{time.monotonic() - began:.2f} s, CPU {cpu_s(server.pid):.2f} s in all"
            for words, (name, value) in FILTERS.items():
                neutral = "asked" if name == "order" else ""
                times = []
                for _ in range(5):
                    took, position = page.evaluate(SET, [name, value])
                    times.append(took)
                    page.evaluate(SET, [name, neutral])
                yield f"filter: {words} ({position})", f"{max(times) / 1000:.3f} s"
            times = []
            for _ in range(5):
                before = page.locator(".kicker + h1").text_content(), page.locator("#position").text_content()
                began = time.monotonic()
                for _ in range(4):
                    page.keyboard.press("j")
                page.wait_for_function("text => document.querySelector('h1').textContent !== text", arg=before[0])
                times.append(time.monotonic() - began)
            yield "four steps with j, until the next question is shown", f"{max(times):.3f} s"
            began = time.monotonic()
            page.keyboard.press("/")
            page.keyboard.type("triangle angle")
            page.keyboard.press("Enter")
            page.wait_for_function("document.getElementById('chosen').textContent.includes('triangle')")
            yield "first hit of a search through all chains", f"{time.monotonic() - began:.2f} s"
            page.wait_for_function("document.getElementById('said').textContent === ''", timeout=120_000)
            found = page.locator("#position").text_content()
            yield f"end of the search ({found})", f"{time.monotonic() - began:.2f} s"
            status = Path(f"/proc/{server.pid}/status").read_text()
            most = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            yield "most memory of the server", f"{int(most.split()[1]) / 1024:.0f} MB"
        finally:
            server.send_signal(signal.SIGINT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the store in DIR, and use the one that is there")
    parser.add_argument("--chromium", default="/usr/bin/chromium", metavar="PATH")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        store = folder / "store.db"
        if not store.exists():
            make_store(f"sqlite:///{store.absolute()}", given.attempts)
        print(f"{given.attempts:,} attempts, {store.stat().st_size / 1e6:.0f} MB")
        print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
        for what, figure in measure(f"sqlite:///{store.absolute()}", Path(temporary), given.chromium):
            print(f"| {what} | {figure} |", flush=True)


if __name__ == "__main__":
    main()
