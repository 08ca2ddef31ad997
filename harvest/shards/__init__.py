"""Selects from an export that is too large for one process: each of its files is read by a task of its own.

In come the folder of an export and the settings [select] and [filters]. Out comes a dataset with the rows that are
selected, and files that say why the others are not. The tasks run on datatrove's executors: on processes of this
machine, on Slurm or on Ray. Each task writes its file whole, and a file that is there is not made again.

job.py says what there is to do. The tasks are in reading.py (each file of the export), merging.py (one task) and
writing.py (each file, then one task). executors.py runs them.
"""
