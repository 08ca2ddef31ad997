"""Writes the traces of a run as a dataset that `datasets`, TRL, axolotl and LLaMA-Factory load as it is.

In come the run and its answers from the store, the settings [export], and the report. Out goes a folder: rows in JSON
lines or Parquet, a card that says what they are and what they cost, and the files that a trainer wants beside them.
"""

from harvest.export.dataset_folder import export_settings, write_folder

__all__ = ["export_settings", "write_folder"]
