-- The server: what it is, and which schema it has.

-- server_facts --
SELECT current_setting('server_version_num')::integer AS version,
       to_regclass('alembic_version') IS NOT NULL AS has_optuna,
       to_regclass('orch.schema_version') IS NOT NULL AS has_orch

-- rights_to_create --
SELECT current_user AS role, has_database_privilege(current_database(), 'CREATE') AS in_database,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS in_schema

-- optuna_revision --
SELECT version_num AS revision FROM alembic_version

-- orch_version --
SELECT version FROM orch.schema_version

-- set_orch_version --
DELETE FROM orch.schema_version;
INSERT INTO orch.schema_version VALUES (%(version)s)

-- lock_setup --
SELECT pg_advisory_xact_lock(hashtext('orch.setup'))

-- server_clock --
SELECT extract(epoch FROM clock_timestamp())::double precision AS seconds
