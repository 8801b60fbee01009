-- Workers and their leases, and what they call.

-- join_worker --
-- Asked again after a broken connection, it is there already.
INSERT INTO orch.worker (worker_id, study_id, name)
VALUES (%(worker_id)s, %(study_id)s, %(name)s) ON CONFLICT DO NOTHING

-- leave_worker --
UPDATE orch.worker SET left_at = clock_timestamp(), last_seen_at = clock_timestamp()
WHERE worker_id = %(worker_id)s

-- leases_of_worker --
SELECT trial_id FROM orch.lease WHERE worker_id = %(worker_id)s ORDER BY trial_id

-- renew_leases --
WITH seen AS (
    UPDATE orch.worker SET last_seen_at = clock_timestamp() WHERE worker_id = %(worker_id)s
)
UPDATE orch.lease SET renewed_at = clock_timestamp() WHERE worker_id = %(worker_id)s
RETURNING trial_id

-- lease_ages --
SELECT worker_id::text, trial_id,
       extract(epoch FROM clock_timestamp() - taken_at)::double precision AS seconds,
       extract(epoch FROM clock_timestamp() - renewed_at)::double precision AS silent_seconds
FROM orch.lease WHERE study_id = %(study_id)s

-- count_live_workers --
SELECT count(*) AS live FROM orch.worker
WHERE study_id = %(study_id)s AND left_at IS NULL
  AND last_seen_at > clock_timestamp() - make_interval(secs => %(grace_seconds)s)

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

-- write_trial --
SELECT held, changes FROM orch.write_trial(
    %(trial_id)s, %(worker_id)s, %(serial)s, %(after)s, %(writes)s, %(durable)s, %(since)s
)

-- resume_trial --
SELECT orch.resume_trial(%(trial_id)s, %(worker_id)s, %(step)s) AS held
