"""Failures of a request: the class of each, its message, the wait, the refused parameter; and mangled bodies."""

import copy
import json
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_replies import EXAMPLES, OWN, check_failure, check_sane, chunk, completion, load, stream, wire

from harvest.core.errors import AttemptFailed, Cut, Gateway, Hollow, Passing, RowRefused, RunRefused, Throttled
from harvest.core.nouns import Reply
from harvest.endpoint.failures import refused_parameter, retry_after_s
from harvest.endpoint.reply import truncated
from harvest.endpoint.response import BodyReader, read_response

# Failures of a whole answer


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (301, Passing), (302, Passing), (307, Passing), (400, RowRefused), (401, RunRefused),
        (402, RunRefused), (403, RunRefused), (404, RunRefused), (405, RunRefused), (407, Passing),
        (408, Gateway),
        (409, Passing), (410, RunRefused), (413, RowRefused), (418, RowRefused), (422, RowRefused),
        (425, Passing), (429, Throttled), (498, Throttled), (500, Passing), (502, Passing),
        (499, Gateway), (503, Throttled), (504, Gateway), (520, Gateway), (524, Gateway), (525, Passing),
        (529, Throttled), (100, Passing), (999, Passing),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"", b"<html><body>Sorry</body></html>", b'{"error": {"message": "no"}}'])
def test_a_status_alone_gives_the_class(status: int, failure: type[AttemptFailed], body: bytes) -> None:
    with pytest.raises(failure) as failed:
        read_response(status, body)
    assert type(failed.value) is failure
    assert f"HTTP {status}" in failed.value.message
    check_failure(failed.value)


@pytest.mark.parametrize("status", [500, 502])
def test_an_error_that_comes_late_is_a_gateways(status: int) -> None:
    with pytest.raises(Passing):
        read_response(status, b"", after_s=10.0)
    with pytest.raises(Gateway) as failed:
        read_response(status, b"", after_s=10.1)
    assert failed.value.in_doubt
    with pytest.raises(Passing):
        read_response(501, b"", after_s=60.0)


@pytest.mark.parametrize(("status", "word"), [(401, "key"), (402, "balance"), (403, "key"), (404, "model")])
def test_a_refusal_of_the_run_says_what_to_mend(status: int, word: str) -> None:
    with pytest.raises(RunRefused, match=word):
        read_response(status, b"")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n" * 1000,
        b"<html><body>Please log in</body></html>",
        b'{"choices": [{"mess',
        completion({"content": "x"})[:-3] + b"oops",
        completion({"content": "x"}).replace(b'"x"', b'"x\\q"'),
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
        read_response(200, body)
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
        read_response(200, body)
    check_failure(failed.value)
    assert isinstance(failed.value.reply, Reply)
    assert failed.value.reply.usage.output_tokens == (5 if b"usage" in body else None)


def test_a_chain_without_an_answer_is_a_reply_since_it_was_paid_for() -> None:
    reply = read_response(200, completion({"content": None, "reasoning": "I think."}))
    assert (reply.answer, reply.reasoning) == ("", "I think.")
    assert not truncated(reply)


@pytest.mark.parametrize("word", ["length", "max_tokens", "model_length", "LENGTH"])
def test_a_reply_that_ran_into_its_limit_is_truncated_not_hollow(word: str) -> None:
    assert truncated(read_response(200, completion({"content": ""}, word)))


def test_a_filtered_answer_is_refused_for_its_row_with_the_reply_to_book() -> None:
    with pytest.raises(RowRefused) as failed:
        read_response(200, completion({"content": "Half"}, "content_filter"))
    assert isinstance(failed.value.reply, Reply)
    assert failed.value.reply.usage.output_tokens == 5


def test_blank_lines_before_the_answer_do_no_harm() -> None:
    assert read_response(200, b"\n \r\n" * 500 + completion({"content": "4"})).answer == "4"


def test_a_message_shows_no_control_characters_and_stays_short() -> None:
    said = {"error": {"message": "\x1b[31mred\x1b[0m\r\nline\u2028two " + "x" * 5000}}
    with pytest.raises(Passing) as failed:
        read_response(500, json.dumps(said).encode())
    assert failed.value.message.startswith("[31mred [0m line two xxx")
    assert failed.value.message.isprintable()
    assert len(failed.value.message) < 700


# Bytes in a whole answer that a strict reader refuses

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
AFTER = [b"", b"\n\n", b"\0", b"null", b"\r\n0\r\n\r\n", b"<!-- served by a gateway -->", b'{"error": "too late"}']
RAW = st.sampled_from(
    [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f", b"\t", b"\n", b"\r\n", b"\0", b"\x1b[2J", b"\x7f"]
)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("after", AFTER)
def test_a_whole_answer_is_read_in_any_encoding_and_whatever_follows_it(encoding: str, after: bytes) -> None:
    body = completion({"content": "zwei → 2 😀"}).decode().encode(encoding)
    reply = read_response(200, body + after.decode().encode(encoding.removesuffix("-sig")))
    assert (reply.answer, reply.usage.output_tokens) == ("zwei → 2 😀", 5)
    assert "unread_body" not in reply.extra


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    pieces=st.lists(st.text("so 2 π", max_size=4).map(str.encode) | RAW, max_size=12),
    at_once=st.booleans(),
    where=st.sampled_from(["content", "reasoning_content"]),
)
def test_bad_bytes_and_raw_control_characters_in_a_text_cost_no_answer(
    pieces: list[bytes], at_once: bool, where: str
) -> None:
    """What is no character is replaced, and nothing else of the answer changes. Streams hold no raw line break."""
    raw = b"".join(pieces)
    body = completion({"content": "is 4", where: "First"}).replace(b"First", b"First" + raw + b"last")
    if at_once:
        reply = read_response(200, body)
    else:
        raw = raw.replace(b"\r", b"").replace(b"\n", b"")
        piece = chunk({"content": "is 4"} | {where: "First"}, "stop").replace(b"First", b"First" + raw + b"last")
        reply = stream(piece, b"data: [DONE]\n\n")
    assert (reply.answer if where == "content" else reply.reasoning) == "First" + raw.decode(
        "utf-8", "replace"
    ) + "last"
    check_sane(reply)


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_an_answer_that_is_not_whole_is_cut_and_its_bytes_are_kept(data: st.DataObject) -> None:
    junk = data.draw(st.sampled_from([b"", b"\xff", b"\t", b"\xc3\xa9"]))
    whole = completion({"content": "First, zwei → 2", "reasoning_content": "x"}).replace(b"First", b"First" + junk)
    body = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(Cut) as failed:
        read_response(200, body)
    check_failure(failed.value)
    assert isinstance(failed.value.reply, Reply)
    extra = failed.value.reply.extra
    kept = b64decode(extra["unread_body_base64"]) if "unread_body_base64" in extra else extra["unread_body"].encode()
    assert kept == body


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
            reader = BodyReader()
            reader.feed(sent[:at])
            check_sane(reader.partial())
            reader.feed(sent[at:])
            check_sane(reader.finish())
        else:
            check_sane(read_response(status, sent))
    except AttemptFailed as failure:
        check_failure(failure)
    assert refused_parameter(status, sent) is None or status in (400, 422)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(100, 999), st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_under_any_status_are_a_reply_or_a_named_failure(status: int, body: bytes, more: bytes) -> None:
    readers: list[Callable[[], Reply]] = [lambda: read_response(status, body), lambda: stream(body, more)]
    for read_it in readers:
        try:
            check_sane(read_it())
        except AttemptFailed as failure:
            check_failure(failure)
