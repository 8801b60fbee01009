-- Trials as every other file of functions needs them.
--
-- Locks are taken in one order everywhere, so that no two transactions wait for each other:
--
--   1. the study    its row in studies (Optuna itself locks it to number a trial), then in orch.study
--   2. the lease    of several, by the trial's id
--   3. the trial    its row in trials, of several by its id; then its other rows, and that in orch.change
--   4. the worker   its row in orch.worker
--
-- Whoever needs fewer leaves some out: a writer begins at the lease, one who holds none at the trial.
-- A row that refers to a trial or a study takes a share of that row's lock, so insert it in its turn.
-- tests/worker/test_lock_order.py holds all that workers call to it.
--
-- Time is clock_timestamp() after the lock is held: now() would be the time before the wait.
-- What runs for every trial is plpgsql, which keeps its plans; an SQL function plans at each call.
-- calls.sql says what workers call, and with which settings and rights.

CREATE OR REPLACE FUNCTION orch.utc_now() RETURNS timestamp LANGUAGE sql VOLATILE AS $$
    SELECT clock_timestamp() AT TIME ZONE 'UTC'
$$;

CREATE OR REPLACE FUNCTION orch.set_attribute(p_trial integer, p_key text, p_value jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO trial_user_attributes (trial_id, key, value_json)
    VALUES (p_trial, p_key, p_value::text)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
$$;

CREATE OR REPLACE FUNCTION orch.attribute(p_trial integer, p_key text)
RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT value_json::jsonb FROM trial_user_attributes
            WHERE trial_id = p_trial AND key = p_key);
END
$$;

CREATE OR REPLACE FUNCTION orch.setting(p_study integer, p_key text)
RETURNS double precision LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT (spec -> 'worker' ->> p_key)::double precision FROM orch.study
            WHERE study_id = p_study);
END
$$;

CREATE OR REPLACE FUNCTION orch.lock_study(p_study integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM studies WHERE study_id = p_study FOR NO KEY UPDATE;
    RETURN FOUND;
END
$$;

-- Numbers have no gaps, so this is also how many trials there are.
CREATE OR REPLACE FUNCTION orch.next_number(p_study integer) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT coalesce(max(number) + 1, 0) FROM trials WHERE study_id = p_study);
END
$$;

-- Insert a trial. The caller holds the study's lock.
CREATE OR REPLACE FUNCTION orch.add_numbered(p_study integer, p_number integer, p_state trialstate)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_trial integer := nextval('trials_trial_id_seq');
    v_setting text := set_config('orch.noted', v_trial::text, true);
BEGIN
    INSERT INTO trials (trial_id, number, study_id, state, datetime_start)
    VALUES (v_trial, p_number, p_study, p_state,
            CASE p_state WHEN 'RUNNING' THEN clock_timestamp() AT TIME ZONE 'UTC' END);
    INSERT INTO orch.change (trial_id, study_id, xid)
    VALUES (v_trial, p_study, pg_current_xact_id());
    RETURN v_trial;
END
$$;

-- With the next number.
CREATE OR REPLACE FUNCTION orch.new_trial(p_study integer, p_state trialstate)
RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
    RETURN orch.add_numbered(p_study, orch.next_number(p_study), p_state);
END
$$;

CREATE OR REPLACE FUNCTION orch.last_checkpoint(p_trial integer) RETURNS integer
LANGUAGE sql STABLE AS $$
    SELECT coalesce(max(step), -1) FROM orch.checkpoint WHERE trial_id = p_trial
$$;

-- Back to where training goes on: later values are earned anew. From the start (-1), rungs too.
CREATE OR REPLACE FUNCTION orch.rewind(p_trial integer, p_step integer) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM trial_intermediate_values WHERE trial_id = p_trial AND step > p_step;
    DELETE FROM orch.logged WHERE trial_id = p_trial AND step > p_step;
    DELETE FROM trial_system_attributes
    WHERE trial_id = p_trial AND key LIKE 'completed\_rung\_%' AND p_step < 0;
    UPDATE orch.change SET xid = pg_current_xact_id() WHERE trial_id = p_trial AND p_step < 0;
$$;

CREATE OR REPLACE FUNCTION orch.forget_checkpoints(p_trial integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM orch.artifact a USING orch.checkpoint c
    WHERE c.trial_id = p_trial AND a.artifact_id = c.artifact_id;
    DELETE FROM orch.checkpoint WHERE trial_id = p_trial;
END
$$;
