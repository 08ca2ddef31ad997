"""Selection: what is a duplicate and what is not, questions of evaluations, random choices, presets, and kills."""

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from test_import import Imports, imports

from harvest.core.config import Filters, Rewrite, Select
from harvest.core.errors import ConfigError
from harvest.selection import minhash
from harvest.selection.candidates import SELECTED, Candidates, Questions, Reason
from harvest.selection.near_duplicates import QuestionFeatures, same_question, same_task
from harvest.selection.question_text import unnumbered
from harvest.selection.settings import changed_settings
from harvest.selection.sketch_maker import attempt_rules
from harvest.selection.sketches import ATTEMPT, Notes, read_file, write_file
from harvest.selection.stages import select
from harvest.store import Store

__all__ = ["imports"]  # the fixture

HATS = "Tom has {a} hats and buys {b} more at the market on Sunday. How many hats does he have then?"
CHAIN = (
    "He had {a} hats before he went to the market on Sunday, and there he bought {b} more of them, so that I have to"
    " add the one number to the other. {a} and {b} together make {c}, which I check by taking {b} away from {c} again:"
    " that leaves {a}, as it should. So he comes home with {c} hats in all, and nothing else is asked for here."
)


def row(name: str, a: int = 3, b: int = 4, **more: Any) -> dict[str, Any]:
    """A question with a right answer; `chain` and `said` in place of its own."""
    numbers = {"a": a, "b": b, "c": a + b}
    chain = more.pop("chain", CHAIN.format(**numbers))
    said = more.pop("said", f"\\boxed{{{a + b}}}")
    given = {"id": name, "question": HATS.format(**numbers), "answer": str(a + b), "check": "math"}
    return given | {"response": f"<think>\n{chain}\n</think>\n\n{said}"} | more


def chosen(imports: Imports, rows: Sequence[dict[str, Any]], *args: str) -> dict[str, str]:
    """What the newest pass says of each question's one answer: "" where it is selected."""
    if rows:
        imports.run("import", imports.file("a.jsonl", list(rows)), "--name", "r")
    imports.run("select", "r", *args)
    return outcomes(imports)


def outcomes(imports: Imports) -> dict[str, str]:
    with Store.open(f"sqlite:///{imports.store}", write=False) as store:
        found = store.db.execute(
            "SELECT question.name, coalesce(selection_outcome.reason, '') FROM selection_outcome"
            " JOIN attempt ON attempt.id = attempt_id JOIN question"
            " ON question.id = question_id WHERE selection_id = (SELECT max(id) FROM selection)"
        ).fetchall()
    return {r[0]: r[1] for r in found}


# ---- duplicates


def test_of_duplicates_one_stays_and_false_friends_all_do(imports: Imports) -> None:
    words = CHAIN.format(a=3, b=4, c=7).split(" ")
    words[11], words[37] = "so", "so"
    first = row("first")
    rows = [
        first,
        first
        | {"id": "case and spaces", "response": first["response"].upper().replace(" ", "  ").replace("THINK", "think")},
        row("two words", chain=" ".join(words)),
        row("framed", question="Problem 12. " + HATS.format(a=3, b=4) + " (5 points)", chain=" ".join(words)),
        row("other numbers", 3, 5),
        row("other words", chain="Three hats. Four hats more. I count them all on my fingers and have seven, done."),
        row("another gold", answer="8", said="\\boxed{8}"),
    ]
    rows[1]["response"] = rows[1]["response"].replace("\\BOXED", "\\boxed")
    assert chosen(imports, rows) == {
        "first": "", "case and spaces": "exact_duplicate", "two words": "near_duplicate", "framed": "near_duplicate",
        "other numbers": "", "other words": "", "another gold": "",
    }  # fmt: skip
    out, _ = imports.run("why", "r", "framed")
    assert "sample 0 of first has its place" in out
    assert set(chosen(imports, [], "--select.exact", "false", "--select.near", "false").values()) == {""}


def test_of_questions_that_ask_the_same_only_the_first_is_trained_on(imports: Imports) -> None:
    asked = "How many hats does Tom have then? On Sunday he buys 4 more at the market; he has 3 hats."
    other = "Three of them. Four come to it at the market. I count: seven. He carries seven hats home today."
    rows = [row("first"), row("reordered", question=asked, chain=other), row("other numbers", 30, 4)]
    assert chosen(imports, rows)["reordered"] == ""  # another chain, which is no duplicate
    found = chosen(imports, [], "--select.near_questions", "true")
    assert found == {"first": "", "reordered": "near_duplicate_question", "other numbers": ""}


def test_which_duplicate_stays_is_a_setting(imports: Imports) -> None:
    chain = CHAIN.format(a=3, b=4, c=7)
    rows = [
        row("middle", chain=chain + " Yes."),
        row("short", chain=chain),
        row("long", chain=chain + " Yes, it is so."),
    ]
    imports.run("import", imports.file("a.jsonl", rows), "--name", "r")
    for prefer, stays in {"first": "middle", "shortest": "short", "longest": "long"}.items():
        found = chosen(imports, [], "--select.prefer", prefer)
        assert {name for name, reason in found.items() if not reason} == {stays}


# ---- evaluations


def test_what_an_evaluation_asks_is_left_out_and_named(imports: Imports) -> None:
    evaluation = imports.file("held out.jsonl", [{"id": "e7", "question": HATS.format(a=3, b=4), "answer": "7"}])
    rows = [
        row("verbatim"),
        row("spaces", question=HATS.format(a=3, b=4).upper().replace(" ", " \n")),
        row("framed", question="You are an expert. " + HATS.format(a=3, b=4) + " Give 3 significant figures."),
        row("other name", question=HATS.format(a=3, b=4).replace("Tom", "Ingrid")),
        row("inside", question="It rained. " + HATS.format(a=3, b=4)),
        row("other numbers", 4, 4),
    ]
    found = chosen(
        imports, rows, "--select.exact", "false", "--select.near", "false", "--select.against", str(evaluation)
    )
    assert found == {r["id"]: "contaminated" if r["id"] != "other numbers" else "" for r in rows}
    out, _ = imports.run("why", "r", "framed")
    assert "e7" in out
    assert "held out.jsonl" in out
    said = json.loads(imports.run("select", "r", "--json")[0])
    assert list(said["against"].values()) == [1]


def test_an_evaluation_whose_gold_answer_was_mended_is_read_again(imports: Imports) -> None:
    named = {"id": "e7", "question": HATS.format(a=3, b=4).replace("Tom", "Ingrid")}
    evaluation = imports.file("held out.jsonl", [named | {"answer": "8"}])
    given = ["--select.against", str(evaluation)]
    assert chosen(imports, [row("q")], *given) == {"q": ""}, "another gold answer is another question"
    imports.file("held out.jsonl", [named | {"answer": "7"}])
    assert chosen(imports, [], *given) == {"q": "contaminated"}


def test_a_check_that_was_mended_judges_rewritten_answers_again() -> None:
    def rules(on: bool, math: str) -> list[Any]:
        return attempt_rules("p", Filters(), Rewrite(on=on), {"math": math})

    assert rules(True, "1") == rules(True, "1") != rules(True, "2")
    assert rules(False, "1") == rules(False, "2")


def test_an_evaluation_that_cannot_be_read_stops_before_anything_is_changed(imports: Imports) -> None:
    before = chosen(imports, [row("q")])
    _, err = imports.run("select", "r", "--select.against", "none.jsonl", code=2)
    assert err.count("\n") == 1
    assert "none.jsonl" in err
    assert outcomes(imports) == before
    with Store.open(f"sqlite:///{imports.store}", write=False) as store:
        assert not store.run("r").config.select.against


# ---- difficulty, answers a question, numbers


def test_difficulty_is_a_label_or_how_often_a_question_was_failed(imports: Imports) -> None:
    wrong = {"response": "<think>\nI guess that it is nine, since nine is a nice number.\n</think>\n\n\\boxed{9}"}
    rows = [
        row("easy", 3, 4, difficulty="Easy"), row("hard", 13, 4, difficulty="HARD"), row("no label", 23, 4),
        row("half", 33, 4), row("half", 33, 4) | wrong,
        row("third", 43, 4), row("third", 43, 4, chain="43 + 4 = 47, that is it."), row("third", 43, 4) | wrong,
    ]  # fmt: skip
    found = chosen(imports, rows, "--select.difficulty", "hard")
    assert {name for name, reason in found.items() if not reason} == {"hard"}
    imports.run("select", "r", "--select.difficulty", "[]", "--select.min_failed", "0.5", "--select.near", "false")
    found = outcomes(imports)
    assert {name for name, reason in found.items() if not reason} == {"half"}


def test_all_takes_wrong_answers_too_and_accepted_does_not(imports: Imports) -> None:
    rows = [row("right"), row("wrong", 13, 4, said="\\boxed{9}")]
    assert chosen(imports, rows, "--select.pool", "all") == {"right": "", "wrong": ""}
    assert chosen(imports, [], "--select.pool", "accepted") == {"right": ""}


def test_the_newest_pass_counts_and_an_equal_one_is_not_made_twice(imports: Imports) -> None:
    rows = [row(f"q{a}", a, 4) for a in range(10, 18)]
    chosen(imports, rows, "--select.traces", "3")

    def exported() -> int:
        imports.run("export", "r", "--to", "out")
        return len((imports.folder / "out/train.jsonl").read_text().splitlines())

    assert exported() == 3
    assert "Nothing has changed" in imports.run("select", "r")[1]
    said = json.loads(imports.run("select", "r", "--select.traces", "5", "--dry-run", "--json")[0])
    assert (said["selected"], exported()) == (5, 3)
    imports.run("select", "r", "--select.traces", "5")
    assert exported() == 5
    imports.run("import", imports.file("b.jsonl", [row("late", 90, 4)]), "--name", "r")  # the run keeps its settings
    assert exported() == 5
    assert len(outcomes(imports)) == 9


# ---- settings


WRONG_SETTINGS = [
    (["--select.traces", "0"], "select.traces"),
    (["--select.trces", "3"], "did you mean 'traces'"),
    (["--select.near_similarity", "0.1"], "select.near_similarity"),
    (["--select.prefer", "best"], "'longest'"),
    (["--preset", "s2"], "openthoughts, s1, sky-t1"),
    (["--sampling.samples", "2"], "[select]"),
]


def test_a_wrong_setting_is_one_line(imports: Imports) -> None:
    imports.run("import", imports.file("a.jsonl", [row("q")]), "--name", "r")
    for args, words in WRONG_SETTINGS:
        _, err = imports.run("select", "r", *args, code=2)
        assert err.count("\n") == 1
        assert words in err


def test_presets_are_what_their_recipes_say_and_the_evaluations_stay() -> None:
    for path in sorted((ROOT / "recipes").glob("select-*.toml")):
        name = path.stem.removeprefix("select-")
        found = changed_settings({"select": {"against": ["a.jsonl"]}}, [], name).select
        assert found.preset == name
        assert found.against == ("a.jsonl",)
    words = [("select.preset", "s1"), ("select.traces", "20")]
    for given_as in (words, words[::-1]):
        over = changed_settings({}, given_as, None).select
        assert (over.traces, over.favour, over.per_question) == (20, "longer", 1)
    with pytest.raises(ConfigError, match=r"filters\.preset"):
        changed_settings({}, [("filters.preset", "s1")], None)


def test_a_preset_of_ones_own_is_read_and_may_name_no_other(tmp_path: Path) -> None:
    (mine := tmp_path / "mine.toml").write_text("traces = 7\n")
    assert changed_settings({}, [], str(mine)).select.traces == 7
    mine.write_text('preset = "s1"\n')
    with pytest.raises(ConfigError, match="names a preset itself"):
        changed_settings({}, [], str(mine))


# ---- the pure part


def made(
    texts: Sequence[tuple[int, int, int]], seed: int = 0, domains: int = 1, scores: Sequence[float] | None = None
) -> tuple[Candidates, Questions]:
    """Candidates of (question, answer, tokens): two with the same numbers are the same, and all others are unlike."""
    asked = sorted({q for q, _, _ in texts})
    dice = np.random.default_rng(abs(seed))
    signatures = {key: dice.integers(0, 2**16, 128, dtype=np.uint16) for key in sorted({(q, a) for q, a, _ in texts})}
    n = len(asked)
    questions = Questions(
        np.array(asked, np.int64), np.array([7919 * (q + 1) for q in asked], np.uint64), np.zeros(n, np.uint64),
        np.zeros((n, 6), np.uint64), np.zeros(n, bool), np.zeros((n, 128), np.uint16),
        np.array([f"d{q % domains}" for q in asked], "U8"), np.array([""] * n), np.zeros(n, bool), np.full(n, np.nan),
    )  # fmt: skip
    m = len(texts)
    candidates = Candidates(
        np.arange(1, m + 1, dtype=np.int64), np.array([asked.index(q) for q, _, _ in texts], np.int64),
        np.array([(1009 * q + 31 * a + 1, 1) for q, a, _ in texts], np.uint64).reshape(m, 2),
        np.array([signatures[q, a] for q, a, _ in texts], np.uint16).reshape(m, 128),
        np.array([t for _, _, t in texts], np.int64), np.zeros(m, bool),
        *(np.full(m, np.nan) if scores is None else np.array(scores, float) for _ in range(2)),
        np.zeros(m, bool),
    )  # fmt: skip
    return candidates, questions


def no(pairs: Any, answered_alike: bool) -> Iterator[bool]:
    return iter([False] * len(pairs))


def picked(
    texts: Sequence[tuple[int, int, int]], given: Select, domains: int = 1, scores: Sequence[float] | None = None
) -> list[tuple[int, int, int]]:
    of, questions = made(texts, domains=domains, scores=scores)
    outcome = select(of, questions, given, no, lambda words: None)
    return [t for t, reason in zip(texts, outcome.reason, strict=True) if reason == SELECTED]


TEXTS = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(1, 50)), max_size=30, unique_by=lambda t: t[:2]
)
SETTINGS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 3), "balance": st.sampled_from(["none", "domains"]),
        "favour": st.sampled_from(["random", "longer"]), "prefer": st.sampled_from(["shortest", "longest", "random"]),
        "per_question": st.none() | st.integers(1, 3), "traces": st.none() | st.integers(1, 12),
        "tokens": st.none() | st.integers(1, 300),
    }
)  # fmt: skip


@settings(max_examples=scaled(60, 2000))
@given(TEXTS, SETTINGS)
def test_limits_hold_and_every_candidate_has_one_reason(
    texts: list[tuple[int, int, int]], given: dict[str, Any]
) -> None:
    asked = Select.model_validate(given | {"near": False})
    of, questions = made(texts, domains=3)
    outcome = select(of, questions, asked, no, lambda words: None)
    kept = outcome.reason == SELECTED
    assert set(outcome.reason) <= {SELECTED, Reason.TOO_MANY, Reason.NOT_CHOSEN}
    assert asked.traces is None or kept.sum() <= asked.traces
    assert asked.tokens is None or of.tokens[kept].sum() <= asked.tokens
    counts = Counter(of.question[kept].tolist())
    assert asked.per_question is None or max(counts.values(), default=0) <= asked.per_question
    if asked.traces is not None and asked.tokens is None:
        left = int((outcome.reason != Reason.TOO_MANY).sum())
        assert kept.sum() == min(asked.traces, left)


@settings(max_examples=scaled(60, 2000))
@given(TEXTS.flatmap(lambda t: st.tuples(st.just(t), st.permutations(t))), SETTINGS)
def test_the_order_of_storage_changes_no_selection(
    orders: tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]], given: dict[str, Any]
) -> None:
    """Of texts of different length: between equal ones of `shortest` and `longest`, the first stays."""
    texts, again = ([(q, a, 100 * t + 10 * q + a) for q, a, t in order] for order in orders)
    asked = Select.model_validate(given | {"near": False, "tokens": (given["tokens"] or 1) * 100})
    assert sorted(picked(texts, asked, 3)) == sorted(picked(again, asked, 3))


def test_another_seed_draws_others_and_the_same_seed_the_same() -> None:
    texts = [(q, 0, 10) for q in range(400)]
    first = picked(texts, Select(traces=40, seed=1))
    assert first == picked(texts, Select(traces=40, seed=1))
    assert first != picked(texts, Select(traces=40, seed=2))


@settings(max_examples=scaled(40, 1000))
@given(TEXTS, st.integers(1, 50), st.integers(1, 5), st.sampled_from(["first", "longest"]))
def test_of_long_traces_there_is_one_to_so_many_short_ones(
    texts: list[tuple[int, int, int]], long: int, short: int, prefer: str
) -> None:
    given = {"near": False, "long_tokens": long, "short_per_long": short, "prefer": prefer}
    kept = picked(texts, Select.model_validate(given))
    shorter = [t for t in texts if t[2] < long]
    longer = [t for t in texts if t[2] >= long]
    assert [t for t in kept if t[2] < long] == shorter
    most = min(len(longer), len(shorter) // short)
    assert sum(t[2] >= long for t in kept) == most
    if prefer == "longest":
        assert sorted(t[2] for t in kept if t[2] >= long) == sorted(t[2] for t in longer)[len(longer) - most :]


SCORED = TEXTS.flatmap(
    lambda t: st.tuples(
        st.just(t), st.lists(st.floats(0.1, 9) | st.just(float("nan")), min_size=len(t), max_size=len(t))
    )
)


@settings(max_examples=scaled(40, 1000))
@given(SCORED, st.sampled_from(["rsr", "surprisal"]), st.integers(1, 8))
def test_the_traces_that_suit_the_student_best_come_first(
    scored: tuple[list[tuple[int, int, int]], list[float]], name: str, most: int
) -> None:
    texts, scores = scored
    by = {t: s for t, s in zip(texts, scores, strict=True) if s == s}
    given = {"near": False, "student": "s"}
    kept = picked(texts, Select.model_validate(given | {"favour": name, "traces": most}), scores=scores)
    assert sorted(by[t] for t in kept) == sorted(by.values())[:most]
    kept = picked(texts, Select.model_validate(given | {"prefer": name, "per_question": 1}), scores=scores)
    best = {q: min(s for t, s in by.items() if t[0] == q) for q in {t[0] for t in by}}
    assert {t[0]: by[t] for t in kept} == best
    kept = picked(texts, Select.model_validate(given | {"surprisal_most": 3}), scores=scores)
    assert kept == [t for t in texts if t in by and by[t] <= 3]


def test_domains_are_drawn_evenly_and_longer_traces_first() -> None:
    """Of 5 domains the first has 600 of 1,000 questions."""
    texts = [(q, 0, 1 + q) for q in range(1000)]
    of, questions = made(texts)
    domain = np.array(["d0"] * 600 + [f"d{1 + q % 4}" for q in range(400)])
    questions = Questions(**{f: getattr(questions, f) for f in questions.__slots__} | {"domain": domain})

    def drawn(**given: Any) -> np.ndarray[Any, Any]:
        outcome = select(of, questions, Select(near=False, traces=200, **given), no, lambda words: None)
        return np.flatnonzero(outcome.reason == SELECTED)

    evenly = Counter(domain[drawn(balance="domains")].tolist())
    assert all(25 <= evenly[f"d{d}"] <= 55 for d in range(5))
    assert Counter(domain[drawn()].tolist())["d0"] > 90
    longest = drawn(favour="longer")
    assert (longest >= 790).mean() > 0.95


# ---- how much texts and questions share


@given(st.lists(st.sampled_from([f"w{i}" for i in range(40)]), min_size=1, max_size=200), st.data())
def test_a_signature_is_blind_to_case_and_spaces_and_says_how_much_is_shared(
    words: list[str], data: st.DataObject
) -> None:
    text = " ".join(words)
    other = "  ".join(w.upper() if data.draw(st.booleans()) else w for w in words[:60]) + "\n" + " ".join(words[60:])
    assert (minhash.of_text(text) == minhash.of_text(other)).all()
    rest = data.draw(st.lists(st.sampled_from([f"w{i}" for i in range(40)]), min_size=1, max_size=200))
    a, b = ({tuple(w[i : i + 3]) for i in range(max(1, len(w) - 2))} for w in (words, rest))
    found = minhash.similarity(minhash.of_text(text)[None], minhash.of_text(" ".join(rest))[None])[0]
    assert abs(found - len(a & b) / len(a | b)) < 0.25  # five standard deviations and more


@given(st.text(st.characters(), max_size=200))
def test_words_are_what_the_expression_finds(text: str) -> None:
    assert minhash.words(text) == re.findall(r"\w+|[-+*/=^<>%|!]", text.casefold())


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_question_is_itself_and_likeness_goes_both_ways(a: str, b: str) -> None:
    x, y = QuestionFeatures(a), QuestionFeatures(b)
    assert same_question(x, x)
    assert same_question(x, y) == same_question(y, x)
    assert same_task(x, y) == same_task(y, x)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Problem 12. Find x.", "Find x."), ("23) Find x. [10 marks]", "Find x."), ("Exercise 4.2: Find x.", "Find x."),
        ("(5 points) Find x.", "Find x."), ("**Question 3.** Find x (4 pts).", "Find x"), ("3.5 litres of milk", None),
        ("1,000 birds. Find x.", None), ("He won 5 points", None), ("7.", None), ("2020 people came.", None),
    ],
)  # fmt: skip
def test_a_number_on_a_sheet_is_no_part_of_a_question(text: str, rest: str | None) -> None:
    assert unnumbered(text).strip() == (rest or text)


# ---- files and kills


def test_a_sketch_file_that_is_not_whole_is_not_read(tmp_path: Path) -> None:
    path = write_file(tmp_path, np.zeros(3, ATTEMPT), Notes(faults={1: ("refusal", "no")}))
    whole = path.read_bytes()
    read = read_file(path, "attempts")
    assert read is not None
    assert len(read[0]) == 3
    for broken in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole.replace(b"refusal", b"Refusal"),
        b"",
        b"\n\n",
        whole[:-1] + b"\1",
    ):
        path.write_bytes(broken)
        assert read_file(path, "attempts") is None


def test_a_kill_while_selecting_loses_nothing_and_changes_nothing(imports: Imports) -> None:
    """So many answers are read by other processes, which end with the one that was killed."""
    rows = [row(f"q{a}", a, 4) for a in range(10, 10 + 2100)]
    rows += [row(f"copy{a}", a, 4, chain=CHAIN.format(a=a, b=4, c=a + 4) + " Yes.") for a in range(10, 10 + 100)]
    imports.run("import", imports.file("a.jsonl", rows), "--name", "r")
    whole = outcomes(imports)
    assert Counter(whole.values()) == {"": 2100, "near_duplicate": 100}
    with Store.open(f"sqlite:///{imports.store}") as store, store.transaction():
        store.db.execute("DELETE FROM selection_outcome")
        store.db.execute("DELETE FROM selection")
    sketches = Path(f"{imports.store}.sketches")
    for path in sketches.rglob("*.sketch"):
        path.unlink()
    process = imports.start("select", "r")
    deadline = time.monotonic() + 100
    while not list(sketches.rglob("[0-9]*.sketch")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert outcomes(imports) == {}
    before = {str(p): p.stat().st_mtime_ns for p in sketches.rglob("[0-9]*.sketch")}
    assert before
    torn = next(sketches.rglob("[0-9]*.sketch")).with_name("00000099.sketch")
    torn.write_bytes(b"torn")
    imports.run("select", "r")
    assert outcomes(imports) == whole
    assert not torn.exists()
    after = {str(p): p.stat().st_mtime_ns for p in sketches.rglob("[0-9]*.sketch")}
    assert before.items() <= after.items()  # what was read before the kill was not read again


def test_what_the_page_says_of_a_question_is_so() -> None:
    """docs/selection.md, "What is a duplicate". Its row on gold answers is tested above, by `another gold`."""
    lines = (ROOT / "docs/selection.md").read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| the same as"))
    asked = lines[start].split('"')[1]
    found = [line.strip("| ").split(" | ") for line in lines[start + 2 :]]
    rows = [(text.strip("`"), says) for text, says in (f for f in found[: found.index([""])] if len(f) == 2)]
    assert len(rows) == 4
    for text, says in rows:
        if not text.startswith("the same words"):
            assert same_question(QuestionFeatures(asked), QuestionFeatures(text)) == (says == "yes"), text


def test_an_evaluation_with_columns_of_other_names_is_read_by_their_setting(imports: Imports, tmp_path: Path) -> None:
    from harvest.core.errors import QuestionError
    from harvest.selection.decontamination import evaluations_of

    (tmp_path / "bench.jsonl").write_text(
        '{"instruction": "How many legs have 6 spiders and 2 dogs together?", "output": "56"}\n' * 2
    )
    with pytest.raises(QuestionError, match="the nearest column is 'instruction'"):
        evaluations_of(["bench.jsonl"], tmp_path)
    (found,) = evaluations_of(["bench.jsonl"], tmp_path, {"question": "instruction", "answer": "output"})
    assert found.asked_in("How many legs have 6 spiders and 2 dogs together?")
    assert not found.asked_in("How many legs have 7 spiders and 9 dogs together?")
