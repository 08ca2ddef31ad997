"""A model brings answers into the training format under the run's cap. What it writes is checked again, and no
rewriting that changes the content is trained on."""

import json
import re
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from books import audit_file
from conftest import Place
from scripted_endpoint import PRICE, Asked, Endpoint, Say
from test_import import Imports
from test_model_judge import parts, rows, vague, verdicts

from harvest.core.config import Filters
from harvest.core.nouns import HUMAN, Candidate, Outcome, Question, Reply, Verdict
from harvest.core.teachers import RewriteModel
from harvest.endpoint.prompt import load
from harvest.filters.content import what_changed
from harvest.judging.marks import standing_with
from harvest.judging.model_rewriting import fault, is_asked, is_too_long, messages, parts_of_rewriting, verdict
from harvest.store import Mark, Store

THOUGHT = "<|begin_of_thought|>\n{}\n<|end_of_thought|>\n\n<|begin_of_solution|>\n{}\n<|end_of_solution|>"


def text_in(asked: Asked) -> str:
    """The text that a rewriter is shown: between the mark's two lines."""
    mark = asked.question.rstrip().rsplit("\n", 1)[1]
    return asked.question.split(f"\n{mark}\n", 1)[1].rsplit(f"\n{mark}", 1)[0]


def selected(there: Place) -> list[dict[str, Any]]:
    """The rows of the run's dataset."""
    return [json.loads(line) for line in (there.run_folder / "dataset/train.jsonl").read_text().splitlines()]


def unmarked(there: Place) -> list[tuple[bool | None, str | None]]:
    """What each answer is again when a person takes back a mark of it, in the order of the questions."""
    with closing(Store.open(f"sqlite:///{there.store}", write=False)) as store:
        run, found = store.run(store.run_id("r")), []
        for stored in sorted(store.listed(run.id).id):
            key = store.key_of(stored)
            answer = store.marked_answer(stored, key or "")
            assert answer is not None
            was = Verdict(HUMAN, "1", Outcome.WRONG, "")
            marked = replace(answer, newest={**answer.newest, HUMAN: was})
            found.append(
                (
                    answer.answer.question.id,
                    standing_with(marked, Mark(stored, key or "", Outcome.UNSURE, "", "now"), run),
                )
            )
    return [standing for _, standing in sorted(found)]


def boxing(asked: Asked) -> Say:
    """Puts the text's last number into a box, as a faithful model does."""
    return Say(text=re.sub(r"(\d+)(\D*)\Z", r"\\boxed{\1}\2", text_in(asked)), output_tokens=9)


@pytest.fixture
def rewritten(endpoint: Callable[..., Endpoint], place: Callable[..., Place]) -> Callable[..., Any]:
    """A run with a teacher and a rewriter of its own, at 0 and 1 of `endpoints`."""

    def make(
        teacher: Callable[[Asked], Say], rewriter: Callable[[Asked], Say], n: int = 3, /, **more: Any
    ) -> tuple[Place, Endpoint, Endpoint]:
        asked, rewriting = endpoint(teacher), endpoint(rewriter)
        section = {"base_url": rewriting.url, "model": "mini", "price_usd_per_mtok": PRICE, "max_tokens": 200}
        own = {key.removeprefix("model__"): more.pop(key) for key in list(more) if key.startswith("model__")}
        return (
            place(
                asked.url,
                rows(n),
                rewrite={"model": {k: v for k, v in (section | own).items() if v is not None}},
                **more,
            ),
            asked,
            rewriting,
        )

    return make


def test_what_the_check_cannot_read_is_accepted_as_the_model_rewrote_it(rewritten: Callable[..., Any]) -> None:
    def rewriter(asked: Asked) -> Say:
        return Say(text="Surely \\boxed{5}") if "number 5" in text_in(asked) else boxing(asked)

    there, teacher, model = rewritten(vague, rewriter)
    code, _, err = there.collect()
    assert code == 0, err
    assert verdicts(there.store) == [
        ("q0", "math", "no_answer", 0, "no_answer"), ("q0", "rewriting", "wrong", 0, "no_answer"),
        ("q1", "math", "no_answer", 1, None), ("q1", "rewriting", "right", 1, None),
        ("q2", "math", "no_answer", 0, "no_answer"), ("q2", "rewriting", "wrong", 0, "no_answer"),
    ]  # fmt: skip
    report = there.report
    assert (report["attempts"]["sent"], report["rewriting"]["sent"]) == (3, 3)
    assert {k: report["rewriting"][k] for k in ("by_model", "accepted", "by_model_refused")} == {
        "by_model": 1, "accepted": 1,
        "by_model_refused": {"its answer is not right": 1, "it has words that the text has not": 1},
    }  # fmt: skip
    assert there.money("spent") == Decimal(teacher.billed_pusd + model.billed_pusd) / 10**12 == parts(there)
    spent = Decimal(report["money"]["spent_on"]["rewriting_usd"])
    assert spent == Decimal(model.billed_pusd) / 10**12 == Decimal(report["rewriting"]["usd_per_rewriting"])
    for name in ("report.md", "report.html"):
        assert "0 by rules, 1 by a model for 0.00" in (there.run_folder / name).read_text()
    audit_file(there.store)
    assert model.asked[0].body["model"] == "mini"
    assert "Right answer" not in model.asked[0].question, "the model is not shown the gold answer"
    (row,) = selected(there)
    answers = row["answer"], row["original"]["answer"]
    assert answers == (r"Let us call it the number \boxed{3}!", "Let us call it the number 3!")
    card = (there.run_folder / "dataset/README.md").read_text()
    assert "1 rows; 1 of them by a model" in card
    assert "on the model that rewrites" in card
    why = Imports(there.folder).run("why", "r", "q1")[0]
    assert "rewriting 1: passed: rewritten by mini" in why
    assert r"Let us call it the number \boxed{3}!" in why
    assert "rewriting 1: refused: its answer is not right" in Imports(there.folder).run("why", "r", "q0")[0]
    asked = len(teacher.asked), len(model.asked)
    assert there.collect()[0] == 0
    said = json.loads(Imports(there.folder).run("verify", "r", "--json", "--again")[0])
    assert said["accepted"] == {"before": 1, "now": 1}
    assert (len(teacher.asked), len(model.asked)) == asked, "what is stored is not bought again"
    assert unmarked(there) == [(False, "no_answer"), (True, None), (False, "no_answer")]
    del there.settings["rewrite"]
    assert there.collect()[0] == 0
    said = json.loads(Imports(there.folder).run("verify", "r", "--json", "--again")[0])
    assert said["accepted"] == {"before": 1, "now": 0}, "without the model its rewritings do not count"


def test_only_what_is_asked_for_is_rewritten_and_nothing_that_is_wrong(rewritten: Callable[..., Any]) -> None:
    def teacher(asked: Asked) -> Say:
        a, b = map(int, re.findall(r"\d+", asked.question))
        texts = (f"\\boxed{{{a + b + 1}}}", f"The answer is {a + b}.", f"So \\boxed{{{a + b}}}.", "who knows")
        return Say(text=texts[a], chain="" if a == 2 else "I add.")

    seen = {}
    for about in ("format", "no_chain", "accepted", "no_answer"):
        there, _, model = rewritten(teacher, boxing, 4, name=about, model__about=[about])
        assert there.collect()[0] == 0
        seen[about] = sorted(text_in(asked) for asked in model.asked)
    assert seen == {
        "format": ["The answer is 3."],
        "no_chain": [r"So \boxed{5}."],
        "accepted": [r"So \boxed{5}.", "The answer is 3."],
        "no_answer": ["who knows"],
    }


def test_what_the_rules_rewrite_is_not_bought(rewritten: Callable[..., Any]) -> None:
    there, _, model = rewritten(lambda asked: Say(text="The answer is 1."), boxing, 1, rewrite__on=True)
    assert there.collect()[0] == 0
    assert model.asked == []
    assert there.report["rewriting"]["by_rules"] == 1
    assert there.report["traces"]["selected"] == 1


def test_a_chain_in_the_answer_is_moved_apart_and_one_that_is_apart_stays(rewritten: Callable[..., Any]) -> None:
    def teacher(asked: Asked) -> Say:
        a, b = map(int, re.findall(r"\d+", asked.question))
        return Say(text=f"I add {a} and {b}. It is \\boxed{{{a + b}}}.", chain="" if a else "Hm, easy.")

    def rewriter(asked: Asked) -> Say:
        chain, _, answer = text_in(asked).rpartition(". ")
        return Say(text=THOUGHT.format(f"{chain}.", answer) if "begin_of_thought" in str(asked.body) else answer)

    there, _, _ = rewritten(teacher, rewriter, 2, model__about=["accepted"])
    assert there.collect()[0] == 0
    found = {row["question_id"]: (row["reasoning"], row["answer"]) for row in selected(there)}
    assert found == {
        "q0": ("Hm, easy.", r"I add 0 and 1. It is \boxed{1}."),
        "q1": ("I add 1 and 2.", r"It is \boxed{3}."),
    }, "of a chain that is apart nothing may move, so that the first rewriting is refused: it left out two numbers"


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_the_model_rewrites_nothing_is_lost_or_bought_twice(
    moment: str, rewritten: Callable[..., Any]
) -> None:
    processes: list[Any] = []

    def rewriter(asked: Asked) -> Say:
        kill = (lambda: processes[0].send_signal(signal.SIGKILL)) if len(model.asked) == 2 else None
        said = boxing(asked)
        at_half = moment == "before"
        return Say(text=said.text, on_half=kill if at_half else None, on_sent=None if at_half else kill)

    def teacher(asked: Asked) -> Say:
        a, b = map(int, re.findall(r"\d+", asked.question))
        return Say(text=f"Let us call it the number {a + b}!")

    there, asked, model = rewritten(teacher, rewriter, 4, teacher__max_concurrency=1, model__max_concurrency=1)
    processes.append(there.start())
    processes[0].communicate(timeout=60)
    assert processes[0].returncode == -signal.SIGKILL
    audit_file(there.store)
    code, _, err = there.collect()
    assert code == 0, err
    assert len(asked.asked) in (4, 5)
    assert len(model.asked) in (4, 5), "but for the one that was on its way nothing is asked twice"
    assert there.report["traces"]["accepted"] == 4
    assert there.money("spent") == parts(there)
    books = audit_file(there.store)
    assert asked.billed_pusd + model.billed_pusd <= books["spent"] + books["in_doubt"] <= books["cap"]


def test_a_cap_without_room_for_rewriting_leaves_answers_as_they_came(rewritten: Callable[..., Any]) -> None:
    expensive = {"input": "1000.00", "output": "10.00"}
    there, teacher, model = rewritten(vague, boxing, 2, model__price_usd_per_mtok=expensive, budget__usd="0.05")
    code, _, err = there.collect()
    assert code == 0, err
    assert (len(teacher.asked), len(model.asked)) == (2, 0)
    assert there.report["traces"]["rejected"] == {"no_answer": 2}


def test_other_numbers_are_one_reason_in_the_report(rewritten: Callable[..., Any]) -> None:
    there, _, _ = rewritten(vague, lambda asked: Say(text=text_in(asked) + " 7" * 90, output_tokens=9))
    code, _, err = there.collect()
    assert code == 0, err
    assert there.report["rewriting"]["by_model_refused"] == {"it has another number": 3}


def test_faults_of_its_settings_are_named_as_its_own(rewritten: Callable[..., Any]) -> None:
    for more, words in (
        ({"model__modell": "x"}, "rewrite.model.modell: unknown setting; did you mean 'model'?"),
        ({"model__price_usd_per_mtok": None}, "rewrite.model.price_usd_per_mtok"),
        ({"model__base_url": "https://api.openai.com/v1"}, "rewrite.model.terms: the terms of OpenAI forbid training"),
        ({"model__prompt": "nosuch"}, "prompt 'nosuch': no such prompt"),
    ):
        there, teacher, _ = rewritten(vague, boxing, 1, **more)
        code, _, err = there.collect()
        assert (code, teacher.asked) == (2, [])
        assert words in err


# ---- what a rewriting may change

PROGRAM = "def twice(n):\n    return 2 * n"
WAIT = "No, wait. " * 60


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ((None, "Sure! It is 5."), (None, r"It is \boxed{5}."), None),
        ((None, "We add 2 and 3. It is 5."), ("We add 2 and 3.", "It is 5."), None),
        ((None, "2 and 3 are 5."), (None, "2 and 3 are 5.\n\nThe final answer is \\boxed{5}."), None),
        ((None, f"It is:\n{PROGRAM}\nBye."), (None, f"It is:\n```python\n{PROGRAM}\n```\nBye."), None),
        ((None, "5"), (None, r"\boxed{5}"), None),
        ((None, "2 and 3 are 5."), (None, "2 and 3 are 5.\n\n\\boxed{6}"), "6 in place of no number"),
        ((None, "It is 5."), (None, r"It is \boxed{6}."), "it has 6 in place of 5"),
        ((None, "We add 2 and 3. It is 5."), (None, "It is 5."), "it has 5 in place of 2"),
        ((None, "It is five."), (None, "It is surely five."), "words that the text has not"),
        ((None, f"```\n{PROGRAM}\n```"), (None, f"```\n{PROGRAM.replace('n', 'k')}\n```"), "in it is changed"),
        ((None, PROGRAM), (None, f"```\n{PROGRAM.replace(' * ', '*')}\n```"), "a program that the text has not"),
        ((None, "word " * 400), (None, "word " * 200), "leaves out a part"),
        ((None, "It is 5."), ("It is 5.", " "), "no answer in it"),
        ((None, "<think>2 + 3=5</think> So x < 6."), ("2 + 3 = 5", "So $x<6$."), None),
        ((None, "So x < 6."), (None, "So x > 6."), "other operators"),
        ((None, "So x is a + b."), (None, "So x is a - b."), "other operators"),
        ((None, "So x ≠ 6."), (None, "So x = 6."), "other operators"),
        ((None, "So 1/2."), (None, "So 1 2."), "other operators"),
        ((None, f"Now 5. {WAIT} So 6."), (None, f"Now \\boxed{{5}}. {WAIT} So 6."), "a box before"),
        ((None, f"Now 5. {WAIT} So 6."), (None, f"Now 5. {WAIT} So \\boxed{{6}}."), None),
    ],
)  # fmt: skip
def test_a_rewriting_keeps_the_content(
    before: tuple[str | None, str], after: tuple[str | None, str], why: str | None
) -> None:
    found = what_changed(before, after)
    assert found is None if why is None else why in str(found)


def test_a_megabyte_of_text_is_compared_in_seconds() -> None:
    text = "So 12 + 13 = 25, and `x` is y.\n" * 30_000
    assert what_changed((None, text), (text, "So 25.")) == "it has 25 in place of no number"
    for hostile in ("\n" * 1_000_000, "\\boxed{" * 100_000, "```\n" * 200_000, "the answer is " * 70_000):
        what_changed((None, text), (None, hostile + "1"))


def test_a_rewriting_that_was_cut_or_holds_half_a_layout_is_refused_or_read_as_text() -> None:
    question = Question(id="q", question="2 + 3?", answer="5", check="math")
    came = Candidate(1, 0, question, (), None, "We add 2 and 3. It is 5.", None, None)
    whole = Reply(THOUGHT.format("We add 2 and 3.", "It is 5."), finish_reason="stop")
    assert parts_of_rewriting(came, whole) == ("We add 2 and 3.", "It is 5.")
    assert fault(came, whole) is None
    assert fault(came, Reply(whole.answer, finish_reason="length")) == "it was cut short"
    assert parts_of_rewriting(came, Reply("<|begin_of_thought|>We add.")) == (None, "<|begin_of_thought|>We add.")
    chain, answer = parts_of_rewriting(came, Reply("Here it is: " + whole.answer, finish_reason="stop"))
    assert chain is None
    assert answer.startswith("Here it is"), "what stands before a layout is not lost"


def test_an_empty_answer_and_one_beyond_the_limit_are_not_sent() -> None:
    question = Question(id="q", question="2 + 3?", answer="5", check="math")
    settings = RewriteModel(base_url="https://x.example/v1", model="m", max_tokens=100)
    unread = Verdict("math", "1", Outcome.NO_ANSWER, "")
    for text, is_sent in (("It is 5.", True), (" \n", False)):
        came = Candidate(1, 0, question, (), "A chain.", text, None, None)
        assert is_asked(settings, came, unread, Filters(), by_rules=False) is is_sent
        assert not is_too_long(settings, came)
    assert is_too_long(settings, replace(came, answer="word " * 200))


def test_the_mark_around_a_text_is_another_one_for_each_text() -> None:
    question = Question(id="q", question="2 + 3?", answer="5", check="math")
    prompt = load("rewrite")
    said = [
        str(messages(prompt, Candidate(1, 0, question, (), None, text, None, None))).replace(text, "TEXT")
        for text in ("It is 5.", "It is 6.", "It is 5.")
    ]
    assert said[0] == said[2]
    assert said[0] != said[1], "a text could hold the mark, and instructions behind it"


@pytest.mark.parametrize(
    ("fault", "checked", "outcome", "detail"),
    [
        (None, Outcome.RIGHT, Outcome.RIGHT, "rewritten by m"),
        (None, Outcome.WRONG, Outcome.WRONG, "its answer is not right"),
        (None, None, Outcome.WRONG, "its answer was not checked"),
        ("it was cut short", Outcome.RIGHT, Outcome.WRONG, "it was cut short"),
        ("it was cut short", None, Outcome.WRONG, "it was cut short"),
    ],
)
def test_a_rewriting_passes_without_a_fault_and_with_a_right_answer_alone(
    fault: str | None, checked: Outcome | None, outcome: Outcome, detail: str
) -> None:
    said = verdict("m", fault, None if checked is None else Verdict("math", "1", checked, ""))
    assert (said.outcome, said.detail) == (outcome, detail)
