-- Studies: made, changed and removed. A study's budget and timeout stand in its spec alone.

-- A study as Optuna makes it. NULL: the name is taken.
CREATE OR REPLACE FUNCTION orch.add_study(p_name text, p_directions text[], OUT study_id integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO studies AS s (study_name) VALUES (p_name) ON CONFLICT DO NOTHING
    RETURNING s.study_id INTO study_id;
    INSERT INTO study_directions (direction, study_id, objective)
    SELECT direction::studydirection, add_study.study_id, place - 1
    FROM unnest(p_directions) WITH ORDINALITY AS u(direction, place)
    WHERE add_study.study_id IS NOT NULL;
END
$$;

-- A study of ours. p_software is what it pins; p_objective what reports need to know of its objective.
-- NULL: the name is taken.
CREATE OR REPLACE FUNCTION orch.create_study(
    p_name text, p_directions text[], p_metrics text[], p_spec jsonb, p_planned boolean,
    p_note jsonb, p_data jsonb, p_objective jsonb, p_software jsonb, OUT study_id integer
) LANGUAGE plpgsql AS $$
DECLARE
    v_study integer := orch.add_study(p_name, p_directions);
BEGIN
    IF v_study IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO orch.study (study_id, spec, data, objective, planned)
    VALUES (v_study, p_spec, p_data, p_objective, p_planned);
    INSERT INTO study_system_attributes (study_id, key, value_json)
    VALUES (v_study, 'study:metric_names', to_jsonb(p_metrics)::text);
    -- Where optuna-dashboard keeps a study's note.
    INSERT INTO study_system_attributes (study_id, key, value_json)
    SELECT v_study, key, value::text FROM (VALUES
        ('dashboard:note_ver', to_jsonb(1)), ('dashboard:note_str:0', p_note)
    ) AS n(key, value) WHERE p_note <> 'null';
    INSERT INTO study_user_attributes (study_id, key, value_json)
    VALUES (v_study, 'orch:software', p_software::text);
    study_id := v_study;
END
$$;

-- Remove a study with all that belongs to it. Optuna's tables do not cascade; ours do. Whoever writes
-- to a trial waits at its lease or at the trial, and then finds it gone.
CREATE OR REPLACE FUNCTION orch.delete_study(p_study integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_trials integer[];
BEGIN
    PERFORM 1 FROM studies WHERE study_id = p_study FOR UPDATE;
    PERFORM 1 FROM orch.lease WHERE study_id = p_study ORDER BY trial_id FOR UPDATE;
    DELETE FROM orch.lease WHERE study_id = p_study;
    v_trials := ARRAY(
        SELECT trial_id FROM trials WHERE study_id = p_study ORDER BY trial_id FOR UPDATE);
    DELETE FROM trial_params WHERE trial_id = ANY (v_trials);
    DELETE FROM trial_values WHERE trial_id = ANY (v_trials);
    DELETE FROM trial_intermediate_values WHERE trial_id = ANY (v_trials);
    DELETE FROM trial_user_attributes WHERE trial_id = ANY (v_trials);
    DELETE FROM trial_system_attributes WHERE trial_id = ANY (v_trials);
    DELETE FROM trial_heartbeats WHERE trial_id = ANY (v_trials);
    DELETE FROM orch.artifact a USING orch.checkpoint c
    WHERE a.artifact_id = c.artifact_id AND c.trial_id = ANY (v_trials);
    DELETE FROM orch.artifact a USING orch.model m
    WHERE a.artifact_id = m.artifact_id AND m.study_id = p_study;
    DELETE FROM orch.artifact a USING study_system_attributes s
    WHERE s.study_id = p_study AND starts_with(s.key, 'dashboard:artifacts:')
      AND a.artifact_id = (s.value_json::jsonb #>> '{}')::jsonb ->> 'artifact_id';
    DELETE FROM trials WHERE study_id = p_study;
    DELETE FROM study_directions WHERE study_id = p_study;
    DELETE FROM study_user_attributes WHERE study_id = p_study;
    DELETE FROM study_system_attributes WHERE study_id = p_study;
    DELETE FROM studies WHERE study_id = p_study;
END
$$;

-- Another spec, for the trials to come, and what follows from it. The budget is only raised.
CREATE OR REPLACE FUNCTION orch.replace_spec(
    p_study integer, p_spec jsonb, p_objective jsonb, p_software jsonb
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM orch.lock_study(p_study);
    UPDATE orch.study
    SET objective = p_objective, spec = jsonb_set(p_spec, '{study,trials}', to_jsonb(
        greatest(budget, (p_spec #>> '{study,trials}')::integer))),
        configurations = NULL  -- the next worker says how many there are now
    WHERE study_id = p_study;
    DELETE FROM orch.configuration WHERE study_id = p_study;
    INSERT INTO study_user_attributes (study_id, key, value_json)
    VALUES (p_study, 'orch:software', p_software::text)
    ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json;
END
$$;

-- raised: false where the study has as many trials or more.
CREATE OR REPLACE FUNCTION orch.raise_budget(p_study integer, p_budget integer, OUT raised boolean)
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orch.study SET spec = jsonb_set(spec, '{study,trials}', to_jsonb(p_budget))
    WHERE study_id = p_study AND budget < p_budget;
    raised := FOUND;
END
$$;

-- Of two that do so at once, both count.
CREATE OR REPLACE FUNCTION orch.add_budget(p_study integer, p_trials integer) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orch.study SET spec = jsonb_set(spec, '{study,trials}', to_jsonb(budget + p_trials))
    WHERE study_id = p_study;
END
$$;

-- Take up a study that was stopped, ran out of time or failed.
CREATE OR REPLACE FUNCTION orch.reopen_study(p_study integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orch.study
    SET state = 'open', reason = NULL, wrong_use = false, opened_at = clock_timestamp(),
        failures_in_row = CASE state WHEN 'failed' THEN 0 ELSE failures_in_row END
    WHERE study_id = p_study;
END
$$;

-- Running trials finish, no other one starts.
CREATE OR REPLACE FUNCTION orch.stop_study(p_study integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orch.study SET state = 'stopping', reason = 'stopped by orch stop'
    WHERE study_id = p_study AND state = 'open';
END
$$;

-- The search has ended by itself; p_stage as in orch.take_stage.
CREATE OR REPLACE FUNCTION orch.exhaust_study(p_study integer, p_reason text, p_stage integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orch.study SET state = 'exhausted', reason = p_reason
    WHERE study_id = p_study AND state = 'open' AND stage = coalesce(p_stage, stage);
END
$$;

-- Complete what a study of an older version has stored of its objective.
CREATE OR REPLACE FUNCTION orch.store_facts(p_study integer, p_objective jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orch.study SET objective = p_objective
    WHERE study_id = p_study AND NOT coalesce(objective ? 'space', false);
END
$$;

-- How the software of a machine that takes part differs, each difference once.
CREATE OR REPLACE FUNCTION orch.record_mismatch(p_study integer, p_mismatch text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_user_attributes AS a (study_id, key, value_json)
    VALUES (p_study, 'orch:mismatches', jsonb_build_array(p_mismatch)::text)
    ON CONFLICT (study_id, key) DO UPDATE
    SET value_json = (a.value_json::jsonb || excluded.value_json::jsonb)::text
    WHERE NOT a.value_json::jsonb @> excluded.value_json::jsonb;
END
$$;

-- Optuna's set_study_user_attr and set_study_system_attr. known: false where there is no such study.
CREATE OR REPLACE FUNCTION orch.set_study_user_attribute(
    p_study integer, p_key text, p_value text, OUT known boolean
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM studies WHERE study_id = p_study FOR KEY SHARE;
    known := FOUND;
    INSERT INTO study_user_attributes (study_id, key, value_json)
    SELECT p_study, p_key, p_value WHERE known
    ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json;
END
$$;

CREATE OR REPLACE FUNCTION orch.set_study_system_attribute(
    p_study integer, p_key text, p_value text, OUT known boolean
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM studies WHERE study_id = p_study FOR KEY SHARE;
    known := FOUND;
    INSERT INTO study_system_attributes (study_id, key, value_json)
    SELECT p_study, p_key, p_value WHERE known
    ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json;
END
$$;

CREATE OR REPLACE FUNCTION orch.delete_study_attribute(p_study integer, p_key text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM study_system_attributes WHERE study_id = p_study AND key = p_key;
END
$$;

-- evaluations: all of the study so far, with this one.
CREATE OR REPLACE FUNCTION orch.record_test_evaluation(
    p_study integer, p_evaluation jsonb, OUT evaluations jsonb
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_user_attributes AS a (study_id, key, value_json)
    VALUES (p_study, 'orch:test_evaluations', jsonb_build_array(p_evaluation)::text)
    ON CONFLICT (study_id, key) DO UPDATE
    SET value_json = (a.value_json::jsonb || excluded.value_json::jsonb)::text
    RETURNING value_json::jsonb INTO evaluations;
END
$$;

-- Which study confirms this one, and how many trials had ended then. A link to the same study stays.
CREATE OR REPLACE FUNCTION orch.link_confirmation(p_study integer, p_link jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_user_attributes AS a (study_id, key, value_json)
    SELECT p_study, 'orch:confirming', (p_link || jsonb_build_object('ended', count(*)))::text
    FROM trials WHERE study_id = p_study AND state IN ('COMPLETE', 'PRUNED')
    ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
    WHERE a.value_json::jsonb -> 'study_id' <> excluded.value_json::jsonb -> 'study_id';
END
$$;

-- What the linked study has found, so that it outlives that study.
CREATE OR REPLACE FUNCTION orch.keep_confirmation(p_study integer, p_confirmation jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO study_user_attributes (study_id, key, value_json)
    SELECT study_id, 'orch:confirmed', jsonb_build_object(
               'ended', value_json::jsonb -> 'ended', 'confirmation', p_confirmation)::text
    FROM study_user_attributes WHERE study_id = p_study AND key = 'orch:confirming'
    ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json;
END
$$;
