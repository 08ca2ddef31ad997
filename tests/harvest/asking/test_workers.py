"""Several processes collect one run in PostgreSQL: one cap, no answer bought twice, whoever dies or sleeps."""

import json
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from books import audit
from conftest import Place, scaled, sums
from dies import stop_at
from postgres import Cluster, cluster, programs
from scripted_endpoint import Asked, Endpoint, Say

from harvest.core.errors import StoreUnusable
from harvest.store import Store

SECRET = "pg%2Fsecret-0815"


@pytest.fixture
def url() -> str:
    """An empty database. The server lets everybody in, so that any password will do."""
    return cluster().database().replace("postgres@", f"postgres:{SECRET}@")


@pytest.fixture
def fleet(place: Callable[..., Place], url: str) -> Callable[..., list[Place]]:
    """Makes places of one run on one store: processes on machines of their own."""

    def make(teacher: str, questions: Any, machines: int, /, store: str = url, **more: Any) -> list[Place]:
        found = [place(teacher, questions, folder=f"machine{n}", store=store, **more) for n in range(machines)]
        for one in found:
            one.env["XDG_STATE_HOME"] = str(one.folder / "state")
        return found

    return make


def until(what: Callable[[], object], process: "subprocess.Popen[str] | None" = None) -> None:
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < 60, "it never came"
        assert process is None or process.poll() is None, process.communicate() if process else ""
        time.sleep(0.02)


def let_run_out(url: str, sleeping: "subprocess.Popen[str]") -> None:
    """What half a minute would do: the lease of one process is over."""
    with Store.open(url) as store:
        store.db.execute(
            "UPDATE lease SET until = clock_timestamp() - interval '1 s' WHERE who LIKE ?", (f"%:{sleeping.pid}",)
        )


def checked(url: str, teacher: Endpoint, places: list[Place]) -> dict[str, Any]:
    """The report, which is the same everywhere, once the money is found right: bill <= spent + in doubt <= cap."""
    with Store.open(url, write=False) as store:
        books = audit(store.db, store.run_id("r"))
        assert store.db.execute("SELECT 1 FROM lease UNION ALL SELECT 1 FROM claim").fetchall() == []
    assert books["reserved"] == 0
    assert teacher.billed_pusd <= books["spent"] + books["in_doubt"] <= books["cap"]
    reports = [p.harvest("report", "r", "--store", url, "--json") for p in places]
    assert {code for code, _, _ in reports} == {0}
    assert len({out for _, out, _ in reports}) == 1, "the report differs from place to place"
    found: dict[str, Any] = json.loads(reports[0][1])
    assert sum(Decimal(v) for v in found["money"]["spent_on"].values()) == Decimal(found["money"]["spent_usd"])
    return found


def no_secret_in(places: list[Place]) -> None:
    for p in places:
        for file in p.folder.rglob("*"):
            if file.is_file() and file.name != "run.toml":
                assert SECRET.encode() not in file.read_bytes(), file


def test_three_processes_share_one_run_and_buy_nothing_twice(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str
) -> None:
    """Some questions are the same to the teacher. One process dies (50 times in `make bars`, where another one sleeps
    past its lease meanwhile), and the server starts anew."""
    rows = [row | {"id": f"{row['id']}-{n}"} for n in range(2) for row in sums(scaled(40, 1000))]
    rows += [row | {"id": f"more-{row['id']}"} for row in sums(scaled(80, 2000), start=5000)]
    teacher = endpoint(lambda _: Say(delay_s=0.3))
    places = fleet(teacher.url, rows, 3, teacher__max_concurrency=6, budget__usd="5.00")
    processes = [p.start() for p in places]
    until(lambda: len(teacher.asked) > len(rows) // 5, processes[0])
    kills, slept = scaled(1, 50), scaled(0, 6)
    for kill in range(kills):
        processes[0].kill()
        processes[0].communicate()
        let_run_out(url, processes[0])
        if slept and kill == kills // 4:
            processes[2].send_signal(signal.SIGSTOP)
            let_run_out(url, processes[2])
        if kill == kills // 2:
            processes[2].send_signal(signal.SIGCONT)
            until(lambda: len(teacher.asked) > len(rows) // 3, processes[1])
            cluster().restart()
        if kill < kills - 1:
            before = len(teacher.asked)
            processes[0] = places[0].start()
            until(lambda before=before: len(teacher.asked) > before + 20, processes[1])
    ended = [p.ended(process, 120) for p, process in zip(places[1:], processes[1:], strict=True)]
    assert [code for code, _, _ in ended] == [0, 0], ended
    if kills == 1:
        written = [p.run_folder.joinpath("report.json").exists() for p in places[1:]]
        assert written.count(True) == 1, "the last one reports"
    found = checked(url, teacher, places)
    assert found["traces"]["accepted"] == len(rows), (found["traces"]["rejected"], found["attempts"])
    in_doubt = found["attempts"]["in_doubt"]
    assert in_doubt <= 6 * kills + slept, "what the killed one had in flight"
    assert len(teacher.asked) <= len(rows) - scaled(40, 1000) + in_doubt + slept
    no_secret_in(places)
    assert not any(SECRET in text or "Traceback" in text for one in ended for text in one[1:])
    with Store.open(url, write=False) as store:
        assert SECRET not in json.dumps(dict(store.run("r").settings))
    code, _, err = places[1].harvest("why", "r", rows[0]["id"])
    assert code == 0, "the run's folder names the store: " + err


def test_a_process_that_slept_past_its_lease_settles_what_came_and_buys_nothing_more_for_it(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str
) -> None:
    teacher = endpoint(lambda asked: Say(delay_s=2.0 if 1 <= asked.n <= 3 else 0.02))  # the sleeper's, after its first
    places = fleet(teacher.url, 30, 2, teacher__max_concurrency=3, teacher__timeout_s=60)
    first = places[0].start()
    until(lambda: len(teacher.asked) == 4, first)
    first.send_signal(signal.SIGSTOP)
    let_run_out(url, first)
    second = places[1].start()
    code, _, err = places[1].ended(second, 90)
    assert code == 0, err
    with Store.open(url, write=False) as store:
        money = store.money(store.run_id("r"))
        assert money.in_doubt > 0
        assert store.counts(store.run_id("r"))["ended"] == 30
    first.send_signal(signal.SIGCONT)
    code, _, err = places[0].ended(first, 90)
    assert code == 0, err
    found = checked(url, teacher, places)
    assert found["traces"]["accepted"] == 30
    assert found["attempts"]["in_doubt"] == 0, "what came late was booked, and the doubt is gone"
    assert len(teacher.asked) == 33, "three were asked by both: the sleeper's replies were not known"


def test_who_freezes_while_it_prepares_is_named_and_after_its_lease_no_longer_waited_for(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str
) -> None:
    """It holds the run's row, for which one process waits that collects, and the lock of preparing, for which one waits
    that has just begun. This takes 40 s, since nobody can make the server's clock go faster."""
    teacher = endpoint(lambda _: Say(delay_s=0.2))
    places = fleet(teacher.url, 60, 3, teacher__max_concurrency=2)
    collecting = places[0].start()
    until(lambda: len(teacher.asked) > 2, collecting)
    with Store.open(url, write=False) as store:
        assert store.db.execute("SHOW tcp_keepalives_idle").fetchone()[0] == "10", "the server looks for dead machines"
    frozen = places[1].start(before=partial(stop_at, "in preparing", 1))
    until(lambda: "T (stopped)" in Path(f"/proc/{frozen.pid}/status").read_text(), frozen)
    before = len(teacher.asked)
    preparing = places[2].start()
    ended = [p.ended(process, 120) for p, process in ((places[0], collecting), (places[2], preparing))]
    for code, _, err in ended:
        assert code == 0, err
        assert re.search(
            rf"waiting for another process \(\S+:{frozen.pid}\), which has held the run since \d\d:", err
        ), err
    assert any("this process goes on without it" in err for _, _, err in ended), ended
    assert len(teacher.asked) > before + 30, "hardly anything was asked while it stood still"
    frozen.send_signal(signal.SIGCONT)
    code, out, err = places[1].ended(frozen, 60)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert checked(url, teacher, [places[0], places[2]])["traces"]["accepted"] == 60


def test_a_process_that_cannot_prolong_its_lease_says_so_and_asks_nothing_more(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str
) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.2))
    (p,) = fleet(teacher.url, 500, 1, teacher__max_concurrency=1)
    process = p.start()
    until(lambda: len(teacher.asked) > 2, process)
    with Store.open(url) as store:
        store.db.execute("ALTER TABLE lease RENAME COLUMN pace TO speed")
    code, _, err = p.ended(process, 60)
    assert code == 2
    assert "the lease of this process is lost" in err
    assert len(teacher.asked) < 100


def test_at_the_cap_all_processes_stop_and_none_passes_it(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str
) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.05))
    places = fleet(teacher.url, 200, 2, teacher__max_concurrency=8, budget__usd="0.02")
    ended = [p.ended(process, 90) for p, process in [(p, p.start()) for p in places]]
    assert [code for code, _, _ in ended] == [3, 3], ended
    found = checked(url, teacher, places)
    assert found["money"]["in_doubt_usd"] == "0.00"
    assert Decimal(found["money"]["spent_usd"]) > Decimal("0.017")


def test_who_rewrites_a_run_and_who_collects_it_keep_each_other_out(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str
) -> None:
    teacher = endpoint(lambda _: Say())
    (p,) = fleet(teacher.url, 2, 1)
    assert p.collect()[0] == 0
    answers = p.folder / "more.jsonl"
    answers.write_text('{"question": "What is 1 + 1?", "answer": "2", "response": "2"}\n')
    with Store.open(url) as store:
        store.join("r", alone=False)  # as `collect` does
        for words in (("verify", "r"), ("select", "r"), ("settle", "r", "--as", "free"), ("copy", url, f"{url}_2")):
            code, _, err = p.harvest(*words, *(() if words[0] == "copy" else ("--store", url)))
            assert code == 2, words
            assert "other processes are collecting it" in err or "does not exist" in err, err
            assert err.count("\n") <= 2, err
            assert SECRET not in err
        assert p.collect()[0] == 0, "others may collect it"
    with Store.open(url) as store:
        store.join("r", alone=True)  # as `verify` does
        code, _, err = p.collect()
        assert (code, err.count("\n")) == (2, 1), err
        assert "another command is changing it. Wait for it" in err
        with Store.open(url) as another:
            another.join("s", alone=True)  # a run of its own
            with pytest.raises(StoreUnusable):
                another.join("r", alone=True)
    assert p.harvest("verify", "r", "--store", url)[0] == 0
    assert p.harvest("import", str(answers), "--name", "bought", "--store", url)[0] == 0


def test_no_server_and_a_wrong_user_are_one_line_without_the_password(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str
) -> None:
    teacher = endpoint(lambda _: Say())
    parts = urlsplit(url)
    for bad in (
        f"postgresql://postgres:{SECRET}@127.0.0.1:1/x", url.replace("postgres:", "nobody-here:"), f"{url}_none",
        "postgresql://[", f"postgresql://127.0.0.1:{parts.port}/x?password={SECRET}&user=postgres",
        *(url.replace("%2F", cut) for cut in "/?#"),
    ):  # fmt: skip
        (p,) = fleet(teacher.url, 1, 1, bad)
        code, out, err = p.collect()
        assert (code, out, err.count("\n")) == (2, "", 1), (bad, out, err)
        assert SECRET not in err
        assert "secret" not in err
    assert teacher.asked == []


def test_a_run_goes_to_a_server_and_back_with_the_same_report(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str, place: Callable[..., Place]
) -> None:
    """To the last byte of report.json, report.md and report.html."""
    chance = random.Random(5)

    def answers(asked: Asked) -> Say:
        return Say(text=chance.choice([None, None, "7"]), status=chance.choice([200, 200, 200, 503]))

    p = place(endpoint(answers).url, 25, sampling__samples=2)
    assert p.collect()[0] == 0
    back = f"sqlite:///{p.folder / 'back.db'}"

    def report(store: str) -> list[bytes]:
        code, _, err = p.harvest("report", "r", "--store", store)
        assert code == 0, err
        return [p.run_folder.joinpath(f"report.{kind}").read_bytes() for kind in ("json", "md", "html")]

    before = report(p.url)
    assert p.harvest("copy", p.url, url)[:2] == (0, f"copied to {url.replace(f':{SECRET}', '')}: r\n")
    assert report(url) == before
    code, out, _ = p.harvest("copy", url, back, "--run", "r", "--json")
    assert (code, json.loads(out)) == (0, {"runs": ["r"], "to": back})
    assert report(back) == before
    for again, said in ((back, "has a run 'r' already"), (p.url, "both stores are the same")):
        code, _, err = p.harvest("copy", p.url, again)
        assert (code, err.count("\n")) == (2, 1), err
        assert said in err
    code, _, err = p.harvest("copy", p.url, f"sqlite:///{p.folder / 'c.db'}", "--run", "none")
    assert code == 2
    assert "no run 'none'" in err


def test_a_run_is_copied_to_a_server_while_another_run_there_is_being_written(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]], url: str, place: Callable[..., Place]
) -> None:
    teacher = endpoint(lambda _: Say())
    (busy,) = fleet(teacher.url, 1, 1)
    assert busy.collect("--name", "busy")[0] == 0
    p = place(teacher.url, 2)
    assert p.collect()[0] == 0
    with Store.open(url) as store:
        store.join("busy", alone=False)
        store.db.begin()
        assert store.run_names() == ["busy"], "its transaction has begun"
        code, out, err = p.ended(p.begin("copy", p.url, url, "--run", "r"), 30)
        store.db.rollback()
    assert (code, out) == (0, f"copied to {url.replace(f':{SECRET}', '')}: r\n"), err


def test_a_reply_that_came_while_the_server_was_gone_is_settled_by_the_next_start(
    endpoint: Callable[..., Endpoint], fleet: Callable[..., list[Place]]
) -> None:
    """The process is killed before the server is back: the file beside it holds what was paid for."""
    cluster()
    folder = programs()
    assert folder is not None
    own = Cluster(folder)
    url = own.database()

    def answers(asked: Asked) -> Say:
        return Say(delay_s=1.5 if asked.n == 3 else 0.0)

    teacher = endpoint(answers)
    (p,) = fleet(teacher.url, 4, 1, url, teacher__max_concurrency=1)
    process = p.start()
    until(lambda: len(teacher.asked) == 4, process)
    own.stop()
    files = Path(p.env["XDG_STATE_HOME"]) / "winnow" / "stores"
    until(lambda: any(f.read_bytes()[:4] != bytes(4) for f in files.rglob("*.unwritten")), process)
    process.kill()
    process.communicate()
    own.start()
    code, _, err = p.collect()
    assert code == 0, err
    assert "taken in, since they could not be written when they came: replies to 1 tries" in err
    found = checked(url, teacher, [p])
    assert found["attempts"]["in_doubt"] == 0
    assert len(teacher.asked) == 4
    assert not list(files.rglob("*.unwritten"))
    own.end()
