-- Checkpoints of running trials, and the kept models of the best ones.

-- Record a checkpoint that is whole in its store, and what the trial wrote that is not delivered
-- yet. needless: the artifacts that nobody needs now; this one where the lease is gone.
CREATE OR REPLACE FUNCTION orch.save(
    p_trial integer, p_token uuid, p_step integer, p_artifact text, p_sha256 text,
    p_writes jsonb, OUT held boolean, OUT needless text[]
) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM orch.lease WHERE trial_id = p_trial AND worker_id = orch.worker_of(p_token)
    FOR SHARE;
    held := FOUND;
    IF NOT held THEN
        needless := ARRAY[p_artifact]; RETURN;
    END IF;
    PERFORM orch.store(p_trial, p_writes);
    INSERT INTO orch.checkpoint (artifact_id, trial_id, step, sha256)
    VALUES (p_artifact, p_trial, p_step, p_sha256) ON CONFLICT DO NOTHING;
    WITH older AS (
        DELETE FROM orch.checkpoint WHERE artifact_id IN (
            SELECT artifact_id FROM orch.checkpoint WHERE trial_id = p_trial
            ORDER BY step DESC, saved_at DESC OFFSET 2)
        RETURNING artifact_id
    )
    SELECT coalesce(array_agg(artifact_id), '{}') INTO needless FROM older;
END
$$;

-- Training goes on after this step.
CREATE OR REPLACE FUNCTION orch.resume(
    p_trial integer, p_token uuid, p_step integer, OUT held boolean
) LANGUAGE plpgsql AS $$
BEGIN
    held := orch.hold_lease(p_trial, orch.worker_of(p_token));
    PERFORM orch.rewind(p_trial, p_step) WHERE held;
END
$$;

-- Whether a trial of this value would be among the p_keep best whose models are kept.
CREATE OR REPLACE FUNCTION orch.is_model_wanted(
    p_study integer, p_value double precision, p_keep integer
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT count(*) < p_keep
    FROM orch.model m JOIN orch.able_trials(p_study) a USING (trial_id)
    JOIN study_directions d ON d.study_id = m.study_id AND d.objective = 0
    WHERE CASE d.direction WHEN 'MAXIMIZE' THEN a.value >= p_value ELSE a.value <= p_value END
$$;

-- Keep the models of the best p_keep trials that may win. needless: the artifacts that fall out, this
-- one perhaps. The attribute is Optuna's own note of an artifact, by which optuna-dashboard finds it: a
-- JSON string that holds JSON.
CREATE OR REPLACE FUNCTION orch.keep_best_model(
    p_trial integer, p_token uuid, p_artifact text, p_sha256 text, p_keep integer,
    OUT needless text[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_study integer;
    v_sign integer;
BEGIN
    -- The trial has ended, and its lease with it.
    SELECT study_id INTO v_study FROM orch.change
    WHERE trial_id = p_trial AND ended_by = orch.worker_of(p_token);
    IF NOT FOUND OR NOT orch.lock_study(v_study) THEN
        needless := ARRAY[p_artifact]; RETURN;
    END IF;
    SELECT CASE direction WHEN 'MAXIMIZE' THEN -1 ELSE 1 END INTO v_sign
    FROM study_directions WHERE study_id = v_study AND objective = 0;
    INSERT INTO orch.model (artifact_id, trial_id, study_id, sha256)
    VALUES (p_artifact, p_trial, v_study, p_sha256) ON CONFLICT DO NOTHING;
    INSERT INTO trial_system_attributes (trial_id, key, value_json)
    VALUES (p_trial, 'artifacts:' || p_artifact, to_jsonb(jsonb_build_object(
        'artifact_id', p_artifact, 'filename', 'model.keras',
        'mimetype', 'application/octet-stream', 'encoding', NULL)::text)::text)
    ON CONFLICT DO NOTHING;
    WITH kept AS (
        SELECT m.artifact_id FROM orch.model m JOIN orch.able_trials(v_study) a USING (trial_id)
        ORDER BY v_sign * a.value, a.number LIMIT p_keep
    ), fallen AS (
        DELETE FROM orch.model m
        WHERE m.study_id = v_study AND m.artifact_id NOT IN (SELECT artifact_id FROM kept)
        RETURNING m.artifact_id, m.trial_id
    ), forgotten AS (
        DELETE FROM trial_system_attributes a USING fallen f
        WHERE a.trial_id = f.trial_id AND a.key = 'artifacts:' || f.artifact_id
    )
    SELECT coalesce(array_agg(artifact_id), '{}') INTO needless FROM fallen;
END
$$;

CREATE OR REPLACE FUNCTION orch.add_artifact(p_artifact text, p_size bigint, p_sha256 text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO orch.artifact (artifact_id, size, sha256) VALUES (p_artifact, p_size, p_sha256);
END
$$;

CREATE OR REPLACE FUNCTION orch.add_chunk(p_artifact text, p_part integer, p_body bytea)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO orch.artifact_chunk (artifact_id, part, body) VALUES (p_artifact, p_part, p_body);
END
$$;

CREATE OR REPLACE FUNCTION orch.remove_artifact(p_artifact text, OUT removed boolean)
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM orch.artifact WHERE artifact_id = p_artifact;
    removed := FOUND;
END
$$;

-- Remove bytes that were stored, and whoever stored them died or was cut off before they were recorded.
CREATE OR REPLACE FUNCTION orch.remove_orphans() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM orch.artifact a
    WHERE created_at < now() - interval '1 day'
      AND NOT EXISTS (SELECT FROM orch.checkpoint c WHERE c.artifact_id = a.artifact_id)
      AND NOT EXISTS (SELECT FROM orch.model m WHERE m.artifact_id = a.artifact_id)
      AND NOT EXISTS (SELECT FROM trial_system_attributes t
                      WHERE t.key = 'artifacts:' || a.artifact_id)
      AND NOT EXISTS (SELECT FROM study_system_attributes s
                      WHERE s.key = 'artifacts:' || a.artifact_id)
      -- dashboard:artifacts:TRIAL:ID, of a trial that has ended.
      AND NOT EXISTS (SELECT FROM study_system_attributes s
                      WHERE starts_with(s.key, 'dashboard:artifacts:')
                        AND split_part(s.key, ':', 4) = a.artifact_id);
END
$$;
