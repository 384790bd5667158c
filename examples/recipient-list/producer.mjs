// The app: sends a newsletter to so many readers, one job for all, and watches its progress.
// node producer.mjs 100
import { setTimeout as sleep } from "node:timers/promises";
import { Queue, QueueEvents } from "bullmq";
import IORedis from "ioredis";
import pg from "pg";

const count = Number(process.argv[2] ?? 10);
const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const prefix = process.env.QUEUE_PREFIX ?? "bull";
const queue = new Queue("newsletters", { connection, prefix });
const events = new QueueEvents("newsletters", { connection, prefix, lastEventId: "0-0" });

const ended = new Map();
const progress = new Map();
events.on("progress", ({ jobId, data }) => progress.set(jobId, data));
events.on("completed", ({ jobId, returnvalue }) => ended.set(jobId, { returnvalue }));
events.on("failed", ({ jobId, failedReason }) => ended.set(jobId, { failedReason }));

const newsletter = await db.query(
  `INSERT INTO newsletters (title, subject, html)
   VALUES ('Autumn', 'Autumn for {{ first_name }}', '<p>Dear {{ first_name }}, hello.</p>') RETURNING id`,
);
const newsletterId = newsletter.rows[0].id;
const readers = await db.query(
  `INSERT INTO readers (email, first_name)
   SELECT 'reader-' || n || '-' || $1::text || '@people.example', 'Ada'
   FROM generate_series(1, $2::int) AS n RETURNING id, email`,
  [newsletterId, count],
);
await db.query(
  `INSERT INTO newsletter_readers (newsletter_id, reader_id) SELECT $1, unnest($2::int[])`,
  [newsletterId, readers.rows.map(({ id }) => id)],
);

const job = await queue.add(
  "newsletter",
  { newsletterId, readers: readers.rows.map(({ id, email }) => ({ id, email })) },
  { attempts: 3, backoff: { type: "exponential", delay: 1000 } },
);
console.log(JSON.stringify({ campaign: newsletterId, enqueued: count }));

while (!ended.has(job.id)) await sleep(50);
console.log(JSON.stringify({ ended: [ended.get(job.id)], progress: progress.get(job.id) }));

await events.close();
await queue.close();
await connection.quit();
await db.end();
