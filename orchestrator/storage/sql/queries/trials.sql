-- Trials: the best ones, and their parameters.

-- best_trial --
SELECT trial_id, number, value FROM orch.able_trials(%(study_id)s)
ORDER BY CASE WHEN %(maximize)s THEN -value ELSE value END, number LIMIT 1

-- best_of_metrics --
SELECT DISTINCT ON (v.objective) v.objective, a.trial_id, a.number, v.value
FROM orch.able_trials(%(study_id)s) a JOIN trial_values v USING (trial_id)
JOIN study_directions d ON d.study_id = %(study_id)s AND d.objective = v.objective
ORDER BY v.objective, CASE d.direction WHEN 'MAXIMIZE' THEN -v.value ELSE v.value END, a.number

-- trial_of_number --
SELECT trial_id FROM trials WHERE study_id = %(study_id)s AND number = %(number)s

-- params_of_trial --
SELECT param_name, param_value, distribution_json FROM trial_params
WHERE trial_id = %(trial_id)s ORDER BY param_id

-- found_domains --
-- The parameters that trials have suggested so far, in the order of their first appearance.
SELECT param_name AS name, (array_agg(distribution_json ORDER BY param_id))[1] AS domain
FROM trial_params JOIN trials USING (trial_id) WHERE study_id = %(study_id)s
GROUP BY param_name ORDER BY min(param_id)

-- logged --
-- What trials have logged, a row for each set of names; of all trials where numbers is NULL. Of a
-- trial with more than most steps, some that are evenly spread, and the last.
SELECT l.number, l.names, array_agg(l.step ORDER BY l.step) AS steps,
       array_agg(l.numbers ORDER BY l.step) AS rows
FROM (
    SELECT t.number, o.step, o.names, o.numbers,
           row_number() OVER (PARTITION BY o.trial_id ORDER BY o.step) AS place,
           count(*) OVER (PARTITION BY o.trial_id) AS steps
    FROM orch.logged o JOIN trials t USING (trial_id)
    WHERE t.study_id = %(study_id)s AND cardinality(o.names) > 0
      AND (%(numbers)s::integer[] IS NULL OR t.number = ANY (%(numbers)s::integer[]))
) AS l
WHERE l.place = l.steps OR (l.place - 1) %% greatest(1, ceil(l.steps::numeric / %(most)s)) = 0
GROUP BY l.number, l.names ORDER BY l.number, min(l.step)

-- place_of_trial --
-- Who runs it now, or has run it; what it would continue from; whether its model is kept.
SELECT w.name AS worker,
       extract(epoch FROM clock_timestamp() - l.taken_at)::double precision AS leased_seconds,
       extract(epoch FROM clock_timestamp() - l.renewed_at)::double precision AS silent_seconds,
       (SELECT max(c.step) FROM orch.checkpoint c WHERE c.trial_id = t.trial_id) AS checkpoint,
       EXISTS (SELECT FROM orch.model m WHERE m.trial_id = t.trial_id) AS has_model
FROM trials t LEFT JOIN orch.lease l USING (trial_id) LEFT JOIN orch.worker w
    ON w.worker_id = coalesce(l.worker_id, (
        SELECT o.worker_id FROM orch.output o WHERE o.trial_id = t.trial_id
        ORDER BY o.began_at DESC LIMIT 1))
WHERE t.trial_id = %(trial_id)s
