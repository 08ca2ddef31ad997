"""Endpoints that bill by what they made and say otherwise: the bill stays under the cap, and the run says so."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import Place
from scripted_endpoint import PRICE, Asked, Endpoint, Say

from harvest.asking.buying.tries import Settled, Tries
from harvest.asking.planning.preparation import put_run
from harvest.core.config import RunConfig
from harvest.core.money import pusd
from harvest.core.nouns import Ask, Question
from harvest.endpoint.client import Arriving, Teacher, request_body
from harvest.store import Sent, Store, Writer

Endpoints = Callable[..., Endpoint]
Places = Callable[..., Place]
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def warnings_of(p: Place) -> str:
    return "\n".join(p.report["warnings"])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_usage_of_zeros_is_in_doubt_and_the_answers_are_kept(
    stream: bool, endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda _: Say(output_tokens=90, usage_more=ZEROS, delay_s=0.02))
    p = place(teacher.url, 60, budget__usd="0.02", teacher__stream=stream)
    assert here(p) == 3
    assert teacher.billed_pusd <= pusd(p.money("in_doubt")) <= pusd(Decimal("0.02"))
    assert p.money("spent") == 0
    report = p.report
    assert report["traces"]["accepted"] == report["attempts"]["answered"] == report["attempts"]["in_doubt"] > 0
    assert report["tokens"]["output"] == 0
    assert f"{len(teacher.bill)} of the replies of the teacher: each has a usage that cannot be true" in warnings_of(p)
    assert "without usage" not in warnings_of(p)


def test_a_cost_of_nothing_is_booked_at_the_price(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(usage_more={"cost": 0}))
    p = place(teacher.url, 5)
    assert here(p) == 0
    assert pusd(p.money("spent")) == teacher.billed_pusd > 0
    assert p.report["money"]["price_source"] == "config"
    assert "5 of the replies of the teacher: each is said to cost nothing at a known price" in warnings_of(p)
    assert "a cost of 0 beside 30 output tokens" in (p.folder / "runs" / "r" / "report.md").read_text()


def test_a_filtered_answer_whose_usage_is_zeros_is_in_doubt_too(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(finish="content_filter", usage_more=ZEROS))
    p = place(teacher.url, 2)
    assert here(p) == 0
    assert p.report["attempts"]["in_doubt"] == 2
    assert pusd(p.money("in_doubt")) >= teacher.billed_pusd > 0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_the_cost_in_a_header_is_booked(stream: bool, endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(headers={"X-LiteLLM-Response-Cost": "1.25e-05"}))
    p = place(teacher.url, 2, teacher__stream=stream)
    assert here(p) == 0
    assert p.report["money"]["price_source"] == "usage.cost"
    assert p.report["money"]["spent_usd"] == "0.000025"


def test_a_dearer_tier_that_nobody_asked_for_is_booked_at_its_price(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    teacher = endpoint(lambda _: Say(more={"service_tier": "priority"}))
    p = place(teacher.url, 3)
    assert here(p) == 0
    assert pusd(p.money("spent")) == 2 * teacher.billed_pusd
    assert "'priority', which was not asked for" in warnings_of(p)
    asked = place(teacher.url, 3, "asked", sampling__extra={"service_tier": "priority"})
    assert here(asked) == 0
    assert pusd(asked.money("spent")) == teacher.billed_pusd / 2
    assert warnings_of(asked) == ""


def test_a_part_of_the_usage_without_a_price_is_named(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(usage_more={"num_search_queries": 3}))
    p = place(teacher.url, 1)
    assert here(p) == 0
    assert "a part that no price is known of, which is not booked (one said: num_search_queries)" in warnings_of(p)


def test_a_text_that_max_tokens_cannot_make_stops_the_asking(endpoint: Endpoints, place: Places) -> None:
    """Beside 10 tokens of usage: what the reply cost is beyond what was reserved, and nobody says how much."""
    teacher = endpoint(lambda a: Say(chain="therefore " * 400, output_tokens=10))
    p = place(teacher.url, 50, teacher__max_concurrency=1)
    code, _, err = p.collect()
    assert code == 5
    assert len(teacher.asked) == 1
    assert "bytes, asked for with max_tokens = 100" in err
    assert "billed more" not in err
    assert p.money("spent") == 0 < p.money("in_doubt")


def test_a_free_endpoint_may_say_what_it_likes(endpoint: Endpoints, place: Places, here: Any) -> None:
    teacher = endpoint(lambda _: Say(usage_more=ZEROS | {"cost": 0}))
    p = place(teacher.url, 3, teacher__price_usd_per_mtok={"input": "0", "output": "0"})
    assert here(p) == 0
    assert (p.money("spent"), p.money("in_doubt"), p.report["warnings"]) == (0, 0, [])


def test_doctor_names_the_claim_and_the_nearest_model(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda _: Say(usage_more={"cost": 0}))
    near = place(teacher.url)
    _, out, _ = near.harvest("doctor", str(near.toml))
    assert "!!  claim: a cost of 0 beside 30 output tokens" in out
    far = place(
        "https://api.deepseek.com/v1", 1, "far", teacher__price_usd_per_mtok=None, teacher__model="deepseek-caht"
    )
    code, _, err = far.collect()
    assert code == 2
    assert "its price list has 'deepseek-chat'" in err


def test_openrouter_is_sent_the_price_that_is_reserved_and_the_key_is_not_changed(
    endpoint: Endpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path))
    teacher = endpoint()

    async def buy(price: dict[str, str]) -> tuple[Asked, str]:
        address = {"base_url": "https://openrouter.ai/api/v1", "model": "m", "price_usd_per_mtok": price}
        settings = {
            "name": f"r{price['output']}", "questions": "q.jsonl", "store": f"sqlite:///{tmp_path / 'store.db'}",
            "teacher": address, "budget": {"usd": "1"},
        }  # fmt: skip
        with Store.open(str(settings["store"])) as store:
            with store.transaction():
                run, _ = put_run(RunConfig.model_validate(settings), tmp_path, store, may_change=False)
                question = Question(id="q", question="What is 1 + 2?", answer="3", check="math")
                question_id, _ = store.put_probe(run.id, question)
            ledger, settled = Writer(store), list[Settled]()
            try:
                async with Teacher(teacher.url, None) as connected:
                    tries = Tries(run, ledger, connected, settled.append)
                    body = request_body(
                        run.model, [{"role": "user", "content": question.question}], run.config.sampling, 0, 9
                    )
                    key = run.key(body, 0)
                    ask = Ask(0, 9)
                    held = await tries.reserve(question_id, ask, body, f"{key}{price['output']}")
                    assert isinstance(held, Sent)
                    await tries.send(held, body, ask, Arriving())
                    return teacher.asked[-1], run.key(body, 0)
            finally:
                ledger.close()

    first, key = asyncio.run(buy(PRICE))
    assert first.body["provider"] == {"max_price": {"prompt": 1.0, "completion": 10.0}}
    second, same_key = asyncio.run(buy({"input": "2.00", "output": "20.00"}))
    assert second.body["provider"] == {"max_price": {"prompt": 2.0, "completion": 20.0}}
    assert key == same_key
    assert json.dumps(first.body) != json.dumps(second.body)
