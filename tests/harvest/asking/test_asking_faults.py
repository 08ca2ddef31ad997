"""Faults of several teachers and a student: each gives one clear line, and sends nothing to a dearer teacher."""

import random
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from books import audit_file
from conftest import Place, scaled
from scripted_endpoint import Asked, Endpoint, Say, Script, mixed
from test_asking import DEAR, WRONG, number, only, rows_of, teacher, two, with_student

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]


def harvest(p: Place, *args: str, code: int = 0) -> tuple[str, str]:
    ended, out, err = p.harvest(*args)
    assert ended == code, err
    return out, err


def nobody() -> str:
    """An address where nothing listens."""
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/v1"


# ---- the student


def test_where_nothing_listens_at_the_students_address_no_teacher_is_asked_and_the_next_start_goes_on(
    endpoint: Endpoints, place: Places
) -> None:
    e, student = endpoint(), endpoint()
    p = with_student(place(e.url, 60), student)
    p.settings["student"] |= {"base_url": nobody(), "outage_wait_s": 0.5}
    code, _, err = p.collect()
    assert code == 4
    assert "error: the student (s) is down: the last 3" in err
    assert "no connection" in err
    assert "The same command goes on" in err
    assert e.asked == []


def test_of_few_questions_that_a_student_which_is_down_did_not_answer_the_user_hears(
    endpoint: Endpoints, place: Places
) -> None:
    ill = True
    e, student = endpoint(), endpoint(lambda _: Say(status=500, error="server_error") if ill else Say())
    p = with_student(place(e.url, 2), student)
    code, _, err = p.collect()
    assert code == 0
    assert "warning: the student (s) answers nobody, and what it is to answer waits for the next start" in err
    assert e.asked == []
    ill = False
    _, _, err = p.collect()
    assert "answers nobody" not in err
    assert p.report["questions"]["by_student"] == 2
    assert e.asked == []


def test_a_student_that_refuses_every_question_does_not_send_all_of_them_to_the_teacher(
    endpoint: Endpoints, place: Places
) -> None:
    """As a server does whose context is shorter than max_tokens."""
    too_long = Say(status=400, error="context_length_exceeded", message="max_tokens is too large")
    e, student = endpoint(), endpoint(lambda _: too_long)
    p = with_student(place(e.url, 400), student)
    code, _, err = p.collect()
    assert code == 4
    assert "error: the student (s) refuses every row: change sampling.max_tokens: max_tokens is too large" in err
    assert len(e.asked) <= 64


def test_a_student_that_refuses_some_questions_leaves_those_to_the_teacher(endpoint: Endpoints, place: Places) -> None:
    refused = Say(status=400, error="context_length_exceeded")
    e, student = endpoint(), endpoint(lambda a: refused if number(a) in (2, 3) else Say())
    p = with_student(place(e.url, 6), student)
    code, _, err = p.collect()
    assert code == 0
    assert "answers nobody" not in err
    assert sorted(number(a) for a in e.asked) == [2, 3]


@pytest.mark.parametrize("revision", ["", "v1"])
def test_a_student_that_is_the_teachers_own_model_gives_none_of_its_answers_to_it(
    revision: str, endpoint: Endpoints, place: Places
) -> None:
    """The same address, name, weights and words: what the student said is still no trace of a teacher."""
    e = endpoint()
    both = {"base_url": e.url, "model": "mock", "revision": revision}
    p = place(e.url, 2, teacher=teacher(e.url, **both))
    p.settings["student"] = both | {"free": True, "keep_solved": "1"}
    assert p.collect()[0] == 0
    assert len(e.asked) == 4
    assert p.report["attempts"]["reused"] == 0
    with closing(sqlite3.connect(p.store)) as db:
        shared = db.execute("SELECT count(*) FROM attempt GROUP BY answer_try HAVING count(*) > 1").fetchall()
    assert shared == []
    alone = place(e.url, 2, name="alone", teacher=teacher(e.url, **both))
    assert alone.collect()[0] == 0
    assert alone.report["attempts"]["reused"] == 2
    with closing(sqlite3.connect(p.store)) as db:
        of_students = db.execute(
            "SELECT count(*) FROM attempt WHERE kind = 'teacher' AND answer_try IN"
            " (SELECT answer_try FROM attempt WHERE kind = 'student')"
        ).fetchone()
    assert of_students == (0,)


def test_no_export_has_a_students_answer(endpoint: Endpoints, place: Places) -> None:
    e, student = (
        endpoint(only(2)),
        endpoint(lambda a: Say(chain="The student's own words.") if number(a) < 2 else WRONG),
    )
    p = with_student(place(e.url, 4), student, keep_solved="1")
    assert p.collect()[0] == 0
    for which in ("selected", "accepted", "all"):
        to = p.folder / which
        harvest(p, "export", "r", "--store", p.url, "--which", which, "--to", str(to))
        text = (to / "train.jsonl").read_text()
        assert text.count("\n") == (4 if which == "all" else 1)
        assert "student's own" not in text
    assert len(student.asked) == 4


def test_a_student_that_is_taken_out_leaves_its_questions_to_the_teacher(endpoint: Endpoints, place: Places) -> None:
    e, student = endpoint(), endpoint(only(0, 1))
    p = with_student(place(e.url, 3), student)
    assert p.collect()[0] == 0
    assert len(e.asked) == 1
    del p.settings["student"]
    assert p.collect()[0] == 0
    assert sorted(number(a) for a in e.asked) == [0, 1, 2]
    assert [r["question_id"] for r in rows_of(p)] == ["q0", "q1", "q2"]
    assert "| student |" not in (p.run_folder / "report.md").read_text()


# ---- all of it at once


def hostile(seed: int, right: float) -> Script:
    """Right on that share of its whole answers, among faults of every class."""
    chance = random.Random(seed)
    faults = {"passing": 0.05, "throttled": 0.03, "half": 0.02, "no_usage": 0.01, "hollow": 0.01, "row": 0.01}
    faulty = mixed(seed, 0.03, faults)

    def script(asked: Asked) -> Say:
        say = faulty(asked)
        whole = say.status == 200 and say.delay_s > 0
        return replace(say, text=None if chance.random() < right else "\\boxed{-1}") if whole else say

    return script


@pytest.mark.parametrize(("seed", "cap"), [(1, "5.00"), (2, "0.20")])
def test_killed_at_random_moments_among_faults_the_bill_stays_under_the_cap(
    seed: int, cap: str, endpoint: Endpoints, place: Places
) -> None:
    chance, n = random.Random(seed), scaled(60, 300)
    student, cheap, dear = (endpoint(hostile(seed + k, right)) for k, right in ((10, 0.4), (20, 0.5), (30, 0.8)))
    everybody = (student, cheap, dear)
    p = two(place, cheap, dear, n, budget={"usd": cap}, sampling__samples=2, checks__require=["correct", "language"])
    third = {"input": "0.10", "output": "1.00"}
    p.settings["student"] = {"base_url": student.url, "model": "s", "price_usd_per_mtok": third}

    def billed_pusd() -> int:
        return cheap.billed_pusd + 10 * dear.billed_pusd + student.billed_pusd // 10

    for _ in range(scaled(2, 10)):
        enough = sum(len(e.asked) for e in everybody) + chance.randint(1, n // 3)
        process = p.start()
        while process.poll() is None and sum(len(e.asked) for e in everybody) < enough:
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=60)
        books = audit_file(p.store)
        assert billed_pusd() <= books["spent"] + books["in_doubt"] + books["reserved"] <= books["cap"]
    code, _, err = p.collect()
    assert code in (0, 3), err[-2000:]
    books = audit_file(p.store)
    assert billed_pusd() <= books["spent"] + books["in_doubt"] <= books["cap"]
    assert sum(map(Decimal, p.report["money"]["spent_on"].values())) == p.money("spent")
    before, failed = [len(e.asked) for e in everybody], p.report["questions"]["given_up"]
    assert p.collect()[0] == code
    if code == 0 and not failed:
        assert [len(e.asked) for e in everybody] == before


# ---- teachers


def test_the_same_teacher_twice_is_refused(endpoint: Endpoints, place: Places) -> None:
    """Its answers would have two voices in a majority, and none in a cascade."""
    e = endpoint()
    p = place(e.url, 1, teacher=None, teachers=[teacher(e.url), teacher(e.url.upper().replace("V1", "v1") + "/", DEAR)])
    p.settings["teachers"][1]["base_url"] = e.url.replace("http://", "HTTP://") + "/"
    code, _, err = p.collect()
    assert code == 2
    assert "teachers.1: asks the same as teachers.0" in err
    assert len(err.splitlines()) == 1
    p.settings["teachers"][1]["sampling"] = {"samples": 4}
    assert p.collect()[0] == 2
    p.settings["teachers"][0]["sampling"] = {"max_tokens": 100, "when_truncated": "raise"}
    p.settings["teachers"][1]["sampling"] = {"max_tokens": 200}
    code, _, err = p.collect()
    assert code == 2, "the first one's raised limit is the second one's own"
    assert "teachers.1: asks the same as teachers.0" in err
    p.settings["teachers"][0]["sampling"] = {"max_tokens": 100}
    assert p.collect()[0] == 0


def test_a_first_teacher_whose_key_is_refused_leaves_all_open_for_the_next_start(
    endpoint: Endpoints, place: Places
) -> None:
    ill = True
    cheap = endpoint(lambda _: Say(status=401, error="invalid_api_key") if ill else Say())
    dear = endpoint()
    p = two(place, cheap, dear, 20)
    code, _, err = p.collect()
    assert code == 4
    assert "teacher 1 of 2 (mock) refuses for good" in err
    assert p.report["questions"]["open"] == 20
    ill = False
    assert p.collect()[0] == 0
    assert dear.asked == []


def test_a_priced_student_is_asked_no_more_once_the_first_teacher_of_a_cascade_refuses_for_good(
    endpoint: Endpoints, place: Places
) -> None:
    """What it could not do would wait for the next start all the same."""
    first = endpoint(lambda _: Say(status=401, error="invalid_api_key"))
    student = endpoint(lambda _: WRONG)
    p = two(place, first, endpoint(), 300, student={**teacher(student.url), "max_concurrency": 4})
    code, _, err = p.collect()
    assert code == 4
    assert "teacher 1 of 2 (mock) refuses for good" in err
    assert 0 < len(student.asked) < 100
    assert p.report["questions"]["open"] == 300


def test_of_teachers_that_are_all_asked_one_may_refuse_for_good(endpoint: Endpoints, place: Places) -> None:
    one, other = endpoint(lambda _: Say(status=401, error="invalid_api_key")), endpoint()
    p = two(place, one, other, 30, plan={"teachers": "all"})
    code, _, err = p.collect()
    assert code == 4
    assert "teacher 1 of 2 (mock) refuses for good" in err
    assert err.count("the others go on, and what needs it stays open") == 1
    assert p.report["traces"]["accepted"] == len(other.asked) > 0
    assert p.report["questions"]["given_up"] == 0


NAME = "a|b\x1b[31m\n# x `y` <b> " + "long " * 60


def test_no_name_of_a_model_breaks_what_is_shown(endpoint: Endpoints, place: Places) -> None:
    cheap, dear, student = endpoint(lambda _: WRONG), endpoint(only(0)), endpoint(lambda _: WRONG)
    asked: list[dict[str, Any]] = [teacher(cheap.url, model=NAME), teacher(dear.url, DEAR, model=NAME)]
    p = place(cheap.url, 2, teacher=None, teachers=asked)
    p.settings["student"] = {"base_url": student.url, "model": NAME, "free": True}
    code, out, err = p.collect()
    assert code == 0, err
    assert cheap.asked[0].body["model"] == NAME
    shown = [out, err, (p.run_folder / "report.md").read_text(), *harvest(p, "why", "r", "q0", "--store", p.url)]
    shown += harvest(p, "doctor", str(p.toml))
    assert [text for text in shown if "\x1b" in text or "\n# x" in text] == []
    table = [line for line in out.splitlines() if line.startswith("| a\\|b")]
    assert [line.replace("\\|", "").count("|") for line in table] == [8, 8]


def test_the_doctor_says_where_a_missing_price_belongs(endpoint: Endpoints, place: Places) -> None:
    one, other, student = endpoint(), endpoint(), endpoint()
    p = place(one.url, 1, teacher=None, teachers=[teacher(one.url), teacher(other.url, None)], budget=None)
    del p.settings["teachers"][1]["price_usd_per_mtok"]
    p.settings["student"] = {"base_url": student.url, "model": "s"}
    _, err = harvest(p, "doctor", str(p.toml), code=2)
    assert "teachers.0 is priced (by config) and the run has no cap" in err
    p.settings["budget"] = {"usd": "1.00"}
    out, _ = harvest(p, "doctor", str(p.toml))
    assert "[[teachers]] (number 2 of them): price_usd_per_mtok" in out
    assert "[student] free = true  # where it is a machine of yours; else price_usd_per_mtok" in out
