-- A row for each mail of a campaign, follow-ups too; ids are texts (cuid).
CREATE TABLE campaigns (
    id text PRIMARY KEY,
    name text NOT NULL,
    state text NOT NULL DEFAULT 'running',
    "sentCount" integer NOT NULL DEFAULT 0,
    "failedCount" integer NOT NULL DEFAULT 0
);
CREATE TABLE campaign_steps (
    "campaignId" text NOT NULL REFERENCES campaigns (id),
    step smallint NOT NULL,
    subject text NOT NULL,
    html text NOT NULL,
    "delayMs" bigint NOT NULL DEFAULT 0,
    PRIMARY KEY ("campaignId", step)
);
CREATE TABLE recipients (
    id text PRIMARY KEY,
    "campaignId" text NOT NULL REFERENCES campaigns (id),
    email text NOT NULL,
    "repliedAt" timestamptz,
    "unsubscribedAt" timestamptz
);
CREATE TABLE mails (
    "recipientId" text NOT NULL REFERENCES recipients (id),
    step smallint NOT NULL,
    status text NOT NULL DEFAULT 'scheduled',
    "messageId" text,
    "sentAt" timestamptz,
    PRIMARY KEY ("recipientId", step)
);
