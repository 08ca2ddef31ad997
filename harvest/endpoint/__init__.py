"""Asks an endpoint for one answer, and says what came back.

In come an endpoint's address, its key, and the messages of one question under a prompt. Out goes a Reply, or a named
failure with what may have been billed; before that, what the answer may cost.

Who asks imports client.py beside this file: aiohttp comes with it.
"""

import importlib
import threading

from harvest.endpoint.announced_limits import Announced, announced
from harvest.endpoint.failures import BROKE_OFF
from harvest.endpoint.price import Tariff, dearest, tariff_of
from harvest.endpoint.prompt import Prompt, text_of
from harvest.endpoint.reply import REPETITION, cut_short, read_document, truncated

__all__ = [
    "BROKE_OFF",
    "REPETITION",
    "Announced",
    "Prompt",
    "Tariff",
    "announced",
    "cut_short",
    "dearest",
    "read_document",
    "tariff_of",
    "text_of",
    "truncated",
    "warm_up",
]


def warm_up() -> None:
    """Imports the openai client in a thread. It takes half a second, while the main thread reads the questions."""
    threading.Thread(target=importlib.import_module, args=("harvest.endpoint.openai_client",), daemon=True).start()
