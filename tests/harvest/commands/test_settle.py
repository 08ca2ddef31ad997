"""Doubt is seen, and settled: by the provider where it can tell, else by the user."""

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from books import audit_file
from conftest import Place
from dies import die_at
from scripted_endpoint import PRICE, Asked, Endpoint, Say

from harvest.__main__ import main
from harvest.core.money import pusd, usd
from harvest.store import Store

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]
CUT = Say(cut_at=60)


def settle(p: Place, *args: str, code: int = 0) -> dict[str, Any]:
    found, out, err = p.harvest("settle", "r", *args, "--json")
    assert found == code, err
    entries: dict[str, Any] = json.loads(out)
    return entries


def in_doubt(endpoint: Endpoints, place: Places, n: int = 4, **dotted: Any) -> tuple[Endpoint, Place]:
    """A run whose first `n` tries are cut off after the request was sent."""
    teacher = endpoint(lambda asked: CUT if asked.n < n else Say())
    p = place(teacher.url, n, sampling__tries=1, **dotted)
    code, _, err = p.collect()
    assert code == 0, err
    return teacher, p


def dump(p: Place) -> list[str]:
    with closing(sqlite3.connect(p.store)) as db:
        return list(db.iterdump())


def test_doubt_stands_beside_spent_in_the_progress_the_exit_message_and_the_report(
    endpoint: Endpoints, place: Places
) -> None:
    p = place(endpoint(lambda asked: CUT if asked.n == 1 else Say()).url, 3, teacher__max_concurrency=1)
    code, _, err = p.collect()
    assert code == 0, err
    doubt = p.report["money"]["in_doubt_usd"]
    assert Decimal(doubt) > 0
    assert f"${p.report['money']['spent_usd']} + ${doubt} in doubt of $1.00" in err
    assert f"{doubt} USD is in doubt, the worst case of 1 try" in err
    assert "`python -m harvest settle r`" in err
    assert f"| in doubt, at its worst case | {doubt} |" in (p.run_folder / "report.md").read_text()


def test_where_nothing_is_in_doubt_nothing_is_said_of_it(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, 2)
    _, _, err = p.collect()
    assert "in doubt" not in err
    assert settle(p)["tries"] == []


def test_after_a_kill_the_line_that_stops_at_the_cap_names_the_doubt_and_settling_makes_room(
    endpoint: Endpoints, place: Places
) -> None:
    pids: list[int] = []
    teacher = endpoint(lambda asked: Say(delay_s=60) if pids and asked.n else Say())
    p = place(teacher.url, 8, budget__usd="0.006", teacher__max_concurrency=8)
    pids.append(1)
    process = p.start()
    while len(teacher.asked) < 5:
        assert process.poll() is None
    process.kill()
    p.ended(process, 30)
    pids.clear()
    listed = settle(p)
    assert [t["class"] for t in listed["tries"]] == [None] * 4
    code, _, err = p.collect()
    assert code == 3
    line = next(line for line in err.splitlines() if line.startswith("stopped: the cap of 0.006 USD"))
    assert f"{p.report['money']['in_doubt_usd']} USD is in doubt" in line
    assert "`python -m harvest settle r`" in line
    assert p.report["money"]["in_doubt_usd"] == listed["in_doubt_usd"]
    settled = settle(p, "--as", "free")
    assert [t["settled_usd"] for t in settled["tries"]] == ["0.00"] * 4
    assert p.report["money"]["in_doubt_usd"] == "0.00"
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["questions"]["solved"] == 8


def test_after_a_kill_the_tries_that_were_out_are_settled_without_another_start(
    endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint(lambda asked: Say(delay_s=60))
    p = place(teacher.url, 1)
    process = p.start()
    while not teacher.asked:
        assert process.poll() is None
    process.kill()
    p.ended(process, 30)
    (listed,) = settle(p)["tries"]
    (settled,) = settle(p, "--as", "worst")["tries"]
    assert (settled["id"], settled["settled_usd"]) == (listed["id"], listed["held_usd"])
    books = audit_file(p.store)
    assert (books["spent"], books["reserved"], books["in_doubt"]) == (pusd(Decimal(listed["held_usd"])), 0, 0)


def test_money_that_is_only_held_is_not_called_billed_when_the_cap_is_lowered(
    endpoint: Endpoints, place: Places
) -> None:
    _, p = in_doubt(endpoint, place)
    held = p.money("in_doubt")
    p.settings["budget"]["usd"] = "0.001"
    code, _, err = p.collect()
    assert code == 3
    assert "billed" not in err.replace("may have been billed", "")
    assert f"$0.00 + ${held} in doubt of $0.001" in err
    assert p.report["run"]["status"] == "stopped_at_cap"
    (warning,) = p.report["warnings"]
    assert "the endpoint billed" not in warning
    assert f"{held - Decimal('0.001')} USD over the cap" in warning
    assert "`python -m harvest settle r`" in warning


def test_a_cap_lowered_below_what_is_spent_accuses_nobody(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint().url, 4)
    p.collect()
    p.settings["budget"]["usd"] = "0.0001"
    p.collect()
    over = usd(pusd(p.money("spent") - Decimal("0.0001")))
    assert p.report["warnings"] == [f"spent is {over} USD over the cap of 0.0001"]


def test_alone_it_lists_every_try_and_changes_nothing(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda asked: CUT if asked.n == 0 else Say(usage=False))
    p = place(teacher.url, 2, sampling__tries=1, teacher__max_concurrency=1)
    p.collect()
    before = dump(p)
    cut, no_usage = settle(p)["tries"]
    assert (cut["class"], cut["question_id"], cut["asked"]) == ("cut", "q0", "teacher")
    assert (no_usage["class"], no_usage["response_id"]) == (None, "chatcmpl-1")
    assert no_usage["took_s"] >= 0
    assert Decimal(cut["held_usd"]) + Decimal(no_usage["held_usd"]) == p.money("in_doubt")
    _, out, _ = p.harvest("settle", "r")
    assert f"try {cut['id']} · " in out
    assert "whole reply came, and not what it cost" in out
    assert "chatcmpl-1" in out
    assert dump(p) == before


def test_each_try_is_booked_at_its_worst_case_or_at_what_the_user_says_and_only_once(
    endpoint: Endpoints, place: Places
) -> None:
    _, p = in_doubt(endpoint, place)
    first, second, third, fourth = settle(p)["tries"]
    settle(p, "--as", "worst", "--try", str(first["id"]))
    assert p.report["money"]["spent_usd"] == first["held_usd"]
    settle(p, "--as", "0.000000000001", "--try", str(second["id"]), str(third["id"]))
    assert p.money("spent") == Decimal(first["held_usd"]) + Decimal("0.000000000002")
    assert p.report["money"]["in_doubt_usd"] == fourth["held_usd"]
    assert p.report["money"]["spent_on"]["failed_usd"] == p.report["money"]["spent_usd"]
    assert p.report["money"]["settled_usd"] == {"user": p.report["money"]["spent_usd"]}
    before = dump(p)
    code, _, err = p.harvest("settle", "r", "--as", "free", "--try", str(first["id"]))
    assert code == 0
    assert f"try {first['id']} is not in doubt" in err
    assert dump(p) == before
    _, story, _ = p.harvest("why", "r", first["question_id"])
    assert "was in doubt and is what the user says" in story
    audit_file(p.store)


def test_a_bill_beyond_what_was_held_is_booked_whole_and_said(endpoint: Endpoints, place: Places) -> None:
    _, p = in_doubt(endpoint, place, budget__usd="0.01")
    held = Decimal(settle(p)["in_doubt_usd"])
    _, out, _ = p.harvest("settle", "r", "--as", "0.5")
    assert f"4 of them cost more than had been held for them, {2 - held} USD more in all" in out
    assert "spent is over the cap" in out
    assert p.money("spent") == 2
    assert not any("the endpoint billed" in w for w in p.report["warnings"])
    audit_file(p.store, overbilled=True)


def test_a_wrong_argument_gives_one_line_and_changes_nothing(
    endpoint: Endpoints, place: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    _, p = in_doubt(endpoint, place, 1)
    before = dump(p)
    for args, word in (
        (["--as", "cheap"], "free, worst"),
        (["--as=-1"], "free, worst"),
        (["--as", "NaN"], "free, worst"),
        (["--as", "1e3"], "free, worst"),
        (["--as", "0.0000000000001"], "free, worst"),
        (["--as", "10001"], "free, worst"),
        (["--as", "free", "--try", "99"], "no such try"),
        (["--as", "free", "--try", str(2**80)], "no such try"),
        (["--try", "one"], "invalid int"),
    ):
        try:
            code = main(["settle", "r", "--store", p.url, *args])
        except SystemExit as e:
            code = int(e.code or 0)
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), args
        (line,) = err.splitlines()
        assert line.startswith("error: "), args
        assert word in line, args
    assert dump(p) == before


def test_it_waits_for_no_run_that_is_asking(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda asked: Say(delay_s=60))
    p = place(teacher.url, 1)
    process = p.start()
    while not teacher.asked:
        assert process.poll() is None
    try:
        assert settle(p)["tries"] == [], "a request in flight is not in doubt"
        code, _, err = p.harvest("settle", "r", "--as", "free")
        assert code == 2
        assert "another process" in err
    finally:
        process.kill()
        p.ended(process, 30)


@pytest.mark.parametrize("step", ["before settling a doubt", "in settling a doubt"])
def test_killed_in_the_middle_the_tries_before_are_settled_and_the_rest_go_on(
    step: str, endpoint: Endpoints, place: Places
) -> None:
    _, p = in_doubt(endpoint, place)
    held = p.money("in_doubt")
    process = p.begin("settle", "r", "--as", "worst", before=partial(die_at, step, 3))
    p.ended(process, 30)
    assert process.returncode == -signal.SIGKILL
    books = audit_file(p.store)
    assert books["spent"] + books["in_doubt"] == pusd(held)
    assert len(settle(p)["tries"]) == 2
    settle(p, "--as", "worst")
    assert audit_file(p.store)["in_doubt"] == 0
    assert p.money("spent") == held


# ---- providers that tell


def behind(p: Place, teacher: Endpoint, base_url: str) -> Place:
    """The endpoint stands for a provider of another name, as a proxy."""
    p.settings["teacher"] |= {"base_url": base_url, "api_key_env": "A_KEY"}
    p.env |= {"A_KEY": "sk-0123456789abcdef", "http_proxy": teacher.url.removesuffix("/v1"), "no_proxy": ""}
    return p


def openrouter(p: Place, teacher: Endpoint) -> Place:
    return behind(p, teacher, "http://openrouter.ai/api/v1")


def deepseek(p: Place, teacher: Endpoint) -> Place:
    return behind(p, teacher, "http://api.deepseek.com/v1")


def generations(teacher: Endpoint, path: str) -> tuple[int, Any]:
    """OpenRouter's GET /generation, with the endpoint's own bill."""
    name, _, response_id = path.partition("?id=")
    if name != "/api/v1/generation" or response_id not in teacher.bill_of:
        return 404, {"error": {"code": 404, "message": "not found"}}
    cost = float(usd(teacher.bill_of[response_id]))
    return 200, {"data": {"id": response_id, "total_cost": cost, "is_byok": False, "native_tokens_completion": 7}}


ID_ALONE = 200
"""So many bytes of a stream hold its first chunk, which names the answer."""


def outage(asked: Asked) -> Say:
    """One answer in three is whole. Of the others, half break off after the first chunk, half before it."""
    if asked.n % 3 == 0:
        return Say(output_tokens=20 + asked.n)
    if asked.n % 3 == 1:
        return Say(output_tokens=20 + asked.n, cut_at=ID_ALONE)
    return Say(output_tokens=33, reset=True)


def test_after_an_outage_the_endpoints_bill_is_reached_to_the_picodollar(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(outage)
    teacher.look_up = lambda _: (404, {})  # as OpenRouter, seconds after an answer broke off
    p = openrouter(place(teacher.url, 60, sampling__tries=1, teacher__stream=True), teacher)
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["attempts"]["in_doubt"] == 40
    assert "openrouter.ai told what 0 of 20 tries in doubt cost" in err
    teacher.look_up = lambda path: generations(teacher, path)
    told = settle(p, "--ask")
    settled = {t["response_id"]: t["settled_usd"] for t in told["tries"] if t["settled_usd"]}
    assert settled == {i: usd(teacher.bill_of[i]) for i in settled}
    assert len(settled) == 20
    assert any("openrouter.ai told what 20 of 20 tries" in words for words in told["told"])
    assert any("20 tries cannot be asked for" in words for words in told["told"])
    settle(p, "--as", usd(Say(output_tokens=33).cost_pusd))
    assert pusd(p.money("spent")) == teacher.billed_pusd
    assert p.report["money"]["in_doubt_usd"] == "0.00"
    assert set(p.report["money"]["settled_usd"]) == {"provider", "user"}
    assert all(headers["authorization"] == "Bearer sk-0123456789abcdef" for _, headers in teacher.looked_up)


def test_the_next_collect_settles_by_itself_what_the_provider_knows_by_then(endpoint: Endpoints, place: Places) -> None:
    down = [True]
    teacher = endpoint(lambda asked: Say(cut_at=ID_ALONE) if down and asked.n % 2 else Say())
    teacher.look_up = lambda _: (404, {})
    settings = {"sampling__tries": 1, "teacher__stream": True, "teacher__max_concurrency": 1}
    p = openrouter(place(teacher.url, 4, budget__usd="0.0031", **settings), teacher)
    p.collect()
    assert p.report["attempts"]["in_doubt"] == 2
    assert p.money("remaining") < p.money("in_doubt") / 2, "no room for another answer"
    down.clear()
    teacher.look_up = lambda path: generations(teacher, path)
    code, _, err = p.collect()
    assert code == 0, err
    assert "openrouter.ai told what 2 of 2 tries in doubt cost" in err
    assert p.report["questions"]["solved"] == 4
    assert pusd(p.money("spent")) == teacher.billed_pusd


def test_a_provider_that_does_not_answer_breaks_nothing_and_is_asked_once_over(
    endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint(lambda asked: Say(cut_at=ID_ALONE) if asked.n % 2 else Say())
    teacher.look_up = lambda _: None
    p = openrouter(place(teacher.url, 6, sampling__tries=1, teacher__stream=True), teacher)
    code, _, err = p.collect()
    assert code == 0, err
    assert p.report["attempts"]["in_doubt"] == 3
    assert len(teacher.looked_up) == 1, "the balance, when it began"
    assert "The others stay in doubt: no answer within 4 s" in err


def test_killed_while_the_provider_tells_each_try_is_settled_once(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda asked: Say(cut_at=ID_ALONE) if asked.n else Say())
    teacher.look_up = lambda _: (404, {})
    p = openrouter(place(teacher.url, 13, sampling__tries=1, teacher__stream=True), teacher)
    p.collect()
    assert p.report["attempts"]["in_doubt"] == 12
    told: list[str] = []

    def tells_some_then_kills(path: str) -> tuple[int, Any] | None:
        told.append(path)
        if len(told) < 11:
            return generations(teacher, path)
        process.kill()
        return None

    teacher.look_up = tells_some_then_kills
    process = p.begin("settle", "r", "--ask")
    p.ended(process, 30)
    books = audit_file(p.store)
    assert books["in_doubt"] > 0
    assert books["spent"] + books["in_doubt"] >= teacher.billed_pusd
    teacher.look_up = lambda path: generations(teacher, path)
    settle(p, "--ask")
    books = audit_file(p.store)
    assert (books["spent"], books["in_doubt"]) == (teacher.billed_pusd, 0)


def test_a_cost_of_nothing_for_an_answer_that_has_tokens_is_not_booked(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda asked: Say(cut_at=ID_ALONE))
    teacher.look_up = lambda _: (200, {"data": {"total_cost": 0, "native_tokens_completion": 7}})
    p = openrouter(place(teacher.url, 1, sampling__tries=1, teacher__stream=True), teacher)
    _, _, err = p.collect()
    assert p.report["attempts"]["in_doubt"] == 1
    assert "told what 0 of 1 tries" in err


def test_a_key_that_is_missing_gives_one_line(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda asked: Say(cut_at=ID_ALONE))
    teacher.look_up = lambda _: (404, {})
    p = openrouter(place(teacher.url, 1, sampling__tries=1, teacher__stream=True), teacher)
    p.collect()
    del p.env["A_KEY"]
    code, out, err = p.harvest("settle", "r", "--ask")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert "A_KEY is not set" in line


def test_a_provider_is_asked_only_for_what_it_was_asked(endpoint: Endpoints, place: Places) -> None:
    told, silent = endpoint(lambda _: Say(text="\\boxed{-1}", usage=False)), endpoint(lambda _: Say(usage=False))
    told.look_up = lambda path: generations(told, path)
    p = openrouter(place(told.url, 1), told)
    first = {**p.settings.pop("teacher"), "model": "mock"}
    p.settings["teachers"] = [first, {"base_url": silent.url, "model": "mock", "price_usd_per_mtok": PRICE}]
    code, _, err = p.collect()
    assert code == 0, err
    assert "openrouter.ai told what 1 of 1 tries in doubt cost" in err
    (left,) = settle(p)["tries"]
    assert left["response_id"] == "chatcmpl-0", "the id of the other endpoint's answer, which is equal by chance"
    assert pusd(p.money("spent")) == told.billed_pusd


def test_an_endpoint_that_tells_nothing_is_not_asked(endpoint: Endpoints, place: Places) -> None:
    teacher, p = in_doubt(endpoint, place, 1)
    asked = len(teacher.asked)
    told = settle(p, "--ask")
    assert told["told"] == ["nobody can be asked: only api.deepseek.com and openrouter.ai tell what was billed"]
    assert (len(teacher.asked), teacher.stray) == (asked, [])
    assert told["tries"][0]["settled_usd"] is None


@pytest.mark.parametrize(
    ("before", "after", "currency", "warns"),
    [("10.00", "9.00", "USD", True), ("10.00", "9.99", "USD", False), ("80.00", "70.00", "CNY", False)],
)
def test_a_balance_that_falls_by_more_than_is_booked_gives_a_warning(
    before: str, after: str, currency: str, warns: bool, endpoint: Endpoints, place: Places
) -> None:
    teacher = endpoint()

    def balance(path: str) -> tuple[int, Any]:
        assert path == "/user/balance"
        left = after if teacher.asked else before
        return 200, {"is_available": True, "balance_infos": [{"currency": currency, "total_balance": left}]}

    teacher.look_up = balance
    p = deepseek(place(teacher.url, 3), teacher)
    code, _, err = p.collect()
    assert code == 0, err
    fell = f"the balance at api.deepseek.com fell by {Decimal(before) - Decimal(after)} {currency}"
    assert (f"warning: {fell}" in err) == warns
    told = settle(p, "--ask")["told"]
    assert any(words.startswith(fell) and p.report["money"]["spent_usd"] in words for words in told)


# ---- the id of an answer that did not come whole


@pytest.mark.parametrize(
    ("say", "stream", "seen"),
    [
        (Say(cut_at=ID_ALONE), True, "chatcmpl-0"),
        (Say(cut_at=60), False, "chatcmpl-0"),
        (Say(cut_at=10, headers={"x-generation-id": "gen-7"}), False, "gen-7"),
        (Say(cut_at=10, headers={"x-request-id": "req-7"}), False, "req-7"),
        (Say(raw=b'{"id": "gen-8", "choices": [{"mess'), False, "gen-8"),
        (Say(silent_at=ID_ALONE), True, "chatcmpl-0"),
        (Say(silent_at=60), False, "chatcmpl-0"),
        (Say(more={"choices": []}, usage=False), False, "chatcmpl-0"),
        (Say(status=504, headers={"x-request-id": "req-9"}), False, "req-9"),
        (Say(cut_at=10, headers={"x-request-id": "sk-0123456789abcdef"}), False, "[key]"),
        (Say(silent_at=10, headers={"x-request-id": "sk-0123456789abcdef"}), False, "[key]"),
        (Say(reset=True), False, None),
    ],
    ids=lambda v: "" if isinstance(v, Say) else str(v),
)
def test_the_id_that_was_seen_is_kept_with_the_try(
    say: Say, stream: bool, seen: str | None, endpoint: Endpoints, place: Places, here: Any
) -> None:
    p = place(endpoint(lambda _: say).url, 1, sampling__tries=1, teacher__stream=stream, teacher__timeout_s=0.5)
    p.settings["teacher"]["api_key_env"] = "A_KEY"
    p.env["A_KEY"] = "sk-0123456789abcdef"
    here(p)
    with Store.open(p.url, write=False) as store:
        (doubt,) = store.doubts(store.run_id("r"))
    assert doubt.response_id == seen


def test_the_id_of_a_refused_request_is_not_kept_for_the_one_after_it(
    endpoint: Endpoints, place: Places, here: Any
) -> None:
    refused = Say(status=400, error="unsupported_parameter", message="max_tokens", headers={"x-request-id": "req-1"})
    teacher = endpoint(lambda asked: refused if "max_tokens" in asked.body else Say(reset=True))
    p = place(teacher.url, 1, sampling__tries=1)
    here(p)
    with Store.open(p.url, write=False) as store:
        (doubt,) = store.doubts(store.run_id("r"))
    assert (len(teacher.asked), doubt.response_id) == (2, None)
