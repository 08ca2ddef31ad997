"""Runs the embedded teacher: an open model on this machine, which needs no key and costs nothing.

In comes the name of a model in the table (models.py). Out goes the address of a server that answers like any other
endpoint, with its weights downloaded and known by their checksum.

Who starts a server imports server.py, and who needs only the file weights.py: httpx and rich come with them.
"""

from harvest.local.models import MODELS, Model, find

__all__ = ["MODELS", "Model", "find"]
