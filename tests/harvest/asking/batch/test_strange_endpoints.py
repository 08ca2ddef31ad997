"""Whole runs in batches at endpoints whose answers about batches are wrong: no paid answer is lost, and no money is
taken for free that may have been billed."""

import json
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from http.client import BAD_REQUEST, FORBIDDEN, NOT_FOUND, UNAUTHORIZED
from pathlib import Path
from typing import Any

import pytest
from batches import SETTINGS, BatchEndpoint, Change, altered, batch_endpoint
from books import audit_file
from conftest import Place

from harvest.asking.batch.results import MOST_FETCHES

Places = Callable[..., Place]
Here = Callable[..., int]


def told_of_batch(change: Callable[[dict[str, Any]], None], times: int = 1) -> Change:
    """Returns what changes the first `times` answers that tell of a batch that is completed."""
    left = [times]

    def changed(what: str, status: int, body: bytes) -> tuple[int, bytes]:
        if what.startswith("GET /v1/batches/"):
            document = json.loads(body)
            if document["status"] == "completed" and left[0]:
                left[0] -= 1
                change(document)
            body = json.dumps(document).encode()
        return status, body

    return changed


@pytest.mark.parametrize(
    ("what", "status"),
    [("GET /v1/files/", UNAUTHORIZED), ("GET /v1/files/", FORBIDDEN), ("GET /v1/batches/", NOT_FOUND)],
)
def test_a_batch_that_another_key_may_not_see_is_fetched_by_the_next_start(
    shared: Path, place: Places, here: Here, what: str, status: int
) -> None:
    refuses = [True]

    def change(asked: str, answered: int, body: bytes) -> tuple[int, bytes]:
        if refuses[0] and asked.startswith(what):
            return status, b'{"error": {"message": "another project"}}'
        return answered, body

    with batch_endpoint(shared) as endpoint, altered(endpoint, change) as url:
        p = place(url, 10, **SETTINGS)
        assert here(p) == 4
        refuses[0] = False
        assert here(p) == 0
        assert endpoint.check(p)["creates"] == 1
        assert p.report["traces"]["accepted"] == 10


def test_a_batch_that_is_lost_is_given_up_by_settle(shared: Path, place: Places, here: Here) -> None:
    lost: list[str] = []

    def change(what: str, status: int, body: bytes) -> tuple[int, bytes]:
        if what.startswith("POST /v1/batches") and not lost:
            lost.append(json.loads(body)["id"])
        return (NOT_FOUND, b"{}") if what == f"GET /v1/batches/{lost[0] if lost else ''}" else (status, body)

    with batch_endpoint(shared) as endpoint, altered(endpoint, change) as url:
        p = place(url, 10, **SETTINGS)
        code, _, err = p.collect()
        assert code == 4
        assert lost[0] in err
        assert "settle" in err
        assert p.harvest("settle", "r", "--as", "worst")[0] == 0
        assert here(p) == 0
        stats, money = endpoint.stats(), p.report["money"]
        assert Decimal(stats["bill_usd"]) <= Decimal(money["spent_usd"])
        assert stats["creates"] == 2
        assert p.report["traces"]["accepted"] == 10


@pytest.mark.parametrize(
    "told",
    [
        {"status": "failed", "output_file_id": None},
        {"usage": {"input_tokens": 0, "output_tokens": 0}, "output_file_id": None},
        {"usage": {"input_tokens": 0, "output_tokens": 0}, "output_file_id": None, "request_counts": {}},
    ],
    ids=["failed midway", "usage of nothing", "usage of nothing, no counts"],
)
def test_rows_that_were_run_and_are_in_no_file_stay_in_doubt(
    shared: Path, place: Places, here: Here, told: dict[str, Any]
) -> None:
    with batch_endpoint(shared) as endpoint, altered(endpoint, told_of_batch(lambda d: d.update(told))) as url:
        p = place(url, 10, **SETTINGS)
        assert here(p) == 0
        endpoint.check(p, in_doubt=True)
        assert p.report["traces"]["accepted"] == 10


def test_results_that_can_never_be_fetched_are_given_up(shared: Path, place: Places, here: Here) -> None:
    left = [MOST_FETCHES]

    def change(what: str, status: int, body: bytes) -> tuple[int, bytes]:
        if what.startswith("GET /v1/files/") and left[0]:
            left[0] -= 1
            return BAD_REQUEST, b'{"error": {"message": "the file has expired"}}'
        return status, body

    with batch_endpoint(shared) as endpoint, altered(endpoint, change) as url:
        p = place(url, 10, **SETTINGS)
        assert here(p) == 0
        endpoint.check(p, in_doubt=True)
        assert p.report["traces"]["accepted"] == 10


def test_strange_lines_in_the_results_cost_no_answer(shared: Path, place: Places, here: Here) -> None:
    def change(what: str, status: int, body: bytes) -> tuple[int, bytes]:
        if not what.startswith("GET /v1/files/"):
            return status, body
        rows = body.splitlines()
        one = json.loads(rows[0])
        strange = [
            *(json.dumps({**one, "custom_id": name}).encode() for name in ("a\0b", "\ud800", "x" * 100_000)),
            *(b"{" * 9_000, b"[" * 9_000, b"null", b"\xff\xfe", b"x" * 3_000_000),
            b'{"custom_id": "x", "response": {"status_code": NaN, "body": {"usage": {"prompt_tokens": NaN}}}}',
            *(
                json.dumps({**one, "custom_id": "y", "response": response, "error": error}).encode()
                for response, error in [
                    ({"status_code": 10**400, "body": 3}, None), ({"status_code": 200, "body": [1]}, None), ([], "no"),
                    (None, {"code": ["x"], "message": {"a": 1}}),
                ]
            ),
        ]  # fmt: skip
        return status, b"\n".join([*strange, *rows, *rows, b"z" * 20_000_000])

    with batch_endpoint(shared) as endpoint, altered(endpoint, change) as url:
        p = place(url, 10, **SETTINGS)
        assert here(p) == 0
        assert endpoint.check(p)["answered"] == 10
        assert p.report["traces"]["accepted"] == 10


def test_nobody_waits_for_a_teacher_that_tells_nothing_of_its_batches(shared: Path, place: Places) -> None:
    def change(what: str, status: int, body: bytes) -> tuple[int, bytes]:
        return (UNAUTHORIZED, b"{}") if what.startswith("GET /v1/batches/") else (status, body)

    with batch_endpoint(shared, "--wrong", 1) as wrong, batch_endpoint(shared) as dear, altered(dear, change) as url:
        teacher = {name.removeprefix("teacher__"): value for name, value in SETTINGS.items() if "teacher" in name}
        first = teacher | {"base_url": wrong.url, "model": "m", "mode": "live"}
        p = place(url, 5, **SETTINGS, teacher=None, teachers=[first, teacher | {"base_url": url, "model": "n"}])
        code, _, err = p.collect(timeout_s=60)
        assert code == 4
        assert "1 batch with 5 rows stay" in err


def in_a_batch(p: Place, endpoint: BatchEndpoint) -> None:
    """Starts a run and kills it while its batch runs."""
    process = p.start()
    while not endpoint.stats()["running"]:
        assert process.poll() is None, "the run ended before its batch ran"
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=30)


def test_a_queue_that_has_no_room_is_not_asked_all_the_time(shared: Path, place: Places) -> None:
    with batch_endpoint(shared, "--enqueue-limit", 5, "--enqueue-style", "failed") as endpoint:
        p = place(endpoint.url, 10, **SETTINGS)
        process = p.start()
        time.sleep(10)
        process.send_signal(signal.SIGINT)
        assert p.ended(process, 60)[0] == 130
        assert 1 < endpoint.stats()["creates"] < 30  # it was over 60


def test_no_row_of_a_batch_that_runs_is_settled_for_less(shared: Path, place: Places) -> None:
    with batch_endpoint(shared, "--seconds", 3) as endpoint:
        p = place(endpoint.url, 40, **SETTINGS | {"budget__usd": "0.013"})
        in_a_batch(p, endpoint)
        code, _, err = p.harvest("settle", "r", "--as", "free")
        assert code == 2
        assert "batches that may still run" in err
        ended = p.run_folder / "batches/winnow-ended.results-0.jsonl"
        ended.touch()
        assert p.collect()[0] in (0, 3)
        assert not ended.exists(), "what a killed session left is removed"
        endpoint.check(p)
        audit_file(p.store)


@pytest.mark.parametrize("mode", ["batch", "live"])
def test_a_run_leaves_open_what_the_batch_of_another_run_asks(shared: Path, place: Places, mode: str) -> None:
    """Both runs ask 10 questions; the other run asks 5 more, which are bought at once."""
    with batch_endpoint(shared, "--seconds", 3) as endpoint:
        p = place(endpoint.url, 10, **SETTINGS)
        in_a_batch(p, endpoint)
        settings = SETTINGS | {"name": "s", "teacher__mode": mode, "store": p.url}
        other = place(endpoint.url, 15, folder="other", **settings)
        code, _, err = other.collect()
        assert code == 4
        assert err.count("10 answers are on their way in batches of other runs (r)") == 1
        assert "bought twice" not in err
        assert other.report["traces"]["accepted"] == 5
        assert p.collect()[0] == 0
        assert other.collect()[0] == 0
        stats = endpoint.stats()
        assert stats["answered"] == 15
        assert not stats["repeat_bodies"]
