"""Defines the tables in PostgreSQL: those of schema.py, and three more that many processes need.

A store in PostgreSQL is of the same version as one in SQLite. FIRST makes the tables as they were in the version
FIRST_VERSION; a later migration of schema.py has its like here.
"""

import re

FIRST_VERSION = 17
TABLES = """
    CREATE TABLE run (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, config TEXT NOT NULL, created_at TEXT NOT NULL,
      cap INTEGER, spent INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
      in_doubt INTEGER NOT NULL DEFAULT 0, under TEXT
    ) WITH (fillfactor = 20);
    CREATE INDEX run_under ON run (under) WHERE under IS NOT NULL;
    CREATE TABLE session (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, started_at TEXT NOT NULL,
      ended_at TEXT, status TEXT, peak_in_flight INTEGER, limited_by TEXT, stopped_by TEXT
    );
    CREATE TABLE question (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, name TEXT NOT NULL, body TEXT NOT NULL,
      status TEXT NOT NULL DEFAULT 'open', stratum TEXT NOT NULL DEFAULT '', turn INTEGER NOT NULL DEFAULT 0,
      UNIQUE (run_id, name)
    );
    CREATE INDEX question_open ON question (run_id, id) WHERE status = 'open';
    CREATE INDEX question_turn ON question (run_id, turn, stratum, id) WHERE status = 'open';
    CREATE TABLE attempt (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, question_id INTEGER NOT NULL REFERENCES question,
      kind TEXT NOT NULL, about INTEGER REFERENCES attempt, teacher INTEGER NOT NULL DEFAULT 0,
      sample INTEGER NOT NULL, max_tokens INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
      answer_try INTEGER, reused INTEGER NOT NULL DEFAULT 0, accepted INTEGER, reason TEXT,
      waited_s REAL NOT NULL DEFAULT 0, continues INTEGER REFERENCES attempt,
      CHECK (about IS NULL AND kind IN ('teacher', 'student') OR about IS NOT NULL AND kind IN ('judge', 'rewriter'))
    );
    CREATE UNIQUE INDEX attempt_once ON attempt (run_id, question_id, teacher, sample, max_tokens, kind,
      coalesce(about, 0), (CASE WHEN about IS NULL THEN '' ELSE key END), coalesce(continues, 0));
    CREATE INDEX attempt_kind ON attempt (kind) WHERE kind != 'teacher';
    CREATE INDEX attempt_about ON attempt (about) WHERE about IS NOT NULL;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE INDEX attempt_question ON attempt (question_id);
    CREATE INDEX attempt_continues ON attempt (continues) WHERE continues IS NOT NULL;
    CREATE TABLE batch (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, teacher INTEGER NOT NULL,
      name TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL, state TEXT NOT NULL, refused INTEGER NOT NULL DEFAULT 0,
      file_id TEXT, batch_id TEXT, made_at TEXT NOT NULL, created_at TEXT, ended_at TEXT
    );
    CREATE INDEX batch_open ON batch (run_id) WHERE state != 'settled';
    CREATE TABLE try (
      id INTEGER PRIMARY KEY, attempt_id INTEGER NOT NULL REFERENCES attempt, run_id INTEGER NOT NULL,
      state TEXT NOT NULL DEFAULT 'sent', kind TEXT, message TEXT, reserved INTEGER NOT NULL, cost INTEGER,
      cost_source TEXT, doubt INTEGER, input_tokens INTEGER, cached_input_tokens INTEGER, output_tokens INTEGER,
      reasoning_tokens INTEGER, finish_reason TEXT, served_model TEXT, served_by TEXT, system_fingerprint TEXT,
      response_id TEXT, sent_at TEXT NOT NULL, ended_at TEXT, settled_by TEXT, settled_at TEXT,
      batch_id INTEGER REFERENCES batch, session_id INTEGER, replica TEXT
    );
    CREATE INDEX try_attempt ON try (attempt_id);
    CREATE INDEX try_run ON try (run_id);
    CREATE INDEX try_sent ON try (run_id) WHERE state = 'sent';
    CREATE INDEX try_doubt ON try (run_id) WHERE doubt IS NOT NULL;
    CREATE INDEX try_batch ON try (batch_id) WHERE batch_id IS NOT NULL;
    CREATE TABLE reply (try_id INTEGER NOT NULL PRIMARY KEY REFERENCES try, body BLOB NOT NULL);
    ALTER TABLE reply ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE TABLE token_logprobs (try_id INTEGER NOT NULL PRIMARY KEY REFERENCES try, body BLOB NOT NULL);
    ALTER TABLE token_logprobs ALTER COLUMN body SET STORAGE EXTERNAL;
    CREATE TABLE endpoint_claim (
      try_id INTEGER NOT NULL REFERENCES try, kind TEXT NOT NULL, words TEXT NOT NULL, PRIMARY KEY (try_id, kind)
    );
    CREATE TABLE verdict (
      id INTEGER PRIMARY KEY, attempt_id INTEGER NOT NULL REFERENCES attempt, check_name TEXT NOT NULL,
      version TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL, share REAL, at TEXT NOT NULL
    );
    CREATE INDEX verdict_attempt ON verdict (attempt_id);
    CREATE INDEX verdict_judge ON verdict (attempt_id) WHERE check_name = 'judge';
    CREATE INDEX verdict_rewriting ON verdict (attempt_id) WHERE check_name = 'rewriting';
    CREATE TABLE event (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, at TEXT NOT NULL, kind TEXT NOT NULL,
      data TEXT NOT NULL
    );
    CREATE INDEX event_run ON event (run_id, kind, id);
    CREATE TABLE training (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, block TEXT NOT NULL,
      UNIQUE (run_id, key)
    );
    CREATE TABLE training_point (
      run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, step INTEGER NOT NULL, point TEXT NOT NULL,
      PRIMARY KEY (run_id, key, step)
    );
    CREATE TABLE evaluation (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, settings TEXT NOT NULL,
      UNIQUE (run_id, key)
    );
    CREATE TABLE evaluation_answer (
      evaluation_id INTEGER NOT NULL REFERENCES evaluation, question_id TEXT NOT NULL, sample INTEGER NOT NULL,
      outcome TEXT NOT NULL, finish_reason TEXT, output_tokens INTEGER, cost INTEGER, text TEXT NOT NULL,
      PRIMARY KEY (evaluation_id, question_id, sample)
    );
    CREATE TABLE selection (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, at TEXT NOT NULL, key TEXT NOT NULL,
      settings TEXT NOT NULL, said TEXT NOT NULL
    );
    CREATE INDEX selection_run ON selection (run_id, id);
    CREATE TABLE selection_outcome (
      selection_id INTEGER NOT NULL REFERENCES selection, attempt_id INTEGER NOT NULL REFERENCES attempt,
      reason TEXT, instead INTEGER, detail TEXT, rewritten INTEGER NOT NULL, PRIMARY KEY (selection_id, attempt_id)
    );
    CREATE INDEX try_replica ON try (run_id) WHERE replica IS NOT NULL;
    CREATE TABLE student_scoring (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, student TEXT NOT NULL, weights TEXT NOT NULL,
      rendering TEXT NOT NULL, at TEXT NOT NULL, UNIQUE (run_id, student, weights, rendering)
    );
    CREATE TABLE student_score (
      scoring_id INTEGER NOT NULL REFERENCES student_scoring, attempt_id INTEGER NOT NULL REFERENCES attempt,
      tokens INTEGER NOT NULL, surprisal_nats REAL, ranks INTEGER, PRIMARY KEY (scoring_id, attempt_id)
    );
    CREATE INDEX student_score_attempt ON student_score (attempt_id);
    CREATE TABLE lease (
      session_id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL,
      until TIMESTAMPTZ NOT NULL, beat_at TIMESTAMPTZ NOT NULL, who TEXT NOT NULL, pace TEXT NOT NULL DEFAULT '{}'
    );
    CREATE INDEX lease_run ON lease (run_id);
    CREATE TABLE claim (
      question_id INTEGER NOT NULL PRIMARY KEY, run_id INTEGER NOT NULL, session_id INTEGER NOT NULL,
      in_hand INTEGER NOT NULL DEFAULT 1
    );
    CREATE INDEX claim_run ON claim (run_id, session_id);
"""
"""PostgreSQL does not check that the run and the session of attempts and tries are there: each check would lock a row
that all processes lock. The room in a page of `run` lets its sums change without a new entry in an index. `lease` says
until when a process that collects a run counts as alive (by the server's clock), and `claim` which questions it has in
hand."""

COMMITTED = """
    CREATE TABLE committed (writer TEXT NOT NULL PRIMARY KEY, n INTEGER NOT NULL) WITH (fillfactor = 20);
"""
"""`committed` has the number of the last transaction that each process has written."""

FUNCTIONS = """
    CREATE FUNCTION json_each(document TEXT, OUT key TEXT, OUT value TEXT) RETURNS SETOF record
    LANGUAGE sql IMMUTABLE ROWS 100 AS $$
      SELECT CAST(n - 1 AS TEXT), element
      FROM json_array_elements_text(CASE WHEN json_typeof(document::json) = 'array' THEN document::json END)
        WITH ORDINALITY AS elements (element, n)
      UNION ALL SELECT e.key, e.value
      FROM json_each_text(CASE WHEN json_typeof(document::json) = 'object' THEN document::json END) AS e
    $$;
    CREATE FUNCTION json_extract(document TEXT, path TEXT) RETURNS TEXT LANGUAGE sql IMMUTABLE AS $$
      SELECT replace(document, '\\u0000', '\\ufffd')::json ->> substr(path, 3)
    $$;
"""
"""What SQLite has built in, for the forms that our statements use: `json_each` of an array or an object, as texts, and
`json_extract` of '$.name'. (A text of PostgreSQL holds no character 0, which a question's JSON may name.)"""

VERSION = "CREATE TABLE winnow (version INTEGER NOT NULL); INSERT INTO winnow (version) VALUES (0);"


def translated(tables: str) -> str:
    """Returns statements that make tables, with SQLite's types as PostgreSQL's. Texts are ordered by their bytes."""
    for pattern, type_ in (
        (r"\bid INTEGER PRIMARY KEY\b", "id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
        (r"\bINTEGER\b", "BIGINT"),
        (r"\bREAL\b", "DOUBLE PRECISION"),
        (r"\bBLOB\b", "BYTEA"),
        (r"\bTEXT\b", 'TEXT COLLATE "C"'),
    ):
        tables = re.sub(pattern, type_, tables)
    return tables


MIGRATIONS = (translated(TABLES) + FUNCTIONS, COMMITTED)
"""Migration n brings a store of version FIRST_VERSION - 1 + n (an empty one for n = 0) to the next version."""
