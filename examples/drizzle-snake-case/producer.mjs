// The app: starts a campaign for so many subscribers, a job for each, and watches the jobs end.
// node producer.mjs 100
import { setTimeout as sleep } from "node:timers/promises";
import { Queue, QueueEvents } from "bullmq";
import IORedis from "ioredis";
import pg from "pg";

const count = Number(process.argv[2] ?? 10);
const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const prefix = process.env.QUEUE_PREFIX ?? "bull";
const queue = new Queue("emails", { connection, prefix });
const events = new QueueEvents("emails", { connection, prefix, lastEventId: "0-0" });

const ended = new Map();
events.on("completed", ({ jobId, returnvalue }) => ended.set(jobId, { returnvalue }));
events.on("failed", ({ jobId, failedReason }) => ended.set(jobId, { failedReason }));

const campaign = await db.query(
  `INSERT INTO campaigns (title, subject, body_text, status)
   VALUES ('Autumn', 'News for {{ name }}', 'Dear {{ name }} of {{ city }}, hello.', 'active')
   RETURNING id`,
);
const campaignId = campaign.rows[0].id; // a string: pg gives bigints so
const subscribers = await db.query(
  `INSERT INTO subscribers (email, full_name, attributes)
   SELECT 'subscriber-' || n || '-' || $1::text || '@people.example', 'Ada Lovelace', '{"city": "London"}'
   FROM generate_series(1, $2::int) AS n RETURNING id`,
  [campaignId, count],
);
const ids = subscribers.rows.map(({ id }) => id);
await db.query(
  `INSERT INTO campaign_subscribers (campaign_id, subscriber_id) SELECT $1, unnest($2::bigint[])`,
  [campaignId, ids],
);

const jobs = await queue.addBulk(
  ids.map((subscriberId) => ({
    name: "deliver",
    data: { type: "campaign", payload: { campaignId, subscriberId } },
    opts: { attempts: 5, backoff: { type: "fixed", delay: 1000 }, removeOnComplete: { age: 3600 } },
  })),
);
console.log(JSON.stringify({ campaign: campaignId, enqueued: jobs.length }));

while (!jobs.every(({ id }) => ended.has(id))) await sleep(50);
console.log(JSON.stringify({ ended: jobs.map(({ id }) => ended.get(id)) }));

await events.close();
await queue.close();
await connection.quit();
await db.end();
