-- What anybody writes to Optuna's tables is noted in orch.change: plain Optuna workers know nothing
-- of our schema.

DO $$
DECLARE
    v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['trials', 'trial_params', 'trial_values',
                                   'trial_user_attributes', 'trial_system_attributes'] LOOP
        EXECUTE format(
            'CREATE TRIGGER orch_note AFTER INSERT OR UPDATE ON %I FOR EACH ROW
             WHEN (current_setting(''orch.noted'', true) IS DISTINCT FROM NEW.trial_id::text)
             EXECUTE FUNCTION orch.%I()',
            v_table, CASE v_table WHEN 'trials' THEN 'note_trial' ELSE 'note_part' END);
    END LOOP;
END
$$;

-- Names of study.constraints become constraints of Optuna's when a trial ends.
CREATE TRIGGER orch_constraints AFTER UPDATE OF state ON trials FOR EACH ROW
WHEN (NEW.state IN ('COMPLETE', 'PRUNED') AND OLD.state NOT IN ('COMPLETE', 'PRUNED'))
EXECUTE FUNCTION orch.write_constraints_at_end();

-- Trials that are older than the triggers.
INSERT INTO orch.change (trial_id, study_id, xid)
SELECT trial_id, study_id, pg_current_xact_id() FROM trials ON CONFLICT DO NOTHING;
