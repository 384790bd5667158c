// A Node Worker whose jobs say themselves what becomes of them; it reports each job it ran.
// INPUT: {connection, prefix, queues, options, each: {queue: options}, pauseMs}.
// Lines: {"ready": true}, then {"ran": {queue, id, data, attempt}} for each run.
// data.plan is what each attempt does (the last entry serves all later ones); without it: complete.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { Worker, UnrecoverableError, DelayedError, WaitingError } = require("bullmq");
const { connection, prefix, queues, options = {}, each = {}, pauseMs = 0 } = JSON.parse(process.env.INPUT);

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

async function process_(job, token) {
  say({ ran: { queue: job.queueName, id: job.id, data: job.data, attempt: job.attemptsMade } });
  if (pauseMs) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  const plan = job.data.plan ?? ["complete"];
  const what = plan[Math.min(job.attemptsStarted - 1, plan.length - 1)];
  switch (what) {
    case "complete":
      return { outcome: "sent", text: "größer", attempt: job.attemptsMade };
    case "nothing":
      return undefined;
    case "fail":
      throw new Error(`no, attempt ${job.attemptsMade}`);
    case "give up":
      throw new UnrecoverableError("never");
    case "report":
      await job.updateProgress({ done: 50 });
      await job.log("half-way");
      await job.updateData({ ...job.data, changed: true });
      return "reported";
    case "later":
      await job.moveToDelayed(Date.now() + 50, token);
      throw new DelayedError();
    case "wait":
      await job.moveToWait(token);
      throw new WaitingError();
    case "values":
      return [true, 7, 1.5, "größer", null, { deep: [NaN, Infinity] }, new Date(0), Buffer.from("ab")];
    case "text":
      return "text";
    case "false":
      return false;
    case "progress":
      await job.updateProgress(10);
      await job.updateProgress("half");
      await job.updateProgress(true);
      return 0;
    default:
      throw new Error(`unknown plan ${what}`);
  }
}

// For jobs whose backoff is of a type of the app's own.
const settings = { backoffStrategy: async (attempt) => (attempt > 2 ? -1 : 10 * attempt) };
const workers = queues.map(
  (name) => new Worker(name, process_, {
    connection, prefix, autorun: false, settings, ...options, ...each[name],
  }),
);
for (const worker of workers) worker.on("error", (error) => console.error(error));
// Any line on stdin asks it to close.
process.stdin.once("data", async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  process.exit(0);
});
await Promise.all(workers.map((worker) => worker.waitUntilReady()));
say({ ready: true });
for (const worker of workers) worker.run().catch((error) => console.error(error));
