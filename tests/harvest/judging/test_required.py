"""`checks.require`: filters as verdicts, for live answers, answers that are judged again, and imported answers."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from conftest import Place
from dies import die_at
from scripted_endpoint import Asked, Endpoint, Say
from test_import import Imports, line

from harvest.core.config import Checks, load
from harvest.core.errors import FAILURES, ConfigError
from harvest.core.nouns import FILTER_REASONS
from harvest.filters import FILTERS
from harvest.judging.verification_changes import in_words
from harvest.report.words import REASONS
from harvest.store import Store

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
REQUIRED = ["correct", "format", "language"]
FORMAT, LANGUAGE = (next(f.version for f in FILTERS if f.name == name) for name in ("format", "language"))
GERMAN = (
    "Wir addieren die beiden Zahlen, die in der Frage stehen, und das ist nicht schwer. Zuerst nehmen wir die erste"
    " und dann zählen wir weiter, bis wir bei der Summe sind, die wir hier als Ergebnis aufschreiben."
)
LOOP = "We add the numbers and look at the sum again. " * 12


def number(asked: Asked) -> int:
    return int(asked.question.split()[2])


def verdicts(p: Place) -> set[tuple[str, str, str]]:
    """(check, version, outcome) of the stored answers."""
    with closing(sqlite3.connect(p.store)) as db:
        return set(db.execute("SELECT check_name, version, outcome FROM verdict"))


def standing(p: Place) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(p.store)) as db:
        return db.execute(
            "SELECT name, status, sample, accepted, reason FROM attempt JOIN question ON question.id = question_id"
            " WHERE kind = 'teacher' ORDER BY 1, 3"
        ).fetchall()


def harvest(p: Place, *args: str) -> str:
    code, out, err = p.harvest(*args, "--store", p.url)
    assert code == 0, err
    return out


def test_what_a_required_filter_refuses_is_rejected_and_another_sample_asked(
    endpoint: Endpoints, place: Places
) -> None:
    e = endpoint(lambda a: Say(chain=GERMAN) if number(a) == 1 and not a.again else Say())
    p = place(e.url, 3, sampling__samples=2, sampling__give_up_after=1, checks__require=REQUIRED)
    code, _, err = p.collect()
    assert code == 0, err
    assert sorted(number(a) for a in e.asked) == [0, 1, 1, 2]
    assert standing(p) == [
        ("q0", "solved", 0, 1, None),
        ("q1", "solved", 0, 0, "language"),
        ("q1", "solved", 1, 1, None),
        ("q2", "solved", 0, 1, None),
    ]
    assert p.report["traces"]["rejected"] == {"language": 1}
    filters = {v for v in verdicts(p) if v[0] != "math"}
    assert filters == {("language", LANGUAGE, "wrong"), ("language", LANGUAGE, "right"), ("format", FORMAT, "right")}
    rows = [json.loads(row) for row in (p.run_folder / "dataset" / "train.jsonl").read_text().splitlines()]
    assert [v["check"] for v in rows[0]["verdicts"]] == ["format", "language", "math"]
    why = harvest(p, "why", "r", "q1")
    assert "rejected: language (it is in another language, which `checks.require` rules out)" in why
    assert f"language {LANGUAGE}: refused: " in why
    assert "today's is" not in why


def test_verify_says_the_same_as_collect_and_nothing_twice(endpoint: Endpoints, place: Places) -> None:
    e = endpoint(lambda a: Say(chain=GERMAN) if number(a) % 2 else Say())
    p = place(e.url, 6, checks__require=REQUIRED)
    assert p.collect()[0] == 0
    before, said = standing(p), verdicts(p)
    with Store.open(p.url, write=False) as store:
        failed = {share for _, share in store.failed_shares(store.run_id("r"))}
    assert failed == {0.0}, "a right answer in another language does not make a question hard"
    assert json.loads(harvest(p, "verify", "r", "--json"))["judged"] == 0
    again = json.loads(harvest(p, "verify", "r", "--again", "--json"))
    assert (again["judged"], again["unchanged"], again["changes"]) == (6, 6, [])
    assert (standing(p), verdicts(p)) == (before, said)
    assert {r[4] for r in before} == {None, "language"}


def test_what_was_collected_without_is_judged_by_verify_and_asked_again(endpoint: Endpoints, place: Places) -> None:
    e = endpoint(lambda a: Say(chain=GERMAN) if number(a) == 1 and not a.again else Say())
    p = place(e.url, 3, sampling__samples=2)
    assert p.collect()[0] == 0
    assert p.report["traces"]["accepted"] == 3
    p.settings["checks"] = {"require": ["language", "correct"]}
    code, _, err = p.collect()
    assert code == 0
    assert "until `harvest verify r` judges them by it" in err
    assert len(e.asked) == 3
    said = json.loads(harvest(p, "verify", "r", "--json"))
    assert (said["judged"], said["accepted"]) == (3, {"before": 3, "now": 2})
    assert f"| language | not judged | {LANGUAGE}: refused | 1 | q1 |" in in_words(said)
    assert said["questions"]["open"] == {"before": 0, "now": 1}
    assert said["checks"]["language"] == LANGUAGE
    assert {c["check"] for c in said["changes"]} == {"language"}
    assert json.loads(harvest(p, "verify", "r", "--json"))["judged"] == 0
    _, _, err = p.collect()
    assert "has changed" not in err
    assert sorted(number(a) for a in e.asked) == [0, 1, 1, 2]
    assert p.report["traces"] | {"accepted": 3, "rejected": {"language": 1}} == p.report["traces"]


def test_what_select_changes_stays_until_run_toml_has_another_value_and_is_said_when_it_touches_a_verdict(
    endpoint: Endpoints, place: Places
) -> None:
    p = place(endpoint().url, 3, checks__require=["correct", "language"])
    _, _, err = p.collect()
    assert "other settings" not in err
    harvest(p, "select", "r", "--select.traces", "1")
    for _ in range(2):
        code, _, err = p.collect()
        assert code == 0
        assert "as `harvest select` set it: select.traces (another value in RUN.toml takes its place)" in err
        assert p.report["traces"]["selected"] == 1
    p.settings["select"] = {"traces": 2}
    code, _, err = p.collect()
    assert "selected by other settings than before: select.traces as RUN.toml" in err
    assert "as `harvest select` set it" not in err
    assert p.report["traces"]["selected"] == 2
    harvest(p, "select", "r", "--select.traces", "1")
    harvest(p, "select", "r", "--select.traces", "2")  # as RUN.toml has it: nothing is kept from select
    p.settings["select"] = {"traces": 3}
    _, _, err = p.collect()
    assert "as `harvest select` set it" not in err
    assert p.report["traces"]["selected"] == 3
    code, _, err = p.harvest("select", "r", "--filters.language", "de", "--store", p.url)
    assert code == 0, err
    assert "until `harvest verify r` judges them by it" in err


def test_a_filter_that_is_no_longer_required_lets_go_and_another_language_is_another_version(
    endpoint: Endpoints, place: Places
) -> None:
    e = endpoint(lambda a: Say(chain=GERMAN) if number(a) == 1 else Say())
    p = place(e.url, 3, checks__require=REQUIRED)
    assert p.collect()[0] == 0
    assert p.report["traces"]["accepted"] == 2
    p.settings["checks"] = {"require": ["correct", "format"]}
    assert p.collect()[0] == 0
    said = json.loads(harvest(p, "verify", "r", "--json"))
    assert (said["judged"], said["accepted"]) == (1, {"before": 2, "now": 3})
    assert standing(p)[1] == ("q1", "solved", 0, 1, None)
    assert "no longer required" in harvest(p, "why", "r", "q1")
    p.settings |= {"checks": {"require": ["correct", "language"]}, "filters": {"language": "de"}}
    assert p.collect()[0] == 0
    said = json.loads(harvest(p, "verify", "r", "--json"))
    assert (said["judged"], said["accepted"]) == (3, {"before": 3, "now": 1})
    assert ("language", f"{LANGUAGE} de", "right") in verdicts(p)


def test_an_answer_that_repeats_itself_is_not_taken_for_one_that_was_broken_off(
    endpoint: Endpoints, place: Places
) -> None:
    """What ran into a loop ends the question, since no other sample is expected to do better; this one does not."""
    e = endpoint(lambda a: Say(chain=LOOP) if not a.again else Say())
    p = place(e.url, 1, sampling__samples=2, checks__require=["correct", "repetition"])
    assert p.collect()[0] == 0
    assert [(r[2], r[4]) for r in standing(p)] == [(0, "repeats"), (1, None)]


def test_the_next_teacher_is_asked_what_the_filter_refused_and_the_student_is_not_filtered(
    endpoint: Endpoints, place: Places
) -> None:
    from test_asking import teacher

    cheap, dear, student = (
        endpoint(lambda _: Say(chain=GERMAN)),
        endpoint(),
        endpoint(lambda a: Say(chain=GERMAN) if number(a) == 0 else Say(text="\\boxed{-1}")),
    )
    p = place(
        cheap.url, 2, teacher=None, teachers=[teacher(cheap.url), teacher(dear.url)], checks__require=REQUIRED,
        student={"base_url": student.url, "model": "s", "free": True},
    )  # fmt: skip
    assert p.collect()[0] == 0
    assert [len(e.asked) for e in (student, cheap, dear)] == [2, 1, 1]
    assert p.report["questions"]["by_student"] == 1
    assert [r[4] for r in standing(p)] == ["language", None]


def test_of_a_majority_each_accepted_answer_must_pass_and_all_have_a_voice(endpoint: Endpoints, place: Places) -> None:
    e = endpoint(lambda a: Say(chain=GERMAN) if a.n == 1 else Say(text="\\boxed{-1}") if a.n == 3 else Say())
    p = place(
        e.url, [{"id": "q0", "question": "What is 0 + 1?"}], sampling__samples=4, checks__require=REQUIRED,
        checks__without_gold="majority",
    )  # fmt: skip
    p.settings["teacher"]["max_concurrency"] = 1
    assert p.collect()[0] == 0
    before = standing(p)
    assert sorted(str(r[4]) for r in before) == ["None", "None", "language", "wrong"]
    with closing(sqlite3.connect(p.store)) as db:
        assert db.execute("SELECT DISTINCT share FROM verdict WHERE check_name = 'majority'").fetchall() == [(0.75,)]
    again = json.loads(harvest(p, "verify", "r", "--again", "--json"))
    assert (again["judged"], again["unchanged"]) == (4, 4)
    assert standing(p) == before


def test_an_answer_that_was_not_judged_before_a_kill_meets_the_filters_at_the_next_start(
    endpoint: Endpoints, place: Places
) -> None:
    e = endpoint(lambda _: Say(chain=GERMAN))
    p = place(e.url, 1, checks__require=REQUIRED)
    p.start(before=partial(die_at, "after settle", 1)).communicate(timeout=60)
    assert [r[4] for r in standing(p)] == [None]
    assert p.collect()[0] == 0
    assert [r[4] for r in standing(p)] == ["language"]
    assert len(e.asked) == 1


def test_imported_answers_are_judged_by_it_and_the_next_import_too(tmp_path: Path) -> None:
    imports = Imports(tmp_path)
    german = f"<think>\n{GERMAN}\n</think>\n\n\\boxed{{5}}"
    asked = {"question": "What is the sum of the two numbers that are in this question, 2 and 3?"}
    imports.take(imports.file("a.jsonl", [line(1), line(2, german, **asked)]), "--require", "correct,language")
    reasons = {r["question_id"]: r["reason"] for r in imports.exported()}
    assert sorted(map(str, reasons.values())) == ["None", "language"]
    imports.take(imports.file("b.jsonl", [line(2, german + " ", **asked)]))
    assert sorted(str(r["reason"]) for r in imports.exported()) == ["None", "language", "language"]
    imports.run("select", "r", "--filters.long_chain", "5000")
    _, err = imports.run("import", imports.file("c.jsonl", [line(3)]), "--name", "r", "--require", "correct")
    assert "until `harvest verify r` judges them by it" in err
    assert json.loads((imports.folder / "runs/r/config.json").read_text())["filters"]["long_chain"] == 5000
    imports.run("verify", "r")
    assert {r["reason"] for r in imports.exported()} == {None}
    _, err = imports.run("import", imports.file("c.jsonl", [line(1)]), "--name", "r", "--require", "format", code=2)
    assert err.startswith('error: --require format: require has "correct" in it')


def test_each_filter_that_may_be_required_has_a_reason_of_its_own_and_words_for_it() -> None:
    (named,) = get_args(Checks.model_fields["require"].annotation)[:1]
    assert set(get_args(named)) == {"correct", *FILTER_REASONS}
    assert {f.name for f in FILTERS} >= set(FILTER_REASONS)
    assert set(FILTER_REASONS.values()) <= set(REASONS)
    assert not set(FILTER_REASONS.values()) & {*FAILURES, "wrong", "no_answer", "truncated", "repetition"}


@pytest.mark.parametrize("named", [["format"], ["correct", "correct"], ["correct", "grammar"], []])
def test_what_cannot_be_required_is_said_in_a_line(named: list[str], place: Places) -> None:
    with pytest.raises(ConfigError, match=r"^\S*run\.toml: checks(\.require\.1)?: ") as e:
        load(place("http://localhost/v1", 1, checks__require=named).toml)
    assert len(str(e.value).splitlines()) == 1
