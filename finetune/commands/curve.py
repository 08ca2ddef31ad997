"""`finetune curve OUTPUT` prints the loss curve of a training, during the training and afterwards.

`finetune curve RUN --buy` trains a student shortly on parts of a run, and says where the next dollars go.
"""

import argparse
import json
from pathlib import Path

from finetune.commands.arguments import Overrides
from finetune.train.output_folder.loss_curve import curve_of, in_words


def run(args: argparse.Namespace, overrides: Overrides) -> int:
    if args.buy:
        from finetune.commands.curve_buy import buy

        return buy(args, overrides)
    if overrides:
        args.command_parser.error(f"unknown argument --{overrides[0][0]}")
    points = curve_of(Path(args.output))
    print(json.dumps({"output": args.output, "points": points}) if args.json else in_words(points))
    return 0
