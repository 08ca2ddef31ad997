"""Trains a student on rendered rows, with TRL.

What comes in are a recipe, its examples and the student's weights. What goes out is a folder that transformers loads,
with its loss curve and model card, and an entry for the run's report.
"""
