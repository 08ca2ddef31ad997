"""The start of TRL's on-policy distillation: its student is one of ours, with its note and card."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from students import tiny_student
from trainings import ROOT, weights

pytest.importorskip("trl", reason="needs the extra `train`")


def test_a_student_is_corrected_by_its_teacher_and_noted_as_trained(tmp_path: Path) -> None:
    student, teacher = (tiny_student(tmp_path / name, seed=seed) for seed, name in enumerate(("student", "teacher")))
    questions = tmp_path / "questions.jsonl"
    rows = ({"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(4))
    questions.write_text("".join(json.dumps(r) + "\n" for r in rows))
    words = ["--student", student, "--teacher", teacher, "--questions", questions, "--output", tmp_path / "out"]
    few = ["--steps", "2", "--answers-per-step", "4", "--at-once", "2", "--max-tokens", "6", "--learning-rate", "1e-2"]
    command = [sys.executable, "recipes/on_policy.py", *map(str, words), *few]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    block = json.loads((tmp_path / "out/winnow.json").read_text())["training"]
    assert (block["method"], block["steps"], block["rows"]) == ("on-policy", 2, 4)
    assert block["loss_last"] > 0
    assert weights(tmp_path / "out") != weights(student)
    assert "trained by winnow" in (tmp_path / "out/README.md").read_text()
