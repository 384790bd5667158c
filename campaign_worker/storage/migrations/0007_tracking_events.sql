-- Events are written in batches, and their classes, times and counts follow from the rows, whoever
-- writes them and in whatever order.

-- `target` stands for the destinations that travel in tokens: with link_id it tells links apart.
ALTER TABLE {schema}.tracking_events
    ADD COLUMN target bigint,
    ADD COLUMN head boolean NOT NULL DEFAULT false;

-- Each would be a look and a lock per row. Messages are never deleted, nor are links (below); the
-- ids of both come out of tokens that we signed, and record_tracking_events() joins the message.
ALTER TABLE {schema}.tracking_events
    DROP CONSTRAINT tracking_events_message_id_fkey,
    DROP CONSTRAINT tracking_events_link_id_fkey;

-- The relations in time are looked for around one moment of one message.
DROP INDEX {schema}.tracking_events_message;
CREATE INDEX tracking_events_message ON {schema}.tracking_events (message_id, occurred_at);
CREATE INDEX tracking_events_age ON {schema}.tracking_events USING brin (occurred_at);

CREATE FUNCTION {schema}.refuse_link_loss() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'links are never deleted: mails that are out lead to them'
        USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER links_are_never_deleted BEFORE DELETE OR TRUNCATE ON {schema}.links
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_link_loss();

-- The times of a first open or click are no transition: for them alone the check is not called.
DROP TRIGGER message_transition ON {schema}.messages;
CREATE TRIGGER message_transition
    BEFORE UPDATE OF state, campaign_id, recipient_id, step, idempotency_key ON {schema}.messages
    FOR EACH ROW EXECUTE FUNCTION {schema}.check_message_transition();

-- What was counted and then deleted because of its age: counts are rows and archive together.
CREATE TABLE {schema}.tracking_archive (
    campaign_id    bigint PRIMARY KEY REFERENCES {schema}.campaigns (id) ON DELETE CASCADE,
    opens          bigint NOT NULL DEFAULT 0 CHECK (opens >= 0),
    machine_opens  bigint NOT NULL DEFAULT 0 CHECK (machine_opens >= 0),
    clicks         bigint NOT NULL DEFAULT 0 CHECK (clicks >= 0),
    machine_clicks bigint NOT NULL DEFAULT 0 CHECK (machine_clicks >= 0)
);

-- First opens and clicks follow from events, and unique counts from them: by the triggers below, in one
-- change of the counts per campaign and batch.
CREATE FUNCTION {schema}.refuse_first_times() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the times of a first open or click follow from tracking events'
        USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER first_times_follow_from_events
    BEFORE UPDATE OF first_opened_at, first_clicked_at ON {schema}.messages
    FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0)
    EXECUTE FUNCTION {schema}.refuse_first_times();

-- Whoever writes events has locked their message rows, in order of id (record_tracking_events):
-- messages before counts is the order of settles too, and nothing can deadlock. For the same reason
-- a row is still where it was read, and is found again by its place.
CREATE OR REPLACE FUNCTION {schema}.count_tracking_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    delta record;
BEGIN
    FOR delta IN
        WITH seen AS MATERIALIZED (
            SELECT m.campaign_id, m.ctid AS place, e.*,
                   e.opened IS NOT NULL AND m.first_opened_at IS NULL AS first_open,
                   e.clicked IS NOT NULL AND m.first_clicked_at IS NULL AS first_click
            FROM (
                SELECT message_id,
                       count(*) FILTER (WHERE kind = 'open' AND NOT machine) AS opens,
                       count(*) FILTER (WHERE kind = 'open' AND machine) AS machine_opens,
                       count(*) FILTER (WHERE kind = 'click' AND NOT machine) AS clicks,
                       count(*) FILTER (WHERE kind = 'click' AND machine) AS machine_clicks,
                       -- A person's click opens the message too: pictures may have been off.
                       min(occurred_at) FILTER (WHERE kind <> 'unsubscribe' AND NOT machine)
                           AS opened,
                       min(occurred_at) FILTER (WHERE kind = 'click' AND NOT machine) AS clicked
                FROM new_rows GROUP BY message_id) e
            JOIN {schema}.messages m ON m.id = e.message_id
        ), dated AS (
            UPDATE {schema}.messages m
            SET first_opened_at = least(m.first_opened_at, s.opened),
                first_clicked_at = least(m.first_clicked_at, s.clicked)
            FROM seen s
            WHERE m.ctid = s.place
              AND (s.opened < coalesce(m.first_opened_at, 'infinity')
                   OR s.clicked < coalesce(m.first_clicked_at, 'infinity'))
        )
        SELECT campaign_id, sum(opens) AS opens, sum(machine_opens) AS machine_opens,
               sum(clicks) AS clicks, sum(machine_clicks) AS machine_clicks,
               count(*) FILTER (WHERE first_open) AS opened,
               count(*) FILTER (WHERE first_click) AS clicked
        FROM seen WHERE campaign_id IS NOT NULL GROUP BY campaign_id ORDER BY campaign_id
    LOOP
        UPDATE {schema}.campaign_counts SET
            open_count = open_count + delta.opens,
            machine_open_count = machine_open_count + delta.machine_opens,
            click_count = click_count + delta.clicks,
            machine_click_count = machine_click_count + delta.machine_clicks,
            unique_open_count = unique_open_count + delta.opened,
            unique_click_count = unique_click_count + delta.clicked
        WHERE campaign_id = delta.campaign_id;
    END LOOP;
    RETURN NULL;
END
$$;

-- The one thing that may change in an event: who seemed a person turns out to be a machine.
CREATE FUNCTION {schema}.recount_tracking_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    delta record;
BEGIN
    IF EXISTS (
        SELECT FROM old_rows o LEFT JOIN new_rows n ON n.id = o.id
        WHERE n.id IS NULL OR (n.machine <> o.machine AND o.machine)
           OR (n.class <> o.class AND NOT (n.machine AND n.class IN ('prefetch', 'scanner')))
           OR (n.message_id, n.link_id, n.target, n.kind, n.head, n.occurred_at)
              IS DISTINCT FROM (o.message_id, o.link_id, o.target, o.kind, o.head, o.occurred_at)
    ) THEN
        RAISE EXCEPTION 'tracking events are only ever added, and found to be of machines'
            USING ERRCODE = 'check_violation';
    END IF;
    FOR delta IN
        WITH turned AS MATERIALIZED (
            SELECT m.id, m.campaign_id, e.opens, e.clicks,
                   m.first_opened_at AS was_opened_at, m.first_clicked_at AS was_clicked_at,
                   -- Only where the first time was that of such an event: an earlier one may be in
                   -- the archive.
                   CASE WHEN m.first_opened_at = e.opened
                        THEN rest.opened ELSE m.first_opened_at END AS first_opened_at,
                   CASE WHEN m.first_clicked_at = e.clicked
                        THEN rest.clicked ELSE m.first_clicked_at END AS first_clicked_at
            FROM (
                SELECT n.message_id, count(*) FILTER (WHERE n.kind = 'open') AS opens,
                       count(*) FILTER (WHERE n.kind = 'click') AS clicks,
                       min(n.occurred_at) AS opened,
                       min(n.occurred_at) FILTER (WHERE n.kind = 'click') AS clicked
                FROM new_rows n JOIN old_rows o ON o.id = n.id
                WHERE n.machine AND NOT o.machine GROUP BY n.message_id) e
            JOIN {schema}.messages m ON m.id = e.message_id
            CROSS JOIN LATERAL (
                SELECT min(x.occurred_at) AS opened,
                       min(x.occurred_at) FILTER (WHERE x.kind = 'click') AS clicked
                FROM {schema}.tracking_events x
                WHERE x.message_id = m.id AND NOT x.machine AND x.kind <> 'unsubscribe') rest
        ), dated AS (
            UPDATE {schema}.messages m
            SET first_opened_at = t.first_opened_at, first_clicked_at = t.first_clicked_at
            FROM turned t
            WHERE m.id = t.id AND (t.was_opened_at, t.was_clicked_at)
                                  IS DISTINCT FROM (t.first_opened_at, t.first_clicked_at)
        )
        SELECT campaign_id, sum(opens) AS opens, sum(clicks) AS clicks,
               count(*) FILTER (WHERE was_opened_at IS NOT NULL AND first_opened_at IS NULL)
                   AS unopened,
               count(*) FILTER (WHERE was_clicked_at IS NOT NULL AND first_clicked_at IS NULL)
                   AS unclicked
        FROM turned WHERE campaign_id IS NOT NULL GROUP BY campaign_id ORDER BY campaign_id
    LOOP
        UPDATE {schema}.campaign_counts SET
            open_count = open_count - delta.opens,
            machine_open_count = machine_open_count + delta.opens,
            click_count = click_count - delta.clicks,
            machine_click_count = machine_click_count + delta.clicks,
            unique_open_count = unique_open_count - delta.unopened,
            unique_click_count = unique_click_count - delta.unclicked
        WHERE campaign_id = delta.campaign_id;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER tracking_events_are_recounted AFTER UPDATE ON {schema}.tracking_events
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.recount_tracking_events();

CREATE FUNCTION {schema}.archive_tracking_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM old_rows WHERE occurred_at > now() - interval '1 day') THEN
        RAISE EXCEPTION 'tracking events stay for a day at least' USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO {schema}.tracking_archive AS a
        (campaign_id, opens, machine_opens, clicks, machine_clicks)
    SELECT m.campaign_id,
        count(*) FILTER (WHERE e.kind = 'open' AND NOT e.machine),
        count(*) FILTER (WHERE e.kind = 'open' AND e.machine),
        count(*) FILTER (WHERE e.kind = 'click' AND NOT e.machine),
        count(*) FILTER (WHERE e.kind = 'click' AND e.machine)
    FROM old_rows e JOIN {schema}.messages m ON m.id = e.message_id
    WHERE m.campaign_id IS NOT NULL GROUP BY m.campaign_id ORDER BY m.campaign_id
    ON CONFLICT (campaign_id) DO UPDATE SET
        opens = a.opens + excluded.opens,
        machine_opens = a.machine_opens + excluded.machine_opens,
        clicks = a.clicks + excluded.clicks,
        machine_clicks = a.machine_clicks + excluded.machine_clicks;
    RETURN NULL;
END
$$;
CREATE TRIGGER tracking_events_are_archived AFTER DELETE ON {schema}.tracking_events
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.archive_tracking_events();

DROP TRIGGER tracking_events_are_append_only ON {schema}.tracking_events;
CREATE TRIGGER tracking_events_are_never_truncated BEFORE TRUNCATE ON {schema}.tracking_events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_tracking_event_change();

-- A batch of requests, each once. In one statement, so that a client that freezes holds no lock.
-- A column of nothing but NULL or false may come empty.
--
-- What only rows can tell is decided here, by the times at which things happened and not by those at
-- which they were written: each rule is a relation of one event to its message, or to one other
-- event of it, so that any order of arrival gives the same classes.
-- * prefetch: within seconds of the mark that comes before the final dot, or of the send.
-- * scanner: a HEAD and then a GET of the same link; clicks of different links within a moment.
-- All events of one message are written one batch after the other: its row is locked, and the look
-- for relations comes after, so that of two replicas one sees the other's.
CREATE FUNCTION {schema}.record_tracking_events(
    ids uuid[], message_ids bigint[], link_ids bigint[], targets bigint[], kinds text[],
    heads boolean[], classes text[], machines boolean[], client_hashes bytea[], user_agents text[],
    times timestamptz[], prefetch_seconds float8, scanner_seconds float8
) RETURNS integer LANGUAGE plpgsql
-- Plans are kept: one that was made while the tables were small would read all of them for ever.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    written integer;
    scanned uuid[];
    prefetch interval := make_interval(secs => prefetch_seconds);
    moment interval := make_interval(secs => scanner_seconds);
BEGIN
    INSERT INTO {schema}.tracking_events
        (id, message_id, link_id, target, kind, head, class, machine, client_hash, user_agent,
         occurred_at)
    SELECT e.id, m.id, e.link_id, e.target, e.kind, coalesce(e.head, false),
           CASE WHEN early.yes THEN 'prefetch' ELSE e.class END,
           coalesce(e.machine, false) OR early.yes,
           e.client_hash, e.user_agent, e.occurred_at
    FROM unnest(ids, message_ids, link_ids, targets, kinds, heads, classes, machines, client_hashes,
                user_agents, times)
         AS e (id, message_id, link_id, target, kind, head, class, machine, client_hash, user_agent,
               occurred_at)
    JOIN {schema}.messages m ON m.id = e.message_id
    CROSS JOIN LATERAL (
        SELECT e.machine IS NOT true AND e.kind <> 'unsubscribe'
               AND coalesce(e.occurred_at < coalesce(m.marked_at, m.sent_at) + prefetch, false)
               AS yes) early
    ORDER BY m.id FOR NO KEY UPDATE OF m
    ON CONFLICT (id) DO NOTHING;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written = 0 THEN
        RETURN 0;
    END IF;
    SELECT array_agg(found.id) INTO scanned
    FROM unnest(ids, message_ids, link_ids, targets, kinds, heads, times)
         AS n (id, message_id, link_id, target, kind, head, occurred_at)
    JOIN {schema}.tracking_events x
      ON x.message_id = n.message_id AND x.id <> n.id AND x.kind = n.kind
     AND x.occurred_at BETWEEN n.occurred_at - moment AND n.occurred_at + moment
    CROSS JOIN LATERAL (
        SELECT n.kind = 'click' AND NOT same AS several, same
        FROM (SELECT coalesce(n.link_id, n.target)
                     IS NOT DISTINCT FROM coalesce(x.link_id, x.target) AS same) one) links
    CROSS JOIN LATERAL (VALUES
        (x.id, links.several OR (links.same AND n.head AND n.occurred_at <= x.occurred_at)),
        (n.id, links.several OR (links.same AND x.head AND x.occurred_at <= n.occurred_at))
    ) AS found (id, yes)
    WHERE n.kind <> 'unsubscribe' AND found.yes;
    IF scanned IS NOT NULL THEN
        UPDATE {schema}.tracking_events e SET class = 'scanner', machine = true
        WHERE NOT e.machine AND e.id = ANY (scanned);
    END IF;
    RETURN written;
END
$$;

-- A batch of unsubscribes, each once: the event, the suppression of the addresses (in the form that
-- suppressions are kept in), the recipient's mark, and the end of what is scheduled for them. An event
-- that comes again does nothing again: its recipient may have subscribed anew.
CREATE FUNCTION {schema}.record_unsubscribes(
    ids uuid[], message_ids bigint[], classes text[], machines boolean[], client_hashes bytea[],
    user_agents text[], times timestamptz[], addresses text[], address_messages bigint[]
) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    fresh bigint[];
    recipient_ids bigint[];
BEGIN
    SELECT array_agg(DISTINCT m.recipient_id) INTO recipient_ids
    FROM {schema}.messages m WHERE m.id = ANY (message_ids) AND m.recipient_id IS NOT NULL;
    -- Messages, recipients, counts: in this order, and each by id.
    PERFORM FROM {schema}.messages m
        WHERE m.id = ANY (message_ids)
           OR (m.recipient_id = ANY (recipient_ids) AND m.state = 'scheduled')
        ORDER BY m.id FOR NO KEY UPDATE;
    PERFORM FROM {schema}.recipients r WHERE r.id = ANY (recipient_ids)
        ORDER BY r.id FOR NO KEY UPDATE;
    PERFORM FROM {schema}.campaign_counts c
        WHERE c.campaign_id IN (SELECT m.campaign_id FROM {schema}.messages m
                                WHERE m.id = ANY (message_ids))
        ORDER BY c.campaign_id FOR NO KEY UPDATE;
    WITH inserted AS (
        INSERT INTO {schema}.tracking_events
            (id, message_id, kind, class, machine, client_hash, user_agent, occurred_at)
        SELECT e.id, e.message_id, 'unsubscribe', e.class, e.machine, e.client_hash, e.user_agent,
               e.occurred_at
        FROM unnest(ids, message_ids, classes, machines, client_hashes, user_agents, times)
             AS e (id, message_id, class, machine, client_hash, user_agent, occurred_at)
        JOIN {schema}.messages m ON m.id = e.message_id
        ON CONFLICT (id) DO NOTHING
        RETURNING message_id
    )
    SELECT coalesce(array_agg(DISTINCT message_id), '{}') INTO fresh FROM inserted;
    -- A wish stands above a bounce, which may be taken back; a complaint stands above both.
    INSERT INTO {schema}.suppressions AS s (address, reason, message_id)
    SELECT DISTINCT ON (a.address) a.address, 'unsubscribe', a.message_id
    FROM unnest(addresses, address_messages) AS a (address, message_id)
    WHERE a.message_id = ANY (fresh)
    ORDER BY a.address, a.message_id
    ON CONFLICT (address) DO UPDATE
        SET reason = excluded.reason, message_id = excluded.message_id, detail = NULL
        WHERE s.reason = 'hard_bounce';
    -- A mail whose request a provider may have executed is not simply skipped: its claim decides.
    UPDATE {schema}.messages m
    SET state = 'skipped', reason = 'unsubscribed', settled_at = clock_timestamp()
    WHERE m.state = 'scheduled' AND m.request IS NULL AND m.recipient_id IN (
        SELECT x.recipient_id FROM {schema}.messages x WHERE x.id = ANY (fresh));
    UPDATE {schema}.recipients r SET unsubscribed_at = w.occurred_at
    FROM (
        SELECT m.recipient_id, min(e.occurred_at) AS occurred_at
        FROM unnest(message_ids, times) AS e (message_id, occurred_at)
        JOIN {schema}.messages m ON m.id = e.message_id
        WHERE m.id = ANY (fresh) GROUP BY m.recipient_id) w
    WHERE r.id = w.recipient_id AND r.unsubscribed_at IS NULL;
    RETURN cardinality(fresh);
END
$$;
