"""Keeps runs, questions, attempts with their money, verdicts, selections and evaluations. No other room knows SQL.

Rooms write plain values: a step adds rows, and changes none that an earlier step wrote. The rooms that judge, select,
export or report get typed values.
"""

from harvest.store.attempts import Doubt, Reused, Sent
from harvest.store.distributions import QUOTE, AskedTry, EndedQuestion, Length, Moment, Picks
from harvest.store.figures import (
    ClaimFigures,
    JudgeFigures,
    Money,
    RunFigures,
    Session,
    TeacherFigures,
    Tries,
)
from harvest.store.judgements import JudgedBy, MarkedAnswer, Rejudged, StoredAnswer
from harvest.store.questions import OpenQuestion, StratumOutcome
from harvest.store.runs import StoredRun, stored_settings
from harvest.store.selections import REJECTED_SINCE, SelectionOutcome, StoredSelection
from harvest.store.sqlite import is_being_written
from harvest.store.store import Store
from harvest.store.stories import AnsweredAttempt, AttemptStory, DatedVerdict, QuestionStory, StoredTry
from harvest.store.writing.unwritten import SettledBy, Settlement
from harvest.store.writing.waiting_marks import Mark, WaitingMarks
from harvest.store.writing.writer import Writer

__all__ = [
    "QUOTE",
    "REJECTED_SINCE",
    "AnsweredAttempt",
    "AskedTry",
    "AttemptStory",
    "ClaimFigures",
    "DatedVerdict",
    "Doubt",
    "EndedQuestion",
    "JudgeFigures",
    "JudgedBy",
    "Length",
    "Mark",
    "MarkedAnswer",
    "Moment",
    "Money",
    "OpenQuestion",
    "Picks",
    "QuestionStory",
    "Rejudged",
    "Reused",
    "RunFigures",
    "SelectionOutcome",
    "Sent",
    "Session",
    "SettledBy",
    "Settlement",
    "Store",
    "StoredAnswer",
    "StoredRun",
    "StoredSelection",
    "StoredTry",
    "StratumOutcome",
    "TeacherFigures",
    "Tries",
    "WaitingMarks",
    "Writer",
    "is_being_written",
    "stored_settings",
]
