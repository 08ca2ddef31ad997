"""Checks: what an answer must pass to become a trace. One check a file, one table of them, one pool that they run in.

A question and the text of an answer come in. Out comes a verdict: right, wrong, no answer found, not judged in time, or
an error of the check, with the check's name and version and the reason in words.
"""

from harvest.checks.check import Check
from harvest.checks.pool import CheckPool, gold_problems
from harvest.checks.table import CHECKS, ROW_RULES, check_name_for

__all__ = [
    "CHECKS",
    "ROW_RULES",
    "Check",
    "CheckPool",
    "check_name_for",
    "gold_problems",
]
