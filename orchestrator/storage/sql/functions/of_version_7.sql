-- What a running worker of version 6 or 7 calls, kept for one version: in the middle of a trial it can
-- end it; at its next claim it is told to leave. Each calls what took its place. Such a worker knows
-- no token; its id, which is random, serves as one (orch.worker_of). Changes are told it whole.

-- What nobody calls any more.
DROP FUNCTION IF EXISTS
    orch.next_trial, orch.changes_and_own, orch.changes_key, orch.read_changed, orch.read_rungs,
    orch.changed, orch.cursor_now, orch.leave_trial;

CREATE OR REPLACE FUNCTION orch.claim_trial(
    p_study integer, p_worker uuid, p_version integer, p_since text,
    OUT outcome text, OUT trial_id integer, OUT detail text, OUT changes json
) LANGUAGE plpgsql AS $$
BEGIN
    outcome := 'schema';
END
$$;

CREATE OR REPLACE FUNCTION orch.write_trial(
    p_trial integer, p_worker uuid, p_serial integer, p_after integer, p_writes jsonb,
    p_durable boolean, p_since text, OUT held boolean, OUT changes json
) LANGUAGE plpgsql AS $$
BEGIN
    held := (orch.write(
        p_trial, p_worker, p_serial, p_after, p_writes, p_durable, NULL, NULL, NULL)).held;
    IF held AND p_since IS NOT NULL THEN
        changes := orch.changes(
            (SELECT t.study_id FROM trials t WHERE t.trial_id = p_trial), p_since, '{}', p_trial);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION orch.finish_trial(
    p_trial integer, p_worker uuid, p_state trialstate, p_values double precision[],
    p_types text[], p_attributes jsonb, p_serial integer, p_writes jsonb
) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN (orch.finish(
        (SELECT study_id FROM trials WHERE trial_id = p_trial), p_trial, p_worker, p_state,
        p_values, p_types, p_attributes, p_serial, p_writes, false, 7, NULL, NULL, NULL)).ended;
END
$$;

CREATE OR REPLACE FUNCTION orch.finish_and_claim(
    p_trial integer, p_worker uuid, p_state trialstate, p_values double precision[],
    p_types text[], p_attributes jsonb, p_serial integer, p_writes jsonb,
    p_study integer, p_version integer, p_since text,
    OUT ended text, OUT outcome text, OUT trial_id integer, OUT detail text, OUT changes json
) LANGUAGE plpgsql AS $$
BEGIN
    ended := orch.finish_trial(
        p_trial, p_worker, p_state, p_values, p_types, p_attributes, p_serial, p_writes);
    outcome := CASE ended WHEN 'ended' THEN 'schema' END;
END
$$;

CREATE OR REPLACE FUNCTION orch.fail_trial(
    p_trial integer, p_worker uuid, p_reason text, p_attributes jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN orch.fail(p_trial, p_worker, p_reason, p_attributes, 'failed', NULL);
END
$$;

CREATE OR REPLACE FUNCTION orch.fail_attempt(
    p_trial integer, p_worker uuid, p_reason text, p_attributes jsonb, p_ending text,
    p_signature text
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN orch.fail(p_trial, p_worker, p_reason, p_attributes, p_ending, p_signature);
END
$$;

CREATE OR REPLACE FUNCTION orch.stop_for_wrong_use(p_trial integer, p_worker uuid, p_reason text)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN orch.stop_misused(p_trial, p_worker, p_reason);
END
$$;

CREATE OR REPLACE FUNCTION orch.give_back_trial(p_trial integer, p_worker uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN orch.release(p_trial, p_worker);
END
$$;

CREATE OR REPLACE FUNCTION orch.pause_trial(p_trial integer, p_worker uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN orch.pause(p_trial, p_worker);
END
$$;

CREATE OR REPLACE FUNCTION orch.resume_trial(p_trial integer, p_worker uuid, p_step integer)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN orch.resume(p_trial, p_worker, p_step);
END
$$;

CREATE OR REPLACE FUNCTION orch.save_checkpoint(
    p_trial integer, p_worker uuid, p_step integer, p_artifact text, p_sha256 text,
    p_writes jsonb
) RETURNS TABLE (held boolean, artifact_id text) LANGUAGE plpgsql AS $$
DECLARE
    v_saved record := orch.save(p_trial, p_worker, p_step, p_artifact, p_sha256, p_writes);
BEGIN
    RETURN QUERY SELECT v_saved.held, unnest(v_saved.needless::text[]);
END
$$;

CREATE OR REPLACE FUNCTION orch.keep_model(
    p_trial integer, p_artifact text, p_sha256 text, p_keep integer
) RETURNS TABLE (artifact_id text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT unnest(orch.keep_best_model(
        p_trial, (SELECT ended_by FROM orch.change WHERE trial_id = p_trial),
        p_artifact, p_sha256, p_keep));
END
$$;

CREATE OR REPLACE FUNCTION orch.changes(
    p_study integer, p_since text, p_also integer[], p_but integer DEFAULT NULL
) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    v_now record := orch.position_now();
    -- '12-34 rungs': a transaction, one that is known, and what is wanted.
    v_since text := split_part(split_part(p_since, ' ', 1), '-', 1);
BEGIN
    RETURN json_build_object(
        'cursor', v_now.since::text,
        'trials', orch.read_trials(array_remove(
            orch.changed_since(p_study, v_now.server, v_now.server, v_since::xid8, NULL) || p_also,
            p_but)));
END
$$;
