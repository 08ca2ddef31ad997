"""Benchmarks by name: files out of the hub's cache, rows as questions, the protocol, and a hub that refuses."""

import base64
import csv
import json
import pickle
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from finetune.__main__ import main
from finetune.measure.asked_questions import asked_questions
from finetune.measure.benchmarks import BENCHMARKS, benchmark_named, benchmark_questions
from finetune.measure.sampling import PRESETS
from harvest.checks import CheckPool
from harvest.core.errors import QuestionError

pytest.importorskip("huggingface_hub", reason="needs the extra `train`")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def in_cache(cache: Path, name: str, *rows: Any) -> Path:
    """Writes the first file of a benchmark where the hub's library keeps what it has downloaded."""
    b = BENCHMARKS[name]
    file = cache / f"datasets--{b.dataset.replace('/', '--')}" / "snapshots" / b.revision / b.files[0]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        import datasets

        datasets.Dataset.from_list(list(rows)).to_parquet(str(file))
    elif file.suffix == ".csv":
        with file.open("w", newline="") as f:
            writer = csv.DictWriter(f, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file


def outcome(question: Any, answer: str) -> str:
    with CheckPool() as pool:
        return str(pool.begin(question, answer)().outcome)


def test_rows_of_each_kind_become_questions_that_their_check_judges(cache: Path) -> None:
    in_cache(cache, "math-500", {"problem": "What is $1+1$?", "solution": "\\boxed{2}", "answer": "2", "level": 1})
    in_cache(cache, "aime24", {"id": 60, "problem": "Find it.", "solution": "…", "answer": "033", "year": "2024"})
    in_cache(cache, "gsm8k", {"question": "How many?", "answer": "3 + 4 = 7\n#### 7"})
    right = {"math-500": "\\boxed{2}", "aime24": "\\boxed{33}", "gsm8k": "\\boxed{7}"}
    for name, answer in right.items():
        (question,) = benchmark_questions(BENCHMARKS[name])
        assert question.check == "math"
        assert outcome(question, answer) == "right", name
        assert outcome(question, "\\boxed{5}") == "wrong", name


def test_the_choices_of_gpqa_stand_in_an_order_that_stays(cache: Path) -> None:
    row = {"Record ID": "rec1", "Question": "Which one?\n", "Correct Answer": "the right one"}
    row |= {f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)}
    in_cache(cache, "gpqa-diamond", row, *({**row, "Record ID": f"rec{n}"} for n in range(2, 30)))
    questions = benchmark_questions(BENCHMARKS["gpqa-diamond"])
    assert questions == benchmark_questions(BENCHMARKS["gpqa-diamond"])
    assert {q.answer for q in questions} == set("ABCD")
    first = questions[0]
    assert first.choices is not None
    assert first.choices["ABCD".index(first.answer or "")] == "the right one"
    assert outcome(first, f"\\boxed{{{first.answer}}}") == "right"


def test_livecodebench_has_its_private_cases_too(cache: Path) -> None:
    private = json.dumps([{"input": "2", "output": "4", "testtype": "stdin"}])
    packed = base64.b64encode(zlib.compress(pickle.dumps(private))).decode()
    row = {"question_content": "Double it.", "question_id": "a", "starter_code": "", "metadata": "{}"}
    row |= {"public_test_cases": '[{"input": "1", "output": "2", "testtype": "stdin"}]', "private_test_cases": packed}
    file = in_cache(cache, "livecodebench", row)
    file.with_name("test5.jsonl").write_text(json.dumps({**row, "question_id": "b"}) + "\n")
    questions = benchmark_questions(BENCHMARKS["livecodebench"])
    assert [q.check for q in questions] == ["code", "code"]
    assert [len(q.cases or ()) for q in questions] == [2, 2]


def test_every_protocol_names_a_preset_and_its_source() -> None:
    for name, b in BENCHMARKS.items():
        assert b.preset in PRESETS, name
        assert b.source
        assert len(b.revision) == 40
        assert b.samples == 1 or PRESETS[b.preset].settings["temperature"]
    assert benchmark_named("MATH-500") == BENCHMARKS["math-500"]
    assert benchmark_named("no-such-benchmark") is None


def test_a_file_of_that_name_is_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gsm8k").write_text("")
    assert benchmark_named("gsm8k") is None


@pytest.fixture
def refusing() -> Iterator[str]:
    """A hub that refuses each file as the real one refuses gated files."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.send_header("x-error-code", "GatedRepo")
            self.send_header("x-error-message", "Access to dataset Idavidrein/gpqa is restricted.")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_gated_benchmark_is_one_line_with_what_to_do(
    cache: Path, refusing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", refusing)
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))
    assert main(["eval", "nobody", "--questions", "gpqa-diamond", "--engine", "transformers"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "Idavidrein/gpqa is gated: accept its terms at https://huggingface.co/datasets/Idavidrein/gpqa" in error
    assert "hf auth login" in error


def test_a_hub_that_cannot_be_reached_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        QuestionError,
        match=r"test\.jsonl is not on this machine, and .* cannot be reached .*Name a copy by --questions FILE",
    ) as e:
        benchmark_questions(BENCHMARKS["math-500"])
    assert "\n" not in str(e.value)


def test_a_benchmark_that_is_nearly_named_is_named() -> None:
    with pytest.raises(QuestionError, match=r"math500: no such file, and no benchmark .* did you mean 'math-500'"):
        asked_questions("math500", None)
    with pytest.raises(QuestionError, match=r"held-out.jsonl: no such file \(questions\)"):
        asked_questions("held-out.jsonl", None)


def test_without_a_network_a_benchmark_is_refused_at_once_and_read_where_it_is_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(QuestionError, match=r"is not on this machine, and 127\.0\.0\.1 cannot be reached from here"):
        asked_questions("math-500", None)
    assert "Retrying" not in caplog.text, "the hub's library tries for 23 s"
    in_cache(cache, "math-500", {"problem": "What is $1+1$?", "solution": "\\boxed{2}", "answer": "2", "level": 1})
    assert [q.answer for q in asked_questions("math-500", None)] == ["2"]
