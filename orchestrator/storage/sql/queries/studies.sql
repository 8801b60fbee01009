-- Studies: what is kept of each beyond what Optuna does, its budget, its state, and what it pins. %(name)s are parameters.

-- read_study --
SELECT s.study_id, s.study_name AS name, o.spec, o.data, o.objective, o.state, o.reason,
       o.created_at::text AS created_at
FROM studies s JOIN orch.study o USING (study_id) WHERE s.study_name = %(name)s

-- study_is_foreign --
SELECT 1 FROM studies s LEFT JOIN orch.study o USING (study_id)
WHERE s.study_name = %(name)s AND o.study_id IS NULL

-- list_studies --
SELECT s.study_name AS name, o.spec #> '{study,objective}' AS objective, o.budget, o.state,
       o.reason,
       count(*) FILTER (WHERE t.state IN ('COMPLETE', 'PRUNED')) AS finished,
       count(*) FILTER (WHERE t.state = 'RUNNING') AS running,
       (SELECT count(*) FROM orch.worker w
        WHERE w.study_id = s.study_id AND w.left_at IS NULL AND w.last_seen_at
              > clock_timestamp() - make_interval(secs => orch.setting(s.study_id, 'grace_seconds'))
       ) AS workers,
       o.created_at
FROM studies s JOIN orch.study o USING (study_id) LEFT JOIN trials t USING (study_id)
GROUP BY s.study_id, o.study_id ORDER BY o.created_at, s.study_id

-- study_attributes --
SELECT key, value_json FROM study_system_attributes
WHERE study_id = %(study_id)s AND starts_with(key, %(start)s)

-- read_software --
-- What a study pins of the software is a user attribute, so that the dashboard shows it.
SELECT value_json::jsonb AS software FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:software'

-- read_mismatches --
SELECT jsonb_array_elements_text(value_json::jsonb) AS mismatch FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:mismatches'

-- test_evaluations --
SELECT value_json::jsonb AS evaluations FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:test_evaluations'

-- confirmation --
SELECT l.value_json::jsonb AS link, s.study_name AS name, r.value_json::jsonb AS result
FROM study_user_attributes l
LEFT JOIN studies s ON s.study_id = (l.value_json::jsonb ->> 'study_id')::integer
LEFT JOIN study_user_attributes r ON r.study_id = l.study_id AND r.key = 'orch:confirmed'
WHERE l.study_id = %(study_id)s AND l.key = 'orch:confirming'

-- confirmed_study --
SELECT s.study_name AS name FROM study_user_attributes l JOIN studies s USING (study_id)
WHERE l.key = 'orch:confirming'
  AND (l.value_json::jsonb ->> 'study_id')::integer = %(study_id)s
