"""Streams of events: the same events in any pieces give the same reply, and the text of a broken stream is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_replies import EXAMPLES, check_failure, chunk, completion, entries, load, prose, read, stream, wire

from harvest.answers.repetition import CHARS
from harvest.core.errors import Cut, Hollow
from harvest.core.nouns import Reply
from harvest.endpoint.reply import REPETITION, cut_short
from harvest.endpoint.response import BodyReader, read_response

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
        reader = BodyReader()
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
        stream(chunk({"content": "4"}), b'data: {"choices": "\\q"}\n\n', chunk({}, "stop"))


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
    assert entries(reply.logprobs) == [{"id": 7, "logprob": -0.5, "top": []}] * 2


def test_an_endpoint_may_stream_unasked_or_not_stream_when_asked() -> None:
    events = chunk({"content": "4"}, "stop")
    assert read_response(200, events) == stream(events)
    body = b"\n\n" + completion({"content": "4"})
    assert stream(*(body[i : i + 1] for i in range(len(body)))) == read_response(200, body)


# Any events


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
def test_any_events_read_the_same_whatever_their_line_ends_and_pieces(data: st.DataObject) -> None:
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
    in_one_piece = BodyReader()
    in_one_piece.feed(sent.replace(b"\n", b"\r\n"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8), label="cuts"))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    reader = BodyReader()
    for piece in pieces:
        reader.feed(piece)
    assert outcome(reader) == outcome(in_one_piece)


def outcome(reader: BodyReader) -> object:
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
    redacted = [chunk({"content": [{"type": "redacted_thinking", "data": "…"}]}), chunk({"content": [{"text": "is "}]})]
    said = stream(*redacted, chunk({"content": "4"}, "stop"))
    assert (said.reasoning_kind, said.answer) == ("encrypted", "is 4"), "one hidden part among others hides the chain"
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


def test_a_stream_in_a_loop_is_seen_while_it_comes() -> None:
    for field in ("content", "reasoning_content", "reasoning"):
        reader = BodyReader()
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
    reader = BodyReader()
    looping = b"".join(chunk({"content": " But wait, let me check this again."}) for _ in range(400))
    reader.feed(looping)
    assert reader.loop is not None
    reader.feed(chunk({}, "length", usage={"prompt_tokens": 3, "completion_tokens": 4096}))
    assert reader.loop is None
    assert (cut_short(reply := reader.finish()), reply.usage.output_tokens) == ("truncated", 4096)
