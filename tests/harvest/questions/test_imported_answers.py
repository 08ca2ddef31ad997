"""Answers paid for elsewhere, line by line: every known layout, and lines that may hold anything."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_import import ASKED, LITELLM, SKY, completion, line

from harvest.checks import ROW_RULES
from harvest.core.foreign_json import parse
from harvest.core.money import pusd
from harvest.endpoint.reply import read_document
from harvest.questions.imported_answers import ImportedAnswer, NoAnswer, read_answer
from harvest.questions.rows import BadRow, question_of


def read(row: Any) -> ImportedAnswer:
    """A row as it comes out of a file."""
    return read_answer(parse(json.dumps(row).encode()), read_document)


def test_a_line_of_the_contract_is_a_question_and_its_response() -> None:
    got = read(line(1, "<think>\none and two\n</think>\n\n\\boxed{3}"))
    assert question_of(got.question, ROW_RULES).id == "q1"
    assert (got.reply.reasoning, got.reply.answer) == ("one and two", "\\boxed{3}")
    assert (got.cost_pusd, got.cost_source, got.asked_at) == (None, "none", None)


def test_a_whole_chat_completion_is_read_like_a_live_answer() -> None:
    got = read(line(1, completion("\\boxed{3}", reasoning="one and two", usage={"cost": 0.00123})))
    assert (got.reply.reasoning, got.reply.answer, got.reply.finish_reason) == ("one and two", "\\boxed{3}", "stop")
    assert (got.reply.usage.input_tokens, got.reply.usage.output_tokens) == (10, 20)
    assert (got.reply.served_model, got.reply.response_id) == ("some-reasoner", "chatcmpl-1")
    assert (got.cost_pusd, got.cost_source) == (pusd(Decimal("0.00123")), "usage.cost")
    assert got.asked_at == "2025-10-09T08:53:20.000Z"


def test_batch_output_is_known_by_its_custom_id() -> None:
    body = completion("\\boxed{3}")
    got = read({"id": "batch_req_1", "custom_id": "q1", "response": {"status_code": 200, "body": body}, "error": None})
    assert (got.question, got.names[0], got.reply.answer) == ({}, "q1", "\\boxed{3}")


@pytest.mark.parametrize(
    "row",
    [
        {"custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "expired"}},
        {"custom_id": "a", "response": {"status_code": 429, "body": {"error": {"message": "slow down"}}}},
        {"question": "a?", "answer": "1", "response": {"error": {"message": "no"}}},
        {"id": "x", "status": "failure", "error_str": "no", "messages": ASKED, "response": None},
    ],
)
def test_a_request_that_failed_holds_no_answer(row: dict[str, Any]) -> None:
    with pytest.raises(NoAnswer):
        read(row)


def test_a_stored_completion_is_known_by_its_metadata_or_its_messages() -> None:
    alone = read(completion("\\boxed{3}", metadata={"question_id": "q1"}))
    assert (alone.question, alone.names) == ({}, ("q1",))
    whole = read(completion("\\boxed{3}", metadata={"answer": "3"}, messages=ASKED))
    assert whole.question == {"question": "What is 1 + 2?", "answer": "3"}
    assert whole.reply.extra["system"] == "Be brief."


def test_a_log_of_litellm_says_who_served_when_and_for_how_much() -> None:
    got = read(LITELLM)
    assert got.question["question"] == "What is 1 + 2?"
    assert "id" not in got.question, "the log's id names the call, not the question"
    assert "q1" in got.names
    assert (got.cost_pusd, got.cost_source) == (105_000_000, "log")
    assert (got.reply.usage.input_tokens, got.reply.usage.output_tokens) == (10, 20)
    assert (got.reply.served_by, got.asked_at) == ("deepseek", "2025-10-09T08:53:20.250Z")
    assert got.reply.extra["system"] == "Be brief."


def test_litellms_table_of_spend_holds_json_in_texts() -> None:
    got = read(
        {
            "request_id": "1",
            "spend": 0.5,
            "messages": json.dumps(ASKED),
            "response": json.dumps(completion("\\boxed{3}")),
        }
    )
    assert (got.question["question"], got.reply.answer, got.cost_pusd) == ("What is 1 + 2?", "\\boxed{3}", 5 * 10**11)


def test_a_cost_that_litellm_could_not_reckon_is_unknown_not_zero() -> None:
    got = read(LITELLM | {"response_cost": 0, "response_cost_failure_debug_info": {"error_str": "no such model"}})
    assert (got.cost_pusd, got.cost_source) == (None, "none")
    assert read(LITELLM | {"response_cost": float("nan")}).cost_pusd is None
    assert read(LITELLM | {"response_cost": -1}).cost_pusd is None
    assert read(LITELLM | {"response_cost": 0}).cost_pusd == 0


def test_openrouters_stored_generation_with_its_figures() -> None:
    got = read(
        {
            "data": {
                "id": "gen-1",
                "model": "deepseek/deepseek-r1",
                "provider_name": "Novita",
                "total_cost": 0.0021,
                "created_at": "2026-10-01T12:00:00.5+00:00",
                "finish_reason": "stop",
                "native_tokens_prompt": 12,
                "native_tokens_completion": 34,
                "native_tokens_reasoning": 20,
                "input": {"messages": ASKED},
                "output": {"completion": "\\boxed{3}", "reasoning": "one and two"},
            }
        }
    )
    assert (got.question["question"], got.reply.reasoning, got.reply.answer) == (
        "What is 1 + 2?",
        "one and two",
        "\\boxed{3}",
    )
    assert (got.cost_pusd, got.reply.served_by, got.asked_at) == (2_100_000_000, "Novita", "2026-10-01T12:00:00.500Z")
    assert (got.reply.usage.input_tokens, got.reply.usage.output_tokens, got.reply.usage.reasoning_tokens) == (
        12,
        34,
        20,
    )


@pytest.mark.parametrize(
    ("row", "system"),
    [
        ({"conversations": [{"from": "human", "value": "1 + 2?"}, {"from": "gpt", "value": SKY}]}, None),
        (
            {
                "system": "Think.",
                "conversations": [{"from": "user", "value": "1 + 2?"}, {"from": "assistant", "value": SKY}],
            },
            "Think.",
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Think."},
                    {"role": "user", "content": "1 + 2?"},
                    {"role": "assistant", "content": "\\boxed{3}", "reasoning_content": "One and two."},
                ]
            },
            "Think.",
        ),
    ],
)
def test_datasets_keep_the_chain_apart_and_the_system_message(row: dict[str, Any], system: str | None) -> None:
    got = read(row | {"answer": "3"})
    assert (got.question["question"], got.question["answer"]) == ("1 + 2?", "3")
    assert (got.reply.reasoning, got.reply.answer) == ("One and two.", "\\boxed{3}")
    assert got.reply.extra.get("system") == system


def test_a_thought_that_never_ends_has_no_answer() -> None:
    got = read(
        {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "<|begin_of_thought|> so 3"}]}
    )
    assert (got.reply.reasoning, got.reply.answer) == ("so 3", "")


def test_our_own_export_can_come_back() -> None:
    row = {"messages": [*ASKED, {"role": "assistant", "content": "<think>\nc\n</think>\n\n\\boxed{3}"}]}
    got = read(row | {"question": "1 + 2?", "gold": "3", "answer": "\\boxed{3}", "question_id": "q1", "id": "abc"})
    question = question_of(got.question, ROW_RULES)
    assert (question.id, question.question, question.answer) == ("q1", "1 + 2?", "3")
    assert (got.reply.reasoning, got.reply.answer) == ("c", "\\boxed{3}")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"question": "a?", "answer": "1"}, "response: missing"),
        ({"x": 1}, "no known layout"),
        ({"question": "a?", "response": 5}, "response: neither"),
        ({"question": "a?", "response": {"x": 1}}, "response: no chat completion"),
        ({"messages": [*ASKED, *ASKED], "response": "1"}, "messages: 2 turns"),
        ({"messages": [{"role": "tool", "content": "x"}], "response": "1"}, "messages: a turn of 'tool'"),
        ({"conversations": [{"from": "human", "value": "x"}]}, "conversations: its last turn"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "response": "1"}, "more than text"),
    ],
)
def test_a_bad_line_names_its_field(row: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRow, match=field):
        read(row)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "question", "answer", "response", "messages", "conversations", "custom_id", "object", "choices", "data", "input",
    "output", "metadata", "gold", "system", "response_cost", "usage", "startTime", "status", "id", "error",
)  # fmt: skip


@given(row=st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=8))
def test_whatever_a_line_holds_it_is_read_or_refused(row: dict[str, Any]) -> None:
    try:
        found = read(row)
    except (BadRow, NoAnswer):
        return
    assert isinstance(found.reply.answer, str)
    assert found.cost_pusd is None or found.cost_pusd >= 0
    found.reply.answer.encode()
    try:
        question_of(found.question, ROW_RULES, needs_gold=False)
    except BadRow:
        return


@given(base=st.sampled_from([LITELLM, line(1, completion("3")), completion("3", messages=ASKED)]), data=st.data())
def test_one_field_of_a_known_layout_may_be_anything(base: dict[str, Any], data: st.DataObject) -> None:
    row = dict(base)
    row[data.draw(st.sampled_from(sorted(row)))] = data.draw(json_values)
    try:
        read(row)
    except (BadRow, NoAnswer):
        return
