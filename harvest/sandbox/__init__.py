"""Running what a model wrote: jails that nothing leaves, and a judge outside who alone knows what is expected."""

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
