"""Reads a dataset and renders each row as the student reads it.

What comes in is the name of a run, an export, a file or a hub's dataset, in any known layout of rows. What goes out are
examples (token ids and the mask of what is trained) and every row that cannot be trained, with the reason.
"""
