-- The state machine of a message, as a net under the statements: they filter on state in their WHERE,
-- so this raises only for a mistake of ours or an operator's.

CREATE FUNCTION {schema}.message_transition_is_legal(
    before {schema}.messages, after {schema}.messages
) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE before.state
        WHEN 'scheduled' THEN after.state IN ('sending', 'skipped', 'failed')
        WHEN 'sending'   THEN after.state IN ('sent', 'failed', 'skipped', 'scheduled', 'in_doubt')
        WHEN 'in_doubt'  THEN after.state IN ('sent', 'scheduled', 'failed')
        WHEN 'failed'    THEN after.state = 'scheduled' AND before.bounced_at IS NULL
                              AND before.reason IN ('exhausted', 'quarantined')
        ELSE false
    END
$$;

CREATE FUNCTION {schema}.check_message_transition() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.campaign_id, NEW.recipient_id, NEW.step, NEW.idempotency_key)
       IS DISTINCT FROM (OLD.campaign_id, OLD.recipient_id, OLD.step, OLD.idempotency_key) THEN
        RAISE EXCEPTION 'message %: its campaign, recipient, step and key never change', OLD.id
            USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.state <> OLD.state AND NOT {schema}.message_transition_is_legal(OLD, NEW) THEN
        RAISE EXCEPTION 'message %: % (%) cannot become %', OLD.id, OLD.state, OLD.reason, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER message_transition BEFORE UPDATE ON {schema}.messages
    FOR EACH ROW EXECUTE FUNCTION {schema}.check_message_transition();

CREATE FUNCTION {schema}.refuse_template_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'template %: templates never change; insert a new one and point to it', OLD.id
        USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER template_is_immutable BEFORE UPDATE ON {schema}.templates
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_template_change();
