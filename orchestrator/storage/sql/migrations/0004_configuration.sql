-- Locks trials against writers, for a moment: the new table refers to it.

-- The configurations that the trials of a finite space have drawn: no other trial draws them again.
CREATE TABLE orch.configuration (
    study_id integer NOT NULL,
    -- Equal for equal configurations; see FiniteSpace in orchestrator/search/space.py.
    key text NOT NULL,
    trial_id integer NOT NULL REFERENCES trials ON DELETE CASCADE,
    PRIMARY KEY (study_id, key)
);

CREATE INDEX configuration_of_trial ON orch.configuration (trial_id);

-- How many configurations there are, each to be tried once. NULL: infinitely many, or too many to
-- list, or they may be tried again.
ALTER TABLE orch.study ADD COLUMN configurations integer;
