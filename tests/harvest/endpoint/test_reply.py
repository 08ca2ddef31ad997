"""Replies, recorded, hand-made and mangled: each is a Reply or a named failure, and its money is kept."""

import copy
import json
import os
import pickle
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harvest.core.errors import (
    FAILURES,
    AttemptFailed,
    Cut,
    Hollow,
    Passing,
    RowRefused,
    RunRefused,
    Throttled,
)
from harvest.core.nouns import Reply
from harvest.endpoint.failures import refused_parameter, retry_after_s
from harvest.endpoint.reply import truncated
from harvest.endpoint.response import read_response
from harvest.endpoint.stream import StreamReader

EXAMPLES = int(os.environ.get("WINNOW_EXAMPLES", "300"))
OWN = sorted((Path(__file__).parents[2] / "replies").rglob("*.json"))


def load(path: Path) -> dict[str, Any]:
    recording: dict[str, Any] = json.loads(path.read_text())
    return recording


def wire(recording: dict[str, Any], end: str = "\n\n") -> bytes:
    """The bytes of a recording's body or stream."""
    if recording.get("sse"):
        return "".join(line + end for line in recording["sse"]).encode()
    return json.dumps(recording["body"]).encode()


def read(recording: dict[str, Any]) -> Reply:
    if recording.get("sse"):
        return stream(wire(recording))
    return read_response(recording["http"]["status"], recording["http"]["headers"], wire(recording))


def stream(*pieces: bytes) -> Reply:
    reader = StreamReader()
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def completion(message: dict[str, Any], finish: str | None = "stop", **top: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 5}} | top).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **top: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]} | top, ensure_ascii=False).encode() + b"\n\n"


def check_subset(expected: Any, got: Any, at: str = "$") -> None:
    """Each key that `expected` names is so in `got`."""
    if isinstance(expected, dict):
        for key, value in expected.items():
            check_subset(value, got[key], f"{at}.{key}")
    else:
        assert (list(got) if isinstance(got, tuple) else got) == expected, at


def check_sane(reply: Reply) -> None:
    """What must hold of any reply, whoever sent it."""
    for count in (v for k, v in asdict(reply.usage).items()):
        assert count is None or (type(count) is int and count >= 0)
    usage = reply.usage
    assert (usage.reasoning_tokens or 0) <= (usage.output_tokens if usage.output_tokens is not None else 2**62)
    assert (usage.cached_input_tokens or 0) <= (usage.input_tokens if usage.input_tokens is not None else 2**62)
    assert isinstance(reply.answer, str)
    assert reply.reasoning_kind in (None, "chain", "summary", "encrypted")
    assert (reply.reasoning is not None) == (reply.reasoning_kind == "chain")
    for entry in reply.logprobs or ():
        assert entry.keys() == {"token", "logprob", "id", "top"}
        assert entry["logprob"] is None or entry["logprob"] <= 0
    stored = json.dumps(asdict(reply), allow_nan=False, ensure_ascii=False).encode()
    assert len(json.dumps(dict(reply.extra))) < 4_000_000, "what nobody reads is bounded"
    assert stored
    assert pickle.loads(pickle.dumps(reply)) == reply  # noqa: S301, our own bytes


def check_failure(failure: AttemptFailed) -> None:
    assert FAILURES[failure.kind] is type(failure)
    assert failure.message
    assert "\n" not in failure.message
    assert failure.retry_after_s is None or failure.retry_after_s >= 0
    again = pickle.loads(pickle.dumps(failure))  # noqa: S301, our own bytes
    assert (again.message, again.retry_after_s, again.reply) == (
        failure.message,
        failure.retry_after_s,
        failure.reply,
    )
    if failure.reply is not None:
        assert isinstance(failure.reply, Reply)
        check_sane(failure.reply)


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
            reader = StreamReader()
            reader.feed(wire({"sse": [line for line in recording["sse"] if line != "data: [DONE]"]}))
            assert reader.finish() == read(recording)
            assert reader.saw_done is recording["expected"]["saw_done"]


@pytest.mark.parametrize("path", OWN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_known_shape_is_read_as_written_beside_it(path: Path) -> None:
    recording = load(path)
    if want := recording["expected"].get("reply"):
        reply = read(recording)
        check_sane(reply)
        check_subset(want, asdict(reply))
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
        check_subset(want.pop("reply"), asdict(failure.reply))
    assert failure.retry_after_s == want.pop("retry_after_s", None)
    assert not want, "every expectation is checked"


# Failures of a whole answer


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (301, Passing), (302, Passing), (307, Passing), (400, RowRefused), (401, RunRefused),
        (402, RunRefused), (403, RunRefused), (404, RunRefused), (405, RunRefused), (408, Passing),
        (409, Passing), (410, RunRefused), (413, RowRefused), (418, RowRefused), (422, RowRefused),
        (425, Passing), (429, Throttled), (498, Throttled), (500, Passing), (502, Passing),
        (503, Throttled), (504, Passing), (524, Passing), (529, Throttled), (100, Passing), (999, Passing),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"", b"<html><body>Sorry</body></html>", b'{"error": {"message": "no"}}'])
def test_a_status_alone_gives_the_class(status: int, failure: type[AttemptFailed], body: bytes) -> None:
    with pytest.raises(failure) as failed:
        read_response(status, {"content-type": "text/html"}, body)
    assert type(failed.value) is failure
    assert f"HTTP {status}" in failed.value.message
    check_failure(failed.value)


@pytest.mark.parametrize(("status", "word"), [(401, "key"), (402, "balance"), (403, "key"), (404, "model")])
def test_a_refusal_of_the_run_says_what_to_mend(status: int, word: str) -> None:
    with pytest.raises(RunRefused, match=word):
        read_response(status, {}, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n" * 1000,
        b"<html><body>Please log in</body></html>",
        b'{"choices": [{"mess',
        completion({"content": "x"})[:-3] + b"oops",
        completion({"content": "First"}).replace(b"First", b"\xff\xfe\xff"),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 5000,
        b"[]",
        b"null",
        b'"text"',
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_200_that_cannot_be_read_is_cut(body: bytes) -> None:
    with pytest.raises(Cut) as failed:
        read_response(200, {}, body)
    check_failure(failed.value)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        json.dumps({"error": {"message": "rate limit", "code": 429}}).encode(),
        json.dumps({"error": "overloaded"}).encode(),
        json.dumps({"object": "error", "message": "engine died"}).encode(),
        json.dumps({"choices": None}).encode(),
        json.dumps({"choices": []}).encode(),
        json.dumps({"choices": "no"}).encode(),
        json.dumps({"choices": [None, 3]}).encode(),
        completion({"role": "assistant", "content": None}),
        completion({"content": " \n"}),
        completion({"content": [{"type": "text", "text": ""}]}),
        completion({"content": None, "reasoning_content": "", "tool_calls": None}),
        completion({"content": "fine"}, error={"message": "and yet"}),
        completion({"content": None}).replace(b'"message"', b'"massage"'),
    ],
    ids=lambda body: repr(body[:48]),
)
def test_a_200_without_an_answer_is_hollow_and_keeps_its_usage(body: bytes) -> None:
    with pytest.raises(Hollow) as failed:
        read_response(200, {}, body)
    check_failure(failed.value)
    assert isinstance(failed.value.reply, Reply)
    assert failed.value.reply.usage.output_tokens == (5 if b"usage" in body else None)


def test_a_chain_without_an_answer_is_a_reply_since_it_was_paid_for() -> None:
    reply = read_response(200, {}, completion({"content": None, "reasoning": "I think."}))
    assert (reply.answer, reply.reasoning) == ("", "I think.")
    assert not truncated(reply)


@pytest.mark.parametrize("word", ["length", "max_tokens", "model_length", "LENGTH"])
def test_a_reply_that_ran_into_its_limit_is_truncated_not_hollow(word: str) -> None:
    assert truncated(read_response(200, {}, completion({"content": ""}, word)))


def test_a_filtered_answer_is_refused_for_its_row_with_the_reply_to_book() -> None:
    with pytest.raises(RowRefused) as failed:
        read_response(200, {}, completion({"content": "Half"}, "content_filter"))
    assert isinstance(failed.value.reply, Reply)
    assert failed.value.reply.usage.output_tokens == 5


def test_blank_lines_before_the_answer_do_no_harm() -> None:
    assert read_response(200, {}, b"\n \r\n" * 500 + completion({"content": "4"})).answer == "4"


def test_a_message_shows_no_control_characters_and_stays_short() -> None:
    said = {"error": {"message": "\x1b[31mred\x1b[0m\r\nline\u2028two " + "x" * 5000}}
    with pytest.raises(Passing) as failed:
        read_response(500, {}, json.dumps(said).encode())
    assert failed.value.message.startswith("[31mred[0m line two xxx")
    assert failed.value.message.isprintable()
    assert len(failed.value.message) < 700


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
    reply = read_response(200, {}, completion(message))
    assert (reply.reasoning, reply.answer) == (chain, answer)


def test_a_partly_encrypted_chain_is_no_chain() -> None:
    parts = [{"type": "thinking", "thinking": "T"}, {"type": "redacted_thinking", "data": "x"}, "A"]
    reply = read_response(200, {}, completion({"content": parts}))
    assert (reply.reasoning, reply.reasoning_kind, reply.answer) == (None, "summary", "A")
    assert reply.extra["reasoning_summary"] == "T"


def test_halves_of_a_character_are_joined_over_two_chunks_and_replaced_where_alone() -> None:
    first, second = (json.dumps({"choices": [{"delta": {"content": half}}]}) for half in ("\ud83d", "\ude00"))
    halves = f"data: {first}\n\ndata: {second}\n\n".encode()
    assert stream(halves, chunk({}, "stop")).answer == "😀"
    assert read_response(200, {}, completion({"content": "\ud83d!"})).answer == "\ufffd!"


# Usage and money


def usage_of(raw: str) -> Any:
    body = b'{"choices":[{"message":{"content":"x"}}],"usage":' + raw.encode() + b"}"
    return read_response(200, {}, body)


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
        ('"0.1"', None),
        ("true", None),
        ('{"total_cost": 1}', None),
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
    reply = read_response(200, {}, completion({"content": "4", "annotations": [1]}, **top))
    assert reply.extra["citations"] == ["a", 0.5]
    assert reply.extra["message"] == {"annotations": [1]}
    assert reply.extra["huge"] == "left out: 10000000 characters"
    assert reply.extra["wide"].startswith("left out: ")
    assert "left out: too deep" in json.dumps(reply.extra["deep"])
    assert len(json.dumps(reply.extra)) < 2000


def test_an_id_is_never_guessed_from_a_token_that_looks_like_one() -> None:
    entries = [{"token": "token_id:5", "logprob": -1}, {"token": "x", "logprob": -1}]
    choice = {"message": {"content": "x"}, "logprobs": {"content": entries}}
    reply = read_response(200, {}, json.dumps({"choices": [choice]}).encode())
    assert reply.logprobs is not None
    assert [entry["id"] for entry in reply.logprobs] == [None, None]


# Waiting, and parameters


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "50"}, 0.05),
        ({"retry-after": "Tue, 24 Nov 2026 00:00:30 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 00:00:30 -0000"}, 30.0),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Tue, 24 Nov 99999999999 00:00:30 GMT"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_in_seconds_milliseconds_or_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, 1_795_478_400.0) == seconds


def test_a_date_needs_a_now() -> None:
    assert retry_after_s({"retry-after": "Tue, 24 Nov 2026 00:00:30 GMT"}, None) is None


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ [-+A-Z0-9]+"))
def test_any_header_gives_a_wait_or_none(text: str) -> None:
    wait = retry_after_s({"retry-after": text, "retry-after-ms": text}, 1_795_478_400.0)
    assert wait is None or 0 <= wait < 1e12


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Unrecognized request argument supplied: min_p", "min_p"),
        ("property 'reasoning_effort' is unsupported", "reasoning_effort"),
        ("`top_logprobs` is not supported with this model", "top_logprobs"),
        ("Unsupported parameter: 'messages'", None),
        ("This model's maximum context length is 4097 tokens", None),
        ("temperature must be below 2", None),
    ],
)
def test_a_refused_parameter_is_named_only_where_it_is_one_of_ours(message: str, name: str | None) -> None:
    body = json.dumps({"error": {"message": message, "param": None}}).encode()
    assert refused_parameter(400, body) == name
    assert refused_parameter(500, body) is None
    assert refused_parameter(400, b"<html>" + message.encode()) is None


# Anything at all

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 10**9 + 1, 10**30, -(10**30), 1.5, -0.0, 1e300, float("nan"), float("inf"),
    "", "x", "5", "length", "content_filter", "error", "</think>", "\ud800", "\x00\u2028", "x" * 20_000,
    [], {}, [None], [{}], {"": 1}, [[[[[[[[]]]]]]]], ["a", {"text": 3}],
    {"message": "no", "code": "insufficient_quota"},
]  # fmt: skip


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of each place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from nodes(inner)


def mangle(draw: Any, body: Any) -> Any:
    """Some places deleted, replaced, or moved."""
    for _ in range(draw(st.integers(0, 4))):
        if not (places := list(nodes(body))):
            break
        container, key = draw(st.sampled_from(places))
        do = draw(st.sampled_from(["replace", "replace", "delete", "move", "double"]))
        if do == "delete":
            del container[key]
        elif do == "replace":
            container[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif do == "double" and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            other, place = draw(st.sampled_from(places))
            other[place] = copy.deepcopy(container[key])
    return body


JUNK = st.binary(max_size=6) | st.sampled_from([b"\n", b"\n\n", b"NaN", b"-1", b"1e999"])


def mangle_bytes(draw: Any, data: bytes) -> bytes:
    at: int = draw(st.integers(0, len(data)))
    do = draw(st.sampled_from(["leave", "leave", "leave", "truncate", "insert"]))
    if do == "truncate":
        return data[:at]
    if do == "insert":
        junk: bytes = draw(JUNK)
        return data[:at] + junk + data[at:]
    return data


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_a_mangled_reply_is_a_reply_or_a_named_failure(shared: Path, data: st.DataObject) -> None:
    paths = [*sorted((shared / "api").glob("*.json")), *OWN]
    recording = load(data.draw(st.sampled_from(paths), label="recording"))
    status = data.draw(st.sampled_from([recording["http"]["status"], recording["http"]["status"], 400, 402, 429, 500]))
    if recording.get("sse"):
        lines = recording["sse"][-12:]
        lines = [
            "data: " + json.dumps(mangle(data.draw, json.loads(line[6:]))) if line[6:7] == "{" else line
            for line in data.draw(st.permutations(lines) if len(lines) < 5 else st.just(lines))
        ]
        sent = mangle_bytes(data.draw, wire({"sse": lines}))
    else:
        sent = mangle_bytes(data.draw, wire({"body": mangle(data.draw, recording["body"])}))
    try:
        if recording.get("sse"):
            at = data.draw(st.integers(0, len(sent)))
            reader = StreamReader()
            reader.feed(sent[:at])
            check_sane(reader.partial())
            reader.feed(sent[at:])
            check_sane(reader.finish())
        else:
            check_sane(read_response(status, {}, sent))
    except AttemptFailed as failure:
        check_failure(failure)
    assert refused_parameter(status, sent) is None or status in (400, 422)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(100, 999), st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_under_any_status_are_a_reply_or_a_named_failure(status: int, body: bytes, more: bytes) -> None:
    readers: list[Callable[[], Reply]] = [lambda: read_response(status, {}, body), lambda: stream(body, more)]
    for read_it in readers:
        try:
            check_sane(read_it())
        except AttemptFailed as failure:
            check_failure(failure)
