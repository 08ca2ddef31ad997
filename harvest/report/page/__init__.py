"""Writes report.html: one page that opens without a network, runs no script, and looks the same from the same store.

In come the content of report.json, the run's settings, and some traces to look at. Out goes the page as one text. What
a model wrote is escaped by the template; the pictures are SVG that this folder draws.
"""

from harvest.report.page.html_page import comparison_page, flat_settings, html_page
from harvest.report.page.shown_traces import ShownTrace, shown

__all__ = ["ShownTrace", "comparison_page", "flat_settings", "html_page", "shown"]
