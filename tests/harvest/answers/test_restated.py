"""A text that states the gold answer in other words is right only where those words add nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.answers.restated import agrees, restates
from harvest.checks import CheckPool
from harvest.core.nouns import Question

WHO = "Who directed the play?"
WHICH = "Which battle took place first, the Battle of Tarawa or the Battle of Hue?"
MOST = "Which group has the most members, Red Sun or Blue Moon?"
WHERE = "In which city is the company based?"
NATION = "What is the nationality of the player?"
LANGUAGE = "In what language is the film?"
BUILT = "What was built near the park in 1983?"
NAMES = "What three subjects are taught?"


@pytest.mark.parametrize(
    ("gold", "stated", "question"),
    [
        ("the Saddledome", "The Saddledome was built near the park in 1983", BUILT),
        ("drawings", "65,000 drawings", "The museum houses 65,000 what?"),
        ("director", "Both were directors", "What occupation do Ana and Ben share?"),
        ("Battle of Tarawa", "The Battle of Tarawa occurred first", WHICH),
        ("Red Sun", "Red Sun has more members than Blue Moon", MOST),
        ("Desmond Mpilo Tutu", "Desmond Tutu", WHO),
        ("Ana Lee", "Ana Maria Lee", WHO),
        ("Sands company.", "Sands Corp", "Which company owns it?"),
        ("Greater Manchester's Metrolink", "Greater Manchester Metrolink", "Which system is it?"),
        ("Argentinian", "Argentine", NATION),
        ("Armenian", "Armenia", "What is their country of ancestry?"),
        ("English-language", "English", LANGUAGE),
        ("Mumbai", "Mumbai, Maharashtra", WHERE),
        ("Lee County, Mississippi", "Lee County", "Of which county is it the seat?"),
        ("Grammar, logic, and rhetoric", "Grammar, Logic, Rhetoric", NAMES),
        ("Grammar, logic and rhetoric", "logic, rhetoric & grammar", NAMES),
        ("575 acres (2.08 km²)", "575 acres", "How large is it?"),
        ("at Westlake Studios", "Westlake Studios", "Where was it recorded?"),
        ("born October 25, 1931", "October 25, 1931", "When was she born?"),
    ],
)
def test_words_that_add_nothing_leave_it_right(gold: str, stated: str, question: str) -> None:
    assert restates(gold, stated, question)


@pytest.mark.parametrize(
    ("gold", "stated", "question"),
    [
        ("to Paris", "from Paris", "Where did the train go?"),
        ("by the Duke", "to the Duke", "How was it written?"),
        ("the Saddledome", "The Saddledome was not built near the park in 1983", BUILT),
        ("the Saddledome", "The Saddledome and the arena were built near the park", BUILT),
        ("the Saddledome", "The arena near the Saddledome", BUILT),
        ("the Saddledome", "The Saddledome was built near the park in 1984", BUILT),
        ("Battle of Tarawa", "The Battle of Hue took place before the Battle of Tarawa", WHICH),
        ("Battle of Tarawa", "The Battle of Tarawa took place last", WHICH),
        ("Battle of Tarawa", "first the Battle of Hue, the Battle of Tarawa", WHICH),
        ("Red Sun", "Blue Moon has more members than Red Sun", MOST),
        ("Red Sun", "Red Sun has fewer members than Blue Moon", MOST),
        ("Red Sun", "Red Sun has more members", "Which group has the fewest members, Red Sun or Blue Moon?"),
        ("whale", "A whale is a fish", "Which is not a fish, a whale or a cod?"),
        ("G20", "Italy is in the G7 and the G20", "In which of the G7 and the G20 is Italy?"),
        ("Desmond Mpilo Tutu", "Desmond Mpilo", WHO),
        ("Desmond Mpilo Tutu", "Desmond Tutu", "What is the full name?"),
        ("Ana Lee", "Ana May", WHO),
        ("Ana Lee", "ana maria lee", WHO),
        ("Austrian", "Australian", NATION),
        ("Armenian", "Armenia", "What is his name?"),
        ("Iran", "Iraq", "Which country is it?"),
        ("English-language", "English", "What kind of film is it?"),
        ("English-language", "French", LANGUAGE),
        ("Paris", "Paris, London", "Who is she?"),
        ("Mumbai", "Mumbai, or perhaps Delhi", WHERE),
        ("Mumbai", "Mumbai, Delhi, Pune", WHERE),
        ("Mumbai", "Delhi, Mumbai", WHERE),
        ("Grammar, logic, and rhetoric", "Grammar, Logic", NAMES),
        ("Grammar, logic, and rhetoric", "logic, rhetoric, grammar", "In what order are the three taught?"),
        ("O(n log n)", "O(n)", "Is it O(n log n) or O(n)?"),
        ("barn damp dot", "barn damp dots", "Sort the words: dot barn damp"),
        ("12", "12 kilograms", "How many kilograms?"),
        ("born October 25, 1931", "October 25, 1932", "When was she born?"),
    ],
)
def test_words_that_say_another_thing_leave_it_wrong(gold: str, stated: str, question: str) -> None:
    assert not restates(gold, stated, question)


@pytest.mark.parametrize(
    ("beside", "agreed"),
    [
        ("It was LA Galaxy that played", True),
        ("LA", True),
        ("that", True),
        ("", True),
        ("LA Galaxy and Inter", False),
        ("Inter", False),
        ("not LA Galaxy", False),
        ("Galaxy", False),
    ],
)
def test_a_second_statement_may_repeat_the_first_and_say_no_other(beside: str, agreed: bool) -> None:
    assert agrees("LA Galaxy", "LA Galaxy", beside) == agreed


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ("**Final Answer**: It is O.T. Genasis.\n\nAnswer: O.T. Genasis.", True),
        ("Final Answer: O.T. Genasis and Dan.\n\nAnswer: O.T. Genasis.", False),
        ("Final Answer: Dan.\n\nAnswer: O.T. Genasis.", False),
        ("So the answer is: O.T. Genasis", True),
    ],
)
def test_an_answer_may_be_stated_twice_and_hold_initials(answer: str, passed: bool) -> None:
    question = Question(id="q", question="Who wrote the song?", answer="O.T. Genasis", check="text")
    with CheckPool(workers=1) as pool:
        assert pool.check_now(question, answer).passed == passed


@given(st.text(max_size=40), st.text(max_size=80), st.text(max_size=120))
def test_any_texts_are_compared(gold: str, stated: str, question: str) -> None:
    assert restates(gold, stated, question) in (True, False)
    assert agrees(gold, stated, question) in (True, False)
