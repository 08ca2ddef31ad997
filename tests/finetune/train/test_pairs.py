"""Which two answers to a question make a preference pair."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.recipe import Prefer

pytest.importorskip("transformers", reason="needs the extra `train`")

from finetune.train.preference.pairs import KINDS, Answer, counted, pairs_of, possible_pairs

ANSWERS = st.lists(
    st.builds(Answer, st.sampled_from("abcdef"), st.integers(1, 6), st.sampled_from(["right", "wrong"])), max_size=40
)


def test_the_shortest_right_is_over_the_longest_right_and_a_longer_right_over_the_shortest_wrong() -> None:
    lengths = ((30, "right"), (10, "right"), (20, "right"), (12, "wrong"), (15, "wrong"), (40, "wrong"))
    answers = [Answer("q", tokens, outcome) for tokens, outcome in lengths]  # type: ignore[arg-type]
    assert possible_pairs(answers) == [(1, 0, "shorter"), (2, 3, "longer")]
    assert possible_pairs(answers * 2) == possible_pairs(answers), "of equally long answers the first one counts"


@given(ANSWERS)
def test_a_pair_is_of_one_question_and_prefers_what_its_kind_says(answers: list[Answer]) -> None:
    found = possible_pairs(answers)
    assert len({(answers[p.chosen].question_id, p.kind) for p in found}) == len(found), "one of a kind for a question"
    for chosen, rejected, kind in ((answers[p.chosen], answers[p.rejected], p.kind) for p in found):
        assert chosen.question_id == rejected.question_id
        assert chosen.outcome == "right"
        of = [a for a in answers if a.question_id == chosen.question_id]
        right = [a.tokens for a in of if a.outcome == "right"]
        wrong = [a.tokens for a in of if a.outcome == "wrong"]
        if kind == "shorter":
            assert (chosen.tokens, rejected.tokens) == (min(right), max(right))
            assert rejected.outcome == "right"
            assert min(right) < max(right)
        else:
            assert rejected.outcome == "wrong"
            assert rejected.tokens == min(wrong)
            assert chosen.tokens == min(t for t in right if t > rejected.tokens)


@given(ANSWERS)
def test_no_pair_is_missed(answers: list[Answer]) -> None:
    found = {(answers[p.chosen].question_id, p.kind) for p in possible_pairs(answers)}
    for question in {a.question_id for a in answers}:
        right = [a.tokens for a in answers if a.question_id == question and a.outcome == "right"]
        wrong = [a.tokens for a in answers if a.question_id == question and a.outcome == "wrong"]
        assert ((question, "shorter") in found) == (len(set(right)) > 1)
        assert ((question, "longer") in found) == bool(right and wrong and max(right) > min(wrong))


@given(ANSWERS, st.floats(0, 0.9), st.none() | st.integers(1, 9), st.integers(0, 3))
def test_proportions_are_kept_and_the_seed_chooses(
    answers: list[Answer], share: float, most: int | None, seed: int
) -> None:
    prefer = Prefer(wrong_share=share, most_pairs=most)
    possible, found = possible_pairs(answers), pairs_of(answers, prefer, seed)
    assert found == pairs_of(answers, prefer, seed)
    assert [p for p in possible if p in found] == found, "in the order of the questions"
    there, counts = counted([p.kind for p in possible]), counted([p.kind for p in found])
    assert len(found) <= (most or len(possible))
    assert counts["longer"] <= there["shorter"] / (1 - share) * share + 0.5
    if most is None:
        assert counts["shorter"] == there["shorter"]
    if not share:
        assert not counts["longer"]
    assert set(counts) == set(KINDS)


def test_the_default_proportions_are_sky_t1_flashs() -> None:
    answers = [Answer(str(q), n, o) for q in range(900) for n, o in ((1, "wrong"), (2, "right"), (3, "right"))]  # type: ignore[arg-type]
    assert counted([p.kind for p in pairs_of(answers, Prefer(), 0)]) == {"shorter": 900, "longer": 100}
    assert counted([p.kind for p in pairs_of(answers, Prefer(most_pairs=50), 0)]) == {"shorter": 45, "longer": 5}


def row(question: int, text: str, reason: str | None, **more: object) -> dict[str, object]:
    """A row of an export of every answer. `text` is the chain."""
    return {
        "messages": [
            {"role": "user", "content": f"What is {question} + 1?"},
            {"role": "assistant", "content": f"<think>\n{text}\n</think>\n\n{question + 1}"},
        ],
        "question_id": f"q{question}", "accepted": reason is None, "reason": reason, **more,
    }  # fmt: skip


def test_the_details_of_an_evaluation_are_answers_too(tmp_path: Path) -> None:
    from finetune.train.preference.attempts import attempts

    outcomes = ("right", "wrong", "unfinished", "looping", "no_answer", "error")
    rows = [{"messages": row(1, "so", None)["messages"], "question_id": "q1", "outcome": o} for o in outcomes]
    data = tmp_path / "own.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert attempts(str(data), None, Prefer()).outcomes == ("right", "wrong")
    cut = attempts(str(data), None, Prefer(truncated_is_wrong=True))
    assert cut.outcomes == ("right", "wrong", "wrong")
    assert cut.unused == {"looping": 1, "no_answer": 1, "error": 1}


def test_rows_of_an_export_are_right_wrong_or_neither(tmp_path: Path) -> None:
    from students import smol_tokenizer, tiny_student

    from finetune.recipe import Recipe, Render
    from finetune.train.preference.attempts import attempts, preference_pairs
    from harvest.core.errors import DatasetError

    rows = [
        row(1, "so so so", None), row(1, "so", None), row(1, "so so", "wrong"),
        row(2, "so", "wrong"), row(2, "so so", None, unselected="not_chosen"),
        row(3, "so", None, unselected="contaminated"), row(3, "so so", None, unselected="contaminated"),
        row(4, "so", "truncated", finish_reason="length"), row(4, "so so", "repetition"), row(4, "so so so", None),
    ]  # fmt: skip
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = attempts(str(data), None, Prefer())
    assert found.outcomes == ("right", "right", "wrong", "wrong", "right", "right")
    assert found.unused == {"contaminated": 2, "truncated": 1, "repetition": 1}
    student = str(tiny_student(tmp_path / "student"))

    def recipe(**prefer: object) -> Recipe:
        given = {"student": student, "data": str(data), "output": str(tmp_path / "out"), "prefer": prefer}
        return Recipe.model_validate(given)

    pairs = preference_pairs(recipe(wrong_share=0.5), None, smol_tokenizer())
    assert pairs.counts()["pairs"] == {"shorter": 1, "longer": 1}
    assert pairs.counts()["answers"] == {"right": 4, "wrong": 2}
    one_right = recipe().model_copy(update={"data": str(tmp_path / "one.jsonl")})
    (tmp_path / "one.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[3]) + "\n")
    with pytest.raises(DatasetError, match=r"two right answers of different lengths \(at most 1 right\)"):
        preference_pairs(one_right, None, smol_tokenizer())
    [of_one, _] = list(pairs.examples)
    decoded, at = smol_tokenizer().decode(of_one.ids), pairs.examples.table["chosen_tokens"][0].as_py()
    assert decoded.count("<think>\nso\n</think>") == decoded.count("<think>\nso so so\n</think>") == 1
    trained = [
        smol_tokenizer().decode([i for i in side if i != -100]) for side in (of_one.labels[:at], of_one.labels[at:])
    ]
    assert trained == ["<think>\nso\n</think>\n\n2<|im_end|>", "<think>\nso so so\n</think>\n\n2<|im_end|>"]
    refusing = recipe().model_copy(update={"render": Render(max_tokens=45, too_long="refuse")})
    with pytest.raises(DatasetError, match=r"6 answers are longer than render\.max_tokens"):
        preference_pairs(refusing, None, smol_tokenizer())
    cut = preference_pairs(recipe(wrong_share=0.9, truncated_is_wrong=True), None, smol_tokenizer())
    assert cut.counts()["answers"]["wrong"] == 3
    assert set(cut.examples.question_ids) == {"q1", "q2", "q4"}
