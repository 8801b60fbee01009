-- Workers and their leases, and what they call.

-- leases_of_worker --
SELECT trial_id FROM orch.lease WHERE worker_id = %(worker_id)s ORDER BY trial_id

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
