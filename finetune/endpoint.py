"""An endpoint evaluated like a student: asked through harvest's teacher and budget, as a run of its own.

So an answer that is paid for is kept, asked once, judged by the same checks, and bounded by the same kind of cap.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from finetune.evaluate import Asked, Generated, Sampling
from harvest import session
from harvest.checks import Judge, gold_problems
from harvest.config import Budget, PriceSetting, RunConfig, Teacher, runs_folder
from harvest.config import Sampling as Asking
from harvest.prompt import Prompt
from harvest.reply import cut_short
from harvest.run import Run, prepare, take_key, write_whole
from harvest.store import Store
from harvest.trace import content_hash


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask and what it may cost."""

    base_url: str
    model_name: str
    api_key_env: str | None
    cap_usd: Decimal | None
    price: tuple[Decimal, Decimal] | None
    """USD a million tokens, in and out; None: as genai-prices knows it, else unpriced."""
    store: str
    prompt: Prompt
    max_concurrency: int = 64

    @property
    def model(self) -> str:
        return self.model_name

    @property
    def about(self) -> Mapping[str, Any]:
        return {"endpoint": self.base_url.rstrip("/"), "model": self.model_name}

    def answers(self, asked: Sequence[Asked], sampling: Sampling) -> Iterator[list[tuple[Asked, Generated]]]:
        """All of them as one batch: each is on the disk as it comes, so a start that is cut short goes on.

        Raises what ended the asking: a cap reached, a refusal, Ctrl-C.
        """
        config = self._config(asked, sampling)
        key = take_key(config)
        with Store.open(config.store) as store, Judge() as judge:
            run = prepare(config, Path(), store, lambda page: gold_problems(page, judge))
            ending = session.start(replace(run, prompt=_without_examples(self.prompt)), store, judge, key)
            if ending.reason is not None:
                raise ending.reason
            if ending.exit_code == session.INTERRUPTED:
                raise KeyboardInterrupt
            found = list(_generated(store, run, asked))
        yield found  # after the store is let go, since whoever takes them may write to it

    def _config(self, asked: Sequence[Asked], sampling: Sampling) -> RunConfig:
        price = self.price and PriceSetting(input=self.price[0], output=self.price[1])
        teacher = Teacher(
            base_url=self.base_url,
            model=self.model_name,
            api_key_env=self.api_key_env,
            price_usd_per_mtok=price,
            max_concurrency=self.max_concurrency,
        )
        asking = Asking(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            seed=sampling.seed,
            samples=sampling.samples,
            stop_after_accepted=sampling.samples,
        )
        rows = list({a.question.id: a.question.model_dump_json(exclude_none=True) for a in asked}.values())
        content = {**self.about, "questions": rows, "prompt": self.prompt.sha256, "asking": asking.model_dump()}
        name = "eval-" + content_hash(content).removeprefix("sha256:")[:12]
        folder = runs_folder() / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(folder / "questions.jsonl", "".join(row + "\n" for row in rows))
        words = folder / f"{self.prompt.name}.md"  # a run's own prompt is no file any more
        write_whole(words, self.prompt.text)
        return RunConfig(
            name=name,
            questions=str(folder / "questions.jsonl"),
            prompt=str(words.absolute()),
            store=self.store,
            teacher=teacher,
            sampling=asking,
            budget=Budget(usd=self.cap_usd),
        )


def _without_examples(prompt: Prompt) -> Prompt:
    """Asked as a student is asked."""
    return replace(prompt, parts=(*(p for p in prompt.parts if p[0] == "system"), prompt.parts[-1]))


def _generated(store: Store, run: Run, asked: Sequence[Asked]) -> Iterator[tuple[Asked, Generated]]:
    """What came, for those that got an answer: of the others nothing is known, least of all that it was wrong."""
    found = {(r["question_name"], r["sample"]): r for r in store.answered_attempts(run.id, "all")}
    for a in asked:
        row = found.get((a.question.id, a.sample))
        if row is not None:
            cost = 0 if row["reused"] else row["cost"]
            yield a, Generated(row["reply"].answer, cut_short(row["reply"]) is None, row["output_tokens"], cost)
