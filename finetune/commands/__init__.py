"""The commands of finetune, one file each, named like the command.

What comes in are the words of the command line, read by `arguments`. What goes out is the exit code of the file's
`run`: the result is printed on stdout, everything else on stderr.
"""
