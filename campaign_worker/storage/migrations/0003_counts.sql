-- Counts follow rows in the transaction that changes the row, whoever changes it: they cannot drift.

CREATE FUNCTION {schema}.create_campaign_counts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.campaign_counts (campaign_id) VALUES (NEW.id);
    RETURN NULL;
END
$$;
CREATE TRIGGER campaign_has_counts AFTER INSERT ON {schema}.campaigns
    FOR EACH ROW EXECUTE FUNCTION {schema}.create_campaign_counts();

-- A message begins scheduled and is never deleted: the row is what keeps a mail from going twice.
CREATE FUNCTION {schema}.refuse_message_shortcut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'message %: messages are never deleted', OLD.id USING ERRCODE = 'check_violation';
    ELSIF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'messages are never deleted' USING ERRCODE = 'check_violation';
    END IF;
    RAISE EXCEPTION 'a message begins as scheduled, not as %', NEW.state USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER message_begins_scheduled BEFORE INSERT ON {schema}.messages FOR EACH ROW
    WHEN (NEW.state <> 'scheduled' OR num_nonnulls(NEW.bounced_at, NEW.complained_at,
                                                   NEW.first_opened_at, NEW.first_clicked_at) > 0)
    EXECUTE FUNCTION {schema}.refuse_message_shortcut();
CREATE TRIGGER message_is_never_deleted BEFORE DELETE ON {schema}.messages FOR EACH ROW
    EXECUTE FUNCTION {schema}.refuse_message_shortcut();
CREATE TRIGGER messages_are_never_truncated BEFORE TRUNCATE ON {schema}.messages
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_message_shortcut();

-- One change of the counts per campaign and statement. Counts rows are locked in campaign order before
-- they change, so that two batches over the same campaigns cannot deadlock.
CREATE FUNCTION {schema}.count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    delta record;
BEGIN
    FOR delta IN
        SELECT campaign_id,
            coalesce(sum(sign) FILTER (WHERE state = 'sent'), 0) AS sent,
            coalesce(sum(sign) FILTER (WHERE state = 'failed'), 0) AS failed,
            coalesce(sum(sign) FILTER (WHERE state = 'skipped'), 0) AS skipped,
            coalesce(sum(sign) FILTER (WHERE state = 'in_doubt'), 0) AS in_doubt,
            coalesce(sum(sign) FILTER (WHERE bounced_at IS NOT NULL), 0) AS bounced,
            coalesce(sum(sign) FILTER (WHERE complained_at IS NOT NULL), 0) AS complained
        FROM (
            SELECT -1 AS sign, campaign_id, state, bounced_at, complained_at FROM old_rows
            UNION ALL
            SELECT 1, campaign_id, state, bounced_at, complained_at FROM new_rows
        ) signed
        WHERE campaign_id IS NOT NULL GROUP BY campaign_id ORDER BY campaign_id
    LOOP
        CONTINUE WHEN (delta.sent, delta.failed, delta.skipped, delta.in_doubt, delta.bounced,
                       delta.complained) = (0, 0, 0, 0, 0, 0);
        UPDATE {schema}.campaign_counts SET
            sent_count = sent_count + delta.sent,
            failed_count = failed_count + delta.failed,
            skipped_count = skipped_count + delta.skipped,
            in_doubt_count = in_doubt_count + delta.in_doubt,
            bounced_count = bounced_count + delta.bounced,
            complained_count = complained_count + delta.complained
        WHERE campaign_id = delta.campaign_id;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER messages_are_counted AFTER UPDATE ON {schema}.messages
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.count_messages();

CREATE FUNCTION {schema}.count_tracking_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    delta record;
BEGIN
    FOR delta IN
        SELECT m.campaign_id,
            count(*) FILTER (WHERE e.kind = 'open' AND NOT e.machine) AS opens,
            count(*) FILTER (WHERE e.kind = 'open' AND e.machine) AS machine_opens,
            count(*) FILTER (WHERE e.kind = 'click' AND NOT e.machine) AS clicks,
            count(*) FILTER (WHERE e.kind = 'click' AND e.machine) AS machine_clicks
        FROM new_rows e JOIN {schema}.messages m ON m.id = e.message_id
        WHERE m.campaign_id IS NOT NULL GROUP BY m.campaign_id ORDER BY m.campaign_id
    LOOP
        UPDATE {schema}.campaign_counts SET
            open_count = open_count + delta.opens,
            machine_open_count = machine_open_count + delta.machine_opens,
            click_count = click_count + delta.clicks,
            machine_click_count = machine_click_count + delta.machine_clicks
        WHERE campaign_id = delta.campaign_id;
    END LOOP;
    RETURN NULL;
END
$$;
CREATE TRIGGER tracking_events_are_counted AFTER INSERT ON {schema}.tracking_events
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.count_tracking_events();

CREATE FUNCTION {schema}.refuse_tracking_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'tracking events are only ever added' USING ERRCODE = 'check_violation';
END
$$;
CREATE TRIGGER tracking_events_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
    ON {schema}.tracking_events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_tracking_event_change();

CREATE FUNCTION {schema}.count_unsubscribe() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.unsubscribed_at IS NOT NULL THEN
        UPDATE {schema}.campaign_counts SET unsubscribed_count = unsubscribed_count - 1
            WHERE campaign_id = OLD.campaign_id;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.unsubscribed_at IS NOT NULL THEN
        UPDATE {schema}.campaign_counts SET unsubscribed_count = unsubscribed_count + 1
            WHERE campaign_id = NEW.campaign_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER unsubscribes_are_counted AFTER INSERT OR DELETE OR UPDATE OF unsubscribed_at, campaign_id
    ON {schema}.recipients FOR EACH ROW EXECUTE FUNCTION {schema}.count_unsubscribe();
