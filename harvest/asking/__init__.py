"""Asks questions until each is solved or given up, within the cap.

In come a run's settings, its questions and its keys. Out go attempts in the store, each with its judgement, and how the
session of asking ended.

planning/ says what a run is and what it asks next. buying/ buys answers from one endpoint. The files beside this one
bring the two together: session.py begins and ends the asking, and collect.py asks each question until it ends.
"""
