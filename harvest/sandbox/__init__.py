"""Runs programs that a model wrote, in jails that no program can leave.

A caller gives source code, with the input, the calls or the tests for it. The caller gets what the program printed,
what its functions returned, or what the tests found. Only the caller's side of the jail knows what is expected, so a
program never says itself that it passed.
"""

from harvest.sandbox.jail import Isolation, Jail, JailBroken, Kind, Limits, isolation
from harvest.sandbox.trial import BrokenTests, Failed, Ran, Served, Tested, TimeUp, run_script, run_tests, served

__all__ = [
    "BrokenTests",
    "Failed",
    "Isolation",
    "Jail",
    "JailBroken",
    "Kind",
    "Limits",
    "Ran",
    "Served",
    "Tested",
    "TimeUp",
    "isolation",
    "run_script",
    "run_tests",
    "served",
]
