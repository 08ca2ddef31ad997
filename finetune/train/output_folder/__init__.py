"""Keeps the folder that a training writes into.

What comes in are a recipe and what the trainer writes. What goes out is the state of the training, its complete
checkpoints, its loss curve, the student and its model card, and an error before the disk is full.
"""
