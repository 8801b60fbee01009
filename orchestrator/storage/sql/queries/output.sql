-- Output: what trials printed.

-- output_of_trial --
SELECT worker_id::text, lease, lines, ended, body FROM orch.output
WHERE trial_id = %(trial_id)s ORDER BY began_at

-- output_of_failed --
-- The newest lease's of each failed trial; of a whole study the newest trials, or of one trial.
SELECT t.trial_id, t.number, o.body, o.ended
FROM trials t CROSS JOIN LATERAL (
    SELECT body, ended FROM orch.output WHERE trial_id = t.trial_id ORDER BY began_at DESC LIMIT 1
) AS o
WHERE t.state = 'FAIL' AND (t.study_id = %(study_id)s OR t.trial_id = %(trial_id)s)
  AND t.trial_id <> ALL (%(known)s::integer[])
ORDER BY t.number DESC LIMIT %(most)s

-- end_of_trial --
-- ended_seconds: how long ago it ended; NULL: it may still print.
-- retried_as: the number of its next attempt; NULL: there is none.
SELECT trial_id, CASE WHEN state IN ('COMPLETE', 'PRUNED', 'FAIL') THEN coalesce(extract(epoch FROM
           (clock_timestamp() AT TIME ZONE 'UTC') - datetime_complete)::double precision, 'Infinity')
       END AS ended_seconds,
       (SELECT a.value_json::integer FROM trial_user_attributes a
        WHERE a.trial_id = trials.trial_id AND a.key = 'orch:retried_as') AS retried_as
FROM trials WHERE study_id = %(study_id)s AND number = %(number)s

-- count_trials --
SELECT count(*) AS trials FROM trials WHERE study_id = %(study_id)s
