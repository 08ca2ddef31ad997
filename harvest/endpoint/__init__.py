"""Asks an endpoint for one answer, and says what came back.

In come an endpoint's address, its key, and the messages of one question under a prompt. Out goes a Reply, or a named
failure with what may have been billed; before that, what the answer may cost.
"""

import importlib
import threading


def warm_up() -> None:
    """Imports the openai client in a thread, which takes half a second: to be called before the questions are read."""
    threading.Thread(target=importlib.import_module, args=("harvest.endpoint.openai_client",), daemon=True).start()
