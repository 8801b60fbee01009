-- Locks orch.study, and trial_system_attributes against writes while its index is made: a second for
-- some million rows.

ALTER TABLE orch.study ADD COLUMN IF NOT EXISTS wrong_use boolean NOT NULL DEFAULT false;
ALTER TABLE orch.study ADD COLUMN IF NOT EXISTS objective jsonb;

CREATE INDEX IF NOT EXISTS orch_constraints ON trial_system_attributes (trial_id)
    WHERE key = 'constraints' OR key LIKE 'constraints:%';
