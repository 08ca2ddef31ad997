"""Measures how many answers a second the store takes from several processes: claimed, reserved, settled, judged.

    python benchmarks/workers.py [--questions 8000] [--in-flight 64] [--words 400]

No endpoint is asked: each reply is there at once, so that the store is all that is measured. Each process works as
`collect` does, through its writing thread, with so many answers in flight. PostgreSQL is a cluster of its own with
fsync on, on the same cores; SQLite is one process. `CPU ms` is what one answer takes of the cores, in all processes
and the server together: 2 cores that do nothing else give at most 2,000 / CPU ms. Needs PostgreSQL's server programs
(`make system`).
"""

import argparse
import asyncio
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from measure import table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from postgres import Cluster, programs  # noqa: E402
from stores import NOW, question  # noqa: E402

from harvest.core.clock import now  # noqa: E402
from harvest.core.money import Usage  # noqa: E402
from harvest.core.nouns import Ask, Judgement, Outcome, Reply, Verdict  # noqa: E402
from harvest.store import OpenQuestion, Sent, Settlement, Store, Writer  # noqa: E402

WORDS = [f"word{n}" for n in range(5000)]


async def one(ledger: Writer, run: int, asked: OpenQuestion, reply: Reply) -> None:
    held = await ledger.do(Store.reserve, run, asked.id, Ask(0, 100), f"sha256:{run}-{asked.id:064d}", 900, now())
    assert isinstance(held, Sent)

    def settle(store: Store) -> None:
        store.settle(held.try_id, reply, 300, "config", now())
        if not store.shares:
            store.money(run)

    await ledger.settle(Settlement("settle", held.try_id, ()), settle)
    judgement = Judgement(held.attempt_id, (Verdict("math", "1", Outcome.RIGHT, ""),), None)
    ledger.post(Store.put_judgements, [judgement], now())
    ledger.post(Store.close_question, asked.id, "solved")


async def work(url: str, in_flight: int, words: int) -> int:
    """One process: asks until nothing is left. How many questions it had."""
    chance, done = random.Random(os.getpid()), 0
    with Store.open(url) as store:
        store.join("r", alone=False)
        run, ledger = store.run_id("r"), Writer(store)
        await ledger.do(Store.begin_session, run, now())
        room = asyncio.Semaphore(in_flight)
        tasks = set[asyncio.Task[None]]()

        async def take(asked: OpenQuestion) -> None:
            text = " ".join(chance.choices(WORDS, k=words))
            usage = Usage(40, None, words, None, None)
            try:
                await one(ledger, run, asked, Reply("4", reasoning=text, finish_reason="stop", usage=usage))
            finally:
                room.release()

        after = 0
        while page := await ledger.do(Store.open_questions, run, after, 256):
            for asked in page:
                await room.acquire()
                tasks.add(task := asyncio.create_task(take(asked)))
                task.add_done_callback(tasks.discard)
                done += 1
            after = 0 if store.shares else page[-1].id
        while tasks:
            await asyncio.wait(tasks)
        await ledger.do(Store.leave, run, now())
        ledger.close()
    return done


def measured(url: str, processes: int, questions: int, in_flight: int, words: int) -> float:
    """Answers a second, from the first reserve to the last settlement."""
    with Store.open(url) as store, store.transaction():
        run = store.put_run("r", {}, 10**15, NOW)
        for n in range(questions):
            store.put_question(run, question(n))
    more = [sys.executable, __file__, "--url", url, "--in-flight", str(in_flight), "--words", str(words)]
    running = [subprocess.Popen(more, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    done = [int(p.communicate()[0]) for p in running]
    assert sum(done) == questions, done
    with Store.open(url, write=False) as store:
        first, last, n = store.db.execute("SELECT min(sent_at), max(ended_at), count(*) FROM try").fetchone()
        money = store.money(store.run_id("r"))
        assert (n, money.spent, money.reserved) == (questions, 300 * questions, 0)
    return float(n / (seconds(last) - seconds(first)))


def seconds(at: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(at).timestamp()


def stores(folder: Path, cluster: Cluster) -> Iterator[tuple[str, str, int]]:
    yield "SQLite, 1 process", f"sqlite:///{folder}/store.db", 1
    for n in (1, 2, 4):
        yield f"PostgreSQL, {n} process{'es' if n > 1 else ''}", cluster.database(), n


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=8000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--words", type=int, default=400)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.url:
        print(asyncio.run(work(args.url, args.in_flight, args.words)))
        return
    if (folder := programs()) is None:
        raise SystemExit("needs PostgreSQL's server programs: `make system` installs them")
    rows = [("", "answers/s", "CPU ms", "load")]
    cluster = Cluster(folder, fsync="on")
    with tempfile.TemporaryDirectory() as place:
        for name, url, processes in stores(Path(place), cluster):
            before_s = cpu_s(cluster)
            rate = measured(url, processes, args.questions, args.in_flight, args.words)
            time.sleep(1)  # the server's processes for these connections end
            each_ms = 1000 * (cpu_s(cluster) - before_s) / args.questions
            rows.append((name, f"{rate:,.0f}", f"{each_ms:.2f}", f"{os.getloadavg()[0]:.1f}"))
    print(table(rows))


def cpu_s(cluster: Cluster) -> float:
    """CPU time of all processes that this one has waited for, and of the server with all that it had."""
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    postmaster = int((cluster.folder / "data" / "postmaster.pid").read_text().split()[0])
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            pid, _, rest = stat.read_text().partition(" ")
            words = rest.rpartition(")")[2].split()
            if postmaster in (int(pid), int(words[1])):
                ticks += sum(map(int, words[11:15]))
    return ours.ru_utime + ours.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
