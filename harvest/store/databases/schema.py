"""Defines the tables, as numbered migrations.

A step adds rows and changes none that an earlier step wrote. Only the state of unfinished things changes: a run's
money, an open question, an attempt without an answer, a try without a reply.

An attempt's `kind` says what it is for. An attempt of a `teacher` (its index among the run's teachers) may become a
trace. An attempt of the `student` shows whether the student can answer the question itself. An attempt of a `judge`
says what a model thinks of the answer of another attempt, whose id stands in `about`. An attempt of a `rewriter` is
that answer in the training format. All kinds are paid from the same cap; only a teacher's attempts become traces.

A try's `kind` is the class of its failure (harvest/core/errors.py). Amounts of money are whole picodollars.
"""

TABLES = """
    CREATE TABLE run (
      id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, config TEXT NOT NULL, created_at TEXT NOT NULL,
      cap INTEGER, spent INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
      in_doubt INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE session (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, started_at TEXT NOT NULL,
      ended_at TEXT, status TEXT, peak_in_flight INTEGER, limited_by TEXT
    ) STRICT;
    CREATE TABLE question (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, name TEXT NOT NULL, body TEXT NOT NULL,
      status TEXT NOT NULL DEFAULT 'open', UNIQUE (run_id, name)
    ) STRICT;
    CREATE INDEX question_open ON question (run_id, id) WHERE status = 'open';
    CREATE TABLE attempt (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, question_id INTEGER NOT NULL REFERENCES question,
      sample INTEGER NOT NULL, max_tokens INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
      answer_try INTEGER, reused INTEGER NOT NULL DEFAULT 0, accepted INTEGER, reason TEXT,
      judges INTEGER NOT NULL DEFAULT 0,
      UNIQUE (run_id, question_id, sample, max_tokens, judges)
    ) STRICT;
    CREATE INDEX attempt_judges ON attempt (judges) WHERE judges > 0;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE INDEX attempt_question ON attempt (question_id);
    CREATE TABLE try (
      id INTEGER PRIMARY KEY, attempt_id INTEGER NOT NULL REFERENCES attempt, run_id INTEGER NOT NULL REFERENCES run,
      state TEXT NOT NULL DEFAULT 'sent', kind TEXT, message TEXT, reserved INTEGER NOT NULL, cost INTEGER,
      cost_source TEXT, doubt INTEGER, input_tokens INTEGER, cached_input_tokens INTEGER, output_tokens INTEGER,
      reasoning_tokens INTEGER, finish_reason TEXT, served_model TEXT, served_by TEXT, system_fingerprint TEXT,
      response_id TEXT, sent_at TEXT NOT NULL, ended_at TEXT
    ) STRICT;
    CREATE INDEX try_attempt ON try (attempt_id);
    CREATE INDEX try_run ON try (run_id);
    CREATE INDEX try_sent ON try (run_id) WHERE state = 'sent';
    CREATE TABLE reply (try_id INTEGER PRIMARY KEY REFERENCES try, body BLOB NOT NULL) STRICT;
    CREATE TABLE verdict (
      id INTEGER PRIMARY KEY, attempt_id INTEGER NOT NULL REFERENCES attempt, check_name TEXT NOT NULL,
      version TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL, share REAL, at TEXT NOT NULL
    ) STRICT;
    CREATE INDEX verdict_attempt ON verdict (attempt_id);
    CREATE INDEX verdict_judge ON verdict (attempt_id) WHERE check_name = 'judge';
    CREATE TABLE event (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, at TEXT NOT NULL, kind TEXT NOT NULL,
      data TEXT NOT NULL
    ) STRICT;
    CREATE TABLE training (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, block TEXT NOT NULL,
      UNIQUE (run_id, key)
    ) STRICT;
    CREATE TABLE evaluation (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, settings TEXT NOT NULL,
      UNIQUE (run_id, key)
    ) STRICT;
    CREATE TABLE evaluation_answer (
      evaluation_id INTEGER NOT NULL REFERENCES evaluation, question_id TEXT NOT NULL, sample INTEGER NOT NULL,
      outcome TEXT NOT NULL, finish_reason TEXT, output_tokens INTEGER, cost INTEGER, text TEXT NOT NULL,
      PRIMARY KEY (evaluation_id, question_id, sample)
    ) STRICT, WITHOUT ROWID;
"""

SEVERAL_TEACHERS = """
    CREATE TABLE attempt_of_several (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, question_id INTEGER NOT NULL REFERENCES question,
      teacher INTEGER NOT NULL DEFAULT 0, sample INTEGER NOT NULL, max_tokens INTEGER NOT NULL, key TEXT NOT NULL,
      state TEXT NOT NULL DEFAULT 'open', answer_try INTEGER, reused INTEGER NOT NULL DEFAULT 0, accepted INTEGER,
      reason TEXT, judges INTEGER NOT NULL DEFAULT 0,
      UNIQUE (run_id, question_id, teacher, sample, max_tokens, judges)
    ) STRICT;
    INSERT INTO attempt_of_several (id, run_id, question_id, sample, max_tokens, key, state, answer_try, reused,
      accepted, reason, judges) SELECT id, run_id, question_id, sample, max_tokens, key, state, answer_try, reused,
      accepted, reason, judges FROM attempt;
    DROP TABLE attempt;
    ALTER TABLE attempt_of_several RENAME TO attempt;
    CREATE INDEX attempt_judges ON attempt (judges) WHERE judges != 0;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE INDEX attempt_question ON attempt (question_id);
    UPDATE try SET cost_source = 'free' WHERE state = 'sent' AND run_id IN
      (SELECT id FROM run WHERE json_extract(config, '$.teacher.local') IS NOT NULL)
      AND attempt_id IN (SELECT id FROM attempt WHERE judges = 0);
    ALTER TABLE question ADD COLUMN stratum TEXT NOT NULL DEFAULT '';
    ALTER TABLE question ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX question_turn ON question (run_id, turn, stratum, id) WHERE status = 'open';
"""

CURVE = """
    CREATE TABLE training_point (
      run_id INTEGER NOT NULL REFERENCES run, key TEXT NOT NULL, step INTEGER NOT NULL, point TEXT NOT NULL,
      PRIMARY KEY (run_id, key, step)
    ) STRICT, WITHOUT ROWID;
"""

SELECTION = """
    CREATE TABLE selection (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, at TEXT NOT NULL, key TEXT NOT NULL,
      settings TEXT NOT NULL, said TEXT NOT NULL
    ) STRICT;
    CREATE INDEX selection_run ON selection (run_id, id);
    CREATE TABLE selection_outcome (
      selection_id INTEGER NOT NULL REFERENCES selection, attempt_id INTEGER NOT NULL REFERENCES attempt,
      reason TEXT, instead INTEGER, detail TEXT, rewritten INTEGER NOT NULL, PRIMARY KEY (selection_id, attempt_id)
    ) STRICT, WITHOUT ROWID;
"""
"""`selection.key` is a hash of everything that the selection was made of. In an outcome, `reason` is NULL if the
attempt is selected, `instead` is the attempt that is selected instead, and `rewritten` says who rewrote the text that
is trained on (RewrittenBy; 0: nobody)."""

KINDS = """
    CREATE TABLE attempt_with_kind (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, question_id INTEGER NOT NULL REFERENCES question,
      kind TEXT NOT NULL, about INTEGER REFERENCES attempt, teacher INTEGER NOT NULL DEFAULT 0,
      sample INTEGER NOT NULL, max_tokens INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
      answer_try INTEGER, reused INTEGER NOT NULL DEFAULT 0, accepted INTEGER, reason TEXT,
      CHECK (about IS NULL AND (kind = 'teacher' OR kind = 'student') OR about IS NOT NULL AND kind = 'judge')
    ) STRICT;
    INSERT INTO attempt_with_kind (id, run_id, question_id, kind, about, teacher, sample, max_tokens, key, state,
      answer_try, reused, accepted, reason)
      SELECT id, run_id, question_id,
      CASE WHEN judges > 0 THEN 'judge' WHEN judges < 0 THEN 'student' ELSE 'teacher' END,
      CASE WHEN judges > 0 THEN judges END, teacher, sample, max_tokens, key, state, answer_try, reused, accepted,
      reason FROM attempt;
    DROP TABLE attempt;
    ALTER TABLE attempt_with_kind RENAME TO attempt;
    CREATE UNIQUE INDEX attempt_once
      ON attempt (run_id, question_id, teacher, sample, max_tokens, kind, coalesce(about, 0));
    CREATE INDEX attempt_kind ON attempt (kind) WHERE kind != 'teacher';
    CREATE INDEX attempt_about ON attempt (about) WHERE about IS NOT NULL;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE INDEX attempt_question ON attempt (question_id);
"""

SETTLED = """
    ALTER TABLE try ADD COLUMN settled_by TEXT;
    ALTER TABLE try ADD COLUMN settled_at TEXT;
    CREATE INDEX try_doubt ON try (run_id) WHERE doubt IS NOT NULL;
"""
"""`settled_by` says who told the cost of a try that was in doubt: `provider` or `user`."""

CLAIMS = """
    CREATE TABLE endpoint_claim (
      try_id INTEGER NOT NULL REFERENCES try, kind TEXT NOT NULL, words TEXT NOT NULL, PRIMARY KEY (try_id, kind)
    ) STRICT, WITHOUT ROWID;
"""
"""Endpoints' claims that are not booked as they were made (harvest/core/claims.py)."""

SHARED_CAP = """
    ALTER TABLE run ADD COLUMN under TEXT;
    CREATE INDEX run_under ON run (under) WHERE under IS NOT NULL;
    DROP INDEX attempt_once;
    CREATE UNIQUE INDEX attempt_once ON attempt (run_id, question_id, teacher, sample, max_tokens, kind,
      coalesce(about, 0), CASE kind WHEN 'judge' THEN key ELSE '' END);
"""
"""`run.under` is the name of the run under whose cap this one spends, beside its own: doctor's questions and
evaluations name one. A judging model with other settings makes an attempt of its own about the same answer."""

WAITED = "ALTER TABLE attempt ADD COLUMN waited_s REAL NOT NULL DEFAULT 0;"
"""An attempt's `waited_s` is the longest deadline at which one of its tries was late."""

CONTINUED = """
    ALTER TABLE attempt ADD COLUMN continues INTEGER REFERENCES attempt;
    CREATE INDEX attempt_continues ON attempt (continues) WHERE continues IS NOT NULL;
    DROP INDEX attempt_once;
    CREATE UNIQUE INDEX attempt_once ON attempt (run_id, question_id, teacher, sample, max_tokens, kind,
      coalesce(about, 0), CASE kind WHEN 'judge' THEN key ELSE '' END, coalesce(continues, 0));
"""
"""`attempt.continues` is the attempt whose answer was cut at its limit and goes on in this one. Each of the two has its
own reply; `max_tokens` of the second is the limit of the whole answer."""

STOPPED_BY = "ALTER TABLE session ADD COLUMN stopped_by TEXT;"
"""A session's `stopped_by` says what of the teacher ended it (TeacherRefused); NULL if nothing of the teacher did."""

LOGPROBS = "CREATE TABLE token_logprobs (try_id INTEGER PRIMARY KEY REFERENCES try, body BLOB NOT NULL) STRICT;"
"""The log-probabilities of a reply's tokens (harvest/store/token_logprobs.py), apart from `reply.body`: they are larger
than the reply, and only distillation reads them."""

REWRITERS = """
    CREATE TABLE attempt_of_any_kind (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, question_id INTEGER NOT NULL REFERENCES question,
      kind TEXT NOT NULL, about INTEGER REFERENCES attempt, teacher INTEGER NOT NULL DEFAULT 0,
      sample INTEGER NOT NULL, max_tokens INTEGER NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'open',
      answer_try INTEGER, reused INTEGER NOT NULL DEFAULT 0, accepted INTEGER, reason TEXT,
      waited_s REAL NOT NULL DEFAULT 0, continues INTEGER REFERENCES attempt,
      CHECK (about IS NULL AND kind IN ('teacher', 'student') OR about IS NOT NULL AND kind IN ('judge', 'rewriter'))
    ) STRICT;
    INSERT INTO attempt_of_any_kind (id, run_id, question_id, kind, about, teacher, sample, max_tokens, key, state,
      answer_try, reused, accepted, reason, waited_s, continues)
      SELECT id, run_id, question_id, kind, about, teacher, sample, max_tokens, key, state, answer_try, reused,
      accepted, reason, waited_s, continues FROM attempt;
    DROP TABLE attempt;
    ALTER TABLE attempt_of_any_kind RENAME TO attempt;
    CREATE UNIQUE INDEX attempt_once ON attempt (run_id, question_id, teacher, sample, max_tokens, kind,
      coalesce(about, 0), CASE WHEN about IS NULL THEN '' ELSE key END, coalesce(continues, 0));
    CREATE INDEX attempt_kind ON attempt (kind) WHERE kind != 'teacher';
    CREATE INDEX attempt_about ON attempt (about) WHERE about IS NOT NULL;
    CREATE INDEX attempt_key ON attempt (key);
    CREATE INDEX attempt_question ON attempt (question_id);
    CREATE INDEX attempt_continues ON attempt (continues) WHERE continues IS NOT NULL;
    CREATE INDEX verdict_rewriting ON verdict (attempt_id) WHERE check_name = 'rewriting';
"""
"""A model that rewrites answers has attempts of its own about them, as a judging model has."""

BATCHES = """
    CREATE TABLE batch (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, teacher INTEGER NOT NULL,
      name TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL, state TEXT NOT NULL, refused INTEGER NOT NULL DEFAULT 0,
      file_id TEXT, batch_id TEXT, made_at TEXT NOT NULL, created_at TEXT, ended_at TEXT
    ) STRICT;
    CREATE INDEX batch_open ON batch (run_id) WHERE state != 'settled';
    ALTER TABLE try ADD COLUMN batch_id INTEGER REFERENCES batch;
    CREATE INDEX try_batch ON try (batch_id) WHERE batch_id IS NOT NULL;
"""
"""`batch.file_id` and `batch.batch_id` are the endpoint's ids. `try.batch_id` is the row of `batch` in which the try
was sent; NULL: it was a request of its own."""

STUDENT_SCORES = """
    CREATE TABLE student_scoring (
      id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL REFERENCES run, student TEXT NOT NULL, weights TEXT NOT NULL,
      rendering TEXT NOT NULL, at TEXT NOT NULL, UNIQUE (run_id, student, weights, rendering)
    ) STRICT;
    CREATE TABLE student_score (
      scoring_id INTEGER NOT NULL REFERENCES student_scoring, attempt_id INTEGER NOT NULL REFERENCES attempt,
      tokens INTEGER NOT NULL, surprisal_nats REAL, ranks INTEGER, PRIMARY KEY (scoring_id, attempt_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX student_score_attempt ON student_score (attempt_id);
"""
"""What a student's probabilities say of answers (harvest/store/student_scores.py). `weights` is a checksum, `rendering`
says how an answer becomes tokens. `surprisal_nats` and `ranks` are sums over the `tokens` that would be trained; NULL
if the student cannot be trained on the answer."""

REPLICAS = """
    ALTER TABLE try ADD COLUMN replica TEXT;
    CREATE INDEX try_replica ON try (run_id) WHERE replica IS NOT NULL;
"""
"""`try.replica` is the address that was asked, if it is another than the teacher's own base_url."""

SESSIONS = "ALTER TABLE try ADD COLUMN session_id INTEGER REFERENCES session;"
"""`try.session_id` is the session that sent the try; NULL: a session before this column, or an import."""

ONLY_ON_A_SERVER = "SELECT 1;"
"""This version differs from the one before in PostgreSQL alone."""

MIGRATIONS = (
    TABLES, SEVERAL_TEACHERS, CURVE, SELECTION, KINDS, SETTLED, CLAIMS, SHARED_CAP, WAITED, CONTINUED, STOPPED_BY,
    LOGPROBS, REWRITERS, BATCHES, STUDENT_SCORES, REPLICAS, SESSIONS,
    ONLY_ON_A_SERVER,
)  # fmt: skip
"""Migration n brings a store of version n to version n + 1. Add new migrations at the end; never change a released
one. A store in PostgreSQL has the same versions (postgresql_schema.py)."""
