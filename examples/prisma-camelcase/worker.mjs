// The worker that campaign-worker replaces; both may work at the same time.
import { UnrecoverableError, Worker } from "bullmq";
import IORedis from "ioredis";
import nodemailer from "nodemailer";
import pg from "pg";

const db = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const smtp = nodemailer.createTransport({ url: process.env.SMTP_URL, pool: true });

async function write(recipientId, campaignId, status, messageId, error) {
  const client = await db.connect();
  try {
    await client.query("BEGIN");
    await client.query(
      `UPDATE "CampaignRecipient" SET "status" = $2::"DeliveryStatus", "messageId" = $3, "error" = $4,
         "sentAt" = CASE WHEN $2 = 'SENT' THEN CURRENT_TIMESTAMP END WHERE "id" = $1`,
      [recipientId, status, messageId, error],
    );
    const counter = { SENT: "sentCount", BOUNCED: "failedCount", FAILED: "failedCount" }[status];
    if (counter) {
      await client.query(
        `UPDATE "Campaign" SET "${counter}" = "${counter}" + 1, "updatedAt" = CURRENT_TIMESTAMP
         WHERE "id" = $1`,
        [campaignId],
      );
    }
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

async function process_(job) {
  const { campaignId, recipient } = job.data;
  const found = await db.query(
    `SELECT r."status", r."messageId", c."email", c."firstName", c."unsubscribedAt",
            k."subject", k."bodyHtml", k."fromEmail"
     FROM "CampaignRecipient" r
     JOIN "Contact" c ON c."id" = r."contactId"
     JOIN "Campaign" k ON k."id" = r."campaignId" WHERE r."id" = $1`,
    [recipient.id],
  );
  const row = found.rows[0];
  if (!row) throw new Error(`no recipient ${recipient.id}`);
  if (row.status === "SENT") return { messageId: row.messageId };
  if (row.unsubscribedAt) {
    await write(recipient.id, campaignId, "SKIPPED", null, "unsubscribed");
    return { messageId: null };
  }
  const fill = (text) => text.replaceAll("{{ firstName }}", row.firstName ?? "friend");
  try {
    const { messageId } = await smtp.sendMail({
      from: row.fromEmail,
      to: row.email,
      subject: fill(row.subject),
      html: fill(row.bodyHtml),
    });
    await write(recipient.id, campaignId, "SENT", messageId, null);
    return { messageId };
  } catch (error) {
    if (!(error.responseCode >= 500)) throw error;
    await write(recipient.id, campaignId, "BOUNCED", null, error.message);
    throw new UnrecoverableError(error.message);
  }
}

const worker = new Worker("campaign-emails", process_, {
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
