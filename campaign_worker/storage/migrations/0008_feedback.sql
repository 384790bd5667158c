-- What providers report after the send: one row per event and address, kept, so that an event which
-- is delivered again changes nothing.
CREATE TABLE {schema}.feedback_events (
    provider            text NOT NULL CHECK (provider IN ('resend', 'ses', 'postmark')),
    event_id            text NOT NULL CHECK (length(event_id) BETWEEN 1 AND 255),
    -- In the form that suppressions are kept in; empty when the provider does not say whose mail it was.
    address             text NOT NULL,
    kind                text NOT NULL
                        CONSTRAINT feedback_kind_known
                        CHECK (kind IN ('hard_bounce', 'soft_bounce', 'complaint')),
    message_id          bigint REFERENCES {schema}.messages (id),
    provider_message_id text,
    detail              text,
    occurred_at         timestamptz NOT NULL,
    received_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (provider, event_id, address)
);
CREATE INDEX feedback_events_message ON {schema}.feedback_events (message_id)
    WHERE message_id IS NOT NULL;

-- A provider's own id of a mail, as its answer to the send named it: Resend's and Postmark's are UUIDs,
-- SES has one with something before and after it.
CREATE FUNCTION {schema}.provider_id(detail text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT substring(detail FROM '[0-9a-f-]{36,64}')
$$;
-- LIKE, because it is tried on every mail that is sent, and costs a tenth of the pattern.
CREATE INDEX messages_provider_id ON {schema}.messages ({schema}.provider_id(detail))
    WHERE state = 'sent' AND detail LIKE '%-____-____-____-____________%';

-- A campaign's Message-ID names its row; that of a self-contained mail may be a hash of its key.
CREATE INDEX messages_message_id ON {schema}.messages (message_id) WHERE idempotency_key IS NOT NULL;

CREATE INDEX recipients_address ON {schema}.recipients (lower(email));
