"""The preflight finds planted faults before the first step, each with its row and remedy, and lets good rows pass."""

import json
from pathlib import Path
from typing import Any

import pytest
from families import tokenizer_of
from hypothesis import given
from hypothesis import strategies as st
from students import SMOL, chat, smol_tokenizer, sums

from finetune.__main__ import main
from finetune.recipe import Recipe
from finetune.rows.faults import KINDS, Findings
from finetune.rows.preflight import in_words, preflight
from harvest.core.errors import DatasetError
from harvest.selection.decontamination import Evaluation

CHAIN = "<think>\n3 + 3 = 6\n</think>\n\n6"


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": "What is 3 + 3?"}, {"role": "assistant", "content": content}],
        **more,
    }


def good(n: int) -> list[dict[str, Any]]:
    return [{"messages": m} for m in sums(n)]


FAULTS: list[tuple[str, Any]] = [
    ("unreadable", '{"messages": [{"role": "us'),
    ("layout", {"text": "What is 3 + 3? 6"}),
    ("roles", {"messages": [{"role": "user", "content": "a"}, *chat("b", CHAIN)]}),
    ("nothing", {"messages": [{"role": "user", "content": "a"}]}),
    ("empty", said("  ")),
    ("content", said(None)),
    ("tools", {"messages": [*chat("a", "b")[:1], {"role": "assistant", "content": "b", "tool_calls": [{}]}]}),
    ("chain", said("<think>\n3 + 3 = 6")),
    ("answer", said("<think>\n3 + 3 = 6\n</think>\n")),
    ("lost", said("6", reasoning="3 + 3 = 6")),
    ("cut", said(CHAIN, finish_reason="length")),
    ("characters", said("far away: \ud800")),
    ("too long", said(f"<think>\n{'3 ' * 600}\n</think>\n\n6")),
]  # fmt: skip
"""What stops a training, and a row that has it."""

ODD: list[tuple[str, Any]] = [
    ("duplicate", {"messages": sums(1)[0]}),
    ("overlap", {"messages": chat("Please: Natalia sold 48 clips in April and half as many in May, how many?", CHAIN)}),
    ("chainless", said("6")),
    ("quoted", said("<think>\nwhy\n</think>\n\n6<|im_end|>")),
    ("loop", said("<think>\nwhy\n</think>\n\n" + "and so we wait, and so on and on " * 220)),
    ("marks", said("<reasoning>3 + 3 = 6</reasoning> 6")),
    ("rejected", said("<think>\nno\n</think>\n\n7", accepted=False, reason="wrong")),
]
"""What is told and does not stop it."""
EVALUATION = [("gsm-0", "Natalia sold 48 clips in April and half as many in May. How many?")]


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    def make(rows: list[Any], **render: Any) -> Recipe:
        lines = (r if isinstance(r, str) else json.dumps(r) for r in rows)
        (tmp_path / "train.jsonl").write_text("".join(line + "\n" for line in lines))
        given = {"max_tokens": 512, "too_long": "refuse", **render}
        return Recipe.model_validate({"student": "s", "data": str(tmp_path), "output": "out", "render": given})

    return make


def looked(recipe: Recipe) -> tuple[dict[str, Any], Findings]:
    found, findings, _ = preflight(recipe, smol_tokenizer(), [Evaluation("gsm", EVALUATION)])
    return found, findings


def test_every_planted_fault_is_found_with_its_row_and_its_remedy_and_the_good_rows_pass(recipe: Any) -> None:
    rows = [*good(30), *(row for _, row in FAULTS), *good(30)[::-1]]
    found, findings = looked(recipe(rows))
    assert len(FAULTS) >= 12
    assert (found["rows"], found["faulty"]) == (60, len(FAULTS))
    told = {f["kind"]: f for f in found["findings"] if f["is_fault"]}
    assert {kind: [r["row"] for r in f["rows"]] for kind, f in told.items()} == {
        kind: [30 + n] for n, (kind, _) in enumerate(FAULTS)
    }
    with pytest.raises(DatasetError) as e:
        findings.stop("d")
    lines = str(e.value).splitlines()
    assert len(lines) == len(FAULTS)
    for line, (kind, _) in zip(lines, FAULTS, strict=True):
        assert line.endswith(f"; {KINDS[kind].remedy}")


@pytest.mark.parametrize(("kind", "row"), FAULTS, ids=[k for k, _ in FAULTS])
def test_one_fault_among_good_rows_is_found_alone(recipe: Any, kind: str, row: Any) -> None:
    _, findings = looked(recipe([*good(5), row, *good(9)[5:]]))
    assert findings.counts == {kind: 1}
    assert [f.row for f in findings.of[kind]] == [5]
    assert "row 5 (train.jsonl line 6)" in findings.of[kind][0].where


@pytest.mark.parametrize(("kind", "row"), ODD, ids=[k for k, _ in ODD])
def test_what_is_odd_is_told_and_stops_nothing(recipe: Any, kind: str, row: Any) -> None:
    found, findings = looked(recipe([*good(5), row], max_tokens=4096))
    assert findings.counts == {kind: 1}
    assert [f.row for f in findings.of[kind]] == [5]
    assert found["rows"] == 6
    findings.stop("d")


def test_a_template_that_opens_a_chain_makes_a_row_without_one_a_fault(recipe: Any) -> None:
    _, findings, _ = preflight(recipe([*good(2), said("6")]), tokenizer_of("Qwen3.6"))
    assert findings.counts == {"no chain": 1}


def test_rows_of_several_turns_are_one_row_a_turn_where_the_template_strips_earlier_chains(recipe: Any) -> None:
    rows = [*good(2), {"messages": [*chat("one", CHAIN), *chat("two", CHAIN)], "question_id": "q"}]
    made_by = {}
    for family in ("Qwen3", "Qwen2.5"):
        found, findings, made = preflight(recipe(rows), tokenizer_of(family))
        assert not findings.counts
        made_by[family] = made
        split = family == "Qwen3"
        assert (found["rows"], found["several_turns"], found["one_row_a_turn"]) == (3 + split, 1, int(split))
        assert ("1 of them are one row a turn" in in_words(found, made.lengths).plain) == split
    assert made_by["Qwen3"].rows == (0, 1, 2, 2)
    assert made_by["Qwen3"].question_ids[2:] == ["q", "q"], "turns of one row are never parted"
    assert [asked for *_, asked in made_by["Qwen3"].asked()][2:] == [["one"], ["one", "two"]]
    assert sum(made_by["Qwen3"][3].mask) < sum(made_by["Qwen2.5"][2].mask)


def test_tags_after_a_chain_that_the_template_opens_itself_are_told(recipe: Any) -> None:
    for family in ("Qwen3.6", "R1-distill"):
        for reasoning, said_so in (("sky-t1", True), ("think", False)):
            found, _, made = preflight(recipe(good(6), reasoning=reasoning), tokenizer_of(family))
            assert any("writes <think> itself" in w for w in found["warnings"]) == said_so
            assert ("writes <think> itself" in in_words(found, made.lengths).plain) == said_so
    assert preflight(recipe(good(6), reasoning="sky-t1"), tokenizer_of("Qwen2.5"))[0]["warnings"] == []


def test_good_rows_pass_and_their_figures_are_those_of_the_rows(recipe: Any) -> None:
    found, findings = looked(recipe(good(40)))
    assert not findings.counts
    assert (found["rows"], found["chains"], found["ended"], found["questions"]) == (40, 40, 40, 40)
    assert (found["end_token"], found["several_turns"]) == ("<|im_end|>", 0)
    assert (found["steps_per_epoch"], found["steps"]) == (1, 3)
    assert 0 < found["trained_tokens"] < found["tokens"] == pytest.approx(40 * found["row_tokens"]["mean"], abs=2)


def test_where_no_row_has_a_chain_none_is_odd(recipe: Any) -> None:
    _, findings = looked(recipe([{"messages": chat(f"q{i}", "a")} for i in range(5)]))
    assert not findings.counts


def test_several_answers_to_one_question_are_no_duplicates(recipe: Any) -> None:
    found, findings = looked(recipe([said(CHAIN), said(CHAIN + " ")]))
    assert not findings.counts
    assert (found["rows"], found["questions"]) == (2, 1)


def test_what_is_left_out_as_too_long_is_named_too(recipe: Any) -> None:
    found, findings = looked(recipe([*good(2), said(f"<think>\n{'3 ' * 600}\n</think>\n\n6")], too_long="drop"))
    assert (found["rows"], found["dropped"], findings.counts) == (2, 1, {"left out": 1})
    assert not findings.faults


def test_of_many_faults_no_kind_goes_unnamed() -> None:
    findings = Findings()
    for row in range(50):
        findings.add("empty", row, f"row {row}", "is empty")
    findings.add("cut", 99, "row 99", "was cut")
    with pytest.raises(DatasetError) as e:
        findings.stop("d")
    lines = str(e.value).splitlines()
    assert [line.split()[2].rstrip(":") for line in lines[:2]] == ["0", "99"]
    assert lines[2:] == ["and 30 more rows like these"]
    for row in range(60):
        findings.add("roles", row, f"row {row}", f"role {chr(97 + row % 26)!r} is none of system, user, assistant")
    with pytest.raises(DatasetError) as e:
        findings.stop("d")
    lines = str(e.value).splitlines()
    assert len(lines) == 21
    assert "row 99: was cut" in lines[-2]


SAME = chat("What is 3 + 3?", CHAIN, "Be brief.")
FOREIGN = [
    {"messages": SAME},
    {"prompt": SAME[:2], "completion": SAME[2:]},
    {"conversations": [
        {"from": "system", "value": "Be brief."}, {"from": "human", "value": "What is 3 + 3?"},
        {"from": "gpt", "value": CHAIN},
    ]},
    {"system": "Be brief.", "conversations": [
        {"from": "user", "value": "What is 3 + 3?"}, {"from": "assistant", "value": CHAIN},
    ]},
    {"conversations": SAME},
    {"system": "Be brief.", "instruction": "What is 3 + 3?", "input": "", "output": CHAIN, "history": []},
    {"messages": [*SAME[:2], {"role": "assistant", "content": "6", "reasoning_content": "3 + 3 = 6"}]},
    {"system": "Be brief.", "question": "What is 3 + 3?", "reasoning": "3 + 3 = 6", "answer": "6"},
]  # fmt: skip


def test_the_same_conversation_in_each_layout_of_others_is_the_same_row(recipe: Any) -> None:
    _, findings, made = preflight(recipe(FOREIGN), smol_tokenizer())
    assert findings.counts == {"duplicate": len(FOREIGN) - 1}
    assert len({bytes(e.ids) for e in made}) == 1


def test_alpacas_input_and_history_are_kept(recipe: Any) -> None:
    row = {"instruction": "Add.", "input": "3 + 3", "output": CHAIN, "history": [["Hi", "Ho"]]}
    _, _, made = preflight(recipe([row]), smol_tokenizer())
    text = smol_tokenizer().decode(list(made[0].ids))
    assert "user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>" in text
    assert "user\nAdd.\n3 + 3<|im_end|>" in text


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": "Hi"}, {"conversations": [{"from": 3, "value": "a"}]}, {"conversations": [{"from": "human"}]},
        {"instruction": 3, "output": "x"}, {"instruction": "a", "output": None}, {"conversations": {}},
        {"instruction": "a", "output": "b", "history": [["one"]]}, {"messages": 3}, {"prompt": 3, "completion": "a"},
    ],
)  # fmt: skip
def test_a_foreign_row_that_cannot_be_read_is_a_fault_with_its_place(recipe: Any, row: Any) -> None:
    found, _ = looked(recipe([*good(1), row]))
    assert [(f["is_fault"], f["rows"][0]["row"]) for f in found["findings"]] == [(True, 1)]


# ---- overlap


def asked(text: str, *questions: str) -> str | None:
    return Evaluation("e", ((str(n), q) for n, q in enumerate(questions))).asked_in(text)


SUM = "State the final answer to the following arithmetic problem: 98 - 93 + 77 + {} ="


def test_the_same_question_is_found_whatever_stands_around_it() -> None:
    assert asked(SUM.format(13), "x", SUM.format(13)) == "1"
    assert asked(f"Think.\n\n  {SUM.format(13).upper()} \n\nPut it in a box.", SUM.format(13)) == "0"
    assert asked("What is 2+2?", "What is 2 + 2 ?") == "0"


def test_another_question_of_the_same_template_is_not() -> None:
    assert asked(SUM.format(14), SUM.format(13)) is None
    assert asked("What is 2+3?", "What is 2+2?") is None
    assert asked("", "What is 2+2?") is None
    assert asked("", "") == "0"


def test_a_question_put_a_little_otherwise_is_found_unless_its_numbers_are_others() -> None:
    question = (
        "Natalia sold 48 clips to her friends in April, and then she sold half as many clips in May. How many in all?"
    )
    assert asked(question.replace("How many in all", "How many clips altogether"), question) == "0"
    assert asked(question.replace("48", "49"), question) is None


@given(st.text(max_size=200))
def test_any_text_asks_itself(text: str) -> None:
    assert asked(text, text) == "0"


def test_no_test_question_of_gsm8k_is_taken_for_one_of_its_training_set(shared: Path) -> None:
    def read(name: str) -> list[str]:
        lines = shared / f"gsm8k/{name}.jsonl" if (shared / "gsm8k").is_dir() else shared / f"data/gsm8k/{name}.jsonl"
        return [json.loads(line)["question"] for line in lines.read_text("utf-8").splitlines()]

    test = Evaluation("test", ((str(n), q) for n, q in enumerate(read("test"))))
    assert sum(test.asked_in(q) is not None for q in read("train")) <= 3
    assert all(test.asked_in(f"Solve this.\n{q}\nBox the answer.") for q in read("test"))


# ---- the commands


@pytest.mark.parametrize("command", ["check", "dry run"])
def test_the_command_says_what_it_found_and_stops_with_the_faults(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    smol_tokenizer()
    data, questions = tmp_path / "d.jsonl", tmp_path / "q.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in [*good(6), said("<think>\nopen"), ODD[1][1]]))
    questions.write_text(json.dumps({"question": EVALUATION[0][1], "answer": "72"}) + "\n")
    words = ["check", str(data), SMOL] if command == "check" else [
        "sft", "--dry-run", "--student", SMOL, "--data", str(data), "--output", str(tmp_path / "out")
    ]  # fmt: skip
    assert main([*words, "--eval", str(questions)]) == 2
    out, err = capsys.readouterr()
    assert "7 of 8 can be trained · 1 faulty" in out
    assert "✗ 1 have a chain without its end or its beginning: row 6" in out
    assert "! 1 ask a question of the evaluation: row 7" in out
    assert err.splitlines() == [
        f"error: {data}: row 6 (d.jsonl line 7): message 1 (assistant): the chain is open: <think> is never "
        f"closed with </think>; {KINDS['chain'].remedy}"
    ]
    assert main([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["findings"][0]["rows"][0]["row"] == 6
    assert not (tmp_path / "out").exists()


def test_settings_may_be_given_to_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smol_tokenizer()
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in good(6)))
    words = ["check", str(tmp_path / "d.jsonl"), SMOL, "--json", "--render.reasoning", "sky-t1"]
    assert main(words) == 0
    sky = json.loads(capsys.readouterr().out)["tokens"]
    assert main(words[:4]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] < sky
    assert main([*words[:4], "--render.max_tokens", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: check: render.max_tokens: ")


def test_a_set_without_one_good_row_is_told_too(recipe: Any) -> None:
    found, findings = looked(recipe([said(None)]))
    assert "0 of 1 can be trained · 1 faulty" in in_words(found, []).plain
    assert found["row_tokens"]["mean"] is None
    assert findings.faults == 1


@pytest.mark.parametrize(("long", "short", "warns"), [(1, 3, True), (1, 4, False), (0, 3, False)])
def test_more_than_one_long_chain_to_four_short_ones_is_told_of_a_small_student(
    recipe: Any, long: int, short: int, warns: bool
) -> None:
    chains = [said(f"<think>\n{' '.join(f'{i} {n},' for i in range(1100))}\n</think>\n\n6") for n in range(long)]
    given = recipe([*chains, *good(short)], max_tokens=8192).model_copy(update={"student": SMOL})
    warnings = preflight(given, smol_tokenizer())[0]["warnings"]
    assert any("--select.long_tokens 2048" in w for w in warnings) == warns
    unknown = given.model_copy(update={"student": "nobody"})
    assert not any("long chain" in w for w in preflight(unknown, smol_tokenizer())[0]["warnings"])
