"""Checks: what an answer must pass to become a trace. One file each, one table, each with a version."""

from harvest.answers.boxes import split_at_final_box
from harvest.answers.stated import final_answer
from harvest.checks.check import Check
from harvest.checks.pool import CheckPool, gold_problems
from harvest.checks.table import CHECKS, ROW_RULES, check_name_for

__all__ = [
    "CHECKS",
    "ROW_RULES",
    "Check",
    "CheckPool",
    "check_name_for",
    "final_answer",
    "gold_problems",
    "split_at_final_box",
]
