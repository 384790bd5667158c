// The app: starts a campaign for so many recipients. It adds a job to `campaign` for each first mail
// and a delayed one to `follow-up` for each follow-up, and watches them end. node producer.mjs 100
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Queue, QueueEvents } from "bullmq";
import IORedis from "ioredis";
import pg from "pg";

const count = Number(process.argv[2] ?? 10);
const delayMs = 3 * 24 * 3600 * 1000;
const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const prefix = process.env.QUEUE_PREFIX ?? "bull";
const names = ["campaign", "follow-up"];
const queues = names.map((name) => new Queue(name, { connection, prefix }));
const watchers = names.map((name) => new QueueEvents(name, { connection, prefix, lastEventId: "0-0" }));

const ended = new Map();
for (const [index, watcher] of watchers.entries()) {
  const key = (jobId) => `${names[index]} ${jobId}`;
  watcher.on("completed", ({ jobId, returnvalue }) => ended.set(key(jobId), { returnvalue }));
  watcher.on("failed", ({ jobId, failedReason }) => ended.set(key(jobId), { failedReason }));
}

const cuid = () => `c${randomUUID().replaceAll("-", "").slice(0, 24)}`;
const campaignId = cuid();
await db.query("INSERT INTO campaigns (id, name) VALUES ($1, 'Autumn')", [campaignId]);
await db.query(
  `INSERT INTO campaign_steps ("campaignId", step, subject, html, "delayMs") VALUES
   ($1, 0, 'A question', '<p>Hello, have you a minute?</p>', 0),
   ($1, 1, 'My question', '<p>Hello again.</p>', $2)`,
  [campaignId, delayMs],
);
const recipients = Array.from({ length: count }, (_, number) => ({
  id: cuid(),
  email: `lead-${number}-${campaignId.slice(1, 9)}@people.example`,
}));
const ids = recipients.map(({ id }) => id);
await db.query(
  `INSERT INTO recipients (id, "campaignId", email) SELECT unnest($2::text[]), $1, unnest($3::text[])`,
  [campaignId, ids, recipients.map(({ email }) => email)],
);
await db.query(
  `INSERT INTO mails ("recipientId", step) SELECT id, step FROM unnest($1::text[]) AS id, generate_series(0, 1) AS step`,
  [ids],
);

const opts = { attempts: 3, backoff: { type: "exponential", delay: 1000 } };
const first = await queues[0].addBulk(
  ids.map((recipientId) => ({ name: "send", data: { campaignId, recipientId }, opts })),
);
const later = await queues[1].addBulk(
  ids.map((recipientId) => ({
    name: "follow-up",
    data: { campaignId, recipientId, step: 1 },
    opts: { ...opts, delay: delayMs },
  })),
);
console.log(JSON.stringify({ campaign: campaignId, enqueued: first.length + later.length }));

const keys = [...first.map(({ id }) => `campaign ${id}`), ...later.map(({ id }) => `follow-up ${id}`)];
while (!keys.every((key) => ended.has(key))) await sleep(50);
console.log(JSON.stringify({ ended: keys.map((key) => ended.get(key)) }));

await Promise.all([...watchers, ...queues].map((one) => one.close()));
await connection.quit();
await db.end();
