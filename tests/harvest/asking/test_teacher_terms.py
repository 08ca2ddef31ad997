"""What a teacher's terms allow: stated by the user, found in the table, or unknown; and a run that they forbid."""

import json
from collections.abc import Callable
from datetime import date

import pytest
from conftest import Place
from scripted_endpoint import Endpoint

from harvest.asking.planning.preparation import prepare
from harvest.asking.planning.teacher_terms import (
    ACCEPTED,
    UNKNOWN,
    providers,
    providers_of,
    refuse_unaccepted,
    terms_of,
)
from harvest.core.config import load
from harvest.core.errors import ConfigError
from harvest.core.teachers import Teacher
from harvest.store import Store

OPENAI = "https://api.openai.com/v1"


OPENROUTER = "https://openrouter.ai/api/v1"


def teacher(base_url: str, terms: str | None = None, model: str = "m") -> Teacher:
    return Teacher(base_url=base_url, model=model, terms=terms)


def test_each_entry_says_what_was_read_where_and_when() -> None:
    hosts = [host for provider in providers() for host in provider.hosts]
    assert len(hosts) == len(set(hosts))
    for provider in providers():
        assert provider.page.startswith("https://")
        was_read = provider.training != "not read"
        assert (bool(provider.words), bool(provider.version), provider.read_on is not None) == (was_read,) * 3
        assert provider.read_on is None or provider.read_on >= date(2026, 11, 28)


def test_the_users_word_counts_before_the_table_and_what_nobody_read_is_unknown() -> None:
    assert terms_of({"base_url": OPENAI, "terms": "our contract allows it"}).words == "our contract allows it"
    found = terms_of({"base_url": OPENAI})
    assert found.said_by == "table"
    assert "forbidden" in found.words
    assert found.page in found.words
    assert terms_of({"base_url": "https://eu.api.openai.com/v1"}) == found
    for elsewhere in (
        "https://api.groq.com/openai/v1",
        "http://127.0.0.1:8000/v1",
        "https://api.openai.com.evil.org/v1",
    ):
        assert terms_of({"base_url": elsewhere}) == UNKNOWN
    assert terms_of({"local": "SmolLM2-135M-Instruct"}).words == "Apache-2.0, the licence of its weights"
    assert terms_of({"base_url": None, "local": None, "terms": None}) == UNKNOWN


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("deepseek/deepseek-r1-0528:free", ["OpenRouter", "DeepSeek"]),
        ("Anthropic/claude-sonnet-4", ["Anthropic", "OpenRouter"]),
        ("openai/gpt-oss-120b", ["OpenRouter"]),
        ("openai/gpt-5", ["OpenAI", "OpenRouter"]),
        ("qwen/qwen3-235b-a22b", ["OpenRouter"]),
        ("openrouter/auto", ["OpenRouter"]),
    ],
)
def test_a_model_behind_a_forwarding_address_has_its_vendors_terms_too(model: str, names: list[str]) -> None:
    found = providers_of(OPENROUTER, model)
    assert sorted(p.name for p in found) == sorted(names)
    assert found[0].name == names[0]
    words = terms_of({"base_url": OPENROUTER, "model": model})
    assert all(p.name in words.words and p.page in words.words for p in found)
    assert words.page == found[0].page


def test_a_vendor_that_forbids_training_forbids_it_behind_a_forwarding_address() -> None:
    with pytest.raises(ConfigError, match="Anthropic forbid"):
        refuse_unaccepted(teacher(OPENROUTER, model="anthropic/claude-opus-4"), "teacher")
    refuse_unaccepted(teacher(OPENROUTER, model="deepseek/deepseek-r1"), "teacher")
    # Elsewhere a model's name says nothing of who serves it.
    refuse_unaccepted(teacher("http://127.0.0.1:8000/v1", model="openai/gpt-5"), "teacher")


@pytest.mark.parametrize("terms", [None, "may be trained on"])
def test_a_teacher_that_forbids_training_is_refused_until_that_is_accepted(terms: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_unaccepted(teacher(OPENAI, terms), "teacher")
    assert providers_of(OPENAI, "m")[0].page in str(refused.value)
    assert "\n" not in str(refused.value)
    refuse_unaccepted(teacher(OPENAI, f"{ACCEPTED} a written permission"), "teacher")
    refuse_unaccepted(teacher("https://api.deepseek.com/v1"), "teacher")


def test_terms_stand_in_each_row_the_card_and_the_reports(
    endpoint: Callable[..., Endpoint], place: Callable[..., Place]
) -> None:
    for terms, shown in ((None, "unknown"), ("our contract of May allows it", "our contract of May allows it")):
        here = place(endpoint().url, 2, folder=shown[:3], **({"teacher__terms": terms} if terms else {}))
        code, _, err = here.collect()
        assert code == 0, err
        rows = (here.run_folder / "dataset/train.jsonl").read_text().splitlines()
        assert {json.loads(row)["teacher_terms"] for row in rows} == {shown}
        assert {json.loads(row)["prompt"]["sha256"] for row in rows} == {here.report["provenance"]["prompt"]["sha256"]}
        for file in ("dataset/README.md", "report.md", "report.html"):
            assert shown in (here.run_folder / file).read_text()


def test_an_evaluation_of_such_a_model_is_not_refused(place: Callable[..., Place]) -> None:
    here = place(OPENAI, 1)
    config = load(here.toml, [])
    with Store.open(here.url) as store:
        assert prepare(config, here.folder, store, lambda page: [None] * len(page)).config.name == "r"


def test_such_a_run_ends_with_2_before_anything_is_asked(place: Callable[..., Place]) -> None:
    here = place(OPENAI, 1)
    code, _, err = here.collect()
    assert code == 2
    assert "teacher.terms" in err
    assert "openai.com/policies" in err
    assert "Traceback" not in err
