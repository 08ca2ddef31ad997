"""The store of runs: every statement, by subject, in one class."""

from harvest.store.evaluations import Evaluations
from harvest.store.figures import Figures
from harvest.store.imports import Imports
from harvest.store.judgements import Judgements
from harvest.store.stories import Stories


class Store(Imports, Judgements, Figures, Stories, Evaluations):
    """A store that is open: `with Store.open(url) as store`. Each base has the statements on one subject."""
