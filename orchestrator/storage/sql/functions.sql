-- The budget, the claim and the lease, each one function: one round trip, one transaction.
-- Every function that changes a trial locks its study's row first (the lock that Optuna itself
-- takes to number a trial), then trials: one order everywhere, so no deadlock.
-- Time is clock_timestamp() after the lock is held: now() would be the time before the wait.
-- What runs for every trial is plpgsql, which keeps its plans; an SQL function plans at each call.

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

-- Insert a trial with the next number. The caller holds the study's lock.
CREATE OR REPLACE FUNCTION orch.new_trial(p_study integer, p_state trialstate)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_trial integer;
BEGIN
    INSERT INTO trials (number, study_id, state, datetime_start)
    VALUES (orch.next_number(p_study), p_study, p_state,
            CASE p_state WHEN 'RUNNING' THEN orch.utc_now() END)
    RETURNING trial_id INTO v_trial;
    RETURN v_trial;
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
        INSERT INTO trial_system_attributes (trial_id, key, value_json)
        SELECT v_retry, key, value_json FROM trial_system_attributes WHERE trial_id = p_trial;
        INSERT INTO trial_intermediate_values
            (trial_id, step, intermediate_value, intermediate_value_type)
        SELECT v_retry, step, intermediate_value, intermediate_value_type
        FROM trial_intermediate_values WHERE trial_id = p_trial;
        UPDATE orch.checkpoint SET trial_id = v_retry WHERE trial_id = p_trial;
        PERFORM orch.rewind(v_retry, orch.last_checkpoint(v_retry));
        PERFORM orch.set_attribute(v_retry, 'orch:retry_of', v_first);
        PERFORM orch.set_attribute(v_retry, 'orch:attempt', to_jsonb(v_attempt + 1));
        PERFORM orch.set_attribute(
            p_trial, 'orch:retried_as', (SELECT to_jsonb(number) FROM trials WHERE trial_id = v_retry)
        );
        RETURN;
    END IF;

    PERFORM orch.forget_checkpoints(p_trial);
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
          -- While the server was down nobody could give a sign of life.
          AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => v_grace)
        ORDER BY l.trial_id
        -- Before the trial itself, as every writer does. A locked one is just being renewed.
        FOR UPDATE OF l SKIP LOCKED
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
--   trial: trial_id is now RUNNING and leased to the worker; detail 'fresh': it is new
--   wait:  the budget is taken but not yet used; a running trial may still fail
--   plan:  a planned study has nothing queued; detail is its stage and its budget
--   done, timeout: nothing is left to do;  drained: the study was stopped
--   failed: too many failures in a row (detail says why);  gone: no such study or worker
--   schema: the worker's orch is not the one that this schema is of
CREATE OR REPLACE FUNCTION orch.claim_trial(p_study integer, p_worker uuid, p_version integer)
RETURNS TABLE (outcome text, trial_id integer, detail text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_study orch.study;
    v_finished bigint;
    v_running bigint;
    v_trial integer;
    v_detail text;
BEGIN
    IF p_version <> (SELECT version FROM orch.schema_version) THEN
        RETURN QUERY SELECT 'schema', NULL::integer, NULL::text; RETURN;
    END IF;
    IF NOT orch.lock_study(p_study) THEN
        RETURN QUERY SELECT 'gone', NULL::integer, NULL::text; RETURN;
    END IF;
    UPDATE orch.worker SET last_seen_at = clock_timestamp(), left_at = NULL
    WHERE worker_id = p_worker;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'gone', NULL::integer, NULL::text; RETURN;
    END IF;
    PERFORM orch.take_back_lost(p_study);
    -- A worker whose connection broke before it read the answer asks again.
    SELECT l.trial_id INTO v_trial FROM orch.lease l JOIN trials t USING (trial_id)
    WHERE l.worker_id = p_worker AND t.state = 'RUNNING';
    IF v_trial IS NOT NULL THEN
        UPDATE orch.lease SET renewed_at = clock_timestamp() WHERE trial_id = v_trial;
        RETURN QUERY SELECT 'trial', v_trial, NULL::text; RETURN;
    END IF;

    SELECT * INTO v_study FROM orch.study WHERE study_id = p_study;
    IF v_study.state <> 'open' THEN
        RETURN QUERY SELECT CASE v_study.state WHEN 'failed' THEN 'failed'
                WHEN 'exhausted' THEN 'done' ELSE 'drained' END,
            NULL::integer, v_study.reason;
        RETURN;
    END IF;

    -- Counted by those that are not finished: the cost does not grow with those that are.
    SELECT orch.next_number(p_study) - count(*), count(*) FILTER (WHERE state = 'RUNNING')
    INTO v_finished, v_running FROM trials
    WHERE study_id = p_study AND state IN ('RUNNING', 'WAITING', 'FAIL');
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
    UPDATE trials SET state = 'RUNNING', datetime_start = coalesce(datetime_start, orch.utc_now())
    WHERE trial_id = (
        SELECT trial_id FROM trials t WHERE study_id = p_study AND state = 'WAITING'
          AND NOT EXISTS (
              SELECT 1 FROM trial_system_attributes a
              WHERE a.trial_id = t.trial_id AND a.key = 'orch:paused')
        ORDER BY number LIMIT 1
    ) RETURNING trial_id INTO v_trial;
    IF v_trial IS NULL AND v_study.planned THEN
        RETURN QUERY SELECT 'plan', NULL::integer,
            format('%s %s', v_study.stage, v_study.budget);
        RETURN;
    END IF;
    IF v_trial IS NULL THEN
        v_trial := orch.new_trial(p_study, 'RUNNING');
        v_detail := 'fresh';
    END IF;
    INSERT INTO orch.lease (trial_id, study_id, worker_id, taken_at, renewed_at)
    VALUES (v_trial, p_study, p_worker, clock_timestamp(), clock_timestamp());
    RETURN QUERY SELECT 'trial', v_trial, v_detail;
END
$$;

-- The claim, and the trials that changed since p_since (see orch.changes; NULL: not asked for).
-- They are read before the study is locked, so that nobody waits for a long answer; afterwards only
-- the claimed trial and p_ended, which this transaction has changed.
CREATE OR REPLACE FUNCTION orch.claim(
    p_study integer, p_worker uuid, p_version integer, p_changes json, p_ended integer
) RETURNS TABLE (outcome text, trial_id integer, detail text, changes json) LANGUAGE plpgsql AS $$
BEGIN
    SELECT * INTO outcome, trial_id, detail FROM orch.claim_trial(p_study, p_worker, p_version);
    IF outcome IN ('trial', 'plan') AND p_changes IS NOT NULL THEN
        changes := json_build_object(
            'cursor', p_changes -> 'cursor', 'trials', p_changes -> 'trials',
            'own', orch.changes(p_study, NULL, ARRAY[trial_id, p_ended]) -> 'trials');
    END IF;
    RETURN NEXT;
END
$$;

CREATE OR REPLACE FUNCTION orch.changes_if_asked(p_study integer, p_since text) RETURNS json
LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE WHEN p_since IS NOT NULL THEN orch.changes(p_study, p_since, '{}') END;
END
$$;

-- Queue configurations as WAITING trials with fixed parameters, as Optuna's enqueue_trial does.
-- p_user and p_system are attributes, one object for each trial. The caller holds the study's lock.
CREATE OR REPLACE FUNCTION orch.queue_trials(
    p_study integer, p_configurations jsonb, p_user jsonb, p_system jsonb
) RETURNS void LANGUAGE sql AS $$
    WITH wanted AS (
        SELECT p_user -> (place - 1)::integer AS user_attributes,
               coalesce(p_system -> (place - 1)::integer, '{}')
                   || jsonb_build_object('fixed_params', value) AS system_attributes,
               orch.next_number(p_study) + place - 1 AS number
        FROM jsonb_array_elements(p_configurations) WITH ORDINALITY AS e(value, place)
    ), made AS (
        INSERT INTO trials (number, study_id, state)
        SELECT number, p_study, 'WAITING' FROM wanted ORDER BY number
        RETURNING trial_id, number
    ), fixed AS (
        INSERT INTO trial_system_attributes (trial_id, key, value_json)
        SELECT m.trial_id, a.key, a.value::text
        FROM made m JOIN wanted w USING (number), jsonb_each(w.system_attributes) AS a
    )
    INSERT INTO trial_user_attributes (trial_id, key, value_json)
    SELECT m.trial_id, a.key, a.value::text
    FROM made m JOIN wanted w USING (number), jsonb_each(w.user_attributes) AS a
$$;

-- Take the next stage. The study's lock is held from here on. False: p_stage is not the study's
-- stage any more; another plan came first (NULL: whatever the stage).
CREATE OR REPLACE FUNCTION orch.take_stage(p_study integer, p_stage integer) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT orch.lock_study(p_study) THEN
        RETURN false;
    END IF;
    UPDATE orch.study SET stage = stage + 1
    WHERE study_id = p_study AND stage = coalesce(p_stage, stage);
    RETURN FOUND;
END
$$;

CREATE OR REPLACE FUNCTION orch.enqueue_trials(
    p_study integer, p_stage integer, p_configurations jsonb, p_attributes jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT orch.take_stage(p_study, p_stage) THEN
        RETURN false;
    END IF;
    PERFORM orch.queue_trials(p_study, p_configurations, p_attributes, NULL);
    RETURN true;
END
$$;

-- A plan's step: queue trials, promote paused ones to their next round, end the others.
CREATE OR REPLACE FUNCTION orch.advance_plan(
    p_study integer, p_stage integer, p_configurations jsonb, p_attributes jsonb,
    p_promote integer[], p_prune integer[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT orch.take_stage(p_study, p_stage) THEN
        RETURN false;
    END IF;
    PERFORM orch.queue_trials(p_study, p_configurations, NULL, p_attributes);
    UPDATE trial_system_attributes SET value_json = (value_json::integer + 1)::text
    WHERE trial_id = ANY (p_promote) AND key = 'orch:round';
    DELETE FROM trial_system_attributes
    WHERE trial_id = ANY (p_promote || p_prune) AND key = 'orch:paused';
    -- Optuna's rule: the value of a pruned trial is the last one that it reported.
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    SELECT DISTINCT ON (trial_id) trial_id, 0, intermediate_value,
           intermediate_value_type::text::trialvaluetype
    FROM trial_intermediate_values
    WHERE trial_id = ANY (p_prune) AND intermediate_value_type <> 'NAN'
    ORDER BY trial_id, step DESC;
    UPDATE trials SET state = 'PRUNED', datetime_complete = orch.utc_now()
    WHERE trial_id = ANY (p_prune) AND state = 'WAITING';
    PERFORM orch.forget_checkpoints(trial_id) FROM unnest(p_prune) AS u(trial_id);
    RETURN true;
END
$$;

-- A trial that has ended its round waits for a promotion; its worker takes another one.
CREATE OR REPLACE FUNCTION orch.pause_trial(p_trial integer, p_worker uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_taken timestamptz;
BEGIN
    IF NOT orch.hold_lease(p_trial, p_worker) THEN
        RETURN false;
    END IF;
    DELETE FROM orch.lease WHERE trial_id = p_trial RETURNING taken_at INTO v_taken;
    UPDATE orch.worker SET busy_seconds = busy_seconds
        + extract(epoch FROM clock_timestamp() - v_taken) WHERE worker_id = p_worker;
    UPDATE trials SET state = 'WAITING' WHERE trial_id = p_trial;
    INSERT INTO trial_system_attributes (trial_id, key, value_json)
    VALUES (p_trial, 'orch:paused', 'true') ON CONFLICT DO NOTHING;
    RETURN true;
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

CREATE OR REPLACE FUNCTION orch.set_values(
    p_trial integer, p_values double precision[], p_types text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    SELECT p_trial, n - 1, v, t::trialvaluetype
    FROM unnest(p_values, p_types) WITH ORDINALITY AS u(v, t, n)
    ON CONFLICT (trial_id, objective)
    DO UPDATE SET value = excluded.value, value_type = excluded.value_type;
END
$$;

-- End a trial as COMPLETE or PRUNED. p_values and p_types are Optuna's stored representation;
-- p_writes is all that the trial ever wrote, for what a crash of the server has lost of it.
CREATE OR REPLACE FUNCTION orch.finish_trial(
    p_trial integer, p_worker uuid, p_state trialstate,
    p_values double precision[], p_types text[], p_attributes jsonb, p_writes jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_study integer;
BEGIN
    IF NOT orch.hold_lease(p_trial, p_worker) THEN
        -- Asked again after a broken connection: true when it was this worker that ended it.
        RETURN EXISTS (
            SELECT 1 FROM trials WHERE trial_id = p_trial AND state = p_state
        ) AND orch.attribute(p_trial, 'orch:lease') = to_jsonb(p_worker::text);
    END IF;
    PERFORM orch.store(p_trial, p_writes);
    INSERT INTO trial_user_attributes (trial_id, key, value_json)
    SELECT p_trial, key, value::text
    FROM jsonb_each(p_attributes || jsonb_build_object('orch:lease', p_worker::text))
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json;
    PERFORM orch.set_values(p_trial, p_values, p_types);
    UPDATE trials SET state = p_state, datetime_complete = orch.utc_now()
    WHERE trial_id = p_trial RETURNING study_id INTO v_study;
    UPDATE orch.study SET failures_in_row = 0 WHERE study_id = v_study AND failures_in_row > 0;
    PERFORM orch.forget_checkpoints(p_trial);
    PERFORM orch.leave_trial(p_trial, p_worker);
    RETURN true;
END
$$;

-- The end of one trial and the claim of the next: one round trip, one wait for the disk. Asked
-- again after a broken connection, the end is known and the claimed trial is still the worker's.
CREATE OR REPLACE FUNCTION orch.finish_and_claim(
    p_trial integer, p_worker uuid, p_state trialstate,
    p_values double precision[], p_types text[], p_attributes jsonb, p_writes jsonb,
    p_study integer, p_version integer, p_since text
) RETURNS TABLE (held boolean, outcome text, trial_id integer, detail text, changes json)
LANGUAGE plpgsql AS $$
DECLARE
    v_changes json := orch.changes_if_asked(p_study, p_since);
BEGIN
    held := orch.finish_trial(
        p_trial, p_worker, p_state, p_values, p_types, p_attributes, p_writes);
    IF held THEN
        SELECT c.* INTO outcome, trial_id, detail, changes
        FROM orch.claim(p_study, p_worker, p_version, v_changes, p_trial) c;
    END IF;
    RETURN NEXT;
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
    PERFORM orch.rewind(p_trial, orch.last_checkpoint(p_trial));
    DELETE FROM orch.lease WHERE trial_id = p_trial;
    UPDATE trials SET state = 'WAITING', datetime_start = NULL WHERE trial_id = p_trial;
    RETURN true;
END
$$;

-- Store what a trial has drawn, noted and reported; repeating it changes nothing. p_writes has
-- steps, values and types (of the reported values), params ([name, value, distribution as JSON
-- text]), and the attributes user and system (JSON text by key). A key may be missing.
CREATE OR REPLACE FUNCTION orch.store(p_trial integer, p_writes jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- What is there already is left alone, not locked: a trial's end repeats everything.
    IF p_writes ? 'params' THEN
        INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
        SELECT p_trial, p ->> 0, (p ->> 1)::double precision, p ->> 2
        FROM jsonb_array_elements(p_writes -> 'params') WITH ORDINALITY AS e(p, place)
        WHERE NOT EXISTS (
            SELECT 1 FROM trial_params o WHERE o.trial_id = p_trial AND o.param_name = p ->> 0
              AND o.param_value = (p ->> 1)::double precision AND o.distribution_json = p ->> 2)
        ORDER BY place
        ON CONFLICT (trial_id, param_name) DO UPDATE
        SET param_value = excluded.param_value, distribution_json = excluded.distribution_json;
    END IF;
    IF p_writes ? 'values' THEN
        INSERT INTO trial_intermediate_values
            (trial_id, step, intermediate_value, intermediate_value_type)
        SELECT p_trial, (v ->> 0)::integer, (v ->> 1)::double precision,
               (v ->> 2)::trialintermediatevaluetype
        FROM jsonb_array_elements(p_writes -> 'values') AS e(v)
        WHERE NOT EXISTS (
            SELECT 1 FROM trial_intermediate_values o
            WHERE o.trial_id = p_trial AND o.step = (v ->> 0)::integer
              AND o.intermediate_value IS NOT DISTINCT FROM (v ->> 1)::double precision
              AND o.intermediate_value_type::text = v ->> 2)
        ON CONFLICT (trial_id, step) DO UPDATE
        SET intermediate_value = excluded.intermediate_value,
            intermediate_value_type = excluded.intermediate_value_type;
    END IF;
    IF p_writes ? 'user' THEN
        INSERT INTO trial_user_attributes (trial_id, key, value_json)
        SELECT p_trial, e.key, e.value FROM jsonb_each_text(p_writes -> 'user') AS e
        WHERE NOT EXISTS (
            SELECT 1 FROM trial_user_attributes o
            WHERE o.trial_id = p_trial AND o.key = e.key AND o.value_json = e.value)
        ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json;
    END IF;
    IF p_writes ? 'system' THEN
        INSERT INTO trial_system_attributes (trial_id, key, value_json)
        SELECT p_trial, e.key, e.value FROM jsonb_each_text(p_writes -> 'system') AS e
        WHERE NOT EXISTS (
            SELECT 1 FROM trial_system_attributes o
            WHERE o.trial_id = p_trial AND o.key = e.key AND o.value_json = e.value)
        ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json;
    END IF;
END
$$;

-- What a trial writes while it runs; a sign of life too. It may wait for the disk only when it is
-- durable: what a crash of the server loses, the worker writes again with the trial's end.
CREATE OR REPLACE FUNCTION orch.write_trial(
    p_trial integer, p_worker uuid, p_writes jsonb, p_durable boolean, p_since text
) RETURNS TABLE (held boolean, changes json) LANGUAGE plpgsql AS $$
DECLARE
    v_study integer;
BEGIN
    IF NOT p_durable THEN
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;
    -- The lease's row is locked against its being taken back until all is in.
    UPDATE orch.lease l SET renewed_at = clock_timestamp() FROM trials t
    WHERE l.trial_id = p_trial AND l.worker_id = p_worker
      AND t.trial_id = l.trial_id AND t.state = 'RUNNING'
    RETURNING t.study_id INTO v_study;
    held := FOUND;
    IF held THEN
        PERFORM orch.store(p_trial, p_writes);
        UPDATE orch.worker SET last_seen_at = clock_timestamp() WHERE worker_id = p_worker;
        IF p_since IS NOT NULL THEN
            -- Its own trial it knows best.
            changes := orch.changes(v_study, p_since, '{}', p_trial);
        END IF;
    END IF;
    RETURN NEXT;
END
$$;

-- Record a checkpoint that is whole in its store, and what the trial wrote that is not delivered
-- yet. Returns the artifacts that it makes needless.
CREATE OR REPLACE FUNCTION orch.save_checkpoint(
    p_trial integer, p_worker uuid, p_step integer, p_artifact text, p_sha256 text,
    p_writes jsonb
) RETURNS TABLE (held boolean, artifact_id text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM orch.lease WHERE trial_id = p_trial AND worker_id = p_worker FOR SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT false, p_artifact; RETURN;
    END IF;
    PERFORM orch.store(p_trial, p_writes);
    INSERT INTO orch.checkpoint (artifact_id, trial_id, step, sha256)
    VALUES (p_artifact, p_trial, p_step, p_sha256) ON CONFLICT DO NOTHING;
    RETURN QUERY
        WITH needless AS (
            SELECT artifact_id FROM orch.checkpoint WHERE trial_id = p_trial
            ORDER BY step DESC, saved_at DESC OFFSET 2
        )
        DELETE FROM orch.checkpoint c USING needless n WHERE c.artifact_id = n.artifact_id
        RETURNING true, c.artifact_id;
END
$$;

-- Training goes on after this step.
CREATE OR REPLACE FUNCTION orch.resume_trial(p_trial integer, p_worker uuid, p_step integer)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT orch.hold_lease(p_trial, p_worker) THEN
        RETURN false;
    END IF;
    PERFORM orch.rewind(p_trial, p_step);
    RETURN true;
END
$$;

-- Whether a trial of this value would be among the p_keep best whose models are kept.
CREATE OR REPLACE FUNCTION orch.is_model_wanted(
    p_study integer, p_value double precision, p_keep integer
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT count(*) < p_keep
    FROM orch.model m JOIN trial_values v USING (trial_id)
    JOIN study_directions d ON d.study_id = m.study_id AND d.objective = v.objective
    WHERE m.study_id = p_study AND v.objective = 0
      AND CASE d.direction WHEN 'MAXIMIZE' THEN v.value >= p_value ELSE v.value <= p_value END
$$;

-- Keep the models of the best p_keep trials. Returns the artifacts that fall out. The attribute is
-- Optuna's own note of an artifact, by which optuna-dashboard finds it.
CREATE OR REPLACE FUNCTION orch.keep_model(
    p_trial integer, p_artifact text, p_sha256 text, p_keep integer
) RETURNS TABLE (artifact_id text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_study integer := (SELECT study_id FROM trials WHERE trial_id = p_trial);
    v_sign integer;
BEGIN
    PERFORM orch.lock_study(v_study);
    SELECT CASE direction WHEN 'MAXIMIZE' THEN -1 ELSE 1 END INTO v_sign
    FROM study_directions WHERE study_id = v_study AND objective = 0;
    INSERT INTO orch.model (artifact_id, trial_id, study_id, sha256)
    VALUES (p_artifact, p_trial, v_study, p_sha256) ON CONFLICT DO NOTHING;
    INSERT INTO trial_system_attributes (trial_id, key, value_json)
    VALUES (p_trial, 'artifacts:' || p_artifact, jsonb_build_object(
        'artifact_id', p_artifact, 'filename', 'model.keras',
        'mimetype', 'application/octet-stream', 'encoding', NULL)::text)
    ON CONFLICT DO NOTHING;
    RETURN QUERY
        WITH ranked AS (
            SELECT m.artifact_id, m.trial_id,
                   row_number() OVER (ORDER BY v_sign * v.value, t.number) AS place
            FROM orch.model m JOIN trials t USING (trial_id) JOIN trial_values v USING (trial_id)
            WHERE m.study_id = v_study AND v.objective = 0
        ), forgotten AS (
            DELETE FROM trial_system_attributes a USING ranked r
            WHERE r.place > p_keep AND a.trial_id = r.trial_id
              AND a.key = 'artifacts:' || r.artifact_id
        )
        DELETE FROM orch.model m USING ranked r
        WHERE r.place > p_keep AND m.artifact_id = r.artifact_id
        RETURNING m.artifact_id;
END
$$;
