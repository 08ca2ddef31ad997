"""Filters: reasons not to train on an answer that is right; and rewriting an answer into the training format by rules.

An accepted answer with its question comes in. Out comes the first fault that a filter finds, in words, or none; or the
answer rewritten. Each filter has a version and a switch under `[filters]`; docs/filters.md has examples of each.
"""

from harvest.filters.table import FILTERS, Fault, Filter, fault_of, first_fault, versions

__all__ = ["FILTERS", "Fault", "Filter", "fault_of", "first_fault", "versions"]
