"""Runs the embedded teacher: an open model on this machine, which needs no key and costs nothing.

In comes the name of a model in the table (models.py). Out goes the address of a server that answers like any other
endpoint, with its weights downloaded and their checksum verified.

To start a server, import server.py; for the file alone, weights.py. Both import httpx and rich.
"""

from harvest.local.models import MODELS, Model, find

__all__ = ["MODELS", "Model", "find"]
