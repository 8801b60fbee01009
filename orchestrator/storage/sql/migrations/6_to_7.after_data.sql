-- Data of version 6 as version 7 writes them. A part that is run again finds nothing more to do.
-- Locks no table, and the rows of running studies only at its end.

-- The modules of an objective that comes with orch have moved, from objectives to
-- orchestrator.training. The version of orch, which is pinned too, stands for them.
UPDATE study_user_attributes a
SET value_json = (
    SELECT jsonb_object_agg(pin.key, pin.value)::text FROM jsonb_each(a.value_json::jsonb) AS pin
    WHERE pin.key <> 'source' AND pin.key NOT LIKE 'module objectives%')
WHERE a.key = 'orch:software' AND EXISTS (
    SELECT FROM jsonb_object_keys(a.value_json::jsonb) AS name
    WHERE name LIKE 'module objectives%');

-- The note of a kept model was a JSON object; Optuna reads a JSON string that holds JSON.
UPDATE trial_system_attributes SET value_json = to_jsonb(value_json)::text
WHERE key LIKE 'artifacts:%' AND value_json LIKE '{%';

-- Constraints by the names of study.constraints are Optuna's own from a trial's end on.
SELECT orch.write_constraints(
    t.trial_id, c.names,
    (SELECT nspname FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
     WHERE r.oid = 'trials'::regclass))
FROM trials t JOIN (
    SELECT study_id, ARRAY(SELECT jsonb_array_elements_text(spec #> '{study,constraints}')) AS names
    FROM orch.study
) c USING (study_id)
WHERE t.state IN ('COMPLETE', 'PRUNED') AND EXISTS (
    SELECT FROM unnest(c.names) AS n(name) WHERE NOT EXISTS (
        SELECT FROM trial_system_attributes a
        WHERE a.trial_id = t.trial_id AND a.key = 'constraints:' || n.name));

-- A study has a link to the one that confirms it. Before, only their names told.
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

-- A report reads what it needs of the objective from orch.study.objective. For the
-- objectives that come with orch and for hypermodels it follows from the spec, all but the search
-- space; the first worker, or orch resume, adds that. A function or class of the user's stays NULL.
UPDATE orch.study SET objective = jsonb_build_object(
    'steps', CASE
        WHEN name = 'quadratic' THEN coalesce((spec #>> '{objective,steps}')::integer, 5)
        WHEN rounds > 1 AND name <> 'imported' THEN rounds
        WHEN searched ? 'int' THEN (
            SELECT max(value) FROM generate_series(
                (searched #>> '{int,0}')::integer, (searched #>> '{int,1}')::integer,
                coalesce((searched ->> 'step')::integer, 1)) AS value)
        WHEN searched ? 'choice' THEN (
            SELECT max(value::integer)
            FROM jsonb_array_elements_text(searched -> 'choice') AS e(value))
        WHEN jsonb_typeof(searched) = 'number' THEN searched::integer
        ELSE (spec #>> '{training,epochs}')::integer END,
    'has_epochs', name <> 'quadratic',
    'model_suffix', CASE WHEN name NOT IN ('quadratic', 'imported') THEN '.keras' END)
FROM (
    SELECT study_id AS id, spec #>> '{study,objective}' AS name, spec #> '{space,epochs}' AS searched,
           greatest(1, (spec #>> '{training,folds}')::integer)
               * (spec #>> '{training,repeats}')::integer AS rounds
    FROM orch.study
) AS known
WHERE study_id = id AND objective IS NULL
  AND (name IN ('mnist', 'digits', 'quadratic', 'imported') OR starts_with(name, 'kt:'));
