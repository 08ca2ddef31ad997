"""One try over a real socket: what is sent, what is read of a stream, and what is kept of a stream that breaks."""

import asyncio
import contextlib
import os
import random
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sample_replies import EVENTS, chunk, sse
from scripted_endpoint import Endpoint, Say

from harvest.core.errors import AttemptFailed, ConfigError, Cut, Passing, Throttled, TooLarge
from harvest.core.nouns import Reply
from harvest.endpoint.client import Arriving, Teacher
from harvest.endpoint.redaction import Redaction
from harvest.endpoint.reply import REPETITION
from harvest.endpoint.transport import probed_socket, secrets_of

Endpoints = Callable[..., Endpoint]
KEY = "sk-secret-0123456789abcdef"
BODY = {"model": "mock", "messages": [{"role": "user", "content": "What is 1 + 2?"}], "max_tokens": 100}
LIMIT = 1 << 22


FOR_OTHERS = {
    "OPENAI_API_KEY": "sk-of-another-endpoint",
    "OPENAI_ADMIN_KEY": "sk-admin-of-another-endpoint",
    "OPENAI_ORG_ID": "org-of-another-endpoint",
    "OPENAI_PROJECT_ID": "proj-of-another-endpoint",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/of-another-endpoint",
    "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer of-another-endpoint\nX-Mine: of-another-endpoint",
    "OPENAI_WEBHOOK_SECRET": "of-another-endpoint",
    "AZURE_OPENAI_API_KEY": "of-another-endpoint",
    "AZURE_OPENAI_AD_TOKEN": "of-another-endpoint",
    "AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9/of-another-endpoint",
}


@pytest.mark.parametrize("key", [KEY, None])
async def test_no_variable_of_openais_reaches_a_teacher(
    key: str | None, endpoint: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FOR_OTHERS.items():
        monkeypatch.setenv(name, value)
    teacher = endpoint()
    async with Teacher(teacher.url, key) as t:
        await t.ask(BODY, LIMIT)
    (asked,) = teacher.asked
    assert "of-another-endpoint" not in asked.head
    assert asked.headers.get("authorization") == (f"Bearer {key}" if key else None)
    assert {name: os.environ[name] for name in FOR_OTHERS} == FOR_OTHERS, "they are the user's, and stay"


async def test_a_request_holds_what_was_asked_and_nothing_of_this_machine(endpoint: Endpoints) -> None:
    teacher = endpoint()
    odd = BODY | {"messages": [{"role": "user", "content": "\ud83d alone, and Señor 😀"}], "top_k": 5}
    async with Teacher(teacher.url + "/", KEY) as t:
        await t.ask(odd, LIMIT)
    (asked,) = teacher.asked
    assert asked.head.startswith("POST /v1/chat/completions HTTP/1.1")
    assert asked.body == odd | {"messages": [{"role": "user", "content": "? alone, and Señor 😀"}]}
    assert set(asked.headers) == {
        "host", "authorization", "accept", "accept-encoding", "content-type", "content-length", "user-agent",
    }  # fmt: skip
    assert (asked.headers["user-agent"], asked.headers["accept-encoding"]) == ("winnow", "identity")


@pytest.mark.parametrize(
    ("say", "failure"),
    [
        (Say(status=302, headers={"location": "http://127.0.0.1:9/v1"}), Passing),
        (Say(status=307, headers={"location": "/v1/chat/completions"}), Passing),
        (Say(status=500, error="server_error"), Passing),
        (Say(status=429, headers={"retry-after": "0"}), Throttled),
        (Say(cut_at=20, reset=True), Cut),
        (Say(raw=b"x" * (LIMIT + 1)), TooLarge),
        (Say(status=500, raw=b"x" * (LIMIT + 1)), TooLarge),
        (Say(raw=zlib.compress(b"x" * (50 * LIMIT)), headers={"content-encoding": "deflate"}), TooLarge),
        (Say(status=400, raw=zlib.compress(b"x" * (50 * LIMIT)), headers={"content-encoding": "deflate"}), TooLarge),
    ],
)
async def test_a_failure_costs_one_request_and_is_named(
    say: Say, failure: type[AttemptFailed], endpoint: Endpoints
) -> None:
    teacher = endpoint(lambda _: say)
    async with Teacher(teacher.url, KEY) as t:
        with pytest.raises(failure):
            await t.ask(BODY, LIMIT)
    assert len(teacher.asked) == 1


async def test_what_was_never_connected_is_told_from_what_was_sent(endpoint: Endpoints) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with Teacher(f"http://127.0.0.1:{port}/v1", KEY) as t:
        with pytest.raises(Passing, match="no connection"):
            await t.ask(BODY, LIMIT)
    async with Teacher(endpoint(lambda _: Say(wire=b"", made=True)).url, KEY) as t:
        with pytest.raises(Cut):
            await t.ask(BODY, LIMIT)


async def test_an_address_that_is_none_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="base_url is no address"):
        async with Teacher("http://-ä-.example/v1", KEY):
            pass


async def test_a_key_that_no_header_can_hold_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="not ASCII"):
        async with Teacher("http://127.0.0.1:9/v1", "sk-é-0123456789"):
            pass


async def test_a_proxy_of_the_environment_is_asked(endpoint: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = endpoint()
    monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
    async with Teacher("http://a-teacher.invalid/v1", KEY) as t:
        await t.ask(BODY, LIMIT)
    assert proxy.asked[0].head.startswith("POST http://a-teacher.invalid/v1/chat/completions ")


@contextlib.contextmanager
def refusing_proxy(answer: bytes) -> Iterator[str]:
    """Gives (host:port of a proxy that answers every CONNECT so, and hangs up)."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 502 dXNlcjpwcjB4eS9jYW5hcnk=\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",  # and then no TLS
        b"garbage\r\n\r\n",
        b"",
    ],
)
async def test_a_proxy_that_refuses_passed_nothing_on_and_its_password_is_in_no_message(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refusing_proxy(answer) as address:
        monkeypatch.setenv("https_proxy", f"http://user:pr0xy%2Fcanary@{address}")
        async with Teacher("https://a-teacher.invalid/v1", KEY) as t:
            with pytest.raises(Passing, match="no connection") as failed:
                await t.ask(BODY, LIMIT)
    for secret in ("pr0xy", "canary", "dXNlcjpwcjB4eS9jYW5hcnk"):
        assert secret not in failed.value.message


def test_every_form_of_a_proxys_password_is_blanked() -> None:
    redaction = Redaction(KEY, *secrets_of("http://user:pr0xy%2Fcanary@127.0.0.1:3128"))
    assert (
        redaction.text(f"user:pr0xy/canary dXNlcjpwcjB4eS9jYW5hcnk= pr0xy%2Fcanary {KEY}") == "[key] [key] [key] [key]"
    )
    assert redaction.begun_at_end(b"... sk-secret-0") == 11
    assert secrets_of("user:pr0xy-canary@127.0.0.1") == secrets_of("http://user:pr0xy-canary@127.0.0.1/")
    assert secrets_of("http://127.0.0.1:3128") == secrets_of(None) == ()


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
    with probed_socket((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
