"""`harvest verify` judges the stored answers of a run again with today's checks. It asks the teacher nothing."""

import json

from harvest.asking.planning.plan import plan_of
from harvest.checks import CheckPool
from harvest.commands.export import write_dataset
from harvest.commands.progress import Warnings, say, steps
from harvest.commands.report import write_report_of
from harvest.commands.run_folder import has_dataset, writing_to
from harvest.commands.select_traces import select_as_set, take_in
from harvest.core.errors import InputError
from harvest.core.files import runs_folder
from harvest.judging.verification import Counts, Verification, Verifier, begin_verification, end_verification
from harvest.judging.verification_changes import changes_of, in_words
from harvest.store import Store


def verify(name: str, url: str, *, again: bool, unsafe_code: bool, as_json: bool) -> int:
    """Judges stored answers, selects and reports again, prints what changed, and returns the exit code.

    `again`: answers that today's checks have already judged are judged too. If the command is stopped, the same command
    goes on from there.
    """
    with Store.open(url, say=say) as store, CheckPool(unsafe_code=unsafe_code) as pool:
        store.join(name, alone=True)
        take_in(store)
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
    """Judges stored answers and shows how far it is.

    With a `verification`, it judges the answers that this verification has not judged yet. Without one, it judges the
    answers that have never been judged.
    """
    warnings = Warnings()
    verifier = Verifier(store, run_id, pool, plan_of(store.run(run_id)), counts, warnings)
    with steps("judging") as step:
        words = "{:,} of {:,} answers".format
        verifier.judge(verification, lambda: step(counts.seen, counts.total, words(counts.seen, counts.total)))
    warnings.close("questions whose gold answer fails its own check: their answers are not judged")
