"""Loops in a text are found; text that repeats for a reason is no loop."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_replies import EXAMPLES, WORDS, prose

from harvest.answers.repetition import CHARS, CHARS_WITHOUT_WORDS, TIMES, loop_at_end


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(max_size=300), st.text(min_size=1, max_size=400), st.integers(0, 40), st.integers(0, 10_000))
def test_a_loop_that_is_found_is_one(before: str, block: str, times: int, cut: int) -> None:
    text = before + block * times * 20
    text = text[: len(text) - cut % len(block)]
    if loop := loop_at_end(text):
        assert loop.chars >= max(CHARS, TIMES * len(loop.block))
        period = len(loop.block)
        tail = text[-loop.chars :]
        assert tail[period:] == tail[:-period]


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(st.integers(0, 999), st.integers(3, 300), st.integers(0, 2000))
def test_words_that_come_again_and_again_are_found(seed: int, words: int, cut: int) -> None:
    block = f"{prose(words, seed)} number {seed}.\n"
    text = prose(500, seed + 1) + block * (CHARS // len(block) + 5)
    loop = loop_at_end(text[: len(text) - cut % len(block)])
    assert loop is not None
    assert len(loop.block) <= len(block)


HONEST = {
    "prose": prose(9000),
    "a list": "".join(f"{n}. the {WORDS[n % 12]} of it\n" for n in range(1500)),
    "a table": "| n | square |\n| --- | --- |\n" + "".join(f"| {n} | {n * n} |\n" for n in range(1500)),
    "a row of zeros": "[" + "0, " * 9000,
    "a ruled line": "-" * 20_000,
    "a refrain": "".join(prose(60, n) + "\nand so the river runs to the sea\n" * 4 for n in range(60)),
    "code": "".join(f"    if x == {n}:\n        return {n % 7}\n" for n in range(900)),
    "a hundred lines of punishment": "I will not talk in class.\n" * 100,
    "steps alike": "".join(f"Step {n}: swap the first two, then the last two.\n" for n in range(800)),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_repeats_for_a_reason_is_no_loop(name: str) -> None:
    text = HONEST[name]
    assert len(text) > 2000
    assert [n for n in range(500, len(text), 500) if loop_at_end(text[:n])] == []


def test_a_long_block_is_said_four_times_before_it_is_a_loop() -> None:
    block = prose(600)
    assert len(block) * 2 > CHARS / 2
    assert loop_at_end("And so on. " + block * 3) is None
    assert loop_at_end("And so on. " + block * 4) is not None


def test_data_may_repeat_long_but_not_for_ever() -> None:
    assert loop_at_end("0, " * (CHARS_WITHOUT_WORDS // 3 - 1)) is None
    assert loop_at_end("0, " * (CHARS_WITHOUT_WORDS // 3 + 99)) is not None


def test_recorded_answers_that_ended_are_not_cut_and_loops_among_the_others_are_found(shared: Path) -> None:
    """As they would have been seen while they came, every 1,024 characters."""
    found: dict[str, set[str]] = {"ended": set(), "length": set(), "other": set()}
    rows = 0
    for path in sorted((shared / "data" / "traces").glob("*.jsonl")):
        for n, line in enumerate(path.read_text("utf-8").split("\n")):
            if not line:
                continue
            row, rows = json.loads(line), rows + 1
            ending = row.get("finish_reason")
            kind = "other" if ending is None else "length" if ending == "length" else "ended"
            for text in (row["reasoning"], row["answer"]):
                if any(loop_at_end(text[:end]) for end in range(4096, len(text) + 1024, 1024)):
                    found[kind].add(f"{path.stem}:{n}")
    assert rows == 1311
    assert found["ended"] == set()
    assert len(found["length"]) >= 7, "of 71 that ran into their limit of 4,096 tokens"
    assert len(found["other"]) == 1, "one answer of qwen3-30b says 927 characters nine times over"
