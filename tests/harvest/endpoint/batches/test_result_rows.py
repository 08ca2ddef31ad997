"""What the rows of a batch's results mean, and what an endpoint says of a batch."""

import json
from typing import Any

import pytest

from harvest.core.errors import AttemptFailed
from harvest.core.nouns import Reply
from harvest.endpoint.batches import failure_of, outcome_of, read_row
from harvest.endpoint.batches.status import LineFault, read_status

ANSWER = {
    "id": "c", "choices": [{"message": {"content": "4", "reasoning_content": "2 + 2"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 5},
}  # fmt: skip


def line(response: Any, error: Any = None, **more: Any) -> bytes:
    return json.dumps({"id": "x", "custom_id": "k", "response": response, "error": error, **more}).encode()


def outcome(data: bytes) -> Reply | AttemptFailed:
    row = read_row(data)
    assert row is not None
    return outcome_of(row)


@pytest.mark.parametrize("response", [{"status_code": 200, "body": ANSWER}, {"body": ANSWER}])
def test_an_answer_is_read_as_a_live_one_is(response: dict[str, Any]) -> None:
    got = outcome(line(response))
    assert isinstance(got, Reply)
    assert (got.answer, got.reasoning, got.usage.output_tokens) == ("4", "2 + 2", 5)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (line({"status_code": 500, "body": {"error": {"message": "x"}}}), "passing"),
        (line({"status_code": 504, "body": {}}), "passing"),
        (line({"status_code": 429, "body": {"error": {"message": "slow"}}}), "throttled"),
        (line({"status_code": 429, "body": {"error": {"code": "insufficient_quota"}}}), "run"),
        (line({"status_code": 400, "body": {"error": {"message": "x"}}}), "row"),
        (line({"status_code": 400, "body": None}, {"code": "bad", "message": "x"}), "row"),
        (line({"status_code": 200, "body": {"choices": []}}), "hollow"),
        (line({"status_code": 200, "body": "no JSON"}), "cut"),
        (line(None, {"code": "batch_expired", "message": "over"}), "passing"),
        (line(None, {"code": "Batch_Cancelled"}), "passing"),
        (line(None, {"code": "other", "message": "x"}), "passing"),
        (line(None), "cut"),
    ],
)
def test_a_row_without_an_answer_is_a_named_failure(data: bytes, kind: str) -> None:
    got = outcome(data)
    assert isinstance(got, AttemptFailed)
    assert got.kind == kind


def test_expired_rows_were_not_run_and_others_were() -> None:
    was_run = [read_row(line(None, {"code": code})).was_run for code in ("batch_expired", "server_error")]  # type: ignore[union-attr]
    assert was_run == [False, True]


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b'{"custom_id": ""}', b'{"custom_id": 3}', b"\xff\x00"])
def test_a_line_that_names_no_row_is_none(data: bytes) -> None:
    assert read_row(data) is None


@pytest.mark.parametrize("nothing", [None, "", {}, " "])
def test_no_file_is_said_in_four_ways(nothing: object) -> None:
    status = read_status({"id": "b", "status": "COMPLETED", "output_file_id": nothing, "error_file_id": "f"})
    assert status.has_ended
    assert status.files == ("f",)
    assert status.answered is None


def test_states_counts_usage_and_faults_may_be_missing_or_strange() -> None:
    assert not read_status({}).has_ended
    assert read_status({"status": "Canceled"}).state == "cancelled"
    whole = read_status(
        {
            "request_counts": {"completed": 2, "failed": 1}, "usage": {"input_tokens": 4, "output_tokens": 5},
            "errors": {"data": [{"code": "token_limit_exceeded", "message": "later", "line": None}, "x"]},
        }
    )  # fmt: skip
    assert (whole.answered, whole.usage, whole.queue_was_full) == (3, (4, 5), True)
    assert whole.ran_rows
    assert not read_status({"request_counts": {"completed": 0, "failed": 9}}).ran_rows


def test_a_fault_of_the_model_ends_the_run_and_a_fault_of_a_line_the_row() -> None:
    assert failure_of(LineFault("model_not_found", "x", 1)).kind == "run"
    assert failure_of(LineFault("invalid_request", "x", 1)).kind == "row"
