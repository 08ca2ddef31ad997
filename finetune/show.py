"""One training row as the model sees it: what is trained in colour, the rest grey, and the counts."""

from typing import Any

from rich.text import Text

from finetune.config import Recipe
from finetune.dataset import one_example
from finetune.render import Example, Tokenizer
from finetune.student import find, load_tokenizer


def show(recipe: Recipe, row: int) -> tuple[dict[str, Any], Text]:
    """(what --json prints, the same to look at). Loads the tokenizer alone. Raises DatasetError, TooLong."""
    tokenizer = load_tokenizer(find(recipe.student))
    example = one_example(recipe, tokenizer, row)
    return figures(example, tokenizer, row), coloured(example, tokenizer)


def figures(example: Example, tokenizer: Tokenizer, row: int) -> dict[str, Any]:
    trained = [i for i, m in zip(example.ids, example.mask, strict=True) if m]
    return {
        "row": row,
        "tokens": len(example),
        "trained_tokens": len(trained),
        "text": _decode(tokenizer, list(example.ids)),
        "trained_text": _decode(tokenizer, trained),
    }


def coloured(example: Example, tokenizer: Tokenizer) -> Text:
    """Runs of tokens by the mask: trained green, the end of each run underlined where it is the end token."""
    text, at = Text(), 0
    while at < len(example):
        to = at
        while to < len(example) and example.mask[to] == example.mask[at]:
            to += 1
        trained = bool(example.mask[at])
        body, last = (to - 1, to) if trained else (to, to)
        text.append(_safe(_decode(tokenizer, list(example.ids[at:body]))), "green" if trained else "bright_black")
        text.append(_safe(_decode(tokenizer, list(example.ids[body:last]))), "bold green reverse")
        at = to
    return text


def _decode(tokenizer: Tokenizer, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _safe(text: str) -> str:
    """Without control characters: what a model wrote must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
