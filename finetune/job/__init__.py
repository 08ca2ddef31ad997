"""Runs a whole job: collects, selects, trains and evaluates, one stage after the other.

What comes in is a JOB.toml: a run, trainings and evaluations, each with the settings that its own command takes. What
goes out are the stages, each with the words of the command that does it. Each stage is a process of its own: collecting
loads no torch, a training gives its memory back, and a training on several GPUs needs a launcher anyway.
"""
