-- Our own tables, beside Optuna's, in a schema of their own. Optuna's tables keep their columns and
-- constraints; they get three indexes and the triggers that note which trials change.
-- Run inside one transaction that holds the set-up lock.

CREATE SCHEMA IF NOT EXISTS orch;

CREATE TABLE IF NOT EXISTS orch.schema_version (
    version integer NOT NULL
);

-- What a study is, beyond what Optuna keeps of it.
CREATE TABLE IF NOT EXISTS orch.study (
    study_id integer PRIMARY KEY REFERENCES studies ON DELETE CASCADE,
    spec jsonb NOT NULL,
    budget integer GENERATED ALWAYS AS ((spec #>> '{study,trials}')::integer) STORED
        NOT NULL CHECK (budget >= 1),
    data jsonb,
    state text NOT NULL DEFAULT 'open',
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

-- Bytes by name, in chunks: checkpoints and kept models, where no shared disk is to be had.
CREATE TABLE IF NOT EXISTS orch.artifact (
    artifact_id text PRIMARY KEY,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS orch.artifact_chunk (
    artifact_id text NOT NULL REFERENCES orch.artifact ON DELETE CASCADE,
    part integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (artifact_id, part)
);

-- Which artifact continues which trial. The newest two are kept: the newest may be damaged.
CREATE TABLE IF NOT EXISTS orch.checkpoint (
    artifact_id text PRIMARY KEY,
    trial_id integer NOT NULL REFERENCES trials ON DELETE CASCADE,
    step integer NOT NULL,
    sha256 text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS checkpoint_trial ON orch.checkpoint (trial_id, step DESC);

-- The models of the best trials.
CREATE TABLE IF NOT EXISTS orch.model (
    artifact_id text PRIMARY KEY,
    trial_id integer NOT NULL REFERENCES trials ON DELETE CASCADE,
    study_id integer NOT NULL REFERENCES studies ON DELETE CASCADE,
    sha256 text NOT NULL
);

-- What later versions added; an older schema is brought up by running this file again.
ALTER TABLE orch.study DROP CONSTRAINT IF EXISTS study_state_check;
ALTER TABLE orch.study ADD CONSTRAINT study_state_check
    CHECK (state IN ('open', 'stopping', 'exhausted', 'failed'));
-- A planned study runs what is queued, and asks for a plan when the queue is empty. The stage
-- counts the plans that were queued: of two workers that plan at once, one is too late.
ALTER TABLE orch.study ADD COLUMN IF NOT EXISTS planned boolean NOT NULL DEFAULT false;
ALTER TABLE orch.study ADD COLUMN IF NOT EXISTS stage integer NOT NULL DEFAULT 0;
-- A failed study is failed because it is used wrongly: then no trial can succeed.
ALTER TABLE orch.study ADD COLUMN IF NOT EXISTS wrong_use boolean NOT NULL DEFAULT false;
DROP FUNCTION IF EXISTS orch.report_values;
DROP FUNCTION IF EXISTS orch.save_checkpoint;
DROP FUNCTION IF EXISTS orch.end_attempt(integer, text);
DROP FUNCTION IF EXISTS orch.changes_and_own(integer, text, json, integer, integer[]);
-- Other functions whose parameters are now others stay beside the new ones, so that a worker of the
-- version before can report and end its trial; its next claim tells it of the new version.
-- What a report needs to know of the objective, so that it need not import it: see
-- orchestrator/spec/facts.py. NULL: nobody has loaded the objective since this column came.
ALTER TABLE orch.study ADD COLUMN IF NOT EXISTS objective jsonb;
-- The last write of the trial that the server has taken, counted by the worker.
ALTER TABLE orch.lease ADD COLUMN IF NOT EXISTS serial integer NOT NULL DEFAULT 0;

-- By whom a trial was last changed. A reader that knows the oldest transaction that was running
-- when it last read needs no more than what has been written since by that one or a newer one.
-- What a RUNNING trial reports is no change: samplers and pruners look at it when the trial ends.
CREATE TABLE IF NOT EXISTS orch.change (
    trial_id integer PRIMARY KEY REFERENCES trials ON DELETE CASCADE,
    study_id integer NOT NULL,
    xid xid8 NOT NULL
);

CREATE INDEX IF NOT EXISTS change_study ON orch.change (study_id, xid);
-- The worker that ended the trial: a worker whose connection broke asks again.
ALTER TABLE orch.change ADD COLUMN IF NOT EXISTS ended_by uuid;
ALTER TABLE orch.change DROP COLUMN IF EXISTS touched;

-- When the server started, and what it is called from then until it ends: orch.position_now.
CREATE UNLOGGED TABLE IF NOT EXISTS orch.server_start (
    started_at timestamptz PRIMARY KEY,
    server uuid NOT NULL
);

-- The spec alone has the budget and the timeout.
ALTER TABLE orch.study DROP COLUMN IF EXISTS timeout_seconds;
DO $$ BEGIN
    IF (SELECT attgenerated = '' FROM pg_attribute
        WHERE attrelid = 'orch.study'::regclass AND attname = 'budget') THEN
        ALTER TABLE orch.study DROP COLUMN budget, ADD COLUMN budget integer
            GENERATED ALWAYS AS ((spec #>> '{study,trials}')::integer) STORED
            NOT NULL CHECK (budget >= 1);
    END IF;
END $$;

-- Constraints that trials hold (orch.able_trials).
CREATE INDEX IF NOT EXISTS orch_constraints ON trial_system_attributes (trial_id)
    WHERE key = 'constraints' OR key LIKE 'constraints:%';
-- The claim's counts: the newest number, and the trials that are not COMPLETE or PRUNED.
CREATE INDEX IF NOT EXISTS orch_trials_number ON trials (study_id, number);
CREATE INDEX IF NOT EXISTS orch_trials_unfinished ON trials (study_id, state, number)
    WHERE state IN ('RUNNING', 'WAITING', 'FAIL');
