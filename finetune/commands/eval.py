"""`finetune eval STUDENT --questions F` measures the accuracy of a student, an endpoint or a run's teacher.

The questions should be held out: the student should not have been trained on them.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.commands.arguments import Overrides
from finetune.measure import details, endpoint, engines
from finetune.measure.asked_questions import Read, asked_questions
from finetune.measure.benchmarks import benchmark_named
from finetune.measure.engine import Engine, LocalEngine
from finetune.measure.evaluate import Evaluation, Measured, evaluate
from finetune.measure.sampling import Sampling, fitted, sampling_of
from finetune.measure.served_models import ServedModel, the_served_model
from finetune.note import came_from, trained_folder
from finetune.progress import Progress
from finetune.rows.layout import learnt_layout
from finetune.run import Run, label_of, prompt_of, standalone, standalone_evaluations, trained_on
from finetune.student import find, identity
from finetune.train.output_folder.card import write_model_card
from harvest.commands.report import write_report
from harvest.commands.run_folder import find_run
from harvest.core.config import DEFAULT_STORE
from harvest.core.errors import InputError, StoreUnusable
from harvest.core.nouns import Question
from harvest.endpoint import Prompt
from harvest.endpoint import prompt as prompts
from harvest.report.evaluation_warnings import warnings_of
from harvest.report.evaluations import against_teacher, gains

TEACHER = "teacher"
"""This word in place of a student's name means the run's teacher."""
FOR_ENDPOINTS = ("model", "replicas", "api_key_env", "usd", "price", "concurrency", "timeout_s", "extra")
"""Flags that are refused for a student on this machine, since they would have no effect."""
OF_ENGINES = {engines.VLLM: ("concurrency", "tensor_parallel", "data_parallel"), engines.TRANSFORMERS: ("batch_size",)}
"""The flags that only one engine of this machine takes."""
SAMPLED = ("samples", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed")


@dataclass(frozen=True, slots=True)
class Who:
    """Says who is asked: a student on this machine, an endpoint, or a run's teacher."""

    name: str
    """What the user typed."""
    folder: Path
    """The student's folder. Where none is known, no such folder is there."""
    engine: str | None = None
    """The engine of a student on this machine; None: an endpoint or the teacher."""
    served: ServedModel | None = None
    """The model at the endpoint's URL."""


def run(args: argparse.Namespace, _: Overrides) -> int:
    if args.compare:
        compared = details.compare(*args.compare)
        print(json.dumps(compared, ensure_ascii=False) if args.json else details.compared_in_words(compared))
        return 0
    if not args.student or not args.questions:
        args.command_parser.error("takes STUDENT and --questions F, or --compare A B")
    engine, questions = checked(args)
    if args.details:
        details.check_details(args.details)
    who = _who(args, engine)
    run = _run_of(args, who)
    measured = _measured(args, who, run, questions)
    if args.details:
        details.write_details(args.details, measured, questions, _prompt(args, run))
    write_model_card(trained_folder(who.folder))
    _say(args, who, run, measured, questions)
    return 0


def checked(args: argparse.Namespace, read: Read = asked_questions) -> tuple[str | None, list[Question]]:
    """Returns (the engine of a student on this machine, the questions), and fills in a benchmark's protocol.

    Raises an InputError for everything that is wrong and needs neither the student nor the run to be found.
    """
    engine = _engine_of(args)
    _take_protocol(args)
    if args.prompt:
        prompts.load(args.prompt)
    if engine is not None:
        _sampling(args)
    return engine, read(args.questions, args.limit, args.questions_columns)


def is_measured(args: argparse.Namespace, run: Run, read: Read) -> bool:
    """Returns whether the run's store holds every answer of this evaluation of a student on this machine.

    These must be the same: the checksum of the weights, the questions, the prompt, the engine's name, how answers are
    drawn, the checks' versions, and the label if one is given. The engine's version may differ. No weights are loaded.
    """
    engine, questions = checked(args, read)
    if engine is None:
        return False
    prompt, sampling = prompts.load(args.prompt) if args.prompt else prompt_of(run), _sampling(args)
    evaluation = Evaluation(questions, args.questions, prompt, sampling, args.label)
    about = {"weights": identity(find(args.student))}
    wanted = evaluation.settings(evaluation.content(about), args.student, sampling.samples)
    same = ("questions_sha256", "prompt_sha256", "checks", *sampling.content, *(("label",) if args.label else ()))
    asked = {(q.id, sample) for q in questions for sample in range(sampling.samples)}

    def holds(e: Mapping[str, Any]) -> bool:
        by, there = e["settings"].get("engine", {}), {(a["question_id"], a["sample"]) for a in e["answers"]}
        is_student = by.get("weights") == about["weights"] and str(by.get("engine")).startswith(engine)
        return is_student and asked <= there and all(e["settings"].get(name) == wanted[name] for name in same)

    return any(holds(e) for e in run.evaluations())


def _sampling(args: argparse.Namespace) -> Sampling:
    return sampling_of(args.preset, {name: getattr(args, name) for name in SAMPLED})


def _is_url(student: str) -> bool:
    return student.startswith(("http://", "https://"))


def _engine_of(args: argparse.Namespace) -> str | None:
    """Returns the engine of a student on this machine; None when an endpoint or the teacher is asked.

    Raises InputError for a flag that would have no effect, for example a cap for a student on this machine.
    """
    if "://" in args.student and not _is_url(args.student):
        raise InputError(f"{args.student}: an endpoint's URL begins with http:// or https://")
    is_here = not _is_url(args.student) and args.student != TEACHER
    engine = engines.chosen(args.engine, batch_size=args.batch_size) if is_here else None
    if engine is None:
        idle = {*engines.FOR_STUDENTS_HERE, *(("model",) if args.student == TEACHER else ())}
        where = "for a student on this machine"
    else:
        other = {flag for kind, flags in OF_ENGINES.items() if kind != engine for flag in flags}
        idle = {*FOR_ENDPOINTS, *other} - set(OF_ENGINES[engine])
        where = "for an endpoint's URL"
        if all(getattr(args, name) is None for name in set(FOR_ENDPOINTS) - {"concurrency"}):
            where = f"not for {engine}"
    if given := [f"--{name.replace('_', '-')}" for name in sorted(idle) if getattr(args, name) is not None]:
        where = "the run's own" if given == ["--model"] and not is_here else where
        raise InputError(f"{', '.join(given)}: {where}, and {args.student} is asked: leave it out")
    return engine


def _take_protocol(args: argparse.Namespace) -> None:
    """Fills in what the protocol of a named benchmark says, wherever the user gave nothing else."""
    if (benchmark := benchmark_named(args.questions)) is None:
        return
    args.prompt = args.prompt or benchmark.prompt
    if args.preset is None and args.temperature is None:
        args.preset = benchmark.preset
        args.samples = args.samples or benchmark.samples
    args.max_tokens = args.max_tokens or benchmark.max_tokens
    print(f"{args.questions}: {benchmark.source}", file=sys.stderr)


def _who(args: argparse.Namespace, engine: str | None) -> Who:
    """Returns who is asked. Of an endpoint it finds out the model's name and, on this machine, the student's folder."""
    if not _is_url(args.student):
        return Who(args.student, Path(args.student), engine)
    model = the_served_model(args.student, endpoint.checked_key(args.api_key_env), args.model)
    folder = model.student_folder(args.student)
    if folder is not None:
        print(f"{args.student} serves {model.name}: the student in {folder}", file=sys.stderr)
    return Who(args.student, folder or Path(args.student), served=model)


def _run_of(args: argparse.Namespace, who: Who) -> Run | None:
    """Returns the run whose report gets the evaluation; None when there is no such run.

    Prints a warning and returns None if the run that a student was trained for is no longer on this machine.
    """
    run = Run(*find_run(args.run_name, args.store)) if args.run_name else trained_on(who.folder)
    if run is not None:
        try:
            run.check()
        except StoreUnusable as e:
            if args.run_name:
                raise
            print(f"warning: in no report, since its run is not here: {e}", file=sys.stderr)
            run = None
    return run


def _prompt(args: argparse.Namespace, run: Run | None) -> Prompt:
    return prompts.load(args.prompt) if args.prompt else prompt_of(run)


def _measured(args: argparse.Namespace, who: Who, run: Run | None, questions: Sequence[Question]) -> Measured:
    """Evaluates the student and returns the evaluation, which is also in the run's store and in its report.

    Answers from before an interruption are part of the evaluation.
    """
    prompt = _prompt(args, run)
    engine, sampling, label = _engine(args, who, prompt, run, questions)
    label = label or label_of(str(who.folder) if who.served else who.name, run)
    if run is not None and label == "after":
        run.label_befores(who.folder)
    try:
        layout, line = learnt_layout(who.folder), came_from(who.folder)
        evaluation = Evaluation(questions, args.questions, prompt, sampling, label, layout, line)
        return evaluate(engine, evaluation, run or standalone(), Progress("eval"))
    finally:
        if run is not None:
            write_report(run.name, run.url)


def _say(
    args: argparse.Namespace, who: Who, run: Run | None, measured: Measured, questions: Sequence[Question]
) -> None:
    """Prints the evaluation, its gain over "before", its distance to the teacher, and warnings."""
    if run is not None:
        beside = run.evaluations()
    else:
        mine = {"key": measured.key, "settings": measured.settings, "answers": measured.answers}
        beside = standalone_evaluations(who.folder) or [mine]
    trained_on = run.mean_output_tokens() if run else None
    said = [words for key, words in warnings_of(beside, trained_on) if key == measured.key]
    if run is not None and who.folder.is_dir() and (trained := run.trains_on(questions)):
        said.append(
            f"{trained:,} of the {len(questions):,} questions are among those that run {run.name} has traces of: the"
            " student may have been trained on them, so its accuracy here says nothing of new questions"
        )
    gain = next((g for g in gains(beside) if g["key"] == measured.key), None)
    against = next((g for g in against_teacher(beside) if g["key"] == measured.key), None)
    found = measured.entry | {"gain": gain, "against_teacher": against, "warnings": said}
    for words in said:
        print(f"warning: {words}", file=sys.stderr)
    print(json.dumps(found, ensure_ascii=False) if args.json else details.in_words(found, gain, against))


def _engine(
    args: argparse.Namespace, who: Who, prompt: Prompt, run: Run | None, questions: Sequence[Question]
) -> tuple[Engine, Sampling, str | None]:
    """Returns (the engine that answers, how answers are drawn, the label).

    The label is the one from `--label`, or "teacher" when the teacher is asked; otherwise None.
    """
    if who.engine is None:
        return _endpoint(args, who, prompt, run, questions, {name: getattr(args, name) for name in SAMPLED})
    sampling = _sampling(args)
    local = _local_engine(args, who, prompt, run, questions)
    return local, engines.fitted_to(local, sampling, questions, prompt), args.label


def _local_engine(
    args: argparse.Namespace, who: Who, prompt: Prompt, run: Run | None, questions: Sequence[Question]
) -> LocalEngine:
    if who.engine == engines.VLLM:
        store = args.store or (run.url if run else DEFAULT_STORE)
        parallel = (args.tensor_parallel, args.data_parallel)
        return engines.vllm_engine(who.name, questions, prompt, store, parallel, args.concurrency)
    from finetune.measure.generate import TransformersEngine
    from finetune.train.sft import quiet

    student = find(who.name)
    quiet()
    return TransformersEngine(student, args.batch_size)


def _endpoint(
    args: argparse.Namespace,
    who: Who,
    prompt: Prompt,
    run: Run | None,
    questions: Sequence[Question],
    given: Mapping[str, Any],
) -> tuple[Engine, Sampling, str | None]:
    price = {"input": str(args.price[0]), "output": str(args.price[1])} if args.price else None
    settings = {
        "price_usd_per_mtok": price,
        "timeout_s": args.timeout_s,
        "max_concurrency": args.concurrency,
        "api_key_env": args.api_key_env,
        "replicas": args.replicas and tuple(args.replicas),
    }
    label = args.label
    extra, effort, base, limit = endpoint.extra_of(args.extra), None, None, None
    if who.served is None:
        if run is None:
            raise InputError("teacher: --run names the run whose teacher is asked")
        stored = run.stored()
        teacher, asking = endpoint.teacher_of(stored, settings), stored.config.sampling
        base = {name: getattr(asking, name) for name in endpoint.OF_SAMPLING}
        extra, effort, label = {**asking.extra, **extra}, asking.reasoning_effort, label or TEACHER
    else:
        settings["max_concurrency"] = args.concurrency or 64
        teacher, limit = endpoint.teacher_at(who.name, who.served.name, settings), who.served.limit
        extra = {**who.served.extra, **extra}
    sampling = sampling_of(args.preset, given, base)
    longest = max(endpoint.likely_prompt_tokens(prompt.student_messages(q)) for q in questions)
    if limit is not None and longest >= limit:
        limit = None  # this is only an estimate: the endpoint itself refuses what is too long
    engine = endpoint.Endpoint(
        teacher=teacher,
        questions=questions,
        prompt=prompt,
        cap_usd=endpoint.cap_of(args.usd, teacher, run.stored() if run else None),
        under=run.name if run else None,
        store=args.store or (run.url if run else DEFAULT_STORE),
        with_examples=label == TEACHER,
        extra=extra,
        reasoning_effort=effort,
        weights=identity(find(str(who.folder))) if who.served and who.folder.is_dir() else None,
    )
    return engine, engines.said(sampling, fitted(sampling, longest, limit), limit), label
