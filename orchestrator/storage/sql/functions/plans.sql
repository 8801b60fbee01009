-- Plans: trials that are queued, paused, promoted and pruned by a study's own strategy.

-- Queue configurations as WAITING trials with fixed parameters, as Optuna's enqueue_trial does.
-- A configuration is JSON in a string, because jsonb has no NaN and its text no NUL; a worker of an
-- older orch writes an object. p_user and p_system are attributes, one object for each trial. The
-- caller holds the study's lock.
CREATE OR REPLACE FUNCTION orch.queue_trials(
    p_study integer, p_configurations jsonb, p_user jsonb, p_system jsonb
) RETURNS void LANGUAGE sql AS $$
    WITH wanted AS (
        SELECT p_user -> (place - 1)::integer AS user_attributes,
               coalesce(p_system -> (place - 1)::integer, '{}') AS system_attributes,
               value #>> '{}' AS fixed,
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
        UNION ALL
        SELECT m.trial_id, 'fixed_params', w.fixed FROM made m JOIN wanted w USING (number)
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
    PERFORM 1 FROM trials WHERE trial_id = ANY (p_promote || p_prune)
    ORDER BY trial_id FOR NO KEY UPDATE;
    PERFORM orch.queue_trials(p_study, p_configurations, NULL, p_attributes);
    UPDATE trial_system_attributes SET value_json = (value_json::integer + 1)::text
    WHERE trial_id = ANY (p_promote) AND key = 'orch:round';
    DELETE FROM trial_system_attributes
    WHERE trial_id = ANY (p_promote || p_prune) AND key = 'orch:paused';
    PERFORM orch.forget_constraints(p_promote);
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
CREATE OR REPLACE FUNCTION orch.pause(p_trial integer, p_token uuid, OUT held boolean)
LANGUAGE plpgsql AS $$
DECLARE
    v_worker uuid := orch.worker_of(p_token);
    v_taken timestamptz;
BEGIN
    held := orch.hold_lease(p_trial, v_worker);
    IF NOT held THEN
        RETURN;
    END IF;
    DELETE FROM orch.lease WHERE trial_id = p_trial RETURNING taken_at INTO v_taken;
    UPDATE trials SET state = 'WAITING' WHERE trial_id = p_trial;
    INSERT INTO trial_system_attributes (trial_id, key, value_json)
    VALUES (p_trial, 'orch:paused', 'true') ON CONFLICT DO NOTHING;
    PERFORM orch.count_work(v_worker, v_taken, 0);
END
$$;
