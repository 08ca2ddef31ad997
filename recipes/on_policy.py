"""On-policy distillation of one of our students, by TRL: it writes, and a teacher corrects each of its tokens.

    python recipes/on_policy.py --student data/students/demo --teacher FOLDER --questions QUESTIONS --output OUTPUT
    python -m finetune eval OUTPUT --questions HELD_OUT

winnow has no trainer of its own for this: TRL's DistillationTrainer holds the teacher on this machine, its experimental
ServerDistillationTrainer asks a vLLM server for log-probabilities (--teacher http://…). This script gives them winnow's
questions, prompt and student, and notes the result, so that evaluation, card and report are those of any student. An
interrupted training begins again. Source: GKD, arXiv 2306.13649, and TRL 1.16, trainer/distillation_trainer.py.
"""

import argparse
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import DistillationConfig, DistillationTrainer

from finetune.note import ancestors
from finetune.run import Run
from finetune.student import Student, find, folder_of, identity, load_tokenizer
from finetune.train.output_folder.card import write_model_card
from finetune.train.output_folder.state import attach_run, training_key, write_state
from harvest.checks import ROW_RULES
from harvest.commands.report import write_report
from harvest.commands.run_folder import find_run
from harvest.core.nouns import content_hash
from harvest.endpoint import prompt as prompts
from harvest.questions.sources import read_questions


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="a folder, an entry of the model table, a hub's name")
    parser.add_argument("--teacher", required=True, help="the same, of the student's vocabulary; or a server's URL")
    parser.add_argument("--questions", required=True, help="as for `harvest collect`; their answers are not read")
    parser.add_argument("--prompt", default="boxed", help="what the student is asked under (boxed)")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--run", help="the run whose report gets the training")
    parser.add_argument("--store", help="its store")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--answers-per-step", type=int, default=16)
    parser.add_argument("--at-once", type=int, default=4, help="answers that go through the models at once (4)")
    parser.add_argument("--max-tokens", type=int, default=512, help="most tokens of an answer (512)")
    parser.add_argument("--learning-rate", type=float, default=1e-6)
    parser.add_argument("--beta", type=float, default=1.0, help="1: reverse KL, 0: forward KL, between: a mixture")
    parser.add_argument("--lora", action="store_true", help="train adapters of rank 32 in place of all weights")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    student = find(args.student)
    questions = list(read_questions(args.questions, Path(), ROW_RULES, may_skip=False))
    prompt = prompts.load(args.prompt)
    trainer = trainer_of(args, student, [{"prompt": list(prompt.student_messages(q))} for q in questions])
    began = time.monotonic()
    trainer.train()
    trainer.save_model(str(args.output))
    trainer.processing_class.save_pretrained(str(args.output))
    note(args, student, trainer, len(questions), time.monotonic() - began)


def trainer_of(args: argparse.Namespace, student: Student, rows: list[dict[str, Any]]) -> DistillationTrainer:
    """Returns TRL's trainer for a teacher on this machine, or for one behind a URL."""
    settings: dict[str, Any] = {
        "output_dir": str(args.output),
        "max_steps": args.steps,
        "per_device_train_batch_size": args.at_once,
        "gradient_accumulation_steps": max(1, args.answers_per_step // args.at_once),
        "max_completion_length": args.max_tokens,
        "learning_rate": args.learning_rate,
        "beta": args.beta,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "bf16": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
    }
    tokenizer = load_tokenizer(student)
    tokenizer.padding_side = "left"
    given: dict[str, Any] = {
        "model": str(folder_of(student)),
        "train_dataset": Dataset.from_list(rows),
        "processing_class": tokenizer,
        "peft_config": LoraConfig(task_type="CAUSAL_LM", r=32, target_modules="all-linear") if args.lora else None,
    }
    if args.teacher.startswith(("http://", "https://")):
        from trl.experimental.server_distillation import ServerDistillationConfig, ServerDistillationTrainer

        config = ServerDistillationConfig(**settings, teacher_model_server_url=args.teacher)
        return ServerDistillationTrainer(args=config, **given)
    config = DistillationConfig(**settings, teacher_model_init_kwargs={"dtype": "bfloat16"})
    return DistillationTrainer(teacher_model=str(folder_of(find(args.teacher))), args=config, **given)


def note(args: argparse.Namespace, student: Student, trainer: DistillationTrainer, prompts: int, wall_s: float) -> None:
    """Writes what `finetune sft` notes of a training, for card, evaluation and report."""
    log = trainer.state.log_history
    losses = [e["loss"] for e in log if "loss" in e]
    tokens = int(next((e["num_tokens"] for e in reversed(log) if "num_tokens" in e), 0))
    gpus = torch.cuda.device_count()
    block = {
        "student": args.student,
        "method": "on-policy",
        "weights": "lora" if args.lora else "full",
        "output": str(args.output),
        "rows": prompts,
        "dropped": 0,
        "data": f"the student's own answers to {args.questions}, corrected by {args.teacher}",
        "epochs": trainer.state.epoch,
        "learning_rate": args.learning_rate,
        "seed": trainer.args.seed,
        "tokens": tokens,
        "trained_tokens": tokens,
        "tokens_per_s": round(tokens / wall_s, 1),
        "steps": trainer.state.global_step,
        "wall_s": round(wall_s, 1),
        "strategy": "single",
        "processes": trainer.args.world_size,
        "gpus": gpus,
        "gpu_hours": round(wall_s / 3600 * gpus, 4),
        "cost_usd": None,
        "loss_first": losses[0] if losses else None,
        "loss_last": losses[-1] if losses else None,
        "held_out": None,
        "precision": "bfloat16 over float32" if trainer.args.bf16 else "float32",
        "device": torch.cuda.get_device_name() if gpus else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
    }
    of = {"student": identity(student), "method": "on-policy", "data": content_hash(vars(args) | {"output": ""})}
    state = {"schema": 1, "of": of, "came_from": ancestors(Path(args.student)), "wall_s": wall_s, "training": block}
    write_state(args.output, state)
    if args.run:
        run = Run(*find_run(args.run, args.store))
        run.put_training(training_key(args.output), block)
        write_report(run.name, run.url)
        attach_run(args.output, run.name, run.url)
    write_model_card(args.output)


if __name__ == "__main__":
    main()
