// The worker that campaign-worker replaces; both may work at the same time.
import { UnrecoverableError, Worker } from "bullmq";
import IORedis from "ioredis";
import nodemailer from "nodemailer";
import pg from "pg";

const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const smtp = nodemailer.createTransport({ url: process.env.SMTP_URL, pool: true });

// One statement, so that status and count are written together or not at all.
const write = (campaignId, subscriberId, status, messageId) =>
  db.query(
    `WITH written AS (
       UPDATE campaign_subscribers SET delivery_status = $3, provider_message_id = $4,
         delivered_at = CASE WHEN $3 = 'delivered' THEN now() END
       WHERE campaign_id = $1 AND subscriber_id = $2 RETURNING delivery_status)
     UPDATE campaigns SET
       delivered_count = delivered_count + (SELECT count(*) FROM written WHERE delivery_status = 'delivered'),
       undelivered_count = undelivered_count
         + (SELECT count(*) FROM written WHERE delivery_status = 'undeliverable')
     WHERE id = $1`,
    [campaignId, subscriberId, status, messageId],
  );

async function process_(job) {
  const { campaignId, subscriberId } = job.data.payload;
  const found = await db.query(
    `SELECT cs.delivery_status, cs.provider_message_id, s.email, s.full_name, s.attributes, s.opted_out,
            c.subject, c.body_text, EXISTS (SELECT FROM blocklist b WHERE b.email = s.email) AS blocked
     FROM campaign_subscribers cs
     JOIN subscribers s ON s.id = cs.subscriber_id
     JOIN campaigns c ON c.id = cs.campaign_id
     WHERE cs.campaign_id = $1 AND cs.subscriber_id = $2`,
    [campaignId, subscriberId],
  );
  const row = found.rows[0];
  if (!row) throw new Error(`no subscriber ${subscriberId}`);
  if (row.delivery_status === "delivered") return { ok: true, id: row.provider_message_id };
  if (row.opted_out || row.blocked) {
    await write(campaignId, subscriberId, "skipped", null);
    return { ok: true, id: null };
  }
  const words = { ...row.attributes, name: row.full_name };
  const fill = (text) => text.replace(/{{ (\w+) }}/g, (_, word) => words[word] ?? "");
  try {
    const { messageId } = await smtp.sendMail({
      from: process.env.MAIL_FROM,
      to: row.email,
      subject: fill(row.subject),
      text: fill(row.body_text),
    });
    await write(campaignId, subscriberId, "delivered", messageId);
    return { ok: true, id: messageId };
  } catch (error) {
    if (!(error.responseCode >= 500)) throw error;
    await write(campaignId, subscriberId, "undeliverable", null);
    throw new UnrecoverableError(error.message);
  }
}

const worker = new Worker("emails", process_, {
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
