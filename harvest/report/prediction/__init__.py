"""Reckons what a run will cost and bring, and what it would have cost and brought under other settings. Pure.

The tries, attempts and settings that the store holds come in; forecasts, quotes and the run under other settings go
out, as values for report.json and lines of text.
"""
