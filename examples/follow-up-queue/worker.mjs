// The workers that campaign-worker replaces; all may work at the same time.
import { UnrecoverableError, Worker } from "bullmq";
import IORedis from "ioredis";
import nodemailer from "nodemailer";
import pg from "pg";

const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const smtp = nodemailer.createTransport({ url: process.env.SMTP_URL, pool: true });

// One statement, so that status and count are written together or not at all.
const write = (campaignId, recipientId, step, status, messageId) =>
  db.query(
    `WITH written AS (
       UPDATE mails SET status = $4, "messageId" = $5, "sentAt" = CASE WHEN $4 = 'sent' THEN now() END
       WHERE "recipientId" = $2 AND step = $3)
     UPDATE campaigns SET "sentCount" = "sentCount" + ($4 = 'sent')::int,
       "failedCount" = "failedCount" + ($4 = 'failed')::int
     WHERE id = $1`,
    [campaignId, recipientId, step, status, messageId],
  );

async function process_(job) {
  const { campaignId, recipientId, step = 0 } = job.data;
  const found = await db.query(
    `SELECT r.email, r."repliedAt", r."unsubscribedAt", m.status, m."messageId", s.subject, s.html,
            before.status AS before
     FROM recipients r
     JOIN campaign_steps s ON s."campaignId" = r."campaignId" AND s.step = $2
     JOIN mails m ON m."recipientId" = r.id AND m.step = $2
     LEFT JOIN mails before ON before."recipientId" = r.id AND before.step = $2 - 1
     WHERE r.id = $1`,
    [recipientId, step],
  );
  const row = found.rows[0];
  if (!row) throw new Error(`no mail ${step} for ${recipientId}`);
  if (row.status === "sent") return { success: true, messageId: row.messageId };
  if (row.unsubscribedAt || (step > 0 && (row.repliedAt || row.before !== "sent"))) {
    await write(campaignId, recipientId, step, "skipped", null);
    return { success: true, messageId: null };
  }
  try {
    const { messageId } = await smtp.sendMail({
      from: process.env.MAIL_FROM,
      to: row.email,
      subject: row.subject,
      html: row.html,
    });
    await write(campaignId, recipientId, step, "sent", messageId);
    return { success: true, messageId };
  } catch (error) {
    if (!(error.responseCode >= 500)) throw error;
    await write(campaignId, recipientId, step, "failed", null);
    throw new UnrecoverableError(error.message);
  }
}

const options = { connection, prefix: process.env.QUEUE_PREFIX ?? "bull", concurrency: 5 };
const workers = ["campaign", "follow-up"].map((name) => new Worker(name, process_, options));
for (const worker of workers) worker.on("error", (error) => console.error(error));
process.once("SIGTERM", async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  smtp.close();
  await connection.quit();
  await db.end();
});
await Promise.all(workers.map((worker) => worker.waitUntilReady()));
console.log(JSON.stringify({ ready: true }));
