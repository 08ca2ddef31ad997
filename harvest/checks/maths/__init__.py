"""The check "math" reads what a text of mathematics states, and decides whether that is the gold answer.

It takes the question, the gold answer and the text of an answer, and says whether both answers mean the same. It
decides at once if nothing has to be evaluated for that, else by algebra in a worker process.
"""
