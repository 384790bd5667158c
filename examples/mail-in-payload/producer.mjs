// The app: renders so many mails itself, a job for each, and watches the jobs end.
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
const queue = new Queue("outbox", { connection, prefix });
const events = new QueueEvents("outbox", { connection, prefix, lastEventId: "0-0" });

const ended = new Map();
events.on("completed", ({ jobId, returnvalue }) => ended.set(jobId, { returnvalue }));
events.on("failed", ({ jobId, failedReason }) => ended.set(jobId, { failedReason }));

const batchId = randomUUID().slice(0, 8);
const mails = Array.from({ length: count }, (_, number) => ({
  id: `obx_${randomUUID().replaceAll("-", "")}`,
  to: { name: "Ada Lovelace", address: `customer-${number}-${batchId}@people.example` },
}));
await db.query(
  `INSERT INTO outbox (id, batch_id, recipient) SELECT unnest($2::text[]), $1, unnest($3::text[])`,
  [batchId, mails.map(({ id }) => id), mails.map(({ to }) => to.address)],
);

const jobs = await queue.addBulk(
  mails.map(({ id, to }) => ({
    name: "mail",
    data: {
      outboxId: id,
      message: {
        from: "Shop <shop@sender.example>",
        to,
        replyTo: "help@sender.example",
        subject: `Your receipt ${id}`,
        html: "<p>Thank you.</p>",
        text: "Thank you.",
        headers: { "X-Outbox-Id": id },
        attachments: [{ filename: "receipt.txt", content: "1 book" }],
      },
    },
    opts: { attempts: 3, backoff: { type: "exponential", delay: 1000 } },
  })),
);
console.log(JSON.stringify({ campaign: batchId, enqueued: jobs.length }));

while (!jobs.every(({ id }) => ended.has(id))) await sleep(50);
console.log(JSON.stringify({ ended: jobs.map(({ id }) => ended.get(id)) }));

await events.close();
await queue.close();
await connection.quit();
await db.end();
