// The app: starts a campaign for so many contacts, a job for each, and watches the jobs end.
// node producer.mjs 100
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Queue, QueueEvents } from "bullmq";
import IORedis from "ioredis";
import pg from "pg";

const count = Number(process.argv[2] ?? 10);
const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const prefix = process.env.QUEUE_PREFIX ?? "bull";
const queue = new Queue("campaign-emails", { connection, prefix });
const events = new QueueEvents("campaign-emails", { connection, prefix, lastEventId: "0-0" });

const ended = new Map();
events.on("completed", ({ jobId, returnvalue }) => ended.set(jobId, { returnvalue }));
events.on("failed", ({ jobId, failedReason }) => ended.set(jobId, { failedReason }));

const campaignId = randomUUID();
await db.query(
  `INSERT INTO "Campaign" ("id", "name", "subject", "bodyHtml", "fromEmail", "status")
   VALUES ($1, 'Autumn', 'News for {{ firstName }}', '<p>Dear {{ firstName }}, hello.</p>', $2, 'RUNNING')`,
  [campaignId, "news@sender.example"],
);
const recipients = Array.from({ length: count }, (_, number) => ({
  id: randomUUID(),
  contactId: randomUUID(),
  email: `contact-${number}-${campaignId.slice(0, 8)}@people.example`,
}));
await db.query(
  `INSERT INTO "Contact" ("id", "email", "firstName") SELECT unnest($1::uuid[]), unnest($2::text[]), 'Ada'`,
  [recipients.map((one) => one.contactId), recipients.map((one) => one.email)],
);
await db.query(
  `INSERT INTO "CampaignRecipient" ("id", "campaignId", "contactId")
   SELECT unnest($2::uuid[]), $1, unnest($3::uuid[])`,
  [campaignId, recipients.map((one) => one.id), recipients.map((one) => one.contactId)],
);

const jobs = await queue.addBulk(
  recipients.map(({ id, email }) => ({
    name: "send-campaign-email",
    data: { campaignId, recipient: { id, email } },
    opts: {
      jobId: `send-${id}`,
      attempts: 3,
      backoff: { type: "exponential", delay: 1000 },
      removeOnComplete: { count: 5000 },
      removeOnFail: false,
    },
  })),
);
console.log(JSON.stringify({ campaign: campaignId, enqueued: jobs.length }));

while (!jobs.every(({ id }) => ended.has(id))) await sleep(50);
console.log(JSON.stringify({ ended: jobs.map(({ id }) => ended.get(id)) }));

await events.close();
await queue.close();
await connection.quit();
await db.end();
