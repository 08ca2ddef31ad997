"""Merges an adapter into its model, so that any engine can serve the folder, and gives the commands that serve it."""

import json
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.note import NOTE, note_of
from finetune.proof.student import write_made
from finetune.rows.layout import LAYOUTS, Layout, learnt_layout
from finetune.rows.template import end_token
from finetune.student import Student, adapter_base, find, identity, load_model, load_tokenizer, sizes
from harvest.core.errors import InputError
from harvest.core.files import write_whole


def merge(output: Path, to: Path) -> Path:
    """Returns the folder to serve: `to` with the merged weights, or `output` if all weights were trained.

    Nothing is done when `to` has this merge already. Raises InputError when `output` has nothing to merge or serve,
    `to` holds something else, or the disk is too small. Raises ConfigError when the student or its base cannot be
    loaded.
    """
    if not output.is_dir():
        raise InputError(f"{output}: no such folder: name that of a trained student")
    student = find(str(output))
    base = adapter_base(output)
    if base is None:
        if not any(p for f in ("*.safetensors", "*.bin") for p in output.glob(f)):
            raise InputError(f"{output}: neither an adapter to merge nor weights to serve (*.safetensors)")
        return output
    what = identity(student)
    note = note_of(to)
    if note.get("merged") == what:
        return to
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to}: holds something else: name another folder with --to")
    _merge(output, find(base), to, what)
    return to


def _merge(output: Path, base: Student, to: Path, what: str) -> None:
    """Makes the merged folder beside `to`, then renames it to `to`: the folder is complete or not there."""
    import torch
    from peft import PeftModel

    made = to.with_name(f".{to.name}.part")
    shutil.rmtree(made, ignore_errors=True)
    wanted = precision(sizes(base))
    model: Any = PeftModel.from_pretrained(load_model(base, torch.float32), str(output))
    model = model.merge_and_unload(safe_merge=True).to(getattr(torch, wanted))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    free = shutil.disk_usage(next(p for p in to.absolute().parents if p.is_dir())).free
    if free < 1.05 * weights:
        raise InputError(
            f"{to}: {free / 1e9:.1f} GB free, {weights / 1e9:.1f} GB needed: free some, or name another --to"
        )
    tokenizer = load_tokenizer(find(str(output)))
    model.generation_config.eos_token_id = end_token(tokenizer)
    model.config.use_cache = True
    try:
        made.mkdir(parents=True)
        model.save_pretrained(str(made))
        tokenizer.save_pretrained(str(made))
        for file in made.iterdir():
            file.chmod(0o644)
        write_made(made, "merge", output)
        write_whole(made / NOTE, json.dumps({**note_of(output), "merged": what}, indent=1, ensure_ascii=False) + "\n")
        if to.is_dir():
            to.rmdir()
        made.rename(to)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def precision(config: Mapping[str, Any]) -> str:
    """Returns the precision that a model's weights were saved in, in which merged weights are saved too.

    It is "float32" when the model's configuration does not say, or names a precision that winnow does not know.
    """
    named = config.get("dtype") or config.get("torch_dtype") or "float32"
    name = str(named).removeprefix("torch.")
    return name if name in ("float32", "bfloat16", "float16") else "float32"


def serving(folder: Path) -> dict[str, str]:
    """Maps each engine to the command that serves the folder.

    If the student writes <think>, the commands of vLLM and SGLang name the parser that separates the chain.
    """
    config = sizes(find(str(folder)))
    text = config.get("text_config") or config
    place, length = shlex.quote(str(folder)), int(text.get("max_position_embeddings") or 32_768)
    has_think = _marks(learnt_layout(folder)) == _marks(LAYOUTS["think"])
    vllm, sglang = (f" --reasoning-parser {name}" if has_think else "" for name in ("deepseek_r1", "deepseek-r1"))
    return {
        "vllm": f"vllm serve {place} --max-model-len {length}{vllm}",
        "sglang": f"python -m sglang.launch_server --model-path {place} --context-length {length}{sglang}",
        "transformers": f"transformers serve {place}",
    }


def _marks(layout: Layout | None) -> tuple[str, str] | None:
    return (layout.open.strip(), layout.close.strip()) if layout else None


def in_words(place: Path, lines: Mapping[str, str], *, is_merged: bool = True) -> str:
    head = f"{place}" if is_merged else f"{place}: whole weights, no adapter: nothing to merge"
    return "\n".join([head, "", *(f"{engine:<13}{line}" for engine, line in lines.items())])
