"""Where questions come from, and answers that were bought elsewhere.

A file, a dataset's folder, a reasoning-gym task or a log of another program comes in. Out come questions, each with the
check that applies to it, or replies to be judged; and each row that cannot be read, with file, line and field.
"""

from harvest.questions.rows import MAJORITY, BadRow, RowRules, has_gold, judged_together, question_of

__all__ = ["MAJORITY", "BadRow", "RowRules", "has_gold", "judged_together", "question_of"]
