"""Measures how many held-out questions a student answers right.

What comes in are questions and somebody who answers them: a student on this machine or an endpoint, asked through
harvest. What goes out are judged answers in the store, and their accuracy with its interval.
"""
