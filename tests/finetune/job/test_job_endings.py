"""How a job ends: stopped by a signal, at the cap, at a mistake; each with its stage's exit code and one line."""

import signal
import time
from pathlib import Path

import forked
from jobs import environment, make_job, slowly, start_job
from scripted_endpoint import Endpoint, Say
from students import tiny_student

CAP = ("--run.budget.usd", "0.004")
"""Enough for some answers, and not for all."""


def test_a_job_ends_with_the_code_of_its_stage_and_says_how_to_go_on(tmp_path: Path) -> None:
    with Endpoint(slowly) as teacher:
        job, log = make_job(tmp_path / "j", teacher.url), tmp_path / "log"
        job.write_text(job.read_text().partition("[train]")[0])
        process = start_job(job.parent, *CAP, log=log)
        while process.poll() is None and len(teacher.asked) < 3:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert forked.finished(process).returncode == 130, log.read_text()
        again = "`python -m finetune job job.toml --run.budget.usd 0.004` goes on from there"
        assert log.read_text().splitlines()[-1] == f"stage 1 of 3, collect, stopped: {again}"
        asked = {a.question for a in teacher.asked}
        assert len(asked) < 16

        stops = forked.finished(start_job(job.parent, *CAP, "--at_cap", "stop", log=log))
        assert stops.returncode == 3, log.read_text()
        assert "stage 1 of 3, collect, ended with exit code 3: raise run.budget.usd" in log.read_text()
        assert not {a.question for a in teacher.asked[len(asked) :]} & asked, "asked twice"

        goes_on = forked.finished(start_job(job.parent, *CAP, log=log))
        assert goes_on.returncode == 0, log.read_text()
        assert 'at_cap = "stop" would end it here' in log.read_text()
        assert goes_on.stdout.startswith("So far: "), "the report's first sentence"


def test_a_job_without_a_trace_does_not_train(tmp_path: Path) -> None:
    with Endpoint(lambda _: Say(text="\\boxed{0}")) as teacher:
        folder = make_job(tmp_path / "j", teacher.url, questions=2).parent
        assert forked.run("harvest", "collect", "job.toml#run", cwd=folder).returncode == 0
        done = forked.run("finetune", "job", "job.toml", cwd=folder, env=environment())
        assert done.returncode == 2, done.stderr
        assert done.stderr.splitlines()[-1].startswith("stage 2 of 5, select, ended with exit code 2: no trace is")


def test_a_mistake_in_the_last_stage_ends_a_job_before_the_first_request(tmp_path: Path) -> None:
    with Endpoint(slowly) as teacher:
        job = make_job(tmp_path / "j", teacher.url, tiny_student(tmp_path / "student"), 2)
        job.write_text(job.read_text().replace("save_steps = 2\n", ""))
        (job.parent / "held-out.jsonl").write_text('{"question": "1 + 1"}\n')
        done = forked.run("finetune", "job", "job.toml", cwd=job.parent, env=environment())
        assert done.returncode == 2
        assert "error: job.toml: evaluate: held-out.jsonl, line 1: " in done.stderr
        assert not teacher.asked
