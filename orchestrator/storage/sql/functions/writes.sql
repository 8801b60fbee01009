-- What a trial writes while it runs.

CREATE OR REPLACE FUNCTION orch.set_values(
    p_trial integer, p_values double precision[], p_types text[]
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    SELECT p_trial, n - 1, v, t::trialvaluetype
    FROM unnest(p_values, p_types) WITH ORDINALITY AS u(v, t, n)
    ON CONFLICT (trial_id, objective)
    DO UPDATE SET value = excluded.value, value_type = excluded.value_type;
END
$$;

-- What a step has logged with what is logged later: a name's later number counts.
CREATE OR REPLACE FUNCTION orch.merge_logged(
    p_names text[], p_numbers double precision[],
    p_later_names text[], p_later_numbers double precision[],
    OUT names text[], OUT numbers double precision[]
) LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    SELECT array_agg(m.name ORDER BY m.place), array_agg(m.number ORDER BY m.place)
    INTO names, numbers
    FROM (
        SELECT u.name, (array_agg(u.number ORDER BY u.place DESC))[1] AS number,
               min(u.place) AS place
        FROM unnest(p_names || p_later_names, p_numbers || p_later_numbers) WITH ORDINALITY
            AS u(name, number, place)
        GROUP BY u.name
    ) AS m;
END
$$;

-- Store what a trial has drawn, noted, reported and logged; repeating it changes nothing. p_writes has
-- values ([step, value, type]), params ([name, value, distribution as JSON text]), logs ([step, names,
-- numbers as text]), and the attributes user and system (JSON text by key). A key may be missing.
CREATE OR REPLACE FUNCTION orch.store(p_trial integer, p_writes jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF p_writes ? 'params' THEN
        INSERT INTO trial_params AS o (trial_id, param_name, param_value, distribution_json)
        SELECT p_trial, p ->> 0, (p ->> 1)::double precision, p ->> 2
        FROM jsonb_array_elements(p_writes -> 'params') AS e(p)
        ON CONFLICT (trial_id, param_name) DO UPDATE
        SET param_value = excluded.param_value, distribution_json = excluded.distribution_json
        WHERE (o.param_value, o.distribution_json)
            IS DISTINCT FROM (excluded.param_value, excluded.distribution_json);
    END IF;
    IF p_writes ? 'values' THEN
        INSERT INTO trial_intermediate_values AS o
            (trial_id, step, intermediate_value, intermediate_value_type)
        SELECT p_trial, (v ->> 0)::integer, (v ->> 1)::double precision,
               (v ->> 2)::trialintermediatevaluetype
        FROM jsonb_array_elements(p_writes -> 'values') AS e(v)
        ON CONFLICT (trial_id, step) DO UPDATE
        SET intermediate_value = excluded.intermediate_value,
            intermediate_value_type = excluded.intermediate_value_type
        WHERE (o.intermediate_value, o.intermediate_value_type)
            IS DISTINCT FROM (excluded.intermediate_value, excluded.intermediate_value_type);
    END IF;
    IF p_writes ? 'logs' THEN
        INSERT INTO orch.logged AS o (trial_id, step, names, numbers)
        SELECT p_trial, (l ->> 0)::integer,
               ARRAY(SELECT jsonb_array_elements_text(l -> 1)),
               ARRAY(SELECT jsonb_array_elements_text(l -> 2)::double precision)
        FROM jsonb_array_elements(p_writes -> 'logs') AS e(l)
        ON CONFLICT (trial_id, step) DO UPDATE
        SET (names, numbers) = (SELECT m.names, m.numbers FROM orch.merge_logged(
            o.names, o.numbers, excluded.names, excluded.numbers) AS m)
        WHERE (o.names, o.numbers) IS DISTINCT FROM (excluded.names, excluded.numbers);
    END IF;
    IF p_writes ? 'user' THEN
        INSERT INTO trial_user_attributes AS o (trial_id, key, value_json)
        SELECT p_trial, e.key, e.value FROM jsonb_each_text(p_writes -> 'user') AS e
        ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
        WHERE o.value_json <> excluded.value_json;
    END IF;
    IF p_writes ? 'system' THEN
        INSERT INTO trial_system_attributes AS o (trial_id, key, value_json)
        SELECT p_trial, e.key, e.value FROM jsonb_each_text(p_writes -> 'system') AS e
        ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json
        WHERE o.value_json <> excluded.value_json;
    END IF;
END
$$;

-- What a trial writes while it runs; a sign of life too. It may wait for the disk only when it is
-- durable: what a crash of the server loses, the worker writes again with the trial's end, which
-- looks for the newest write's number in the lease (see orch.finish). p_after is the number of the
-- newest one that had arrived before; where that one is lost, this one is not counted either.
-- Where p_since is not NULL the answer brings what others have changed (see orch.position_now).
CREATE OR REPLACE FUNCTION orch.write(
    p_trial integer, p_token uuid, p_serial integer, p_after integer, p_writes jsonb,
    p_durable boolean, p_server uuid, p_since xid8, p_known xid8,
    OUT held boolean, OUT server uuid, OUT since xid8, OUT others json
) LANGUAGE plpgsql AS $$
DECLARE
    v_worker uuid := orch.worker_of(p_token);
    v_now record;
    v_study integer;
    v_setting text;
BEGIN
    IF NOT p_durable THEN
        v_setting := set_config('synchronous_commit', 'off', true);
    END IF;
    IF p_since IS NOT NULL THEN
        v_now := orch.position_now();
    END IF;
    -- The lease's row is locked against its being taken back until all is in.
    UPDATE orch.lease l SET renewed_at = clock_timestamp(),
        serial = CASE WHEN l.serial < p_after THEN l.serial ELSE p_serial END FROM trials t
    WHERE l.trial_id = p_trial AND l.worker_id = v_worker
      AND t.trial_id = l.trial_id AND t.state = 'RUNNING'
    RETURNING t.study_id INTO v_study;
    held := FOUND;
    IF NOT held THEN
        RETURN;
    END IF;
    v_setting := set_config('orch.noted', p_trial::text, true);  -- once for all rows, and after them
    PERFORM orch.store(p_trial, p_writes);
    IF p_writes ?| '{params,user,system}' THEN
        PERFORM orch.note(p_trial);
    END IF;
    -- The worker's row is looked at in seconds; it need not be written more often.
    UPDATE orch.worker SET last_seen_at = clock_timestamp()
    WHERE worker_id = v_worker AND last_seen_at < clock_timestamp() - interval '0.1 s';
    IF p_since IS NOT NULL THEN
        server := v_now.server; since := v_now.since;
        -- Its own trial it knows best.
        others := orch.read_trials(array_remove(
            orch.changed_since(v_study, server, p_server, p_since, p_known), p_trial));
    END IF;
END
$$;
