"""Reads what reports, pages and the viewer show: figures of a run, distributions, and the stories of its questions."""
