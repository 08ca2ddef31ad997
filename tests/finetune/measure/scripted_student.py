"""An engine that answers from a table, and evaluations by it, for the tests of measuring."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from finetune.measure.engine import Asked, Generated
from finetune.measure.evaluate import Evaluation, Measured, evaluate
from finetune.measure.sampling import Sampling
from finetune.progress import Progress
from harvest.core.nouns import Question
from harvest.endpoint import prompt as prompts

PROMPT = prompts.parse("---\nfor: tests\nreasoning: endpoint\n---\n## user\n{question}\n", "plain", "here")


def questions(n: int) -> list[Question]:
    return [Question(id=f"q{i}", question=f"What is {i} + 1?", answer=str(i + 1), check="math") for i in range(n)]


class Scripted:
    """An engine that answers from a table, two at a time, and may break off."""

    model, about = "scripted", {"weights": "sha256:0"}
    beside: ClassVar[dict[str, Any]] = {"batch_rows": 2}

    def __init__(self, answers: dict[str, Generated], break_after: int = 10**6) -> None:
        self.table, self.break_after, self.asked = answers, break_after, list[tuple[str, int]]()

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        for at in range(0, len(asked), 2):
            batch = asked[at : at + 2]
            self.asked += [(a.question.id, a.sample) for a in batch]
            if len(self.asked) > self.break_after:
                raise KeyboardInterrupt
            yield [(a, self.table[a.question.id]) for a in batch]


class Memory:
    """A record that is gone with the process."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
        self.kept: dict[str, Mapping[str, Any]] = {}

    def put(self, key: str, settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        self.kept[key] = dict(settings)
        self.rows.setdefault(key, {}).update({(r["question_id"], r["sample"]): dict(r) for r in rows})

    def answers(self, key: str) -> list[dict[str, Any]]:
        return list(self.rows.get(key, {}).values())

    def settings(self, key: str) -> Mapping[str, Any]:
        return self.kept.get(key, {})


def right(i: int, tokens: int = 10) -> Generated:
    return Generated(f"<think>\n{i} + 1\n</think>\n\n\\boxed{{{i + 1}}}", True, tokens)


def evaluated(engine: Any, n: int, record: Any = None, label: str = "before", **sampling: Any) -> Measured:
    record = record if record is not None else Memory()
    evaluation = Evaluation(questions(n), "q.jsonl", PROMPT, Sampling(**sampling), label)
    return evaluate(engine, evaluation, record, Progress("eval"))


def measured(engine: Any, n: int, record: Any = None, **sampling: Any) -> dict[str, Any]:
    return evaluated(engine, n, record, **sampling).entry


def wrong(n: int) -> Generated:
    return Generated(f"\\boxed{{{n}}}", True, 10)


class Sampled(Scripted):
    """Answers by question and sample."""

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        yield [(a, self.table[f"{a.question.id}/{a.sample}"]) for a in asked]


def as_stored(run: Measured) -> dict[str, Any]:
    return {"key": run.key, "settings": run.settings, "answers": run.answers}
