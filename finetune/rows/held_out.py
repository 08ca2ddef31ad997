"""Says which rows are kept out of training, so that the loss of questions that were never trained can be measured."""

import hashlib

from finetune.recipe import Train
from finetune.rows.examples import Examples
from harvest.core.errors import DatasetError


def split(examples: Examples, train: Train) -> tuple[Examples, Examples]:
    """Returns (the examples that are trained, the examples that are held out).

    All rows of one question are on the same side: those with its id, and those that ask the same in the same words. The
    sides depend on the rows, `train.seed` and `train.held_out` alone, so they are the same in every process and at
    every start.

    Raises DatasetError when every question is held out.
    """
    if not train.held_out or not examples:
        return examples, examples.subset(())
    keys = [(q, "\0".join(texts)) for q, (_, _, texts) in zip(examples.question_ids, examples.asked(), strict=True)]
    is_out = [is_held_out(q, train.held_out, train.seed) for q, _ in keys]
    before = None
    while is_out != before:  # a row without an id may ask what a row with one does
        before = is_out
        out = {key for pair, is_one in zip(keys, is_out, strict=True) if is_one for key in pair}
        is_out = [q in out or text in out for q, text in keys]
    trained = [i for i, out in enumerate(is_out) if not out]
    if not trained:
        raise DatasetError(f"train.held_out: {train.held_out:g} holds out every question: nothing is left to train")
    return examples.subset(trained), examples.subset([i for i, out in enumerate(is_out) if out])


def is_held_out(question_id: str, share: float, seed: int) -> bool:
    """Whether a question is among the share of all questions that `seed` holds out."""
    digest = hashlib.blake2b(f"{seed}/{question_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def counts(held_out: Examples) -> dict[str, int] | None:
    """Returns how many questions, rows and tokens are held out; None when none are."""
    if not held_out:
        return None
    found = held_out.summary()
    questions = len(set(held_out.question_ids))
    return {"questions": questions, **{k: found[k] for k in ("rows", "tokens", "trained_tokens")}}


def held_out_digest(held_out: Examples) -> str | None:
    """Returns the checksum of the rows that are held out; None when none are."""
    return held_out.digest if held_out else None
