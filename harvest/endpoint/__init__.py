"""Asks an endpoint for one answer, and says what came back.

It takes an endpoint's address, its key, and the messages of one question under a prompt. It returns a Reply, or raises
a named failure with what may have been billed. Before that, it says what the answer may cost.

Code that asks an endpoint imports client.py beside this file, which is not imported here because it loads aiohttp.
"""

from harvest.endpoint.announced_limits import Announced, announced
from harvest.endpoint.failures import BROKE_OFF, named_setting
from harvest.endpoint.price import Tariff, dearest, half_hour, tariff_of, within_price
from harvest.endpoint.price_list import GENAI_PRICES, installed_list, nearest_names
from harvest.endpoint.prompt import Prompt, text_of
from harvest.endpoint.reply import REPETITION, cut_short, read_document, truncated

__all__ = [
    "BROKE_OFF",
    "GENAI_PRICES",
    "REPETITION",
    "Announced",
    "Prompt",
    "Tariff",
    "announced",
    "cut_short",
    "dearest",
    "half_hour",
    "installed_list",
    "named_setting",
    "nearest_names",
    "read_document",
    "tariff_of",
    "text_of",
    "truncated",
    "within_price",
]
