"""Selects which traces of a run are trained on: deduplication, decontamination, difficulty, balance, number.

In come the run and its judged answers from the store, and the settings [select], [filters] and [rewrite]. Out goes a
selection into the store: for each candidate whether it is selected, or why not and which one is kept in its place.

select_run in pipeline.py is the whole of it; SketchesWhileAsking in sketch_pool.py reads texts ahead while a run asks.
"""
