"""`harvest verify`: judges the stored answers of a run again with today's checks; the teacher is asked nothing."""

import json

from harvest.asking.planning.plan import plan_of
from harvest.checks import CheckPool
from harvest.commands.export import write_dataset
from harvest.commands.progress import Warnings, steps
from harvest.commands.report import write_report_of
from harvest.commands.run_folder import has_dataset, writing_to
from harvest.commands.select_traces import select_as_set
from harvest.core.errors import InputError
from harvest.core.files import runs_folder
from harvest.judging.verification import Counts, Verification, Verifier, begin_verification, end_verification
from harvest.judging.verification_changes import changes_of, in_words
from harvest.store import Store


def verify(name: str, url: str, *, again: bool, unsafe_code: bool, as_json: bool) -> int:
    """Judges what is stored, selects and reports anew, and prints what changed. The exit code.

    `again`: also answers that today's checks have judged already. Stopped anywhere, the same command goes on.
    """
    with Store.open(url) as store, CheckPool(unsafe_code=unsafe_code) as pool:
        run_id = store.run_id(name)
        counts, verification = Counts(), begin_verification(store, run_id, again=again)
        judge_answers(store, run_id, pool, counts, verification)
        changes = changes_of(store, run_id, verification, counts)
        failed: InputError | None = None
        try:
            is_new = select_as_set(store, name)
        except InputError as e:  # the dataset is written all the same, since rejected answers must leave it
            is_new, failed = False, e
        with writing_to(runs_folder() / name):
            report = write_report_of(store, name, live=False)
            if (changes["judged"] or is_new) and has_dataset(name):
                write_dataset(store, name, report)
        if failed is not None:
            raise failed
        end_verification(store, run_id, changes)
    said = {"run": name, **changes}
    print(json.dumps(said, ensure_ascii=False) if as_json else "\n".join(in_words(said)))
    return 0


def judge_answers(
    store: Store, run_id: int, pool: CheckPool, counts: Counts, verification: Verification | None = None
) -> None:
    """Judges what a verification has not judged yet, or without one what nobody has, and shows how far it is."""
    warnings = Warnings()
    verifier = Verifier(store, run_id, pool, plan_of(store.run(run_id)), counts, warnings)
    with steps("judging") as step:
        words = "{:,} of {:,} answers".format
        verifier.judge(verification, lambda: step(counts.seen, counts.total, words(counts.seen, counts.total)))
    warnings.close("questions whose gold answer fails its own check: their answers are not judged")
