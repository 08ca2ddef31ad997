"""Says of each answer whether it is accepted, or why not: when it comes, when it is imported, and when it is judged
again.

It takes an answer and what the checks, the judging model and the required filters say of it. It returns a judgement:
the verdicts, and the first reason for which the answer is rejected.
"""
