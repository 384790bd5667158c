-- Who reconciles: one replica at a time, by this row and Postgres' clock. `epoch` grows with every
-- change of hands, so that a replica that was frozen notices it before it writes.
CREATE TABLE {schema}.reconciler (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    owner    text,
    until    timestamptz NOT NULL DEFAULT '-infinity',
    epoch    bigint NOT NULL DEFAULT 0
);
INSERT INTO {schema}.reconciler DEFAULT VALUES;

-- What each queue's epoch key in Redis must say. Another word, or none, means that Redis lost jobs.
CREATE TABLE {schema}.queue_epochs (
    queue text PRIMARY KEY,
    epoch text NOT NULL
);

-- Set while jobs of a resumed campaign may still lie in wait for a later look at it.
ALTER TABLE {schema}.campaigns ADD COLUMN resumed_at timestamptz;
CREATE INDEX campaigns_resumed ON {schema}.campaigns (id) WHERE resumed_at IS NOT NULL;

CREATE FUNCTION {schema}.note_resumption() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.resumed_at := CASE WHEN NEW.status = 'running' THEN clock_timestamp() END;
    RETURN NEW;
END
$$;
CREATE TRIGGER campaign_resumes BEFORE UPDATE OF status ON {schema}.campaigns FOR EACH ROW
    WHEN (OLD.status IN ('paused', 'draft') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION {schema}.note_resumption();

-- Due rows are walked in this order; the campaign is in the index, so that rows of paused ones are
-- passed over without a look at the table.
CREATE INDEX messages_due_in_order ON {schema}.messages (due_at, id) INCLUDE (campaign_id)
    WHERE state = 'scheduled';
DROP INDEX {schema}.messages_due;

CREATE INDEX messages_open_in_order ON {schema}.messages (campaign_id, id)
    WHERE state IN ('scheduled', 'sending', 'in_doubt');
DROP INDEX {schema}.messages_open_by_campaign;

CREATE INDEX messages_quarantined ON {schema}.messages (campaign_id)
    WHERE state = 'failed' AND reason = 'quarantined';
