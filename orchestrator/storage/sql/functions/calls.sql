-- What is called from outside: with which settings, and by whom. Run after all other functions, and
-- again when the roles are made (roles.sql).

DO $$
DECLARE
    -- Plans are kept only where they are generic, and one of a small table must not scan it when it
    -- has grown; nor may jit set in, which older servers would think worth its while where a scan
    -- cannot be avoided. A bitmap scan reads the entries of rows that are gone each time anew, until
    -- the next vacuum; an index scan marks them.
    v_of_every_trial text[] := ARRAY['claim', 'write', 'finish', 'read_changes'];
    v_of_workers text[] := ARRAY[
        'join_study', 'leave_study', 'claim', 'renew', 'write', 'finish', 'fail', 'release', 'pause',
        'resume', 'stop_misused', 'save', 'keep_best_model', 'advance_plan', 'exhaust_study',
        'store_facts', 'record_mismatch', 'add_artifact', 'add_chunk', 'remove_artifact',
        'remove_orphans', 'add_trial', 'set_state', 'store_open', 'set_study_user_attribute',
        'set_study_system_attribute', 'store_output',
        'list_configurations', 'keep_configuration',
        -- kept_functions.sql
        'claim_trial', 'write_trial', 'finish_trial', 'finish_and_claim', 'fail_trial',
        'fail_attempt', 'stop_for_wrong_use', 'give_back_trial', 'pause_trial', 'resume_trial',
        'save_checkpoint', 'keep_model'];
    -- What only reads does so with its caller's rights.
    v_of_readers text[] := ARRAY[
        'read_changes', 'position_now', 'changed_since', 'read_trials', 'changes'];
    v_path text := (
        SELECT nspname FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
        WHERE r.oid = 'trials'::regclass);
    v_call record;
BEGIN
    FOR v_call IN
        SELECT p.oid::regprocedure AS signature, proname AS name, provolatile = 'v' AS writes
        FROM pg_proc p WHERE pronamespace = 'orch'::regnamespace AND prorettype <> 'trigger'::regtype
    LOOP
        IF v_call.name = ANY (v_of_every_trial) THEN
            EXECUTE format(
                'ALTER FUNCTION %s SET search_path = %I, pg_temp
                     SET plan_cache_mode = force_generic_plan SET jit = off
                     SET enable_seqscan = off SET enable_bitmapscan = off',
                v_call.signature, v_path);
        END IF;
        -- Whoever may call it needs no right on any table; so nothing of the caller's counts in it.
        IF v_call.name = ANY (v_of_workers) THEN
            EXECUTE format('ALTER FUNCTION %s SECURITY DEFINER SET search_path = %I, pg_temp',
                           v_call.signature, v_path);
        END IF;
        IF v_call.writes AND v_call.name <> ALL (v_of_readers) THEN
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', v_call.signature);
        END IF;
        IF v_call.name = ANY (v_of_workers)
            AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'orch_worker') THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO orch_worker', v_call.signature);
        END IF;
    END LOOP;
END
$$;
