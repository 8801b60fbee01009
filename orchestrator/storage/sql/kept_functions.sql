-- What a running worker of the version before calls, and this version has no more: kept for one
-- version, so that the worker can end its trial; its next claim tells it to leave. Run only where
-- an older schema is upgraded.

-- A worker of schema 6 tells nothing but the reason.
CREATE OR REPLACE FUNCTION orch.fail_trial(
    p_trial integer, p_worker uuid, p_reason text, p_attributes jsonb
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN orch.fail_attempt(p_trial, p_worker, p_reason, p_attributes, 'failed', NULL);
END
$$;
