"""Filters: reasons not to train on an accepted attempt. One file for each or a small family, one table, each with a
version and a switch under `[filters]`. docs/filters.md has an example of each, both ways."""

from harvest.filters.table import FILTERS, Fault, Filter, fault_of, first_fault, versions

__all__ = ["FILTERS", "Fault", "Filter", "fault_of", "first_fault", "versions"]
