-- What an attempt costs that did not end its trial. orchestrator/worker/endings.py tells which row it
-- is; "lost" is found out here:
--
--   failed   an exception, a process that ended, a hang: one attempt of worker.max_retries
--   certain  would come again: no further retry
--   lost     the lease ran out: nothing, and from the 11th of a configuration on an attempt
--   misused  no trial can get around it: the study stops, the trial goes back to the queue
--
-- What was left in order, or by a fault of the worker's machine, is given back (ends.sql): nothing.

CREATE OR REPLACE FUNCTION orch.attempts_of(p_ending text, p_losses integer) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_ending
        WHEN 'failed' THEN 1
        WHEN 'certain' THEN NULL  -- no attempt comes after it, whatever max_retries says
        WHEN 'lost' THEN (p_losses > 10)::integer
    END
$$;

-- How often the lease of a trial's configuration was lost, with the end that is at hand.
CREATE OR REPLACE FUNCTION orch.losses_with(p_trial integer, p_ending text) RETURNS integer
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((orch.attribute(p_trial, 'orch:losses'))::integer, 0)
        + (p_ending = 'lost')::integer;
END
$$;

-- End an attempt as failed. p_signature names the exception's type and the user's line; NULL: there
-- is none to compare. Where the first attempts of two configurations of the study ended with the
-- same one it is certain to come again, whatever p_ending says. False: the lease is gone.
CREATE OR REPLACE FUNCTION orch.fail(
    p_trial integer, p_token uuid, p_reason text, p_attributes jsonb, p_ending text,
    p_signature text, OUT held boolean
) LANGUAGE plpgsql AS $$
DECLARE
    v_worker uuid := orch.worker_of(p_token);
    v_taken timestamptz;
    v_study integer;
    v_ending text := p_ending;
BEGIN
    held := orch.hold_lease(p_trial, v_worker);
    IF NOT held THEN
        RETURN;
    END IF;
    SELECT study_id, taken_at INTO v_study, v_taken FROM orch.lease WHERE trial_id = p_trial;
    PERFORM orch.set_attribute(p_trial, key, value) FROM jsonb_each(p_attributes);
    IF p_signature IS NOT NULL THEN
        PERFORM orch.set_attribute(p_trial, 'orch:signature', to_jsonb(p_signature))
        WHERE coalesce((orch.attribute(p_trial, 'orch:attempt'))::integer, 1) = 1;
        IF orch.first_attempts_with(v_study, p_signature) > 1 THEN
            v_ending := 'certain';
        END IF;
    END IF;
    PERFORM orch.end_attempt(p_trial, p_reason, v_ending);
    IF p_signature IS NOT NULL AND v_ending = 'certain' THEN
        PERFORM orch.end_doubtful(v_study, p_signature, p_reason);
    ELSIF p_signature IS NOT NULL THEN
        PERFORM orch.set_attribute(t.trial_id, 'orch:doubtful', to_jsonb(p_signature))
        FROM trials t WHERE t.study_id = v_study
            AND to_jsonb(t.number) = orch.attribute(p_trial, 'orch:retried_as');
    END IF;
    PERFORM orch.count_work(v_worker, v_taken, 1);
END
$$;

-- Only first attempts carry the attribute, so this counts configurations.
CREATE OR REPLACE FUNCTION orch.first_attempts_with(p_study integer, p_signature text)
RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT count(*) FROM trials t JOIN trial_user_attributes a USING (trial_id)
            WHERE t.study_id = p_study AND a.key = 'orch:signature'
              AND a.value_json::jsonb = to_jsonb(p_signature));
END
$$;

-- A retry of what may be certain to come again: the next fresh configuration tells.
CREATE OR REPLACE FUNCTION orch.is_doubtful(p_trial integer) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN orch.attribute(p_trial, 'orch:doubtful') IS NOT NULL;
END
$$;

-- The retries that wait for what is certain now: they are not tried.
CREATE OR REPLACE FUNCTION orch.end_doubtful(p_study integer, p_signature text, p_reason text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_trial integer;
BEGIN
    FOR v_trial IN
        SELECT t.trial_id FROM trials t JOIN trial_user_attributes a USING (trial_id)
        WHERE t.study_id = p_study AND t.state = 'WAITING' AND a.key = 'orch:doubtful'
          AND a.value_json::jsonb = to_jsonb(p_signature)
        ORDER BY t.number
    LOOP
        -- Optuna wants every ended trial to have a start.
        UPDATE trials SET datetime_start = coalesce(datetime_start, orch.utc_now())
        WHERE trial_id = v_trial;
        PERFORM orch.end_attempt(v_trial, p_reason, 'certain');
    END LOOP;
END
$$;

-- Stop the study for a wrong use that showed only in a trial; the trial waits, as the same attempt.
-- False: the lease is gone.
CREATE OR REPLACE FUNCTION orch.stop_misused(
    p_trial integer, p_token uuid, p_reason text, OUT held boolean
) LANGUAGE plpgsql AS $$
BEGIN
    held := orch.release(p_trial, p_token);
    UPDATE orch.study SET state = 'failed', wrong_use = true, reason = p_reason
    WHERE held AND study_id = (SELECT study_id FROM trials WHERE trial_id = p_trial);
END
$$;
