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

-- schema_owner --
SELECT pg_get_userbyid(nspowner) AS owner, pg_has_role(nspowner, 'MEMBER') AS is_current
FROM pg_namespace WHERE nspname = 'orch'

-- act_as_owner --
-- What an administrator makes belongs to the owner of all the rest.
SELECT format('SET LOCAL ROLE %%I', pg_get_userbyid(nspowner)) AS statement
FROM pg_namespace JOIN pg_class ON pg_class.oid = to_regclass('trials') AND relowner = nspowner
WHERE nspname = 'orch' AND pg_has_role(nspowner, 'MEMBER')

-- create_migration_table --
CREATE TABLE IF NOT EXISTS orch.migration (
    name text PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- applied_migrations --
SELECT name FROM orch.migration

-- note_migration --
INSERT INTO orch.migration (name) VALUES (%(name)s) ON CONFLICT DO NOTHING

-- functions_made_before --
-- Neither made nor replaced by this transaction.
SELECT oid::regprocedure::text AS signature FROM pg_proc
WHERE pronamespace = 'orch'::regnamespace AND xmin <> pg_current_xact_id()::xid

-- other_transactions --
-- On this database. Of other users' transactions their state is not told.
SELECT l.virtualtransaction AS transaction FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'virtualxid' AND l.granted AND a.datname = current_database()
  AND a.pid <> pg_backend_pid() AND a.state IS DISTINCT FROM 'idle in transaction'

-- has_roles_to_renew --
-- Whether the roles have rights here, and this user may renew them.
SELECT count(*) = 3 AND (
           SELECT rolsuper OR rolname = 'orch_owner' FROM pg_roles WHERE rolname = current_user
       ) AS wanted
FROM pg_roles WHERE rolname IN ('orch_owner', 'orch_worker', 'orch_reader')
  AND has_schema_privilege(oid, 'orch', 'USAGE')

-- lock_setup --
SELECT pg_advisory_xact_lock(hashtext('orch.setup'))

-- server_clock --
SELECT extract(epoch FROM clock_timestamp())::double precision AS seconds
