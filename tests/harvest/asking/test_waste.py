"""Money that goes into answers which nobody will train on is said while it happens, with the setting that helps."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Place
from scripted_endpoint import Asked, Endpoint, Say

from harvest.asking.waste import EVIDENCE, MOST_WITHOUT_CHAIN, Waste
from harvest.core.config import RunConfig
from harvest.core.errors import ChainsHidden
from harvest.core.money import Usage
from harvest.core.nouns import Attempt, Judgement, Question, Reply

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]
QUESTION = Question(id="q", question="1 + 1", answer="2", check="math")
HIDDEN = Say(chain="", usage_more={"completion_tokens_details": {"reasoning_tokens": 20}})


class Seen:
    """A Waste, with what it said and whether it stopped the run."""

    def __init__(self, *, reasoning: str = "endpoint", **checks: Any) -> None:
        teacher = {"base_url": "https://x.example/v1", "model": "m"}
        config = RunConfig.model_validate({"questions": "q", "teacher": teacher, "checks": checks})
        self.said: list[str] = []
        self.stopped: list[ChainsHidden] = []
        self.waste = Waste(config, reasoning, self.said.append, self.stopped.append)

    def judged(self, reason: str | None, n: int = 1, tokens: int = 100, **reply: Any) -> None:
        for _ in range(n):
            came = Reply(**{"answer": "2", "reasoning": "so", "usage": Usage(5, 0, tokens), **reply})
            attempt = Attempt(1, 0, 4096, "answered")
            self.waste.judged(QUESTION, attempt, came, Judgement(1, (), reason))


@pytest.mark.parametrize(
    ("reason", "named"),
    [("wrong", "sampling.samples"), ("no_answer", "prompt"), ("truncated", "sampling.max_tokens"),
     ("repetition", "teacher.stream"), ("format", "checks.require")],
)  # fmt: skip
def test_what_most_tokens_are_wasted_on_is_said_once_with_a_setting(reason: str, named: str) -> None:
    seen = Seen()
    seen.judged(None, EVIDENCE // 2 - 1)
    seen.judged(reason, EVIDENCE)
    assert len(seen.said) == 1
    assert named in seen.said[0]
    assert f"{100 * 16 // 30}%" in seen.said[0]


def test_waste_is_measured_in_tokens_and_half_of_them_is_none() -> None:
    seen = Seen()
    seen.judged(None, EVIDENCE, tokens=1000)
    seen.judged("wrong", 10 * EVIDENCE, tokens=100)
    assert seen.said == []
    seen.judged("wrong", 1, tokens=100)
    assert len(seen.said) == 1


def test_a_plain_model_is_told_of_the_prompt_that_takes_its_steps_as_the_chain() -> None:
    seen = Seen()
    seen.judged(None, 2 * MOST_WITHOUT_CHAIN, reasoning=None)
    assert len(seen.said) == 1
    assert 'prompt = "steps"' in seen.said[0]
    assert seen.stopped == []


@pytest.mark.parametrize(
    "hidden",
    [
        {"reasoning": None, "usage": Usage(5, 0, 100, 80)},
        {"reasoning_kind": "summary"},
        {"reasoning": None, "reasoning_kind": "encrypted"},
    ],
)
def test_chains_that_are_hidden_stop_the_run_and_one_shown_chain_does_not(hidden: dict[str, Any]) -> None:
    seen = Seen()
    seen.judged(None, MOST_WITHOUT_CHAIN - 1, **hidden)
    assert seen.stopped == []
    seen.judged(None, 1, **hidden)
    assert 'checks.without_chain = "keep"' in str(seen.stopped[0])
    mixed = Seen()
    mixed.judged(None, 1)
    mixed.judged(None, 3 * MOST_WITHOUT_CHAIN, **hidden)
    assert (mixed.stopped, mixed.said) == ([], [])
    kept = Seen(without_chain="keep")
    kept.judged(None, 3 * MOST_WITHOUT_CHAIN, **hidden)
    assert (kept.stopped, len(kept.said)) == ([], 1)
    by_prompt = Seen(reasoning="before_box")  # the chain is asked for in the answer, so a hidden one is no loss
    by_prompt.judged(None, 3 * MOST_WITHOUT_CHAIN, **hidden)
    assert (by_prompt.stopped, by_prompt.said) == ([], [])


def test_a_run_for_hidden_chains_stops_says_why_and_goes_on_when_the_user_wants_it(
    endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint(lambda _: HIDDEN)
    p = place(teacher.url, 60, teacher__max_concurrency=4)
    code, _, err = p.collect()
    assert code == 4, err
    assert "error: the endpoint keeps back the chains of all 20 answers" in err
    assert (p.report["run"]["status"], p.report["run"]["stopped_by"]) == ("refused", "chains")
    bought = len(teacher.asked)
    assert MOST_WITHOUT_CHAIN <= bought <= MOST_WITHOUT_CHAIN + 8
    assert p.collect()[0] == 4
    assert len(teacher.asked) <= bought + 8, "a second start buys no other twenty"
    code, _, err = p.collect("--checks.without_chain", "keep")
    assert code == 0, err
    assert p.report["questions"]["solved"] == 60
    rows = [json.loads(line) for line in (p.run_folder / "dataset/train.jsonl").read_text().splitlines()]
    assert {row["reasoning"] for row in rows} == {None}


def test_doctor_fails_a_teacher_that_hides_its_chain_unless_answers_alone_are_wanted(
    endpoint: Endpoints, place: Places
) -> None:
    hides, shows = endpoint(lambda _: HIDDEN), endpoint()
    p = place(hides.url, 1)
    code, out, err = p.harvest("doctor", str(p.toml))
    assert code == 4
    assert "!!  chain: hidden" in out
    assert 'checks.without_chain = "keep"' in err
    p.settings["checks"] = {"without_chain": "keep"}
    assert p.harvest("doctor", str(p.toml))[0] == 0
    p.settings |= {"checks": {}, "student": {"base_url": hides.url, "model": "s", "free": True}}
    p.settings["teacher"]["base_url"] = shows.url
    assert p.harvest("doctor", str(p.toml))[0] == 0, "nobody needs the student's chain"
    p.settings["teacher"]["base_url"], p.settings["student"]["base_url"] = hides.url, shows.url
    assert p.harvest("doctor", str(p.toml))[0] == 4, "the student's chain stands in for no teacher's"


def test_what_rewriting_would_save_is_said_with_the_setting(endpoint: Endpoints, place: Places) -> None:
    def unboxed(asked: Asked) -> Say:
        number = 2 * int(asked.question.split()[2]) + 1
        return Say(text=f"So both of them make {number}" if number > 3 else None)

    p = place(endpoint(unboxed).url, 5)
    words = "3 accepted traces do not fit the training format, and rewriting would save 3 of them: `python -m harvest"
    assert words in p.collect()[2]
    assert p.report["traces"]["selected"] == 2
    code, _, err = p.harvest("select", "r", "--rewrite.on", "true", "--store", p.url)
    assert (code, "rewriting would save" in err) == (0, False)
    assert "rewriting would save" not in p.collect()[2]
    assert p.report["traces"]["selected"] == 5
