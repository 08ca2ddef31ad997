"""Computes what a student's own probabilities say of the answers of a run, in one forward pass over each.

An answer is read as the row that it would be trained as, and only trained tokens count. With p for the probability that
the student gives to a token of the row, after all tokens before it:

- surprisal: the mean of −ln p, in nats a token;
- rank: the mean of min(r, 100), where r is 1 plus the number of tokens that the student holds for likelier;
- RSR, the Rank-Surprisal Ratio: the sum of the min(r, 100) over the sum of the −ln p (arXiv 2601.14249). The lower, the
  better: such an answer surprises the student with tokens that it nearly would have written.

The store keeps the sums. What was scored once is not scored again, and a killed scoring goes on.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from finetune.progress import Progress
from finetune.recipe import Recipe
from finetune.rows.faults import RowFault
from finetune.rows.render import Example
from finetune.rows.survey import examples_of
from finetune.rows.template import Tokenizer, layout_of, recipe_tokenizer
from finetune.run import Run
from finetune.student import Student, find, identity
from finetune.train.loss import loaded_to_score, logits_by_chunks
from harvest.core.errors import TooLong

VERSION = 1
"""What another version of this file scored is scored again."""
MOST_RANK = 100
"""A token of a higher rank counts as this one. Source: arXiv 2601.14249."""
ANSWERS_A_PART = 64
"""A killed scoring loses at most the work on so many answers."""
TOKENS_AT_ONCE = {"cpu": 4096, "cuda": 32768}
"""So many tokens are read at once, the filling of shorter rows included; a longer row is read alone."""

Score = tuple[int, float | None, int | None]
"""(trained tokens, sum of their surprisals in nats, sum of their ranks); (0, None, None): it cannot be trained on."""


def score(run: Run, recipe: Recipe, which: str, progress: Progress) -> tuple[int, int]:
    """Scores the answers of a run that have no score by the recipe's student yet. `which` is "accepted" or "all".

    Returns (the id of the scoring in the store, how many answers were scored now). Raises ConfigError when the student
    cannot be loaded, or when it changes the logits that its head gives (for example by `final_logit_softcapping`).
    """
    student = find(recipe.student)
    tokenizer = recipe_tokenizer(recipe)
    scoring_id = run.begin_scoring(recipe.student, identity(student), _rendering(recipe, tokenizer))
    missing = run.unscored(scoring_id, which)
    model = None
    progress.begin(len(missing))
    try:
        for begin in range(0, len(missing), ANSWERS_A_PART):
            part = missing[begin : begin + ANSWERS_A_PART]
            model = model or _loaded(student)
            run.put_scores(scoring_id, list(_score_rows(model, run.training_rows(part), recipe, tokenizer)))
            progress.note(begin + len(part), "scored")
    finally:
        progress.close()
    return scoring_id, len(missing)


def _rendering(recipe: Recipe, tokenizer: Tokenizer) -> str:
    """Returns everything but weights and answers that decides a score, as one text."""
    template = hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()
    parts = {"version": VERSION, "template": template, "render": recipe.render.model_dump(mode="json")}
    return json.dumps(parts, sort_keys=True)


def _loaded(student: Student) -> Any:
    return loaded_to_score(student, f"student {student.name!r}")


def surprisal_of(student: str, rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> float | None:
    """Returns the mean negative log-probability, in nats, of the trained tokens of these rows; None without tokens."""
    tokenizer = recipe_tokenizer(recipe)
    found = list(_score_rows(_loaded(find(student)), enumerate(rows), recipe, tokenizer))
    tokens = sum(tokens for _, tokens, _, _ in found)
    return sum(nats or 0.0 for _, _, nats, _ in found) / tokens if tokens else None


def _score_rows(
    model: Any, named: Iterable[tuple[int, Mapping[str, Any]]], recipe: Recipe, tokenizer: Tokenizer
) -> Iterator[tuple[int, int, float | None, int | None]]:
    """Gives (number, tokens, sum of surprisals, sum of ranks) of each row. `named` has (a number, the row)."""
    layout = layout_of(recipe.render, tokenizer)
    rows: list[tuple[int, Example]] = []
    for number, row in named:
        try:
            made = examples_of(row, f"answer {number}", recipe.render, tokenizer, layout)[-1].example
        except RowFault:
            made = TooLong("")
        if isinstance(made, TooLong):
            yield number, 0, None, None
        else:
            rows.append((number, made))
    rows.sort(key=lambda row: -len(row[1]))
    while rows:
        at_once = max(1, TOKENS_AT_ONCE[model.device.type] // len(rows[0][1]))
        batch, rows = rows[:at_once], rows[at_once:]
        for (number, _), found in zip(batch, scores([e for _, e in batch], model), strict=True):
            yield number, *found


@torch.no_grad()
def scores(rows: Sequence[Example], model: Any) -> list[Score]:
    """Returns the score of each of these rows, which the model reads at once.

    Shorter rows are filled up at their end, which no token before the filling sees. The logits [tokens, V] are computed
    in chunks of CHUNK_BYTES, over the trained tokens alone.
    """
    longest = max(map(len, rows))
    ids, trained = torch.zeros(len(rows), longest, dtype=torch.int64), torch.zeros(len(rows), longest, dtype=torch.bool)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = torch.tensor(row.ids)
        trained[n, : len(row)] = torch.tensor(row.mask, dtype=torch.bool)
    ids, trained = ids.to(model.device), trained[:, 1:].to(model.device)
    states = model.base_model(ids, use_cache=False).last_hidden_state[:, :-1][trained]
    wanted, line = ids[:, 1:][trained], trained.nonzero()[:, 0]
    sums, at = torch.zeros(3, len(rows), dtype=torch.float64, device=model.device), 0
    for logits in logits_by_chunks(model, states):
        here = slice(at, at := at + len(logits))
        of_token = logits.gather(-1, wanted[here, None])
        surprisal = logits.logsumexp(-1) - of_token[:, 0]
        rank = ((logits > of_token).sum(-1) + 1).clamp(max=MOST_RANK)
        for n, values in enumerate((torch.ones_like(surprisal), surprisal, rank)):
            sums[n].index_add_(0, line[here], values.double())
    return [(int(n), nats, int(ranks)) if n else (0, None, None) for n, nats, ranks in sums.T.tolist()]
