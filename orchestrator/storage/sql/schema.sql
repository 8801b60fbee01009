-- Our own tables, beside Optuna's, in a schema of their own. Optuna's tables are never altered.
-- Run inside one transaction that holds the set-up lock.

CREATE SCHEMA IF NOT EXISTS orch;

CREATE TABLE IF NOT EXISTS orch.schema_version (
    version integer NOT NULL
);

-- What a study is, beyond what Optuna keeps of it.
CREATE TABLE IF NOT EXISTS orch.study (
    study_id integer PRIMARY KEY REFERENCES studies ON DELETE CASCADE,
    spec jsonb NOT NULL,
    budget integer NOT NULL CHECK (budget >= 1),
    timeout_seconds double precision,
    data jsonb,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'stopping', 'failed')),
    reason text,
    failures_in_row integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- The timeout counts from here: the last time that somebody asked for work.
    opened_at timestamptz NOT NULL DEFAULT now()
);

-- One row for each worker process that ever took part.
CREATE TABLE IF NOT EXISTS orch.worker (
    worker_id uuid PRIMARY KEY,
    study_id integer NOT NULL REFERENCES studies ON DELETE CASCADE,
    name text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),
    left_at timestamptz,
    trials integer NOT NULL DEFAULT 0,
    busy_seconds double precision NOT NULL DEFAULT 0
);

CREATE INDEX IF NOT EXISTS worker_study ON orch.worker (study_id);

-- Who may write to a RUNNING trial. No lease, no right: the claim, the heartbeat and the end
-- all go through this row.
CREATE TABLE IF NOT EXISTS orch.lease (
    trial_id integer PRIMARY KEY REFERENCES trials ON DELETE CASCADE,
    study_id integer NOT NULL REFERENCES studies ON DELETE CASCADE,
    worker_id uuid NOT NULL,
    taken_at timestamptz NOT NULL,
    renewed_at timestamptz NOT NULL
);

CREATE INDEX IF NOT EXISTS lease_study ON orch.lease (study_id);
