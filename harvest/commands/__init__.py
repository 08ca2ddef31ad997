"""Holds the commands, one in each file. A command opens the store and the run, calls other rooms, and closes both.

It closes them whatever happens. A command takes what the user typed, already parsed. It writes the result to stdout and
progress to stderr, and returns an exit code. Each command is imported from its own file when it is called, so that
other commands do not wait for its imports.
"""
