"""Reads questions, and answers that were paid for elsewhere.

It takes a file, a dataset's folder, a reasoning-gym task, or a log of another program. It returns questions, each with
the check that applies to it, or replies to be judged. Each row that cannot be read is named with file, line and field.
"""

from harvest.questions.rows import MAJORITY, BadRow, RowRules, has_gold, judged_together, question_of

__all__ = ["MAJORITY", "BadRow", "RowRules", "has_gold", "judged_together", "question_of"]
