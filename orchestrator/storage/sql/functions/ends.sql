-- Ends: a trial is COMPLETE or PRUNED, fails, or goes back to the queue.

-- End a trial as COMPLETE or PRUNED, and claim the next one (p_claims): one round trip, one wait for
-- the disk. Asked again after a broken connection, the end is known and the claimed trial is still
-- the worker's. p_values and p_types are Optuna's stored representation. ended is one of
--   ended:   by this call, or by an earlier one of this worker whose answer was lost
--   lost:    the lease is gone; nothing was written
--   lacking: nothing was written. The server has crashed and lost what it was told without waiting
--            for the disk; the worker asks again with everything, and 0 for p_serial.
-- p_serial is the number of the trial's newest write that has arrived. What a server finds again
-- after a crash is what was committed up to some moment: where the newest write is there, all are;
-- and the end's commit waits until all before it is on the disk. p_writes is what did not arrive.
-- The other columns are those of orch.claim; NULL where the trial has not ended, or without p_claims.
CREATE OR REPLACE FUNCTION orch.finish(
    p_study integer, p_trial integer, p_token uuid, p_state trialstate,
    p_values double precision[], p_types text[], p_attributes jsonb, p_serial integer,
    p_writes jsonb, p_claims boolean, p_version integer,
    p_server uuid, p_since xid8, p_known xid8,
    OUT ended text, OUT outcome text, OUT trial_id integer, OUT is_fresh boolean,
    OUT stage integer, OUT budget integer, OUT reason text,
    OUT server uuid, OUT since xid8, OUT known xid8, OUT others json, OUT ours json
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_worker uuid := orch.worker_of(p_token);
    v_now record := orch.position_now();
    v_others json := orch.read_trials(
        orch.changed_since(p_study, v_now.server, p_server, p_since, p_known));
    v_end record;
    v_next record;
BEGIN
    PERFORM orch.lock_study(p_study);
    v_end := orch.end_trial(
        p_trial, v_worker, p_state, p_values, p_types, p_attributes, p_serial, p_writes);
    ended := v_end.ended;
    IF ended <> 'ended' THEN
        RETURN;
    END IF;
    IF p_version <> (SELECT version FROM orch.schema_version) THEN
        outcome := 'schema';
    ELSIF p_claims THEN
        v_next := orch.take_trial(p_study, v_worker);
        outcome := v_next.outcome; trial_id := v_next.trial_id; is_fresh := v_next.is_fresh;
        stage := v_next.stage; budget := v_next.budget; reason := v_next.reason;
    END IF;
    PERFORM orch.count_work(v_worker, v_end.taken_at, 1) WHERE v_end.taken_at IS NOT NULL;
    IF p_since IS NOT NULL AND outcome IN ('trial', 'plan') THEN
        server := v_now.server; since := v_now.since; known := pg_current_xact_id();
        others := v_others; ours := orch.read_trials(orch.changed_here(p_study, trial_id));
    END IF;
END
$$;

-- The end itself; taken_at is when the lease began, NULL where this call has not ended the trial.
-- The caller holds the study's lock.
CREATE OR REPLACE FUNCTION orch.end_trial(
    p_trial integer, p_worker uuid, p_state trialstate, p_values double precision[],
    p_types text[], p_attributes jsonb, p_serial integer, p_writes jsonb,
    OUT ended text, OUT taken_at timestamptz
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_study integer;
    v_setting text;
BEGIN
    PERFORM 1 FROM orch.lease
    WHERE trial_id = p_trial AND worker_id = p_worker AND serial >= p_serial FOR UPDATE;
    IF FOUND THEN
        SELECT study_id INTO v_study FROM trials
        WHERE trial_id = p_trial AND state = 'RUNNING' FOR NO KEY UPDATE;
    END IF;
    IF v_study IS NULL THEN
        ended := orch.why_not_ended(p_trial, p_worker, p_state); RETURN;
    END IF;
    DELETE FROM orch.lease l WHERE l.trial_id = p_trial RETURNING l.taken_at INTO taken_at;
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
    UPDATE orch.change SET xid = pg_current_xact_id(), ended_by = p_worker WHERE trial_id = p_trial;
    UPDATE orch.study SET failures_in_row = 0 WHERE study_id = v_study AND failures_in_row > 0;
    IF EXISTS (SELECT FROM orch.checkpoint WHERE trial_id = p_trial) THEN
        PERFORM orch.forget_checkpoints(p_trial);
    END IF;
    ended := 'ended';
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

-- An orderly leave: the trial waits for the next worker, as the same attempt.
CREATE OR REPLACE FUNCTION orch.release(p_trial integer, p_token uuid, OUT held boolean)
LANGUAGE plpgsql AS $$
BEGIN
    held := orch.hold_lease(p_trial, orch.worker_of(p_token));
    IF NOT held THEN
        RETURN;
    END IF;
    PERFORM orch.rewind(p_trial, orch.last_checkpoint(p_trial));
    PERFORM orch.forget_constraints(ARRAY[p_trial]);
    DELETE FROM orch.lease WHERE trial_id = p_trial;
    UPDATE trials SET state = 'WAITING', datetime_start = NULL WHERE trial_id = p_trial;
END
$$;
