"""The check "math": what a text of mathematics states, and whether that is the gold answer.

The question, its gold answer and an answer's text come in. Out comes whether they mean the same: at once where that can
be seen without evaluating anything, else by algebra in a worker process.
"""
