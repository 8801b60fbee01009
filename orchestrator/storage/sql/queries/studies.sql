-- Studies: what is kept of each beyond what Optuna does, its budget, its state, and what it pins. %(name)s are parameters.

-- read_study --
SELECT s.study_id, s.study_name AS name, o.spec, o.data, o.objective, o.state, o.reason,
       o.created_at::text AS created_at
FROM studies s JOIN orch.study o USING (study_id) WHERE s.study_name = %(name)s

-- study_is_foreign --
SELECT 1 FROM studies s LEFT JOIN orch.study o USING (study_id)
WHERE s.study_name = %(name)s AND o.study_id IS NULL

-- list_studies --
SELECT s.study_name AS name, o.spec #>> '{study,objective}' AS objective, o.budget, o.state,
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

-- delete_study_attribute --
DELETE FROM study_system_attributes WHERE study_id = %(study_id)s AND key = %(key)s

-- read_software --
-- What a study pins of the software is a user attribute, so that the dashboard shows it.
SELECT value_json::jsonb AS software FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:software'

-- read_mismatches --
SELECT jsonb_array_elements_text(value_json::jsonb) AS mismatch FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:mismatches'

-- record_test_evaluation --
INSERT INTO study_user_attributes (study_id, key, value_json)
VALUES (%(study_id)s, 'orch:test_evaluations', jsonb_build_array(%(evaluation)s::jsonb)::text)
ON CONFLICT (study_id, key) DO UPDATE SET value_json =
    (study_user_attributes.value_json::jsonb || excluded.value_json::jsonb)::text
RETURNING value_json::jsonb AS evaluations

-- test_evaluations --
SELECT value_json::jsonb AS evaluations FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:test_evaluations'

-- link_confirmation --
-- With how many trials had ended then. Asked again for the same study, nothing changes.
INSERT INTO study_user_attributes (study_id, key, value_json)
SELECT %(study_id)s, 'orch:confirming',
       (%(link)s::jsonb || jsonb_build_object('ended', count(*)))::text
FROM trials WHERE study_id = %(study_id)s AND state IN ('COMPLETE', 'PRUNED')
ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
WHERE study_user_attributes.value_json::jsonb -> 'study_id'
      <> excluded.value_json::jsonb -> 'study_id'

-- confirmation --
SELECT l.value_json::jsonb AS link, s.study_name AS name, r.value_json::jsonb AS result
FROM study_user_attributes l
LEFT JOIN studies s ON s.study_id = (l.value_json::jsonb ->> 'study_id')::integer
LEFT JOIN study_user_attributes r ON r.study_id = l.study_id AND r.key = 'orch:confirmed'
WHERE l.study_id = %(study_id)s AND l.key = 'orch:confirming'

-- keep_confirmation --
INSERT INTO study_user_attributes (study_id, key, value_json)
SELECT study_id, 'orch:confirmed', jsonb_build_object(
           'ended', value_json::jsonb -> 'ended', 'confirmation', %(confirmation)s::jsonb)::text
FROM study_user_attributes WHERE study_id = %(study_id)s AND key = 'orch:confirming'
ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json

-- confirmed_study --
SELECT s.study_name AS name FROM study_user_attributes l JOIN studies s USING (study_id)
WHERE l.key = 'orch:confirming'
  AND (l.value_json::jsonb ->> 'study_id')::integer = %(study_id)s
