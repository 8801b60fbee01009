-- Data of older versions as this version writes them. Each part finds nothing in a new database, and
-- nothing more when it is run again.

-- Version 7: the modules of an objective that comes with orch have moved, from objectives to
-- orchestrator.training. The version of orch, which is pinned too, stands for them.
UPDATE study_user_attributes a
SET value_json = (
    SELECT jsonb_object_agg(pin.key, pin.value)::text FROM jsonb_each(a.value_json::jsonb) AS pin
    WHERE pin.key <> 'source' AND pin.key NOT LIKE 'module objectives%')
WHERE a.key = 'orch:software' AND EXISTS (
    SELECT FROM jsonb_object_keys(a.value_json::jsonb) AS name
    WHERE name LIKE 'module objectives%');

-- Version 7: a study has a link to the one that confirms it. Before, only their names told.
INSERT INTO study_user_attributes (study_id, key, value_json)
SELECT s.study_id, 'orch:confirming', jsonb_build_object(
           'study_id', c.study_id, 'study', c.study_name,
           'trials', jsonb_agg(DISTINCT a.value_json::integer),
           'seeds', count(*) / count(DISTINCT a.value_json),
           'ended', (SELECT count(*) FROM trials e WHERE e.study_id = s.study_id
                     AND e.state IN ('COMPLETE', 'PRUNED')
                     AND e.datetime_complete < oc.created_at AT TIME ZONE 'UTC'))::text
FROM studies s JOIN orch.study o USING (study_id)
JOIN studies c ON c.study_name = s.study_name || '-confirm'
JOIN orch.study oc ON oc.study_id = c.study_id AND oc.created_at > o.created_at
JOIN trials t ON t.study_id = c.study_id
JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'confirms'
LEFT JOIN trial_user_attributes r ON r.trial_id = t.trial_id AND r.key = 'orch:retry_of'
WHERE a.value_json ~ '^[0-9]+$' AND r.trial_id IS NULL
GROUP BY s.study_id, c.study_id, c.study_name, oc.created_at
ON CONFLICT (study_id, key) DO NOTHING;
