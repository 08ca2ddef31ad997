"""Speaks with an endpoint about batches: many requests that are sent at once and answered within a day, cheaper.

In come rows in a file. Out come an id at the endpoint, what the endpoint says of the batch, and files of results, whose
rows are read by the same code that reads live replies. forms.py has the table of the forms that providers want.
"""

from harvest.endpoint.batches.api import BatchApi, Refused
from harvest.endpoint.batches.forms import FORMS, Form, form_for
from harvest.endpoint.batches.result_rows import ResultRow, failure_of, outcome_of, read_row
from harvest.endpoint.batches.status import BatchStatus, LineFault

__all__ = [
    "FORMS",
    "BatchApi",
    "BatchStatus",
    "Form",
    "LineFault",
    "Refused",
    "ResultRow",
    "failure_of",
    "form_for",
    "outcome_of",
    "read_row",
]
