"""Rows are rendered once and found again by content. A rendering that was killed leaves nothing that counts."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from families import tokenizer_of
from students import chat, smol_tokenizer, sums

from finetune.recipe import Recipe
from finetune.rows import cache
from finetune.rows.cache import examples, rendered
from finetune.rows.conversation import conversation
from finetune.rows.examples import Examples, digest_of
from finetune.rows.layout import LAYOUTS
from finetune.rows.render import render

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of rendered rows, empty at first. The student's weights stay where they are."""
    smol_tokenizer()
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rows"


def recipe_over(rows: list[Any], to: Path, **given: Any) -> Recipe:
    to.write_text("".join(json.dumps(r) + "\n" for r in rows))
    render = {"max_tokens": 256, **given.pop("render", {})}
    return Recipe.model_validate({"student": "s", "data": str(to), "output": "out", "render": render, **given})


def tables(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.is_dir() else set()


def test_rows_are_found_again_by_content_and_whatever_changes_them_renders_them_again(
    tmp_path: Path, folder: Path
) -> None:
    rows = [{"messages": m} for m in sums(5)]
    first = examples(recipe_over(rows, tmp_path / "a.jsonl"), smol_tokenizer())
    made = next(folder.glob("*/rows.arrow"))
    before = made.stat()
    (tmp_path / "other").mkdir()
    again = examples(recipe_over(rows, tmp_path / "other/a.jsonl", train={"seed": 3}), smol_tokenizer())
    assert again.digest == first.digest
    assert (made.stat().st_ino, made.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert len(tables(folder)) == 1
    for n, (more, tokenizer) in enumerate(
        (
            ({"render": {"reasoning": "sky-t1"}}, smol_tokenizer()),
            ({"render": {"max_tokens": 255}}, smol_tokenizer()),
            ({}, tokenizer_of("Qwen2.5")),
            ({"mix": [{"data": str(tmp_path / "a.jsonl"), "per_row": 1}]}, smol_tokenizer()),
        ),
        2,
    ):
        examples(recipe_over(rows, tmp_path / "a.jsonl", **more), tokenizer)
        assert len(tables(folder)) == n
    examples(recipe_over(rows[:4], tmp_path / "a.jsonl"), smol_tokenizer())
    assert len(tables(folder)) == 6


def test_what_comes_from_the_table_is_what_was_rendered(tmp_path: Path) -> None:
    rows = [*sums(7), [*chat("one", "a"), *chat("two", "b")], chat("q", "a " * 600)]
    named = {"question_id": "q7", "source": "sums", "teacher": {"model": "r1"}}
    recipe = recipe_over(
        [{"messages": m, **(named if n == 7 else {})} for n, m in enumerate(rows)], tmp_path / "a.jsonl"
    )
    think, tokenizer = LAYOUTS["think"], smol_tokenizer()
    want = [render(conversation({"messages": m}, think), tokenizer, 256, think) for m in rows[:8]]
    for _ in range(2):  # rendered, then found again
        made, survey = rendered(recipe, tokenizer)
        assert list(made) == want
        assert made[-1] == want[7]
        assert made[1:3] == want[1:3]
        assert made.lengths == list(map(len, want))
        assert made.trained_tokens == sum(e.trained_tokens for e in want)
        assert made.rows == tuple(range(8))
        assert made.digest == digest_of(want)
        assert made.question_ids[7] == "q7"
        assert len(set(made.question_ids)) == 8
        assert [asked for *_, asked in made.asked()][7] == ["one", "two"]
        assert made.origins == {"teacher": {"r1": 1}, "source": {"sums": 1}, "licence": {}, "teacher_terms": {}}
        assert survey.counts == {"chains": 7, "ended": 8, "several_turns": 1}
        assert [d.partition(":")[0] for d in made.dropped] == ["row 8 (a.jsonl line 9)"]
        some = made.subset([5, 0, 7]).subset([2, 0])
        assert list(some) == [want[7], want[5]]
        assert (some.lengths, some.rows) == ([len(want[7]), len(want[5])], (7, 5))
        assert some.trained_tokens == want[7].trained_tokens + want[5].trained_tokens
        assert some.digest != made.subset([5, 7]).digest


def test_several_processes_render_what_one_renders(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Any] = [{"messages": m} for m in sums(300)]
    rows[100], rows[250] = {"messages": []}, {"messages": chat("q", "a " * 600)}
    recipe = recipe_over(rows, tmp_path / "a.jsonl")
    found = []
    for size in (1 << 30, 1):
        monkeypatch.setattr(cache, "BYTES_A_PROCESS", size)
        made, survey = rendered(recipe, smol_tokenizer())
        found.append((made.digest, made.rows, made.dropped, survey.findings))
        next(folder.iterdir()).rename(tmp_path / str(size))
    assert found[0] == found[1]


def test_a_killed_rendering_leaves_nothing_that_counts_and_no_process(tmp_path: Path, folder: Path) -> None:
    recipe_over([{"messages": m} for m in sums(6_000)], tmp_path / "a.jsonl")
    render = (
        "from finetune.recipe import Recipe; from finetune.rows import cache\n"
        "from finetune.student import Student, load_tokenizer\n"
        "if __name__ == '__main__':\n"
        f"    cache.BYTES_A_PROCESS = 1; given = dict(student='s', data={str(tmp_path / 'a.jsonl')!r}, output='o')\n"
        "    print(len(cache.examples(Recipe.model_validate(given), load_tokenizer(Student('s', TOKENIZER)))))\n"
    )
    smol_tokenizer().save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "r.py").write_text(render.replace("TOKENIZER", repr(str(tmp_path / "tokenizer"))))
    command = [sys.executable, str(tmp_path / "r.py")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    p = subprocess.Popen(command, env=env, cwd=ROOT, text=True)
    while not any(f.stat().st_size > 50_000 for f in folder.glob("*.part/rows.arrow")):
        assert p.poll() is None
        time.sleep(0.05)
    children = Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert [name for name in tables(folder) if not name.endswith(".part")] == []
    end = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < end, "a process of the pool outlives the command"
        time.sleep(0.1)
    both = [subprocess.Popen(command, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE) for _ in range(2)]
    assert [q.communicate()[0] for q in both] == ["6000\n"] * 2
    assert [name.endswith(".part") for name in tables(folder)] == [False], "the second found what the first rendered"


def test_rows_that_nobody_used_for_long_are_removed(tmp_path: Path, folder: Path) -> None:
    for n in (1, 2):
        examples(recipe_over([{"messages": m} for m in sums(n)], tmp_path / "a.jsonl"), smol_tokenizer())
    long_ago = time.time() - 31 * 86400
    for old in folder.iterdir():
        os.utime(old, (long_ago, long_ago))
    recipe = recipe_over([{"messages": m} for m in sums(2)], tmp_path / "a.jsonl")
    examples(recipe, smol_tokenizer())  # used again
    examples(recipe_over([{"messages": m} for m in sums(3)], tmp_path / "a.jsonl"), smol_tokenizer())
    assert len(tables(folder)) == 2


def test_examples_in_memory_are_examples_too() -> None:
    think = LAYOUTS["think"]
    some = [render(conversation({"messages": m}, think), smol_tokenizer(), 256, think) for m in sums(3)]
    assert list(Examples.of(some)) == some
    assert len(Examples.of([])) == 0
    assert Examples.of([]).summary()["tokens"] == 0
