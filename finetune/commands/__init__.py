"""The commands of finetune, one file each, named like the command.

What comes in are the words of the command line, read by the file's `add_arguments`. What goes out is the exit code of
its `run`: the result is printed on stdout, everything else on stderr.
"""
