"""Recorded and hand-made replies: where the chain stands, what the usage says, and what is stored unread."""

import json
from pathlib import Path
from typing import Any

import pytest
from sample_replies import (
    OWN,
    check_failure,
    check_sane,
    check_subset,
    chunk,
    completion,
    entries,
    in_words,
    load,
    read,
    stream,
    wire,
)

from harvest.core.errors import AttemptFailed, RowRefused, RunRefused
from harvest.core.nouns import Reply
from harvest.endpoint.failures import refused_parameter, retry_after_s
from harvest.endpoint.response import BodyReader, read_response

# What was recorded

CLASSES = {"content_filter": RowRefused, "context_length": RowRefused, "model_not_found": RunRefused}


def test_every_recorded_reply_is_read_as_its_notes_say(shared: Path, subtests: pytest.Subtests) -> None:
    paths = sorted((shared / "api").glob("*.json"))
    assert len(paths) >= 28
    for path in paths:
        with subtests.test(path.stem):
            recording = load(path)
            want = recording["expected"]
            if want["error"]:
                with pytest.raises(CLASSES[want["error"]["class"]]) as refused:
                    read(recording)
                assert refused.value.message.startswith(want["error"]["message"])
                assert refused.value.again is want["error"]["retry"]
                check_failure(refused.value)
                continue
            reply = read(recording)
            check_sane(reply)
            assert (reply.reasoning.strip() if reply.reasoning else None) == want["chain"]
            assert reply.answer.strip() == want["answer"]
            assert reply.finish_reason == want["finish_reason"]
            assert reply.usage.input_tokens == want["prompt_tokens"]
            assert reply.usage.cached_input_tokens == want["cached_tokens"]
            assert reply.usage.reasoning_tokens == want["reasoning_tokens"]
            assert reply.usage.output_tokens == want["output_tokens_inclusive"]
            assert reply.raw_usage is not None
            assert reply.raw_usage["completion_tokens"] == want["completion_tokens"]
            assert len(reply.tool_calls) == want.get("tool_calls", 0)
            assert reply.served_model


def test_a_recorded_stream_is_whole_without_its_done_line(shared: Path, subtests: pytest.Subtests) -> None:
    """The recordings lack [DONE] (their `saw_done`); it was put back."""
    for path in sorted((shared / "api").glob("*-stream.json")):
        with subtests.test(path.stem):
            recording = load(path)
            reader = BodyReader()
            reader.feed(wire({"sse": [line for line in recording["sse"] if line != "data: [DONE]"]}))
            assert reader.finish() == read(recording)
            assert reader.saw_done is recording["expected"]["saw_done"]


@pytest.mark.parametrize("path", OWN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_known_shape_is_read_as_written_beside_it(path: Path) -> None:
    recording = load(path)
    if want := recording["expected"].get("reply"):
        reply = read(recording)
        check_sane(reply)
        check_subset(want, in_words(reply))
        return
    want = dict(recording["expected"]["failure"])
    with pytest.raises(AttemptFailed) as failed:
        read(recording)
    failure = failed.value
    check_failure(failure)
    assert type(failure).__name__ == want.pop("class")
    assert failure.message.startswith(want.pop("message", ""))
    if "refused_parameter" in want:
        assert refused_parameter(recording["http"]["status"], wire(recording)) == want.pop("refused_parameter")
    if "reply" in want:
        assert isinstance(failure.reply, Reply)
        check_subset(want.pop("reply"), in_words(failure.reply))
    headers = recording["http"]["headers"]
    assert retry_after_s(headers, 1_795_478_400.0) == want.pop("retry_after_s", None)
    assert not want, "every expectation is checked"


# The chain


@pytest.mark.parametrize(
    ("message", "chain", "answer"),
    [
        ({"content": "A", "reasoning": "R", "reasoning_content": "C", "thinking": "T"}, "R", "A"),
        ({"content": "A", "reasoning": " ", "reasoning_content": "C", "thinking": "T"}, "C", "A"),
        ({"content": "A", "reasoning_content": ["C", {"text": "D"}]}, "CD", "A"),
        ({"content": "A", "thinking": "T"}, "T", "A"),
        ({"content": [{"type": "thinking", "thinking": "T"}, "A", {"type": "text", "text": "B"}]}, "T", "AB"),
        ({"content": "<think>\nC\n</think>\n\nA"}, "C", "A"),
        ({"content": "C </think> D </think> A"}, "C </think> D", "A"),
        ({"content": "<think>C</think>\nA", "reasoning": "C"}, "C", "A"),
        (
            {"content": "<think> is a tag, </think> too", "reasoning": "C"},
            "C",
            "<think> is a tag, </think> too",
        ),
        ({"content": "A", "reasoning": "<think>\nC\n</think>"}, "C", "A"),
        ({"content": "A", "reasoning": 7, "reasoning_content": {"a": 1}}, None, "A"),
        ({"content": "A <think> is a tag"}, None, "A <think> is a tag"),
    ],
)
def test_the_chain_is_taken_from_one_place_and_never_joined(
    message: dict[str, Any], chain: str | None, answer: str
) -> None:
    reply = read_response(200, completion(message))
    assert (reply.reasoning, reply.answer) == (chain, answer)


def test_a_partly_encrypted_chain_is_no_chain() -> None:
    parts = [{"type": "thinking", "thinking": "T"}, {"type": "redacted_thinking", "data": "x"}, "A"]
    reply = read_response(200, completion({"content": parts}))
    assert (reply.reasoning, reply.reasoning_kind, reply.answer) == (None, "summary", "A")
    assert reply.extra["reasoning_summary"] == "T"


def test_halves_of_a_character_are_joined_over_two_chunks_and_replaced_where_alone() -> None:
    first, second = (json.dumps({"choices": [{"delta": {"content": half}}]}) for half in ("\ud83d", "\ude00"))
    halves = f"data: {first}\n\ndata: {second}\n\n".encode()
    assert stream(halves, chunk({}, "stop")).answer == "😀"
    assert read_response(200, completion({"content": "\ud83d!"})).answer == "\ufffd!"


# Usage and money


def usage_of(raw: str) -> Any:
    body = b'{"choices":[{"message":{"content":"x"}}],"usage":' + raw.encode() + b"}"
    return read_response(200, body)


@pytest.mark.parametrize("bad", ["true", "-1", "1.0", "1.5", '"7"', "null", "[7]", "1e3", "1" * 30, "NaN", "Infinity"])
def test_what_is_no_count_counts_nothing(bad: str) -> None:
    reply = usage_of(f'{{"prompt_tokens": {bad}, "completion_tokens": {bad}, "total_tokens": {bad}}}')
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (None, None)
    check_sane(reply)


@pytest.mark.parametrize(
    ("raw", "output"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 241, "reasoning_tokens": 228}, 229),
        ({"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 241}, 229),
        ({"prompt_tokens": 12, "completion_tokens": 1, "reasoning_tokens": 228}, 229),
        ({"prompt_tokens": 10, "completion_tokens": 300, "total_tokens": 410, "reasoning_tokens": 100}, 400),
        ({"prompt_tokens": 10, "completion_tokens": 300, "total_tokens": 410, "reasoning_tokens": 99}, 300),
        ({"prompt_tokens": 12, "total_tokens": 241}, 229),
        ({"prompt_tokens": 12, "completion_tokens": 229, "total_tokens": 241, "reasoning_tokens": 228}, 229),
        ({"prompt_tokens": 12, "completion_tokens": 229, "total_tokens": 3}, 229),
        ({"completion_tokens": 229}, 229),
        ({"total_tokens": 241}, None),
    ],
)
def test_output_holds_the_reasoning_wherever_it_was_counted(raw: dict[str, int], output: int | None) -> None:
    assert usage_of(json.dumps(raw)).usage.output_tokens == output


def test_input_holds_the_cached_tokens_wherever_they_were_counted() -> None:
    assert usage_of('{"prompt_tokens": 10, "cached_tokens": 8}').usage.input_tokens == 10
    assert usage_of('{"prompt_tokens": 10, "cached_tokens": 800}').usage.input_tokens == 810


@pytest.mark.parametrize(
    ("cost", "pusd"),
    [
        ("0.00219855", 2_198_550_000),
        ("0", 0),
        ("1e-13", 1),
        ("0.0000000000011", 2),
        ("3", 3_000_000_000_000),
        ("-0.5", None),
        ("-1e-30", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e400", None),
        ("1e99999999999999999999", None),
        ("10001", None),
        ('"0.1"', 100_000_000_000),
        ('"a tenth"', None),
        ('"-1"', None),
        (f'"{"0" * 200}1"', None),
        ("true", None),
        ('{"total_cost": 0.25, "input_tokens_cost": 0.1}', 250_000_000_000),
        ('{"total_cost": null}', None),
        ("null", None),
    ],
)
def test_the_cost_is_exact_or_unknown(cost: str, pusd: int | None) -> None:
    reply = usage_of(f'{{"cost": {cost}}}')
    assert reply.usage.cost_pusd == pusd
    check_sane(reply)


def test_ticks_of_xai_are_ten_billionths_of_a_dollar() -> None:
    assert usage_of('{"cost_in_usd_ticks": 37756000}').usage.cost_pusd == 3_775_600_000


def test_usage_is_kept_as_sent() -> None:
    raw = {"prompt_tokens": 1, "cost": 0.1, "x": None, "deep": {"a": [1.25, True]}}
    assert usage_of(json.dumps(raw)).raw_usage == raw
    assert usage_of('{"cost": 0.12345678901234567890123}').raw_usage == {"cost": "0.12345678901234567890123"}


def test_fields_that_nobody_reads_are_kept_within_bounds() -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    top = {"citations": ["a", 0.5], "huge": "x" * 10_000_000, "wide": [0] * 100_000, "deep": deep}
    reply = read_response(200, completion({"content": "4", "annotations": [1]}, **top))
    assert reply.extra["citations"] == ["a", 0.5]
    assert reply.extra["message"] == {"annotations": [1]}
    assert reply.extra["huge"] == "left out: 10000000 characters"
    assert reply.extra["wide"].startswith("left out: ")
    assert "left out: too deep" in json.dumps(reply.extra["deep"])
    assert len(json.dumps(reply.extra)) < 2000


def test_an_id_is_never_guessed_from_a_token_that_looks_like_one() -> None:
    sent = [{"token": "token_id:5", "logprob": -1}, {"token": "x", "logprob": -1}]
    choice = {"message": {"content": "x"}, "logprobs": {"content": sent}}
    reply = read_response(200, json.dumps({"choices": [choice]}).encode())
    assert reply.logprobs is not None
    assert reply.logprobs.ids is None
    assert entries(reply.logprobs) == [{"id": None, "logprob": -1, "top": []}] * 2


def test_a_token_that_is_half_a_character_keeps_its_bytes() -> None:
    half = {"id": 9, "token": "\ufffd", "bytes": [0xF0, 0x9F], "logprob": -1}
    top = [{"id": 9, "token": "\ufffd", "bytes": [0xF0, 0x9F], "logprob": -1}, {"id": 8, "token": " a", "logprob": -2}]
    choice = {"message": {"content": "x"}, "logprobs": {"content": [half | {"top_logprobs": top}]}}
    reply = read_response(200, json.dumps({"choices": [choice]}).encode())
    assert reply.logprobs is not None
    assert reply.logprobs.pieces == {9: b"\xf0\x9f", 8: b" a"}
