"""Traces as a dataset: what `datasets.load_dataset` and TRL take as they are, with a card.

One file of JSON lines or Parquet, the training part of each line first, and a README.md that gives the column
types (so that a column which is empty at first loads all the same), the counts and the costs.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harvest.checks import split_at_final_box
from harvest.errors import InputError
from harvest.money import usd
from harvest.prompt import Prompt
from harvest.run import write_whole
from harvest.store import Store
from harvest.trace import Question, Reply, content_hash

OURS = {"README.md", "train.jsonl", "train.parquet"}
SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "reasoning_effort")
ROWS_A_GROUP = 1000
NOT_JUDGED = "not_judged"
"""The reason of an answer that waits for others to its question, or came last before a stop."""


def parts_of(reply: Reply, prompt_reasoning: str) -> tuple[str | None, str]:
    """(reasoning, answer): the chain as the endpoint set it apart, or as the prompt says where it stands."""
    if reply.reasoning is not None and reply.reasoning_kind in (None, "chain"):
        return reply.reasoning, reply.answer
    if prompt_reasoning == "before_box" and (cut := split_at_final_box(reply.answer)) is not None and cut[0].strip():
        return cut[0].strip(), cut[1].strip()
    return None, reply.answer


def content_of(reasoning: str | None, answer: str) -> str:
    """The assistant's turn as it is trained; without a chain, the answer alone."""
    return answer if reasoning is None else f"<think>\n{reasoning}\n</think>\n\n{answer}"


def rows(store: Store, run_id: int, config: dict[str, Any], prompt: Prompt, which: str) -> Iterator[dict[str, Any]]:
    """One line for each attempt that got a reply: `selected`, `accepted` or `all`."""
    teacher, sampling = config["teacher"], config["sampling"]
    asked = {k: sampling[k] for k in SAMPLING}
    for r in store.answered_attempts(run_id, which):
        question, reply = Question.model_validate_json(r["question_body"]), r["reply"]
        reasoning, answer = parts_of(reply, prompt.reasoning)
        yield {
            "messages": [
                *_asked_under(config, reply),
                *prompt.student_messages(question),
                {"role": "assistant", "content": content_of(reasoning, answer)},
            ],
            "id": content_hash([r["key"], question.id]).removeprefix("sha256:")[:32],
            "question_id": question.id,
            "question": question.question,
            "reasoning": reasoning,
            "answer": answer,
            "gold": question.answer,
            "domain": question.domain,
            "teacher": {
                "model": teacher["model"] or teacher["local"] or reply.served_model,
                "base_url": teacher["base_url"] or ("local" if teacher["local"] else None),
                "revision": teacher["revision"],
                "served_model": reply.served_model,
                "served_by": reply.served_by,
                "system_fingerprint": reply.system_fingerprint,
                "response_id": reply.response_id,
            },
            "prompt": {"name": prompt.name, "sha256": prompt.sha256},
            "sampling": asked
            | {"max_tokens": r["max_tokens"] or None, "extra": json.dumps(sampling["extra"], sort_keys=True)},
            "sample": r["sample"],
            "finish_reason": reply.finish_reason,
            "usage": {
                "input_tokens": r["input_tokens"],
                "cached_input_tokens": r["cached_input_tokens"],
                "output_tokens": r["output_tokens"],
                "reasoning_tokens": r["reasoning_tokens"],
            },
            "cost_usd": None if r["cost"] is None else usd(0 if r["reused"] else r["cost"]),
            "verdicts": [
                {
                    "check": v["check"],
                    "version": v["version"],
                    "passed": v["outcome"] == "right",
                    "detail": v["detail"],
                    "share": v["share"],
                }
                for v in {v["check"]: v for v in r["verdicts"]}.values()  # the newest of each check
            ],
            "accepted": bool(r["accepted"]),
            "reason": r["reason"] or (None if r["accepted"] else NOT_JUDGED),
            "source": question.source,
            "licence": question.licence,
            "teacher_terms": teacher["terms"],
            "asked_at": r["sent_at"] or None,
        }


def _asked_under(config: dict[str, Any], reply: Reply) -> list[dict[str, str]]:
    """The system message that an imported answer was asked under; a collected run has its prompt's own."""
    system = reply.extra.get("system") if config.get("imported") else None
    return [{"role": "system", "content": system}] if isinstance(system, str) else []


def export(
    store: Store,
    run_id: int,
    config: dict[str, Any],
    prompt: Prompt,
    to: Path,
    *,
    which: str,
    form: str,
    report: dict[str, Any],
) -> int:
    """Writes the dataset folder as a whole, in place of one that is there; how many lines it has.

    Raises InputError where something else than such a dataset stands in its place.
    """
    to = to.absolute()
    if to.exists() and not (to.is_dir() and {p.name for p in to.iterdir()} <= OURS):
        raise InputError(f"{to}: holds other things than an export; name a new folder with --to")
    part = to.with_name(f".{to.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    try:
        lines = rows(store, run_id, config, prompt, which)
        n = (
            _write_parquet(part / "train.parquet", lines)
            if form == "parquet"
            else _write_jsonl(part / "train.jsonl", lines)
        )
        write_whole(part / "README.md", card(config, report, which, form, n))
        old = to.with_name(f".{to.name}.{os.getpid()}.old")
        if to.exists():
            to.replace(old)
        part.replace(to)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return n


def _write_jsonl(path: Path, lines: Iterator[dict[str, Any]]) -> int:
    n = 0
    with path.open("w", encoding="utf-8", errors="replace") as f:
        for row in lines:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
            n += 1
        f.flush()
        os.fsync(f.fileno())
    path.chmod(0o600)
    return n


def _write_parquet(path: Path, lines: Iterator[dict[str, Any]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(pa)
    n, group = 0, []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for row in lines:
            group.append(row)
            n += 1
            if len(group) == ROWS_A_GROUP:
                writer.write_table(pa.Table.from_pylist(group, schema))
                group = []
        writer.write_table(pa.Table.from_pylist(group, schema))
    path.chmod(0o600)
    return n


T, N, F, B = "string", "int64", "float64", "bool"
COLUMNS: dict[str, Any] = {
    "messages": [{"role": T, "content": T}],
    "id": T, "question_id": T, "question": T, "reasoning": T, "answer": T, "gold": T, "domain": T,
    "teacher": {
        "model": T, "base_url": T, "revision": T, "served_model": T, "served_by": T, "system_fingerprint": T,
        "response_id": T,
    },
    "prompt": {"name": T, "sha256": T},
    "sampling": {
        "max_tokens": N, "temperature": F, "top_p": F, "top_k": N, "min_p": F, "seed": N, "reasoning_effort": T,
        "extra": T,
    },
    "sample": N, "finish_reason": T,
    "usage": {"input_tokens": N, "cached_input_tokens": N, "output_tokens": N, "reasoning_tokens": N},
    "cost_usd": T,
    "verdicts": [{"check": T, "version": T, "passed": B, "detail": T, "share": F}],
    "accepted": B, "reason": T, "source": T, "licence": T, "teacher_terms": T, "asked_at": T,
}  # fmt: skip
"""The columns and their types; a list holds rows of its one entry, a dict is a struct."""


def _schema(pa: Any) -> Any:
    def kind(c: Any) -> Any:
        if isinstance(c, list):
            return pa.list_(kind(c[0]))
        if isinstance(c, dict):
            return pa.struct([(k, kind(v)) for k, v in c.items()])
        return {T: pa.string(), N: pa.int64(), F: pa.float64(), B: pa.bool_()}[c]

    return pa.schema([(name, kind(c)) for name, c in COLUMNS.items()])


def _features(columns: dict[str, Any], indent: str) -> Iterator[str]:
    for name, c in columns.items():
        yield f"{indent}- name: {name}"
        if isinstance(c, str):
            yield f"{indent}  dtype: {c}"
        else:
            yield f"{indent}  {'list' if isinstance(c, list) else 'struct'}:"
            yield from _features(c[0] if isinstance(c, list) else c, indent + "  ")


def _place_of(teacher: dict[str, Any]) -> str:
    return f" at {teacher['base_url'] or 'this machine'}" if teacher["base_url"] or teacher["local"] else ""


def card(config: dict[str, Any], report: dict[str, Any], which: str, form: str, n: int) -> str:
    """The dataset card: YAML that the hub and `datasets` read, then the counts and costs in words."""
    money, traces, questions = report["money"], report["traces"], report["questions"]
    teacher = config["teacher"]
    name = teacher["model"] or teacher["local"] or "answers bought elsewhere"
    per_trace = money["usd_per_accepted_trace"]
    return "\n".join(
        [
            "---",
            f"pretty_name: {json.dumps(config['name'])}",
            "task_categories: [text-generation]",
            "tags: [reasoning, distillation, winnow]",
            "configs:",
            "- config_name: default",
            "  data_files:",
            "  - split: train",
            f"    path: train.{'parquet' if form == 'parquet' else 'jsonl'}",
            "dataset_info:",
            "  features:",
            *_features(COLUMNS, "  "),
            "---",
            "",
            f"# {config['name']}",
            "",
            f"{n} traces ({which}) of {name}, collected and checked by winnow. `messages` is the training part.",
            "",
            "| stage | count |",
            "| --- | ---: |",
            f"| questions | {questions['total']} |",
            f"| asked | {questions['asked']} |",
            f"| whole replies | {report['attempts']['answered']} |",
            f"| reused from earlier runs | {report['attempts']['reused']} |",
            *(f"| rejected: {reason} | {count} |" for reason, count in traces["rejected"].items()),
            f"| accepted | {traces['accepted']} |",
            f"| in this file | {n} |",
            "",
            f"- Spent: {money['spent_usd']} USD (price from: {money['price_source']}),"
            f" in doubt {money['in_doubt_usd']} USD"
            + (f", {per_trace} USD an accepted trace." if per_trace is not None else "."),
            f"- Teacher: {name}{_place_of(teacher)};"
            f" terms on training with its answers: {teacher['terms'] or 'not recorded'}.",
            "- Licences of the questions are in the column `licence`.",
            f"- Prompt `{config['prompt']}`, sha256 {config['prompt_sha256']}.",
            "",
        ]
    )
