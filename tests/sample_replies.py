"""Bodies as endpoints send them, how tests read them, and what must hold for every reply that is read."""

import json
import math
import os
import pickle
import random
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harvest.core.errors import FAILURES, AttemptFailed
from harvest.core.nouns import Reply, TokenLogprobs
from harvest.endpoint.response import BodyReader, read_response

EXAMPLES = int(os.environ.get("WINNOW_EXAMPLES", "300"))
EVENTS = {"content-type": "text/event-stream"}
OWN = sorted((Path(__file__).parent / "replies").rglob("*.json"))


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
    return read_response(recording["http"]["status"], wire(recording))


def stream(*pieces: bytes) -> Reply:
    reader = BodyReader()
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


def completion(message: dict[str, Any], finish: str | None = "stop", **top: Any) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 5}} | top).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **top: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]} | top, ensure_ascii=False).encode() + b"\n\n"


def entries(found: TokenLogprobs | None) -> list[dict[str, Any]] | None:
    """The log-probabilities of sampled tokens, in words that a test can compare: id, logprob, top [(id, logprob)]."""
    if found is None:
        return None

    def numbers(kind: str, data: bytes) -> list[Any]:
        return [x for (x,) in struct.iter_unpack(f"<{kind}", data)]

    ids = [None] * found.tokens if found.ids is None else numbers("i", found.ids)
    tops = list(zip(numbers("i", found.top_ids), numbers("e", found.top_logprobs), strict=True))
    k = found.width
    return [
        {
            "id": i,
            "logprob": None if math.isnan(value) else value,
            "top": [(j, v) for j, v in tops[n * k : (n + 1) * k] if j >= 0],
        }
        for n, (i, value) in enumerate(zip(ids, numbers("f", found.logprobs), strict=True))
    ]


def in_words(reply: Reply) -> dict[str, Any]:
    """All of a reply as a recording's `expected` has it."""
    tokens = json.loads(json.dumps(entries(reply.logprobs)))
    return asdict(reply) | {"logprobs": tokens}


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
    for entry in entries(reply.logprobs) or ():
        assert entry["logprob"] is None or entry["logprob"] <= 0
        assert all(value <= 0 for _, value in entry["top"])
    stored = json.dumps(asdict(replace(reply, logprobs=None)), allow_nan=False, ensure_ascii=False).encode()
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


WORDS = ["so", "let", "me", "look", "again", "the", "sum", "of", "both", "is", "not", "four"]


def prose(n: int, seed: int = 0) -> str:
    chance = random.Random(seed)
    return " ".join(chance.choice(WORDS) for _ in range(n))


def sse(*events: bytes) -> dict[str, Any]:
    return {"raw": b"".join(events), "headers": EVENTS}
