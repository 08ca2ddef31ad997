"""Endpoints that are down, refuse every row, answer too late or ignore max_tokens: what it costs, how asking ends, and
that the same command goes on."""

import base64
import http.server
import json
import random
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from books import audit_file
from conftest import Place
from scripted_endpoint import Asked, Endpoint, Say

from harvest.asking.buying.counters import Waiting
from harvest.core.money import pusd
from harvest.endpoint import named_setting

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
CUT = Say(reset=True, made=True, delay_s=0.02)


def kinds(p: Place) -> dict[str, int]:
    with closing(sqlite3.connect(p.store)) as db:
        return dict(db.execute("SELECT kind, count(*) FROM try WHERE kind IS NOT NULL GROUP BY 1"))


# ---- outages


def test_an_outage_after_good_answers_costs_few_tries_and_the_same_command_goes_on(
    endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint(lambda a: Say(delay_s=0.02) if a.n < 5 else CUT)
    p = place(teacher.url, 100, teacher__outage_wait_s=0.7, sampling__tries=5)
    code, _, err = p.collect()
    assert code == 4
    line = next(line for line in err.splitlines() if line.startswith("error: "))
    assert "the teacher is down: the last 3" in line
    assert "tries brought nothing, and outage_wait_s = 0.7 is over: the connection failed" in line
    assert "The same command goes on" in line
    report = p.report
    assert (report["run"]["status"], report["run"]["stopped_by"]) == ("refused", "outage")
    assert report["attempts"]["answered"] == 5
    assert 31 <= report["attempts"]["in_doubt"] <= 38
    asked = len(teacher.asked)
    assert report["questions"]["solved"] == 5
    assert teacher.billed_pusd <= pusd(p.money("spent") + p.money("in_doubt"))
    teacher.script = lambda _: Say()
    assert p.collect()[0] == 0
    assert p.report["run"]["stopped_by"] is None
    assert p.report["questions"]["solved"] == 100
    whole = Counter(a.digest for a in teacher.asked[asked:])
    assert len(whole) == sum(whole.values()) == 95, "an answer was bought again"


def test_a_short_outage_is_outlived_without_a_new_start(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda a: CUT if 5 <= a.n < 37 else Say())
    p = place(teacher.url, 100, teacher__outage_wait_s=10, sampling__tries=1)
    assert here(p) == 0
    report = p.report
    assert report["questions"]["solved"] == 100 - report["questions"]["given_up"]
    assert report["attempts"]["in_doubt"] == 32
    assert report["questions"]["given_up"] < 32, "a probe counted as one of the answer's tries"
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 100


def test_in_a_long_outage_the_models_are_asked_for_and_a_probe_follows_them(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda a: Say() if a.n < 5 or teacher.stray else CUT)
    p = place(teacher.url, 40, teacher__outage_wait_s=86_400, sampling__tries=50)
    assert here(p) == 0
    assert set(teacher.stray) == {"/v1/models"}
    assert p.report["questions"]["solved"] == 40
    assert p.report["attempts"]["in_doubt"] <= 33


def test_gateways_are_in_doubt_and_the_bill_stays_under_the_cap(endpoint: Endpoints, place: Places, here: Any) -> None:
    chance = random.Random(7)
    teacher = endpoint(lambda _: Say(status=504, raw=b"", made=True) if chance.random() < 0.7 else Say())
    p = place(teacher.url, 200, budget__usd="0.05", sampling__tries=20)
    assert here(p) == 3
    assert kinds(p) == {"gateway": p.report["attempts"]["in_doubt"]}
    assert teacher.billed_pusd <= pusd(p.money("spent") + p.money("in_doubt")) <= pusd(Decimal("0.05"))


@contextmanager
def refusing_proxy() -> Iterator[tuple[str, list[str]]]:
    """Gives (host and port of a proxy that refuses every CONNECT, what it was asked)."""
    asked: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            self.send_error(407)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_proxy_that_refuses_costs_nothing_and_its_password_stands_nowhere(place: Places) -> None:
    password = "pr0xy-canary-5f1e"
    secrets = (password, base64.b64encode(f"user:{password}".encode()).decode())
    p = place("https://a-teacher.invalid/v1", 60, teacher__outage_wait_s=0.3)
    with refusing_proxy() as (address, asked):
        p.env |= dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://user:{password}@{address}")
        p.env |= {"NO_PROXY": "", "no_proxy": ""}
        code, out, err = p.collect()
    assert code == 4
    assert 31 <= len(asked) <= 38
    assert "the proxy refuses to connect: HTTP 407" in err
    assert p.report["attempts"]["failed"] == {"passing": len(asked)}
    assert p.money("in_doubt") == p.money("spent") == 0
    for secret in secrets:
        assert secret not in out + err
        found = subprocess.run(["grep", "-rlaF", secret, str(p.folder)], capture_output=True, text=True, check=False)
        assert found.stdout == ""


# ---- refusals


def test_a_setting_that_every_row_is_refused_for_is_named_and_closes_no_question(
    endpoint: Endpoints, place: Places
) -> None:
    said = "Invalid max_tokens value, the valid range of max_tokens is [1, 64]"
    teacher = endpoint(lambda a: Say(status=400, message=f"{said} (request {a.digest[:8]}{a.n})"))
    p = place(teacher.url, 400)
    code, _, err = p.collect()
    assert code == 4
    assert f"error: the teacher refuses every row: change sampling.max_tokens: {said}" in err
    assert len(teacher.asked) == 30
    assert p.report["questions"]["open"] == 400
    assert p.report["run"]["stopped_by"] == "setting"
    teacher.script = lambda _: Say()
    assert p.collect()[0] == 0
    assert p.report["questions"]["solved"] == 400


def test_rows_that_are_refused_for_their_own_words_do_not_end_the_run(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda a: Say() if a.n == 0 else Say(status=400, message="flagged"))
    p = place(teacher.url, 50)
    assert here(p) == 0
    assert p.report["questions"] == {"total": 50, "asked": 50, "solved": 1, "given_up": 49, "open": 0}


@pytest.mark.parametrize(
    ("message", "setting"),
    [
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", "sampling.max_tokens"),
        ("max_completion_tokens is too large: 40000", "sampling.max_tokens"),
        ("This model's maximum context length is 8192 tokens. However, you requested 16424", "sampling.max_tokens"),
        ("temperature must be at most 1", "sampling.temperature"),
        ("stream_options are only allowed with stream", "teacher.stream"),
        ("the extreme_top_part is flagged", None),
        ("", None),
    ],
)
def test_the_setting_that_a_refusal_names(message: str, setting: str | None) -> None:
    assert named_setting(message) == setting


# ---- late


def test_the_same_deadline_is_not_paid_twice(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda a: Say() if a.n == 0 else Say(delay_s=2.2))
    p = place(teacher.url, 3, teacher__timeout_s=0.4, sampling__tries=5)
    assert here(p) == 0
    assert len(teacher.asked) == 1 + 2 * 2
    assert kinds(p) == {"late": 4}
    assert p.report["questions"]["given_up"] == 2
    doubt = p.money("in_doubt")
    assert here(p) == 0
    assert len(teacher.asked) == 5, "a start with the same timeout asked again"
    p.settings["teacher"]["timeout_s"] = 3.0
    assert here(p) == 0
    assert p.report["questions"]["solved"] == 3
    assert len(teacher.asked) == 7
    assert p.money("in_doubt") == doubt


def test_an_answer_that_takes_a_little_too_long_comes_with_twice_the_time(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda a: Say(delay_s=0.9))
    p = place(teacher.url, 1, teacher__timeout_s=0.5)
    assert here(p) == 0
    assert len(teacher.asked) == 2
    assert p.report["questions"]["solved"] == 1


# ---- the first reply


def test_an_endpoint_that_ignores_max_tokens_costs_one_reply_too_long(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda a: Say(output_tokens=8 * a.limit, delay_s=0.1))
    p = place(teacher.url, 60, budget__usd="0.02")
    for start in (1, 2):
        assert here(p, overbilled=True) == 5
        assert len(teacher.asked) == start
    assert teacher.billed_pusd == pusd(p.money("spent"))


def test_after_an_overbilled_answer_the_next_start_waits_for_one_reply(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda a: Say(output_tokens=8 * a.limit, delay_s=0.1) if a.n else Say())
    p = place(teacher.url, 60)
    assert here(p, overbilled=True) == 5
    asked = len(teacher.asked)
    assert asked > 2
    assert here(p, overbilled=True) == 5
    assert len(teacher.asked) == asked + 1


def test_the_crowd_waits_for_the_first_reply_of_a_run_and_endpoint_once(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    seen: list[int] = []

    def script(_: Asked) -> Say:
        seen.append(teacher.in_flight)
        return Say(delay_s=0.15)

    teacher = endpoint(script)
    p = place(teacher.url, 40, budget__usd="0.008")
    assert here(p) == 3
    first = len(seen)
    assert seen[:2] == [1, 1]
    assert max(seen) > 2
    p.settings["budget"]["usd"] = "1.00"
    assert here(p) == 0
    assert seen[first : first + 4] == [1, 2, 3, 4]


def test_answers_of_another_run_do_not_wait_for_a_first_reply(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint()
    assert here(place(teacher.url, 30)) == 0
    teacher.script = lambda _: Say(status=500)
    p = place(teacher.url, 31, name="again", teacher__outage_wait_s=0.2)
    p.settings["questions"] = str(p.folder / "questions.jsonl")
    rows = (p.folder / "questions.jsonl").read_text().splitlines()
    (p.folder / "questions.jsonl").write_text("\n".join([rows[-1], *rows[:-1]]))
    code, _, _ = p.collect()
    assert code == 0
    assert json.loads((p.run_folder / "report.json").read_text())["attempts"]["reused"] == 30
    audit_file(p.store, "again")


def test_what_is_waited_for_is_said_when_it_takes_long() -> None:
    since = datetime(2026, 11, 28, 14, 2, 11, tzinfo=UTC)
    down = Waiting("the teacher is down", since, 3600)
    assert down.words(since + timedelta(seconds=4)) is None
    assert down.words(since + timedelta(seconds=80)) == "the teacher is down since 14:02:11: waiting for 80 of 3,600 s"
