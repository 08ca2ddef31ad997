"""`finetune curve OUTPUT` prints the loss curve of a training, during the training and afterwards."""

import argparse
import json
from pathlib import Path

from finetune.commands.arguments import Overrides
from finetune.train.output_folder.loss_curve import curve_of, in_words


def run(args: argparse.Namespace, _: Overrides) -> int:
    points = curve_of(Path(args.output))
    print(json.dumps({"output": args.output, "points": points}) if args.json else in_words(points))
    return 0
