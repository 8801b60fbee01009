-- Least-privilege roles, and what each may do. Run by an administrator of the database after the
-- schema is there; again after an upgrade, then also as orch_owner. Runs in one transaction.

DO $$
DECLARE
    v_role text;
    v_object record;
    v_optuna text[] := ARRAY[
        'alembic_version', 'version_info', 'studies', 'study_directions',
        'study_user_attributes', 'study_system_attributes', 'trials', 'trial_params',
        'trial_values', 'trial_intermediate_values', 'trial_user_attributes',
        'trial_system_attributes', 'trial_heartbeats'];
BEGIN
    FOREACH v_role IN ARRAY ARRAY['orch_owner', 'orch_worker', 'orch_reader'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = v_role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', v_role);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), v_role);
    END LOOP;
    IF current_user <> 'orch_owner'
       AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        -- Who is not a superuser gives away only to a role that it is a member of.
        GRANT orch_owner TO CURRENT_USER;
    END IF;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO orch_owner', current_database());
    GRANT USAGE, CREATE ON SCHEMA public TO orch_owner;
    IF current_user <> 'orch_owner' THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;

    -- First of all: who is given a table must be allowed to make one in its schema.
    ALTER SCHEMA orch OWNER TO orch_owner;
    FOR v_object IN
        SELECT format('TABLE %s', c.oid::regclass) AS name FROM pg_class c
        WHERE c.relkind = 'r' AND pg_get_userbyid(c.relowner) <> 'orch_owner'
          AND (c.relnamespace = 'orch'::regnamespace OR c.oid IN (
              SELECT to_regclass(name) FROM unnest(v_optuna) AS o(name)))
        UNION ALL
        SELECT format('ROUTINE %s', p.oid::regprocedure) FROM pg_proc p
        WHERE p.pronamespace = 'orch'::regnamespace
          AND pg_get_userbyid(p.proowner) <> 'orch_owner'
        UNION ALL
        SELECT format('TYPE %s', t.oid::regtype) FROM pg_type t
        WHERE t.typtype = 'e' AND pg_get_userbyid(t.typowner) <> 'orch_owner'
          AND t.typname IN ('studydirection', 'trialstate', 'trialvaluetype',
                            'trialintermediatevaluetype')
    LOOP
        EXECUTE format('ALTER %s OWNER TO orch_owner', v_object.name);
    END LOOP;

    FOREACH v_role IN ARRAY v_optuna LOOP
        EXECUTE format('REVOKE ALL ON %I FROM orch_worker, orch_reader', v_role);
        EXECUTE format('GRANT SELECT ON %I TO orch_worker, orch_reader', v_role);
    END LOOP;
END
$$;

REVOKE ALL ON ALL TABLES IN SCHEMA orch FROM orch_worker, orch_reader;
GRANT USAGE ON SCHEMA public, orch TO orch_worker, orch_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA orch TO orch_worker, orch_reader;

-- A worker takes trials, reports and ends them; it makes, renames and removes no study, removes no
-- trial, and changes neither a spec nor a budget. It writes to no table: it calls the functions that
-- calls.sql grants it, which run with their owner's rights and want its token for what is leased.
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public, orch FROM orch_worker, orch_reader;

-- For one version: what a running worker of version 7 writes by itself while it ends its trial, its
-- heartbeat and the bytes of a checkpoint.
GRANT UPDATE (renewed_at) ON orch.lease TO orch_worker;
GRANT UPDATE (last_seen_at, left_at) ON orch.worker TO orch_worker;
GRANT INSERT, DELETE ON orch.artifact TO orch_worker;
GRANT INSERT ON orch.artifact_chunk TO orch_worker;
