-- An outbox with text ids. The mails themselves are in the jobs.
CREATE TABLE outbox (
    id text PRIMARY KEY,
    batch_id text NOT NULL,
    recipient text NOT NULL,
    status text NOT NULL DEFAULT 'queued',
    message_id text,
    sent_at timestamptz,
    error text,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX outbox_batch ON outbox (batch_id);
