"""What must hold of the money in a store at every moment, read from outside with plain SQL."""

import sqlite3
from contextlib import closing
from pathlib import Path


def audit(db: sqlite3.Connection, run_id: int, *, overbilled: bool = False) -> dict[str, int]:
    """The run's money in picodollars. Raises AssertionError that names the rule which is broken."""
    cap, spent, reserved, in_doubt = db.execute(
        "SELECT cap, spent, reserved, in_doubt FROM run WHERE id = ?", (run_id,)
    ).fetchone()
    for name, value in (("spent", spent), ("reserved", reserved), ("in_doubt", in_doubt)):
        assert value >= 0, f"{name} is negative: {value}"
    if cap is not None and not overbilled:
        over = spent + in_doubt + reserved - cap
        assert over <= 0, f"{over} picodollars over the cap of {cap}"
    rows = db.execute("SELECT state, reserved, cost, doubt FROM try WHERE run_id = ?", (run_id,)).fetchall()
    sums = (
        ("spent", spent, sum(cost or 0 for _, _, cost, _ in rows)),
        ("reserved", reserved, sum(held for state, held, _, _ in rows if state == "sent")),
        ("in_doubt", in_doubt, sum(doubt or 0 for _, _, _, doubt in rows)),
    )
    for name, said, counted in sums:
        assert said == counted, f"the run says {name} {said}, its tries {counted}"
    for state, held, cost, doubt in rows:
        assert held >= 0, "a negative reservation"
        assert (cost or 0) >= 0, "a negative cost"
        assert doubt in (None, held), "in doubt at something else than its worst case"
        assert not (doubt and cost), "a try is both paid and in doubt"
        assert state != "in_doubt" or doubt is not None, "a try in doubt without an amount"
    twice = db.execute(
        "SELECT key, count(DISTINCT answer_try) FROM attempt WHERE answer_try IS NOT NULL GROUP BY key"
        " HAVING count(DISTINCT answer_try) > 1"
    ).fetchall()
    assert not twice, f"bought twice: {twice}"
    lost = db.execute(
        "SELECT count(*) FROM attempt LEFT JOIN reply ON reply.try_id = answer_try"
        " WHERE answer_try IS NOT NULL AND reply.try_id IS NULL"
    ).fetchone()[0]
    assert not lost, f"{lost} answers without their text"
    return {"cap": cap, "spent": spent, "reserved": reserved, "in_doubt": in_doubt}


def audit_file(path: Path, run: str = "r", *, overbilled: bool = False) -> dict[str, int]:
    """The same for a store on the disk; its writer may be dead or alive."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        run_id = db.execute("SELECT id FROM run WHERE name = ?", (run,)).fetchone()[0]
        return audit(db, run_id, overbilled=overbilled)


def tries_by_question(path: Path) -> dict[str, list[tuple[str, int | None, int | None]]]:
    """(state, cost, doubt) of every try of each question's name."""
    found: dict[str, list[tuple[str, int | None, int | None]]] = {}
    with closing(sqlite3.connect(path)) as db:
        for name, *rest in db.execute(
            "SELECT question.name, try.state, try.cost, try.doubt FROM try JOIN attempt ON attempt.id = attempt_id"
            " JOIN question ON question.id = question_id ORDER BY try.id"
        ):
            found.setdefault(name, []).append((rest[0], rest[1], rest[2]))
    return found
