-- The budget, the claim and the lease, each one function: one round trip, one transaction.
-- Every function that changes a trial locks its study's row first (the lock that Optuna itself
-- takes to number a trial), then trials: one order everywhere, so no deadlock.
-- Time is clock_timestamp() after the lock is held: now() would be the time before the wait.

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
RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT value_json::jsonb FROM trial_user_attributes WHERE trial_id = p_trial AND key = p_key
$$;

CREATE OR REPLACE FUNCTION orch.setting(p_study integer, p_key text)
RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT (spec -> 'worker' ->> p_key)::double precision FROM orch.study WHERE study_id = p_study
$$;

CREATE OR REPLACE FUNCTION orch.lock_study(p_study integer) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM studies WHERE study_id = p_study FOR NO KEY UPDATE;
    RETURN FOUND;
END
$$;

-- Insert a trial with the next number. The caller holds the study's lock.
CREATE OR REPLACE FUNCTION orch.new_trial(p_study integer, p_state trialstate)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_trial integer;
BEGIN
    INSERT INTO trials (number, study_id, state, datetime_start)
    SELECT count(*), p_study, p_state, CASE p_state WHEN 'RUNNING' THEN orch.utc_now() END
    FROM trials WHERE study_id = p_study
    RETURNING trial_id INTO v_trial;
    RETURN v_trial;
END
$$;

-- End one attempt as FAIL; queue its retry, or record the configuration as failed for good.
-- The caller holds the study's lock and has checked that the trial is RUNNING.
CREATE OR REPLACE FUNCTION orch.end_attempt(p_trial integer, p_reason text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_study integer;
    v_number integer;
    v_attempt integer := coalesce((orch.attribute(p_trial, 'orch:attempt'))::integer, 1);
    v_retry integer;
    v_first jsonb;
BEGIN
    UPDATE trials SET state = 'FAIL', datetime_complete = orch.utc_now()
    WHERE trial_id = p_trial RETURNING study_id, number INTO v_study, v_number;
    DELETE FROM orch.lease WHERE trial_id = p_trial;
    PERFORM orch.set_attribute(p_trial, 'orch:reason', to_jsonb(p_reason));
    v_first := coalesce(orch.attribute(p_trial, 'orch:retry_of'), to_jsonb(v_number));

    IF v_attempt <= orch.setting(v_study, 'max_retries') THEN
        v_retry := orch.new_trial(v_study, 'WAITING');
        INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
        SELECT v_retry, param_name, param_value, distribution_json
        FROM trial_params WHERE trial_id = p_trial ORDER BY param_id;
        INSERT INTO trial_user_attributes (trial_id, key, value_json)
        SELECT v_retry, key, value_json FROM trial_user_attributes
        WHERE trial_id = p_trial AND key NOT LIKE 'orch:%';
        -- Rungs belong to the attempt's values, which the retry earns anew.
        INSERT INTO trial_system_attributes (trial_id, key, value_json)
        SELECT v_retry, key, value_json FROM trial_system_attributes
        WHERE trial_id = p_trial AND key NOT LIKE 'completed\_rung\_%';
        PERFORM orch.set_attribute(v_retry, 'orch:retry_of', v_first);
        PERFORM orch.set_attribute(v_retry, 'orch:attempt', to_jsonb(v_attempt + 1));
        PERFORM orch.set_attribute(
            p_trial, 'orch:retried_as', (SELECT to_jsonb(number) FROM trials WHERE trial_id = v_retry)
        );
        RETURN;
    END IF;

    UPDATE orch.study SET failures_in_row = failures_in_row + 1 WHERE study_id = v_study;
    UPDATE orch.study
    SET state = 'failed',
        reason = format('%s configurations in a row failed; the last: %s', failures_in_row, p_reason)
    WHERE study_id = v_study AND state <> 'failed'
      AND failures_in_row >= orch.setting(v_study, 'max_failures');
END
$$;

-- Take back every trial whose lease has had no sign of life for the grace period.
CREATE OR REPLACE FUNCTION orch.take_back_lost(p_study integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_grace double precision := orch.setting(p_study, 'grace_seconds');
    v_lost record;
BEGIN
    FOR v_lost IN
        SELECT l.trial_id, w.name, t.state FROM orch.lease l
        JOIN trials t USING (trial_id) LEFT JOIN orch.worker w USING (worker_id)
        WHERE l.study_id = p_study
          AND l.renewed_at < clock_timestamp() - make_interval(secs => v_grace)
        ORDER BY l.trial_id
    LOOP
        IF v_lost.state = 'RUNNING' THEN
            PERFORM orch.end_attempt(
                v_lost.trial_id,
                format('lost: no sign of life from worker %s for %s s', v_lost.name, v_grace)
            );
        ELSE
            -- Somebody ended it through Optuna's own interface.
            DELETE FROM orch.lease WHERE trial_id = v_lost.trial_id;
        END IF;
    END LOOP;
END
$$;

-- The claim. outcome is one of
--   trial: trial_id is now RUNNING and leased to the worker
--   wait:  the budget is taken but not yet used; a running trial may still fail
--   done, timeout: nothing is left to do;  drained: the study was stopped
--   failed: too many failures in a row (detail says why);  gone: no such study or worker
CREATE OR REPLACE FUNCTION orch.claim_trial(p_study integer, p_worker uuid)
RETURNS TABLE (outcome text, trial_id integer, detail text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_study orch.study;
    v_finished bigint;
    v_running bigint;
    v_trial integer;
BEGIN
    IF NOT orch.lock_study(p_study) THEN
        RETURN QUERY SELECT 'gone', NULL::integer, NULL::text; RETURN;
    END IF;
    UPDATE orch.worker SET last_seen_at = clock_timestamp(), left_at = NULL
    WHERE worker_id = p_worker;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'gone', NULL::integer, NULL::text; RETURN;
    END IF;
    PERFORM orch.take_back_lost(p_study);
    SELECT * INTO v_study FROM orch.study WHERE study_id = p_study;
    IF v_study.state <> 'open' THEN
        RETURN QUERY SELECT CASE v_study.state WHEN 'failed' THEN 'failed' ELSE 'drained' END,
            NULL::integer, v_study.reason;
        RETURN;
    END IF;

    SELECT count(*) FILTER (WHERE state IN ('COMPLETE', 'PRUNED')),
           count(*) FILTER (WHERE state = 'RUNNING')
    INTO v_finished, v_running FROM trials WHERE study_id = p_study;
    IF v_finished >= v_study.budget THEN
        RETURN QUERY SELECT 'done', NULL::integer, NULL::text; RETURN;
    END IF;
    IF clock_timestamp() > v_study.opened_at + make_interval(secs => v_study.timeout_seconds) THEN
        RETURN QUERY SELECT 'timeout', NULL::integer, NULL::text; RETURN;
    END IF;
    IF v_finished + v_running >= v_study.budget THEN
        RETURN QUERY SELECT 'wait', NULL::integer, NULL::text; RETURN;
    END IF;

    -- A retry or an enqueued trial goes before a fresh one.
    UPDATE trials SET state = 'RUNNING', datetime_start = orch.utc_now()
    WHERE trial_id = (
        SELECT trial_id FROM trials WHERE study_id = p_study AND state = 'WAITING'
        ORDER BY number LIMIT 1
    ) RETURNING trial_id INTO v_trial;
    IF v_trial IS NULL THEN
        v_trial := orch.new_trial(p_study, 'RUNNING');
    END IF;
    INSERT INTO orch.lease (trial_id, study_id, worker_id, taken_at, renewed_at)
    VALUES (v_trial, p_study, p_worker, clock_timestamp(), clock_timestamp());
    RETURN QUERY SELECT 'trial', v_trial, NULL::text;
END
$$;

-- Lock the trial for its worker. False: the lease is gone, and with it the right to write.
CREATE OR REPLACE FUNCTION orch.hold_lease(p_trial integer, p_worker uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM orch.lock_study((SELECT study_id FROM trials WHERE trial_id = p_trial));
    PERFORM 1 FROM orch.lease JOIN trials USING (trial_id)
    WHERE trial_id = p_trial AND worker_id = p_worker AND state = 'RUNNING'
    FOR UPDATE;
    RETURN FOUND;
END
$$;

-- End a trial as COMPLETE or PRUNED. p_values and p_types are Optuna's stored representation.
CREATE OR REPLACE FUNCTION orch.finish_trial(
    p_trial integer, p_worker uuid, p_state trialstate,
    p_values double precision[], p_types text[], p_attributes jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_study integer;
BEGIN
    IF NOT orch.hold_lease(p_trial, p_worker) THEN
        RETURN false;
    END IF;
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    SELECT p_trial, n - 1, v, t::trialvaluetype
    FROM unnest(p_values, p_types) WITH ORDINALITY AS u(v, t, n)
    ON CONFLICT (trial_id, objective)
    DO UPDATE SET value = excluded.value, value_type = excluded.value_type;
    PERFORM orch.set_attribute(p_trial, key, value) FROM jsonb_each(p_attributes);
    UPDATE trials SET state = p_state, datetime_complete = orch.utc_now()
    WHERE trial_id = p_trial RETURNING study_id INTO v_study;
    UPDATE orch.study SET failures_in_row = 0 WHERE study_id = v_study AND failures_in_row > 0;
    PERFORM orch.leave_trial(p_trial, p_worker);
    RETURN true;
END
$$;

-- The lease ends; the worker's account of it stays.
CREATE OR REPLACE FUNCTION orch.leave_trial(p_trial integer, p_worker uuid)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_taken timestamptz;
BEGIN
    DELETE FROM orch.lease WHERE trial_id = p_trial RETURNING taken_at INTO v_taken;
    UPDATE orch.worker
    SET trials = trials + 1, last_seen_at = clock_timestamp(),
        busy_seconds = busy_seconds + extract(epoch FROM clock_timestamp() - v_taken)
    WHERE worker_id = p_worker;
END
$$;

CREATE OR REPLACE FUNCTION orch.fail_trial(
    p_trial integer, p_worker uuid, p_reason text, p_attributes jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT orch.hold_lease(p_trial, p_worker) THEN
        RETURN false;
    END IF;
    PERFORM orch.set_attribute(p_trial, key, value) FROM jsonb_each(p_attributes);
    PERFORM orch.leave_trial(p_trial, p_worker);
    PERFORM orch.end_attempt(p_trial, p_reason);
    RETURN true;
END
$$;

-- An orderly leave: the trial waits for the next worker, as the same attempt.
CREATE OR REPLACE FUNCTION orch.give_back_trial(p_trial integer, p_worker uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT orch.hold_lease(p_trial, p_worker) THEN
        RETURN false;
    END IF;
    DELETE FROM trial_intermediate_values WHERE trial_id = p_trial;
    DELETE FROM trial_system_attributes
    WHERE trial_id = p_trial AND key LIKE 'completed\_rung\_%';
    DELETE FROM orch.lease WHERE trial_id = p_trial;
    UPDATE trials SET state = 'WAITING', datetime_start = NULL WHERE trial_id = p_trial;
    RETURN true;
END
$$;
