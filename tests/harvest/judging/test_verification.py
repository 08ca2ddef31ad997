"""`harvest verify`: old verdicts stay, each question's status is right, kills change nothing, and nobody is asked."""

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from books import audit_file
from conftest import Place, scaled
from scripted_endpoint import Endpoint
from test_import import Imports, line, wait_until

from harvest.checks import CHECKS
from harvest.judging.verification_changes import in_words


@pytest.fixture
def imports(tmp_path: Path) -> Imports:
    return Imports(tmp_path)


def age(
    store: Path, *, version: str = "0", outcome: str | None = None, accepted: int | None = None, where: str = "1"
) -> None:
    """Makes the stored verdicts those of an earlier version of the checks, which may have said otherwise."""
    with closing(sqlite3.connect(store)) as db, db:
        of = f"attempt_id IN (SELECT attempt.id FROM attempt JOIN question ON question.id = question_id WHERE {where})"
        db.execute(f"UPDATE verdict SET version = ? WHERE {of}", (version,))
        if outcome is not None:
            db.execute(f"UPDATE verdict SET outcome = ? WHERE {of}", (outcome,))
            reason = None if accepted else outcome
            db.execute(
                f"UPDATE attempt SET accepted = ?, reason = ? WHERE {of.replace('attempt_id', 'id')}",
                (accepted, reason),
            )


def verdicts(store: Path, name: str) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(store)) as db:
        return db.execute(
            "SELECT version, outcome FROM verdict JOIN attempt ON attempt.id = attempt_id JOIN question"
            " ON question.id = question_id WHERE name = ? ORDER BY verdict.id",
            (name,),
        ).fetchall()


def count(store: Path) -> int:
    with closing(sqlite3.connect(store)) as db:
        return int(db.execute("SELECT count(*) FROM verdict").fetchone()[0])


TODAY = CHECKS["math"].version


def verify(imports: Imports, *more: str) -> dict[str, Any]:
    out, _ = imports.run("verify", "r", "--json", *more)
    found: dict[str, Any] = json.loads(out)
    return found


def test_what_is_rejected_leaves_the_dataset_even_where_nothing_new_can_be_selected(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", [line(1), line(2, "\\boxed{0}")]))
    age(imports.store, outcome="right", accepted=1, where="name = 'q2'")
    evaluation = imports.file("held-out.jsonl", [{"id": "e", "question": "What is 7 times 9?", "answer": "63"}])
    imports.run("select", "r", "--select.against", evaluation)
    train = imports.folder / "runs/r/dataset/train.jsonl"
    assert {json.loads(row)["question_id"] for row in train.read_text().splitlines()} == {"q1", "q2"}
    evaluation.unlink()
    _, err = imports.run("verify", "r", code=2)
    assert "held-out.jsonl" in err
    assert {json.loads(row)["question_id"] for row in train.read_text().splitlines()} == {"q1"}
    imports.file("held-out.jsonl", [{"id": "e", "question": "What is 7 times 9?", "answer": "63"}])
    assert verify(imports)["accepted"] == {"before": 2, "now": 1}, "the pass goes on and says what it changed"


def test_what_today_judges_otherwise_is_said_and_the_old_verdict_stays(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", [line(1), line(2, "\\boxed{0}"), line(3)]))
    age(imports.store)
    age(imports.store, outcome="wrong", accepted=0, where="name = 'q1'")
    age(imports.store, outcome="right", accepted=1, where="name = 'q2'")
    with closing(sqlite3.connect(imports.store)) as db, db:
        db.execute("UPDATE question SET status = CASE name WHEN 'q1' THEN 'given_up' ELSE 'solved' END")
    said = verify(imports)
    assert (said["judged"], said["unchanged"], said["accepted"]) == (3, 1, {"before": 2, "now": 2})
    changes = {
        c["question_ids"][0]: (c["before"]["outcome"], c["now"]["outcome"], c["answers"]) for c in said["changes"]
    }
    assert changes == {"q1": ("wrong", "right", 1), "q2": ("right", "wrong", 1)}
    assert verdicts(imports.store, "q1") == [("0", "wrong"), (TODAY, "right")]
    rows = {r["question_id"]: r for r in imports.exported()}
    assert [(v["version"], v["passed"]) for v in rows["q1"]["verdicts"]] == [(TODAY, True)], (
        "an export has today's alone"
    )
    assert (rows["q2"]["accepted"], rows["q2"]["reason"]) == (False, "wrong")
    report = json.loads((imports.folder / "runs/r/report.json").read_text())
    assert (report["questions"]["solved"], report["questions"]["given_up"]) == (2, 1)
    assert report["traces"]["accepted"] + sum(report["traces"]["rejected"].values()) == 3
    dataset = (imports.folder / "runs/r/dataset/train.jsonl").read_text().splitlines()
    assert {json.loads(row)["question_id"] for row in dataset} == {"q1", "q3"}
    why, _ = imports.run("why", "r", "q1")
    verdict, before = (next(w for w in why.splitlines() if w.strip().startswith(k)) for k in ("verdict", "before"))
    assert f"math {TODAY}: right" in verdict
    assert "math 0: wrong" in before


def test_what_today_has_judged_is_judged_again_only_when_told(imports: Imports) -> None:
    imports.take(
        imports.file(
            "a.jsonl", [line(1), line(2, {"choices": [{"message": {"content": "x"}, "finish_reason": "length"}]})]
        )
    )
    assert (verify(imports)["judged"], count(imports.store)) == (0, 1)
    said = verify(imports, "--again")
    assert (said["judged"], said["unchanged"], said["set_aside"], count(imports.store)) == (1, 1, 1, 2)
    assert verify(imports)["judged"] == 0


def test_the_table_reads_as_words(imports: Imports) -> None:
    imports.take(imports.file("a.jsonl", [line(1, id="q|\x1b[2J")]))
    age(imports.store, outcome="timeout", accepted=0)
    out, _ = imports.run("verify", "r")
    assert "| math | 0: timeout | " in out
    assert "\x1b" not in out
    assert "Accepted: 0 before, 1 now." in out


def test_a_question_no_longer_solved_is_asked_again_and_one_solved_now_is_not(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    rows = [{"id": f"q{i}", "question": f"What is {i} + {i + 1}?", "answer": str(2 * i + 1)} for i in range(4)]
    teacher = endpoint()
    p = place(teacher.url, rows, sampling__samples=2)
    code, _, err = p.collect()
    assert code == 0, err
    asked = len(teacher.asked)
    with closing(sqlite3.connect(p.store)) as db, db:
        # An earlier check had let q1's answer pass; today's gold answer shows that it is wrong.
        body = db.execute("SELECT body FROM question WHERE name = 'q1'").fetchone()[0]
        other = json.dumps(json.loads(body) | {"answer": "99"})
        db.execute("UPDATE question SET body = ? WHERE name = 'q1'", (other,))
        db.execute("UPDATE question SET status = 'given_up' WHERE name = 'q2'")
        db.execute(
            "UPDATE attempt SET accepted = 0, reason = 'wrong' WHERE question_id ="
            " (SELECT id FROM question WHERE name = 'q2')"
        )
        db.execute("UPDATE verdict SET version = '0'")
    code, out, err = p.harvest("verify", "r", "--store", p.url, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert len(teacher.asked) == asked, "verify asks nobody"
    assert said["questions"]["open"] == {"before": 0, "now": 1}
    with closing(sqlite3.connect(p.store)) as db, db:
        assert dict(db.execute("SELECT name, status FROM question")) == {
            "q0": "solved", "q1": "open", "q2": "solved", "q3": "solved",
        }  # fmt: skip
        db.execute("UPDATE question SET body = ? WHERE name = 'q1'", (body,))
    code, _, err = p.collect()
    assert code == 0, err
    assert len(teacher.asked) == asked + 1, "only q1 is asked, its second sample"
    assert p.report["questions"]["open"] == 0
    audit_file(p.store)


def test_killed_anywhere_a_pass_goes_on_and_its_table_covers_all_of_it(imports: Imports) -> None:
    n = scaled(2500, 50_000)
    imports.take(imports.file("a.jsonl", [line(i) for i in range(n)]))
    age(imports.store, outcome="wrong", accepted=0)
    kills = 0
    for share in (0.1, 0.5):
        process = imports.start("verify", "r")
        wait_until(process, imports.store, n + int(share * n), count)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    had = count(imports.store)
    assert kills
    assert n < had < 2 * n
    said = verify(imports)
    assert count(imports.store) == 2 * n, "each answer is judged once a pass, kills or not"
    assert said["judged"] == n
    assert [(c["before"]["outcome"], c["now"]["outcome"], c["answers"]) for c in said["changes"]] == [
        ("wrong", "right", n)
    ]
    assert said["accepted"] == {"before": 0, "now": n}
    assert said["questions"]["solved"]["now"] == n
    audit_file(imports.store)


def test_ctrl_c_in_a_pass_again_goes_on_with_that_pass(imports: Imports) -> None:
    n = 2500
    imports.take(imports.file("a.jsonl", [line(i) for i in range(n)]))
    process = imports.start("verify", "r", "--again")
    wait_until(process, imports.store, n + 1, count)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if process.returncode == 130:
        assert count(imports.store) < 2 * n
        assert verify(imports, "--again")["judged"] == n
    assert count(imports.store) == 2 * n


def test_a_symbolic_answer_that_hangs_its_check_is_a_timeout_and_the_next_is_right(imports: Imports) -> None:
    tower = "\\boxed{" + "9^{" * 40 + "9" + "}" * 40 + "}"
    rows = [line(1, tower, answer="x^2+1"), line(2, "\\boxed{1+x^2}", answer="x^2+1")]
    imports.take(imports.file("a.jsonl", rows))
    got = {r["question_id"]: (r["accepted"], r["reason"]) for r in imports.exported()}
    assert got["q2"] == (True, None)
    assert not got["q1"][0]


def test_a_models_text_cannot_pass_for_winnows_own_lines(imports: Imports) -> None:
    forged = "\x1b[2J\u202e\nAttempt 2 of 2: accepted\r\n  verdict     math 9: right\n\\boxed{4}"
    imports.take(imports.file("a.jsonl", [line(1, forged)]))
    out, _ = imports.run("why", "r", "q1")
    own = [text for text in out.splitlines() if "│" not in text]
    assert [text for text in own if text.startswith("Attempt")] == [
        "Attempt 1 of 1: rejected: wrong (it was found wrong)"
    ]
    assert not any("math 9" in text for text in own)
    assert not {"\x1b", "\u202e", "\r"} & set(out)
    assert json.loads(imports.run("why", "r", "q1", "--json")[0])["attempts"][0]["answer"] == forged


def test_words_of_an_empty_pass() -> None:
    nothing = {"before": 1, "now": 1}
    said = {
        "run": "r", "judged": 0, "unchanged": 0, "changes": [], "checks": {"math": "2"}, "accepted": nothing,
        "questions": {"open": nothing}, "set_aside": 0, "no_gold": 0, "bad_gold": 0, "no_check": 0,
        "waiting": 0,
    }  # fmt: skip
    assert list(in_words(said))[-1] == "Accepted: 1 before, 1 now."
