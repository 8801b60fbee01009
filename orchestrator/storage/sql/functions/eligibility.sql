-- Which trials may win: the rule of orchestrator/spec/eligibility.py.

-- A constraint's value as a finite number, from its JSON; more than 0 is violated. What is missing or
-- not a number counts as violated.
CREATE OR REPLACE FUNCTION orch.violation(p_json text) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_json ~ '^-?[0-9]' THEN CASE
            WHEN length(p_json) <= 300 THEN p_json::double precision
            -- A whole number of Python that no float holds.
            WHEN starts_with(p_json, '-') THEN -1e300 ELSE 1e300 END
        WHEN p_json = '-Infinity' THEN -1e9
        WHEN p_json = 'false' THEN 0
        WHEN p_json = 'true' THEN 1
        ELSE 1e9 END
$$;

-- Of the list in which Optuna stored all constraints before version 5.
CREATE OR REPLACE FUNCTION orch.any_violated(p_list text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT p_list LIKE '[_%]' AND EXISTS (
        SELECT FROM regexp_split_to_table(trim(BOTH '[] ' FROM p_list), ', *') AS e(value)
        WHERE orch.violation(value) > 0)
$$;

-- Whether a constraint that a trial holds is violated: 'constraints:NAME', or 'constraints', the list.
CREATE OR REPLACE FUNCTION orch.is_violated(p_key text, p_json text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE p_key WHEN 'constraints' THEN orch.any_violated(p_json)
           ELSE orch.violation(p_json) > 0 END
$$;

-- The trials that may win, with the first metric's value: COMPLETE, all values finite, and no constraint
-- violated. A name of study.constraints is a constraint even where the trial does not hold it.
-- One plain SELECT: it becomes part of the query that asks, and is planned with it.
CREATE OR REPLACE FUNCTION orch.able_trials(p_study integer)
RETURNS TABLE (trial_id integer, number integer, value double precision)
LANGUAGE sql STABLE AS $$
    SELECT t.trial_id, t.number, v.value FROM trials t JOIN trial_values v USING (trial_id)
    WHERE t.study_id = p_study AND t.state = 'COMPLETE' AND v.objective = 0
      AND NOT EXISTS (
          SELECT FROM trial_values f WHERE f.trial_id = t.trial_id AND f.value_type <> 'FINITE')
      AND NOT EXISTS (
          SELECT FROM trial_system_attributes c
          WHERE c.trial_id = t.trial_id AND (c.key = 'constraints' OR c.key LIKE 'constraints:%')
            AND orch.is_violated(c.key, c.value_json))
      AND NOT EXISTS (
          SELECT FROM jsonb_array_elements_text((
              SELECT spec #> '{study,constraints}' FROM orch.study WHERE study_id = p_study
          )) AS n(name)
          LEFT JOIN trial_user_attributes u ON u.trial_id = t.trial_id AND u.key = n.name
          WHERE orch.violation(u.value_json) > 0 AND NOT EXISTS (
              SELECT FROM trial_system_attributes c
              WHERE c.trial_id = t.trial_id AND c.key = 'constraints:' || n.name))
$$;

-- Write user attributes of these names as constraints, where the trial holds none of that name. The
-- tables' schema is named: a trigger that runs with its owner's rights calls this.
-- The list that a worker of orch before version 7 wrote of the same attributes goes.
CREATE OR REPLACE FUNCTION orch.write_constraints(p_trial integer, p_names text[], p_schema name)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($query$
        WITH named AS (
            SELECT n.name, n.place, to_jsonb(orch.violation(u.value_json)) AS value
            FROM unnest($2) WITH ORDINALITY AS n(name, place)
            LEFT JOIN %1$I.trial_user_attributes u ON u.trial_id = $1 AND u.key = n.name
        ), replaced AS (
            DELETE FROM %1$I.trial_system_attributes WHERE trial_id = $1 AND key = 'constraints'
            AND CASE WHEN value_json ~ '^\[[-+0-9.e, ]*\]$' THEN value_json::jsonb = (
                SELECT jsonb_agg(value ORDER BY place) FROM named) END
        )
        INSERT INTO %1$I.trial_system_attributes (trial_id, key, value_json)
        SELECT $1, 'constraints:' || name, value::text FROM named ORDER BY place
        ON CONFLICT DO NOTHING
    $query$, p_schema) USING p_trial, p_names;
    UPDATE orch.change SET xid = pg_current_xact_id() WHERE trial_id = p_trial;
END
$$;

-- At a trial's end, whoever ends it: a worker, a plan, or plain Optuna.
CREATE OR REPLACE FUNCTION orch.write_constraints_at_end() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    v_names text[] := ARRAY(
        SELECT jsonb_array_elements_text(spec #> '{study,constraints}') FROM orch.study
        WHERE study_id = NEW.study_id);
BEGIN
    IF cardinality(v_names) > 0 THEN
        PERFORM orch.write_constraints(NEW.trial_id, v_names, TG_TABLE_SCHEMA);
    END IF;
    RETURN NULL;
END
$$;

DROP TRIGGER IF EXISTS orch_constraints ON trials;
CREATE TRIGGER orch_constraints AFTER UPDATE OF state ON trials FOR EACH ROW
WHEN (NEW.state IN ('COMPLETE', 'PRUNED') AND OLD.state NOT IN ('COMPLETE', 'PRUNED'))
EXECUTE FUNCTION orch.write_constraints_at_end();

-- A new attempt sets its own: Optuna ignores a second value of a name.
CREATE OR REPLACE FUNCTION orch.forget_constraints(p_trials integer[]) RETURNS void
LANGUAGE sql AS $$
    DELETE FROM trial_system_attributes
    WHERE trial_id = ANY (p_trials) AND (key = 'constraints' OR key LIKE 'constraints:%')
$$;
