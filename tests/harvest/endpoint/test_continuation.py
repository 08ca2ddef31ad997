"""Where the second of two replies begins is read exactly, or not at all."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harvest.core.errors import RowRefused
from harvest.core.money import Usage
from harvest.core.nouns import Continuation, Reply, cut_part, joined
from harvest.endpoint.continuation import FORMS, continuing_body, forms_for, read_rest
from harvest.endpoint.reply import read_document

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="<>"), min_size=1)


def document(content: str, chain: str | None = None, finish: str = "stop", tokens: tuple[int, int] = (50, 9)) -> Any:
    message = {"role": "assistant", "content": content} | ({} if chain is None else {"reasoning_content": chain})
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}


def going_on(cut: Reply, form: str = "prefix", *, known: bool = True) -> Continuation:
    part = cut_part(cut)
    assert part is not None
    return Continuation(cut, part, form, is_known=known)


@given(TEXT, TEXT, st.data(), st.booleans())
def test_what_was_cut_anywhere_is_whole_again(chain: str, answer: str, data: st.DataObject, echo: bool) -> None:
    """Of an endpoint that sets the chain apart: nothing is doubled or lost, whatever stands at the seam."""
    whole = read_document(document(answer, chain))
    at = data.draw(st.integers(1, len(chain) + len(answer) - 1))
    first = read_document(document(answer[: max(0, at - len(chain))], chain[:at], "length", (40, 10)))
    if cut_part(first) is None or (whole.reasoning, whole.answer) != (chain, answer):
        return  # blank, or what a reply's reading changes
    going = going_on(first)
    sent = FORMS["prefix"](first)[0]["content"] if echo else ""
    rest_chain, rest_answer = chain[at:] or None, sent + answer[max(0, at - len(chain)) :]
    try:
        rest = read_rest(document(rest_answer, rest_chain), going)
    except RowRefused:
        return  # it may repeat what was sent
    again = joined(first, rest)
    assert (again.reasoning, again.answer) == (chain, answer)
    assert again.usage == Usage(90, None, 19, None, None)
    assert again.seam is not None
    assert again.finish_reason == "stop"


@pytest.mark.parametrize(
    ("said", "chain", "whole"),
    [
        ("rest.</think>\n\n4", None, ("The first rest.", "4")),
        ("<think>\nrest.</think>\n\n4", None, ("The first rest.", "4")),
        ("4", "rest.", ("The first rest.", "4")),
        ("</think>4", None, ("The first ", "4")),
    ],
)
def test_the_rest_of_a_chain_is_read_wherever_it_stands(said: str, chain: str | None, whole: tuple[str, str]) -> None:
    cut = Reply("", "The first ", "chain")
    again = joined(cut, read_rest(document(said, chain), going_on(cut, "continue_final_message")))
    assert (again.reasoning, again.answer) == whole


def test_a_chain_without_its_opening_mark_is_one_too() -> None:
    """The template has written the mark, and the answer was cut before the closing one."""
    cut = read_document(document("\nThe first ", None, "length"))
    again = joined(cut, read_rest(document("rest.</think>4", tokens=(59, 9)), going_on(cut, "continue_final_message")))
    assert (again.reasoning, again.answer) == ("The first rest.", "4")


def test_an_answer_that_was_cut_at_its_very_end_is_whole() -> None:
    cut = Reply("So it is 4.", "The chain.", "chain")
    rest = read_rest(document("", None, "stop", (60, 1)), going_on(cut))
    assert joined(cut, rest).answer == "So it is 4."


@pytest.mark.parametrize(
    ("cut", "said", "chain", "known", "tokens_in"),
    [
        ("So", "So much", None, True, 50),  # a repetition, or the rest
        ("It is the sum of the two numbers, which", " the sum of the two numbers, which is 4", None, True, 50),
        ("So it", "is 4", "I think.", True, 50),
        ("So it", "<think>I think.</think> 4", None, True, 50),
        ("So it", " is 4", None, True, 40),  # the input has not grown
        ("So it", " is 4", None, False, 55),  # it has grown by the next message's beginning too
    ],
)
def test_what_is_not_surely_the_rest_is_refused(
    cut: str, said: str, chain: str | None, known: bool, tokens_in: int
) -> None:
    first = Reply(cut, None, None, "length", Usage(40, None, 10, None, None))
    if cut.startswith("It is"):
        said = cut[-34:] + " is 4"
    with pytest.raises(RowRefused, match="does not go on"):
        read_rest(document(said, chain, tokens=(tokens_in, 9)), going_on(first, "continue_final_message", known=known))


def test_what_was_sent_again_proves_that_it_was_read() -> None:
    first = Reply("a" * 40, None, None, "length", Usage(40, None, 10, None, None))
    going = going_on(first, "continue_final_message", known=False)
    assert read_rest(document("a" * 40 + " and the rest", tokens=(55, 9)), going).answer == " and the rest"
    with pytest.raises(RowRefused, match="began anew"):  # with the same words, and at the whole price
        read_rest(document("a" * 40 + " and the rest", tokens=(40, 19)), going)


def test_each_form_is_sent_as_its_page_says() -> None:
    cut = Reply("So", "A chain.", "chain")
    body = {"messages": [{"role": "user", "content": "?"}], "max_tokens": 9}
    prefix = continuing_body(body, going_on(cut))
    assert prefix["messages"][-1] == {
        "role": "assistant", "content": "So", "reasoning_content": "A chain.", "prefix": True,
    }  # fmt: skip
    final = continuing_body(body, going_on(Reply("", "A chain.", "chain"), "continue_final_message"))
    assert final["messages"][-1]["content"] == "<think>\nA chain."
    assert (final["continue_final_message"], final["add_generation_prompt"]) == (True, False)
    assert forms_for("https://api.deepseek.com/beta")[0] == "prefix"
    assert forms_for("http://127.0.0.1:8000/v1")[0] == forms_for(None)[0] == "continue_final_message"


def test_what_is_hidden_or_empty_is_not_continued() -> None:
    assert cut_part(Reply("So", None, "summary")) is None
    assert cut_part(Reply("", None, "encrypted")) is None
    assert cut_part(Reply(" ")) is None
