// The worker that campaign-worker replaces. A deploy in the middle of a list puts the job back.
import { DelayedError, Worker } from "bullmq";
import IORedis from "ioredis";
import nodemailer from "nodemailer";
import pg from "pg";

const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const smtp = nodemailer.createTransport({ url: process.env.SMTP_URL, pool: true });
let closing = false;

// One statement, so that marker and count are written together or not at all.
const write = (newsletterId, readerId, messageId, failedReason) =>
  db.query(
    `WITH written AS (
       UPDATE newsletter_readers SET message_id = $3, failed_reason = $4,
         sent_at = CASE WHEN $3::text IS NOT NULL THEN now() END
       WHERE newsletter_id = $1 AND reader_id = $2)
     UPDATE newsletters SET sent_total = sent_total + ($3::text IS NOT NULL)::int,
       failed_total = failed_total + ($3::text IS NULL)::int
     WHERE id = $1`,
    [newsletterId, readerId, messageId, failedReason],
  );

async function send(newsletter, readerId) {
  const found = await db.query(
    `SELECT nr.sent_at, r.email, r.first_name, r.opted_out_at
     FROM newsletter_readers nr JOIN readers r ON r.id = nr.reader_id
     WHERE nr.newsletter_id = $1 AND nr.reader_id = $2`,
    [newsletter.id, readerId],
  );
  const row = found.rows[0];
  if (!row || row.sent_at || row.opted_out_at) return "skipped";
  const fill = (text) => text.replaceAll("{{ first_name }}", row.first_name);
  try {
    const { messageId } = await smtp.sendMail({
      from: process.env.MAIL_FROM,
      to: row.email,
      subject: fill(newsletter.subject),
      html: fill(newsletter.html),
    });
    await write(newsletter.id, readerId, messageId, null);
    return "sent";
  } catch (error) {
    if (!(error.responseCode >= 500)) throw error;
    await write(newsletter.id, readerId, null, error.message);
    return "failed";
  }
}

async function process_(job, token) {
  const { newsletterId, readers } = job.data;
  const found = await db.query("SELECT id, subject, html FROM newsletters WHERE id = $1", [newsletterId]);
  const tally = { total: readers.length, sent: 0, skipped: 0, failed: 0 };
  for (const [index, { id }] of readers.entries()) {
    if (closing) {
      await job.moveToDelayed(Date.now() + 100, token);
      throw new DelayedError();
    }
    tally[await send(found.rows[0], id)] += 1;
    await job.updateProgress(Math.floor(((index + 1) * 100) / readers.length));
  }
  return tally;
}

const worker = new Worker("newsletters", process_, {
  connection,
  prefix: process.env.QUEUE_PREFIX ?? "bull",
});
worker.on("error", (error) => console.error(error));
process.once("SIGTERM", async () => {
  closing = true;
  await worker.close();
  smtp.close();
  await connection.quit();
  await db.end();
});
await worker.waitUntilReady();
console.log(JSON.stringify({ ready: true }));
