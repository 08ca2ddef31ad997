"""`finetune distill`: what is trained, how batches lay soft targets, and what the report says of them."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from students import smol_tokenizer, sums, tiny_student
from trainings import OTHERS_WARN, ROOT, weights

torch = pytest.importorskip("torch", reason="needs the extra `train`")
pytest.importorskip("trl", reason="needs the extra `train`")

pytestmark = OTHERS_WARN

PADDED = "packing = false\nper_device_train_batch_size = 4"
PACKED = "packing = true"
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_student(tmp_path_factory.mktemp("student"))
    return made


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tiny_student(tmp_path_factory.mktemp("teacher"), seed=2)
    return made


def recipe_of(folder: Path, student: Path, distill: str, train: str = "", rows: int = 12) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps({"messages": m}) + "\n" for m in sums(rows)))
    (folder / "r.toml").write_text(
        f'student = "{student}"\ndata = "{folder}/train.jsonl"\noutput = "{folder}/out"\n[render]\nmax_tokens = 256\n'
        f"[distill]\n{distill}\n[train]\nepochs = 2\ntraces_per_step = 4\nlearning_rate = 3e-3\nlogging_steps = 1\n"
        f"{train}\n"
    )
    return folder / "r.toml"


def trainer_for(path: Path) -> Any:
    from finetune.recipe import read_recipe
    from finetune.student import find
    from finetune.train.soft_targets.targets import with_targets
    from finetune.train.soft_targets.trainer import DistillTrainer
    from finetune.train.trainer import build_trainer, load_arranged

    recipe = read_recipe(path, train=True)
    made = with_targets(recipe, smol_tokenizer(), [])
    student = find(recipe.student)
    recipe, config, model, _ = load_arranged(recipe, made, student, 1_000_000, bf16=False)
    return build_trainer(recipe, made, smol_tokenizer(), model, config, kind=DistillTrainer)


def step_of(trainer: Any) -> tuple[float, list[Any], float]:
    """(the loss of the first step, its gradient, the mean divergence)."""
    batches, model = [], trainer.model
    for n, batch in enumerate(trainer.get_train_dataloader()):
        if n == trainer.args.gradient_accumulation_steps:
            break
        batches.append(batch)
    count = sum((b["labels"][:, 1:] != -100).sum() for b in batches)
    losses = [trainer.compute_loss(model, b, num_items_in_batch=count) for b in batches]
    sum(losses).backward()
    kl, tokens = trainer.since_logged
    return float(sum(losses)), [p.grad for p in model.parameters()], kl / tokens


def test_packed_and_padded_rows_have_one_loss_and_one_gradient(tmp_path: Path, student: Path, teacher: Path) -> None:
    distill = f'teachers = ["{teacher}"]\ntemperature = 2.0\nweight = 0.7'
    made = [
        step_of(trainer_for(recipe_of(tmp_path / str(n), student, distill, train)))
        for n, train in enumerate((PADDED, PACKED))
    ]
    (loss, gradient, kl), (packed, of_packed, packed_kl) = made
    assert kl > 1e-6
    assert (packed, packed_kl) == pytest.approx((loss, kl), rel=1e-5)
    for a, b in zip(gradient, of_packed, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_the_student_as_its_own_teacher_has_no_divergence_at_any_temperature(tmp_path: Path, student: Path) -> None:
    for t in (1.0, 2.0):
        distill = f'teachers = ["{student}"]\ntemperature = {t}\nweight = 1.0'
        loss, _, kl = step_of(trainer_for(recipe_of(tmp_path / str(t), student, distill)))
        assert kl == pytest.approx(0, abs=1e-4)
        assert loss == pytest.approx(0, abs=1e-4)


def test_a_filler_has_no_target_and_no_gradient(tmp_path: Path, student: Path, teacher: Path) -> None:
    """In a launch of several processes one of them may have no row left in the last step of an epoch."""
    from finetune.recipe import read_recipe
    from finetune.train.soft_targets.targets import with_targets
    from finetune.train.soft_targets.trainer import DistillTrainer

    path = recipe_of(tmp_path, student, f'teachers = ["{teacher}"]', PACKED)
    trainer = trainer_for(path)
    rows = DistillTrainer.dataset(with_targets(read_recipe(path, train=True), smol_tokenizer(), []), [2, 2])
    loss = trainer.compute_loss(
        trainer.model, trainer.data_collator([rows[len(rows) - 1]]), num_items_in_batch=torch.tensor(8)
    )
    loss.backward()
    assert float(loss) == trainer.since_logged[1] == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


def test_weight_0_is_sft(tmp_path: Path, student: Path, teacher: Path) -> None:
    from trainings import trainer_for as sft_trainer

    soft = trainer_for(recipe_of(tmp_path / "soft", student, f'teachers = ["{teacher}"]\nweight = 0.0'))
    path = recipe_of(tmp_path / "hard", student, "")
    path.write_text(path.read_text().replace("[distill]\n", ""))
    hard, _ = sft_trainer(path)
    batch = next(iter(hard.get_train_dataloader()))
    loss = hard.compute_loss(hard.model, batch, num_items_in_batch=torch.tensor(100))
    same = soft.compute_loss(soft.model, next(iter(soft.get_train_dataloader())), num_items_in_batch=torch.tensor(100))
    assert same.item() == pytest.approx(loss.item(), rel=1e-6)


def test_a_training_says_what_each_of_two_teachers_gave_and_is_not_done_twice(
    tmp_path: Path, student: Path, teacher: Path
) -> None:
    distill = f'teachers = ["{teacher}", "{student}"]\nshare = {{ "{teacher}" = 0.7, "{student}" = 0.3 }}\ntop_k = 5'
    path = recipe_of(tmp_path, student, distill, "held_out = 0.3")
    done = forked.run("finetune", "distill", str(path), "--json", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    block = json.loads(done.stdout)
    assert block["method"] == "distill"
    said = block["distill"]
    each = {"rows": block["rows"], "tokens": said["tokens_with_targets"]}
    assert said["teachers"] == {str(teacher): each, str(student): each}
    assert said["rows_without_targets"] == said["tokens_without_targets"] == 0
    assert (said["temperature"], said["weight"], said["top_k"]) == (1.0, 0.9, 5)
    assert 0 < said["kl_last"] < said["kl_first"]
    assert block["held_out"]["questions"] > 0
    assert "soft targets for" in done.stderr
    before = weights(tmp_path / "out")
    again = forked.run("finetune", "distill", str(path), "--json", cwd=ROOT)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == block
    assert weights(tmp_path / "out") == before
    changed = forked.run("finetune", "distill", str(path), "--distill.temperature", "2.0", cwd=ROOT)
    assert changed.returncode == 2
    assert "distill.temperature: 1.0 there, 2.0 now" in changed.stderr


def test_what_cannot_be_learnt_is_refused(tmp_path: Path, student: Path) -> None:
    path = recipe_of(tmp_path, student, "")
    done = forked.run("finetune", "distill", str(path), "--dry-run", cwd=ROOT)
    assert done.returncode == 2
    assert "no run's export" in done.stderr
    assert "Traceback" not in done.stderr
    for setting, value, said in (
        ("train.label_smoothing_factor", "0.1", "train.label_smoothing_factor: soft targets have one already"),
        ("launch.strategy", "fsdp2", 'soft targets are for "single" and "ddp"'),
        ("distill.teachers", f'["{student}", "stored"]', "no run's export"),
        ("distill.share", '{ "other" = 1.0 }', f"names no share for {student}"),
    ):
        given = ("--distill.teachers", f'["{student}"]', f"--{setting}", value)
        refused = forked.run("finetune", "distill", str(path), "--dry-run", *given, cwd=ROOT)
        assert refused.returncode == 2
        assert said in refused.stderr
    as_sft = forked.run("finetune", "sft", str(path), "--dry-run", cwd=ROOT)
    assert as_sft.returncode == 2
    assert "[distill] is for `python -m finetune distill`" in as_sft.stderr


def test_killed_it_ends_with_the_weights_of_an_unbroken_run(tmp_path: Path, student: Path, teacher: Path) -> None:
    from finetune.train.output_folder.loss_curve import read_curve

    distill, many, log = f'teachers = ["{teacher}"]', "save_steps = 1", tmp_path / "log"
    whole, broken = (recipe_of(tmp_path / name, student, distill, many) for name in ("whole", "broken"))
    assert forked.train(whole, log=log, command="distill").wait(forked.END_S) == 0, log.read_text()
    output = broken.parent / "out"
    p = forked.train(broken, log=log, command="distill")
    deadline = time.monotonic() + forked.END_S
    while p.poll() is None and time.monotonic() < deadline and len(read_curve(output)) < 3:
        time.sleep(0.002)
    p.kill()
    assert p.wait(forked.END_S) == -signal.SIGKILL, log.read_text()
    assert forked.train(broken, log=log, command="distill").wait(forked.END_S) == 0, log.read_text()
    assert weights(output) == weights(whole.parent / "out")


def test_adapters_learn_soft_targets_too(tmp_path: Path, student: Path, teacher: Path) -> None:
    path = recipe_of(tmp_path, student, f'teachers = ["{teacher}"]')
    path.write_text('method = "lora"\n' + path.read_text())
    loss, gradient, kl = step_of(trainer_for(path))
    assert loss > kl > 0
    assert any(g is not None and g.any() for g in gradient)


def bought(text: str) -> dict[str, Any]:
    """A chat completion as llama.cpp sends it: every token with its id and bytes, and another likely token beside."""
    from finetune.train.soft_targets.vocabulary import pieces_of

    pieces = pieces_of(smol_tokenizer())
    ids = [*smol_tokenizer()(text, add_special_tokens=False)["input_ids"], smol_tokenizer().eos_token_id]

    def entry(i: int, logprob: float) -> dict[str, Any]:
        said = "" if i == ids[-1] else pieces[i].decode(errors="replace")
        return {"id": i, "token": said, "bytes": list(said.encode()), "logprob": logprob}

    content = [entry(i, -0.25) | {"top_logprobs": [entry(i, -0.25), entry(300, -2.0)]} for i in ids]
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": len(ids), "total_tokens": 9 + len(ids)}
    return {
        "id": "c",
        "model": "some-teacher",
        "choices": [choice | {"logprobs": {"content": content}}],
        "usage": usage,
    }


def test_log_probabilities_in_a_runs_store_become_soft_targets(tmp_path: Path, student: Path) -> None:
    """Answers that were paid for elsewhere are imported with their log-probabilities; one of them has none."""
    lines = []
    for n in range(6):
        text = f"{n} + {n + 1} is {2 * n + 1}, so \\boxed{{{2 * n + 1}}}"
        row = {"id": f"q{n}", "question": f"What is {n} + {n + 1}?", "answer": str(2 * n + 1)}
        lines.append(row | {"response": bought(text) if n else text})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    imported = forked.run("harvest", "import", "log.jsonl", "--name", "r", cwd=tmp_path)
    assert imported.returncode == 0, imported.stderr
    assert forked.run("harvest", "export", "r", cwd=tmp_path).returncode == 0
    (tmp_path / "r.toml").write_text(
        f'student = "{student}"\ndata = "data/runs/r"\noutput = "out"\n[render]\nmax_tokens = 256\n[distill]\n'
        "weight = 0.5\n[train]\nepochs = 1\ntraces_per_step = 3\nlogging_steps = 1\n"
    )
    refused = forked.run("finetune", "distill", "r.toml", "--dry-run", cwd=tmp_path)
    assert refused.returncode == 2
    assert "'some-teacher' was asked at an unknown temperature" in refused.stderr
    raw = ("--distill.logprobs_are_raw", "true", "--json")
    other = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[1])
    token = other["response"]["choices"][0]["logprobs"]["content"][1]
    for entry in (token, *token["top_logprobs"]):
        entry["bytes"] = [120]
    (tmp_path / "other.jsonl").write_text(json.dumps(other) + "\n")
    assert forked.run("harvest", "import", "other.jsonl", "--name", "other", cwd=tmp_path).returncode == 0
    assert forked.run("harvest", "export", "other", cwd=tmp_path).returncode == 0
    of_other = ("--data", "data/runs/other", "--dry-run")
    refused = forked.run("finetune", "distill", "r.toml", *raw, *of_other, cwd=tmp_path)
    assert refused.returncode == 2
    assert "another tokenizer than the student's" in refused.stderr
    done = forked.run("finetune", "distill", "r.toml", *raw, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["distill"]
    assert said["teachers"]["some-teacher"]["rows"] == said["rows_with_targets"] == 5
    assert (said["rows_without_targets"], said["tokens_without_targets"] > 0) == (1, True)
    assert "1 row: no log-probabilities are stored" in done.stderr
    assert said["tokens_with_targets"] == sum(
        len(line["response"]["choices"][0]["logprobs"]["content"]) for line in lines[1:]
    ), "all tokens of the answer, and the end token"
