"""Checks: decides whether an answer is right, so that it can become a trace.

Each check has its own file. One table names all checks, and one pool runs them. A check takes a question and the text
of an answer. It gives a verdict: right, wrong, no answer found, not judged in time, or an error of the check. The
verdict holds the name and the version of the check, and the reason in words.
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
