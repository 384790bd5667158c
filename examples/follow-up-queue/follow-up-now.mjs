// The app's button "follow up now": all follow-ups that wait for their time are due.
import { Queue } from "bullmq";
import IORedis from "ioredis";

const connection = new IORedis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
const queue = new Queue("follow-up", { connection, prefix: process.env.QUEUE_PREFIX ?? "bull" });
const delayed = await queue.getDelayed();
await Promise.all(delayed.map((job) => job.promote()));
console.log(JSON.stringify({ promoted: delayed.length }));
await queue.close();
await connection.quit();
