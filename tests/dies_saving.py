"""`python dies_saving.py FILE STEP sft …`: finetune, killed with half of FILE of checkpoint-STEP on the disk.

What writes the file is other people's (torch, safetensors, transformers): it is let finish, then half is taken away.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

NAME, STEP = sys.argv[1], sys.argv[2]


def torn(write: Callable[..., Any], at: int) -> Callable[..., Any]:
    """`write`, whose argument number `at` is the path that it writes to."""

    @functools.wraps(write)
    def then_dies(*args: Any, **kwargs: Any) -> Any:
        done = write(*args, **kwargs)
        path = Path(str(args[at] if len(args) > at else kwargs.get("filename", "")))
        if path.name == NAME and path.parent.name == f"checkpoint-{STEP}":
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return then_dies


torch.save = torn(torch.save, 1)
safetensors.torch.save_file = torn(safetensors.torch.save_file, 1)

import transformers  # noqa: E402  after what it takes from the others

transformers.TrainerState.save_to_json = torn(transformers.TrainerState.save_to_json, 1)

from finetune.__main__ import main  # noqa: E402

sys.exit(main(sys.argv[3:]))
