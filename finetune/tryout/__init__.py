"""Says which traces suit a student, which teacher to buy from, and whether to buy more or to train longer.

What comes in are a run's stored answers and a student. What goes out are the student's scores of each answer, in the
store, and what follows from them for the next dollar, each with its interval.
"""
