"""How a chain falls into steps: paragraphs, code, repetitions, loops, and marked passages."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harvest.core.config import Filters
from harvest.core.nouns import Candidate, Question
from harvest.report.viewer.objections import objections_to
from harvest.report.viewer.steps import Repeat, Span, Step, shown_steps, steps_of


def texts(chain: str) -> list[str]:
    return [chain[s.start : s.end] for s in steps_of(chain) if isinstance(s, Step)]


def repeats(chain: str) -> list[tuple[int, int]]:
    return [(s.steps, s.times) for s in steps_of(chain) if isinstance(s, Repeat)]


def test_a_paragraph_is_a_step_and_code_stays_in_one() -> None:
    code = "```python\nx = 1\n\ny = 2\n```"
    assert texts(f"First.\n\n{code}\n\n\nThen  \n \nLast.\n") == ["First.", code, "Then  ", "Last."]
    assert texts("") == texts(" \n\n ") == []


def test_a_long_paragraph_is_split_at_its_lines() -> None:
    chain = "\n".join(f"line {n} " + "x" * 90 for n in range(100))
    found = texts(chain)
    assert len(found) > 3
    assert "\n".join(found) == chain
    numbers = " ".join(map(str, range(2_000)))
    assert texts(numbers) == [numbers], "a line without a break is one step"


def test_steps_that_repeat_are_shown_once_and_counted() -> None:
    chain = "Begin.\n\n" + "Again.\n\nAnd so on.\n\n" * 5 + "End."
    assert texts(chain) == ["Begin.", "Again.", "And so on.", "End."]
    assert repeats(chain) == [(2, 4)]
    assert [s.number for s in steps_of(chain) if isinstance(s, Step)] == [1, 2, 3, 12]
    assert repeats("One.\n\nOne.\n\nTwo.") == []


def test_a_loop_at_the_end_of_a_step_is_shown_once() -> None:
    assert texts("Start." + " I check it." * 500) == ["Start. I check it."]
    assert repeats("Start." + " I check it." * 500) == [(0, 499)]


@given(st.lists(st.sampled_from(["a", "b", "```", "", "c c"]), max_size=30))
def test_steps_and_repetitions_cover_the_chain_in_order(lines: list[str]) -> None:
    chain = "\n".join(lines)
    at = 0
    for step in steps_of(chain):
        assert chain[at : step.start].strip() == ""
        assert step.start < step.end
        at = step.end
    assert chain[at:].strip() == ""


def pieces(chain: str, *spans: Span) -> list[Any]:
    return [step["pieces"] for step in shown_steps(chain, spans)]


def test_a_marked_passage_is_marked_in_each_step_that_it_touches() -> None:
    assert pieces("one two\n\nthree four", Span(4, 14, "why")) == [
        [["one "], ["two", "why"]],
        [["three", "why"], [" four"]],
    ]


def test_characters_that_do_not_show_are_named() -> None:
    assert pieces("a\x00b\u202ec\ud800\td\r\ne") == [
        [["a"], ["U+0000", "control"], ["b"], ["U+202E", "control"], ["c"], ["U+D800", "control"], ["\td\ne"]]
    ]
    (many,) = pieces("".join(f"{n}\x01" for n in range(5_000)))
    assert len(many) < 1_000
    assert "".join(p[0] for p in many).count("\ufffd") > 4_500


def test_what_a_filter_objects_to_is_found_in_the_text_again() -> None:
    chain = "We add it up, step by step.\n\nThe Reference answer\nsays 42, so I will write unquestionably that."
    question = Question(id="q", question="What is 40 + 2?", answer="42", check="math")
    found = objections_to(Candidate(1, 0, question, (), chain, "42", None, None), Filters())
    assert "meta" in found.words
    marked = [chain[s.start : s.end] for s in found.chain]
    assert marked == ["The Reference answer\nsays 42, so I will write"]
