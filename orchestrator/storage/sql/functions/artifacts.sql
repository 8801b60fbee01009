-- Checkpoints of running trials, and the kept models of the best ones.

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
    FROM orch.model m JOIN orch.able_trials(p_study) a USING (trial_id)
    JOIN study_directions d ON d.study_id = m.study_id AND d.objective = 0
    WHERE CASE d.direction WHEN 'MAXIMIZE' THEN a.value >= p_value ELSE a.value <= p_value END
$$;

-- Keep the models of the best p_keep trials that may win. Returns the artifacts that fall out, this
-- one perhaps. The attribute is Optuna's own note of an artifact, by which optuna-dashboard finds it: a
-- JSON string that holds JSON.
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
    VALUES (p_trial, 'artifacts:' || p_artifact, to_jsonb(jsonb_build_object(
        'artifact_id', p_artifact, 'filename', 'model.keras',
        'mimetype', 'application/octet-stream', 'encoding', NULL)::text)::text)
    ON CONFLICT DO NOTHING;
    RETURN QUERY
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
        SELECT artifact_id FROM fallen;
END
$$;
