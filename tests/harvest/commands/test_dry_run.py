"""`collect --dry-run`: what will be asked, what it may cost, how many at once; and that it asks and writes nothing."""

import json
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from conftest import Place, sums
from scripted_endpoint import Endpoint, Say

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]


def foreseen(p: Place, *more: str, code: int = 0) -> dict[str, Any]:
    got, out, err = p.collect("--dry-run", "--json", *more)
    assert got == code, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_it_asks_nothing_writes_nothing_and_says_what_may_be_spent(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    p = place(teacher.url, 30)
    there = sorted(path.name for path in p.folder.iterdir())
    found = foreseen(p)
    assert (found["questions"], found["open"], found["answers_at_most"], found["quote"]) == (30, 30, 30, None)
    assert Decimal(found["usd_at_most_of_one"]) * 30 >= Decimal(found["usd_at_most"]) > 29 * Decimal("0.001")
    code, out, err = p.collect("--dry-run")
    assert (code, err) == (0, "")
    assert "30 questions; prompt boxed, to mock: at most 30 answers" in out
    assert "the cap is $1.00" in out
    assert "likely cost: nobody knows before there are answers" in out
    assert teacher.asked == []
    assert sorted({path.name for path in p.folder.iterdir()} - {"run.toml"}) == there


@pytest.mark.parametrize("cap", ["0.0013", "0.004", "0.02"])
def test_as_many_are_in_flight_as_it_said(endpoint: Endpoints, place: Places, cap: str) -> None:
    teacher = endpoint(lambda _: Say(delay_s=0.3))
    p = place(teacher.url, 40, budget__usd=cap, teacher__max_concurrency=64)
    at_once = foreseen(p)["at_once"]
    assert 1 <= at_once < 40
    assert at_once == int(Decimal(cap) / Decimal(foreseen(p)["usd_at_most_of_one"]))
    p.collect()
    assert p.report["pace"]["peak_in_flight"] == at_once


def test_a_cap_that_lets_few_be_asked_at_once_is_said_with_what_helps_before_anything_is_asked(
    endpoint: Endpoints, place: Places
) -> None:
    p = place(endpoint().url, 40, budget__usd="0.004")
    line = "at once: 3 by the cap, which is slow: raise budget.usd, or lower sampling.max_tokens"
    assert line in p.collect("--dry-run")[1]
    err = p.collect()[2].splitlines()
    assert line in err[0]
    assert "worst case: $0.0012 for one answer" in err[0]
    assert "0 of 40" not in err[0]


def test_what_a_killed_process_had_in_flight_counts_against_the_cap_at_the_next_start(
    endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint(lambda _: Say(delay_s=30))
    p = place(teacher.url, 40, budget__usd="0.02")
    process = p.start()
    while not teacher.asked:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.communicate()
    found = foreseen(p)
    assert Decimal(found["reserved_usd"]) > 0
    assert found["at_once"] == int(
        (Decimal("0.02") - Decimal(found["reserved_usd"])) / Decimal(found["usd_at_most_of_one"])
    )
    assert "in doubt, reserved or beside" in p.collect("--dry-run")[1]


def test_no_room_for_one_answer_is_exit_code_3(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, 3, budget__usd="0.001")
    assert foreseen(p, code=3)["at_once"] == 0
    assert "no room for one answer: raise budget.usd" in p.collect("--dry-run")[1]


def test_after_some_answers_it_quotes_the_rest(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, 40, budget__usd="0.004", teacher__max_concurrency=1)
    assert p.collect()[0] == 3
    found = foreseen(p, "--budget.usd", "1.00")
    assert 0 < found["open"] < 40
    assert Decimal(found["usd_at_most"]) < Decimal("0.0012") * found["open"]
    assert Decimal(found["quote"]["usd"]["mid"]) < Decimal("0.02")
    assert found["spent_usd"] == p.report["money"]["spent_usd"]


def test_questions_that_were_added_since_are_to_be_asked(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, sums(4))
    assert p.collect()[0] == 0
    (p.folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums(9)))
    found = foreseen(p)
    assert (found["questions"], found["open"], found["answers_at_most"]) == (9, 5, 5)


def test_a_gold_answer_that_fails_its_own_check_ends_it_as_it_would_end_the_run(
    endpoint: Endpoints, place: Places
) -> None:
    rows = [*sums(3), {"question": "Which?", "choices": ["a", "b"], "answer": "Q", "check": "choice"}]
    p = place(endpoint().url, rows)
    dry, run = p.collect("--dry-run"), p.collect()
    assert dry[0] == run[0] == 2
    assert dry[2].splitlines()[0] == run[2].splitlines()[0]
    assert foreseen(p, "--skip-bad-rows")["questions"] == 3


def test_what_is_free_and_what_nobody_knows_are_two_things(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, 3, teacher__price_usd_per_mtok=None, budget__usd="none")
    assert "worst case: a price that nobody knows" in p.collect("--dry-run")[1]
    assert "a price that nobody knows" in p.collect()[2].splitlines()[0]
    p.settings |= {"name": "own"}
    p.settings["teacher"]["price_usd_per_mtok"] = {"input": "0", "output": "0"}
    assert "costs nothing" in p.collect("--dry-run")[1]


def test_rows_that_repeat_are_counted_at_the_start(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, [*sums(30), *sums(5)])
    line = "35 rows are 30 questions: 5 repeat others"
    assert line in p.collect("--dry-run")[1]
    assert p.collect()[2].splitlines()[0] == line


def test_a_store_that_cannot_be_one_is_named_before_the_run(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, 1)
    for store, words in ((f"sqlite:///{p.folder}", "a folder; name a file in it"), ("/tmp", "write sqlite:///path")):
        code, _, err = p.collect("--dry-run", "--store", store)
        assert (code, err.count("\n")) == (2, 1)
        assert words in err
    assert p.collect()[0] == 0
    p.settings["name"] = "another"
    assert foreseen(p)["questions"] == 1, "the store is there, the run is not"
