-- Locks no table.

-- The key storage.driver is gone, and with it the table [storage] of every spec.
UPDATE orch.study SET spec = spec - 'storage' WHERE spec ? 'storage';
