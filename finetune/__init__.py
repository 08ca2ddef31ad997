"""Trains a small student on the traces that harvest bought and checked, and measures it.

What comes in is a RECIPE.toml that names a student and a dataset. What goes out is a folder with the trained student;
what training and measuring cost and gave goes into the store and the run's report.
"""
