"""Trains a student to prefer a short right answer to a long right one, and a right answer to a shorter wrong one.

What comes in are all answers of a run, each right, wrong or neither. What goes out are pairs of rendered answers, and a
trainer with SimPO's loss.
"""
