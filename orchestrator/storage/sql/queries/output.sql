-- Output: what trials printed.

-- output_of_trial --
SELECT worker_id::text, lease, lines, ended, body FROM orch.output
WHERE trial_id = %(trial_id)s ORDER BY began_at

-- output_of_failed --
-- The newest part of each failed trial's output; of a whole study, or of one trial.
SELECT DISTINCT ON (trial_id) trial_id, t.number, o.body
FROM trials t JOIN orch.output o USING (trial_id)
WHERE t.state = 'FAIL' AND (t.study_id = %(study_id)s OR trial_id = %(trial_id)s)
ORDER BY trial_id, o.began_at DESC

-- end_of_trial --
-- ended_seconds: how long ago it ended; NULL: it may still print.
SELECT trial_id, CASE WHEN state IN ('COMPLETE', 'PRUNED', 'FAIL') THEN coalesce(extract(
           epoch FROM orch.utc_now() - datetime_complete)::double precision, 'Infinity')
       END AS ended_seconds
FROM trials WHERE study_id = %(study_id)s AND number = %(number)s

-- count_trials --
SELECT count(*) AS trials FROM trials WHERE study_id = %(study_id)s
