"""Says of each answer whether it is accepted, or why not: as it comes, as it is imported, and as it is judged again.

In come an answer and what the checks, the judging model and the required filters say of it. Out goes a judgement: the
verdicts, and the first reason for which the answer is rejected.
"""
