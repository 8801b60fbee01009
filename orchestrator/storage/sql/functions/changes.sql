-- What Optuna's storage interface needs: which trials changed, and the writes of one trial.

-- Note that this transaction changes a trial. The setting, which ends with the transaction, tells
-- the triggers that nothing is left to note of that trial.
CREATE OR REPLACE FUNCTION orch.note(p_trial integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_setting text;
BEGIN
    UPDATE orch.change SET xid = pg_current_xact_id()
    WHERE trial_id = p_trial AND xid <> pg_current_xact_id();
    v_setting := set_config('orch.noted', p_trial::text, true);
END
$$;

-- What others write, plain Optuna workers above all, is noted by triggers. They run with their
-- owner's rights: such a worker may know nothing of our schema.
CREATE OR REPLACE FUNCTION orch.note_trial() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO orch.change AS c (trial_id, study_id, xid)
    VALUES (NEW.trial_id, NEW.study_id, pg_current_xact_id())
    ON CONFLICT (trial_id) DO UPDATE SET xid = excluded.xid WHERE c.xid <> excluded.xid;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION orch.note_part() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    UPDATE orch.change SET xid = pg_current_xact_id()
    WHERE trial_id = NEW.trial_id AND xid <> pg_current_xact_id();
    RETURN NULL;
END
$$;

-- A reader's position in a study: what it asks with, to be told what has changed since.
--   server   whose transactions the others are; see below
--   since    the oldest transaction that was running then: what that one or a newer one has written
--            is told, so that nothing is missed and little is told twice
--   known    one of those whose changes are known, that of the reader's own claim; or NULL
--
-- Where the reader is now, to be asked for before what has changed. A server that has crashed, or one
-- that took another's place, may have lost what was told, and gives the same numbers again to other
-- transactions. So a position holds for one server, from one start to its end: the table of starts is
-- unlogged, which PostgreSQL empties after every crash (of one backend too, when the server's process
-- and its start time stay), on a standby that takes over and in a base backup that is restored; a dump
-- that is restored elsewhere has the start time of another server.
CREATE OR REPLACE FUNCTION orch.position_now(OUT server uuid, OUT since xid8) LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_started timestamptz := pg_postmaster_start_time();
BEGIN
    since := pg_snapshot_xmin(pg_current_snapshot());
    SELECT s.server INTO server FROM orch.server_start s WHERE s.started_at = v_started;
    IF NOT FOUND AND NOT current_setting('transaction_read_only')::boolean THEN
        DELETE FROM orch.server_start WHERE started_at < v_started;
        INSERT INTO orch.server_start VALUES (v_started, gen_random_uuid()) ON CONFLICT DO NOTHING;
        SELECT s.server INTO server FROM orch.server_start s WHERE s.started_at = v_started;
    END IF;
END
$$;

-- The study's trials that a reader at this position does not know, as this server sees it: all of
-- them where the position is another server's. None where p_since is NULL: nobody asks.
CREATE OR REPLACE FUNCTION orch.changed_since(
    p_study integer, p_now uuid, p_server uuid, p_since xid8, p_known xid8
) RETURNS integer[] LANGUAGE plpgsql AS $$
BEGIN
    IF p_server = p_now THEN
        RETURN ARRAY(SELECT trial_id FROM orch.change
                     WHERE study_id = p_study AND xid >= p_since AND xid <> coalesce(p_known, '0'));
    END IF;
    RETURN ARRAY(SELECT trial_id FROM orch.change WHERE study_id = p_study AND p_since IS NOT NULL);
END
$$;

-- Those that this transaction has changed, and p_claimed: it may be handed out again, unchanged.
CREATE OR REPLACE FUNCTION orch.changed_here(p_study integer, p_claimed integer)
RETURNS integer[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN p_claimed || ARRAY(SELECT trial_id FROM orch.change
                              WHERE study_id = p_study AND xid = pg_current_xact_id());
END
$$;

-- Trials as storage/trial_cache.py reads them, in the order of their numbers. Attributes and
-- distributions are Optuna's JSON text, which may hold NaN. Times are naive UTC.
CREATE OR REPLACE FUNCTION orch.read_trials(p_trials integer[]) RETURNS json
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(p_trials) = 0 THEN
        RETURN '[]';
    END IF;
    RETURN (
        SELECT coalesce(json_agg(json_build_array(
            t.trial_id, t.number, t.state, t.datetime_start, t.datetime_complete,
            (SELECT json_agg(json_build_array(value, value_type) ORDER BY objective)
             FROM trial_values v WHERE v.trial_id = t.trial_id),
            (SELECT json_agg(json_build_array(param_name, param_value, distribution_json)
                             ORDER BY param_id)
             FROM trial_params p WHERE p.trial_id = t.trial_id),
            (SELECT json_agg(json_build_array(step, intermediate_value, intermediate_value_type)
                             ORDER BY step)
             FROM trial_intermediate_values i WHERE i.trial_id = t.trial_id),
            (SELECT json_agg(json_build_array(key, value_json) ORDER BY trial_user_attribute_id)
             FROM trial_user_attributes u WHERE u.trial_id = t.trial_id),
            (SELECT json_agg(json_build_array(key, value_json)
                             ORDER BY trial_system_attribute_id)
             FROM trial_system_attributes s WHERE s.trial_id = t.trial_id)
        ) ORDER BY t.number), '[]')
        FROM trials t WHERE t.trial_id = ANY (p_trials)
    );
END
$$;

-- The study's trials that the reader at this position does not know, those in p_also of which it wants
-- to hear again, and its new position.
CREATE OR REPLACE FUNCTION orch.read_changes(
    p_study integer, p_server uuid, p_since xid8, p_known xid8, p_also integer[],
    OUT server uuid, OUT since xid8, OUT others json
) LANGUAGE plpgsql AS $$
DECLARE
    v_now record := orch.position_now();
BEGIN
    server := v_now.server; since := v_now.since;
    others := orch.read_trials(
        orch.changed_since(p_study, server, p_server, p_since, p_known)
        || CASE WHEN server = p_server THEN p_also END);
END
$$;

-- A trial as Optuna's create_new_trial makes it. NULL: there is no such study.
CREATE OR REPLACE FUNCTION orch.add_trial(
    p_study integer, p_state trialstate, p_start timestamp, p_complete timestamp,
    p_values double precision[], p_types text[], p_writes jsonb
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_trial integer;
BEGIN
    IF NOT orch.lock_study(p_study) THEN
        RETURN NULL;
    END IF;
    v_trial := orch.new_trial(p_study, 'RUNNING');
    PERFORM orch.set_values(v_trial, p_values, p_types);
    PERFORM orch.store(v_trial, p_writes);
    -- It ends as others do, with all that it holds.
    UPDATE trials SET state = p_state, datetime_start = p_start, datetime_complete = p_complete
    WHERE trial_id = v_trial;
    RETURN v_trial;
END
$$;

-- Optuna's set_trial_state_values. The state that the trial had before; NULL: there is none such.
-- One that has ended is left as it is, and so is one that is to be RUNNING and is not WAITING.
CREATE OR REPLACE FUNCTION orch.set_state(
    p_trial integer, p_state trialstate, p_values double precision[], p_types text[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_state trialstate;
BEGIN
    SELECT state INTO v_state FROM trials WHERE trial_id = p_trial FOR NO KEY UPDATE;
    IF NOT FOUND OR v_state NOT IN ('RUNNING', 'WAITING')
        OR (p_state = 'RUNNING' AND v_state <> 'WAITING') THEN
        RETURN v_state;
    END IF;
    PERFORM orch.set_values(p_trial, p_values, p_types);
    UPDATE trials SET state = p_state,
        datetime_start = CASE p_state WHEN 'RUNNING' THEN orch.utc_now() ELSE datetime_start END,
        datetime_complete = CASE WHEN p_state IN ('COMPLETE', 'PRUNED', 'FAIL')
            THEN orch.utc_now() ELSE datetime_complete END
    WHERE trial_id = p_trial;
    RETURN v_state;
END
$$;

-- Optuna's set_trial_*: orch.store for a trial that has not ended. Returns as orch.set_state does.
CREATE OR REPLACE FUNCTION orch.store_open(p_trial integer, p_writes jsonb) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_state trialstate;
BEGIN
    SELECT state INTO v_state FROM trials WHERE trial_id = p_trial FOR NO KEY UPDATE;
    IF v_state IN ('RUNNING', 'WAITING') THEN
        PERFORM orch.store(p_trial, p_writes);
    END IF;
    RETURN v_state;
END
$$;
