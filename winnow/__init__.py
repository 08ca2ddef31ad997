"""The thin door to winnow: the command `winnow`, and a Python API of a dozen names.

It stands above `harvest`, which asks the teacher, and `finetune`, which trains the student. All work is theirs.
"""
