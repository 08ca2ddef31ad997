"""Selects the traces of a run that are trained on: by duplicates, evaluations, difficulty, balance and number.

It reads the run and its judged answers from the store, and the settings [select], [filters] and [rewrite]. It writes a
selection into the store, which says of each candidate whether it is selected. For a candidate that is not selected, the
selection gives the reason, and for a duplicate also the attempt that is kept in its place.

select_run in pipeline.py makes a whole selection. SketchesWhileAsking in sketch_pool.py makes sketches of the answers
earlier, while the run is still asking.

A frame, here, is the first or the last few sentences of a question (`Problem 12.`), which a copy of the question may
lack.
"""
