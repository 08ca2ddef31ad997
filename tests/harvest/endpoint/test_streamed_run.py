"""A whole run over streams: what the store keeps of each answer, and what each answer costs."""

import json
import re
import resource
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from books import audit_file
from conftest import Place
from sample_replies import EVENTS, chunk, sse
from scripted_endpoint import Endpoint, Say

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]


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
    found: dict[str, Any] = json.loads(p.harvest("why", "r", question, "--json", "--store", p.url)[1])
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
    _, told, _ = p.harvest("why", "r", "q0", "--store", p.url)
    assert re.search(r"kept of it +9 characters of chain, 0 of answer", told)


def test_a_second_ctrl_c_keeps_what_had_come(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda a: Say(**sse(SAID * 2), silent_at=len(SAID)) if a.n else Say())
    p = place(teacher.url, 4, teacher__stream=True, teacher__timeout_s=60)
    process = p.start()
    began = time.monotonic()
    while len(teacher.asked) < 4:
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
    process = p.start(before=partial(resource.setrlimit, resource.RLIMIT_NOFILE, (150, 150)))
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
