"""The loss curve: every logged step is stored once, through kills, in the folder, in the store and in the report."""

import importlib.util
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import forked
import pytest
from hypothesis import given
from hypothesis import strategies as st
from students import sums, tiny_student

from finetune.train.output_folder.loss_curve import Curve, curve_of, in_words, read_curve
from harvest.core.errors import InputError
from harvest.report.loss_curve import BARS, sparkline, thinned
from harvest.report.markdown_page import markdown
from harvest.report.run_report import run_report
from harvest.store import Store

ROOT = Path(__file__).parents[3]


def point(step: int, loss: float | None = 1.0) -> dict[str, Any]:
    return {
        "step": step, "epoch": step / 10, "loss": loss, "learning_rate": 1e-5, "grad_norm": 0.5, "tokens_per_s": 9.0,
        "at": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip


@given(st.integers(0, 700), st.integers(2, 200))
def test_thinned_keeps_the_ends_and_the_order(n: int, most: int) -> None:
    points = [{"step": i} for i in range(n)]
    kept = [p["step"] for p in thinned(points, most)]
    assert len(kept) == min(n, most)
    assert kept == sorted(set(kept))
    assert not n or (kept[0], kept[-1]) == (0, n - 1)


@given(st.lists(st.floats(-1e6, 1e6), max_size=300))
def test_a_sparkline_has_a_bar_a_value_or_forty_and_is_lowest_where_the_values_are(values: list[float]) -> None:
    bars = sparkline(values)
    assert len(bars) == min(len(values), 40)
    assert set(bars) <= set(BARS)
    if 0 < len(values) <= 40:
        assert bars[values.index(min(values))] == BARS[0]


def test_a_training_that_goes_on_takes_out_what_comes_again_and_a_torn_line(tmp_path: Path) -> None:
    curve = Curve(tmp_path, 0)
    for step in range(1, 8):
        curve.add(point(step))
    with (tmp_path / "curve.jsonl").open("a") as f:
        f.write('{"step": 8, "lo')
    assert [p["step"] for p in read_curve(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]
    curve = Curve(tmp_path, 4)
    assert [p["step"] for p in read_curve(tmp_path)] == [1, 2, 3, 4]
    curve.add(point(5, 0.5))
    assert [p["loss"] for p in read_curve(tmp_path)] == [1.0] * 4 + [0.5]
    assert len((tmp_path / "curve.jsonl").read_text().splitlines()) == 5


def test_a_folder_that_is_no_training_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training of ours: name the `output` of a recipe"):
        curve_of(tmp_path)
    (tmp_path / "winnow.json").write_text("{}")
    assert in_words(curve_of(tmp_path)) == "no step was logged yet"
    Curve(tmp_path, 0).add(point(1, None))
    assert in_words(curve_of(tmp_path)) == "no step was logged yet"


def test_the_store_has_each_step_once_and_the_report_at_most_two_hundred(tmp_path: Path) -> None:
    block = {"student": "<s>", "method": "sft", "rows": 1, "tokens": 2, "wall_s": 3.0, "loss_first": 9.0,
             "loss_last": 1.0, "cost_usd": None}  # fmt: skip
    with Store.open(f"sqlite:///{tmp_path}/w.db") as store:
        for run in ("r", "other"):
            store.put_run(run, {}, None, "2026-01-01T00:00:00+00:00")
        store.put_training_points("r", "a", [point(n, 1000.0 - n) for n in range(1, 700)])
        store.put_training_points("r", "a", [point(n, 2000.0 - n) for n in range(501, 601)], since=500)
        store.put_training("r", "a", block)
        store.put_training("r", "b", {**block, "student": "t"})
        store.put_training_points("other", "a", [point(1)])
        figures = store.figures(store.run_id("r"))
    assert [p["step"] for p in figures.curves[0]] == list(range(1, 601))
    assert figures.curves[1] == []
    report = run_report(figures, live=False)
    curve = report["training"][0]["curve"]
    assert (len(curve), curve[0]["step"], curve[-1]) == (200, 1, point(600, 1400.0))
    assert report["training"][1]["curve"] == []
    assert "Loss of &lt;s&gt;, step 1 to 600: `" in markdown(report)
    assert markdown(report).count("Loss of ") == 1


def test_a_killed_training_has_its_whole_curve_in_folder_store_and_report_and_a_tracker_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl", reason="needs the extra `train`")
    pytest.importorskip("tensorboardX", reason="the tracker of this test")
    monkeypatch.setenv("WINNOW_RUNS", str(tmp_path / "runs"))
    student, output, url = tiny_student(tmp_path / "s"), tmp_path / "out", f"sqlite:///{tmp_path}/w.db"
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in sums(40)))
    (tmp_path / "r.toml").write_text(
        f'student = "{student}"\ndata = "{tmp_path}/d.jsonl"\noutput = "{output}"\n[render]\nmax_tokens = 256\n'
        "[train]\nepochs = 2\ntraces_per_step = 8\nlearning_rate = 3e-3\nsave_steps = 3\n"
    )
    with Store.open(url) as store:
        store.put_run("r", {}, None, "2026-01-01T00:00:00+00:00")
    tracked = ("--train.report_to", "tensorboard", "--json")
    words = ("sft", str(tmp_path / "r.toml"), "--run", "r", "--store", url, *tracked)
    p = forked.Forked("finetune", *words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 900
    while p.poll() is None and len(read_curve(output)) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    p.kill()
    p.wait()
    before = read_curve(output)
    assert len(before) >= 5
    done = forked.run("finetune", *words)
    assert done.returncode == 0, done.stderr
    curve = read_curve(output)
    assert [p["step"] for p in curve] == list(range(1, 11))
    assert curve[:3] == before[:3], "what is not trained again keeps its time"
    assert (output / "curve.jsonl").read_text().count("\n") == 10
    with Store.open(url, write=False) as store:
        assert store.figures(store.run_id("r")).curves == [curve]
    report = json.loads((tmp_path / "runs/r/report.json").read_text())
    assert report["training"][0]["curve"] == curve
    assert json.loads(done.stdout)["loss_last"] == pytest.approx(curve[-1]["loss"])
    events = b"".join(f.read_bytes() for f in (output / "runs").rglob("*tfevents*"))
    for name in (b"train/loss", b"train/tokens_per_s", b"train/peak_gib", b"recipe/text_summary"):
        assert name in events
    assert b"train/mfu" not in events
    assert all(p["peak_gib"] > 0 and p["mfu"] is None for p in curve), "the peak speed of a CPU is not known"
    block = json.loads(done.stdout)
    assert block["peak_gib"] >= curve[-1]["peak_gib"] - 0.01
    assert block["mfu"] is None
    shown = forked.run("finetune", "curve", str(output))
    assert shown.stdout.count("\n") == 13
    assert shown.stdout.startswith(sparkline([p["loss"] for p in curve]) + "  loss ")


def test_the_share_of_the_peak_is_null_where_the_peak_is_not_known_and_counts_all_gpus() -> None:
    pytest.importorskip("trl", reason="needs the extra `train`")
    from finetune.cost.utilisation import Utilisation

    assert Utilisation(6e9, None, 1).mfu(1000) is None
    assert Utilisation(6e9, 1e15, 1).mfu(50_000) == 0.3
    assert Utilisation(6e9, 1e15, 2).mfu(50_000) == 0.15


def test_a_tracker_that_is_not_installed_is_named_with_its_command() -> None:
    pytest.importorskip("trl", reason="needs the extra `train`")
    from types import SimpleNamespace

    from finetune.train.training_args import check_trackers
    from harvest.core.errors import ConfigError

    missing = [n for n in ("trackio", "wandb") if importlib.util.find_spec(n) is None]
    if not missing:
        pytest.skip("every tracker is installed")
    for name in missing:
        with pytest.raises(ConfigError, match=f'train.report_to: "{name}" is not installed: pip install {name}$'):
            check_trackers(SimpleNamespace(report_to=[name]))
