"""Teaches a student the probabilities of its teachers beside their text.

It takes rendered rows and what teachers gave to their tokens: log-probabilities that a run's store holds, or those of
models that score the rows here. Each trained token gets the most likely tokens at its place, where teacher and student
read the same tokens; the student learns these by `finetune distill`.
"""
