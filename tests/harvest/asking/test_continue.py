"""An answer that was cut at its limit is continued from what came, and only the rest is bought."""

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from books import audit_file
from conftest import Place
from scripted_endpoint import CHAIN, Asked, Endpoint, GoesOn, Say, right_answer

Endpoints, Places = Callable[..., Endpoint], Callable[..., Place]
CONTINUE = {"sampling__when_truncated": "continue", "sampling__raised_max_tokens": 40}
IN_CHAIN, IN_ANSWER = 8, 15
"""Limits that cut the model's 13 words of chain, and its 4 words of answer after them."""


def rows(p: Place, which: str = "accepted") -> list[dict[str, Any]]:
    assert p.harvest("export", "r", "--which", which, "--to", str(p.folder / which), "--store", p.url)[0] == 0
    files = (p.folder / which).glob("**/train.jsonl")
    return [json.loads(line) for f in files for line in f.read_text().splitlines()]


@pytest.mark.parametrize(
    ("limit", "model"),
    [
        (IN_CHAIN, GoesOn()),
        (IN_ANSWER, GoesOn()),
        (1, GoesOn()),
        (IN_CHAIN, GoesOn(echo=True)),
        (IN_CHAIN, GoesOn(fault="tags")),
        (IN_ANSWER, GoesOn(fault="parser")),
    ],
)
def test_a_cut_answer_is_one_trace_out_of_two_replies(
    limit: int, model: GoesOn, endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(model)
    p = place(teacher.url, 3, sampling__max_tokens=limit, **CONTINUE)
    assert here(p) == 0
    report, came = p.report, rows(p)
    assert report["traces"]["accepted"] == report["traces"]["continued"] == report["traces"]["answers"] == 3
    assert report["traces"]["rejected"] == {}
    for row in came:
        assert (row["reasoning"], row["answer"]) == (CHAIN, right_answer(row["question"]))
        assert row["finish_reason"] == "stop"
        assert row["sampling"]["max_tokens"] == 40
        assert row["usage"]["output_tokens"] == 17
        assert row["usage"]["input_tokens"] == 40 + 40 + limit
        assert row["seam"]["response_id"].startswith("chatcmpl-")
        assert row["seam"]["reasoning_characters"] == len("".join(CHAIN.split(" ")[:limit])) + min(limit, 13) - 1
    assert sum(Decimal(row["cost_usd"]) for row in came) == p.money("spent") == Decimal(teacher.billed_pusd) / 10**12
    assert p.report["money"]["spent_on"]["accepted_usd"] == p.report["money"]["spent_usd"]
    assert len(rows(p, "all")) == 3, "the first half has no row of its own"
    limits = sorted(asked.limit for asked in teacher.asked)
    assert limits == [limit] * 3 + [40 - limit] * 3, "the rest has a limit of its own"


def test_a_chain_that_was_cut_at_its_very_end_says_nothing_of_the_endpoint(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    """What comes may be the rest of the chain, or the answer."""
    p = place(endpoint(GoesOn()).url, 1, sampling__max_tokens=13, **CONTINUE)
    assert here(p) == 0
    assert p.report["traces"]["accepted"] == 0
    assert not any("when_truncated" in w for w in p.report["warnings"]), "another answer may be continued"


def test_the_seam_is_said(endpoint: Endpoints, place: Places, here: Any) -> None:
    p = place(endpoint(GoesOn()).url, 1, sampling__max_tokens=IN_ANSWER, **CONTINUE)
    assert here(p) == 0
    _, told, _ = p.harvest("why", "r", "q0", "--store", p.url)
    assert "it goes on in attempt 2, which is judged in its place" in told
    assert "from what came in attempt 1, up to 40 tokens in all; the seam is after 5 characters of answer" in told
    story = json.loads(p.harvest("why", "r", "q0", "--json", "--store", p.url)[1])
    first, second = story["attempts"]
    assert (first["answer"], first["continues"], first["reason"]) == ("So it", None, "truncated")
    assert (second["answer"], second["continues"]) == (right_answer("0 + 1"), 1)
    assert second["seam"]["answer_characters"] == 5
    again = p.harvest("verify", "r", "--again", "--store", p.url)
    assert again[0] == 0, again
    assert p.harvest("report", "r", "--store", p.url)[0] == 0
    assert p.report["traces"]["accepted"] == 1


@pytest.mark.parametrize(
    ("model", "words", "streamed"),
    [
        (GoesOn(fault="anew"), "it began anew", False),
        (GoesOn(fault="anew"), "it began anew", True),
        (GoesOn(fault="finished"), "it may have read a finished message", False),
        (GoesOn(fault="repeats"), "it repeats the last", False),
        (GoesOn(form="unknown"), "the last message must be the user's", False),
    ],
)
def test_an_endpoint_that_does_not_go_on_is_noticed_once(
    model: GoesOn, words: str, streamed: bool, endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(model)
    p = place(
        teacher.url,
        6,
        sampling__max_tokens=12,
        teacher__stream=streamed,
        **CONTINUE | {"sampling__raised_max_tokens": 30},
    )
    assert here(p) == 0
    report = p.report
    assert report["questions"]["given_up"] == 6
    assert report["traces"]["accepted"] == 0
    assert len(teacher.asked) == 7, "one trial, the others wait for it"
    assert p.money("spent") == Decimal(teacher.billed_pusd) / 10**12
    on = report["money"]["spent_on"]
    assert Decimal(on["truncated_usd"]) == Decimal(teacher.bill[0][1]) * 6 / 10**12
    with closing(sqlite3.connect(p.store)) as db:
        tried = db.execute(
            "SELECT reason, message FROM attempt JOIN try ON attempt_id = attempt.id WHERE continues > 0"
        )
        ((reason, message),) = tried.fetchall()
    assert reason == "row"
    assert words in message


def test_what_is_not_known_of_the_input_is_not_guessed(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(GoesOn(fault="no usage"))
    p = place(teacher.url, 1, sampling__max_tokens=IN_ANSWER, **CONTINUE)
    assert here(p) == 0
    assert p.report["traces"]["accepted"] == 0
    assert p.money("in_doubt") > 0, "a whole text without usage"


def test_a_kill_between_the_two_continues(endpoint: Endpoints, place: Places) -> None:
    pids: list[int] = []

    def model(asked: Asked) -> Say:
        if asked.body["messages"][-1]["role"] == "assistant" and pids:
            os.kill(pids.pop(), signal.SIGKILL)
            return Say(reset=True, made=False)
        return GoesOn()(asked)

    teacher = endpoint(model)
    p = place(teacher.url, 1, sampling__max_tokens=IN_CHAIN, **CONTINUE)
    process = p.start()
    pids.append(process.pid)
    assert p.ended(process, 60)[0] == -signal.SIGKILL
    with closing(sqlite3.connect(p.store)) as db:
        assert db.execute("SELECT state, continues IS NULL FROM attempt ORDER BY id").fetchall()[0] == ("answered", 1)
    assert p.collect()[0] == 0
    assert [asked.limit for asked in teacher.asked] == [IN_CHAIN, 32, 32], "the first half was not bought again"
    assert p.report["traces"]["accepted"] == 1
    audit_file(p.store)
    other = place(teacher.url, 1, folder="place", name="s", sampling__max_tokens=IN_CHAIN, **CONTINUE)
    assert other.collect()[0] == 0
    assert len(teacher.asked) == 3, "another run has both halves from the store"
    assert other.report["money"]["spent_usd"] == "0.00"
    assert rows(p)[0]["reasoning"] == CHAIN


def test_the_cap_holds_where_only_the_rest_has_room(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(GoesOn())
    p = place(teacher.url, 20, sampling__max_tokens=IN_CHAIN, budget__usd="0.004", **CONTINUE)
    assert here(p) == 3
    assert teacher.billed_pusd <= 4 * 10**9
    parts = p.report["money"]["spent_on"]
    assert Decimal(parts["accepted_usd"]) + Decimal(parts["truncated_usd"]) == p.money("spent")


@pytest.mark.parametrize("echo", [False, True])
def test_doctor_finds_whether_an_endpoint_goes_on(echo: bool, endpoint: Endpoints, place: Places) -> None:
    numbers = "one two three four five six seven eight nine ten eleven twelve thirteen"

    def model(asked: Asked) -> Say:
        last = asked.body["messages"][-1]
        if last["role"] == "assistant" and last.get("prefix"):
            before = (last["content"] or last["reasoning_content"]) if echo else ""
            rest = {"chain": f"{before} twelve thirteen", "text": ""} if not last["content"] else {"chain": ""}
            return Say(**{"text": f"{before} twelve", **rest})
        return Say(status=400, error="bad") if last["role"] == "assistant" else GoesOn(form="prefix")(asked)

    assert numbers.endswith("twelve thirteen")
    teacher = endpoint(model)
    p = place(teacher.url, 2, sampling__max_tokens=60, **CONTINUE)
    code, told, _ = p.harvest("doctor", str(p.toml))
    assert code == 0
    assert told.count("is gone on with from what came (form 'prefix')") == 2
    asked = len(teacher.asked)
    assert asked == 5, "for each part one request that was refused, and one that was not"
    p.settings["sampling"]["max_tokens"] = IN_ANSWER
    teacher.script = GoesOn(form="prefix")
    assert p.collect()[0] == 0
    assert p.report["traces"]["accepted"] == 2, "the run has the form from doctor"
    assert all("warnings" not in w for w in p.report["warnings"])


def test_a_run_that_doctor_found_to_be_in_vain_is_refused(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda asked: Say(status=400) if asked.body["messages"][-1]["role"] == "assistant" else Say())
    p = place(teacher.url, 2, **CONTINUE)
    code, told, _ = p.harvest("doctor", str(p.toml))
    assert code == 0
    assert "!!  cut answers: an answer that was cut is not gone on with" in told
    before = len(teacher.asked)
    code, _, err = p.collect()
    assert code == 2
    assert err.strip().splitlines()[-1].endswith('write "raise" or "give_up"')
    assert len(teacher.asked) == before
    p.settings["sampling"]["when_truncated"] = "give_up"
    assert p.collect()[0] == 0
