"""Serves a student of this machine with vLLM for the time of one evaluation.

What comes in are a student and how its answers are drawn. What goes out are its answers, asked through harvest. The
server is a process of its own, which ends with the evaluation, however that ends.
"""
