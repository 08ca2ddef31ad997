"""`harvest view` shows attempts in a local page, on which a person marks them; or writes the page as files."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harvest.asking.planning.plan import plan_of
from harvest.commands.progress import say
from harvest.commands.run_folder import find_run, refuse_elsewhere, state_folder, writing_to
from harvest.core.clock import now
from harvest.core.config import DEFAULT_STORE
from harvest.core.errors import InputError, StoreUnusable
from harvest.core.files import write_whole
from harvest.judging.acceptance import DECIDING
from harvest.judging.marks import take_in_marks
from harvest.report.viewer.attempt_list import Chosen
from harvest.store import Store, WaitingMarks, is_being_written

MOST_PORT = 65_535


def view(
    names: Sequence[str], store: str | None, *, port: int, to: Path | None, cases: Path | None, as_json: bool
) -> int:
    """Serves the page of these runs until Ctrl-C, or writes it into the folder `to`, or writes the marks as cases into
    the file `cases`. Returns the exit code. Without names: all runs of the store."""
    if not 0 <= port <= MOST_PORT:
        raise InputError(f"--port {port}: a port is a number from 1 to {MOST_PORT}")
    with ExitStack() as opened:
        runs = _runs(names, store, opened)
        if cases is not None:
            return _write_cases(runs, cases, as_json=as_json)
        if to is not None:
            from harvest.report.viewer.static_copy import write_copy

            with writing_to(to):
                said = write_copy(runs, to)
            print(json.dumps(said) if as_json else f"{to / 'index.html'}: {said['attempts']:,} attempts")
            if said["left_out"]:
                say(f"left out: {said['left_out']:,} attempts, since a copy holds at most {said['attempts']:,}")
            return 0
        return _serve(runs, port, as_json=as_json)


def _runs(names: Sequence[str], url: str | None, opened: ExitStack) -> list[Chosen]:
    """Opens the store of each run once, to read it."""
    stores: dict[str, Store] = {}

    def reading(address: str) -> Store:
        if address not in stores:
            stores[address] = opened.enter_context(Store.open(address, write=False))
        return stores[address]

    if not names:
        refuse_elsewhere(url or DEFAULT_STORE)
        store = reading(url or DEFAULT_STORE)
        found = [(store, name) for name in store.run_names()]
        if not found:
            raise InputError(f"{store.words} holds no run")
        return found
    chosen = []
    for given in names:
        name, address = find_run(given, url)
        store = reading(address)
        store.run_id(name)
        chosen.append((store, name))
    return chosen


def _serve(runs: Sequence[Chosen], port: int, *, as_json: bool) -> int:
    from harvest.report.viewer.server import Shown, serve

    shown = Shown(runs, _take_in, now, Places(runs))

    def ready(address: str) -> None:
        print(json.dumps({"address": address}) if as_json else address, flush=True)
        say("open this address in a browser; Ctrl-C ends it. Who has the address sees the data and can mark it")

    try:
        asyncio.run(serve(shown, port, ready))
    except OSError as e:
        raise InputError(f"--port {port}: cannot be served there: {e.strerror}; leave --port out") from None
    except KeyboardInterrupt:
        pass
    if shown.marked:
        waiting = sum(len(WaitingMarks(path).found()) for path in {store.path for store, _ in runs})
        later = f"; {waiting} wait for the process that is writing to the store" if waiting else ""
        say(f"{shown.marked} marks set{later}. `harvest select RUN` brings selection, report and dataset up to date")
    return 0


def _take_in(store: Store) -> bool:
    """Takes the marks that wait into the store. Returns False if another process is writing to it."""
    if is_being_written(store.url):
        return False
    try:
        with Store.open(store.url, say=say) as writing:
            for name in store.run_names():
                writing.join(name, alone=True)
            take_in_marks(writing, plan_of, say)
    except StoreUnusable:
        return False
    return True


class Places:
    """Remembers in the user's state folder where the user stopped in these runs."""

    def __init__(self, runs: Sequence[Chosen]) -> None:
        self._file = state_folder() / "view.json"
        self._key = " ".join(f"{store.path.resolve()}#{name}" for store, name in runs)

    def recall(self) -> dict[str, Any]:
        found = self._all().get(self._key)
        return found if isinstance(found, dict) else {}

    def keep(self, place: dict[str, Any]) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(self._file, json.dumps(self._all() | {self._key: place}, indent=1))
        except OSError:  # where there is no place for notes, the page opens with the first attempt
            return

    def _all(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def _write_cases(runs: Sequence[Chosen], file: Path, *, as_json: bool) -> int:
    """Writes each answer that a person marked right or wrong as a line of JSON, for the tests of a check."""
    lines, unsure = [], 0
    for store, name in runs:
        for answer, mark in store.marked_answers(store.run_id(name)):
            if mark.outcome not in DECIDING:
                unsure += 1
                continue
            case = {
                "question": answer.question.model_dump(mode="json", exclude_none=True),
                "answer": answer.reply.answer,
                "gold": answer.question.answer,
                "verdict": mark.outcome.value,
                "note": mark.detail,
                "run": name,
            }
            lines.append(json.dumps(case, ensure_ascii=False))
    with writing_to(file):
        write_whole(file, "".join(line + "\n" for line in lines))
    waiting = sum(len(WaitingMarks(path).found()) for path in {store.path for store, _ in runs})
    said = {"file": str(file), "cases": len(lines), "unsure": unsure, "waiting": waiting}
    words = f"{file}: {len(lines)} cases; left out: {unsure} marked unsure"
    if waiting:
        words += f", {waiting} marks that wait for a command that writes"
    print(json.dumps(said) if as_json else words)
    return 0
