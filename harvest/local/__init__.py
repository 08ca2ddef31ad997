"""Runs the embedded teacher: an open model on this machine, which needs no key and costs nothing.

In comes the name of a model in the table (models.py). Out goes the address of a server that answers like any other
endpoint, with its weights downloaded and known by their checksum.
"""
