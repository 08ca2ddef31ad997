"""JOB.toml is read with the models of its commands: each mistake is one line, before anything begins."""

import json
import re
import shutil
from pathlib import Path

import forked
import pytest
from jobs import JOB
from scripted_endpoint import PRICE
from students import tiny_student

from finetune.cost.answering import Evaluating
from finetune.cost.hours import rounded
from finetune.cost.quote import Figures, quote
from finetune.job.dry_run import foreseen_job, in_words
from finetune.job.settings import PlannedJob, read_job
from finetune.job.stages import stages_of
from finetune.measure.asked_questions import reading_once
from finetune.run import Run
from finetune.student import find
from finetune.train.output_folder.state import identity_of, write_state
from harvest.core.config import load
from harvest.core.errors import ConfigError
from harvest.core.settings import folder_of, read_toml
from harvest.store import Store

RUN = 'questions = "q.jsonl"\n[teacher]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n[budget]\nusd = "1.00"\n'
RECIPE = 'student = "s"\ndata = "data/runs/other"\noutput = "data/students/own"\n[train]\nepochs = 2\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "r.toml").write_text(RUN)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "jobs/job.toml").write_text(JOB.format(url="http://127.0.0.1:9/v1", epochs=3, **PRICE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WINNOW_RUNS", raising=False)
    return tmp_path


def job_of(text: str, *overrides: tuple[str, str]) -> PlannedJob:
    Path("jobs/job.toml").write_text(text)
    return read_job(Path("jobs/job.toml"), overrides)


def test_a_table_is_put_over_the_file_that_it_names(folder: Path) -> None:
    job = job_of('[run]\nfile = "../r.toml"\nname = "mine"\n[run.budget]\nusd = "2.50"\n')
    assert (job.run.name, str(job.run.budget.usd), job.run.teacher.model) == ("mine", "2.50", "m")
    assert job.folder.resolve() == folder, "q.jsonl lies beside r.toml"
    assert load(Path("jobs/job.toml#run")) == job.run
    assert folder_of(Path("jobs/job.toml#run")).resolve() == folder
    assert read_toml(Path("jobs/job.toml#run.budget")) == {"usd": "2.50"}


def test_a_file_with_a_hash_in_its_name_is_a_file(folder: Path) -> None:
    Path("a.toml#run").write_text(RUN)
    assert load(Path("a.toml#run")).teacher.model == "m"


@pytest.mark.parametrize("table", ["ran", "run.teachr", "train.0.recipe", "run.budget.usd.more"])
def test_a_table_that_is_not_there_is_one_line(table: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no '\w+' in jobs/job.toml|neither a table") as raised:
        read_toml(Path(f"jobs/job.toml#{table}"))
    assert len(str(raised.value).splitlines()) == 1


def test_a_training_learns_from_the_run_and_goes_on_with_the_student_before_it(folder: Path) -> None:
    job = job_of(
        'run = "../r.toml"\n[[train]]\nrecipe = "../recipe.toml"\n'
        '[[train]]\nrecipe = { train = { epochs = 1 } }\n'
        '[[train]]\nrecipe = { file = "../recipe.toml", data = "rows.jsonl", output = "third" }\n'
    )  # fmt: skip
    recipes = [t.recipe for t in job.trainings]
    assert [r.data for r in recipes] == ["data/runs/r", "data/runs/r", "rows.jsonl"]
    assert [r.student for r in recipes] == ["s", "data/students/own", "s"]
    assert [r.output for r in recipes] == ["data/students/own", "data/students/r-1-sft", "third"]


def test_a_student_may_be_cut_then_trained_then_shortened(folder: Path) -> None:
    job = job_of(
        'run = "../r.toml"\n[[train]]\ncommand = "init"\n'
        'recipe = { student = "whole", layers = 20, keep = "importance" }\n'
        '[[train]]\nrecipe = { train = { epochs = 1 } }\n'
        '[[train]]\ncommand = "prefer"\nrecipe = { prefer = { beta = 3 } }\n'
    )  # fmt: skip
    cut, sft, prefer = (stage.words for stage in stages_of(job) if stage.kind == "train")
    assert " ".join(cut).startswith("-m finetune init whole --layers 20 --to data/students/r-0-init --keep importance")
    assert "--rows data/runs/r" in " ".join(cut)
    assert "--run" not in cut
    assert {"--student", "data/students/r-0-init", "--run"} <= {*sft}
    assert {"--student", "data/students/r-1-sft"} <= {*prefer}
    assert job.trainings[2].recipe.prefer is not None
    assert job.trainings[2].recipe.train.epochs == 1, "as `finetune prefer` has it"


def test_settings_of_the_command_line_have_their_place_in_the_file(folder: Path) -> None:
    text = Path("jobs/job.toml").read_text()
    epochs = ("train.recipe.train.epochs", "7")
    job = job_of(text, ("run.budget.usd", "3.5"), epochs, ("evaluate.max_tokens", "9"), ("at_cap", "stop"))
    assert (str(job.run.budget.usd), job.trainings[0].recipe.train.epochs) == ("3.5", 7)
    assert (job.settings.evaluate[0].max_tokens, job.settings.at_cap) == (9, "stop")
    words = [" ".join(stage.words) for stage in stages_of(job)]
    assert "-m harvest collect jobs/job.toml#run --budget.usd 3.5" in words
    assert any("sft jobs/job.toml#train.recipe --data data/runs/j" in w and "--train.epochs 7" in w for w in words)


def test_a_setting_of_a_training_that_is_not_there_is_refused(folder: Path) -> None:
    two = f'{OF_RUN}[[train]]\nrecipe = "../recipe.toml"\n[[train]]\nrecipe = "../recipe.toml"\n'
    job = job_of(two, ("train.1.recipe.train.epochs", "7"))
    assert [t.recipe.train.epochs for t in job.trainings] == [2, 7]
    for key in ("train.2.recipe.train.epochs", "train.recipe.train.epochs"):
        with pytest.raises(ConfigError, match=f"--{key}: the job has no such training"):
            job_of(two, (key, "7"))


def test_each_student_and_the_teacher_are_asked_as_their_command_takes_it(folder: Path) -> None:
    (folder / "jobs/own.md").write_text("---\nfor: all\nreasoning: endpoint\n---\n## user\n{question}\n")
    job = job_of(
        f'{OF_RUN}skip_bad_rows = true\n[[train]]\nrecipe = "../recipe.toml"\n'
        '[[train]]\nrecipe = { train = { epochs = 1 } }\n'
        '[[evaluate]]\nquestions = "held-out.jsonl"\nwho = ["teacher", "each"]\nprompt = "own.md"\n'
        'engine = "transformers"\nbatch_size = 2\nconcurrency = 3\n'
        '[[evaluate]]\nquestions = "gsm8k"\n'
    )  # fmt: skip
    stages = stages_of(job)
    assert stages[0].words[-1] == "--skip-bad-rows"
    teacher, *students = (" ".join(s.words) for s in stages if s.kind == "evaluate")
    assert teacher.endswith("--label teacher --prompt jobs/own.md --concurrency 3")
    assert [w.split()[3:6] for w in students] == [
        ["s", "--questions", "gsm8k"],
        ["data/students/own", "--questions", "jobs/held-out.jsonl"],
        ["data/students/r-1-sft", "--questions", "jobs/held-out.jsonl"],
        ["data/students/r-1-sft", "--questions", "gsm8k"],
    ]
    assert "--engine transformers --batch-size 2" in students[1]
    assert ["--label after" in w for w in students] == [False, False, True, True]


def test_a_training_on_several_gpus_is_started_by_its_launcher(folder: Path) -> None:
    job = job_of(
        'run = "../r.toml"\n[train.recipe]\nfile = "../recipe.toml"\nlaunch = { strategy = "fsdp2", gpus = 8 }\n'
    )
    words = next(stage.words for stage in stages_of(job) if stage.kind == "train")
    assert words[:2] == ("-m", "accelerate.commands.accelerate_cli")
    assert words[-words[::-1].index("-m") :][:3] == ("finetune", "sft", "jobs/job.toml#train.recipe")


OF_RUN = 'run = "../r.toml"\n'
OF_RECIPE = f'{OF_RUN}[train]\nrecipe = "../recipe.toml"\n'
OVER_RUN = '[run]\nfile = "../r.toml"\n'
OVER_RECIPE = f'{OF_RUN}[train.recipe]\nfile = "../recipe.toml"\n'
MISTAKES = {
    'rnu = "../r.toml"': r"rnu: unknown setting; did you mean 'run'\?",
    'run = "../gone.toml"': r"gone.toml: no such file",
    "[run]\nbudget = 3": r"job.toml#run: questions: missing",
    f"{OF_RUN}[budget]\nusd = 5": r"budget: it is a part of the run: write \[run.budget\]",
    f'{OF_RUN}at_cap = "go"': r"at_cap: .*'train' or 'stop'",
    f"{OVER_RUN}[run.bugdet]\nusd = 5": r"job.toml#run: bugdet: unknown setting; did you mean 'budget'\?",
    f'{OF_RECIPE}command = "sfd"': r"command 'sfd': .*; did you mean 'sft'\?",
    f'{OF_RECIPE}comand = "sft"': r"train.0.comand: unknown setting; did you mean 'command'\?",
    f"{OVER_RECIPE}[train.recipe.rendr]": r"#train.recipe: rendr: unknown setting; did you mean 'render'",
    f"{OF_RUN}[train]\nrecipe = {{ train = {{}} }}": r"#train.recipe: student: missing",
    f'{OF_RUN}[evaluate]\nquestions = "q"': r"evaluate: there is no \[train\]",
    f'{OF_RECIPE}[evaluate]\nquestions = "q"\npreset = "deepseek"': r"preset: .*; did you mean 'deepseek-r1'",
    f'{OF_RECIPE}[evaluate]\nquestions = "q"\nmax_token = 3': r"max_token: unknown setting; did you mean 'max_tokens'",
    f"{OF_RUN}[expect]\naccepted = 2": r"expect.accepted: .*less than or equal to 1",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_setting(text: str, folder: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        job_of(text)
    lines = str(raised.value).splitlines()
    assert any(re.search(MISTAKES[text], line) for line in lines), lines
    assert all(re.match(r"(jobs/job.toml|gone.toml)", line) for line in lines), lines


def test_mistakes_of_all_parts_are_named_at_once(folder: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        job_of(f'{OVER_RUN}sampling = {{ smaples = 2 }}\n[train.recipe]\nfile = "../recipe.toml"\nmethod = "lroa"\n')
    assert len(str(raised.value).splitlines()) == 2


def test_what_takes_seconds_to_check_is_checked_before_the_first_request(folder: Path) -> None:
    """TRL's settings, a student and the questions of an evaluation: nothing is collected where one of them is wrong."""
    text = JOB.format(url="http://127.0.0.1:9/v1", epochs=3, **PRICE).replace("save_steps", "save_stpes")
    Path("jobs/job.toml").write_text(text)
    (folder / "jobs/questions.jsonl").write_text(json.dumps({"id": "a", "question": "1 + 1", "answer": "2"}) + "\n")
    done = forked.run("finetune", "job", "jobs/job.toml", "--dry-run", cwd=folder)
    assert done.returncode == 2
    assert "did you mean 'save_steps'?" in done.stderr
    Path("jobs/job.toml").write_text(text.replace("save_stpes", "save_steps"))
    (folder / "data/students/j").mkdir(parents=True)
    (folder / "data/students/j/thesis.txt").write_text("something else")
    shutil.copytree(tiny_student(folder / "tiny"), folder / "student")
    done = forked.run("finetune", "job", "jobs/job.toml", "--dry-run", "--json", cwd=folder)
    assert "output data/students/j: holds something that is no training" in json.loads(done.stdout)["faults"][0]
    shutil.rmtree(folder / "student")
    Path("jobs/job.toml").write_text(Path("jobs/job.toml").read_text().replace('usd = "1.00"', ""))
    done = forked.run("finetune", "job", "jobs/job.toml", "--dry-run", "--json", cwd=folder)
    assert done.returncode == 2
    faults = json.loads(done.stdout)["faults"]
    assert len(faults) == 3, faults
    assert "the run has no cap: set budget.usd" in faults[0]
    assert "student 'student': no such folder" in faults[1]
    assert "held-out.jsonl: no such file" in faults[2]
    assert not (folder / "store.db").exists()


def test_rows_of_pairs_are_not_foreseen_as_traces(folder: Path) -> None:
    job = job_of(
        'run = "../r.toml"\n[[train]]\ncommand = "prefer"\nrecipe = "../recipe.toml"\n[expect]\nquestions = 9\n'
    )
    entry = next(
        s for s in foreseen_job(job, stages_of(job), lambda _: False, reading_once())["stages"] if "estimate" in s
    )
    assert (entry["rows"], entry["estimate"]) == (None, None)
    assert "counts the pairs" in entry["unknown"]


def test_a_training_of_other_settings_is_not_done_already(folder: Path) -> None:
    shutil.copytree(tiny_student(folder / "tiny"), folder / "student")
    job = read_job(Path("jobs/job.toml"), ())
    run = Run(job.run.name, job.run.store)
    with Store.open(run.url) as store:
        store.put_run(run.name, job.run.model_dump(mode="json"), None, "2026-01-01T00:00:00+00:00")
    (folder / "jobs/questions.jsonl").write_text(json.dumps({"id": "a", "question": "1 + 1", "answer": "2"}) + "\n")
    (training,), output = job.trainings, Path("data/students/j")
    run.put_training("k", {"student": "student", "output": str(output)})
    output.mkdir(parents=True)
    of = identity_of(training.recipe, "rows", find("student"))
    for changed, is_done in (({}, True), ({"train.epochs": 9.0}, False)):
        write_state(output, {"schema": 1, "of": of | changed, "wall_s": 1.0, "training": {"student": "student"}})
        done = forked.run("finetune", "job", "jobs/job.toml", "--dry-run", "--json", cwd=folder)
        assert done.stdout, done.stderr
        assert json.loads(done.stdout)["stages"][2]["done"] is is_done, done.stderr
    assert "holds a training of something else" in done.stderr


def test_the_accuracy_that_curve_quoted_stands_at_the_evaluation_after(folder: Path) -> None:
    job = read_job(Path("jobs/job.toml"), ())
    run, (planned,) = Run(job.run.name, job.run.store), job.evaluations
    with Store.open(run.url) as store:
        store.put_run(run.name, job.run.model_dump(mode="json"), None, "2026-01-01T00:00:00+00:00")
    quote = {"weights": "w", "traces": 9, "epochs": 2, "trainings": 5, "quoted_at": "2026-11-29"}
    quote |= {"accuracy": {"low": 0.4, "mid": 0.5, "high": 0.6}}
    (folder / "jobs/questions.jsonl").write_text(json.dumps({"id": "a", "question": "1 + 1", "answer": "2"}) + "\n")
    for student, questions, is_said in (
        ("other", planned.source, 0),
        ("student", "f", 0),
        ("student", planned.source, 1),
    ):
        run.put_accuracy_quote({**quote, "student": student, "questions": questions})
        found = foreseen_job(job, stages_of(job), lambda _: False, reading_once())
        quoted = [s["accuracy_quote"] is not None for s in found["stages"] if s["stage"] == "evaluate after"]
        assert quoted == [is_said]
    assert "    quoted: 50.0% right (90%: 40.0% to 60.0%), by 5 short trainings of `curve --buy` on 2026-11-29" in [
        *in_words(found)
    ]


def test_a_dry_run_has_an_entry_for_each_stage(folder: Path) -> None:
    (folder / "jobs/questions.jsonl").write_text(
        "".join(json.dumps({"id": f"q{i}", "question": f"{i} + 1", "answer": str(i + 1)}) + "\n" for i in range(10))
    )
    (folder / "jobs/held-out.jsonl").write_text('{"id": "h", "question": "1 + 1", "answer": "2"}\n')
    text = Path("jobs/job.toml").read_text().replace("[run.sampling]\n", "[run.sampling]\nsamples = 4\n")
    model = (
        'base_url = "http://127.0.0.1:9/v1"\nmodel = "r"\nprice_usd_per_mtok = { input = "1.00", output = "3.00" }\n'
    )
    expect = "output_tokens = 1000\ninput_tokens = 50\naccepted = 0.5\nparameters_b = 7\npaid = { train = '$450' }\n"
    expect += "rewritten = 0.5\nrewritten_tokens = 2000\n"
    parts = f"[run.select]\ntraces = 4\n[run.rewrite.model]\n{model}[expect]\n{expect}"
    Path("jobs/job.toml").write_text(f"{text}\n{parts}")
    done = forked.run("finetune", "job", "jobs/job.toml", "--dry-run", "--json", cwd=folder)
    found = json.loads(done.stdout)
    collect, select, train, evaluate, report = found["stages"]
    assert [s["stage"] for s in found["stages"]] == ["collect", "select", "train", "evaluate after", "report"]
    assert (collect["questions"], collect["answers_at_most"], collect["cap_usd"]) == (10, 40, "1.00")
    # 100 tokens of output at $10 for a million, and at most some 80 bytes of prompt, boxed.md included
    assert 0.04 < float(collect["usd_at_most"]) < 0.08
    rewriting = {"texts": 10, "usd": "0.08", "output_tokens": 20_000}
    likely = {"answers": 20, "usd": "0.20", "output_tokens": 20_000, "rewriting": rewriting}
    assert collect["likely"] == likely
    assert select["traces"] == 4
    assert train["estimate"]["parameters"] == 7_000_000_000
    assert train["estimate"]["tokens"] == 4 * 1050 * 3
    assert train["paid_by_others"] == "$450"
    assert (evaluate["questions"], evaluate["max_tokens"]) == (1, 6)
    figures, once = Figures(7e9, 4, 1050), Evaluating(1, 1, 6, 6)
    both = quote(job_of(f"{text}\n{parts}").trainings[0].recipe, figures, None, once).as_json()["evaluation"]
    assert evaluate["gpu_hours"] == rounded(both["gpu_hours"] / 2), "an estimate is of before and after"
    assert report["command"] == "python -m harvest report j"


def test_an_evaluation_names_columns_and_its_command_reads_by_them(folder: Path) -> None:
    from finetune.commands.arguments import parser
    from finetune.measure.asked_questions import asked_questions, reading_once

    columns = 'questions_columns = { question = "instruction", answer = "output" }'
    job = job_of(f'{OF_RUN}[train]\nrecipe = "../recipe.toml"\n[evaluate]\nquestions = "held.jsonl"\n{columns}\n')
    words = next(stage.words for stage in stages_of(job) if stage.evaluation is not None)
    args = parser().parse_args(words[words.index("eval") :])
    assert args.questions_columns == {"question": "instruction", "answer": "output"}
    (folder / "held.jsonl").write_text('{"instruction": "1 + 1?", "output": "2"}\n')
    held = str(folder / "held.jsonl")
    assert [q.answer for q in asked_questions(held, None, args.questions_columns)] == ["2"]
    read = reading_once()
    assert read(held, None, args.questions_columns) is read(held, None, args.questions_columns)
    for wrong in ("question=instruction", "[1]", '{"question": 1}'):
        with pytest.raises(SystemExit):
            parser().parse_args(["eval", "s", "--questions", "f", "--questions-columns", wrong])
