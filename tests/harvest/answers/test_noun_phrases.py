"""A phrase around the gold answer names the same thing only where the question has said its other words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.answers.noun_phrases import same_thing
from harvest.checks import CheckPool
from harvest.core.nouns import Question

OCEAN = "What is the largest ocean on Earth?"
RIVER = "What is the longest river in South America?"
YEN = "What is the official currency of Japan?"
WEIGHS = "Which weighs more, 3 kilograms of feathers or 1 kilogram of lead?"
RACE = "You overtake the runner in second place. What place are you in now?"


@pytest.mark.parametrize(
    ("gold", "stated", "question"),
    [
        ("Pacific", "Pacific Ocean", OCEAN),
        ("Pacific", "the Pacific Ocean.", OCEAN),
        ("Amazon", "Amazon River", RIVER),
        ("Everest", "Mount Everest", "What is the highest mountain above sea level?"),
        ("Yen", "Japanese yen", YEN),
        ("Zloty", "Polish złoty (PLN)", "What is the official currency of Poland?"),
        ("Won", "South Korean won", "What is the official currency of South Korea?"),
        ("feathers", "3 kilograms of feathers", WEIGHS),
        ("feathers", "three kilograms of feathers", WEIGHS),
        ("second", "second place", RACE),
        ("fifth", "5th place", RACE),
        ("5th", "fifth", RACE),
        ("twentieth", "20th", "Which century was it?"),
    ],
)
def test_words_that_the_question_said_add_nothing(gold: str, stated: str, question: str) -> None:
    assert same_thing(gold, stated, question)


@pytest.mark.parametrize(
    ("gold", "stated", "question"),
    [
        ("Virginia", "West Virginia", "In which state was he born, Virginia or West Virginia?"),
        ("York", "New York", "In which city did she live?"),
        ("Guinea", "Equatorial Guinea", "Which country is it?"),
        ("Korea", "North Korea", "Which country lies south of China, Korea or another?"),
        ("Pacific", "not the Pacific Ocean", OCEAN),
        ("Pacific", "Pacific and Atlantic Ocean", OCEAN),
        ("Pacific", "Pacific or Atlantic", OCEAN),
        ("Pacific", "Atlantic Ocean", OCEAN),
        ("Pacific", "Ocean", OCEAN),
        ("Yen", "Chinese yen", YEN),
        ("Yen", "yen coin", YEN),
        ("lead", "1 kilogram of feathers", WEIGHS),
        ("feathers", "3 kilograms of lead feathers", WEIGHS),
        ("water", "cold water", "Does it float in water or in cold water?"),
        ("second", "first place", RACE),
        ("second", "second to last place", RACE),
        ("second", "second place winner of gold", RACE),
        ("red", "dark red", "What colour is the car?"),
        ("dog", "hot dog", "Which animal is it?"),
        ("Smith", "John Smith", "Who won the race?"),
        ("12", "12 kilograms of salt", "How many kilograms?"),
        ("Anna", "Anna Maria", "Who is taller, Anna or Maria?"),
        ("Anna", "Anna, Maria", "Who is taller, Anna or Maria?"),
        ("glass", "glass bottle", "Which broke first, the glass bottle or the glass?"),
        ("metal", "liquid metal", "Is mercury a liquid metal or a solid?"),
    ],
)
def test_a_phrase_that_names_another_thing_is_another_thing(gold: str, stated: str, question: str) -> None:
    assert not same_thing(gold, stated, question)


@given(st.text(max_size=40), st.text(max_size=80), st.text(max_size=120))
def test_any_texts_are_compared(gold: str, stated: str, question: str) -> None:
    assert same_thing(gold, stated, question) in (True, False)


@pytest.mark.parametrize(
    ("check", "gold", "aliases", "answer", "passed"),
    [
        ("text", "Mandarin", ("Mandarin Chinese", "Chinese"), "Answer: Chinese.", True),
        ("text", "Mandarin", ("Mandarin Chinese",), "Answer: Cantonese.", False),
        ("math", "1/2", ("0.51",), "\\boxed{0.51}", True),
        ("math", "x + 1", ("y + 1",), "\\boxed{1 + y}", True),
        ("math", "1/2", ("0.51",), "\\boxed{0.52}", False),
    ],
)
async def test_an_alias_is_right_too(
    check: str, gold: str, aliases: tuple[str, ...], answer: str, passed: bool
) -> None:
    question = Question(id="q", question="What is it?", answer=gold, aliases=aliases, check=check)
    with CheckPool(workers=1) as pool:
        for said in (pool.check_now(question, answer), await pool.check(question, answer)):
            assert said.passed == passed
            assert passed or said.detail.endswith(f"gold {gold}"), "a wrong answer is held against the gold one"
