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

-- Version 7: workers set a column that the roles of before do not know.
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'orch_worker') THEN
        GRANT UPDATE (wrong_use) ON orch.study TO orch_worker;
    END IF;
END $$;
-- Version 7: the note of a kept model was a JSON object; Optuna reads a JSON string that holds JSON.
UPDATE trial_system_attributes SET value_json = to_jsonb(value_json)::text
WHERE key LIKE 'artifacts:%' AND value_json LIKE '{%';

-- Version 7: constraints by the names of study.constraints are Optuna's own from a trial's end on.
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
