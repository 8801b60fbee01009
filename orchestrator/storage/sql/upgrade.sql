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
