"""Says what a training will take before it begins.

What comes in is a recipe with the lengths of its rows, or figures in place of a model and a dataset. What goes out is
an estimate: GPU-hours and money as intervals, the memory of a GPU, and changes with which it would fit.
"""
