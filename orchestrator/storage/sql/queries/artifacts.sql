-- Artifacts: checkpoints of running trials, kept models, and bytes by name.

-- checkpoints_of_trial --
SELECT artifact_id, step, sha256 FROM orch.checkpoint WHERE trial_id = %(trial_id)s
ORDER BY step DESC, saved_at DESC

-- best_models --
SELECT a.number, m.artifact_id, m.sha256
FROM orch.model m JOIN orch.able_trials(%(study_id)s) a USING (trial_id)
ORDER BY CASE WHEN %(maximize)s THEN -a.value ELSE a.value END, a.number LIMIT %(top)s

-- artifacts_of_trials --
-- Of one trial, or of all in a study.
SELECT trial_id, key, value_json FROM trial_system_attributes a JOIN trials t USING (trial_id)
WHERE (t.study_id = %(study_id)s OR t.trial_id = %(trial_id)s) AND starts_with(key, 'artifacts:')

-- read_artifact --
SELECT size, sha256 FROM orch.artifact WHERE artifact_id = %(artifact_id)s

-- read_chunk --
SELECT body FROM orch.artifact_chunk WHERE artifact_id = %(artifact_id)s AND part = %(part)s
