-- As drizzle-kit writes it: snake_case, bigint identities, statuses as text.
CREATE TABLE campaigns (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    title varchar(200) NOT NULL,
    subject text NOT NULL,
    body_text text NOT NULL,
    status varchar(20) NOT NULL DEFAULT 'draft',
    delivered_count bigint NOT NULL DEFAULT 0,
    undelivered_count bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE subscribers (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    email varchar(320) NOT NULL UNIQUE,
    full_name text,
    attributes jsonb NOT NULL DEFAULT '{}',
    opted_out boolean NOT NULL DEFAULT false
);
CREATE TABLE campaign_subscribers (
    campaign_id bigint NOT NULL REFERENCES campaigns (id),
    subscriber_id bigint NOT NULL REFERENCES subscribers (id),
    delivery_status text NOT NULL DEFAULT 'queued',
    provider_message_id text,
    delivered_at timestamptz,
    PRIMARY KEY (campaign_id, subscriber_id)
);
CREATE TABLE blocklist (
    email varchar(320) PRIMARY KEY,
    reason text NOT NULL
);
