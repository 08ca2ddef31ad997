"""`harvest estimate` asks a few questions of the run itself, quotes the rest, and nothing is bought twice."""

import json
from collections.abc import Callable
from decimal import Decimal

from conftest import ROOT, Place
from scripted_endpoint import Endpoint, Say

from harvest.core.money import PICO, usd

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]


def test_a_pilot_is_kept_and_the_quote_is_what_the_run_then_costs(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    p = place(teacher.url, 24)
    code, out, err = p.harvest("estimate", str(p.toml), "--pilot", "6", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert (found["pilot"]["questions"], len(teacher.asked)) == (6, 6)
    code, out, _ = p.harvest("estimate", str(p.toml), "--pilot", "8")
    assert (code, len(teacher.asked)) == (0, 8)
    assert "8 of 24 questions" in out
    code, _, err = p.collect()
    assert code == 0, err
    assert len(teacher.asked) == 24
    assert p.report["run"]["status"] == "complete"
    spent = Decimal(p.report["money"]["spent_usd"])
    assert Decimal(found["usd"]["low"]) <= spent <= Decimal(found["usd"]["high"])
    assert found["accepted"]["low"] <= p.report["traces"]["accepted"] <= found["accepted"]["high"]
    quoted = p.report["quote"]
    assert (quoted["questions"], quoted["usd"]["came"], quoted["accepted"]["came"]) == (8, usd(int(spent * PICO)), 24)
    for file in ("report.md", "report.html"):
        assert "quoted after 8 questions" in (p.run_folder / file).read_text()


def test_a_pilot_stays_under_the_cap_and_quotes_from_what_came(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint()
    p = place(teacher.url, 12, budget__usd="0.004")
    code, out, err = p.harvest("estimate", str(p.toml), "--pilot", "12")
    assert code == 3, err
    assert 0 < len(teacher.asked) < 12
    assert "is enough for about" in out
    assert "stopped: the cap of 0.004 USD" in err


def test_a_refusal_makes_no_cost_unknown_and_what_another_run_bought_counts_as_if_bought(
    endpoint: Endpoints, place: Places
) -> None:
    """Under another name the same questions are in the store already, and the training is quoted beside them."""
    teacher = endpoint(lambda a: Say(status=429, headers={"retry-after": "0"}) if a.n in (2, 3) else Say())
    p = place(teacher.url, 8)
    code, out, err = p.harvest("estimate", str(p.toml), "--pilot", "8", "--json")
    assert code == 0, err
    bought = json.loads(out)
    assert (bought["pilot"]["answers"], bought["pilot"]["reused"]) == (8, 0)
    assert Decimal(bought["usd"]["mid"]) == Decimal(bought["pilot"]["usd"]) > 0
    recipe = str(ROOT / "recipes/demo-student.toml")
    code, out, err = p.harvest(
        "estimate", str(p.toml), "--name", "again", "--pilot", "4", "--recipe", recipe, "--json"
    )  # fmt: skip
    assert code == 0, err
    again = json.loads(out)
    assert (again["pilot"]["answers"], again["pilot"]["reused"], again["pilot"]["usd"]) == (4, 4, "0.00")
    assert again["usd_per_accepted_trace"]["mid"] == bought["usd_per_accepted_trace"]["mid"]
    assert Decimal(again["usd"]["mid"]) == Decimal(bought["usd"]["mid"]) / 2  # the four that are open
    assert (again["training"]["rows"], again["training"]["gpu_hours"]["mid"] > 0) == (8, True)


def test_what_cannot_be_quoted_is_one_line(endpoint: Endpoints, place: Places) -> None:
    refusing = place(endpoint(lambda _: Say(status=401)).url, 3)
    code, out, err = refusing.harvest("estimate", str(refusing.toml))
    assert (code, out) == (4, "")
    assert "error: no question has ended" in err
    for words, named in ((("--pilot", "0"), "--pilot 0"), (("--recipe", "no.toml"), "--recipe no.toml: no such file")):
        code, out, err = refusing.harvest("estimate", str(refusing.toml), *words)
        assert (code, out) == (2, "")
        assert named in err
        assert "Traceback" not in err
