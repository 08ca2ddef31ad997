"""Whole runs in batches, over real sockets, against an endpoint that keeps its own bill at half the price."""

import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from batches import SETTINGS, batch_endpoint
from books import audit_file
from conftest import Place, scaled, sums
from dies import BATCH_STEPS, die_at

Places = Callable[..., Place]
Here = Callable[..., int]


def test_every_row_is_answered_once_and_booked_at_the_batch_price(shared: Path, place: Places, here: Here) -> None:
    faults = ("--fault", "row500=0.1", "--fault", "row429=0.05", "--cut-download", 1, "--no-file", "object")
    with batch_endpoint(shared, *faults) as endpoint:
        p = place(endpoint.url, 70, **SETTINGS)
        assert here(p) == 0
        stats = endpoint.check(p)
        assert p.report["traces"]["accepted"] == 70
        assert not stats["repeat_bodies"]
        assert p.report["money"]["price_source"] == "config (batch)"
        before = stats["requests"]
        assert here(p) == 0
        assert endpoint.stats()["requests"] == before, "a run that is done asks nothing"


def test_rows_in_no_file_are_asked_again_and_stay_in_doubt(shared: Path, place: Places, here: Here) -> None:
    with batch_endpoint(shared, "--fault", "missing=0.1", "--no-file", "empty") as endpoint:
        p = place(endpoint.url, 60, **SETTINGS)
        assert here(p) == 0
        endpoint.check(p, in_doubt=True)
        assert p.report["traces"]["accepted"] == 60
        assert p.report["attempts"]["in_doubt"] == endpoint.stats()["rows_missing"]


def test_expired_rows_cost_nothing_and_go_again(shared: Path, place: Places, here: Here) -> None:
    with batch_endpoint(shared, "--expire", 1) as endpoint:
        p = place(endpoint.url, 40, **SETTINGS)
        assert here(p) == 0
        assert endpoint.check(p)["asked_times"] == {"1": 30, "2": 10}


@pytest.mark.parametrize("names_lines", ["yes", "no"])
def test_one_bad_line_is_named_and_the_rest_goes_again_without_it(
    shared: Path, place: Places, here: Here, names_lines: str
) -> None:
    rows = sums(24)
    rows[13]["question"] += " BADROW"
    with batch_endpoint(shared, "--bad-line", "BADROW", "--name-lines", names_lines) as endpoint:
        p = place(endpoint.url, rows, **SETTINGS)
        assert here(p) == 0
        endpoint.check(p)
        assert p.report["traces"]["accepted"] == 23
        assert p.report["attempts"]["failed"]["row"] == 1


@pytest.mark.parametrize("style", ["429", "failed"])
def test_a_queue_with_less_room_than_a_batch_takes_smaller_ones(
    shared: Path, place: Places, here: Here, style: str
) -> None:
    with batch_endpoint(shared, "--enqueue-limit", 1_200, "--enqueue-style", style) as endpoint:
        p = place(endpoint.url, 40, **SETTINGS)
        assert here(p) == 0
        assert endpoint.check(p)["answered"] == 40


def test_files_that_are_too_large_get_smaller_and_a_row_that_is_too_large_is_given_up(
    shared: Path, place: Places, here: Here
) -> None:
    rows = sums(20)
    rows[7]["question"] = "word " * 3_000 + rows[7]["question"]
    with batch_endpoint(shared, "--max-mb", 0.006) as endpoint:
        p = place(endpoint.url, rows, **SETTINGS)
        code, _, err = p.collect()
        assert code == 0, err
        assert endpoint.check(p)["answered"] == 19
        assert p.report["attempts"]["failed"]["row"] == 1


def test_a_batch_whose_creation_got_no_response_is_not_created_again(shared: Path, place: Places, here: Here) -> None:
    with batch_endpoint(shared, "--lose-create", 2) as endpoint:
        p = place(endpoint.url, 40, **SETTINGS)
        assert here(p) == 0
        assert endpoint.check(p)["creates"] == 2


def test_slices_fit_the_cap_and_use_it_up(shared: Path, place: Places, here: Here) -> None:
    with batch_endpoint(shared) as endpoint:
        p = place(endpoint.url, 200, **SETTINGS, budget__usd="0.02")
        assert here(p) == 3
        stats = endpoint.check(p)
        assert float(stats["bill_usd"]) > 0.9 * 0.02


@pytest.mark.parametrize(("refusal", "word"), [("402", "balance"), ("model", "model"), ("nobatch", "batches")])
def test_an_endpoint_that_takes_no_batch_is_asked_nothing_else(
    shared: Path, place: Places, refusal: str, word: str
) -> None:
    with batch_endpoint(shared, "--refuse", refusal) as endpoint:
        p = place(endpoint.url, 20, **SETTINGS)
        code, _, err = p.collect()
        assert code == 4
        assert word in err
        stats = endpoint.check(p)
        assert stats["requests"] < 20
        assert not stats["answered"]


def test_a_row_billed_beyond_its_limit_ends_the_asking(shared: Path, place: Places, here: Here) -> None:
    with batch_endpoint(shared, "--fault", "over=0.2", "--enqueue-limit", 700) as endpoint:
        p = place(endpoint.url, 100, **SETTINGS)
        assert here(p, overbilled=True) == 5
        assert Decimal(endpoint.stats()["bill_usd"]) == p.money("spent")


def test_after_a_signal_the_batches_run_on_and_the_next_start_fetches_them(shared: Path, place: Places) -> None:
    with batch_endpoint(shared, "--seconds", 2) as endpoint:
        p = place(endpoint.url, 40, **SETTINGS)
        process = p.start()
        while endpoint.stats()["running"] < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        code, _, err = p.ended(process, 30)
        assert code == 130
        assert "2 batches with 40 rows stay at the endpoint" in err
        audit_file(p.store)
        assert p.collect()[0] == 0
        assert endpoint.check(p)["creates"] == 2


def test_batches_left_behind_are_fetched_where_the_run_is_now_live(shared: Path, place: Places) -> None:
    with batch_endpoint(shared, "--seconds", 2) as endpoint:
        p = place(endpoint.url, 20, **SETTINGS)
        process = p.start()
        while not endpoint.stats()["running"]:
            assert process.poll() is None, "the run ended before its batch ran"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert p.ended(process, 30)[0] == 130
        assert p.collect("--teacher.mode", "live")[0] == 0
        stats = endpoint.check(p)
        assert stats["answered"] == 20, "an answer was bought twice"


def test_several_teachers_and_samples_follow_the_plan_of_live_ones(shared: Path, place: Places, here: Here) -> None:
    """The cheap teacher, in batches, is wrong about half; a live one is asked what it failed twice."""
    with batch_endpoint(shared, "--wrong", 0.5) as cheap, batch_endpoint(shared, "--latency", 0) as dear:
        teacher = {name.removeprefix("teacher__"): value for name, value in SETTINGS.items() if "teacher" in name}
        cascade = [
            teacher | {"base_url": cheap.url, "model": "m"},
            {"base_url": dear.url, "model": "n", "mode": "live"},
        ]
        cascade[1]["price_usd_per_mtok"] = teacher["price_usd_per_mtok"]
        p = place(cheap.url, 30, **SETTINGS, teacher=None, sampling__samples=2, sampling__seed=1, teachers=cascade)
        assert here(p) == 0
        first, second = cheap.stats(), dear.stats()
        assert p.report["questions"]["solved"] == 30
        assert 30 < first["batch_answered"] <= 60
        assert "chat_answered" not in first
        assert not first["repeat_bodies"]
        failed = 30 - next(t["accepted"] for t in p.report["teachers"] if t["model"] == "m")
        assert second["chat_answered"] == failed > 0
        assert p.money("spent") == Decimal(first["bill_usd"]) + Decimal(second["bill_usd"])


def test_equal_questions_are_bought_once(shared: Path, place: Places, here: Here) -> None:
    rows = sums(15) + [{**row, "id": f"again-{row['id']}"} for row in sums(15)]
    with batch_endpoint(shared) as endpoint:
        p = place(endpoint.url, rows, **{**SETTINGS, "teacher__batch_rows": 25})
        assert here(p) == 0
        assert endpoint.check(p)["answered"] == 15
        assert p.report["questions"]["solved"] == 30


def test_rows_of_one_question_that_the_file_is_refused_for_are_given_up(
    shared: Path, place: Places, here: Here
) -> None:
    rows = sums(6)
    rows[4]["question"] += " BADROW"
    samples = {"sampling__samples": 2, "sampling__stop_after_accepted": 2, "sampling__seed": 1}
    with batch_endpoint(shared, "--bad-line", "BADROW", "--name-lines", "no") as endpoint:
        p = place(endpoint.url, rows, **SETTINGS, **samples)
        assert here(p) == 0
        assert endpoint.check(p)["answered"] == 10
        assert p.report["attempts"]["failed"]["row"] == 2


def test_memory_does_not_grow_with_the_run(shared: Path, place: Places) -> None:
    """1,000,000 rows in `make bars`: slices as set, the books equal to the bill. (Selection, after the last answer,
    holds some hundred bytes a row.)"""
    n, rows = scaled(1_500, 1_000_000), scaled(300, 50_000)
    with batch_endpoint(shared, "--tokens", 10, "--seconds", 1) as endpoint:
        p = place(endpoint.url, n, **{**SETTINGS, "teacher__batch_rows": rows, "budget__usd": "10000"})
        process, asking_mb, peak_mb, ended = p.start(), 0, 0, 0
        while process.poll() is None:
            with suppress(OSError, IndexError):  # of its own: pages of files are the kernel's, which takes them back
                now_mb = int(Path(f"/proc/{process.pid}/status").read_text().split("RssAnon:")[1].split()[0]) // 1024
                peak_mb = max(peak_mb, now_mb)
                asking_mb = asking_mb if ended == n else peak_mb
            with suppress(sqlite3.Error), closing(sqlite3.connect(f"{p.store.as_uri()}?mode=ro", uri=True)) as db:
                (ended,) = db.execute("SELECT count(*) FROM question WHERE status != 'open'").fetchone()
            time.sleep(0.2)
        assert p.ended(process, 30)[0] == 0
        stats = endpoint.check(p)
        assert stats["answered"] == n
        assert stats["creates"] == n // rows + 1, "a first batch of 20 goes alone"
        assert 0 < asking_mb < 200, f"{asking_mb} MB"
        assert peak_mb < 200 + n * 600 // 1_000_000, f"{peak_mb} MB"


def test_a_majority_is_judged_when_its_last_answer_has_come(shared: Path, place: Places, here: Here) -> None:
    rows = [{key: value for key, value in row.items() if key != "answer"} for row in sums(8)]
    with batch_endpoint(shared) as endpoint:
        p = place(
            endpoint.url, rows, **SETTINGS, sampling__samples=3, sampling__seed=1, sampling__stop_after_accepted=3,
            checks__without_gold="majority",
        )  # fmt: skip
        assert here(p) == 0
        assert endpoint.check(p)["answered"] == 24
        assert p.report["questions"]["solved"] == 8


def test_a_first_slice_of_twenty_goes_alone_in_a_large_run(shared: Path, place: Places, here: Here) -> None:
    """Every row is refused for a wrong setting: hundreds of them are not sent to find that out."""
    with batch_endpoint(shared, "--fault", "row400=1") as endpoint:
        p = place(endpoint.url, 450, **{**SETTINGS, "teacher__batch_rows": 400})
        assert here(p) == 4
        assert endpoint.stats()["rows_row400"] == 40
        assert p.report["run"]["stopped_by"] == "setting"


def test_nobody_needs_to_be_told_of_batches_by_a_dry_request(shared: Path, place: Places) -> None:
    """doctor says whether there are batches, and asks its one question live, at the live price."""
    for flags, said in (((), "its list of them answers"), (("--refuse", "nobatch"), "it takes none")):
        with batch_endpoint(shared, *flags) as endpoint:
            p = place(endpoint.url, 1, folder=f"doctor{len(flags)}", **SETTINGS)
            code, out, _ = p.harvest("doctor", str(p.toml))
            assert code == 0
            assert said in out
            assert "config (batch)" in out
            stats = endpoint.stats()
            assert stats["chat_answered"] == 1
            assert f"{Decimal(stats['bill_full_usd']).normalize()} USD for this call" in out


@pytest.mark.parametrize("step", BATCH_STEPS)
def test_killed_at_each_step_nothing_is_bought_twice(shared: Path, place: Places, step: str) -> None:
    with batch_endpoint(shared) as endpoint:
        p = place(endpoint.url, 45, **SETTINGS)
        process = p.start(before=partial(die_at, step, 2))
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        audit_file(p.store)
        assert p.collect()[0] == 0
        stats = endpoint.check(p)
        assert stats["answered"] == 45
        assert not stats["repeat_bodies"]
        audit_file(p.store)


def test_killed_again_and_again_nothing_is_bought_twice(shared: Path, place: Places) -> None:
    kills, n, chance = scaled(4, 50), scaled(120, 1_500), random.Random(19)
    flags = ("--accept-delay", 0.3, "--download-rate", 100_000, "--enqueue-limit", 3_000, "--fault", "row500=0.03")
    with batch_endpoint(shared, *flags) as endpoint:
        p = place(endpoint.url, n, **SETTINGS)
        for _ in range(kills):
            process = p.start()
            time.sleep(chance.uniform(0.5, 3.0))
            process.kill()
            process.communicate(timeout=30)
            if p.store.exists():
                audit_file(p.store)
        assert p.collect(timeout_s=300)[0] == 0
        stats = endpoint.check(p)
        assert stats["answered"] == n
        assert not stats["repeat_bodies"]
