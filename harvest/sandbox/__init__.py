"""Runs programs that a model wrote, in jails that nothing leaves.

Source code with its input, its calls or its tests comes in. Out come what the program printed, what its functions
returned, or what the tests found. Only this side of the jail knows what is expected: a program never says that it
passed.
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
