"""Joins all statements on the store into one class."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Self

from harvest.core.errors import StoreUnusable
from harvest.store.batches import Batches
from harvest.store.copying import Copying
from harvest.store.databases.database import fault_of_the_store
from harvest.store.evaluations import Evaluations
from harvest.store.judgements import Judgements
from harvest.store.reading.figures import Figures
from harvest.store.reading.stories import Stories
from harvest.store.writing.unwritten import Unwritten


class Store(Batches, Judgements, Figures, Stories, Evaluations, Copying):
    """Holds a store open: `with Store.open(url) as store`. Each base class has the statements on one subject."""

    @classmethod
    def open(cls, url: str, *, write: bool = True, say: Callable[[str], None] = lambda _: None) -> Self:
        """Opens a store. If `write`, its tables are brought up to date, and it takes in what an earlier process could
        not write. `say` is told so.

        Raises StoreUnusable when another process is writing to the store, when the file is no store of ours, and when
        it cannot be read or written.
        """
        with ExitStack() as opened:
            store = super().open(url, write=write)
            opened.push(store)
            for unwritten in store.left_behind() if write else ():
                if taken := store.take_in(unwritten, say):
                    say(f"taken in, since they could not be written when they came: replies to {taken} tries")
                with suppress(OSError):  # what is taken in twice changes nothing
                    unwritten.remove()
            opened.pop_all()
            return store

    def left_behind(self) -> Iterable[Unwritten]:
        """Gives what earlier processes could not write."""
        return Unwritten.left_behind(self.path) if self.db.is_server else [Unwritten(self.path)]

    def unwritten(self) -> Unwritten:
        """Returns the files for what this process cannot write."""
        return Unwritten.of_process(self.path) if self.db.is_server else Unwritten(self.path)

    def take_in(self, unwritten: Unwritten, say: Callable[[str], None]) -> int:
        """Settles the tries whose settlements wait in files. Returns how many.

        A settlement that the store cannot hold stops no other one: its file is kept under another name, which `say` is
        told. Raises StoreUnusable when the store cannot be written; then the files stay as they are.
        """
        in_all = 0
        faults: tuple[type[Exception], ...] = (*self.db.errors, ArithmeticError, LookupError, TypeError, ValueError)
        for path, settlements in unwritten.found():
            taken = refused = 0
            with self.transaction():
                for settlement in settlements:
                    try:
                        with self.savepoint():
                            taken += self.settle_later(settlement)
                    except faults as e:
                        if fault_of_the_store(e) is not None:
                            raise
                        refused += 1
            in_all += taken
            if refused:
                aside = path.with_name(f"{path.name}.refused")
                try:
                    path.rename(aside)
                except OSError as e:
                    raise StoreUnusable(f"{path}: {refused} of its replies fit no try, {e.strerror}: move it") from None
                say(f"warning: in {aside} are replies that fit no try in this store ({refused}); they are left there")
        return in_all
