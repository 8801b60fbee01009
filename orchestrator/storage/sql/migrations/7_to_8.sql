-- Locks no table, and the rows of studies for a moment.

CREATE UNLOGGED TABLE IF NOT EXISTS orch.server_start (
    started_at timestamptz PRIMARY KEY,
    server uuid NOT NULL
);

-- The key storage.driver is gone, and with it the table [storage] of every spec. The spec alone has
-- the budget.
UPDATE orch.study
SET spec = jsonb_set(spec - 'storage', '{study,trials}', to_jsonb(budget))
WHERE spec ? 'storage' OR spec #>> '{study,trials}' IS DISTINCT FROM budget::text;
