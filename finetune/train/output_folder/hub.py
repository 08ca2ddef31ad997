"""Pushes a finished student to the hub, with its model card.

The token comes from the environment (HF_TOKEN) or from `hf auth login`. winnow reads it for this alone and writes it
nowhere.
"""

import os
from pathlib import Path
from typing import Any

from finetune.recipe import Recipe
from harvest.core.errors import ConfigError, InputError
from harvest.core.printable import first_line

LEFT_OUT = ("checkpoint-*", "checkpoint-*/*", "best-*/*", "winnow.json", ".*", ".*/*", "runs/*", "*.tmp")
"""Files of the folder that are not pushed. winnow.json names the store of the run, which may have a password."""


def check_push(recipe: Recipe) -> None:
    """Raises ConfigError when the student is to be pushed and there is no token, before anything is trained."""
    further = recipe.train.further
    if not further.get("push_to_hub"):
        given = [k for k in ("hub_model_id", "hub_private_repo", "hub_revision") if k in further]
        if given:
            raise ConfigError(f"train.{given[0]}: nothing is pushed without train.push_to_hub = true")
        return
    from huggingface_hub import get_token

    if get_token() is None:
        raise ConfigError("train.push_to_hub: no token of the hub: run `hf auth login` or set HF_TOKEN")


def push(recipe: Recipe) -> str | None:
    """Pushes the finished student in the recipe's output. Returns the commit's address; None when none is to be pushed.

    The repository is made if it is not there. Files that the hub has already are not sent again. Raises InputError when
    the hub refuses or cannot be reached; the student is safe then, and the next start pushes again.
    """
    further, output = recipe.train.further, Path(recipe.output)
    if not further.get("push_to_hub"):
        return None
    from huggingface_hub import HfApi, errors

    of_hub = (errors.HTTPError, errors.HFValidationError, errors.LocalTokenNotFoundError)  # type: ignore[attr-defined]
    refused = (*of_hub, OSError, ValueError, RuntimeError)  # RuntimeError: the upload of a large file failed
    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    named, revision = str(further.get("hub_model_id") or output.absolute().name), further.get("hub_revision")
    try:
        repo = hub.create_repo(named, private=further.get("hub_private_repo"), exist_ok=True).repo_id
        if revision is not None:
            hub.create_branch(repo, branch=revision, exist_ok=True)
        done: Any = hub.upload_folder(
            repo_id=repo,
            folder_path=output,
            revision=revision,
            ignore_patterns=list(LEFT_OUT),
            commit_message="Trained by winnow",
        )
    except refused as e:
        raise InputError(
            f"{named}: not pushed to the hub: {first_line(e)}; the training is finished and safe in {output}; the same "
            "command pushes it again and trains nothing"
        ) from None
    return str(done.commit_url)
