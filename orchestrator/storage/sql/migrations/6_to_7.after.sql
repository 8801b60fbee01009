-- Locks trials against writes while its trigger is made. Before the data, so that no trial that ends
-- meanwhile is missed.

DROP TRIGGER IF EXISTS orch_constraints ON trials;
CREATE TRIGGER orch_constraints AFTER UPDATE OF state ON trials FOR EACH ROW
WHEN (NEW.state IN ('COMPLETE', 'PRUNED') AND OLD.state NOT IN ('COMPLETE', 'PRUNED'))
EXECUTE FUNCTION orch.write_constraints_at_end();
