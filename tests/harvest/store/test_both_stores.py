"""Every statement says the same in SQLite and in PostgreSQL: one store full of everything, in both, and back again."""

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from postgres import cluster
from stores import NOW, question, reply

from harvest.core.errors import Cut, Late, Passing, StoreUnusable
from harvest.core.nouns import (
    HUMAN,
    STUDENT,
    Ask,
    Claim,
    Outcome,
    Question,
    RewrittenBy,
    TokenLogprobs,
    Verdict,
)
from harvest.store import JudgedBy, RowSettlement, RowToSend, Sent, Store
from harvest.store.copying import TABLES
from harvest.store.databases.postgresql_schema import FIRST_VERSION
from harvest.store.databases.postgresql_schema import MIGRATIONS as ON_A_SERVER
from harvest.store.databases.schema import MIGRATIONS

MOMENTS = [f"2026-11-24T12:{n // 60:02d}:{n % 60:02d}.{n % 7}00Z" for n in range(1000)]
SETTINGS: dict[str, Any] = {
    "teacher": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}, "sampling": {"samples": 2}, "prompt_text": "p",
    "questions": ["q.jsonl"], "base": "/", "select": {"pool": "all"}, "budget": {"usd": "1.00"},
}  # fmt: skip


def fill(store: Store, name: str = "r", seed: int = 7) -> int:
    """Puts a run into an empty store that has rows in every table and of every kind. Its id."""
    chance = random.Random(seed)
    with store.transaction():
        run = store.put_run(name, SETTINGS, 10**9, MOMENTS[0])
        for n in range(30):
            more = {"domain": ("maths", None, "ünï")[n % 3], "source": (None, "a", "B")[n % 3], "licence": "MIT"}
            store.put_question(run, question(n).model_copy(update=more), ("x", "Y", "z")[n % 3])
        store.put_question(run, Question(id="nul", question="a \0 b", answer="1", check="text", domain="zero"))
        session = store.begin_session(run, MOMENTS[1])
    rows = {q.question.id: q.id for q in store.open_questions(run, 0, 100)}
    attempts = []
    for n, (key, row) in enumerate(rows.items()):
        for place, sample in ((0, 0), (0, 1), (1, 0), (STUDENT, 0)):
            if (attempt := one_try(store, chance, run, row, f"{key}-{place}-{sample}", Ask(sample, 100, place), n)) > 0:
                attempts.append((attempt, row, place))
    for attempt, row, place in attempts:
        with store.transaction():
            judge(store, chance, run, attempt, row, place)
    cut = next(a for a, _, place in attempts if place == 0)
    with store.transaction():
        last = store.reserve(run, rows["q0"], Ask(0, 200, 0, continues=cut), "rest", 5, MOMENTS[500])
        assert isinstance(last, Sent)
        store.settle(last.try_id, replace(reply("the rest", 3), reasoning=None), 3, "config", MOMENTS[501])
        store.put_verdicts(last.attempt_id, [Verdict("math", "1", Outcome.RIGHT, "")], True, None, MOMENTS[502])
        store.was_late(cut, 12.5)
        store.add_event(run, "quote", {"n": [1.5, None]}, MOMENTS[3])
        store.add_event(run, "verify", {"since": store.newest_verdict(), "again": False}, MOMENTS[4])
        store.put_selection(
            run, f"key of {name}", {"pool": "accepted"}, {"unselected": {"near": 1}},
            [
                (a, *((None, None, None) if n % 3 else ("near", attempts[0][0], "is alike")), RewrittenBy(n % 4))
                for n, (a, _, place) in enumerate(attempts) if place != STUDENT
            ],
            MOMENTS[600],
        )  # fmt: skip
        for row, end in zip(list(rows.values())[:20], ["solved", "given_up", "student_solved"] * 7, strict=False):
            store.close_question(row, end)
        rows_to_send = [RowToSend(rows[f"q{n}"], Ask(5, 100), f"{name}-b{n}", 10) for n in range(25, 29)]
        batch = store.reserve_batch(run, 0, f"batch of {name}", rows_to_send, MOMENTS[700])
        assert batch is not None
        store.batch_uploaded(batch.id, "file-1")
        store.batch_created(batch.id, "batch-1", MOMENTS[701])
        first = store.unsettled_tries(batch.id)[0]
        store.settle_rows([RowSettlement(first.try_id, reply("b"), None, 4, "config")], MOMENTS[702])
        store.end_session(session, "complete", 12, "cap", MOMENTS[800], "balance")
        store.begin_session(run, MOMENTS[801])
        unsettled = store.reserve(run, rows["q29"], Ask(9, 100), f"{name}-sent", 10, MOMENTS[802])
        assert isinstance(unsettled, Sent)
    store.put_training(name, "t", {"cost_usd": "1.20"})
    store.put_training_points(name, "t", [{"step": n, "loss": 1 / (n + 1)} for n in range(4)])
    store.put_evaluation(name, "e", {"label": "before"})
    answer = {"outcome": "right", "finish_reason": None, "output_tokens": 4, "cost_pusd": None, "text": "x"}
    store.put_evaluation_answers(name, "e", [{"question_id": q, "sample": 0, **answer} for q in ("b", "B", "a")])
    return run


def one_try(store: Store, chance: random.Random, run: int, row: int, key: str, ask: Ask, n: int) -> int:
    """Makes one attempt with some try, whatever becomes of it. The attempt's id if it has an answer, else 0."""
    at = iter(sorted(chance.sample(range(10, 400), 8)))
    with store.transaction():
        sent = store.reserve(run, row, ask, f"{run}-{key}", 900, MOMENTS[next(at)], free=ask.teacher == STUDENT)
        assert isinstance(sent, Sent)
        cost = chance.randrange(800)
        answer = replace(
            reply(f"answer {chance.randrange(5)}", cost), served_model=chance.choice([None, "m", "M-2"]),
            served_by=chance.choice([None, "p"]), response_id=f"id-{n}", finish_reason="stop",
            claims=(Claim("usage", "said so"),) if n % 5 == 0 else (),
            logprobs=TokenLogprobs(b"\0\0\0\0", None, 0, b"", b"", {}) if n % 6 == 0 else None,
        )  # fmt: skip
        became = chance.choice(["answered"] * 6 + ["late", "passing", "cut", "unpriced", "failed", "dear"])
        match became:
            case "late":
                store.settle_failure(sent.try_id, Late("too \0 late"), None, None, "config", MOMENTS[next(at)])
                store.fail_attempt(sent.attempt_id, Late.kind)
            case "passing":
                store.settle_failure(sent.try_id, Passing("503"), None, None, "config", MOMENTS[next(at)])
            case "cut":
                store.settle_failure(sent.try_id, Cut("cut"), reply("half"), None, "config", MOMENTS[next(at)])
                store.settle_doubt(sent.try_id, 70, "user", MOMENTS[next(at)])
            case "failed":
                store.settle_failure(sent.try_id, Cut("cut"), None, None, "config", MOMENTS[next(at)])
            case _:
                known = None if became == "unpriced" else 1000 if became == "dear" else cost
                store.settle(sent.try_id, answer, known, "config", MOMENTS[next(at)])
                return sent.attempt_id
    return 0


def judge(store: Store, chance: random.Random, run: int, attempt: int, row: int, place: int) -> None:
    """Gives an answered attempt verdicts of all kinds."""
    outcome = chance.choice([Outcome.RIGHT, Outcome.WRONG, Outcome.TIMEOUT])
    said = [Verdict("math", "1", outcome, "detail", 0.5), Verdict("format", "2", Outcome.RIGHT, "")]
    right = outcome is Outcome.RIGHT
    reason = None if right else chance.choice(["wrong", "truncated", "format", "no_answer"])
    if chance.random() < 0.9:
        store.put_verdicts(attempt, said, right, reason, MOMENTS[450])
    if place == STUDENT or chance.random() < 0.6:
        return
    for kind, check in (("judge", "judge"), ("rewriter", "rewriting")):
        asked = store.reserve(
            run, row, Ask(0, 50, 0, attempt, kind == "rewriter"), f"{kind}-{attempt}", 9, MOMENTS[460]
        )
        assert isinstance(asked, Sent)
        store.settle(asked.try_id, reply("rewritten", 5), 5, "config", MOMENTS[461])
        spoke = Verdict(check, "1", chance.choice([Outcome.RIGHT, Outcome.WRONG]), "why")
        store.put_verdicts(attempt, [spoke], right, reason, MOMENTS[462])
    store.put_mark(attempt, Verdict(HUMAN, "1", Outcome.RIGHT, "yes"), True, None, MOMENTS[463])


def everything(store: Store, run: int) -> dict[str, Any]:
    """What every reading method says of a run."""
    ids = list(store.listed(run).id)
    rows = [row for row, _, _ in store.question_labels(run)]
    names = store.some_question_names(run, 100)
    (batch,) = store.open_batches(run)
    keys = [key for a in ids if (key := store.key_of(a))]
    unless = JudgedBy({"math": "1", "text": "1"}, {"format": "3"}, {"format": "format"})
    return {
        "figures": store.figures(run), "listed": store.listed(run), "labels": list(store.question_labels(run)),
        "answered": {which: list(store.answered_attempts(run, which)) for which in ("all", "accepted", "selected")},
        "of": list(store.answered_attempts_of(run, ids[::3])), "stories": [store.story(run, name) for name in names],
        "one": [store.one_story(a) for a in ids], "first": store.first_attempt(run),
        "words": {w: store.attempts_with(run, w, 0, lambda: False) for w in ("rewrit", "ANSWER 3", "q1", "\0")},
        "doubts": [store.doubts(run, unsettled_too=too) for too in (True, False)], "booked": store.booked_by_asked(run),
        "counts": store.counts(run), "open": store.open_questions(run, 3, 9),
        "few": store.open_questions(run, 0, 9, rows[::2]),
        "drawn": store.drawn_questions(run, 5, "s"), "strata": store.strata(run), "turns": store.open_strata(run),
        "in_stratum": store.open_in_stratum(run, 0, "Y", 0, 5), "outcomes": store.stratum_outcomes(run),
        "to_judge": [store.stored_answers(run, u, limit=40) for u in (None, unless)],
        "n_to_judge": [store.count_stored_answers(run, u) for u in (None, unless)],
        "opinions": store.opinions(ids), "marks": store.marks(ids), "marked": list(store.marked_answers(run)),
        "rejudged": list(store.rejudged(run, 20)), "newest": store.newest_verdict(),
        "pool": [list(store.selection_pool(run, pool)) for pool in ("accepted", "all")],
        "failed": list(store.failed_shares(run)), "unselected": store.unselected(run),
        "outcome": [store.outcome_of(run, a) for a in ids], "texts": list(store.selection_texts(ids)),
        "rewritings": [store.rewritings(ids, kept=kept) for kept in (True, False)],
        "logprobs": [store.token_logprobs(a) for a in ids], "held": store.logprobs_held(run),
        "picks": store.picks(run, 4, "seed"),
        "origins": [store.origins(run, of) for of in ("source", "licence", "domain")],
        "asked": store.asked_tries(run, rows), "bought": store.bought_attempts(run, rows[::2]),
        "ended": store.ended_among(run, rows), "moments": store.moments(run), "lengths": store.lengths(run),
        "judged_by": [store.question_judged_by(run, check) for check in ("text", "code")],
        "batch": [store.room_pusd(run), batch, store.held_in_batches(run), store.batch_tries(batch.id, keys)],
        "in_batch": [store.unsettled_ids(batch.id), store.unsettled_tries(batch.id, 1, 2), store.first_try(batch.id)],
        "batches": [store.in_batches([*keys, f"{store.run(run).name}-b26"]), store.in_open_batches(list(range(300)))],
        "since": store.tries_since(list(range(300)), MOMENTS[600]), "attempts": store.attempts_of_all(rows),
        "evaluations": store.evaluations(run), "answers": store.evaluation_answers(store.run(run).name, "e"),
        "curves": store.curves(run), "events": [store.events(run, kind) for kind in ("quote", "nothing")],
        "bodies": list(store.question_bodies(rows)), "names": store.run_names(), "began": store.run_began(run),
        "verified": store.events(run, "verify"), "money": store.money(run), "rejections": store.rejections(run),
    }  # fmt: skip


def written(store: Store, run: int) -> dict[str, Any]:
    """What stands there after every writing method that an earlier row may decide about."""
    with store.transaction():
        store.count_turns(run)
        store.reopen(run, {0: 20.0, 1: 0.5, STUDENT: 1.0})
        store.put_back(store.open_questions(run, 0, 1)[0].id)
        store.put_question(run, question(99))
        batch = store.open_batches(run)[0]
        store.lower_reserve(store.unsettled_ids(batch.id)[0], 3)
        again = next(a for a in store.listed(run).id if store.answer_of(a))
        reused = store.reuse(run, store.open_questions(run, 0, 1)[0].id, Ask(3, 100), store.key_of(again) or "")
        assert reused is not None
        store.begin_session(run, MOMENTS[900])
    store.put_training("r", "t", {"cost_usd": "2.00"})
    store.put_training_points("r", "t", [{"step": 2, "loss": 9.0}], since=1)
    store.put_evaluation("r", "e", {"label": "after"})
    store.shelve([(question(3), "hash 3"), (question(4), "hash 4")])
    assert store.shelved(["none", "q4"], None) == question(4)
    assert store.shelved(["none"], "hash 3") == question(3)
    assert store.claim(run, question(98)) is True
    assert store.claim(run, question(98).model_copy(update={"answer": "7"})) is False
    assert store.has_attempt(run, "rest")
    with store.transaction():
        store.put_bought(run, question(98), "bought", reply("in", 7), 7, "log", None, MOMENTS[901])
        store.reopen_failed(run)
    with store.transaction():
        assert store.put_question(run, question(99)) is False
        store.reopen_all("r")
    return everything(store, run)


def plain(value: Any) -> Any:
    """The value without what differs between the stores by intention: a server's text holds no character 0."""
    if is_dataclass(value) and not isinstance(value, type):
        return {k: plain(v) for k, v in asdict(value).items()}
    if isinstance(value, dict):
        return {k if isinstance(k, tuple) else plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if isinstance(value, bool):
        return int(value)
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


WITHOUT_IDS = (
    "booked", "counts", "strata", "turns", "outcomes", "n_to_judge", "unselected", "held", "origins", "moments",
    "lengths", "evaluations", "answers", "curves", "events", "names", "began", "money", "rejections",
)  # fmt: skip
"""What of `everything` holds no ids: a process on a server takes new ids some at a time."""


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """The same store in a file and on a server, made by copying."""
    with Store.open(f"sqlite:///{tmp_path / 'a.db'}") as file, Store.open(cluster().database()) as server:
        fill(file)
        file.copy_to(server, ["r"], lambda _: None)
        yield file, server


def test_every_reading_method_says_the_same(both: tuple[Store, Store]) -> None:
    ours, theirs = (everything(store, 1) for store in both)
    for name in ours:
        assert plain(ours[name]) == plain(theirs[name]), name
        assert repr(plain(ours[name])) == repr(plain(theirs[name])), f"the order, or the types, of {name}"


def test_every_writing_method_leaves_the_same(both: tuple[Store, Store]) -> None:
    ours, theirs = (written(store, 1) for store in both)
    for name in ours:
        assert plain(ours[name]) == plain(theirs[name]), name


def test_a_store_is_filled_alike_in_both(tmp_path: Path) -> None:
    """The same calls from the first on, and not a copy."""
    with Store.open(f"sqlite:///{tmp_path / 'a.db'}") as file, Store.open(cluster().database()) as server:
        ours, theirs = (everything(store, fill(store)) for store in (file, server))
        for name in WITHOUT_IDS:
            assert plain(ours[name]) == plain(theirs[name]), name


def test_both_have_the_same_tables_and_versions(both: tuple[Store, Store]) -> None:
    file, server = both
    assert FIRST_VERSION - 1 + len(ON_A_SERVER) == len(MIGRATIONS)
    tables = {r["name"] for r in file.db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert tables == {"run", *(t.name for t in TABLES)}, "a table that copying does not know"
    for table in tables:
        columns = {r["name"] for r in file.db.execute(f"PRAGMA table_info({table})")}
        on_a_server = server.db.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = ?", (table,)
        )
        assert {r["column_name"] for r in on_a_server} == columns
        known = next((t for t in TABLES if t.name == table), None)
        if known is not None:
            assert {*known.columns} | ({"id"} if known.has_id else set()) | (
                {"answer_try"} if table == "attempt" else set()
            ) == columns


def test_runs_come_back_with_what_they_need_and_new_ids(tmp_path: Path) -> None:
    """A second run uses an answer of the first, and a third one spends under the first one's cap."""
    url = cluster().database()
    with Store.open(f"sqlite:///{tmp_path / 'a.db'}") as file, Store.open(url) as server:
        first = fill(file)
        with file.transaction():
            second = file.put_run("second", SETTINGS, None, NOW)
            file.put_question(second, question(1))
            (row,) = (q.id for q in file.open_questions(second, 0, 9))
            answered = next(a for a in file.listed(first).id if file.answer_of(a))
            assert file.reuse(second, row, Ask(0, 100), file.key_of(answered) or "") is not None
            file.put_run("third", {}, 5, NOW, under="r")
            file.put_run("alone", {}, 5, NOW)
        fill(server, "there already", seed=8)
        assert file.with_what_it_needs("second") == ["r", "second", "third"]
        assert file.with_what_it_needs("alone") == ["alone"]
        file.copy_to(server, file.with_what_it_needs("second"), lambda _: None)
        with pytest.raises(StoreUnusable, match="has a run 'r' already; nothing was copied"):
            file.copy_to(server, ["alone", "r"], lambda _: None)
        assert server.find_run("alone") is None
        copied = server.run_id("second")
        (story,) = (server.story(copied, "q1"),)
        assert story is not None
        assert story.attempts[0].reply == file.answer_of(answered)
        since = server.events(server.run_id("r"), "verify")[0]["since"]
        assert since == max(r[0] for r in server.db.execute("SELECT max(id) FROM verdict")), "the newest verdict"
        assert len(list(server.rejudged(server.run_id("r"), since))) == 0
        mine, theirs = plain(file.figures(first)), plain(server.figures(server.run_id("r")))
        for figures in (mine, theirs):
            figures["run"].pop("id")
            for bought in figures["bought"]:
                del bought["question_id"], bought["attempt"]["id"], bought["attempt"]["continues"]
        assert mine == theirs


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path / 'a.db'}") as file, Store.open(cluster().database()) as server:
        fill(file)

        def stop(rows: int) -> None:
            if rows > 100:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            file.copy_to(server, ["r"], stop)
        assert server.all_run_names() == []
        file.copy_to(server, ["r"], lambda _: None)
        assert server.all_run_names() == ["r"]


@pytest.mark.parametrize("call", [Store.counts, Store.figures], ids=["counts", "figures"])
def test_a_server_that_is_gone_is_one_line(call: Callable[[Store, int], object]) -> None:
    from postgres import Cluster, programs

    folder = programs()
    cluster()
    assert folder is not None
    own = Cluster(folder)
    with Store.open(own.database()) as store:
        run = fill(store)
        store.close()
        with Store.open(store.url, write=False) as reader:
            own.end()
            with pytest.raises(StoreUnusable, match=r"store postgresql://postgres@127.0.0.1:\d+/t\d+: "):
                call(reader, run)


def test_public_answers_are_taken_and_withdrawn_alike_in_both(tmp_path: Path) -> None:
    origin = {"set": "S", "card": None, "licence": "mit", "teacher": "T", "row": "row 1"}
    public = replace(reply("\\boxed{1}"), served_model="T", extra={"public": origin})
    said = []
    for url in (f"sqlite:///{tmp_path / 'a.db'}", cluster().database()):
        with Store.open(url) as store, store.transaction():
            run, shelf = (store.put_run(name, SETTINGS, None, NOW) for name in ("r", "r-public"))
            for n in range(3):
                store.put_question(run, question(n))
            asked = store.lookup_questions(run, 0, 2)
            new = [store.put_public(run, shelf, row, q, f"public {q.id}", public, NOW) for row, q in [*asked, asked[0]]]
            taken = list(store.public_attempts(run))
            store.put_verdicts(taken[0].id, [Verdict("math", "1", Outcome.RIGHT, "")], True, None, NOW)
            for row, _ in asked:
                store.close_question(row, "solved")
            before = store.figures(run)
            store.withdraw(taken[:1])
            after, open_again = store.figures(run), [q.id for _, q in store.lookup_questions(run, 0, 9)]
            again = store.put_public(run, shelf, *asked[0], "public q0", public, NOW)
            counts = (before.tries.reused, before.asked, after.tries.reused, after.money.spent, len(before.bought))
            ended = len(before.ended)
            read = [plain(one) for one in (*taken, *store.public_attempts(run))]
            said.append((new, again, open_again, [*before.public, *after.public], counts, read))
    assert said[0] == said[1]
    new, again, open_again, figures, counts, _ = said[0]
    assert (new, again, open_again) == ([True, True, False], True, ["q0", "q2"])
    assert [(one.answers, one.accepted, one.questions) for one in figures] == [(2, 1, 1), (1, 0, 0)]
    assert counts == (2, 0, 1, 0, 0)
    assert ended == 1, "a forecast does not go by what a public answer solved"


def test_a_store_of_an_older_version_on_a_server_is_brought_up_to_date() -> None:
    url = cluster().database()
    with Store.open(url) as store:
        store.db.execute("DROP TABLE committed")
        store.db.execute("UPDATE winnow SET version = ?", (FIRST_VERSION,))
    with pytest.raises(StoreUnusable, match="made by an older winnow"):
        Store.open(url, write=False)
    with Store.open(url) as store, store.transaction():
        store.put_run("r", SETTINGS, None, NOW)
    with Store.open(url, write=False) as store:
        assert store.find_run("r") is not None
