"""Keeps runs, questions, attempts with their money, verdicts, selections and evaluations. No other room knows SQL.

Rooms write plain values: a step adds rows, and changes none that an earlier step wrote. The rooms that judge, select,
export or report get typed values.
"""

from harvest.store.attempts import ClaimLost, Doubt, InBatch, InHand, Reused, Sent
from harvest.store.batches import BatchTry, RowSettlement, RowToSend, StoredBatch
from harvest.store.databases.database import is_being_written, without_password
from harvest.store.databases.postgresql_address import without_passwords
from harvest.store.databases.sqlite import refuse_missing
from harvest.store.judgements import JudgedBy, MarkedAnswer, Rejudged, StoredAnswer
from harvest.store.leases import BEAT_S, Beat, Heartbeat
from harvest.store.questions import OpenQuestion, StratumOutcome
from harvest.store.reading.distributions import (
    ACCURACY_QUOTE,
    QUOTE,
    ROUND,
    AskedTry,
    BoughtAttempt,
    EndedQuestion,
    Length,
    Moment,
    Picks,
)
from harvest.store.reading.figures import (
    AboutFigures,
    ClaimFigures,
    Money,
    ReplicaFigures,
    RunFigures,
    Session,
    TeacherFigures,
    Tries,
)
from harvest.store.reading.stories import AnsweredAttempt, AttemptStory, DatedVerdict, QuestionStory, StoredTry
from harvest.store.replies import row_id
from harvest.store.runs import FROM_PUBLIC, UNDER_SELECT, StoredRun, stored_settings
from harvest.store.selections import JUDGED_WHOLE, REJECTED_SINCE, SelectionOutcome, StoredSelection
from harvest.store.store import Store
from harvest.store.student_scores import StudentScore
from harvest.store.writing.unwritten import SettledBy, Settlement
from harvest.store.writing.waiting_marks import MARKS, Mark, WaitingMarks
from harvest.store.writing.writer import Writer

__all__ = [
    "ACCURACY_QUOTE",
    "BEAT_S",
    "FROM_PUBLIC",
    "JUDGED_WHOLE",
    "MARKS",
    "QUOTE",
    "REJECTED_SINCE",
    "ROUND",
    "UNDER_SELECT",
    "AboutFigures",
    "AnsweredAttempt",
    "AskedTry",
    "AttemptStory",
    "BatchTry",
    "Beat",
    "BoughtAttempt",
    "ClaimFigures",
    "ClaimLost",
    "DatedVerdict",
    "Doubt",
    "EndedQuestion",
    "Heartbeat",
    "InBatch",
    "InHand",
    "JudgedBy",
    "Length",
    "Mark",
    "MarkedAnswer",
    "Moment",
    "Money",
    "OpenQuestion",
    "Picks",
    "PublicFigures",
    "QuestionStory",
    "Rejudged",
    "ReplicaFigures",
    "Reused",
    "RowSettlement",
    "RowToSend",
    "RunFigures",
    "SelectionOutcome",
    "Sent",
    "Session",
    "SettledBy",
    "Settlement",
    "Store",
    "StoredAnswer",
    "StoredBatch",
    "StoredRun",
    "StoredSelection",
    "StoredTry",
    "StratumOutcome",
    "StudentScore",
    "TeacherFigures",
    "Tries",
    "WaitingMarks",
    "Writer",
    "is_being_written",
    "refuse_missing",
    "row_id",
    "stored_settings",
    "without_password",
    "without_passwords",
]
