"""Rewriting: each rule both ways, the guard, and that no number, program or word is changed or added."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_import import Imports, completion, line

from harvest.core.nouns import Candidate, Question
from harvest.filters.reading import FENCE
from harvest.filters.rewrite import keeps_all, rewritten
from harvest.judging.rewriting import Rewriter

BOX = "Reason step by step, then give the final answer in \\boxed{}."
STEPS = "There are 12 hens, and each of them lays 2 eggs. 12 times 2 is 24."


def candidate(
    answer: str, reasoning: str | None = "12 times 2.", *, check: str = "math", system: str = BOX, gold: str = "24"
) -> Candidate:
    question = Question(id="q", question="How many eggs?", answer=gold, check=check)
    asked = ({"role": "system", "content": system}, {"role": "user", "content": question.question})
    return Candidate(1, 0, question, asked, reasoning, answer, None, None)


CASES = {
    # answer, chain → chain, answer
    "a stated result": ("So it is so.\n\nAnswer: 24", "c", "c", "So it is so.\n\nAnswer: \\boxed{24}"),
    "a stated formula": ("The answer is $\\frac{1}{2}$.", "c", "c", "The answer is $\\boxed{\\frac{1}{2}}$."),
    "a result with its unit": ("**Answer:** 24 eggs", "c", "c", "**Answer:** \\boxed{24\\text{ eggs}}"),
    "percent": ("The answer is 24%.", "c", "c", "The answer is \\boxed{24\\%}."),
    "money": ("Answer: $24", "c", "c", "Answer: \\boxed{\\$24}"),
    "a word": ("Answer: Dan", "c", "c", "Answer: \\boxed{\\text{Dan}}"),
    "one number in the last line": ("So she has **24** eggs.", "c", "c", "So she has **\\boxed{24}** eggs."),
    "a result that is part of a later word": (
        "The answer is cat. Do not concatenate.", "c", "c", "The answer is \\boxed{\\text{cat}}. Do not concatenate.",
    ),
    "a result whose number comes up again": (
        "Answer: 12\n\nAs a year has 12 months.", "c", "c", "Answer: \\boxed{12}\n\nAs a year has 12 months.",
    ),
    "a result that is stated twice": ("Answer: 24. Answer: 24", "c", "c", "Answer: 24. Answer: \\boxed{24}"),
    "think tags": (f"<think>\n{STEPS}\n</think>\n\n\\boxed{{24}}", None, STEPS, "\\boxed{24}"),
    "no opening tag": (f"{STEPS}\n</think>\n\n\\boxed{{24}}", None, STEPS, "\\boxed{24}"),
    "Sky-T1's tags": (
        f"<|begin_of_thought|>\n{STEPS}\n<|end_of_thought|>\n<|begin_of_solution|>\n\\boxed{{24}}\n<|end_of_solution|>",
        None, STEPS, "\\boxed{24}",
    ),
    "reasoning and answer": (f"<reasoning>{STEPS}</reasoning>\n<answer>24</answer>", None, STEPS, "\\boxed{24}"),
    "a tag left in the chain": ("\\boxed{24}", f"<think>\n{STEPS}", STEPS, "\\boxed{24}"),
    "headings": (f"### Reasoning\n{STEPS}\n\n### Final Answer\n24", None, STEPS, "### Final Answer\n\\boxed{24}"),
    "an answer's line": (f"{STEPS}\n\n**Answer: 24**", None, STEPS, "**Answer: \\boxed{24}**"),
    "a last word": (
        f"{STEPS}\n\nTherefore, the hens lay 24 eggs.", None, STEPS, "Therefore, the hens lay \\boxed{24} eggs.",
    ),
    "a box at the end": (f"{STEPS}\n\n---\n\nSo \\boxed{{24}}", None, STEPS, "So \\boxed{24}"),
    "courtesies": (
        "Sure! Here is the solution:\n\n### Solution\n\n12 × 2 = 24, so \\boxed{24}.\n\nHope this helps! Let me"
        " know if you have any questions.", "c", "c", "12 × 2 = 24, so \\boxed{24}.",
    ),
    "spaces": ("So\u200b it is\r\n\r\n\r\n\r\n\\boxed{24}", "c", "c", "So it is\n\n\\boxed{24}"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_free_form_is_brought_into_the_format(name: str) -> None:
    answer, reasoning, chain, said = CASES[name]
    found = rewritten(candidate(answer, reasoning))
    assert found is not None
    assert (found.reasoning, found.answer) == (chain, said)
    assert found.rules


@pytest.mark.parametrize(
    ("answer", "reasoning"),
    [
        ("\\boxed{24}", "c"),  # as it should be
        ("So it is \\boxed{24}.", "Okay, let's see. Hope this helps!"),  # a chain that was set apart is left alone
        ("It is 24 or 25.", "c"),  # two results
        ("12 × 2 = 24 and 3 × 4 = 12.", "c"),  # none that is stated
        ("I cannot say, but 24 may be the answer.", "c"),
        ("Let me know if 24 is enough.", "c"),  # a farewell with a digit, and all there is
        ("```python\nprint(24)\n```", "c"),
        ("So it is about 24 eggs.", "c"),  # a last line that commits itself to nothing
        ("Answer: 2^10", "c"),  # in a box it would be 2¹0
        ("Hope this helps! " * 20 + "24", "c"),  # a loop, and none of ours
        ("", "c"),
    ],
)
def test_what_needs_nothing_or_cannot_be_told_stays(answer: str, reasoning: str | None) -> None:
    assert rewritten(candidate(answer, reasoning)) is None


@pytest.mark.parametrize("text", [" " * 60_000 + "x", "<answer>" * 20_000 + "24", "`" * 60_000, "Sure! " * 20_000])
def test_a_text_made_to_be_slow_ends(text: str) -> None:
    """A pattern that gives back what it took would hang here for minutes."""
    for check in ("math", "code"):
        rewritten(candidate(text, None, check=check))
        rewritten(candidate("Answer: 24", text, check=check))


def test_a_box_is_made_only_where_one_was_asked_for() -> None:
    assert rewritten(candidate("Answer: 24", system="Think.")) is None


def test_tags_that_the_prompt_asks_for_stay() -> None:
    asks = "Put the result between <answer> and </answer>."
    assert rewritten(candidate("<answer>24</answer>", system=asks)) is None


def test_a_program_is_parted_from_its_chain_byte_for_byte() -> None:
    program = "```python\nprint( 'x\u200b' )   \n\n\n\n# \\boxed{1}\t\r\n```"
    text = f"Sure! Here is the solution:\n\n{STEPS}\n\n\n\n{program}\n\nHope this helps!"
    found = rewritten(candidate(text, None, check="code", system="Give one fenced block."))
    assert found is not None
    assert (found.reasoning, found.answer) == (STEPS, program)


# ---- the guard


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (("a 1", "2"), ("a 1", "\\boxed{2}"), True),
        (("a 1", "2 b"), ("a 1", "2"), True),
        (("a 1", "2"), ("a 1", "3"), False),
        (("a 1", "2"), ("a 1", "2 2"), False),
        (("a 1", "-2"), ("a 1", "2"), False),
        (("a 1", "1.50"), ("a 1", "1.5"), False),
        (("a 1 2", "x"), ("a 2 1", "x"), False),
        ((None, "1 so 2"), ("1", "so 2"), True),
        (("a", "so"), ("a", "so it is"), False),
        (("a", "```\nx\n```"), ("a", "```\nx \n```"), False),
        (("a", "b"), ("a", " "), False),
    ],
)
def test_the_guard(before: tuple[str | None, str], after: tuple[str | None, str], kept: bool) -> None:
    assert keeps_all(before, after) == kept


PIECES = [
    "Sure! Here is the solution:\n\n", "Certainly. ", "### Reasoning\n", "### Final Answer\n", "**Answer:** ",
    "Answer: 7", "-3", "1,000", "3.50", "24%", "$5", "2^10", "1/2", "\\frac{1}{2}", "\\boxed{9}", "<think>",
    "</think>", "<answer>", "</answer>", "\n\n", "\r\n", "```python\nx = 1  \n\n\n\n```\n", "```\n", " \n",
    "Therefore, ", "so it is ", "Hope this helps!", "\n\nHope this helps!", " Let me know if you need more.",
    "`8`", "**4**", "$x=2$", "\u200b", STEPS, "<|begin_of_thought|>", "<|end_of_thought|>",
    "<|begin_of_solution|>", "<|end_of_solution|>", "---\n", "{", "}", "\\text{a}", "é", "\u0663", "Answer: Dan",
]  # fmt: skip
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=14).map("".join)
NUMBER = re.compile(r"-?\d[\d.,]*\d|-?\d")


@given(st.none() | texts, texts, st.sampled_from(["math", "code", "text"]))
@example(None, f"{STEPS}\n\n```\n1\n```\n\nAnswer: 1", "math")
@example(None, "Sure! Here is the solution:\n\n" * 2, "math")
@settings(deadline=None)
def test_nothing_that_is_said_changes(reasoning: str | None, answer: str, check: str) -> None:
    before = candidate(answer, reasoning, check=check)
    found = rewritten(before)
    if found is None:
        return
    parted = found.reasoning != reasoning
    old = "\n".join(filter(None, (reasoning if parted else None, answer)))
    new = "\n".join(filter(None, (found.reasoning if parted else None, found.answer)))
    assert NUMBER.findall(new) == NUMBER.findall(old)
    assert [m[0].strip() for m in FENCE.finditer(new)] == [m[0].strip() for m in FENCE.finditer(old)]
    words = re.compile(r"[^\W_]")
    added = ("boxed" * max(0, new.count("\\boxed") - old.count("\\boxed"))) + "text" * max(
        0, new.count("\\text") - old.count("\\text")
    )
    assert len(words.findall(new)) <= len(words.findall(old)) + len(added)
    again = rewritten(replace(before, reasoning=found.reasoning, answer=found.answer))
    assert again is None or (again.reasoning, again.answer) == (found.reasoning, found.answer)


# ---- judged again


def test_what_the_check_does_not_pass_stays_as_it_came() -> None:
    rewriter = Rewriter(True)
    right, stands = rewriter(candidate("Answer: 24"))
    assert (right.answer, stands) == ("Answer: \\boxed{24}", True)
    wrong = candidate("Answer: 24", gold="25")
    assert rewriter(wrong) == (wrong, False)
    assert Rewriter(False)(candidate("Answer: 24")) == (candidate("Answer: 24"), None)


@pytest.fixture
def imports(tmp_path: Path) -> Imports:
    return Imports(tmp_path)


def test_an_export_has_both_versions(imports: Imports) -> None:
    rows = [
        line(i, completion(f"Answer: {2 * i + 1}", reasoning=f"I add {i} and {i + 1}, and get {2 * i + 1}."),
             question=f"What is {i} + {i + 1}? Give it in \\boxed{{}}.")
        for i in range(3)
    ]  # fmt: skip
    imports.take(imports.file("a.jsonl", rows))
    imports.run("select", "r", "--rewrite.on", "true")
    imports.run("export", "r", "--to", imports.folder / "out")
    exported = [json.loads(row) for row in Path(imports.folder / "out/train.jsonl").read_text().splitlines()]
    assert exported
    for row in exported:
        gold = row["gold"]
        assert row["answer"] == f"Answer: \\boxed{{{gold}}}"
        assert row["original"]["answer"] == f"Answer: {gold}"
        assert row["messages"][-1]["content"].endswith(row["answer"])
