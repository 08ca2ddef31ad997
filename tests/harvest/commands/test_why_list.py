"""`why RUN` without a question: a list to choose from."""

import json
from collections.abc import Callable

import pytest
from conftest import Place
from scripted_endpoint import Asked, Endpoint, Say

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]


def every_third_is_wrong(asked: Asked) -> Say:
    number = int(asked.question.split()[2])
    return Say(text="\\boxed{0}") if number % 3 == 1 else Say(finish="length") if number % 3 == 2 else Say()


@pytest.fixture
def run(endpoint: Endpoints, place: Places) -> Place:
    p = place(endpoint(every_third_is_wrong).url, 12)
    assert p.collect()[0] == 0
    return p


def test_it_lists_every_attempt_with_its_reason_and_says_how_many_there_are(run: Place) -> None:
    code, out, err = run.harvest("why", "r", "--store", run.url)
    assert code == 0, err
    *lines, counts, hint = out.splitlines()
    assert [line.split()[:2] for line in lines][:3] == [["q0", "selected"], ["q1", "wrong"], ["q2", "truncated"]]
    assert len(lines) == 12
    assert counts == "12 of 12 · selected 4, wrong 4, truncated 4"
    assert "why r QUESTION_ID" in hint
    assert "boxed 0, gold 3" in lines[1]


def test_reason_and_most_choose(run: Place) -> None:
    found = json.loads(run.harvest("why", "r", "--reason", "wrong", "--most", "3", "--store", run.url, "--json")[1])
    assert [a["question_id"] for a in found["attempts"]] == ["q1", "q4", "q7"]
    assert {a["reason"] for a in found["attempts"]} == {"wrong"}
    assert found["reasons"] == {"selected": 4, "wrong": 4, "truncated": 4}
    assert "3 of 4 that are wrong" in run.harvest("why", "r", "--reason", "wrong", "--most", "3", "--store", run.url)[1]


def test_what_selection_left_out_has_its_reason(run: Place) -> None:
    assert run.harvest("select", "r", "--select.traces", "1", "--store", run.url)[0] == 0
    found = json.loads(run.harvest("why", "r", "--json", "--store", run.url)[1])
    assert found["reasons"] == {"wrong": 4, "truncated": 4, "not_chosen": 3, "selected": 1}


def test_a_reason_that_none_has_names_those_that_there_are(run: Place) -> None:
    code, _, err = run.harvest("why", "r", "--reason", "wrng", "--store", run.url)
    assert (code, err.count("\n")) == (2, 1)
    assert "selected 4, wrong 4, truncated 4" in err


def test_questions_that_were_not_asked_are_in_the_list(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, 5, budget__usd="0.0015", teacher__max_concurrency=1)
    p.collect()
    reasons = json.loads(p.harvest("why", "r", "--json", "--store", p.url)[1])["reasons"]
    assert reasons["selected"] + reasons["not asked"] == 5
    assert reasons["not asked"] > 0
