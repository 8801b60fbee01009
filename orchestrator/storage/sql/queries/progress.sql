-- Progress: what reports, metrics and live views count.

-- progress --
SELECT o.budget, o.state, o.reason,
       count(*) FILTER (WHERE t.state = 'COMPLETE') AS complete,
       count(*) FILTER (WHERE t.state = 'PRUNED') AS pruned,
       count(*) FILTER (WHERE t.state = 'FAIL' AND NOT EXISTS (
           SELECT 1 FROM trial_user_attributes a
           WHERE a.trial_id = t.trial_id AND a.key = 'orch:retried_as')) AS failed,
       count(*) FILTER (WHERE t.state = 'RUNNING') AS running,
       (SELECT count(*) FROM trial_intermediate_values v JOIN trials tv USING (trial_id)
        WHERE tv.study_id = o.study_id AND tv.state = 'PRUNED') AS values_of_pruned
FROM orch.study o LEFT JOIN trials t USING (study_id)
WHERE o.study_id = %(study_id)s GROUP BY o.study_id

-- elapsed_seconds --
SELECT extract(epoch FROM
    CASE WHEN bool_or(state = 'RUNNING') THEN clock_timestamp() AT TIME ZONE 'UTC'
         ELSE max(datetime_complete) END - min(datetime_start))::double precision AS elapsed
FROM trials WHERE study_id = %(study_id)s

-- ended_since --
SELECT t.trial_id, t.number, t.state::text AS state, r.value_json AS reason,
       ARRAY(SELECT CASE v.value_type WHEN 'INF_POS' THEN 'Infinity' WHEN 'INF_NEG' THEN '-Infinity'
                    ELSE v.value END
             FROM trial_values v WHERE v.trial_id = t.trial_id ORDER BY v.objective) AS values
FROM trials t LEFT JOIN trial_user_attributes r ON r.trial_id = t.trial_id AND r.key = 'orch:reason'
WHERE t.study_id = %(study_id)s AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
  AND NOT t.trial_id = ANY(%(known)s::integer[])
ORDER BY t.datetime_complete, t.number

-- metrics_of_studies --
-- An epoch's seconds are those of trials that say how long they took.
SELECT s.study_name AS name, o.budget, t.*, w.workers, e.epochs, p.seconds / nullif(p.epochs, 0)
           AS epoch_seconds,
       CASE d.direction WHEN 'MAXIMIZE' THEN v.highest ELSE v.lowest END AS best
FROM studies s JOIN orch.study o USING (study_id)
JOIN study_directions d ON d.study_id = s.study_id AND d.objective = 0
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'COMPLETE') AS complete,
           count(*) FILTER (WHERE state = 'PRUNED') AS pruned,
           count(*) FILTER (WHERE state = 'RUNNING') AS running,
           count(*) FILTER (WHERE state = 'WAITING') AS waiting,
           count(*) FILTER (WHERE state = 'FAIL' AND a.trial_id IS NULL) AS failed,
           count(a.trial_id) AS retries
    FROM trials LEFT JOIN trial_user_attributes a
        ON a.trial_id = trials.trial_id AND a.key = 'orch:retried_as'
    WHERE study_id = s.study_id
) t CROSS JOIN LATERAL (
    SELECT count(*) AS workers FROM orch.worker
    WHERE study_id = s.study_id AND left_at IS NULL AND last_seen_at
        > clock_timestamp() - make_interval(secs => orch.setting(s.study_id, 'grace_seconds'))
) w CROSS JOIN LATERAL (
    SELECT count(*) AS epochs FROM trial_intermediate_values JOIN trials USING (trial_id)
    WHERE study_id = s.study_id
) e CROSS JOIN LATERAL (
    SELECT sum(a.value_json::double precision) AS seconds, sum(i.reported) AS epochs
    FROM trials JOIN trial_user_attributes a USING (trial_id)
    CROSS JOIN LATERAL (
        SELECT count(*) AS reported FROM trial_intermediate_values x
        WHERE x.trial_id = trials.trial_id
    ) i WHERE study_id = s.study_id AND a.key = 'orch:seconds'
        AND a.value_json ~ '^[0-9]{1,12}(\.[0-9]+)?$'  -- null where an import cannot know it
) p CROSS JOIN LATERAL (
    SELECT max(value) AS highest, min(value) AS lowest FROM orch.able_trials(s.study_id)
) v
WHERE s.study_name = coalesce(%(name)s, s.study_name) ORDER BY s.study_id

-- after_searches --
-- What changes the verdict of a study without a trial of its own: a confirmation, a refit.
SELECT s.study_name AS name, md5(string_agg(a.value_json, ' ' ORDER BY a.key)) AS digest
FROM study_user_attributes a JOIN studies s USING (study_id)
WHERE a.key IN ('orch:confirming', 'orch:confirmed', 'orch:test_evaluations')
GROUP BY s.study_name
