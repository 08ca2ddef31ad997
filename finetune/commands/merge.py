"""`finetune merge OUTPUT` merges a trained adapter into its model, and prints the commands that serve the result."""

import argparse
import json
from pathlib import Path

from finetune.commands.arguments import Overrides
from finetune.train.merge import in_words, merge, serving
from finetune.train.output_folder.card import write_model_card
from finetune.train.sft import quiet


def run(args: argparse.Namespace, _: Overrides) -> int:
    quiet()
    output = Path(args.output)
    to = Path(args.to) if args.to else output.with_name(f"{output.name}-merged")
    place = merge(output, to)
    write_model_card(place)
    lines = serving(place)
    found = {"folder": str(place), "merged": place != output, "serve": lines}
    print(json.dumps(found) if args.json else in_words(place, lines, is_merged=place != output))
    return 0
