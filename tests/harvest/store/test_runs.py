"""A run comes back from the store as it was written, whatever winnow wrote it."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from harvest.commands.import_answers import settings_of
from harvest.core.config import Checks, RunConfig, configs
from harvest.core.errors import StoreUnusable
from harvest.core.nouns import STUDENT
from harvest.store import Store

TEACHER = {"base_url": "https://h.example/v1", "model": "m", "price_usd_per_mtok": {"input": "1", "output": "2.5"}}
OTHER = {"local": "Qwen3-0.6B", "sampling": {"max_tokens": 99, "temperature": None}}
STUDENT_OF = {"local": "SmolLM2-135M-Instruct", "samples": 3, "solved_after": 2, "keep_solved": "0.1"}


def stored(tmp_path: Path, settings: dict[str, Any]) -> Store:
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    store.put_run("r", settings, None, "2026-11-24T12:00:00.000Z")
    return store


@pytest.mark.parametrize(
    "data",
    [
        {"teacher": TEACHER, "budget": {"usd": "3.5"}, "sampling": {"extra": {"a": [1]}, "seed": 7}},
        {"teachers": [TEACHER, OTHER], "plan": {"teachers": "all"}},
        {"teacher": TEACHER, "student": STUDENT_OF, "judge": TEACHER, "questions": ["a", "b"]},
        {"teacher": TEACHER, "select": {"preset": "s1", "per_question": 2}, "filters": {"language": "fr"}},
    ],
    ids=["one teacher", "several", "student and judge", "selection"],
)
def test_settings_come_back_as_they_were_written(tmp_path: Path, data: dict[str, Any]) -> None:
    config = RunConfig.model_validate({"name": "r", "questions": "q.jsonl", **data})
    with stored(tmp_path, config.model_dump(mode="json")) as store:
        run = store.run("r")
        assert run.config == config
        assert store.run(run.id) == store.find_run("r") == run
        assert run.has_teacher
        assert not run.imported
        assert configs(run.config) == configs(config)


def test_what_stands_beside_the_settings_is_read_too(tmp_path: Path) -> None:
    config = RunConfig.model_validate({"questions": "q", "teachers": [TEACHER, OTHER], "student": STUDENT_OF})
    settings = config.model_dump(mode="json") | {
        "endpoint": "https://h.example/v1", "prompt_text": "Ask.", "prompt_sha256": "abc", "base": "/runs",
        "price_source": "config",
    }  # fmt: skip
    settings["teachers"][0]["endpoint"] = "https://h.example/v1"
    settings["teachers"][1]["endpoint"] = "weights:1"
    settings["student"]["endpoint"] = "weights:2"
    with stored(tmp_path, settings) as store:
        run = store.run("r")
    assert run.endpoints == {0: "https://h.example/v1", 1: "weights:1", STUDENT: "weights:2"}
    assert (run.prompt_text, run.prompt_sha256, run.base, run.price_source) == ("Ask.", "abc", Path("/runs"), "config")
    assert run.settings == settings


def test_sections_that_an_older_winnow_did_not_write_have_their_defaults(tmp_path: Path) -> None:
    teacher = {**TEACHER, "a_setting_that_is_gone": 1}
    old = {"name": "r", "questions": "q", "teacher": teacher, "sampling": {"samples": 3}, "gone": {"x": 1}}
    with stored(tmp_path, old) as store:
        run = store.run("r")
    assert run.config.sampling.samples == 3
    assert run.config.checks == Checks()
    assert (run.config.teachers, run.config.student, run.price_source) == ((), None, "none")


def test_an_imported_run_has_no_teacher(tmp_path: Path) -> None:
    checks = Checks(majority=Decimal("0.6"), without_gold="majority")
    with stored(tmp_path, settings_of("r", [Path("a.jsonl")], "sqlite:///x", Path(), checks)) as store:
        run = store.run("r")
    assert run.imported
    assert not run.has_teacher
    assert run.endpoints == {}
    assert (run.config.teacher.local, run.config.teacher.base_url, run.config.teacher.model) == (None, None, None)
    assert run.config.checks == checks
    assert run.config.questions == ("a.jsonl",)
    assert run.price_source == "log"


def test_a_run_made_for_evaluations_alone_has_no_teacher(tmp_path: Path) -> None:
    with stored(tmp_path, {}) as store:
        run = store.run("r")
        assert not run.has_teacher
        assert not run.imported
        assert store.find_run("another") is None
        with pytest.raises(StoreUnusable, match="no run 'another'"):
            store.run("another")


def test_a_preset_that_has_gone_is_not_looked_for(tmp_path: Path) -> None:
    """All that it said is stored."""
    config = RunConfig.model_validate({"name": "r", "questions": "q", "teacher": TEACHER})
    settings = json.loads(config.model_dump_json())
    settings["select"] |= {"preset": "gone/away.toml", "seed": 5}
    with stored(tmp_path, settings) as store:
        select = store.run("r").config.select
    assert (select.preset, select.seed) == ("gone/away.toml", 5)


def test_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    settings = {"questions": "q", "teacher": TEACHER, "sampling": {"samples": "many"}}
    with stored(tmp_path, settings) as store, pytest.raises(StoreUnusable, match=r"run 'r': .*sampling\.samples"):
        store.run("r")
