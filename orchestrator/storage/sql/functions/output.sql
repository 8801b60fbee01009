-- Output: what a trial printed while it ran.

-- Store what a trial has printed during one lease, in place of what was stored of that lease before;
-- of the oldest leases nothing is kept. It may come after the lease's end: a process that was killed
-- leaves its last lines. So the lease is not asked for, but a worker writes only rows of its own, and
-- only in its own study. A crash of the server may lose the newest; the end of a trial does not wait.
CREATE OR REPLACE FUNCTION orch.store_output(
    p_trial integer, p_token uuid, p_lease integer, p_lines bigint, p_ended boolean, p_body bytea
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_worker uuid := orch.worker_of(p_token);
    v_kept_leases CONSTANT integer := 8;
    v_setting text := set_config('synchronous_commit', 'off', true);
BEGIN
    -- A study that is being deleted takes nothing more.
    PERFORM 1 FROM trials t WHERE trial_id = p_trial AND EXISTS (
        SELECT FROM orch.worker w WHERE w.worker_id = v_worker AND w.study_id = t.study_id)
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    INSERT INTO orch.output AS o (trial_id, worker_id, lease, lines, ended, body)
    VALUES (p_trial, v_worker, p_lease, p_lines, p_ended, p_body)
    ON CONFLICT (trial_id, worker_id, lease) DO UPDATE
    SET lines = excluded.lines, ended = excluded.ended, body = excluded.body;
    DELETE FROM orch.output WHERE trial_id = p_trial AND (worker_id, lease) IN (
        SELECT worker_id, lease FROM orch.output WHERE trial_id = p_trial
        ORDER BY began_at DESC OFFSET v_kept_leases);
END
$$;
