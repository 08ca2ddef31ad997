"""RUN.toml: which settings it takes, and what is said about mistakes."""

from decimal import Decimal
from pathlib import Path

import pytest
from conftest import ROOT

from harvest.core.config import Select, load
from harvest.core.errors import ConfigError
from harvest.core.teachers import LOCAL_SLOTS, Teacher

SMALLEST = 'questions = "q.jsonl"\n[teacher]\nbase_url = "https://api.example.com/v1"\nmodel = "m"\n'


def run_toml(folder: Path, text: str) -> Path:
    path = folder / "my run.toml"
    path.write_text(text)
    return path


def test_the_defaults_are_the_contracts(tmp_path: Path) -> None:
    config = load(run_toml(tmp_path, SMALLEST))
    assert config.name == "my-run"
    assert (config.prompt, config.store) == ("boxed", "sqlite:///data/winnow.db")
    assert (config.teacher.max_concurrency, config.teacher.timeout_s, config.teacher.stream) == (256, 600, False)
    s = config.sampling
    assert (s.max_tokens, s.temperature, s.samples, s.tries, s.stop_after_accepted) == (16384, 0.7, 1, 5, 1)
    assert config.budget.usd is None
    assert config.checks.require == ("correct",)


def test_settings_of_the_command_line_stand_over_the_file(tmp_path: Path) -> None:
    over = [("budget.usd", "5"), ("teacher.model", "3.5"), ("sampling.temperature", "0.2"), ("name", "other")]
    config = load(run_toml(tmp_path, SMALLEST), over)
    assert config.budget.usd == Decimal("5")
    assert (config.teacher.model, config.sampling.temperature, config.name) == ("3.5", 0.2, "other")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SMALLEST + "[sampling]\nmax_tokns = 5\n", ["sampling.max_tokns", "did you mean 'max_tokens'"]),
        (SMALLEST + "[samplng]\nmax_tokens = 5\n", ["samplng", "did you mean 'sampling'"]),
        (SMALLEST + 'api_key = "sk-abcdefghijklmnop"\n', ["teacher.api_key", "api_key_env"]),
        (SMALLEST + "[sampling]\nmax_tokens = 0\nsamples = -1\n", ["sampling.max_tokens", "sampling.samples"]),
        (SMALLEST + '[budget]\nprompt = "code"\n', ["budget.prompt", "above the first [section]"]),
        (SMALLEST + '[budget]\nusd = "-1"\n', ["budget.usd"]),
        (SMALLEST + '[budget]\nusd = "NaN"\n', ["budget.usd"]),
        (SMALLEST + "[sampling]\nextra = { max_tokens = 100000 }\n", ["extra.max_tokens", "setting of its own"]),
        (SMALLEST + "[sampling]\nextra = { n = 8 }\n", ["extra.n", "several answers", "sampling.samples"]),
        (SMALLEST + 'local = "Qwen2.5-Coder-1.5B-Instruct"\n', ["keep one"]),
        ('questions = "q.jsonl"\n[teacher]\nmodel = "m"\n', ["base_url"]),
        ('[teacher]\nbase_url = "https://x/v1"\nmodel = "m"\n', ["questions: missing"]),
        (SMALLEST.replace("https://", "https://user:pw@"), ["password", "api_key_env"]),
        (SMALLEST.replace("https://", "ftp://"), ["no http(s) address"]),
        (SMALLEST.replace("/v1", "/v1?api_key=sk-abcdefghijklmnop"), ["without a query"]),
        (SMALLEST.replace("https://api", "http://[::1"), ["no http(s) address"]),
        (SMALLEST + '[budget]\nusd = "9999999"\n', ["budget.usd"]),
        (SMALLEST + "[sampling]\nmax_tokens = true\n", ["sampling.max_tokens"]),
        (SMALLEST + "[sampling]\nseed = 100000000000000000000\n", ["sampling.seed"]),
        (SMALLEST + "[sampling]\nextra = { when = 2024-01-01 }\n", ["extra"]),
        (SMALLEST + '[sampling]\nextra = { provider = { max_price = { prompt = "abc" } } }\n', ["max_price.prompt"]),
        (SMALLEST + "[sampling]\nextra = { provider = { max_price = { completion = -1 } } }\n", ["max_price"]),
        ('name = "a/b"\n' + SMALLEST, ["names a folder"]),
        ("name = [", ["not TOML"]),
        (SMALLEST + "[[teachers]]\nmodel = 'm'\n", ["[[teachers]]", "keep one"]),
        (
            SMALLEST + '[judge]\nbase_url = "https://x/v1"\nmodel = "m"\nmode = "batch"\n',
            ["judge", "for teachers alone"],
        ),
        (SMALLEST + '[student]\nbase_url = "https://x/v1"\nmodel = "m"\nbatch_rows = 5\n', ["student.batch_rows: unk"]),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as e:
        load(run_toml(tmp_path, text))
    said = str(e.value)
    assert "my run.toml" in said
    assert [w for w in words if w not in said] == []
    assert "sk-abcdefghijklmnop" not in said
    assert "user:pw" not in said


def test_every_recipe_is_a_run_or_a_student_or_a_selection() -> None:
    for path in (ROOT / "recipes").glob("*.toml"):
        if path.name.startswith("select-"):
            assert Select.model_validate({"preset": path.stem.removeprefix("select-")}).preset
        elif "student =" in path.read_text():
            from finetune.recipe import read_recipe

            read_recipe(path)
        else:
            load(path)


def test_an_embedded_model_is_asked_as_often_at_once_as_it_answers() -> None:
    assert Teacher(local="SmolLM2-135M-Instruct").most_at_once == LOCAL_SLOTS
    assert Teacher(local="SmolLM2-135M-Instruct", max_concurrency=2).most_at_once == 2
    assert Teacher(base_url="http://127.0.0.1:9/v1", model="m").most_at_once == 256
