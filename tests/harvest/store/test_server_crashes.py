"""The server of a store ends without warning, and starts again: what was committed is there, and nobody believes that
something is there which is not."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from postgres import Cluster, cluster, programs
from stores import NOW, question

from harvest.core.nouns import Ask
from harvest.store import Sent, Store


@pytest.fixture
def server() -> Iterator[Cluster]:
    cluster()  # skips where there are no server programs
    folder = programs()
    assert folder is not None
    own = Cluster(folder)
    try:
        yield own
    finally:
        own.end()


def reserved(store: Store, run: int, row: int, key: str) -> Sent:
    found = store.reserve(run, row, Ask(0, 100), key, 5, NOW)
    assert isinstance(found, Sent)
    return found


def test_a_transaction_that_a_crash_undid_counts_as_written_for_nobody(server: Cluster) -> None:
    """After the crash, the server gives the same ids to the next transactions: those of transactions, and of rows."""
    url = server.database()
    with Store.open(url) as store, store.transaction():
        run = store.put_run("r", {}, 1_000_000, NOW)
        for n in range(200):
            store.put_question(run, question(n))
    with Store.open(url) as one, Store.open(url) as two:
        for store in (one, two):
            store.join("r", alone=False)
            with store.transaction():
                store.begin_session(run, NOW)
        rows = {}
        for store in (one, two):
            with store.transaction():
                rows[store] = [q.id for q in store.open_questions(run, 0, 64)]
        attempts = set()
        for again in range(6):
            one.db.begin()
            lost = reserved(one, run, rows[one][again], f"lost {again}")
            one.db.wait()
            server.crash()
            server.start()
            two.db.execute("SELECT 1")  # finds that its connection is lost, and opens a new one
            for n in range(3):
                with two.transaction():
                    attempts.add(reserved(two, run, rows[two][4 * again + n], f"{again}-{n}").attempt_id)
            with pytest.raises(one.db.errors):
                one.db.commit()
            if one.db.in_transaction:
                one.db.rollback()
            assert not one.has_try(run, lost.try_id) or lost.attempt_id in attempts
            with one.transaction():
                attempts.add(reserved(one, run, rows[one][32 + again], f"kept {again}").attempt_id)
        assert len(attempts) == 6 * 4, "no id is given twice"
        assert one.money(run).reserved == 5 * len(attempts)


class Way:
    """The way to a server, which breaks off once: behind a COMMIT that has arrived there, before its answer."""

    def __init__(self, server: Cluster) -> None:
        self.server, self.breaks, self.did_arrive = server, False, False
        self.listening = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, url: str) -> str:
        return url.replace(f":{self.server.port}/", f":{self.listening.getsockname()[1]}/")

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listening.accept()
                far = socket.create_connection(("127.0.0.1", self.server.port))
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(a, b, a is near), daemon=True).start()

    def _carry(self, a: socket.socket, b: socket.socket, is_forth: bool) -> None:
        with suppress(OSError):
            while data := a.recv(65536):
                if self.breaks and is_forth and b"COMMIT" in data:
                    self.did_arrive = True
                elif self.breaks and self.did_arrive and not is_forth:
                    self.breaks = False
                    break
                b.sendall(data)
        for one in (a, b):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_a_commit_whose_answer_was_lost_on_its_way_back_counts_as_written(server: Cluster) -> None:
    way, url = Way(server), server.database()
    with Store.open(url) as store, store.transaction():
        run = store.put_run("r", {}, 1_000_000, NOW)
    with Store.open(way.url(url)) as store:
        way.breaks = True
        with store.transaction():
            store.put_question(run, question(1))
        assert way.did_arrive
        assert not way.breaks
        with store.transaction():
            store.put_question(run, question(2))
        assert store.has_question(run, "q1")
        assert store.has_question(run, "q2")
    way.listening.close()
