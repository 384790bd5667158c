-- Requests that a provider may be given again. While a row has one, some request of this mail may have
-- been executed: until replay_until the provider takes the same key and the same bytes for the same
-- mail. The bytes themselves are kept, because settings, campaigns and versions of ours change.
ALTER TABLE {schema}.messages
    ADD COLUMN transport       text,
    ADD COLUMN request         bytea,
    ADD COLUMN first_marked_at timestamptz,
    ADD COLUMN replay_until    timestamptz,
    ADD CONSTRAINT message_request_is_whole
        CHECK (num_nonnulls(transport, request, first_marked_at, replay_until) IN (0, 4))
        -- Of the rows that are there none has a request: a large table needs no scan.
        NOT VALID;

-- An ending makes the request history; a mail that is sent in spite of a doubt begins anew.
CREATE FUNCTION {schema}.forget_message_request() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.transport := NULL;
    NEW.request := NULL;
    NEW.first_marked_at := NULL;
    NEW.replay_until := NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER message_request_ends BEFORE UPDATE OF state, request ON {schema}.messages FOR EACH ROW
    WHEN (NEW.request IS NOT NULL
          AND (NEW.state IN ('sent', 'failed', 'skipped')
               OR (OLD.state = 'in_doubt' AND NEW.state = 'scheduled')))
    EXECUTE FUNCTION {schema}.forget_message_request();
