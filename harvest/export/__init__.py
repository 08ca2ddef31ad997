"""Writes the traces of a run as a dataset that `datasets`, TRL, axolotl and LLaMA-Factory load as it is.

It reads the run and its answers from the store, the settings [export], and the report. It writes a folder with rows in
JSON lines or Parquet, a card that says what the rows are and what they cost, and the files that a trainer needs beside
the rows.
"""

from harvest.export.dataset_folder import export_settings, write_folder

__all__ = ["export_settings", "write_folder"]
