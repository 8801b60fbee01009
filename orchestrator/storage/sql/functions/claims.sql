-- Claims: the budget is checked and the trial leased in one transaction; lost trials are taken back.

-- End one attempt as FAIL; queue its retry, or record the configuration as failed for good.
-- p_ending is a row of the table in attempts.sql. The caller holds the study's lock and has checked
-- that nobody else ends the trial.
CREATE OR REPLACE FUNCTION orch.end_attempt(p_trial integer, p_reason text, p_ending text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_study integer;
    v_number integer;
    v_attempt integer := coalesce((orch.attribute(p_trial, 'orch:attempt'))::integer, 1);
    v_losses integer := orch.losses_with(p_trial, p_ending);
    v_next integer := v_attempt + orch.attempts_of(p_ending, v_losses);
    v_retry integer;
    v_first jsonb;
BEGIN
    UPDATE trials SET state = 'FAIL', datetime_complete = orch.utc_now()
    WHERE trial_id = p_trial RETURNING study_id, number INTO v_study, v_number;
    DELETE FROM orch.lease WHERE trial_id = p_trial;
    PERFORM orch.set_attribute(p_trial, 'orch:reason', to_jsonb(p_reason));
    v_first := coalesce(orch.attribute(p_trial, 'orch:retry_of'), to_jsonb(v_number));

    IF v_next - 1 <= orch.setting(v_study, 'max_retries') THEN
        v_retry := orch.new_trial(v_study, 'WAITING');
        INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
        SELECT v_retry, param_name, param_value, distribution_json
        FROM trial_params WHERE trial_id = p_trial ORDER BY param_id;
        INSERT INTO trial_user_attributes (trial_id, key, value_json)
        SELECT v_retry, key, value_json FROM trial_user_attributes
        WHERE trial_id = p_trial AND key NOT LIKE 'orch:%';
        INSERT INTO trial_system_attributes (trial_id, key, value_json)
        SELECT v_retry, key, value_json FROM trial_system_attributes WHERE trial_id = p_trial;
        INSERT INTO trial_intermediate_values
            (trial_id, step, intermediate_value, intermediate_value_type)
        SELECT v_retry, step, intermediate_value, intermediate_value_type
        FROM trial_intermediate_values WHERE trial_id = p_trial;
        UPDATE orch.checkpoint SET trial_id = v_retry WHERE trial_id = p_trial;
        INSERT INTO orch.logged (trial_id, step, names, numbers)
        SELECT v_retry, step, names, numbers FROM orch.logged
        WHERE trial_id = p_trial AND step <= orch.last_checkpoint(v_retry);
        PERFORM orch.rewind(v_retry, orch.last_checkpoint(v_retry));
        PERFORM orch.forget_constraints(ARRAY[v_retry]);
        PERFORM orch.set_attribute(v_retry, 'orch:retry_of', v_first);
        PERFORM orch.set_attribute(v_retry, 'orch:attempt', to_jsonb(v_next));
        PERFORM orch.set_attribute(v_retry, 'orch:losses', to_jsonb(v_losses)) WHERE v_losses > 0;
        PERFORM orch.set_attribute(
            p_trial, 'orch:retried_as', (SELECT to_jsonb(number) FROM trials WHERE trial_id = v_retry)
        );
        RETURN;
    END IF;

    PERFORM orch.forget_checkpoints(p_trial);
    UPDATE orch.study SET failures_in_row = failures_in_row + 1 WHERE study_id = v_study;
    UPDATE orch.study
    SET state = 'failed',
        reason = CASE failures_in_row
            WHEN 1 THEN format('1 configuration failed: %s', p_reason)
            ELSE format('%s configurations in a row failed; the last: %s', failures_in_row, p_reason)
        END
    WHERE study_id = v_study AND state <> 'failed'
      AND failures_in_row >= orch.setting(v_study, 'max_failures');
END
$$;

-- Take back every trial whose lease has had no sign of life for the grace period.
CREATE OR REPLACE FUNCTION orch.take_back_lost(p_study integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_grace double precision := orch.setting(p_study, 'grace_seconds');
    v_lost record;
BEGIN
    FOR v_lost IN
        SELECT l.trial_id, w.name, t.state FROM orch.lease l
        JOIN trials t USING (trial_id) LEFT JOIN orch.worker w USING (worker_id)
        WHERE l.study_id = p_study
          AND l.renewed_at < clock_timestamp() - make_interval(secs => v_grace)
          -- While the server was down nobody could give a sign of life.
          AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => v_grace)
        ORDER BY l.trial_id
        -- Before the trial itself, as every writer does. A locked one is just being renewed.
        FOR UPDATE OF l SKIP LOCKED
    LOOP
        IF v_lost.state = 'RUNNING' THEN
            PERFORM orch.end_attempt(
                v_lost.trial_id,
                format('lost: no sign of life from worker %s for %s s', v_lost.name, v_grace),
                'lost'
            );
        ELSE
            -- Somebody ended it through Optuna's own interface.
            DELETE FROM orch.lease WHERE trial_id = v_lost.trial_id;
        END IF;
    END LOOP;
END
$$;

-- The next trial for a worker that holds none, or the one that it holds already. The caller holds
-- the study's lock and has seen that the worker exists.
CREATE OR REPLACE FUNCTION orch.take_trial(
    p_study integer, p_worker uuid, OUT outcome text, OUT trial_id integer, OUT is_fresh boolean,
    OUT stage integer, OUT budget integer, OUT reason text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_study orch.study;
    v_lost boolean;
    v_held integer;
    v_number integer;
    v_unfinished integer;
    v_running integer;
    v_waiting integer;
    v_fresh_first boolean;
    v_finds text := 'yes';
    v_timeout double precision;
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO v_study FROM orch.study WHERE study_id = p_study;
    SELECT bool_or(renewed_at < v_now - make_interval(
               secs => (v_study.spec -> 'worker' ->> 'grace_seconds')::double precision)),
           max(trial_id) FILTER (WHERE worker_id = p_worker)
    INTO v_lost, v_held FROM orch.lease WHERE study_id = p_study;
    IF v_lost THEN
        PERFORM orch.take_back_lost(p_study);
        SELECT * INTO v_study FROM orch.study WHERE study_id = p_study;
    END IF;
    -- A worker whose connection broke before it read the answer asks again.
    IF v_held IS NOT NULL THEN
        UPDATE orch.lease l SET renewed_at = v_now FROM trials t
        WHERE l.trial_id = v_held AND l.worker_id = p_worker
          AND t.trial_id = v_held AND t.state = 'RUNNING';
        IF FOUND THEN
            PERFORM orch.forget_constraints(ARRAY[v_held]);
            outcome := 'trial'; trial_id := v_held; RETURN;
        END IF;
    END IF;

    IF v_study.state <> 'open' THEN
        outcome := CASE v_study.state WHEN 'failed' THEN
            CASE WHEN v_study.wrong_use THEN 'misused' ELSE 'failed' END
            WHEN 'exhausted' THEN 'done' ELSE 'drained' END;
        reason := v_study.reason; RETURN;
    END IF;
    -- Counted by those that are not finished: the cost does not grow with those that are.
    SELECT orch.next_number(p_study), count(*), count(*) FILTER (WHERE state = 'RUNNING'),
           count(*) FILTER (WHERE state = 'WAITING')
    INTO v_number, v_unfinished, v_running, v_waiting FROM trials
    WHERE study_id = p_study AND state IN ('RUNNING', 'WAITING', 'FAIL');
    IF v_number - v_unfinished >= v_study.budget THEN
        outcome := 'done'; RETURN;
    END IF;
    v_timeout := extract(epoch FROM (v_study.spec #>> '{study,timeout}')::interval);
    IF v_now > v_study.opened_at + make_interval(secs => v_timeout) THEN
        outcome := 'timeout'; RETURN;
    END IF;
    IF v_number - v_unfinished + v_running >= v_study.budget THEN
        outcome := 'wait'; RETURN;
    END IF;

    -- Each configuration has a trial of its own, so the first ones need not be counted.
    IF v_number >= v_study.configurations THEN
        v_finds := orch.finds_configuration(p_study, v_study.configurations);
    END IF;
    -- A retry or an enqueued trial goes before a fresh one; where the budget has room for both, one
    -- fresh trial goes before a doubtful retry. (bruteforce counts its failed cell as tried, and
    -- may end the search with the fresh one.)
    v_fresh_first := NOT v_study.planned AND v_finds <> 'no'
        AND v_study.spec #>> '{sampler,name}' IS DISTINCT FROM 'bruteforce'
        AND v_number - v_unfinished + v_running + v_waiting < v_study.budget;
    IF v_waiting > 0 THEN
        UPDATE trials
        SET state = 'RUNNING', datetime_start = coalesce(datetime_start, orch.utc_now())
        WHERE trial_id = (
            SELECT trial_id FROM trials t WHERE study_id = p_study AND state = 'WAITING'
              AND NOT EXISTS (
                  SELECT 1 FROM trial_system_attributes a
                  WHERE a.trial_id = t.trial_id AND a.key = 'orch:paused')
              AND NOT (v_fresh_first AND t.number = v_number - 1 AND orch.is_doubtful(t.trial_id))
            ORDER BY number LIMIT 1
        ) RETURNING trial_id INTO trial_id;
    END IF;
    IF trial_id IS NULL AND v_study.planned THEN
        outcome := 'plan'; stage := v_study.stage; budget := v_study.budget; RETURN;
    END IF;
    is_fresh := trial_id IS NULL;
    IF is_fresh AND v_finds = 'no' AND v_running = 0 THEN
        UPDATE orch.study SET state = 'exhausted', reason = format(
            'all %s configurations have been tried', v_study.configurations)
        WHERE study_id = p_study RETURNING orch.study.reason INTO reason;
        outcome := 'done'; is_fresh := NULL; RETURN;
    ELSIF is_fresh AND v_finds <> 'yes' THEN
        outcome := 'wait'; is_fresh := NULL; RETURN;
    END IF;
    IF is_fresh THEN
        trial_id := orch.add_numbered(p_study, v_number, 'RUNNING');
    END IF;
    INSERT INTO orch.lease (trial_id, study_id, worker_id, taken_at, renewed_at)
    VALUES (trial_id, p_study, p_worker, v_now, v_now);
    outcome := 'trial';
END
$$;

-- Claim a trial: the budget is checked and the trial leased in one transaction. outcome is one of
--   trial: trial_id is now RUNNING and leased to the worker; is_fresh: nobody has run it before
--   wait:  the budget is taken but not yet used; a running trial may still fail
--   plan:  a planned study has nothing queued; stage and budget are the study's
--   done, timeout: nothing is left to do;  drained: the study was stopped
--   failed: too many failures in a row (reason says why);  gone: no such study or worker
--   misused: a worker found a wrong use that no trial can get around (reason says which)
--   schema: the worker's orch is not the one that this schema is of
-- Where p_since is not NULL, the answer brings the trials that others have changed (see
-- orch.position_now), read before the study is locked, so that nobody waits for a long answer; and
-- as ours those that this transaction has changed, which is known from then on.
CREATE OR REPLACE FUNCTION orch.claim(
    p_study integer, p_token uuid, p_version integer,
    p_server uuid, p_since xid8, p_known xid8,
    OUT outcome text, OUT trial_id integer, OUT is_fresh boolean, OUT stage integer,
    OUT budget integer, OUT reason text,
    OUT server uuid, OUT since xid8, OUT known xid8, OUT others json, OUT ours json
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_worker uuid := orch.worker_of(p_token);
    v_now record := orch.position_now();
    v_others json := orch.read_trials(
        orch.changed_since(p_study, v_now.server, p_server, p_since, p_known));
    v_next record;
BEGIN
    IF p_version <> (SELECT version FROM orch.schema_version) THEN
        outcome := 'schema'; RETURN;
    END IF;
    outcome := 'gone';
    IF NOT orch.lock_study(p_study)
        OR NOT EXISTS (SELECT FROM orch.worker WHERE worker_id = v_worker) THEN
        RETURN;
    END IF;
    v_next := orch.take_trial(p_study, v_worker);
    outcome := v_next.outcome; trial_id := v_next.trial_id; is_fresh := v_next.is_fresh;
    stage := v_next.stage; budget := v_next.budget; reason := v_next.reason;
    UPDATE orch.worker SET last_seen_at = clock_timestamp(), left_at = NULL
    WHERE worker_id = v_worker;
    IF p_since IS NOT NULL AND outcome IN ('trial', 'plan') THEN
        server := v_now.server; since := v_now.since; known := pg_current_xact_id();
        others := v_others; ours := orch.read_trials(orch.changed_here(p_study, trial_id));
    END IF;
END
$$;
