-- Workers: who takes part, and how one proves that a lease is its own.

-- The worker that has this token. A token is a UUID that only the worker and its supervisor know; the
-- tables have its hash, which is the worker's id. So everybody may read who holds which lease, a dump
-- has nothing to hide, and nobody writes with what they read. (A token that the claim gives out would
-- have to be given again to one who lost the answer: to anybody who names the worker.)
CREATE OR REPLACE FUNCTION orch.worker_of(p_token uuid) RETURNS uuid LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_hash text := left(encode(sha256(uuid_send(p_token)), 'hex'), 32);
BEGIN
    -- Workers of version 7 are known by their token; until the last one has left.
    IF substr(p_token::text, 15, 1) = '4'
        AND EXISTS (SELECT FROM orch.worker WHERE worker_id = p_token) THEN
        RETURN p_token;
    END IF;
    -- UUIDs of version 8 are those of hashes (RFC 9562); random ones are of version 4.
    RETURN overlay(overlay(v_hash PLACING '8' FROM 13) PLACING '8' FROM 17)::uuid;
END
$$;

-- Take part in a study. Asked again after a broken connection, the worker is known.
CREATE OR REPLACE FUNCTION orch.join_study(p_study integer, p_token uuid, p_name text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- A study that is being deleted: the next claim says so.
    PERFORM 1 FROM studies WHERE study_id = p_study FOR KEY SHARE;
    IF FOUND THEN
        INSERT INTO orch.worker (worker_id, study_id, name)
        VALUES (orch.worker_of(p_token), p_study, p_name) ON CONFLICT DO NOTHING;
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION orch.leave_study(p_token uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orch.worker SET left_at = clock_timestamp(), last_seen_at = clock_timestamp()
    WHERE worker_id = orch.worker_of(p_token);
END
$$;

-- A sign of life. Returns the trials that the worker still holds.
CREATE OR REPLACE FUNCTION orch.renew(p_token uuid, OUT held integer[]) LANGUAGE plpgsql AS $$
DECLARE
    v_worker uuid := orch.worker_of(p_token);
BEGIN
    WITH renewed AS (
        UPDATE orch.lease SET renewed_at = clock_timestamp() WHERE worker_id = v_worker
        RETURNING trial_id
    )
    SELECT coalesce(array_agg(trial_id), '{}') INTO held FROM renewed;
    UPDATE orch.worker SET last_seen_at = clock_timestamp() WHERE worker_id = v_worker;
END
$$;

-- Lock the trial for its worker. False: the lease is gone, and with it the right to write.
CREATE OR REPLACE FUNCTION orch.hold_lease(p_trial integer, p_worker uuid)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM orch.lock_study((SELECT study_id FROM trials WHERE trial_id = p_trial));
    PERFORM 1 FROM orch.lease WHERE trial_id = p_trial AND worker_id = p_worker FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM 1 FROM trials WHERE trial_id = p_trial AND state = 'RUNNING' FOR NO KEY UPDATE;
    RETURN FOUND;
END
$$;

-- What a worker has done is counted when its lease ends; p_trials: how many trials ended with it.
CREATE OR REPLACE FUNCTION orch.count_work(p_worker uuid, p_taken_at timestamptz, p_trials integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orch.worker
    SET trials = trials + p_trials, last_seen_at = clock_timestamp(), left_at = NULL,
        busy_seconds = busy_seconds + extract(epoch FROM clock_timestamp() - p_taken_at)
    WHERE worker_id = p_worker;
END
$$;
