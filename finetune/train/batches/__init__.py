"""Decides which rows of a step go through the student together, in which process, and keeps packed rows apart.

What comes in are the lengths of the rows and how a step is split. What goes out are lists of row numbers for each
process, padded or packed, and an attention under which no row of a pack sees another.
"""
