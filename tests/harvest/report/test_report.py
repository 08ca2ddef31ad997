"""What a run leaves for people and programs: the report, the dataset, and the story of one question."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import datasets
from conftest import Place
from scripted_endpoint import PRICE, Asked, Endpoint, Say

from harvest.report.markdown_page import markdown
from harvest.report.question_story import fit_of
from harvest.store import Store, StudentScore

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]


def some_wrong(asked: Asked) -> Say:
    """A chain apart and a right answer; every third a wrong one, one cut, one with HTML in it."""
    a = int(asked.question.split()[2])
    if a % 10 == 3:
        return Say(text="So it is \\boxed{-1}.")
    if a % 10 == 6:
        return Say(text="", finish="length", output_tokens=asked.limit)
    if a % 10 == 8:
        return Say(text=f"<script>alert(1)</script> | \\boxed{{{2 * a + 1}}}")
    return Say()


def collected(endpoint: Endpoints, place: Places, n: int = 20) -> Place:
    here = place(endpoint(some_wrong).url, n)
    code, _, err = here.collect()
    assert code == 0, err
    return here


def harvest(here: Place, *args: str) -> str:
    code, out, err = here.harvest(*args)
    assert code == 0, err
    return out


def test_a_report_rebuilt_from_the_store_is_byte_for_byte_the_same(endpoint: Endpoints, place: Places) -> None:
    here = collected(endpoint, place)
    with Store.open(here.url) as store:
        block = {"student": "s", "method": "sft", "rows": 3, "tokens": 9, "wall_s": 1.5, "gpu_hours": 0}
        store.put_training("r", "k", block | {"cost_usd": None, "loss_first": 2.0, "loss_last": 1.0})
        for label, right in (("before", 0), ("after", 1)):
            settings = {"model": "s", "questions": "q", "samples": 1, "label": label}
            store.put_evaluation("r", label, settings)
            one = {"sample": 0, "finish_reason": "stop", "output_tokens": 5, "cost_pusd": None, "text": "t"}
            rows = [{"question_id": str(i), "outcome": "right" if right else "wrong"} | one for i in range(8)]
            store.put_evaluation_answers("r", label, rows)
    harvest(here, "report", "r")
    files = ("report.json", "report.md", "report.html")
    before = {f: (here.run_folder / f).read_bytes() for f in files}
    for f in files:
        (here.run_folder / f).unlink()
    harvest(here, "report", "r", "--store", here.url)
    assert {f: (here.run_folder / f).read_bytes() for f in files} == before
    assert here.report["gain"]["points"] == 100.0
    assert here.report["total_leaves_out"]


def test_the_report_adds_up(endpoint: Endpoints, place: Places) -> None:
    r = collected(endpoint, place).report
    assert r["run"]["status"] == "complete"
    assert r["questions"] == {"total": 20, "asked": 20, "solved": 16, "given_up": 4, "open": 0}
    assert r["traces"]["accepted"] == 16
    assert r["traces"]["rejected"] == {"truncated": 2, "wrong": 2}
    money = r["money"]
    assert sum(map(Decimal, money["spent_on"].values())) == Decimal(money["spent_usd"])
    assert Decimal(money["spent_on"]["truncated_usd"]) > 0
    assert Decimal(money["remaining_usd"]) == Decimal(money["cap_usd"]) - Decimal(money["spent_usd"])
    assert money["price_source"] == "config"
    assert "16 traces accepted" in markdown(r)


def test_datasets_loads_the_export_with_its_types(endpoint: Endpoints, place: Places) -> None:
    here = collected(endpoint, place)
    cache = str(here.folder / "cache")
    rows = datasets.load_dataset(str(here.run_folder / "dataset"), split="train", cache_dir=cache)
    assert len(rows) == 16
    row = rows[0]
    assert [m["role"] for m in row["messages"]] == ["system", "user", "assistant"]
    assert row["messages"][2]["content"] == f"<think>\n{row['reasoning']}\n</think>\n\n{row['answer']}"
    assert row["accepted"] is True
    assert row["reason"] is None
    assert row["verdicts"][0]["passed"] is True
    assert row["usage"]["output_tokens"] == 30
    assert Decimal(row["cost_usd"]) == Decimal("0.00034")


def test_jsonl_and_parquet_hold_the_same_rows(endpoint: Endpoints, place: Places) -> None:
    here = collected(endpoint, place)
    loaded = []
    for form in ("jsonl", "parquet"):
        to = str(here.folder / form)
        said = json.loads(harvest(here, "export", "r", "--to", to, "--format", form, "--which", "all", "--json"))
        assert said["rows"] == 20
        loaded.append(datasets.load_dataset(to, split="train", cache_dir=str(here.folder / "cache")).to_list())
    assert loaded[0] == loaded[1]
    assert {r["reason"] for r in loaded[0]} == {None, "wrong", "truncated"}
    assert all(r["accepted"] == (r["reason"] is None) for r in loaded[0])


def test_an_export_takes_the_place_of_the_one_before(endpoint: Endpoints, place: Places) -> None:
    here = collected(endpoint, place)
    stale = here.run_folder / "dataset/train.parquet"
    stale.write_text("old")
    harvest(here, "export", "r")
    assert not stale.exists()
    assert [p.name for p in here.run_folder.iterdir() if p.name.startswith(".")] == []


def test_an_export_takes_the_place_of_nothing_else(endpoint: Endpoints, place: Places) -> None:
    here = collected(endpoint, place, 2)
    mine = here.folder / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for to in ("mine", ".", "mine/thesis.txt"):
        code, _, err = here.harvest("export", "r", "--to", to)
        assert code == 2
        assert "other things" in err
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_an_export_has_the_words_that_the_teacher_read(endpoint: Endpoints, place: Places) -> None:
    here = place(endpoint().url, 2, prompt="own.md")
    own = here.folder / "own.md"
    own.write_text("---\nfor: tests\n---\n## system\nBe brief.\n## user\n{question}\n")
    assert here.collect()[0] == 0
    before = (here.run_folder / "dataset/train.jsonl").read_text()
    assert "Be brief." in before
    own.unlink()
    harvest(here, "export", "r")
    assert (here.run_folder / "dataset/train.jsonl").read_text() == before


def test_more_samples_are_asked_of_questions_that_were_given_up(endpoint: Endpoints, place: Places) -> None:
    teacher = endpoint(lambda asked: Say(text="\\boxed{-1}") if asked.n < 4 else Say())
    here = place(teacher.url, 4)
    assert here.collect()[0] == 0
    assert here.report["questions"]["given_up"] == 4
    assert here.collect("--sampling.samples", "2")[0] == 0
    assert here.report["questions"]["solved"] == 4
    assert len(teacher.asked) == 8


def test_why_tells_each_attempt_and_keeps_a_models_text_as_text(endpoint: Endpoints, place: Places) -> None:
    here = collected(endpoint, place)
    assert "rejected: wrong" in harvest(here, "why", "r", "q3")
    assert "boxed -1" in harvest(here, "why", "r", "q3")
    assert "rejected: truncated" in harvest(here, "why", "r", "q6")
    story: dict[str, Any] = json.loads(harvest(here, "why", "r", "q8", "--json"))
    assert story["attempts"][0]["answer"].startswith("<script>")
    assert story["attempts"][0]["tries"][0]["state"] == "answered"


def test_several_teachers_are_several_models_and_one_that_changes_is_told(endpoint: Endpoints, place: Places) -> None:
    def cheap(asked: Asked) -> Say:
        return Say(text="\\boxed{-1}" if asked.n < 3 else None, more={"model": "cheap"})

    def dear(asked: Asked) -> Say:
        return Say(more={"model": "dear-old" if asked.n == changes else "dear"})

    for changes, folder in ((-1, "same"), (1, "changed")):
        one, other = endpoint(cheap), endpoint(dear)
        settings = [{"base_url": e.url, "model": "m", "price_usd_per_mtok": PRICE} for e in (one, other)]
        here = place(one.url, 6, folder=folder, teacher=None, teachers=settings)
        code, _, err = here.collect()
        assert code == 0, err
        told = [w for w in here.report["warnings"] if "more than one" in w]
        if changes < 0:
            assert told == []
        else:
            assert told == ["more than one model answered in the name of m within this run: 'dear', 'dear-old'"]
        text = (here.run_folder / "dataset/README.md").read_text()
        for url, answers in ((one.url, 6), (other.url, 3)):
            assert f"at {url} | {'0.00204' if answers == 6 else '0.00102'} USD, {answers} answers, 3 accepted," in text


def test_a_teacher_whose_price_nobody_knows_did_not_cost_nothing(endpoint: Endpoints, place: Places) -> None:
    settings = [{"base_url": endpoint().url, "model": name} for name in ("m-one", "m-two")]
    p = place("", 2, teacher=None, teachers=settings, budget={"usd": "none"}, plan={"teachers": "all"})
    code, _, err = p.collect()
    assert code == 0, err
    text = (p.run_folder / "report.md").read_text()
    for name in ("m-one", "m-two"):
        assert f"| {name} | 2 | 2 | 2 | 2 | unknown for 2 calls | unknown |" in text
    assert (
        "0.00 USD, without 2 calls whose cost nobody knows, 2 answers"
        in (p.run_folder / "dataset/README.md").read_text()
    )


def test_how_an_answer_suits_a_student_is_as_short_as_a_badge() -> None:
    scored = StudentScore("data/students/small/", "sha256:0", 100, 75.0, 300)
    assert fit_of(scored) == "4.00 for small"
    assert fit_of(replace(scored, tokens=0, surprisal_nats=None, ranks=None)) == "none for small"
