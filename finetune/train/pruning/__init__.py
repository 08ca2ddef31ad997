"""Cuts a smaller student out of an open model: some of its layers, with their weights as they are.

What comes in are a model's folder or name, a number of layers, and rows to measure their importance on. What goes out
is a folder that transformers loads like any other model.
"""
