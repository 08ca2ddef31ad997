"""Trains a student to prefer one of two answers to a question: the shorter one, and a right one to a wrong one.

What comes in are all answers of a run, each right, wrong or neither. What goes out are pairs of rendered answers, and a
trainer with SimPO's loss.
"""
