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
