-- Configurations: in a finite space, none is drawn twice.

-- A worker begins: how many configurations there are, and which ones the trials so far have had.
CREATE OR REPLACE FUNCTION orch.list_configurations(
    p_study integer, p_count integer, p_keys text[], p_trials integer[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT orch.lock_study(p_study) THEN
        RETURN;
    END IF;
    UPDATE orch.study SET configurations = p_count
    WHERE study_id = p_study AND configurations IS DISTINCT FROM p_count;
    INSERT INTO orch.configuration (study_id, key, trial_id)
    SELECT p_study, u.key, t.trial_id
    FROM unnest(p_keys, p_trials) AS u(key, trial_id) JOIN trials t USING (trial_id)
    ORDER BY u.trial_id
    ON CONFLICT DO NOTHING;
END
$$;

-- Keep a configuration for a trial, and store its parameters (as orch.store takes them). is_new:
-- false where another trial has it; then nothing is stored, unless the trial takes it anyway.
CREATE OR REPLACE FUNCTION orch.keep_configuration(
    p_trial integer, p_token uuid, p_key text, p_writes jsonb, p_anyway boolean,
    OUT held boolean, OUT is_new boolean
) LANGUAGE plpgsql AS $$
DECLARE
    v_study integer := (SELECT study_id FROM trials WHERE trial_id = p_trial);
    v_setting text;
BEGIN
    held := orch.hold_lease(p_trial, orch.worker_of(p_token));
    IF NOT held THEN
        RETURN;
    END IF;
    INSERT INTO orch.configuration (study_id, key, trial_id) VALUES (v_study, p_key, p_trial)
    ON CONFLICT DO NOTHING;
    -- A worker whose connection broke before it read the answer asks again.
    is_new := EXISTS (
        SELECT FROM orch.configuration
        WHERE study_id = v_study AND key = p_key AND trial_id = p_trial);
    IF is_new OR p_anyway THEN
        v_setting := set_config('orch.noted', p_trial::text, true);
        PERFORM orch.store(p_trial, p_writes);
        PERFORM orch.note(p_trial);
    END IF;
END
$$;

-- Whether a fresh trial would find a configuration that no trial has: "yes"; "wait": one that is
-- running may yet take the last; "no". The caller holds the study's lock.
CREATE OR REPLACE FUNCTION orch.finds_configuration(p_study integer, p_count integer)
RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_left integer := p_count - (SELECT count(*) FROM orch.configuration WHERE study_id = p_study);
BEGIN
    IF v_left <= 0 THEN
        RETURN 'no';
    END IF;
    RETURN CASE WHEN v_left > (
        SELECT count(*) FROM trials t WHERE t.study_id = p_study AND t.state = 'RUNNING'
            AND NOT EXISTS (SELECT FROM orch.configuration c WHERE c.trial_id = t.trial_id)
    ) THEN 'yes' ELSE 'wait' END;
END
$$;
