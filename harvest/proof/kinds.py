"""The two kinds of manifests, and what a row of each holds. Pure."""

from collections.abc import Mapping
from typing import Any

from harvest.core.foreign_json import as_dict, as_list
from harvest.core.nouns import Reply
from harvest.proof.lines import sha256
from harvest.proof.manifest import Fields

TEXT, NO_TEXT, COUNT, NO_COUNT = (str,), (str, type(None)), (int,), (int, type(None))
DATASET: Fields = {
    "row": COUNT,
    "sha256": TEXT,
    "id": TEXT,
    "question_id": TEXT,
    "attempt": TEXT,
    "response_id": NO_TEXT,
    "first_response_id": NO_TEXT,
    "cost_usd": NO_TEXT,
    "accepted": (bool,),
    "reason": NO_TEXT,
    "verdicts": (list,),
    "teacher": NO_TEXT,
    "served_model": NO_TEXT,
    "served_by": NO_TEXT,
    "teacher_terms": NO_TEXT,
    "source": NO_TEXT,
    "licence": NO_TEXT,
    "asked_at": NO_TEXT,
    "public": NO_TEXT,
    "rewritten": NO_TEXT,
    "reply_sha256": TEXT,
}
"""A row of a dataset. `row` is its place in the files, `sha256` the hash of its line, `id` its name, `attempt` the key
of the attempt (what was asked, of whom), `response_id` and `first_response_id` (of an answer that was cut and
continued) the endpoint's names of the replies, `cost_usd` the price paid for the answer, `public` the public set that
it is from, `rewritten` who rewrote the text ("rules", "model", both), and `reply_sha256` the hash of what the teacher
wrote. Null: nobody knows, or it is not so."""
STUDENT: Fields = {
    "row": COUNT,
    "data": NO_COUNT,
    "data_row": NO_COUNT,
    "sha256": NO_TEXT,
    "id": NO_TEXT,
    "question_id": NO_TEXT,
    "fate": TEXT,
    "why": NO_TEXT,
    "pair": (list, type(None)),
    "tokens": NO_COUNT,
    "trained_tokens": NO_COUNT,
    "tokens_sha256": NO_TEXT,
}
"""What became of a row in a training. `data` is the dataset's place in the header's `data`, `data_row` the row's number
in that dataset's manifest; both are null where no manifest has the row. `sha256`, `id` and `question_id` are the row's.
`fate` is "trained", "held_out" or "left_out", with the reason in `why`. `pair` is [number of the pair, "chosen" or
"rejected"]. `tokens_sha256` is the hash of the token ids and of the mask."""
KINDS = {"dataset": DATASET, "student": STUDENT}
FATES = ("trained", "held_out", "left_out")


def known_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a dataset's manifest that the row itself has, from a row of an export."""
    teacher = as_dict(row.get("teacher"))
    return {
        "id": row.get("id"),
        "question_id": row.get("question_id"),
        "response_id": teacher.get("response_id"),
        "first_response_id": as_dict(row.get("seam")).get("response_id"),
        "cost_usd": row.get("cost_usd"),
        "accepted": row.get("accepted"),
        "reason": row.get("reason"),
        "verdicts": [
            {name: as_dict(v).get(name) for name in ("check", "version", "passed")}
            for v in as_list(row.get("verdicts"))
        ],
        "teacher": teacher.get("model"),
        "served_model": teacher.get("served_model"),
        "served_by": teacher.get("served_by"),
        "teacher_terms": row.get("teacher_terms"),
        "source": row.get("source"),
        "licence": row.get("licence"),
        "asked_at": row.get("asked_at"),
        "public": as_dict(row.get("public")).get("set"),
    }


def reply_sha256(reply: Reply) -> str:
    """Returns the hash of what a teacher wrote: of the JSON array [chain, answer]."""
    return sha256([reply.reasoning, reply.answer])
