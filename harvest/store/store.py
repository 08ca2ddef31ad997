"""Joins all statements on the store, which are grouped by subject, into one class."""

from harvest.store.evaluations import Evaluations
from harvest.store.figures import Figures
from harvest.store.imports import Imports
from harvest.store.judgements import Judgements
from harvest.store.stories import Stories


class Store(Imports, Judgements, Figures, Stories, Evaluations):
    """Holds a store open: `with Store.open(url) as store`. Each base class has the statements on one subject."""
