"""What is shown while a run asks: answers by reason, the money in all its parts, the pace and what limits it."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal

import pytest
from conftest import ROOT, Place
from scripted_endpoint import Endpoint, Say

from harvest.asking.buying.cap import SharedCap
from harvest.asking.buying.counters import Counters
from harvest.asking.buying.pace import Pace
from harvest.commands.progress import RECENT_S, Recent, Warnings, figures, live_lines, remaining_s, steps
from harvest.core.errors import SHOWN_FAULTS

Places = Callable[..., Place]
Endpoints = Callable[..., Endpoint]
CENT = 10**10


def counted(usd: str | None = "1.00") -> tuple[Counters, Recent]:
    counters = Counters("r", SharedCap(None if usd is None else Decimal(usd)), questions=100)
    recent = Recent()
    recent.see(counters, 0.0)
    return counters, recent


def test_the_parts_of_the_money_add_up_to_the_cap() -> None:
    counters, recent = counted()
    counters.cap.spent_pusd, counters.cap.in_doubt_pusd, counters.cap.reserved_pusd = 50 * CENT, 20 * CENT, 10 * CENT
    counters.accepted = 25
    money = live_lines(counters, recent)[1]
    assert money == "$0.50 spent · $0.20 in doubt · $0.10 reserved · $0.20 left of $1.00 · $0.020 a trace"


def test_rejections_are_shown_by_reason_the_commonest_first() -> None:
    counters, recent = counted()
    counters.rejected.update({"truncated": 2, "wrong": 4})
    assert live_lines(counters, recent)[0] == "0 accepted · 6 rejected (wrong 4, truncated 2)"


def test_the_trend_is_that_of_the_last_minute() -> None:
    counters, recent = counted(None)
    for second in range(1, 200):
        dear = second > 199 - RECENT_S
        counters.accepted += 1
        counters.cap.spent_pusd += (3 if dear else 1) * CENT
        counters.output_tokens += 500
        recent.see(counters, float(second))
    money, pace = live_lines(counters, recent)[1:]
    assert "lately $0.03" in money
    assert "500 tokens/s" in pace


def test_a_trend_takes_ten_traces() -> None:
    for traces, is_shown in ((9, False), (10, True)):
        counters, recent = counted(None)
        counters.accepted, counters.cap.spent_pusd = traces, 90 * CENT
        recent.see(counters, 1.0)
        assert ("lately" in live_lines(counters, recent)[1]) == is_shown


def test_what_is_in_doubt_stands_in_the_line_too() -> None:
    counters, _ = counted()
    counters.cap.spent_pusd, counters.cap.in_doubt_pusd = 50 * CENT, 20 * CENT
    assert "$0.50 + $0.20 in doubt of $1.00" in figures(counters)


def test_the_time_to_go_is_that_of_what_is_left() -> None:
    assert remaining_s(60.0, 30, 10) == 20.0


def test_a_kind_of_warning_is_said_a_few_times_and_then_counted(capsys: pytest.CaptureFixture[str]) -> None:
    warnings = Warnings()
    for n in range(SHOWN_FAULTS + 3):
        warnings(f"row {n}")
    warnings.close("bad rows skipped")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == SHOWN_FAULTS + 1
    assert said[-1] == f"{SHOWN_FAULTS + 3} bad rows skipped"
    Warnings().close("bad rows skipped")
    assert capsys.readouterr().err == ""


def test_without_a_terminal_work_says_a_line_now_and_then_only(capsys: pytest.CaptureFixture[str]) -> None:
    with steps("reading") as show:
        for n in range(100):
            show(n, 100, "rows")
    assert capsys.readouterr().err == ""


def test_what_limits_the_pace_is_named() -> None:
    counters, recent = counted()
    counters.paces = {"the teacher": Pace(64)}
    assert "at most 16 at once (so far, of 64)" in live_lines(counters, recent)[2]
    counters.paces = {"the teacher": Pace(64, 64.0)}
    assert "at most 64 at once (max_concurrency)" in live_lines(counters, recent)[2]
    counters.paces = {"a": Pace(64, 64.0, rate=2.5), "b": Pace(8)}
    line = live_lines(counters, recent)[2]
    assert "limited to 2.5 requests/s of a, which the endpoint takes" in line
    assert "at most 8 at once of b (max_concurrency)" in line


def test_a_cost_that_nobody_knows_is_no_zero() -> None:
    counters, recent = counted(None)
    counters.is_priced, counters.accepted = False, 3
    assert "cost unknown" in figures(counters)
    assert "$" not in figures(counters)
    assert live_lines(counters, recent)[1] == "cost unknown"


def test_a_terminal_shows_the_run_while_it_asks(endpoint: Endpoints, place: Places) -> None:
    p = place(endpoint(lambda a: Say(text="\\boxed{0}" if a.n % 3 == 0 else None, delay_s=0.5)).url, 24)
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "harvest", "collect", str(p.toml), "--teacher.max_concurrency", "4"],
        cwd=p.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=its,
        env={**os.environ, "WINNOW_RUNS": str(p.folder / "runs"), "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip
    os.close(its)
    shown = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            shown += chunk
    except OSError:  # Linux ends a terminal that nobody holds so
        pass
    os.close(ours)
    assert process.wait(timeout=30) == 0, shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode("utf-8", "replace"))
    assert re.search(r"\d+ accepted · [1-9]\d* rejected \(wrong \d+\)", text)
    assert re.search(
        r"\$0\.\d+ spent · \$0\.\d+ reserved · \$0\.\d+ left of \$1\.00 · \$\d\.\d+ for 1,000 traces", text
    ), text
    assert re.search(r"[1-4] in flight · [\d,]+ tokens/s · at most 4 at once \(max_concurrency\)", text)
