"""The commands, one a file: each opens the store and the run, calls the rooms below, and closes them in every case.

What the user typed comes in, already parsed. The result goes to stdout, progress to stderr, and an exit code goes out.
A command is imported from its own file when it is called, so that no other has to wait for it.
"""
