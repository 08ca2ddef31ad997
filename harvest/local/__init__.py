"""Runs the embedded teacher: an open model on this machine, which needs no key and costs nothing.

A caller gives the name of a model in the table (models.py). The caller gets the address of a server that answers like
any other endpoint. Before that, the weights are downloaded and their checksum is verified.

Import server.py to start a server, and weights.py to get only the file of weights. Both import httpx and rich.
"""

from harvest.local.models import MODELS, Model, find

__all__ = ["MODELS", "Model", "find"]
