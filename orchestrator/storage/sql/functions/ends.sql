-- Ends: a trial is COMPLETE or PRUNED, fails, or goes back to the queue.

-- End a trial as COMPLETE or PRUNED. p_values and p_types are Optuna's stored representation. The
-- answer is one of
--   ended:   by this call, or by an earlier one of this worker whose answer was lost
--   lost:    the lease is gone; nothing was written
--   lacking: nothing was written. The server has crashed and lost what it was told without waiting
--            for the disk; the worker asks again with everything, and 0 for p_serial.
-- p_serial is the number of the trial's newest write that has arrived. What a server finds again
-- after a crash is what was committed up to some moment: where the newest write is there, all are;
-- and the end's commit waits until all before it is on the disk. p_writes is what did not arrive.
CREATE OR REPLACE FUNCTION orch.finish_trial(
    p_trial integer, p_worker uuid, p_state trialstate, p_values double precision[],
    p_types text[], p_attributes jsonb, p_serial integer, p_writes jsonb
) RETURNS text LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET jit = off AS $$
DECLARE
    v_study integer;
    v_taken timestamptz;
    v_checkpoints boolean;
    v_setting text;
BEGIN
    SELECT study_id INTO v_study FROM studies
    WHERE study_id = (SELECT study_id FROM trials WHERE trial_id = p_trial) FOR NO KEY UPDATE;
    DELETE FROM orch.lease l USING trials t
    WHERE l.trial_id = p_trial AND l.worker_id = p_worker AND l.serial >= p_serial
      AND t.trial_id = p_trial AND t.state = 'RUNNING'
    RETURNING l.taken_at, EXISTS (SELECT 1 FROM orch.checkpoint c WHERE c.trial_id = p_trial)
    INTO v_taken, v_checkpoints;
    IF NOT FOUND THEN
        RETURN orch.why_not_ended(p_trial, p_worker, p_state);
    END IF;
    UPDATE orch.change SET xid = pg_current_xact_id(), ended_by = p_worker WHERE trial_id = p_trial;
    v_setting := set_config('orch.noted', p_trial::text, true);
    IF p_writes <> '{}' THEN
        PERFORM orch.store(p_trial, p_writes);
    END IF;
    INSERT INTO trial_user_attributes (trial_id, key, value_json)
    SELECT p_trial, key, value::text FROM jsonb_each(p_attributes)
    ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json;
    IF cardinality(p_values) > 0 THEN
        PERFORM orch.set_values(p_trial, p_values, p_types);
    END IF;
    UPDATE trials SET state = p_state, datetime_complete = clock_timestamp() AT TIME ZONE 'UTC'
    WHERE trial_id = p_trial;
    UPDATE orch.study SET failures_in_row = 0 WHERE study_id = v_study AND failures_in_row > 0;
    IF v_checkpoints THEN
        PERFORM orch.forget_checkpoints(p_trial);
    END IF;
    UPDATE orch.worker
    SET trials = trials + 1, last_seen_at = clock_timestamp(), left_at = NULL,
        busy_seconds = busy_seconds + extract(epoch FROM clock_timestamp() - v_taken)
    WHERE worker_id = p_worker;
    RETURN 'ended';
END
$$;

CREATE OR REPLACE FUNCTION orch.why_not_ended(p_trial integer, p_worker uuid, p_state trialstate)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF orch.hold_lease(p_trial, p_worker) THEN
        RETURN 'lacking';
    END IF;
    RETURN CASE WHEN EXISTS (
        SELECT 1 FROM trials JOIN orch.change USING (trial_id)
        WHERE trial_id = p_trial AND state = p_state AND ended_by = p_worker
    ) THEN 'ended' ELSE 'lost' END;
END
$$;

-- The end of one trial and the claim of the next: one round trip, one wait for the disk. Asked
-- again after a broken connection, the end is known and the claimed trial is still the worker's.
CREATE OR REPLACE FUNCTION orch.finish_and_claim(
    p_trial integer, p_worker uuid, p_state trialstate, p_values double precision[],
    p_types text[], p_attributes jsonb, p_serial integer, p_writes jsonb,
    p_study integer, p_version integer, p_since text,
    OUT ended text, OUT outcome text, OUT trial_id integer, OUT detail text, OUT changes json
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET jit = off AS $$
DECLARE
    v_cursor text := orch.cursor_now();
    v_changed json := orch.read_changed(orch.changed(p_study, p_since), p_since);
    v_next record;
BEGIN
    ended := orch.finish_trial(
        p_trial, p_worker, p_state, p_values, p_types, p_attributes, p_serial, p_writes);
    IF ended <> 'ended' THEN
        RETURN;
    END IF;
    IF p_version <> (SELECT version FROM orch.schema_version) THEN
        outcome := 'schema'; RETURN;
    END IF;
    v_next := orch.next_trial(p_study, p_worker);
    outcome := v_next.outcome; trial_id := v_next.trial_id; detail := v_next.detail;
    IF p_since IS NOT NULL AND outcome IN ('trial', 'plan') THEN
        changes := orch.changes_and_own(
            p_study, p_since, v_cursor, v_changed, trial_id,
            ARRAY[p_trial, CASE detail WHEN 'fresh' THEN trial_id END]);
    END IF;
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

-- An orderly leave: the trial waits for the next worker, as the same attempt.
CREATE OR REPLACE FUNCTION orch.give_back_trial(p_trial integer, p_worker uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT orch.hold_lease(p_trial, p_worker) THEN
        RETURN false;
    END IF;
    PERFORM orch.rewind(p_trial, orch.last_checkpoint(p_trial));
    PERFORM orch.forget_constraints(ARRAY[p_trial]);
    DELETE FROM orch.lease WHERE trial_id = p_trial;
    UPDATE trials SET state = 'WAITING', datetime_start = NULL WHERE trial_id = p_trial;
    RETURN true;
END
$$;
