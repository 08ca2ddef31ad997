"""Every way to reach an endpoint: Azure's forms, more headers, keys from a command, proxies, and own certificates."""

import asyncio
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
from conftest import Place
from hypothesis import given
from hypothesis import strategies as st
from openai import AzureOpenAI, OpenAI
from scripted_endpoint import Asked, Endpoint, Say

from harvest.core.errors import ConfigError, Passing, RunRefused
from harvest.core.teachers import NOT_EXTRA, refused_extra
from harvest.endpoint.client import Teacher
from harvest.endpoint.credentials import FRESH_S, Access, Credentials, printed_key
from harvest.endpoint.openai_client import chat_request
from harvest.endpoint.redaction import Redaction

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
KEY = "sk-canary-7d41f0a9c2e85b36"
SECOND = "hunter2-canary-93bb1c"
BODY = {"model": "mock", "messages": [{"role": "user", "content": "What is 1 + 2?"}], "max_tokens": 100}
LIMIT = 1 << 22
AZURE = "https://res.openai.azure.com"
TOKEN = "eyJhbGciOi.eyJhdWQiOi.c2lnbmF0dXJl"


# ---- Azure


@contextmanager
def as_openai_sends(make: Callable[[httpx2.Client], OpenAI]) -> Iterator[httpx2.Request]:
    """The request that openai's own client sends for a chat completion."""
    sent: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json={"choices": []})

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        make(http).chat.completions.create(model="my-o3", messages=[])
    yield sent[0]


@pytest.mark.parametrize("base_url", [AZURE, f"{AZURE}/", f"{AZURE}/openai"])
@pytest.mark.parametrize(("key", "header"), [(KEY, "api-key"), (TOKEN, "authorization")])
def test_a_classic_azure_request_is_the_one_that_openais_client_sends(base_url: str, key: str, header: str) -> None:
    given: dict[str, Any] = {"azure_ad_token": key} if key == TOKEN else {"api_key": key}
    address, headers = chat_request(base_url, key, {}, "2024-10-21", "my-o3")
    with as_openai_sends(
        lambda http: AzureOpenAI(azure_endpoint=AZURE, api_version="2024-10-21", http_client=http, **given)
    ) as theirs:
        assert address == str(theirs.url)
        assert dict(headers)[header] == theirs.headers[header]
    assert address == f"{AZURE}/openai/deployments/my-o3/chat/completions?api-version=2024-10-21"
    assert {name for name, _ in headers} & {"api-key", "authorization"} == {header}


def test_azures_v1_takes_its_key_in_a_header_of_the_users() -> None:
    address, headers = chat_request(f"{AZURE}/openai/v1", None, {"Api-Key": KEY}, "", "my-o3")
    with as_openai_sends(lambda http: OpenAI(base_url=f"{AZURE}/openai/v1/", api_key="x", http_client=http)) as theirs:
        assert address == str(theirs.url)
    assert dict(headers)["api-key"] == KEY
    assert "authorization" not in dict(headers)


def test_a_users_header_replaces_ours_and_stands_once() -> None:
    own = {"USER-AGENT": "mine", "Authorization": "Basic abc", "Host-Id": "7", "Connection-Name": "c"}
    for azure in ("", "2024-10-21"):
        _, headers = chat_request("https://h/x", KEY, own, azure, "m")
        found = [(name, value) for name, value in headers if name in {k.lower() for k in own}]
        assert sorted(found) == sorted((name.lower(), value) for name, value in own.items())


# ---- headers and secrets in a whole run


def left_behind(p: Place, *texts: str) -> str:
    """All that a run has left: its files, the store unpacked, and what it printed."""
    shown = [*texts]
    for command in (["report", "r", "--json"], ["why", "r", "q0", "--full"], ["settle", "r"], ["doctor", str(p.toml)]):
        more = [] if command[0] == "doctor" else ["--store", p.url]
        shown += p.harvest(*command, *more)[1:]
    shown += [f.read_bytes().decode("latin-1") for f in p.folder.rglob("*") if f.is_file() and f.name != "key.txt"]
    return "\n".join(shown)


def echoing(asked: Asked) -> Say:
    """Says all that it was sent back: in its headers, its answer, and a refusal."""
    sent = " ".join(v for k, v in asked.headers.items() if k not in ("host", "content-length"))
    headers = {"x-ratelimit-key": sent, f"x-ratelimit-{asked.headers['x-gateway'].rsplit(' ')[-1]}": "1"}
    if asked.n % 2:
        return Say(status=400, error="bad", message=f"you sent {sent}", headers=headers)
    return Say(text=f"{sent} \\boxed{{1}}", headers=headers)


def test_secret_headers_and_a_printed_key_are_nowhere(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(echoing)
    p = place(teacher.url, 4, teacher__headers={"X-Gateway": "env:GATEWAY", "X-Title": "winnow"})
    (p.folder / "key.txt").write_text(KEY + "\n")
    p.settings["teacher"]["api_key_command"] = f"cat {p.folder / 'key.txt'}"
    p.env["GATEWAY"] = f"Bearer {SECOND}"
    code, out, err = p.collect()
    assert code == 0, err
    sent = [(a.headers["authorization"], a.headers["x-gateway"], a.headers["x-title"]) for a in teacher.asked]
    assert sent == [(f"Bearer {KEY}", f"Bearer {SECOND}", "winnow")] * 4
    left = left_behind(p, out, err)
    assert "[key]" in left
    for secret in (KEY, SECOND, KEY[:20], SECOND[:16]):
        assert secret not in left
    assert len(teacher.asked) == 5, "doctor asked too"


def test_a_secret_header_may_change_and_a_plain_one_is_part_of_the_key(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    p = place(teacher.url, 2, teacher__headers={"X-Key": "env:ONE", "X-Title": "winnow"})
    p.env |= {"ONE": KEY, "TWO": SECOND}
    assert p.collect()[0] == 0
    p.settings["teacher"]["headers"]["X-Key"] = "env:TWO"
    assert p.collect()[0] == 0
    assert len(teacher.asked) == 2
    p.settings["teacher"]["headers"]["X-Title"] = "another"
    code, _, err = p.collect()
    assert code == 2
    assert "teacher.headers.x-title" in err
    p.settings["name"] = "s"
    assert p.collect()[0] == 0
    assert len(teacher.asked) == 4


# ---- keys from a command

PRINTS = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
n = len(list(folder.glob("ran-*")))
(folder / f"ran-{n}").touch()
time.sleep(0.2)
print(f"sk-printed-by-the-command-{n}")
"""


def command_in(folder: Path) -> str:
    (folder / "prints.py").write_text(PRINTS)
    return f"'{sys.executable}' '{folder / 'prints.py'}' '{folder}'"


def test_32_refusals_at_once_run_the_command_once(endpoint: Endpoints, place: Places) -> None:
    """The key ends after each sixteenth answer, with 32 in flight."""
    ends, valid = threading.Lock(), [0, 0]

    def script(asked: Asked) -> Say:
        with ends:
            if asked.headers["authorization"] != f"Bearer sk-printed-by-the-command-{valid[0]}":
                return Say(status=401, error="invalid_api_key", message="expired", delay_s=0.05)
            valid[1] += 1
            if valid[1] == 48:
                valid[:] = [valid[0] + 1, 0]
            return Say(delay_s=0.05)

    teacher = endpoint(script)
    p = place(teacher.url, 120, teacher__max_concurrency=32)
    p.settings["teacher"]["api_key_command"] = command_in(p.folder)
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["questions"]["solved"] == 120
    assert sum(teacher.made().values()) == 120
    assert len(list(p.folder.glob("ran-*"))) == 3
    assert p.report["attempts"]["failed"] == {}


def test_a_key_that_is_refused_from_the_first_on_ends_the_run(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(status=401, error="invalid_api_key", message="no such key"))
    p = place(teacher.url, 40, teacher__max_concurrency=8)
    p.settings["teacher"]["api_key_command"] = command_in(p.folder)
    code, _, err = p.collect()
    assert code == 4, err
    assert len(list(p.folder.glob("ran-*"))) == 1
    assert len(teacher.asked) <= 16


async def test_a_renewal_that_brings_nothing_refuses_all_who_wait(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    credentials = Credentials("http://h/v1", None, Access(key_command=f"cat {tmp_path / 'key'}"))
    await credentials.open()
    first = credentials.signed
    assert not await credentials.renewed(first), "it is fresh, and was never taken"
    first.since_s -= FRESH_S + 1
    assert await asyncio.gather(*(credentials.renewed(first) for _ in range(8))) == [False] * 8
    (tmp_path / "key").unlink()
    first.was_accepted = True
    refused = await asyncio.gather(*(credentials.renewed(first) for _ in range(8)), return_exceptions=True)
    assert all(isinstance(e, RunRefused) and "No such file" in str(e) for e in refused)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program-here", "No such file"),
        ("false", "exit code 1"),
        ("true", "printed nothing"),
        ("sh -c 'echo one; echo two'", "cannot be a key"),
        ("sh -c 'echo please log in >&2; exit 3'", "exit code 3: please log in"),
        ("cat /etc/passwd | head -1", "exit code 1"),
    ],
)
async def test_a_command_that_fails_is_one_line(command: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as failed:
        await printed_key(command)
    assert "\n" not in str(failed.value)


# ---- what RUN.toml may say


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"headers": {"Authorization": f"Bearer {KEY}"}}, 'Authorization: a key is never written into a file: write'),
        ({"headers": {"x-api-key": KEY}}, "never written into a file"),
        ({"headers": {"X-Gateway": "env:"}}, "no name of an environment variable"),
        ({"headers": {"X Gateway": "1"}}, "none that a header can have"),
        ({"headers": {"X-A": "1\n2"}}, "no header can hold"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "twice"),
        ({"headers": {"Content-Type": "text/plain"}}, "winnow writes this header itself"),
        ({"headers": {"X-Gateway": "env:NOT_SET"}}, "teacher.headers.X-Gateway: the variable NOT_SET is not set"),
        ({"api_key_env": "A_KEY", "api_key_command": "pass winnow"}, "keep one"),
        ({"api_key_command": f"echo {KEY}"}, "never written into a file"),
        ({"api_key_command": "pass 'winnow"}, "quotation mark"),
        ({"api_key_command": "no-such-program-here now"}, "there is no program no-such-program-here"),
        ({"base_url": f"{AZURE}/openai/v1", "azure_api_version": "2024-10-21"}, "takes no azure_api_version"),
        ({"headers": [KEY]}, "teacher.headers"),
    ],
)  # fmt: skip
def test_a_wrong_way_is_refused_in_one_line_without_a_key(settings: dict[str, Any], said: str, place: Places) -> None:
    p = place("http://127.0.0.1:9/v1", 1)
    p.settings["teacher"] |= settings
    code, out, err = p.collect()
    assert code == 2, err
    assert said in err
    assert len([line for line in err.splitlines() if line.startswith("error")]) == 1
    assert KEY not in out + err


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"models": ["a", "b"]}, "another price"), ({"plugins": [{"id": "web"}]}, "no price"),
        ({"num_return_sequences": 4}, "sampling.samples"), ({"num_predict": 9}, "another name of max_tokens"),
        ({"web_search_options": {}}, "each search is billed"), ({"modalities": ["audio"]}, "more than text"),
        ({"prediction": {}}, "not taken"), ({"deferred": True}, "another request"),
        ({"tools": [{"type": "web_search_preview"}]}, 'type "function"'), ({"tools": "all"}, ""),
        ({"tools": [{"type": "function"}]}, None), ({"service_tier": "priority"}, None),
        ({"provider": {"only": ["x"]}}, None), ({}, None),
    ],
)  # fmt: skip
def test_what_changes_the_price_and_has_none_is_refused(extra: dict[str, Any], reason: str | None) -> None:
    refused = refused_extra(extra)
    assert (None if refused is None else refused[0]) == (None if not reason else next(iter(extra)))
    assert refused is None or str(reason) in refused[1]


def test_each_refusal_of_an_extra_is_a_sentence_of_its_own() -> None:
    assert all(len(reason.split()) >= 2 and not reason.endswith(".") for reason in NOT_EXTRA.values())


@given(
    st.lists(st.text("abc", min_size=12, max_size=20), max_size=4), st.lists(st.text("abcx", max_size=9), max_size=9)
)
def test_no_secret_survives_whatever_it_is_part_of(secrets: list[str], around: list[str]) -> None:
    text = "".join(a + s for a, s in zip(around, secrets * 9, strict=False))
    cleaned = Redaction(*secrets).text(text)
    assert not any(s in cleaned for s in secrets)
    for secret in secrets:
        assert Redaction(secret[:12], secret).text(secret) == "[key]", "one may begin another"


def test_thinking_tokens_are_reserved_beside_max_tokens(endpoint: Endpoints, place: Places) -> None:
    """An answer of 100 tokens and a chain of 1,000 that max_tokens leaves out: 44,000 micro-dollars at most."""
    teacher = endpoint(lambda _: Say(output_tokens=1100))
    p = place(teacher.url, 4, teacher__max_concurrency=1, budget__usd="0.02")
    assert p.collect()[0] == 5
    p = place(teacher.url, 4, folder="thinking", teacher__thinking_tokens=1000, teacher__max_concurrency=1)
    p.settings["budget"]["usd"] = "0.02"
    code, _, err = p.collect()
    assert code == 3, err
    assert p.money("spent") <= p.money("cap")


# ---- proxies and certificates


class Proxy:
    """A proxy that tunnels: it answers CONNECT and passes bytes on, whatever the host is called."""

    def __init__(self, port: int) -> None:
        self.heads: list[str] = []
        self._to = port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._tunnel, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        back, there = await asyncio.open_connection("127.0.0.1", self._to)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(self._pass(reader, there), self._pass(back, writer))

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


@pytest.fixture
def secure(endpoint: Endpoints, tmp_path: Path) -> tuple[Endpoint, Path]:
    """An endpoint behind TLS for teacher.test, and the certificate that it is trusted by."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command for a certificate")
    pem = tmp_path / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-keyout", str(pem), "-out", str(tmp_path / "cert.pem"), "-subj", "/CN=teacher.test",
         "-addext", "subjectAltName=DNS:teacher.test"],
        check=True, capture_output=True,
    )  # fmt: skip
    certificate = (tmp_path / "cert.pem").read_text()
    pem.write_text(pem.read_text() + certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    return endpoint(tls=tls), tmp_path / "cert.pem"


PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, *(name.upper() for name in PROXIES), "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY", "https_proxy"])
async def test_a_request_goes_through_the_proxys_tunnel_and_trusts_the_users_certificates(
    variable: str, secure: tuple[Endpoint, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, certificate = secure
    async with Proxy(teacher.port) as proxy:
        monkeypatch.setenv(variable, proxy.url.replace("http://", "http://user:hunter2-secret@"))
        async with Teacher("https://teacher.test/v1", KEY) as t:
            with pytest.raises(Passing, match=r"(?i)certificate"):
                await t.ask(BODY, LIMIT)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with Teacher("https://teacher.test/v1", KEY) as t:
            assert (await t.ask(BODY, LIMIT)).answer == "So it is \\boxed{3}."
    assert [head.split("\r\n")[0] for head in proxy.heads] == ["CONNECT teacher.test:443 HTTP/1.1"] * 2
    assert all("Proxy-Authorization: Basic " in head and KEY not in head for head in proxy.heads)
    assert teacher.asked[-1].headers["authorization"] == f"Bearer {KEY}"
    assert not any(name.startswith("proxy-") for name in teacher.asked[-1].headers)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("bypass", ["teacher.test", ".test", "other.test, teacher.test:443", "*"])
async def test_no_proxy_is_heeded(bypass: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", bypass)
    async with Teacher("https://teacher.test/v1", KEY) as t:
        with pytest.raises(Passing, match=r"teacher\.test"):
            await t.ask(BODY, LIMIT)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks5://user:hunter2-secret@127.0.0.1:1080", "socks5:// proxy"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "No such file"),
        ("SSL_CERT_FILE", __file__, "no certificate"),
    ],
)
def test_a_proxy_or_certificates_that_cannot_be_used_are_one_line(
    variable: str, value: str, said: str, place: Places
) -> None:
    p = place("https://teacher.test/v1", 1)
    p.env[variable] = value
    code, _, err = p.collect()
    assert code == 2, err
    assert said in err
    assert variable in err or "HTTPS_PROXY" in err
    assert "hunter2" not in err
    assert "Traceback" not in err
