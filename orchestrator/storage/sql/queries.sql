-- Every query of orch by name; storage/database.py reads them. %(name)s are parameters.

-- claim_trial --
SELECT outcome, trial_id, detail, changes FROM orch.claim_trial(
    %(study_id)s, %(worker_id)s, %(version)s, %(since)s
)

-- enqueue_trials --
SELECT orch.enqueue_trials(
    %(study_id)s, %(stage)s, %(configurations)s, %(attributes)s
) AS enqueued

-- advance_plan --
SELECT orch.advance_plan(
    %(study_id)s, %(stage)s, %(configurations)s, %(attributes)s,
    %(promote)s::integer[], %(prune)s::integer[]
) AS advanced

-- pause_trial --
SELECT orch.pause_trial(%(trial_id)s, %(worker_id)s) AS held

-- finish_trial --
SELECT orch.finish_trial(
    %(trial_id)s, %(worker_id)s, %(state)s, %(values)s::double precision[], %(types)s::text[],
    %(attributes)s, %(serial)s, %(writes)s
) AS ended

-- finish_and_claim --
SELECT ended, outcome, trial_id, detail, changes FROM orch.finish_and_claim(
    %(trial_id)s, %(worker_id)s, %(state)s, %(values)s::double precision[], %(types)s::text[],
    %(attributes)s, %(serial)s, %(writes)s, %(study_id)s, %(version)s, %(since)s
)

-- fail_attempt --
SELECT orch.fail_attempt(
    %(trial_id)s, %(worker_id)s, %(reason)s, %(attributes)s, %(ending)s, %(signature)s
) AS held

-- stop_for_wrong_use --
SELECT orch.stop_for_wrong_use(%(trial_id)s, %(worker_id)s, %(reason)s) AS held

-- give_back_trial --
SELECT orch.give_back_trial(%(trial_id)s, %(worker_id)s) AS held

-- leases_of_worker --
SELECT trial_id FROM orch.lease WHERE worker_id = %(worker_id)s ORDER BY trial_id

-- renew_leases --
WITH seen AS (
    UPDATE orch.worker SET last_seen_at = clock_timestamp() WHERE worker_id = %(worker_id)s
)
UPDATE orch.lease SET renewed_at = clock_timestamp() WHERE worker_id = %(worker_id)s
RETURNING trial_id

-- join_worker --
-- Asked again after a broken connection, it is there already.
INSERT INTO orch.worker (worker_id, study_id, name)
VALUES (%(worker_id)s, %(study_id)s, %(name)s) ON CONFLICT DO NOTHING

-- leave_worker --
UPDATE orch.worker SET left_at = clock_timestamp(), last_seen_at = clock_timestamp()
WHERE worker_id = %(worker_id)s

-- insert_orch_study --
-- What we keep of a study beyond what Optuna does (insert_study in optuna.sql).
INSERT INTO study_system_attributes (study_id, key, value_json)
VALUES (%(study_id)s, 'study:metric_names', to_jsonb(%(metrics)s::text[])::text);
-- Where optuna-dashboard keeps a study's note.
INSERT INTO study_system_attributes (study_id, key, value_json)
SELECT %(study_id)s, key, value::text FROM (VALUES
    ('dashboard:note_ver', to_jsonb(1)), ('dashboard:note_str:0', %(note)s::jsonb)
) AS n(key, value) WHERE %(note)s::jsonb <> 'null';
INSERT INTO orch.study (study_id, spec, budget, timeout_seconds, data, objective, planned)
VALUES (%(study_id)s, %(spec)s, %(budget)s, %(timeout)s, %(data)s, %(objective)s, %(planned)s)

-- store_facts --
UPDATE orch.study SET objective = %(objective)s
WHERE study_id = %(study_id)s AND NOT coalesce(objective ? 'space', false)

-- replace_spec --
UPDATE orch.study SET spec = %(spec)s, timeout_seconds = %(timeout)s, objective = %(objective)s
WHERE study_id = %(study_id)s

-- found_domains --
-- The parameters that trials have suggested so far, in the order of their first appearance.
SELECT param_name AS name, (array_agg(distribution_json ORDER BY param_id))[1] AS domain
FROM trial_params JOIN trials USING (trial_id) WHERE study_id = %(study_id)s
GROUP BY param_name ORDER BY min(param_id)

-- delete_study --
-- One transaction. Optuna's tables do not cascade; ours do.
SELECT orch.lock_study(%(study_id)s);
DELETE FROM trial_params USING trials t WHERE t.trial_id = trial_params.trial_id
    AND t.study_id = %(study_id)s;
DELETE FROM trial_values USING trials t WHERE t.trial_id = trial_values.trial_id
    AND t.study_id = %(study_id)s;
DELETE FROM trial_intermediate_values v USING trials t WHERE t.trial_id = v.trial_id
    AND t.study_id = %(study_id)s;
DELETE FROM trial_user_attributes a USING trials t WHERE t.trial_id = a.trial_id
    AND t.study_id = %(study_id)s;
DELETE FROM trial_system_attributes a USING trials t WHERE t.trial_id = a.trial_id
    AND t.study_id = %(study_id)s;
DELETE FROM trial_heartbeats h USING trials t WHERE t.trial_id = h.trial_id
    AND t.study_id = %(study_id)s;
DELETE FROM orch.artifact a USING orch.checkpoint c JOIN trials t USING (trial_id)
    WHERE a.artifact_id = c.artifact_id AND t.study_id = %(study_id)s;
DELETE FROM orch.artifact a USING orch.model m
    WHERE a.artifact_id = m.artifact_id AND m.study_id = %(study_id)s;
DELETE FROM orch.artifact a USING study_system_attributes s
    WHERE s.study_id = %(study_id)s AND starts_with(s.key, 'dashboard:artifacts:')
    AND a.artifact_id = (s.value_json::jsonb #>> '{}')::jsonb ->> 'artifact_id';
DELETE FROM trials WHERE study_id = %(study_id)s;
DELETE FROM study_directions WHERE study_id = %(study_id)s;
DELETE FROM study_user_attributes WHERE study_id = %(study_id)s;
DELETE FROM study_system_attributes WHERE study_id = %(study_id)s;
DELETE FROM studies WHERE study_id = %(study_id)s

-- read_study --
SELECT s.study_id, s.study_name AS name, o.spec, o.data, o.objective, o.state, o.reason,
       o.created_at::text AS created_at
FROM studies s JOIN orch.study o USING (study_id) WHERE s.study_name = %(name)s

-- study_is_foreign --
SELECT 1 FROM studies s LEFT JOIN orch.study o USING (study_id)
WHERE s.study_name = %(name)s AND o.study_id IS NULL

-- raise_budget --
UPDATE orch.study SET budget = %(budget)s,
    spec = jsonb_set(spec, '{study,trials}', to_jsonb(%(budget)s::integer))
WHERE study_id = %(study_id)s AND budget < %(budget)s
RETURNING budget

-- add_budget --
UPDATE orch.study SET budget = budget + %(trials)s,
    spec = jsonb_set(spec, '{study,trials}', to_jsonb(budget + %(trials)s))
WHERE study_id = %(study_id)s

-- open_study --
UPDATE orch.study
SET state = 'open', reason = NULL, wrong_use = false, opened_at = clock_timestamp(),
    failures_in_row = CASE state WHEN 'failed' THEN 0 ELSE failures_in_row END
WHERE study_id = %(study_id)s

-- stop_study --
UPDATE orch.study SET state = 'stopping', reason = 'stopped by orch stop'
WHERE study_id = %(study_id)s AND state = 'open'

-- exhaust_study --
UPDATE orch.study SET state = 'exhausted', reason = %(reason)s
WHERE study_id = %(study_id)s AND state = 'open' AND stage = coalesce(%(stage)s, stage)

-- count_live_workers --
SELECT count(*) AS live FROM orch.worker
WHERE study_id = %(study_id)s AND left_at IS NULL
  AND last_seen_at > clock_timestamp() - make_interval(secs => %(grace_seconds)s)

-- list_studies --
SELECT s.study_name AS name, o.spec #>> '{study,objective}' AS objective, o.budget, o.state,
       o.reason,
       count(*) FILTER (WHERE t.state IN ('COMPLETE', 'PRUNED')) AS finished,
       count(*) FILTER (WHERE t.state = 'RUNNING') AS running,
       (SELECT count(*) FROM orch.worker w
        WHERE w.study_id = s.study_id AND w.left_at IS NULL AND w.last_seen_at
              > clock_timestamp() - make_interval(secs => orch.setting(s.study_id, 'grace_seconds'))
       ) AS workers,
       o.created_at
FROM studies s JOIN orch.study o USING (study_id) LEFT JOIN trials t USING (study_id)
GROUP BY s.study_id, o.study_id ORDER BY o.created_at, s.study_id

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

-- workers_of_study --
SELECT w.worker_id::text, w.name, w.trials, w.busy_seconds,
       extract(epoch FROM coalesce(w.left_at, clock_timestamp()) - w.started_at)::double precision
           AS present_seconds,
       -- One moment for all: who came as another one left must not seem to come sooner or later.
       extract(epoch FROM statement_timestamp() - w.started_at)::double precision AS joined_seconds,
       extract(epoch FROM statement_timestamp() - w.last_seen_at)::double precision
           AS last_seen_seconds,
       (w.left_at IS NULL AND w.last_seen_at > clock_timestamp() - make_interval(
           secs => orch.setting(w.study_id, 'grace_seconds'))) AS live,
       coalesce(extract(epoch FROM clock_timestamp() - l.taken_at)::double precision, 0)
           AS leased_seconds
FROM orch.worker w LEFT JOIN orch.lease l USING (worker_id)
WHERE w.study_id = %(study_id)s ORDER BY w.started_at, w.worker_id

-- elapsed_seconds --
SELECT extract(epoch FROM
    CASE WHEN bool_or(state = 'RUNNING') THEN clock_timestamp() AT TIME ZONE 'UTC'
         ELSE max(datetime_complete) END - min(datetime_start))::double precision AS elapsed
FROM trials WHERE study_id = %(study_id)s

-- progress --
SELECT o.budget, o.state, o.reason,
       count(*) FILTER (WHERE t.state = 'COMPLETE') AS complete,
       count(*) FILTER (WHERE t.state = 'PRUNED') AS pruned,
       count(*) FILTER (WHERE t.state = 'FAIL' AND NOT EXISTS (
           SELECT 1 FROM trial_user_attributes a
           WHERE a.trial_id = t.trial_id AND a.key = 'orch:retried_as')) AS failed,
       count(*) FILTER (WHERE t.state = 'RUNNING') AS running,
       (SELECT count(*) FROM trial_intermediate_values v JOIN trials tv USING (trial_id)
        WHERE tv.study_id = o.study_id AND tv.state IN ('COMPLETE', 'PRUNED')) AS values_reported
FROM orch.study o LEFT JOIN trials t USING (study_id)
WHERE o.study_id = %(study_id)s GROUP BY o.study_id

-- best_trial --
SELECT trial_id, number, value FROM orch.able_trials(%(study_id)s)
ORDER BY CASE WHEN %(maximize)s THEN -value ELSE value END, number LIMIT 1

-- best_of_metrics --
SELECT DISTINCT ON (v.objective) v.objective, a.trial_id, a.number, v.value
FROM orch.able_trials(%(study_id)s) a JOIN trial_values v USING (trial_id)
JOIN study_directions d ON d.study_id = %(study_id)s AND d.objective = v.objective
ORDER BY v.objective, CASE d.direction WHEN 'MAXIMIZE' THEN -v.value ELSE v.value END, a.number

-- params_of_trial --
SELECT param_name, param_value, distribution_json FROM trial_params
WHERE trial_id = %(trial_id)s ORDER BY param_id

-- ended_since --
SELECT t.trial_id, t.number, t.state::text AS state, r.value_json AS reason,
       ARRAY(SELECT CASE v.value_type WHEN 'INF_POS' THEN 'Infinity' WHEN 'INF_NEG' THEN '-Infinity'
                    ELSE v.value END
             FROM trial_values v WHERE v.trial_id = t.trial_id ORDER BY v.objective) AS values
FROM trials t LEFT JOIN trial_user_attributes r ON r.trial_id = t.trial_id AND r.key = 'orch:reason'
WHERE t.study_id = %(study_id)s AND t.state IN ('COMPLETE', 'PRUNED', 'FAIL')
  AND NOT t.trial_id = ANY(%(known)s::integer[])
ORDER BY t.datetime_complete, t.number

-- server_facts --
SELECT current_setting('server_version_num')::integer AS version,
       to_regclass('alembic_version') IS NOT NULL AS has_optuna,
       to_regclass('orch.schema_version') IS NOT NULL AS has_orch

-- rights_to_create --
SELECT current_user AS role, has_database_privilege(current_database(), 'CREATE') AS in_database,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS in_schema

-- optuna_revision --
SELECT version_num AS revision FROM alembic_version

-- orch_version --
SELECT version FROM orch.schema_version

-- set_orch_version --
DELETE FROM orch.schema_version;
INSERT INTO orch.schema_version VALUES (%(version)s)

-- trial_of_number --
SELECT trial_id FROM trials WHERE study_id = %(study_id)s AND number = %(number)s

-- study_attributes --
SELECT key, value_json FROM study_system_attributes
WHERE study_id = %(study_id)s AND starts_with(key, %(start)s)

-- artifacts_of_trials --
-- Of one trial, or of all in a study.
SELECT trial_id, key, value_json FROM trial_system_attributes a JOIN trials t USING (trial_id)
WHERE (t.study_id = %(study_id)s OR t.trial_id = %(trial_id)s) AND starts_with(key, 'artifacts:')

-- delete_study_attribute --
DELETE FROM study_system_attributes WHERE study_id = %(study_id)s AND key = %(key)s

-- record_test_evaluation --
INSERT INTO study_user_attributes (study_id, key, value_json)
VALUES (%(study_id)s, 'orch:test_evaluations', jsonb_build_array(%(evaluation)s::jsonb)::text)
ON CONFLICT (study_id, key) DO UPDATE SET value_json =
    (study_user_attributes.value_json::jsonb || excluded.value_json::jsonb)::text
RETURNING value_json::jsonb AS evaluations

-- test_evaluations --
SELECT value_json::jsonb AS evaluations FROM study_user_attributes
WHERE study_id = %(study_id)s AND key = 'orch:test_evaluations'

-- link_confirmation --
-- With how many trials had ended then. Asked again for the same study, nothing changes.
INSERT INTO study_user_attributes (study_id, key, value_json)
SELECT %(study_id)s, 'orch:confirming',
       (%(link)s::jsonb || jsonb_build_object('ended', count(*)))::text
FROM trials WHERE study_id = %(study_id)s AND state IN ('COMPLETE', 'PRUNED')
ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json
WHERE study_user_attributes.value_json::jsonb -> 'study_id'
      <> excluded.value_json::jsonb -> 'study_id'

-- confirmation --
SELECT l.value_json::jsonb AS link, s.study_name AS name, r.value_json::jsonb AS result
FROM study_user_attributes l
LEFT JOIN studies s ON s.study_id = (l.value_json::jsonb ->> 'study_id')::integer
LEFT JOIN study_user_attributes r ON r.study_id = l.study_id AND r.key = 'orch:confirmed'
WHERE l.study_id = %(study_id)s AND l.key = 'orch:confirming'

-- keep_confirmation --
INSERT INTO study_user_attributes (study_id, key, value_json)
SELECT study_id, 'orch:confirmed', jsonb_build_object(
           'ended', value_json::jsonb -> 'ended', 'confirmation', %(confirmation)s::jsonb)::text
FROM study_user_attributes WHERE study_id = %(study_id)s AND key = 'orch:confirming'
ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json

-- after_searches --
-- What changes the verdict of a study without a trial of its own: a confirmation, a refit.
SELECT s.study_name AS name, md5(string_agg(a.value_json, ' ' ORDER BY a.key)) AS digest
FROM study_user_attributes a JOIN studies s USING (study_id)
WHERE a.key IN ('orch:confirming', 'orch:confirmed', 'orch:test_evaluations')
GROUP BY s.study_name

-- confirmed_study --
SELECT s.study_name AS name FROM study_user_attributes l JOIN studies s USING (study_id)
WHERE l.key = 'orch:confirming'
  AND (l.value_json::jsonb ->> 'study_id')::integer = %(study_id)s

-- lock_setup --
SELECT pg_advisory_xact_lock(hashtext('orch.setup'))

-- server_clock --
SELECT extract(epoch FROM clock_timestamp())::double precision AS seconds

-- write_trial --
SELECT held, changes FROM orch.write_trial(
    %(trial_id)s, %(worker_id)s, %(serial)s, %(after)s, %(writes)s, %(durable)s, %(since)s
)

-- save_checkpoint --
SELECT held, artifact_id FROM orch.save_checkpoint(
    %(trial_id)s, %(worker_id)s, %(step)s, %(artifact_id)s, %(sha256)s, %(writes)s
)

-- checkpoints_of_trial --
SELECT artifact_id, step, sha256 FROM orch.checkpoint WHERE trial_id = %(trial_id)s
ORDER BY step DESC, saved_at DESC

-- resume_trial --
SELECT orch.resume_trial(%(trial_id)s, %(worker_id)s, %(step)s) AS held

-- is_model_wanted --
SELECT orch.is_model_wanted(%(study_id)s, %(value)s, %(keep)s) AS wanted

-- keep_model --
SELECT artifact_id FROM orch.keep_model(%(trial_id)s, %(artifact_id)s, %(sha256)s, %(keep)s)

-- best_models --
SELECT a.number, m.artifact_id, m.sha256
FROM orch.model m JOIN orch.able_trials(%(study_id)s) a USING (trial_id)
ORDER BY CASE WHEN %(maximize)s THEN -a.value ELSE a.value END, a.number LIMIT %(top)s

-- insert_artifact --
INSERT INTO orch.artifact (artifact_id, size, sha256)
VALUES (%(artifact_id)s, %(size)s, %(sha256)s)

-- insert_chunk --
INSERT INTO orch.artifact_chunk (artifact_id, part, body)
VALUES (%(artifact_id)s, %(part)s, %(body)s)

-- read_artifact --
SELECT size, sha256 FROM orch.artifact WHERE artifact_id = %(artifact_id)s

-- read_chunk --
SELECT body FROM orch.artifact_chunk WHERE artifact_id = %(artifact_id)s AND part = %(part)s

-- delete_orphans --
-- Bytes that were stored, and whoever stored them died or was cut off before they were recorded.
DELETE FROM orch.artifact a
WHERE created_at < now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM orch.checkpoint c WHERE c.artifact_id = a.artifact_id)
  AND NOT EXISTS (SELECT FROM orch.model m WHERE m.artifact_id = a.artifact_id)
  AND NOT EXISTS (SELECT FROM trial_system_attributes t WHERE t.key = 'artifacts:' || a.artifact_id)
  AND NOT EXISTS (SELECT FROM study_system_attributes s WHERE s.key = 'artifacts:' || a.artifact_id)
  -- dashboard:artifacts:TRIAL:ID, of a trial that has ended.
  AND NOT EXISTS (SELECT FROM study_system_attributes s
                  WHERE starts_with(s.key, 'dashboard:artifacts:')
                    AND split_part(s.key, ':', 4) = a.artifact_id)

-- delete_artifact --
DELETE FROM orch.artifact WHERE artifact_id = %(artifact_id)s RETURNING artifact_id

-- lease_ages --
SELECT worker_id::text, trial_id,
       extract(epoch FROM clock_timestamp() - taken_at)::double precision AS seconds,
       extract(epoch FROM clock_timestamp() - renewed_at)::double precision AS silent_seconds
FROM orch.lease WHERE study_id = %(study_id)s
