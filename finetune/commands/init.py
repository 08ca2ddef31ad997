"""`finetune init MODEL --layers N --to DIR` cuts a smaller student out of an open model's layers."""

import argparse
import json
import sys
from pathlib import Path

import torch

from finetune.commands.arguments import Overrides
from finetune.note import ancestors
from finetune.recipe import Recipe
from finetune.rows.cache import examples
from finetune.rows.template import Tokenizer
from finetune.student import adapter_base, count_parameters, find, identity, load_model, load_tokenizer, sizes
from finetune.train.merge import precision
from finetune.train.pruning.card import WARNING, in_words
from finetune.train.pruning.cut import cut, save_cut
from finetune.train.pruning.importance import block_influence, evenly, most_important
from finetune.train.sft import quiet
from harvest.core.errors import ConfigError, InputError


def run(args: argparse.Namespace, _: Overrides) -> int:
    to, student = Path(args.to), find(args.model)
    if args.keep == "importance" and args.rows is None:
        raise InputError("--keep importance measures layers on rows: --rows names them, for example the run's")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to}: holds something already: name another folder with --to")
    if not student.is_hub and adapter_base(Path(student.place)) is not None:
        raise ConfigError(f"{args.model}: an adapter: python -m finetune merge {args.model} makes a model of it")
    quiet()
    config = sizes(student)
    model = load_model(student, getattr(torch, precision(config)))
    layers = len(model.get_decoder().layers)
    if args.layers >= layers:
        raise InputError(f"--layers {args.layers}: {args.model} has {layers}: name a smaller number")
    tokenizer, influence = load_tokenizer(student), None
    if args.keep == "importance":
        influence = block_influence(model, _rows(args.model, args.rows, args.most_rows, args.max_tokens, tokenizer))
    kept = evenly(layers, args.layers) if influence is None else most_important(influence, args.layers)
    cut_from = {
        "model": args.model,
        "weights": identity(student),
        "came_from": ancestors(Path(args.model)),
        "layers": layers,
        "kept": kept,
        "keep": args.keep,
    }
    made = cut(model, kept)
    save_cut(made, tokenizer, cut_from, to)
    found = {
        "to": str(to),
        **cut_from,
        "influence": None if influence is None else [round(x, 6) for x in influence],
        "parameters": {"whole": count_parameters(student), "cut": count_parameters(find(str(to)))},
    }
    print(f"warning: {WARNING}", file=sys.stderr)
    whole, left = found["parameters"]["whole"], found["parameters"]["cut"]
    words = f"{to}: {left:,} of {whole:,} weights ({left / whole:.0%}). {in_words(cut_from)}."
    print(json.dumps(found) if args.json else words)
    return 0


def _rows(model: str, data: str, rows: int, max_tokens: int, tokenizer: Tokenizer) -> list[list[int]]:
    """Returns the token ids of the first rows of a dataset, as the model would be trained on them."""
    given = {"student": model, "data": data, "output": "unused", "render": {"max_tokens": max_tokens}}
    made = examples(Recipe.model_validate(given | {"skip_bad_rows": True}), tokenizer)
    return [list(example.ids) for example in made[:rows]]
