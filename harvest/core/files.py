"""Writing files whole: a reader sees the old file or the new one, and a crash leaves one of them."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes the file in one step, readable by its owner alone. Raises OSError."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)
