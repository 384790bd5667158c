// The worker that campaign-worker replaces; both may work at the same time.
import { UnrecoverableError, Worker } from "bullmq";
import IORedis from "ioredis";
import nodemailer from "nodemailer";
import pg from "pg";

const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const smtp = nodemailer.createTransport({ url: process.env.SMTP_URL, pool: true });

async function process_(job) {
  const { outboxId, message } = job.data;
  const found = await db.query("SELECT status, message_id FROM outbox WHERE id = $1", [outboxId]);
  const row = found.rows[0];
  if (row?.status === "sent") return { status: "sent", messageId: row.message_id };
  if (row?.status === "revoked") return { status: "skipped", messageId: null };
  try {
    const { messageId } = await smtp.sendMail(message);
    await db.query(
      "UPDATE outbox SET status = 'sent', message_id = $2, sent_at = now() WHERE id = $1",
      [outboxId, messageId],
    );
    return { status: "sent", messageId };
  } catch (error) {
    if (!(error.responseCode >= 500)) throw error;
    await db.query("UPDATE outbox SET status = 'bounced', error = $2 WHERE id = $1", [outboxId, error.message]);
    throw new UnrecoverableError(error.message);
  }
}

const worker = new Worker("outbox", process_, {
  connection,
  prefix: process.env.QUEUE_PREFIX ?? "bull",
  concurrency: 5,
});
worker.on("error", (error) => console.error(error));
process.once("SIGTERM", async () => {
  await worker.close();
  smtp.close();
  await connection.quit();
  await db.end();
});
await worker.waitUntilReady();
console.log(JSON.stringify({ ready: true }));
