"""The checks choice, text and reasoning-gym, and which check applies to a row."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvest.checks import CheckPool, check_name_for, gold_problems
from harvest.core.nouns import Outcome, Question


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    with CheckPool(workers=2) as started:
        yield started


def ask(gold: str, question: str = "How many?", check: str = "math", **more: object) -> Question:
    return Question.model_validate({"id": "1", "question": question, "answer": gold, "check": check, **more})


# ---- choice, text, reasoning-gym

OPTIONS = "Who is first?\nOptions:\n(A) Ana\n(B) Ben\n(C) Cara"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("The answer is (B).", Outcome.RIGHT),
        ("So the answer is B", Outcome.RIGHT),
        (r"\boxed{B}", Outcome.RIGHT),
        (r"\boxed{\text{(B)}}", Outcome.RIGHT),
        (r"\boxed{\text{B) Ben}}", Outcome.RIGHT),
        ("**Answer: (B) Ben**", Outcome.RIGHT),
        ("Answer: Ben", Outcome.RIGHT),
        ("The correct option is B.", Outcome.RIGHT),
        ("(A) and (C) are out.\n\n(B)", Outcome.RIGHT),
        ("b", Outcome.RIGHT),
        ("The answer is (C).", Outcome.WRONG),
        ("The answer is (B) or (C).", Outcome.WRONG),
        (r"\boxed{A} or \boxed{B}", Outcome.WRONG),
        (r"\boxed{B, C}", Outcome.WRONG),
        ("Answer: (B) Cara", Outcome.WRONG),
        ("Answer: Dan", Outcome.WRONG),
        ("Both Ana and Ben could be first.", Outcome.NO_ANSWER),
        ("A runner finishes first.", Outcome.NO_ANSWER),
        (r"\boxed{B", Outcome.NO_ANSWER),
        ("", Outcome.NO_ANSWER),
    ],
)
@pytest.mark.parametrize("gold", ["(B)", "B", "Ben"])
def test_a_choice_is_one_letter_or_its_words(pool: CheckPool, gold: str, answer: str, outcome: Outcome) -> None:
    listed = pool.check_now(ask(gold, OPTIONS, "choice"), answer)
    assert listed.outcome is outcome, listed.detail
    given = pool.check_now(ask(gold, "Who is first?", "choice", choices=["Ana", "Ben", "Cara"]), answer)
    assert given.outcome is outcome, given.detail


CONTEST = r"How many?\n$\textbf{(A)}\ 3\qquad\textbf{(B)}\ \frac{5}{2}\qquad\textbf{(C)}\ 9$"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (r"\boxed{B}", Outcome.RIGHT),
        (r"\boxed{\textbf{B}}", Outcome.RIGHT),
        (r"\boxed{\textbf{(B)}\ \frac{5}{2}}", Outcome.RIGHT),
        (r"\boxed{5/2}", Outcome.RIGHT),
        ("The answer is (B).", Outcome.RIGHT),
        (r"\boxed{C}", Outcome.WRONG),
        (r"\boxed{\textbf{(B)}\ 3}", Outcome.WRONG),
        (r"\boxed{9}", Outcome.WRONG),
    ],
)
def test_options_of_a_contest_stand_on_one_line(pool: CheckPool, answer: str, outcome: Outcome) -> None:
    gold = r"\textbf{(B)}\ \frac{5}{2}"
    assert check_name_for({"question": CONTEST, "answer": gold}) == "choice"
    said = pool.check_now(ask(gold, CONTEST, "choice"), answer)
    assert said.outcome is outcome, said.detail


CAPITALS = ["Oslo", "Madrid", "Lisbon", "Vienna"]
THIRDS = [r"$\frac{1}{5}$", r"$\frac{3}{5}$", r"$\frac{1}{2}$", r"$\sqrt{3}$"]
TRENDS = ["rises", "falls", "stays as it is"]


@pytest.mark.parametrize(
    ("choices", "answer", "outcome"),
    [
        # a letter and what stands beside it; the gold answer is B
        (CAPITALS, "B. Madrid is the capital of Spain.", Outcome.RIGHT),
        (CAPITALS, "B, because Oslo is in Norway.", Outcome.RIGHT),
        (CAPITALS, "(B) since Lisbon lies at the coast", Outcome.RIGHT),
        (CAPITALS, "B. This is because Spain's king lives there.", Outcome.RIGHT),
        (CAPITALS, "(B) the city Madrid", Outcome.RIGHT),
        (TRENDS, "B. It falls.", Outcome.RIGHT),
        (THIRDS, r"\boxed{(B)\ \frac{3}{5}}", Outcome.RIGHT),
        (THIRDS, "The answer is (B) 3/5.", Outcome.RIGHT),
        (CAPITALS, "B) Oslo, Norway", Outcome.WRONG),
        (CAPITALS, "**B) Lisbon is where she lives**", Outcome.WRONG),
        (CAPITALS, "The answer is B: the town of Vienna.", Outcome.WRONG),
        (TRENDS, "B. It rises.", Outcome.WRONG),
        (THIRDS, r"\boxed{(B)\ \frac{1}{5}}", Outcome.WRONG),
        (THIRDS, "(B) 1/2", Outcome.WRONG),
        (CAPITALS, "B. Athens", Outcome.NO_ANSWER),
        (THIRDS, "(B) 7/9", Outcome.NO_ANSWER),
        # letters that a sentence is about
        (CAPITALS, "B, C and D can be ruled out.", Outcome.NO_ANSWER),
        (CAPITALS, "B, C, and D are too far south.", Outcome.NO_ANSWER),
        (CAPITALS, "A, C and D are wrong, so B.", Outcome.RIGHT),
        # words, then a letter
        (CAPITALS, "The answer is Madrid, which is option B.", Outcome.RIGHT),
        (CAPITALS, "The answer is Madrid. That is option B.", Outcome.RIGHT),
        (CAPITALS, "Madrid, not C", Outcome.RIGHT),
        (CAPITALS, "It must be Madrid, option B.", Outcome.RIGHT),
        (CAPITALS, "Of the four, **B** fits best.", Outcome.RIGHT),
        (CAPITALS, "Spain's capital lies in the middle, hence **option B** is the right answer.", Outcome.RIGHT),
        (CAPITALS, "The answer is Madrid, hence D.", Outcome.WRONG),
        (CAPITALS, "The answer is Madrid, i.e. option A.", Outcome.WRONG),
        (CAPITALS, "The answer is Madrid, choice (C).", Outcome.WRONG),
        (CAPITALS, "The answer is Madrid. This is option C.", Outcome.WRONG),
        (CAPITALS, "Madrid. That's option C.", Outcome.WRONG),
        (CAPITALS, r"\boxed{\text{Madrid, Oslo}}", Outcome.WRONG),
        (CAPITALS, "Oslo is right, so B.", Outcome.WRONG),
        # what would be so in another case
        (CAPITALS, "From all that, the answer would be B.", Outcome.RIGHT),
        (CAPITALS, "If the king lived in Spain, the answer would be B.", Outcome.NO_ANSWER),
        (CAPITALS, "The answer would be B if the question were about Spain.", Outcome.NO_ANSWER),
        (CAPITALS, "The answer is C. If she had moved, the answer would be B.", Outcome.WRONG),
    ],
)
def test_a_letter_and_the_words_beside_it_agree(
    pool: CheckPool, choices: list[str], answer: str, outcome: Outcome
) -> None:
    said = pool.check_now(ask("B", "Which?", "choice", choices=choices), answer)
    assert said.outcome is outcome, said.detail


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        ("Dan", "Answer: Dan", Outcome.RIGHT),
        ("Dan", "Answer: **Dan**.", Outcome.RIGHT),
        ("Dan", "dan", Outcome.RIGHT),
        ("the Thames", r"\boxed{\text{Thames}}", Outcome.RIGHT),
        ("well-known", "Answer: well known", Outcome.RIGHT),
        ("barn damp dot", "Answer: barn, damp, dot", Outcome.RIGHT),
        ("Dan", "Answer: Eve", Outcome.WRONG),
        ("Dan", "Answer: Dan or Eve", Outcome.WRONG),
        ("C", "Answer: C++", Outcome.WRONG),
        ("-35", "Answer: 35", Outcome.WRONG),
        ("Dan", "Dan may have won, but so may Eve, and nobody can tell.", Outcome.NO_ANSWER),
        ("Dan", "", Outcome.NO_ANSWER),
        ("Yes", "So the answer is yes.", Outcome.RIGHT),
        ("Yes", r"\boxed{\text{Yes}}", Outcome.RIGHT),
        ("No", "No, because the wire was cut.", Outcome.RIGHT),
        ("True", "not (True) and (True) is\nTrue", Outcome.RIGHT),
        ("No", "So, no, a whale is not a fish.", Outcome.RIGHT),
        ("Yes", "It floats on water, so yes, it is lighter.", Outcome.RIGHT),
        ("Yes", "Hence no, it sinks.", Outcome.WRONG),
        ("No", "So no one can tell.", Outcome.NO_ANSWER),
        ("Yes", "The answer is no.", Outcome.WRONG),
        ("No", "Answer: Yes", Outcome.WRONG),
        ("Yes", "The answer is yes or no.", Outcome.NO_ANSWER),
        ("Yes", "It depends on the weather.", Outcome.NO_ANSWER),
        ("No", "Nobody knows.", Outcome.NO_ANSWER),
        ("-ab", "Answer: ab", Outcome.WRONG),
        ("ab", "Answer: $-ab$", Outcome.WRONG),
        ("sin x", r"\boxed{-\sin x}", Outcome.WRONG),
        ("sin x", r"\boxed{\sin(-x)}", Outcome.WRONG),
        ("sin x", r"\boxed{\sin x}", Outcome.RIGHT),
        ("} ]", "So the answer is } ].", Outcome.RIGHT),
        ("} ]", r"\boxed{} ]}", Outcome.RIGHT),
        ("} ]", "So the answer is ] }.", Outcome.WRONG),
        ("} ]", "So the answer is } ] ].", Outcome.WRONG),
        (") )", "There are two of them.", Outcome.NO_ANSWER),
        ("4:15 PM", "The bus leaves at 4:15 p.m.", Outcome.RIGHT),
        ("4:15 PM", r"\boxed{16:15}", Outcome.RIGHT),
        ("4:15 PM", r"\boxed{4:15}", Outcome.WRONG),
        ("4:15 PM", "The bus leaves at 4:15 a.m.", Outcome.WRONG),
        ("4:15 PM", "It leaves at 4:15 PM or at 5:15 PM.", Outcome.NO_ANSWER),
        ("Dan", "Dan, not Eve, is here", Outcome.NO_ANSWER),
    ],
)
def test_text_is_the_same_words(pool: CheckPool, gold: str, answer: str, outcome: Outcome) -> None:
    said = pool.check_now(ask(gold, check="text"), answer)
    assert said.outcome is outcome, said.detail


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("The River Rhine flows through Basel.", Outcome.RIGHT),
        ("The Rhine flows through Basel.", Outcome.RIGHT),
        ("The Rhine flows through Bonn.", Outcome.NO_ANSWER),
        ("The Rhine or the Aare flows through Basel.", Outcome.NO_ANSWER),
        ("The Aare flows through Basel.", Outcome.WRONG),
    ],
)
def test_a_sentence_may_answer_in_the_question_s_words(pool: CheckPool, answer: str, outcome: Outcome) -> None:
    said = pool.check_now(ask("Rhine", "Which river flows through Basel?", "text"), answer)
    assert said.outcome is outcome, said.detail


def test_every_gold_of_big_bench_hard_passes_its_own_check(shared: Path, pool: CheckPool) -> None:
    for file in sorted((shared / "data/bbh").glob("*.json")):
        rows = json.loads(file.read_text(encoding="utf-8"))
        for row in (rows["examples"] if isinstance(rows, dict) else rows)[:60]:
            name = check_name_for({"question": row["input"], "answer": row["target"]})
            question = ask(row["target"], row["input"], name)
            assert pool.check_now(question, f"So the answer is {row['target']}.").passed, (
                file.name,
                name,
                row["target"],
            )


def test_only_a_full_score_of_the_task_counts(pool: CheckPool) -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym", reason="needs the extra gym")
    for task in ("chain_sum", "leg_counting", "spell_backward", "countdown"):
        entry = reasoning_gym.create_dataset(task, size=1, seed=4)[0]
        row = ask("", check="reasoning_gym", reasoning_gym={"task": task, "entry": json.loads(json.dumps(entry))})
        assert gold_problems([row], pool)[0] is None, task
        assert pool.check_now(row, f"So the answer is \\boxed{{{entry['answer']}}}.").passed, task
        assert pool.check_now(row, r"\boxed{none of it}").outcome is Outcome.WRONG, task
        assert pool.check_now(row, r"\boxed{").outcome is Outcome.NO_ANSWER, task


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"answer": "72", "check": "text"}, "text"),
        ({"answer": "72"}, "math"),
        ({"answer": 72}, "math"),
        ({"answer": r"\frac{1}{2}"}, "math"),
        ({"answer": "x^2+1"}, "math"),
        ({"answer": "p - q"}, "math"),
        ({"answer": "(1, 2)"}, "math"),
        ({"answer": "3 apples"}, "math"),
        ({"answer": "Yes"}, "text"),
        ({"answer": "Dan"}, "text"),
        ({"answer": "05/01/2021"}, "text"),
        ({"answer": "10:30 AM"}, "text"),
        ({"answer": "-i"}, "math"),
        ({"answer": "n"}, "math"),
        ({"answer": "xy"}, "math"),
        ({"answer": "be"}, "text"),
        ({"answer": r"\text{Yes}"}, "text"),
        ({"answer": "(A)", "question": OPTIONS}, "choice"),
        ({"answer": "(A)", "question": "Which letter?"}, "text"),
        ({"answer": "B", "choices": ["x", "y"]}, "choice"),
        ({"answer": "1", "tests": "def check(candidate): ..."}, "code"),
        ({"cases": [{"stdin": "", "stdout": ""}]}, "code"),
        ({"reasoning_gym": {"task": "chain_sum", "entry": {}}}, "reasoning_gym"),
        ({"answer": "Dan is a knight, and Eve is a knave"}, "text"),
    ],
)
def test_the_check_of_a_row_follows_from_its_fields(row: dict[str, object], name: str) -> None:
    assert check_name_for({"question": "?", **row}) == name
