-- As a Knex migration made it: integer ids, no status column; sent_at is the marker.
CREATE TABLE newsletters (
    id serial PRIMARY KEY,
    title text NOT NULL,
    subject text NOT NULL,
    html text NOT NULL,
    cancelled_at timestamptz,
    sent_total integer NOT NULL DEFAULT 0,
    failed_total integer NOT NULL DEFAULT 0
);
CREATE TABLE readers (
    id serial PRIMARY KEY,
    email text NOT NULL UNIQUE,
    first_name text NOT NULL DEFAULT '',
    opted_out_at timestamptz
);
CREATE TABLE newsletter_readers (
    newsletter_id integer NOT NULL REFERENCES newsletters (id),
    reader_id integer NOT NULL REFERENCES readers (id),
    sent_at timestamptz,
    message_id text,
    failed_reason text,
    PRIMARY KEY (newsletter_id, reader_id)
);
