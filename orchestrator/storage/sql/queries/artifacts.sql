-- Artifacts: checkpoints of running trials, kept models, and bytes by name.

-- save_checkpoint --
SELECT held, artifact_id FROM orch.save_checkpoint(
    %(trial_id)s, %(worker_id)s, %(step)s, %(artifact_id)s, %(sha256)s, %(writes)s
)

-- checkpoints_of_trial --
SELECT artifact_id, step, sha256 FROM orch.checkpoint WHERE trial_id = %(trial_id)s
ORDER BY step DESC, saved_at DESC

-- is_model_wanted --
SELECT orch.is_model_wanted(%(study_id)s, %(value)s, %(keep)s) AS wanted

-- keep_model --
SELECT artifact_id FROM orch.keep_model(%(trial_id)s, %(artifact_id)s, %(sha256)s, %(keep)s)

-- best_models --
SELECT a.number, m.artifact_id, m.sha256
FROM orch.model m JOIN orch.able_trials(%(study_id)s) a USING (trial_id)
ORDER BY CASE WHEN %(maximize)s THEN -a.value ELSE a.value END, a.number LIMIT %(top)s

-- artifacts_of_trials --
-- Of one trial, or of all in a study.
SELECT trial_id, key, value_json FROM trial_system_attributes a JOIN trials t USING (trial_id)
WHERE (t.study_id = %(study_id)s OR t.trial_id = %(trial_id)s) AND starts_with(key, 'artifacts:')

-- insert_artifact --
INSERT INTO orch.artifact (artifact_id, size, sha256)
VALUES (%(artifact_id)s, %(size)s, %(sha256)s)

-- insert_chunk --
INSERT INTO orch.artifact_chunk (artifact_id, part, body)
VALUES (%(artifact_id)s, %(part)s, %(body)s)

-- read_artifact --
SELECT size, sha256 FROM orch.artifact WHERE artifact_id = %(artifact_id)s

-- read_chunk --
SELECT body FROM orch.artifact_chunk WHERE artifact_id = %(artifact_id)s AND part = %(part)s

-- delete_artifact --
DELETE FROM orch.artifact WHERE artifact_id = %(artifact_id)s RETURNING artifact_id

-- delete_orphans --
-- Bytes that were stored, and whoever stored them died or was cut off before they were recorded.
DELETE FROM orch.artifact a
WHERE created_at < now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM orch.checkpoint c WHERE c.artifact_id = a.artifact_id)
  AND NOT EXISTS (SELECT FROM orch.model m WHERE m.artifact_id = a.artifact_id)
  AND NOT EXISTS (SELECT FROM trial_system_attributes t WHERE t.key = 'artifacts:' || a.artifact_id)
  AND NOT EXISTS (SELECT FROM study_system_attributes s WHERE s.key = 'artifacts:' || a.artifact_id)
  -- dashboard:artifacts:TRIAL:ID, of a trial that has ended.
  AND NOT EXISTS (SELECT FROM study_system_attributes s
                  WHERE starts_with(s.key, 'dashboard:artifacts:')
                    AND split_part(s.key, ':', 4) = a.artifact_id)
