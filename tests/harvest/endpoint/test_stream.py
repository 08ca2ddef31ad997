"""Streams: any pieces give the same reply, loops and silence end them, what had come is kept, over real sockets too."""

import asyncio
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from books import audit_file
from conftest import ROOT, Place
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_endpoint import Endpoint, Say
from test_reply import EXAMPLES, check_failure, chunk, completion, load, read, stream, wire

from harvest.core.errors import Cut, Hollow, TooLarge
from harvest.core.nouns import Reply
from harvest.core.repetition import CHARS, CHARS_WITHOUT_WORDS, TIMES, loop_at_end
from harvest.endpoint.client import Arriving, Teacher, _socket
from harvest.endpoint.reply import REPETITION, cut_short
from harvest.endpoint.response import read_response
from harvest.endpoint.stream import StreamReader

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
KEY = "sk-secret-0123456789abcdef"
EVENTS = {"content-type": "text/event-stream"}
BODY = {"model": "mock", "messages": [{"role": "user", "content": "What is 1 + 2?"}], "max_tokens": 100}
LIMIT = 1 << 22


# How it is cut, and with what manners


def test_a_small_stream_reads_the_same_cut_at_every_byte(shared: Path) -> None:
    recording = load(shared / "api" / "mistral-thinking-stream.json")
    whole = stream(data := wire(recording))
    for at in range(len(data) + 1):
        assert stream(data[:at], data[at:]) == whole


def test_a_stream_that_ends_anywhere_is_cut_and_keeps_what_came() -> None:
    data = b"".join(
        (
            chunk({"role": "assistant", "content": None, "reasoning_content": "Señor, "}),
            chunk({"content": None, "reasoning_content": "dos y dos 😀"}),
            chunk({"content": "vier → 4"}),
            chunk({}, "stop"),
            b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}\n\n',
            b"data: [DONE]\n\n",
        )
    )
    end = data.index(b'"finish_reason": "stop"') + len(b'"finish_reason": "stop"}]}')
    seen = set()
    for at in range(len(data)):
        reader = StreamReader()
        reader.feed(data[:at])
        if at < end:
            with pytest.raises(Cut) as failed:
                reader.finish()
            reply = failed.value.reply
            check_failure(failed.value)
        else:
            reply = reader.finish()
        assert isinstance(reply, Reply)
        assert "Señor, dos y dos 😀".startswith(reply.reasoning or "")
        assert "vier → 4".startswith(reply.answer)
        seen.add((reply.reasoning, reply.answer, reply.usage.output_tokens))
    assert seen >= {(None, "", None), ("Señor, ", "", None), ("Señor, dos y dos 😀", "vier → 4", None)}
    assert ("Señor, dos y dos 😀", "vier → 4", 5) in seen


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(data=st.data())
def test_a_stream_reads_the_same_in_any_pieces(shared: Path, data: st.DataObject) -> None:
    paths = [*sorted((shared / "api").glob("*-stream.json"))]
    recording = load(data.draw(st.sampled_from(paths), label="recording"))
    end = data.draw(st.sampled_from(["\n\n", "\r\n\r\n", "\r\r", "\n: keep-alive\n\n", "\n"]), label="end")
    sent = wire(recording, end)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12), label="cuts"))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert stream(*pieces) == read(recording)


def test_a_stream_is_read_whatever_its_manners() -> None:
    lines = (
        b"\xef\xbb\xbf: hello\r\n\r\n"
        b"event: message\r\nid: 1\r\nretry: 10\r\n"
        b'data:{"id":"a","choices":[{"index":0,\r\ndata:"delta":{"content":"4"}}]}\r\n\r\n'
        b": ping\n\ndata: keep-alive\n\ndata:\n\n"
        b'data: {"choices":[{"index":0,"delta":{"content":"2"},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
        b"data: [DONE]\n\n"
        b'data: {"choices":[{"index":0,"delta":{"content":"not this"}}]}\n\n'
    )
    reply = stream(lines)
    assert (reply.answer, reply.finish_reason, reply.response_id) == ("42", "stop", "a")
    assert all(stream(lines[:at], lines[at:]) == reply for at in range(len(lines)))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (1, 2)


def test_a_stream_without_a_finish_reason_is_whole_once_it_says_done() -> None:
    assert stream(chunk({"content": "4"}), b"data: [DONE]\n\n").answer == "4"
    assert stream(chunk({"content": "4"}), b"data: [DONE]").answer == "4"


def test_a_lost_chunk_is_no_whole_answer() -> None:
    with pytest.raises(Cut) as failed:
        stream(chunk({"content": "4"}), b'data: {"choices":[{"del\n\n', chunk({"content": "2"}, "stop"))
    assert isinstance(failed.value.reply, Reply)
    with pytest.raises(Cut):
        stream(chunk({"content": "4"}), b'data: {"choices": "\xff"}\n\n', chunk({}, "stop"))


def test_a_stream_of_nothing_is_hollow_and_no_stream_is_cut() -> None:
    with pytest.raises(Hollow):
        stream(b"data: [DONE]\n\n")
    with pytest.raises(Hollow):
        stream(b'data: {"error": {"message": "overloaded"}}\n\n')
    for nothing in (b"", b": ping\n\n" * 9, b"<html>Log in</html>"):
        with pytest.raises(Cut):
            stream(nothing)


def test_tool_calls_and_log_probabilities_are_put_together_over_chunks() -> None:
    def call(**function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]}

    entry = {"token": "a", "logprob": -0.5, "top_logprobs": []}
    one = json.dumps({"choices": [{"delta": {}, "logprobs": {"content": [entry]}, "token_ids": [7]}]}).encode()
    reply = stream(chunk(call(name="f", arguments='{"a"')), chunk(call(arguments=":1}")),
                   b"data: " + one + b"\n\n", b"data: " + one + b"\n\n", chunk({}, "tool_calls"))  # fmt: skip
    assert [t["function"] for t in reply.tool_calls] == [{"name": "f", "arguments": '{"a":1}'}]
    assert reply.logprobs is not None
    assert [(e["id"], e["logprob"]) for e in reply.logprobs] == [(7, -0.5), (7, -0.5)]


def test_an_endpoint_may_stream_unasked_or_not_stream_when_asked() -> None:
    events = chunk({"content": "4"}, "stop")
    assert read_response(200, {}, events) == stream(events)
    body = b"\n\n" + completion({"content": "4"})
    assert stream(*(body[i : i + 1] for i in range(len(body)))) == read_response(200, {}, body)


# Events alike take a short way; it must lead to the same place


def framed(name: str, text: str, logprobs: Any = None, **more: Any) -> str:
    """As DeepSeek writes an event: of two fields one is null."""
    delta = {"content": None, "reasoning_content": None} | {name: text}
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}
    return "data: " + json.dumps({"id": "a", "choices": [choice], "usage": None} | more, ensure_ascii=False)


TRICKY = st.sampled_from(
    [
        '"',
        "\\",
        '"}',
        '\\"',
        "\n",
        "\u2028",
        "\xa0",
        "\u200b",
        "😀",
        "\ud83d",
        "\ude00",
        "",
        '},"logprobs":null',
        "data: {",
    ]
)
PIECES = st.lists(st.one_of(st.text(max_size=8), TRICKY, st.just(" the")), max_size=30)
OTHERS = st.sampled_from(
    [": keep-alive", "event: message", "id: 7", "data: {}", "data: ping", 'data: {"id": "b"}', "data:", "data: [DONE]",
     framed("reasoning_content", "torn")[:-60], framed("content", "torn")[:-9],
     framed("content", "raw\ttab").replace("\\t", "\t"),
     framed("reasoning_content", "two").replace('"two"', '"two", "refusal": "fields"'),
     framed("content", "three").replace('"three"', '"three", "role": "assistant"'),
     'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "x"}}]}',
     'data:{"choices": [{"index": 0, "delta": {"content": "y"}}]}',
     'data: {"choices": [{"index": 0, "delta": {"content": "z", "reasoning_content": "w"}}], "service": 1}',
     'data: {"choices": [{"index": 0, "delta": {"content": [{"type": "thinking", "thinking": "t"}, "p"]}}]}']
)  # fmt: skip
LOGPROBS = {"content": [{"token": "a", "logprob": -1, "top_logprobs": []}]}


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_the_short_way_for_events_alike_reads_what_the_long_way_does(data: st.DataObject) -> None:
    lines: list[str] = []
    for _ in range(data.draw(st.integers(1, 4), label="runs")):
        name = data.draw(st.sampled_from(["content", "reasoning_content"]), label="field")
        more = data.draw(st.sampled_from([{}, {"usage": {"prompt_tokens": 1}}, {"id": "c"}, {"logprobs": LOGPROBS}]))
        lines += [framed(name, piece.encode("utf-8", "replace").decode(), **more) for piece in data.draw(PIECES)]
        lines += data.draw(st.lists(OTHERS, max_size=3), label="others")
        lines += [framed(name, " more", **more)] * data.draw(st.integers(0, 4), label="afterwards")
    if data.draw(st.booleans(), label="ends"):
        lines += ['data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}', "data: [DONE]"]
        lines += [framed("content", "too late")] * 3
    forgotten = data.draw(st.sets(st.integers(0, len(lines)), max_size=2), label="blank lines that are not there")
    sent = "".join(line + ("\n" if n in forgotten else "\n\n") for n, line in enumerate(lines)).encode()
    the_long_way = StreamReader()
    the_long_way.feed(sent.replace(b"\n", b"\r\n"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8), label="cuts"))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    reader = StreamReader()
    for piece in pieces:
        reader.feed(piece)
    assert outcome(reader) == outcome(the_long_way)


def outcome(reader: StreamReader) -> object:
    try:
        return reader.finish()
    except (Cut, Hollow) as e:
        return type(e), e.message, e.reply


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=40))
def test_no_piece_of_text_is_lost_or_doubled(pieces: list[str]) -> None:
    whole = [piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for piece in pieces]
    events = [chunk({"content": piece}) for piece in ["<", *whole, ">"]]
    assert stream(*events, chunk({}, "stop")).answer == "<" + "".join(whole) + ">"
    assert stream(b"".join(events) + chunk({}, "stop")).answer == "<" + "".join(whole) + ">"


def test_two_events_alike_but_for_more_than_their_text_are_both_read() -> None:
    a = 'data: {"id": "%s", "choices": [{"index": 0, "delta": {"content": "%s"}, "stop_reason": %s}]}\n\n'
    text = "".join(a % ("x", word, n) for n, word in enumerate(["a", "b", "c", "d"]))
    text += a % ("y", "e", 3) + a % ("y", "f", 3) + a % ("y", "g", 3) + a % ("z", "h", 4)
    reply = stream(text.encode(), chunk({}, "stop"))
    assert (reply.answer, reply.response_id) == ("abcdefgh", "z")
    assert reply.extra["choice"] == {"stop_reason": 4}


def test_details_of_a_chain_and_parts_of_an_answer_are_put_together_token_by_token() -> None:
    def detail(**fields: Any) -> bytes:
        return chunk({"content": "", "reasoning_details": [{"index": 0, **fields}]})

    words = [detail(type="reasoning.text", text=f"{w} ", format="unknown") for w in ("so", "it", "is")]
    assert stream(*words, chunk({"content": "4"}, "stop")).reasoning == "so it is "
    summary = [detail(type="reasoning.summary", summary="in short ")] * 2
    assert stream(*summary, chunk({"content": "4"}, "stop")).extra["reasoning_summary"] == "in short in short "
    gemini = [detail(type="reasoning.text", text="shown ", format="google-gemini-v1")] * 2
    assert stream(*gemini, chunk({"content": "4"}, "stop")).reasoning_kind == "summary"
    hidden = [detail(type="reasoning.encrypted", data="…")]
    assert stream(*hidden, chunk({"content": "4"}, "stop")).reasoning_kind == "encrypted"
    odd = [detail(type=["reasoning.text"], text=7), chunk({"reasoning_details": "x"}), chunk({"content": {"a": 1}})]
    assert stream(*odd, chunk({"content": "4"}, "stop")).answer == "4"


# Usage that counts along


def test_usage_of_a_stream_that_broke_off_is_no_bill() -> None:
    counting = [chunk({"content": w}, usage={"prompt_tokens": 3, "completion_tokens": n}) for n, w in enumerate("abc")]
    with pytest.raises(Cut) as broken:
        stream(*counting)
    assert isinstance(broken.value.reply, Reply)
    assert broken.value.reply.usage.output_tokens is None, "what had been counted so far would be booked as the cost"
    assert broken.value.reply.extra["usage_so_far"] == {"prompt_tokens": 3, "completion_tokens": 2}
    ended = chunk({}, "stop", usage={"prompt_tokens": 3, "completion_tokens": 9})
    assert stream(*counting, ended).usage.output_tokens == 9
    assert stream(*counting, chunk({}, "stop"), b"data: [DONE]\n\n").usage.output_tokens == 2
    assert stream(*counting, chunk({}, "stop")).usage.output_tokens is None, "its last count may never have come"


# Loops

WORDS = ["so", "let", "me", "look", "again", "the", "sum", "of", "both", "is", "not", "four"]


def prose(n: int, seed: int = 0) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choice(WORDS) for _ in range(n))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(max_size=300), st.text(min_size=1, max_size=400), st.integers(0, 40), st.integers(0, 10_000))
def test_a_loop_that_is_found_is_one(before: str, block: str, times: int, cut: int) -> None:
    text = before + block * times * 20
    text = text[: len(text) - cut % len(block)]
    if loop := loop_at_end(text):
        assert loop.chars >= max(CHARS, TIMES * len(loop.block))
        period = len(loop.block)
        tail = text[-loop.chars :]
        assert tail[period:] == tail[:-period]


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(st.integers(0, 999), st.integers(3, 300), st.integers(0, 2000))
def test_words_that_come_again_and_again_are_found(seed: int, words: int, cut: int) -> None:
    block = f"{prose(words, seed)} number {seed}.\n"
    text = prose(500, seed + 1) + block * (CHARS // len(block) + 5)
    loop = loop_at_end(text[: len(text) - cut % len(block)])
    assert loop is not None
    assert len(loop.block) <= len(block)


HONEST = {
    "prose": prose(9000),
    "a list": "".join(f"{n}. the {WORDS[n % 12]} of it\n" for n in range(1500)),
    "a table": "| n | square |\n| --- | --- |\n" + "".join(f"| {n} | {n * n} |\n" for n in range(1500)),
    "a row of zeros": "[" + "0, " * 9000,
    "a ruled line": "-" * 20_000,
    "a refrain": "".join(prose(60, n) + "\nand so the river runs to the sea\n" * 4 for n in range(60)),
    "code": "".join(f"    if x == {n}:\n        return {n % 7}\n" for n in range(900)),
    "a hundred lines of punishment": "I will not talk in class.\n" * 100,
    "steps alike": "".join(f"Step {n}: swap the first two, then the last two.\n" for n in range(800)),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_repeats_for_a_reason_is_no_loop(name: str) -> None:
    text = HONEST[name]
    assert len(text) > 2000
    assert [n for n in range(500, len(text), 500) if loop_at_end(text[:n])] == []


def test_a_long_block_is_said_four_times_before_it_is_a_loop() -> None:
    block = prose(600)
    assert len(block) * 2 > CHARS / 2
    assert loop_at_end("And so on. " + block * 3) is None
    assert loop_at_end("And so on. " + block * 4) is not None


def test_data_may_repeat_long_but_not_for_ever() -> None:
    assert loop_at_end("0, " * (CHARS_WITHOUT_WORDS // 3 - 1)) is None
    assert loop_at_end("0, " * (CHARS_WITHOUT_WORDS // 3 + 99)) is not None


def test_recorded_answers_that_ended_are_not_cut_and_loops_among_the_others_are_found(shared: Path) -> None:
    """As they would have been seen while they came, every 1,024 characters."""
    found: dict[str, set[str]] = {"ended": set(), "length": set(), "other": set()}
    rows = 0
    for path in sorted((shared / "data" / "traces").glob("*.jsonl")):
        for n, line in enumerate(path.read_text("utf-8").split("\n")):
            if not line:
                continue
            row, rows = json.loads(line), rows + 1
            ending = row.get("finish_reason")
            kind = "other" if ending is None else "length" if ending == "length" else "ended"
            for text in (row["reasoning"], row["answer"]):
                if any(loop_at_end(text[:end]) for end in range(4096, len(text) + 1024, 1024)):
                    found[kind].add(f"{path.stem}:{n}")
    assert rows == 1311
    assert found["ended"] == set()
    assert len(found["length"]) >= 7, "of 71 that ran into their limit of 4,096 tokens"
    assert len(found["other"]) == 1, "one answer of qwen3-30b says 927 characters nine times over"


def test_a_stream_in_a_loop_is_seen_while_it_comes() -> None:
    for field in ("content", "reasoning_content", "reasoning"):
        reader = StreamReader()
        fed = 0
        while reader.loop is None and fed < 200_000:
            piece = (prose(2000) + " But wait, let me check this again." * 9999)[fed : fed + 5]
            reader.feed(chunk({field: piece}))
            fed += 5
        assert CHARS < fed - len(prose(2000)) < CHARS + 2 * 4096
        reply = reader.broken_off(reader.loop)
        assert cut_short(reply) == reply.finish_reason == REPETITION
        assert " But wait, let me check this again." in reply.extra["loop"]["block"] * 2
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (None, None)


def test_a_loop_that_came_to_its_end_has_its_bill() -> None:
    reader = StreamReader()
    looping = b"".join(chunk({"content": " But wait, let me check this again."}) for _ in range(400))
    reader.feed(looping)
    assert reader.loop is not None
    reader.feed(chunk({}, "length", usage={"prompt_tokens": 3, "completion_tokens": 4096}))
    assert reader.loop is None
    assert (cut_short(reply := reader.finish()), reply.usage.output_tokens) == ("truncated", 4096)


# Over sockets


def sse(*events: bytes) -> dict[str, Any]:
    return {"raw": b"".join(events), "headers": EVENTS}


async def ask(teacher: Endpoint, arriving: Arriving | None = None, **more: Any) -> Reply:
    async with Teacher(teacher.url, KEY, stream=True, **more) as t:
        return await t.ask(BODY, LIMIT, arriving)


async def test_every_manner_of_a_stream_is_read_over_a_socket(endpoint: Endpoints) -> None:
    words = ["Señor ", "😀 ", "two ", "and ", "two ", 'is "four"\n'] * 20
    events = [chunk({"content": w}) for w in words]
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}\n\n'
    sent = b"\xef\xbb\xbf: OPENROUTER PROCESSING\n\n" + b"".join(events) + chunk({}, "stop") + usage
    for body in (sent, sent + b"data: [DONE]\n\n", sent.replace(b"\n", b"\r\n"), sent.replace(b"\n\n", b"\r\r")):
        cuts = tuple(random.Random(len(body)).sample(range(1, len(body)), 60))
        teacher = endpoint(lambda _, b=body, c=cuts: Say(**sse(b), pieces=c, gap_s=0.001))
        reply = await ask(teacher)
        assert reply.answer == "".join(words)
        assert (reply.usage.output_tokens, reply.finish_reason) == (5, "stop")


async def test_a_key_that_is_echoed_across_pieces_is_blanked(endpoint: Endpoints) -> None:
    sent = b": " + KEY.encode() + b"\n\n" + b"".join(chunk({"content": c}) for c in ("<", KEY, KEY[:9], KEY[9:], ">"))
    sent += chunk({"content": "x" * 50 + KEY}) * 4 + chunk({}, "stop")
    for step in (1, 7, len(KEY)):
        teacher = endpoint(lambda _, s=step: Say(**sse(sent), pieces=tuple(range(s, len(sent), s)), gap_s=0))
        reply = await ask(teacher)
        assert KEY not in repr(reply)
        assert reply.answer.startswith("<[key][key]>x")
        assert reply.answer.count("[key]") == 6


async def test_a_break_in_the_middle_of_an_event_keeps_what_was_whole(endpoint: Endpoints) -> None:
    sent = b"".join(chunk({"reasoning_content": w}) for w in ("so ", "it ", "is "))
    for reset in (False, True):
        teacher = endpoint(lambda _, r=reset: Say(**sse(sent * 2), cut_at=len(sent) + 30, reset=r))
        with pytest.raises(Cut) as broken:
            await ask(teacher)
        assert isinstance(broken.value.reply, Reply)
        assert broken.value.reply.reasoning in ("so it is ", None if reset else "so it is ")


async def test_an_error_in_the_middle_is_a_cut_with_its_words(endpoint: Endpoints) -> None:
    error = b'data: {"error": {"message": "provider went away"}}\n\n'
    with pytest.raises(Cut, match="provider went away") as broken:
        await ask(endpoint(lambda _: Say(**sse(chunk({"content": "4"}), error))))
    assert isinstance(broken.value.reply, Reply)
    assert broken.value.reply.answer == "4"


async def test_silence_ends_a_stream_and_keeps_what_had_come(endpoint: Endpoints) -> None:
    sent = chunk({"content": "It is "})
    teacher = endpoint(lambda _: Say(**sse(sent * 9), silent_at=len(sent)))
    with pytest.raises(Cut, match="idle_timeout_s") as idle:
        await ask(teacher, idle_timeout_s=0.3)
    assert isinstance(idle.value.reply, Reply)
    assert idle.value.reply.answer == "It is "
    with pytest.raises(Cut, match="idle_timeout_s"):
        await ask(endpoint(lambda _: Say(delay_s=30)), idle_timeout_s=0.3)


async def test_keep_alives_are_no_silence(endpoint: Endpoints) -> None:
    sent = b": keep-alive\n\n" * 12 + chunk({"content": "4"}, "stop")
    teacher = endpoint(lambda _: Say(**sse(sent), pieces=tuple(range(14, 14 * 13, 14)), gap_s=0.1))
    assert (await ask(teacher, idle_timeout_s=0.6)).answer == "4"


async def test_what_has_come_is_there_before_the_end(endpoint: Endpoints) -> None:
    sent = chunk({"reasoning_content": KEY}) + chunk({"content": "4"})
    teacher = endpoint(lambda _: Say(**sse(sent * 2), silent_at=len(sent)))
    arriving = Arriving()
    assert arriving.reply() is None
    asking = asyncio.create_task(ask(teacher, arriving))
    for _ in range(500):
        await asyncio.sleep(0.01)
        if (reply := arriving.reply()) and reply.answer:
            break
    assert reply is not None
    assert (reply.reasoning, reply.answer) == ("[key]", "4")
    asking.cancel()


async def test_a_loop_is_broken_off_and_its_connection_closed(endpoint: Endpoints) -> None:
    teacher = endpoint(
        lambda _: Say(
            before=chunk({"content": "Let me see."}),
            forever=chunk({"reasoning_content": " But wait, is it four? Let me check."}),
            headers=EVENTS, gap_s=0, made=True,
        )
    )  # fmt: skip
    reply = await asyncio.wait_for(ask(teacher), 20)
    assert (reply.finish_reason, reply.answer) == (REPETITION, "Let me see.")
    for _ in range(500):
        if not teacher.in_flight:
            break
        await asyncio.sleep(0.01)
    assert teacher.in_flight == 0, "the endpoint still writes"
    with pytest.raises(TooLarge) as too_large:
        await asyncio.wait_for(ask(teacher, stop_repeating=False), 30)
    assert isinstance(too_large.value.reply, Reply)


def test_a_socket_notices_that_its_peer_has_vanished() -> None:
    with _socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


def test_a_server_that_hangs_up_after_the_last_byte_loses_none_of_it(
    endpoint: Endpoints, place: Places, tmp_path: Path
) -> None:
    """Over TLS too, while the bytes of a stream gather."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command for a certificate")
    pem, words = tmp_path / "localhost.pem", ["so ", "it ", "is ", "\\boxed{42}"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", pem, "-out", tmp_path / "crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_bytes(pem.read_bytes() + (tmp_path / "crt").read_bytes())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    usage = b'data: {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}\n\ndata: [DONE]\n\n'
    said = b"".join(chunk({"content": w}) for w in words)
    body, cuts = said + chunk({}, "stop") + usage, tuple(range(12, len(said), 12))
    rows = [{"id": f"q{n}", "question": f"{n}?", "answer": "42"} for n in range(12)]
    for secure in (None, tls):
        teacher = endpoint(lambda a: Say(**sse(body), pieces=cuts, gap_s=0.04 + a.n / 1000, hang_up=True), secure)
        p = place(teacher.url, rows, folder=f"tls-{bool(secure)}", teacher__stream=True, sampling__tries=1)
        p.env["SSL_CERT_FILE"] = str(pem)
        code, _, err = p.collect()
        assert code == 0, err
        assert p.report["attempts"]["failed"] == {}
        assert p.report["questions"]["solved"] == 12


# The whole command: what the store keeps and what it costs


def why(p: Place, question: str = "q0") -> dict[str, Any]:
    command = [*p.command("why", "r", question, "--json", "--store", p.url)]
    env = {**os.environ, "WINNOW_RUNS": str(p.folder / "runs"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=p.folder, env=env, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_loop_is_rejected_not_asked_again_and_in_doubt_at_its_worst_case(endpoint: Endpoints, place: Places) -> None:
    loop = Say(forever=chunk({"content": " But wait, is it four?"}), headers=EVENTS, gap_s=0, made=True)
    teacher = endpoint(lambda a: loop if "0 + 1" in a.question else Say())
    p = place(teacher.url, 2, teacher__stream=True, sampling__max_tokens=5000, sampling__samples=3)
    for _ in range(2):
        code, _, err = p.collect()
        assert code == 0, err
        assert len(teacher.asked) == 2
    report = p.report
    assert report["traces"]["rejected"] == {"repetition": 1}
    assert report["questions"]["given_up"] == report["questions"]["solved"] == 1
    assert report["attempts"]["in_doubt"] == 1
    assert teacher.billed_pusd <= sum(audit_file(p.store)[name] for name in ("spent", "in_doubt"))
    assert p.money("in_doubt") > 5000 * 10 / 10**6
    attempt = why(p)["attempts"][0]
    assert (attempt["reason"], attempt["finish_reason"]) == ("repetition", "repetition")
    assert "But wait, is it four?" in attempt["answer"]


SAID = b"".join(chunk({"reasoning_content": w}) for w in ("so ", "it ", "is "))
HALF: dict[str, tuple[Say, dict[str, Any], str]] = {
    "late": (Say(**sse(SAID * 2), silent_at=len(SAID)), {"teacher__timeout_s": 0.8}, "late"),
    "silent": (Say(**sse(SAID * 2), silent_at=len(SAID)), {"teacher__idle_timeout_s": 0.4}, "cut"),
    "cut": (Say(**sse(SAID * 2), cut_at=len(SAID)), {}, "cut"),
    "a drip of keep-alives": (
        Say(before=SAID, forever=b": keep-alive\n\n", gap_s=0.05, headers=EVENTS, made=True),
        {"teacher__timeout_s": 0.8, "teacher__idle_timeout_s": 0.4},
        "late",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HALF)
def test_what_had_come_of_an_answer_that_never_ended_is_kept(name: str, endpoint: Endpoints, place: Places) -> None:
    say, more, kind = HALF[name]
    teacher = endpoint(lambda _: say)
    p = place(teacher.url, 1, teacher__stream=True, sampling__tries=1, **more)
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["attempts"]["failed"] == {kind: 1}
    assert p.report["attempts"]["in_doubt"] == 1
    assert teacher.billed_pusd <= audit_file(p.store)["in_doubt"]
    tried = why(p)["attempts"][0]["tries"][0]
    assert tried["partial"] == {"reasoning": "so it is ", "answer": ""}
    assert tried["in_doubt_usd"] is not None
    command = p.command("why", "r", "q0", "--store", p.url)
    told = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert re.search(r"kept of it +9 characters of chain, 0 of answer", told)


def test_a_second_ctrl_c_keeps_what_had_come(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(**sse(SAID * 2), silent_at=len(SAID)))
    p = place(teacher.url, 3, teacher__stream=True, teacher__timeout_s=60)
    process = p.start()
    began = time.monotonic()
    while len(teacher.asked) < 3:
        assert time.monotonic() - began < 30
        time.sleep(0.01)
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130, err
    audit_file(p.store)
    assert p.report["attempts"]["in_doubt"] == 3
    assert [t["partial"]["reasoning"] for t in why(p, "q1")["attempts"][0]["tries"]] == ["so it is "]


def test_more_at_once_than_files_may_be_open_is_a_line_and_no_failure(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.1))
    p = place(teacher.url, 120, teacher__max_concurrency=2000)
    limited = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({}, {}));"
    limited += "sys.argv[0] = 'harvest'; runpy.run_module('harvest', run_name='__main__')"
    process = p.start(python=("-c", limited.format(150, 150)))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "max_concurrency = 2,000 needs more open files than the 150 allowed here: at most 22 at once" in err
    assert p.report["questions"]["solved"] == 120
    assert p.report["attempts"]["failed"] == {}
    assert teacher.peak <= 22


WHOLE = b"".join(
    (
        chunk({"reasoning_content": "one more "}),
        chunk({"content": "So \\boxed{1}"}),
        chunk({}, "stop"),
        b'data: {"choices": [], "usage": {"prompt_tokens": 40, "completion_tokens": 30, "total_tokens": 70}}\n\n',
    )
)
BILL = 40 * 10**6 + 30 * 10**7


def test_after_done_nothing_is_waited_for(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(
        lambda _: Say(before=WHOLE + b"data: [DONE]\n\n", forever=b": ping\n\n", gap_s=0.02, headers=EVENTS, made=True)
    )
    p = place(teacher.url, 1, teacher__stream=True)
    code, _, err = p.collect()
    assert code == 0, err
    assert len(teacher.asked) == 1
    assert p.report["questions"]["solved"] == 1
    assert p.money("in_doubt") == 0


@pytest.mark.parametrize("ends", ["never", "by two signals"])
def test_a_stream_that_counted_and_never_ends_is_booked_once(ends: str, endpoint: Endpoints, place: Places) -> None:
    """Its deadline passes with its usage there, and what had come is kept when the lingering is over."""
    teacher = endpoint(lambda _: Say(before=WHOLE, forever=b": ping\n\n", gap_s=0.05, headers=EVENTS, made=True))
    more = {"teacher__stream": True, "teacher__timeout_s": 1, "sampling__tries": 1, "budget__usd": "0.01"}
    p = place(teacher.url, 1, **more)
    if ends == "never":
        assert p.collect()[0] == 0
    else:
        process = p.start()
        while not teacher.asked:
            time.sleep(0.02)
        time.sleep(1.2)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        process.communicate(timeout=20)
    books = audit_file(p.store)
    assert (books["spent"], books["in_doubt"]) == (BILL, 0)
