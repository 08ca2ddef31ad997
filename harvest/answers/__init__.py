"""Answers: reads the text that a model wrote.

It takes a reply, or the text of a reply. It finds the chain and the answer as two texts, the result that the answer
states, the number or the words in that result, and the loop that the text ends in. No code in this room knows a gold
answer or evaluates what a model wrote.
"""
