"""Reading an answer: what every higher room may ask about the text of a model.

A reply, or the text of one, comes in. Out come its chain and its answer as two texts, the result that the answer
states, the number or the words that a stated result is, and whether the text ended in a loop. Nothing here knows a
gold answer, and nothing evaluates what a model wrote.
"""
