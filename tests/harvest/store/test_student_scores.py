"""Scores of a run's answers by students: each answer is read with its own score, and the newest scoring counts."""

from pathlib import Path

from stores import NOW, reply, reserved, store_with_a_run

from harvest.store import StudentScore


def test_each_answer_is_read_with_its_own_score_by_the_newest_student(tmp_path: Path) -> None:
    with store_with_a_run(tmp_path) as store:
        attempts = []
        for n in range(3):
            store.settle(reserved(store, n).try_id, reply(str(n)), 1, "config", NOW)
            attempts.append(n + 1)
        assert store.scoring_of(1) is None
        assert [a.score for a in store.answered_attempts(1, "all")] == [None] * 3
        old = store.begin_scoring(1, "old", "sha256:a", "think", NOW)
        new = store.begin_scoring(1, "new", "sha256:b", "think", NOW)
        assert store.begin_scoring(1, "new", "sha256:b", "think", NOW) == new
        store.put_scores(old, [(attempts[0], 9, 9.0, 90)])
        store.put_scores(new, [(attempts[0], 10, 5.0, 20), (attempts[2], 0, None, None)])
        assert store.unscored(1, new, "all") == [attempts[1]]
        assert store.unscored(1, new, "accepted") == []
        first = StudentScore("new", "sha256:b", 10, 5.0, 20)
        cannot = StudentScore("new", "sha256:b", 0, None, None)
        assert [a.score for a in store.answered_attempts(1, "all")] == [first, None, cannot]
        assert dict(store.student_scores(new)) == {attempts[0]: first, attempts[2]: cannot}
        assert {s.student for s in store.scores_of(attempts[0])} == {"old", "new"}
        assert (store.scoring_of(1, "old"), store.scoring_of(1)) == (old, new)
        assert store.scored_students(1) == ["new", "old"]


def test_the_means_of_a_score_are_over_its_tokens_and_none_where_there_are_none() -> None:
    score = StudentScore("s", "sha256:b", 10, 5.0, 20)
    assert (score.surprisal, score.rank, score.rsr, score.means) == (0.5, 2.0, 4.0, (2.0, 0.5))
    cannot = StudentScore("s", "sha256:b", 0, None, None)
    assert (cannot.surprisal, cannot.rank, cannot.rsr, cannot.means) == (None, None, None, None)
