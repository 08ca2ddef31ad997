"""Several teachers and a student in one run: who is asked what, what it costs, and what is stored."""

import json
import re
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from books import audit_file
from conftest import ROOT, Place
from dies import STEPS, die_at
from scripted_endpoint import PRICE, Asked, Endpoint, Say

from harvest.core.config import load
from harvest.core.money import usd

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
DEAR = {"input": "10.00", "output": "100.00"}
WRONG = Say(text="\\boxed{-1}")


def number(asked: Asked) -> int:
    return int(asked.question.split()[2])


def only(*right: int) -> Callable[[Asked], Say]:
    """Right on these questions alone."""
    return lambda asked: Say() if number(asked) in right else WRONG


def teacher(url: str, price: Any = PRICE, **more: Any) -> dict[str, Any]:
    return {"base_url": url, "model": "mock", "timeout_s": 20, "price_usd_per_mtok": price, **more}


def two(place: Places, cheap: Endpoint, dear: Endpoint, n: int, **dotted: Any) -> Place:
    asked = [teacher(cheap.url), teacher(dear.url, DEAR)]
    return place(cheap.url, n, teacher=None, teachers=asked, **dotted)


def asked_of(e: Endpoint) -> list[int]:
    return sorted(number(a) for a in e.asked)


def rows_of(p: Place) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (p.run_folder / "dataset" / "train.jsonl").read_text().splitlines()]


# ---- a cascade


def test_the_dearer_teacher_is_asked_what_the_cheaper_failed_and_no_more(endpoint: Endpoints, place: Places) -> None:
    cheap, dear = endpoint(only(0, 1, 2)), endpoint(only(3, 4))
    p = two(place, cheap, dear, 6, sampling__samples=2)
    code, _, err = p.collect()
    assert code == 0, err[-2000:]
    assert asked_of(cheap) == sorted([0, 1, 2, 3, 3, 4, 4, 5, 5])
    assert asked_of(dear) == sorted([3, 4, 5, 5])
    report = p.report
    assert (report["questions"]["solved"], report["questions"]["given_up"]) == (5, 1)
    first, second = report["teachers"]
    assert (first["sent"], first["answered"], first["accepted"]) == (9, 9, 3)
    assert (second["sent"], second["answered"], second["accepted"]) == (4, 4, 2)
    assert first["spent_usd"] == usd(9 * Say().cost_pusd)
    assert second["spent_usd"] == usd(4 * 10 * Say().cost_pusd)
    assert second["usd_per_accepted_trace"] == usd(2 * 10 * Say().cost_pusd)
    assert p.money("spent") == sum(map(Decimal, (first["spent_usd"], second["spent_usd"])))
    by = {r["question_id"]: r["teacher"]["base_url"] for r in rows_of(p)}
    assert by == {"q0": cheap.url, "q1": cheap.url, "q2": cheap.url, "q3": dear.url, "q4": dear.url}
    assert "| mock | 6 | 9 | 9 | 3 |" in (p.run_folder / "report.md").read_text()


@pytest.mark.parametrize(
    "failing", [Say(finish="length"), Say(status=400, error="context_length_exceeded")], ids=["truncated", "refused"]
)
def test_what_is_cut_short_or_refused_goes_on_to_the_next(failing: Say, endpoint: Endpoints, place: Places) -> None:
    cheap, dear = endpoint(lambda _: failing), endpoint()
    p = two(place, cheap, dear, 2, sampling__samples=3)
    assert p.collect()[0] == 0
    assert (asked_of(cheap), asked_of(dear)) == ([0, 1], [0, 1])
    assert p.report["questions"]["solved"] == 2


def test_an_outage_of_the_cheaper_does_not_send_its_questions_to_the_dearer(endpoint: Endpoints, place: Places) -> None:
    ill = True
    cheap = endpoint(lambda a: Say(status=500, error="server_error") if ill and number(a) == 1 else Say())
    dear = endpoint()
    p = two(place, cheap, dear, 3)
    assert p.collect()[0] == 0
    assert p.report["questions"]["given_up"] == 1
    assert asked_of(dear) == []
    ill = False
    assert p.collect()[0] == 0
    assert p.report["questions"]["solved"] == 3
    assert asked_of(dear) == []


def test_where_the_cheaper_refuses_for_good_asking_ends(endpoint: Endpoints, place: Places) -> None:
    cheap, dear = endpoint(lambda _: Say(status=401, error="invalid_api_key")), endpoint()
    p = two(place, cheap, dear, 50)
    code, _, err = p.collect()
    assert code == 4
    assert p.report["run"]["stopped_by"] == "refusal"
    assert "teacher 1 of 2 (mock) refuses for good" in err
    assert asked_of(dear) == []


def test_where_the_dearer_refuses_for_good_the_cheaper_goes_on(endpoint: Endpoints, place: Places) -> None:
    cheap, dear = endpoint(only(*range(1, 40))), endpoint(lambda _: Say(status=402, error="insufficient_balance"))
    p = two(place, cheap, dear, 40)
    code, _, err = p.collect()
    assert code == 4
    assert "teacher 2 of 2 (mock) refuses for good" in err
    questions = p.report["questions"]
    assert (questions["solved"], questions["open"], questions["given_up"]) == (39, 1, 0)
    assert p.report["run"]["status"] == "refused"
    assert len(dear.asked) == 1


def test_all_asks_every_teacher_each_on_its_own(endpoint: Endpoints, place: Places) -> None:
    one, other = endpoint(only(0, 1)), endpoint(lambda a: replace(only(1, 2)(a), chain="Another way: count on."))
    p = two(place, one, other, 3, plan={"teachers": "all"}, sampling__samples=2)
    assert p.collect()[0] == 0
    assert asked_of(one) == [0, 1, 2, 2]
    assert asked_of(other) == [0, 0, 1, 2]
    assert p.report["traces"]["accepted"] == 4
    assert sorted((r["question_id"], r["teacher"]["base_url"]) for r in rows_of(p)) == sorted(
        [("q0", one.url), ("q1", one.url), ("q1", other.url), ("q2", other.url)]
    )


def test_without_gold_all_teachers_answers_are_judged_together(endpoint: Endpoints, place: Places) -> None:
    questions = [{"id": "q0", "question": "What is 1 + 2?"}]
    one, other = endpoint(), endpoint(lambda a: Say() if a.n == 0 else WRONG)
    p = place(
        one.url, questions, teacher=None, teachers=[teacher(one.url), teacher(other.url)], plan={"teachers": "all"},
        sampling__samples=2, checks__without_gold="majority",
    )  # fmt: skip
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["traces"]["accepted"] == 3
    assert p.report["traces"]["rejected"] == {"wrong": 1}


def test_each_teacher_has_its_own_sampling(endpoint: Endpoints, place: Places) -> None:
    cheap, dear = endpoint(lambda _: WRONG), endpoint()
    more = {"max_tokens": 555, "temperature": 0.1}
    asked = [teacher(cheap.url), teacher(dear.url, DEAR, sampling=more, model="big")]
    p = place(cheap.url, 1, teacher=None, teachers=asked)
    assert p.collect()[0] == 0
    assert (cheap.asked[0].limit, dear.asked[0].limit) == (100, 555)
    assert (dear.asked[0].body["model"], dear.asked[0].body["temperature"]) == ("big", 0.1)
    sampling = rows_of(p)[0]["sampling"]
    assert (sampling["max_tokens"], sampling["temperature"]) == (555, 0.1)


def test_giving_up_after_wrong_answers_spares_the_rest(endpoint: Endpoints, place: Places) -> None:
    e = endpoint(lambda _: WRONG)
    p = place(e.url, 2, sampling__samples=8, sampling__give_up_after=3)
    assert p.collect()[0] == 0
    assert asked_of(e) == [0, 0, 0, 1, 1, 1]


# ---- the cap and kills, with several


def test_one_cap_over_all_teachers_and_the_student(endpoint: Endpoints, place: Places) -> None:
    """Each request's worst case is reserved at its own teacher's price, with all of them out at once."""
    slow = Say(text="\\boxed{-1}", delay_s=0.02, output_tokens=100)
    cheap, dear, student = endpoint(lambda _: slow), endpoint(lambda _: slow), endpoint(lambda _: slow)
    p = two(
        place, cheap, dear, 300, budget={"usd": "0.30"}, sampling__samples=2,
        student={"base_url": student.url, "model": "s", "price_usd_per_mtok": {"input": "0.10", "output": "1.00"}},
    )  # fmt: skip
    code, _, err = p.collect()
    assert code == 3, err[-2000:]
    billed = cheap.billed_pusd + 10 * dear.billed_pusd + student.billed_pusd // 10
    books = audit_file(p.store)
    assert billed == books["spent"] <= books["cap"]
    assert min(len(cheap.asked), len(dear.asked), len(student.asked)) > 0
    spent_on = p.report["money"]["spent_on"]
    assert sum(map(Decimal, spent_on.values())) == p.money("spent")


def test_where_the_dearer_has_no_room_left_the_cheaper_goes_on(endpoint: Endpoints, place: Places) -> None:
    cheap, dear = endpoint(only(*range(1, 30))), endpoint()
    p = two(place, cheap, dear, 30, budget={"usd": "0.012"})  # its answers' worst case is 0.01 and more
    code, _, err = p.collect()
    assert code == 3, err
    assert "no room for another answer of teacher 2 of 2" in err
    assert (len(cheap.asked), len(dear.asked)) == (30, 0)
    assert p.report["questions"]["solved"] == 29


@pytest.mark.parametrize("step", ["after intent", "after receive", "in settle", "after settle"])
def test_killed_at_a_step_nothing_is_bought_twice_of_anybody(step: str, endpoint: Endpoints, place: Places) -> None:
    assert step in STEPS
    student, cheap, dear = endpoint(only(0)), endpoint(only(1, 2)), endpoint()
    p = two(
        place, cheap, dear, 5, plan={"order": "file"},
        student={"base_url": student.url, "model": "s", "free": True},
    )  # fmt: skip
    for times in (2, 4):
        process = p.start(before=partial(die_at, step, times))
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        with closing(sqlite3.connect(p.store)) as db:
            out = db.execute("SELECT count(*) FROM try WHERE state = 'sent'").fetchone()[0]
            assert out <= 5
    code, _, err = p.collect()
    assert code == 0, err[-2000:]
    report = p.report
    assert (report["questions"]["solved"], report["questions"]["by_student"]) == (4, 1)
    billed = cheap.billed_pusd + 10 * dear.billed_pusd
    books = audit_file(p.store)
    assert billed <= books["spent"] + books["in_doubt"] <= books["cap"]
    with closing(sqlite3.connect(p.store)) as db:
        twice = db.execute(
            "SELECT count(*) FROM try WHERE state = 'answered' GROUP BY attempt_id HAVING count(*) > 1"
        ).fetchall()
    assert twice == []
    before = [len(e.asked) for e in (student, cheap, dear)]
    assert p.collect()[0] == 0
    assert [len(e.asked) for e in (student, cheap, dear)] == before


def test_what_a_teacher_answered_is_reused_by_another_run_in_any_place(endpoint: Endpoints, place: Places) -> None:
    cheap, dear = endpoint(only(0)), endpoint()
    p = two(place, cheap, dear, 2)
    assert p.collect()[0] == 0
    before = len(dear.asked)
    alone = place(dear.url, 2, name="alone", teacher=teacher(dear.url, DEAR))
    assert alone.collect()[0] == 0
    assert alone.report["attempts"]["reused"] == 1
    assert len(dear.asked) == before + 1


# ---- the list of teachers changes


def test_a_teacher_may_be_added_at_the_end_and_gets_what_failed(endpoint: Endpoints, place: Places) -> None:
    cheap, dear = endpoint(only(0, 1)), endpoint()
    p = place(cheap.url, 4)
    assert p.collect()[0] == 0
    assert p.report["questions"]["given_up"] == 2
    del p.settings["teacher"]
    p.settings["teachers"] = [teacher(cheap.url), teacher(dear.url, DEAR)]
    assert p.collect()[0] == 0
    assert (len(cheap.asked), asked_of(dear)) == (4, [2, 3])
    assert p.report["questions"]["solved"] == 4
    p.settings["teachers"].reverse()
    code, _, err = p.collect()
    assert code == 2
    assert "teachers.0.base_url" in err
    p.settings["teachers"] = p.settings["teachers"][1:]
    code, _, err = p.collect()
    assert code == 2
    assert "teachers: 2 before, 1 now" in err


# ---- the student first


def with_student(p: Place, e: Endpoint, **more: Any) -> Place:
    p.settings["student"] = {"base_url": e.url, "model": "s", "free": True, **more}
    return p


def test_the_teacher_is_asked_only_what_the_student_cannot_do(endpoint: Endpoints, place: Places) -> None:
    e, student = endpoint(), endpoint(only(0, 1, 2))
    p = with_student(place(e.url, 5), student)
    code, out, err = p.collect("--json")
    assert code == 0, err
    assert (asked_of(student), asked_of(e)) == ([0, 1, 2, 3, 4], [3, 4])
    report = json.loads(out)
    assert report["questions"] == {"total": 5, "asked": 2, "solved": 2, "given_up": 0, "open": 0, "by_student": 3}
    assert report["traces"]["accepted"] == 2
    assert report["traces"]["rejected"] == {}
    assert (report["attempts"]["sent"], report["attempts"]["answered"]) == (2, 2)
    found = report["student"]
    assert (found["asked"], found["solved"], found["left_to_teachers"], found["sent"]) == (5, 3, 2, 5)
    assert found["cost_usd"] == "0.00"
    assert [r["question_id"] for r in rows_of(p)] == ["q3", "q4"]
    code, _, err = p.harvest("export", "r", "--store", p.url, "--which", "all", "--to", str(p.folder / "all"))
    assert code == 0, err
    assert len((p.folder / "all" / "train.jsonl").read_text().splitlines()) == 2
    assert "could do 3" in (p.run_folder / "report.md").read_text()


def test_a_student_reads_no_worked_examples(endpoint: Endpoints, place: Places) -> None:
    e, student = endpoint(), endpoint(lambda _: WRONG)
    p = with_student(place(e.url, 1, prompt="steps"), student)
    assert p.collect()[0] == 0
    assert [m["role"] for m in student.asked[0].body["messages"]] == ["system", "user"]
    assert len(e.asked[0].body["messages"]) > 2


def test_a_student_that_must_be_right_twice_is_asked_no_more_than_that_takes(
    endpoint: Endpoints, place: Places
) -> None:
    student = endpoint(lambda a: Say() if number(a) == 0 or (number(a) == 1 and a.n % 2) else WRONG)
    e = endpoint()
    p = with_student(place(e.url, 3, plan={"order": "file"}), student, samples=3, solved_after=2)
    p.settings["student"]["max_concurrency"] = 1
    assert p.collect()[0] == 0
    times = {n: asked_of(student).count(n) for n in range(3)}
    assert times[0] == 2
    assert times[2] == 2, "after two wrong answers of three it cannot be right twice"
    assert p.report["questions"]["by_student"] + p.report["questions"]["solved"] == 3


def test_a_share_of_what_the_student_solves_is_asked_all_the_same(endpoint: Endpoints, place: Places) -> None:
    e, student = endpoint(), endpoint()
    p = with_student(place(e.url, 40), student, keep_solved="0.5")
    assert p.collect()[0] == 0
    kept = len(e.asked)
    assert 8 <= kept <= 32
    assert p.report["questions"] | {"open": 0} == p.report["questions"]
    assert p.report["questions"]["solved"] == kept == 40 - p.report["questions"]["by_student"]


def test_another_run_does_not_take_an_old_students_answers_for_the_new_ones(endpoint: Endpoints, place: Places) -> None:
    """One address, one name, other weights: what it said before training says nothing of it now."""
    e, student = endpoint(), endpoint(lambda a: Say() if a.again else WRONG)
    p = with_student(place(e.url, 3), student)
    assert p.collect()[0] == 0
    p.settings["name"] = "round2"
    assert p.collect()[0] == 0
    assert len(student.asked) == 6
    assert len(e.asked) == 3
    assert p.report["questions"]["by_student"] == 3


def test_a_student_of_unknown_price_is_refused_under_a_cap_and_unknown_without(
    endpoint: Endpoints, place: Places
) -> None:
    e, student = endpoint(), endpoint()
    p = with_student(place(e.url, 1), student)
    del p.settings["student"]["free"]
    code, _, err = p.collect()
    assert code == 2
    assert "student.free" in err
    del p.settings["budget"]
    p.settings["teacher"]["price_usd_per_mtok"] = {"input": "0", "output": "0"}
    code, _, err = p.collect()
    assert code == 2
    assert "there is no cap" in err
    assert student.asked == []
    p.settings["budget"] = {"usd": "none"}
    del p.settings["teacher"]["price_usd_per_mtok"]
    assert p.collect()[0] == 0
    assert p.report["student"]["cost_usd"] is None


def test_a_student_that_answers_nobody_ends_the_run_before_the_teacher_is_asked(
    endpoint: Endpoints, place: Places
) -> None:
    e, student = endpoint(), endpoint(lambda _: Say(status=404, error="model_not_found", message="no such model"))
    code, _, err = with_student(place(e.url, 50), student).collect()
    assert code == 4
    assert "the student (s) refuses for good" in err
    assert e.asked == []


def test_a_student_comes_from_the_command_line(endpoint: Endpoints, place: Places) -> None:
    e, student = endpoint(), endpoint(only(0))
    p = place(e.url, 2)
    code, _, err = p.collect("--student", student.url, "--student.model", "s", "--student.free", "true")
    assert code == 0, err
    assert p.report["questions"]["by_student"] == 1
    code, _, err = p.collect("--student", str(p.folder))
    assert code == 2
    assert "Serve the folder" in err


def test_why_names_who_was_asked(endpoint: Endpoints, place: Places) -> None:
    cheap, dear, student = endpoint(lambda _: WRONG), endpoint(), endpoint(lambda _: WRONG)
    p = two(place, cheap, dear, 1, student={"base_url": student.url, "model": "small", "free": True})
    assert p.collect()[0] == 0
    _, why, _ = p.harvest("why", "r", "q0", "--store", p.url)
    assert "by the student small: rejected" in why
    assert why.count(", by mock:") == 2


EXAMPLES = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/asking.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_example_of_the_page_is_a_run(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    plain = '[teacher]\nbase_url = "http://localhost/v1"\nmodel = "m"\n'
    path.write_text('questions = "q.jsonl"\n' + ("" if "[teacher" in text else plain) + text)
    assert load(path).questions == "q.jsonl"


def test_the_doctor_asks_each(endpoint: Endpoints, place: Places) -> None:
    cheap, dear, student = endpoint(), endpoint(lambda _: Say(status=401, error="invalid_api_key")), endpoint()
    p = two(place, cheap, dear, 1, student={"base_url": student.url, "model": "small", "free": True})
    code, out, err = p.harvest("doctor", str(p.toml))
    assert code == 4, err
    assert (len(cheap.asked), len(dear.asked), len(student.asked)) == (1, 1, 1)
    assert [line for line in out.splitlines() if line.startswith("# ")] == [
        "# the student (small)", "# teacher 1 of 2 (mock)", "# teacher 2 of 2 (mock)",
    ]  # fmt: skip
