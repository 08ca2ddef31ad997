"""`harvest copy` copies runs from one store to another: from a file to PostgreSQL, or back."""

import json
from collections.abc import Sequence

from harvest.commands.progress import say, steps
from harvest.commands.select_traces import take_in
from harvest.core.errors import InputError
from harvest.store import Store, refuse_missing, without_password


def copy_runs(source: str, target: str, names: Sequence[str], *, as_json: bool) -> int:
    """Copies the runs with these names, and the runs that they need, or all runs if there are no names. Prints which,
    and returns the exit code.

    All is copied or nothing. Raises InputError when a run is not there, and StoreUnusable when the other store has it
    already, or when another process collects it.
    """
    if source == target:
        raise InputError("copy: both stores are the same one")
    refuse_missing(source)
    with Store.open(source, say=say) as store, Store.open(target, say=say) as other:
        for name in names:
            store.run_id(name)
        chosen = {needed for name in names for needed in store.with_what_it_needs(name)}
        runs = [name for name in store.all_run_names() if not names or name in chosen]
        for name in runs:
            store.join(name, alone=True)
            other.join(name, alone=True)  # so that it locks no other run's row: those are collected on
        take_in(store)
        with steps("copying") as step:
            store.copy_to(other, runs, lambda rows: step(rows, None, f"{rows:,} rows"))
    shown = without_password(target)
    if as_json:
        print(json.dumps({"runs": runs, "to": shown}, ensure_ascii=False))
    else:
        print(f"copied to {shown}: {', '.join(runs) or 'no run'}")
        say(f"{without_password(source)} is as it was. To go on in the other: --store {shown}, or `store` in RUN.toml")
    return 0
