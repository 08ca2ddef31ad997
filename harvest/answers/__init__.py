"""Answers: reads the text that a model wrote.

A reply, or its text, comes in. Out come the chain and the answer as two texts, the result that the answer states, the
number or the words in that result, and the loop that the text ends in. Nothing here knows a gold answer or evaluates
what a model wrote.
"""
