"""Filters: finds reasons not to train on a right answer, and rewrites answers into the training format by rules.

It takes an accepted answer with its question. It returns the first fault that a filter finds, in words, or None; or it
returns the rewritten answer. Each filter has a version and a switch under `[filters]`. docs/filters.md has examples for
each filter.
"""

from harvest.filters.table import FILTERS, Fault, Filter, fault_of, first_fault, versions

__all__ = ["FILTERS", "Fault", "Filter", "fault_of", "first_fault", "versions"]
