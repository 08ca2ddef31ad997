"""What selection remembers of texts, so that none is read twice and none is held: sketches, in files of a thousand.

    python -m harvest.selection.signatures   a line of JSON in (a Job, then a Shard each), one out for each file

A file appears whole, with a checksum, so a kill costs the file that was being written. Several processes write
different files of one folder; what is in a file does not depend on who wrote it, nor on what stands in the others.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harvest.core.candidate import candidate_of
from harvest.core.config import Filters, Rewrite
from harvest.core.errors import QuestionError
from harvest.core.nouns import Question
from harvest.endpoint import prompt as prompts
from harvest.filters import first_fault
from harvest.judging.rewriting import Rewriter
from harvest.questions.sources import read_rows
from harvest.selection.minhash import PERMUTATIONS, in_a_row, of_text, signature, word_hashes
from harvest.selection.near_duplicates import MANY_NUMBERS, Asked, Evaluation
from harvest.selection.stages import FRAMES
from harvest.store.store import Store

ATTEMPT = np.dtype([("id", "<i8"), ("text", "<u8", 2), ("chars", "<i8"), ("signature", "<u2", PERMUTATIONS)])
QUESTION = np.dtype(
    [
        ("id", "<i8"), ("text", "<u8"), ("gold", "<u8"), ("numbers", "<u8", FRAMES), ("many", "?"),
        ("signature", "<u2", PERMUTATIONS),
    ]
)  # fmt: skip
"""One sketch each. What has no fixed size (faults, domains, evaluation questions) stands in a file's first line."""
KINDS = {"attempts": ATTEMPT, "questions": QUESTION}
Sketches = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Job:
    """What every file of a folder has in common."""

    url: str
    config: dict[str, Any]
    """The run's, as it is stored."""
    against: tuple[str, ...]
    base: str


@dataclass(frozen=True, slots=True)
class Shard:
    kind: str
    ids: tuple[int, ...]
    to: str


def evaluations_of(against: Sequence[str], base: Path) -> list[Evaluation]:
    """The evaluations that are named, read; gold answers are welcome and not needed. Raises QuestionError where one
    cannot be, or has no question: to be held against nothing would look like being clean."""
    found = []
    for source in against:
        rows = read_rows(source, base, without_gold="majority", may_skip=False)
        found.append(Evaluation(source, ((q.id, q.question, q.answer) for _, q in rows)))
        if not found[-1].questions:
            raise QuestionError(f"select.against: {source}: not one question in it")
    return found


class Sketcher:
    """Makes the sketches of one job."""

    def __init__(self, store: Store, job: Job) -> None:
        self.store, self.config = store, job.config
        self.prompt = prompts.parse(job.config["prompt_text"], Path(job.config["prompt"]).stem, "the run's prompt")
        self.imported = bool(job.config.get("imported"))
        self.filters = Filters.model_validate(job.config.get("filters", {}))
        self.rewriter = Rewriter(Rewrite.model_validate(job.config.get("rewrite", {})).on)
        self.evaluations = evaluations_of(job.against, Path(job.base))

    def close(self) -> None:
        self.rewriter.close()

    def write(self, shard: Shard) -> None:
        sketches, more = getattr(self, shard.kind)(shard.ids)
        write_file(Path(shard.to), sketches, more)

    def attempts(self, ids: Sequence[int]) -> tuple[Sketches, dict[str, Any]]:
        found = np.zeros(len(ids), ATTEMPT)
        faults: dict[str, tuple[str, str]] = {}
        rewritten: dict[str, bool] = {}
        n = 0
        for attempt_id, sample, body, reply in self.store.selection_texts(ids):
            question = Question.model_validate_json(body)
            candidate = candidate_of(attempt_id, sample, question, reply, self.prompt, imported=self.imported)
            candidate, stands = self.rewriter(candidate)
            if stands is not None:
                rewritten[str(attempt_id)] = stands
            chain, answer = candidate.reasoning or "", candidate.answer
            sketch = found[n]
            n += 1
            sketch["id"], sketch["chars"] = candidate.attempt_id, len(chain) + len(answer)
            sketch["text"] = _digest(chain, answer)
            sketch["signature"] = of_text(chain, answer)
            if (fault := first_fault(candidate, self.filters)) is not None:
                faults[str(candidate.attempt_id)] = (fault.filter, fault.detail)
        return found[:n], {"faults": faults, "rewritten": rewritten}

    def questions(self, ids: Sequence[int]) -> tuple[Sketches, dict[str, Any]]:
        found = np.zeros(len(ids), QUESTION)
        more: dict[str, Any] = {"domain": {}, "difficulty": {}, "asked": {}}
        n = 0
        for row, body in self.store.question_bodies(ids):
            question = Question.model_validate_json(body)
            text = prompts.text_of(question)
            asked = Asked(text, question.answer)
            sketch = found[n]
            n += 1
            sketch["id"], sketch["text"] = row, _digest(text)[0]
            sketch["gold"] = _hash(asked.gold) if asked.gold is not None else 0
            frames = [_hash(sorted(numbers.items())) for _, _, numbers in asked.without_frames][:FRAMES]
            sketch["numbers"][: len(frames)] = frames
            sketch["many"] = asked.numbers.total() >= MANY_NUMBERS
            said = word_hashes(w for s in asked.sentences for w in s if w[0].isalpha())
            sketch["signature"] = signature(np.concatenate((in_a_row(said, 1), in_a_row(said, 2))))
            for name in ("domain", "difficulty"):
                if (value := getattr(question, name)) is not None:
                    more[name].setdefault(value, []).append(row)
            for evaluation in self.evaluations:
                if (key := evaluation.asked_in(text, question.answer)) is not None:
                    more["asked"][str(row)] = (evaluation.name, key)
                    break
        return found[:n], more


def _digest(*texts: str) -> NDArray[np.uint64]:
    """[2]: of texts, whatever their case and spaces."""
    said = "\0".join(" ".join(t.casefold().split()) for t in texts)
    return np.frombuffer(blake2b(said.encode("utf-8", "surrogatepass"), digest_size=16).digest(), "<u8")


def _hash(value: Any) -> int:
    said = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(said, digest_size=8).digest(), "little") or 1


def question_of_body(body: str) -> Asked:
    """As it is compared with another."""
    question = Question.model_validate_json(body)
    return Asked(prompts.text_of(question), question.answer)


# ---- files


def write_file(path: Path, sketches: Sketches, more: dict[str, Any]) -> None:
    """One line of JSON with a checksum of what follows, then the sketches; as a whole or not at all."""
    body = sketches.tobytes()
    line = json.dumps(more, ensure_ascii=True, separators=(",", ":"))
    head = {"n": len(sketches), "check": blake2b(line.encode() + body, digest_size=16).hexdigest()}
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with part.open("wb") as f:
        f.write(json.dumps(head).encode() + b"\n" + line.encode() + b"\n" + body)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def read_file(path: Path, kind: str) -> tuple[Sketches, dict[str, Any]] | None:
    """None where the file is not whole."""
    try:
        head, line, body = path.read_bytes().split(b"\n", 2)
        said = json.loads(head)
        if said["check"] != blake2b(line + body, digest_size=16).hexdigest():
            return None
        return np.frombuffer(body, KINDS[kind]), json.loads(line)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def lines_of(job: Job, shards: Sequence[Shard]) -> Iterator[str]:
    yield json.dumps(asdict(job))
    for shard in shards:
        yield json.dumps(asdict(shard))


def main() -> None:
    """Ends with its input: whoever started it has ended, or wants no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = Job(**json.loads(sys.stdin.readline()))
    with Store.open(job.url, write=False) as store:
        sketcher = Sketcher(store, job)
        for line in sys.stdin:
            shard = Shard(**json.loads(line))
            sketcher.write(shard)
            sys.stdout.write(json.dumps({"to": shard.to}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
