-- An app that a contract serves: its ids beside ours, and what its tables have still to be told.
CREATE TABLE {schema}.contract_campaigns (
    key          text PRIMARY KEY,
    campaign_id  bigint NOT NULL UNIQUE REFERENCES {schema}.campaigns (id) ON DELETE CASCADE,
    -- Mails of it that the app had sent itself; our rows call them skipped, its counts must not.
    already_sent bigint NOT NULL DEFAULT 0,
    -- The counts that write.campaigns last said.
    sent         bigint NOT NULL DEFAULT 0,
    failed       bigint NOT NULL DEFAULT 0,
    skipped      bigint NOT NULL DEFAULT 0,
    in_doubt     bigint NOT NULL DEFAULT 0,
    bounced      bigint NOT NULL DEFAULT 0,
    opened       bigint NOT NULL DEFAULT 0,
    clicked      bigint NOT NULL DEFAULT 0,
    unsubscribed bigint NOT NULL DEFAULT 0
);

-- Two of the app's recipients with one address are one of ours: an address gets a campaign once.
CREATE TABLE {schema}.contract_recipients (
    campaign_id  bigint NOT NULL,
    key          text NOT NULL,
    recipient_id bigint NOT NULL,
    PRIMARY KEY (campaign_id, key),
    FOREIGN KEY (recipient_id, campaign_id)
        REFERENCES {schema}.recipients (id, campaign_id) ON DELETE CASCADE
);
CREATE INDEX contract_recipients_recipient ON {schema}.contract_recipients (recipient_id);

-- Templates by what they say: an app edits them in place, ours never change.
CREATE TABLE {schema}.contract_templates (
    digest      text PRIMARY KEY,
    template_id bigint NOT NULL REFERENCES {schema}.templates (id)
);

-- Self-contained mails whose endings the app's tables are told.
CREATE TABLE {schema}.contract_mails (
    message_id bigint PRIMARY KEY REFERENCES {schema}.messages (id)
);

-- Endings that the app's tables have not been told yet. Written by the trigger below, taken away by
-- the transaction that tells them: usually the one that wrote the ending.
CREATE TABLE {schema}.contract_unwritten (
    message_id bigint PRIMARY KEY REFERENCES {schema}.messages (id),
    problem    text,
    tried_at   timestamptz
);

-- Suppressions that the app's tables have been told.
CREATE TABLE {schema}.contract_suppressions (
    address text PRIMARY KEY REFERENCES {schema}.suppressions (address) ON DELETE CASCADE
);

-- The app itself adds the jobs of these follow-ups; app_key is its own id of one, if it has any.
ALTER TABLE {schema}.follow_ups
    ADD COLUMN scheduled_by_app boolean NOT NULL DEFAULT false,
    ADD COLUMN app_key          text;

CREATE FUNCTION {schema}.note_unwritten() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    delta record;
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.contract_campaigns)
       AND NOT EXISTS (SELECT FROM {schema}.contract_mails) THEN
        RETURN NULL;
    END IF;
    FOR delta IN
        SELECT n.campaign_id, count(*) AS rows
        FROM new_rows n JOIN old_rows o ON o.id = n.id
        WHERE n.state = 'skipped' AND o.state <> 'skipped' AND n.reason = 'already_sent'
          AND n.campaign_id IS NOT NULL
        GROUP BY n.campaign_id ORDER BY n.campaign_id
    LOOP
        UPDATE {schema}.contract_campaigns SET already_sent = already_sent + delta.rows
        WHERE campaign_id = delta.campaign_id;
    END LOOP;
    INSERT INTO {schema}.contract_unwritten (message_id)
    SELECT n.id
    FROM new_rows n JOIN old_rows o ON o.id = n.id
    WHERE n.state IN ('sent', 'failed', 'skipped', 'in_doubt')
      AND (n.state <> o.state OR (n.bounced_at IS NULL) <> (o.bounced_at IS NULL))
      AND n.reason IS DISTINCT FROM 'already_sent'
      AND (EXISTS (SELECT FROM {schema}.contract_campaigns k WHERE k.campaign_id = n.campaign_id)
           OR EXISTS (SELECT FROM {schema}.contract_mails k WHERE k.message_id = n.id))
    ORDER BY n.id
    ON CONFLICT (message_id) DO UPDATE SET problem = NULL, tried_at = NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER messages_are_told_to_the_app AFTER UPDATE ON {schema}.messages
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.note_unwritten();
