-- Optuna's storage interface: the queries of postgres_storage.py, on Optuna's own tables.

-- plain_studies --
-- One study, or all.
SELECT s.study_id, s.study_name AS name,
    (SELECT coalesce(json_agg(direction::text ORDER BY objective), '[]')
     FROM study_directions d WHERE d.study_id = s.study_id) AS directions,
    (SELECT coalesce(json_agg(json_build_array(key, value_json)), '[]')
     FROM study_user_attributes u WHERE u.study_id = s.study_id) AS user_attributes,
    (SELECT coalesce(json_agg(json_build_array(key, value_json)), '[]')
     FROM study_system_attributes a WHERE a.study_id = s.study_id) AS system_attributes
FROM studies s WHERE s.study_id = coalesce(%(study_id)s, s.study_id) ORDER BY s.study_id

-- study_by_name --
SELECT study_id FROM studies WHERE study_name = %(name)s

-- add_trials --
-- Trials in bulk, each with its number: [number, state, start, complete], and by name its rows.
WITH source AS MATERIALIZED (
    SELECT (t #>> '{trial,0}')::integer AS number, t FROM jsonb_array_elements(%(trials)s) AS e(t)
), new AS (
    INSERT INTO trials (study_id, number, state, datetime_start, datetime_complete)
    SELECT %(study_id)s, number, (t #>> '{trial,1}')::trialstate,
        (t #>> '{trial,2}')::timestamp, (t #>> '{trial,3}')::timestamp
    FROM source ORDER BY number RETURNING trial_id, number
), whole AS MATERIALIZED (
    SELECT new.trial_id, new.number, t FROM new JOIN source USING (number)
), value AS (
    INSERT INTO trial_values (trial_id, objective, value, value_type)
    SELECT trial_id, place - 1, (r ->> 0)::double precision, (r ->> 1)::trialvaluetype
    FROM whole, jsonb_array_elements(t -> 'values') WITH ORDINALITY AS e(r, place)
), reported AS (
    INSERT INTO trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT trial_id, (r ->> 0)::integer, (r ->> 1)::double precision,
        (r ->> 2)::trialintermediatevaluetype
    FROM whole, jsonb_array_elements(t -> 'reported') AS e(r)
), param AS (
    INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT trial_id, r ->> 0, (r ->> 1)::double precision, r ->> 2
    FROM whole, jsonb_array_elements(t -> 'params') WITH ORDINALITY AS e(r, place)
    ORDER BY number, place
), user_attribute AS (
    INSERT INTO trial_user_attributes (trial_id, key, value_json)
    SELECT trial_id, r ->> 0, r ->> 1
    FROM whole, jsonb_array_elements(t -> 'user') WITH ORDINALITY AS e(r, place)
    ORDER BY number, place
), system_attribute AS (
    INSERT INTO trial_system_attributes (trial_id, key, value_json)
    SELECT trial_id, r ->> 0, r ->> 1
    FROM whole, jsonb_array_elements(t -> 'system') WITH ORDINALITY AS e(r, place)
    ORDER BY number, place
)
SELECT number, trial_id FROM whole

-- domain_of_param --
SELECT t.study_id, (
    SELECT p.distribution_json FROM trials o JOIN trial_params p USING (trial_id)
    WHERE o.study_id = t.study_id AND p.param_name = %(name)s LIMIT 1
) AS distribution_json
FROM trials t WHERE t.trial_id = %(trial_id)s

-- trial_by_id --
SELECT orch.read_trials(ARRAY[trial_id]) AS trials FROM trials WHERE trial_id = %(trial_id)s

-- trial_by_number --
SELECT trial_id FROM trials WHERE study_id = %(study_id)s AND number = %(number)s

-- changed_trials --
-- No row: there is no such study.
SELECT c.* FROM studies s, orch.read_changes(
    s.study_id, %(server)s, %(since)s, %(known)s, %(also)s::integer[]) c
WHERE s.study_id = %(study_id)s
