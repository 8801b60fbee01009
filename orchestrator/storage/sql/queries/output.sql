-- Output: what trials printed.

-- output_of_trial --
SELECT worker_id::text, lease, lines, ended, body FROM orch.output
WHERE trial_id = %(trial_id)s ORDER BY began_at

-- last_outputs --
-- The newest lease's of one trial; or, of a study, those of the newest trials that failed, of the
-- newest others, and of these numbers.
WITH with_output AS (
    SELECT trial_id, number, state = 'FAIL' AS failed FROM trials t
    WHERE study_id = %(study_id)s
      AND EXISTS (SELECT FROM orch.output o WHERE o.trial_id = t.trial_id)
), chosen AS (
    SELECT trial_id, number FROM trials WHERE trial_id = %(trial_id)s
    UNION
    (SELECT trial_id, number FROM with_output WHERE failed ORDER BY number DESC LIMIT %(most)s)
    UNION
    (SELECT trial_id, number FROM with_output WHERE NOT failed ORDER BY number DESC LIMIT %(most)s)
    UNION
    SELECT trial_id, number FROM with_output WHERE number = ANY (%(numbers)s::integer[])
)
SELECT c.trial_id, c.number, o.body, o.ended
FROM chosen c CROSS JOIN LATERAL (
    SELECT body, ended FROM orch.output WHERE trial_id = c.trial_id ORDER BY began_at DESC LIMIT 1
) AS o
WHERE c.trial_id <> ALL (%(known)s::integer[])
ORDER BY c.number DESC

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
