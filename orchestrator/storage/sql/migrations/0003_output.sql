-- Locks trials against writers, for a moment: the new table refers to it.

-- What a trial printed: the newest 64 KiB, as text that zlib has compressed. A trial that was released
-- or paused has had several leases; each is a row, which its own worker alone writes.
CREATE TABLE orch.output (
    trial_id integer NOT NULL REFERENCES trials ON DELETE CASCADE,
    worker_id uuid NOT NULL,
    -- Counts the leases that the worker has had.
    lease integer NOT NULL,
    -- How many lines it has printed, including those dropped from the body.
    lines bigint NOT NULL,
    -- Nothing more comes.
    ended boolean NOT NULL,
    body bytea NOT NULL CHECK (octet_length(body) < 70000),
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (trial_id, worker_id, lease)
);

-- It is compressed already.
ALTER TABLE orch.output ALTER COLUMN body SET STORAGE EXTERNAL;
