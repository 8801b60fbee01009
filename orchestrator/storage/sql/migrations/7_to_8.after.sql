-- Locks orch.change and orch.study.

ALTER TABLE orch.change DROP COLUMN IF EXISTS touched;

-- The spec alone has the budget and the timeout.
ALTER TABLE orch.study DROP COLUMN IF EXISTS timeout_seconds;
ALTER TABLE orch.study DROP COLUMN budget, ADD COLUMN budget integer
    GENERATED ALWAYS AS ((spec #>> '{study,trials}')::integer) STORED
    NOT NULL CHECK (budget >= 1);
