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
    INSERT INTO orch.change AS c (trial_id, study_id, xid, touched)
    VALUES (NEW.trial_id, NEW.study_id, pg_current_xact_id(), true)
    ON CONFLICT (trial_id) DO UPDATE SET xid = excluded.xid, touched = true
    WHERE c.xid <> excluded.xid OR NOT c.touched;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION orch.note_part() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    UPDATE orch.change SET xid = pg_current_xact_id(), touched = true
    WHERE trial_id = NEW.trial_id AND (xid <> pg_current_xact_id() OR NOT touched);
    RETURN NULL;
END
$$;

-- From where the next call of orch.changes goes on: the oldest transaction that is still running, so
-- that nothing is missed, and little is seen twice. To be asked for before what has changed.
CREATE OR REPLACE FUNCTION orch.cursor_now() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN pg_snapshot_xmin(pg_current_snapshot());
END
$$;

-- What p_since is: a cursor, and after it, in words, what is wanted of the trials that others changed:
-- '12-34 rungs'. Without a word it is everything.

-- The study's trials that were written by the transaction p_since or a newer one (NULL: none). The
-- cursor may name a second transaction, as 12-34: what that one wrote is known.
CREATE OR REPLACE FUNCTION orch.changed(p_study integer, p_since text) RETURNS integer[]
LANGUAGE plpgsql AS $$
DECLARE
    v_cursor text := split_part(p_since, ' ', 1);
    v_since xid8 := split_part(v_cursor, '-', 1);
    v_known xid8 := coalesce(nullif(split_part(v_cursor, '-', 2), ''), '0');
BEGIN
    RETURN ARRAY(SELECT trial_id FROM orch.change
                 WHERE study_id = p_study AND xid >= v_since AND xid <> v_known);
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

-- Of trials only what Hyperband and ASHA compare: each with the rungs that it has noted.
CREATE OR REPLACE FUNCTION orch.read_rungs(p_trials integer[]) RETURNS json
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(p_trials) = 0 THEN
        RETURN '[]';
    END IF;
    RETURN (
        SELECT coalesce(json_agg(json_build_array(
            t.trial_id, t.number, t.state,
            (SELECT json_agg(json_build_array(key, value_json)) FROM trial_system_attributes s
             WHERE s.trial_id = t.trial_id AND key LIKE 'completed\_rung\_%')
        ) ORDER BY t.number), '[]')
        FROM trials t WHERE t.trial_id = ANY (p_trials)
    );
END
$$;

-- The key under which changes are told, and what is told of them.
CREATE OR REPLACE FUNCTION orch.changes_key(p_since text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN CASE WHEN p_since LIKE '% rungs' THEN 'rungs' ELSE 'trials' END;
END
$$;

CREATE OR REPLACE FUNCTION orch.read_changed(p_trials integer[], p_since text) RETURNS json
LANGUAGE plpgsql AS $$
BEGIN
    IF orch.changes_key(p_since) = 'rungs' THEN
        RETURN orch.read_rungs(p_trials);
    END IF;
    RETURN orch.read_trials(p_trials);
END
$$;

-- The changed trials of the study and those in p_also, but not p_but; and the next cursor.
CREATE OR REPLACE FUNCTION orch.changes(
    p_study integer, p_since text, p_also integer[], p_but integer DEFAULT NULL
) RETURNS json LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off
SET jit = off AS $$
DECLARE
    v_cursor text := orch.cursor_now();
    v_trials integer[] := array_remove(orch.changed(p_study, p_since) || p_also, p_but);
BEGIN
    RETURN json_build_object(
        'cursor', v_cursor, orch.changes_key(p_since), orch.read_changed(v_trials, p_since));
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
