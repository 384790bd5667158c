// A Node Worker whose jobs say themselves what becomes of them; it reports each job it ran.
// INPUT: {connection, prefix, queues, options, each: {queue: options}, pauseMs}.
// Lines: {"ready": true}, then {"ran": {queue, id, data, attempt}} for each run.
// A job that fails "for now" is retried by a listener, once.
// data.plan is what each attempt does (the last entry serves all later ones); without it: complete.
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const {
  Job, Worker, UnrecoverableError, DelayedError, WaitingError, WaitingChildrenError,
} = require("bullmq");
const { connection, prefix, queues, options = {}, each = {}, pauseMs = 0 } = JSON.parse(process.env.INPUT);

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

// What a job can ask about itself and its children.
async function answers(job) {
  return {
    values: await job.getChildrenValues(),
    ignored: await job.getIgnoredChildrenFailures(),
    failed: await job.getFailedChildrenValues(),
    dependencies: await job.getDependencies(),
    page: await job.getDependencies({ processed: { cursor: 0, count: 5 }, failed: { count: 5 } }),
    rest: await job.getDependencies({ unprocessed: { count: 5 }, ignored: { count: 5 } }),
    counts: await job.getDependenciesCount(),
    some: await job.getDependenciesCount({ processed: true, failed: true }),
    state: await job.getState(),
    is: [
      await job.isActive(), await job.isCompleted(), await job.isFailed(),
      await job.isDelayed(), await job.isWaiting(), await job.isWaitingChildren(),
    ],
  };
}

// Until the app has said go.
async function released(job) {
  while (!(await Job.fromId(byName.get(job.queueName), job.id)).data.go) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function process_(job, token) {
  say({ ran: { queue: job.queueName, id: job.id, data: job.data, attempt: job.attemptsMade } });
  if (pauseMs) await new Promise((resolve) => setTimeout(resolve, pauseMs));
  const plan = job.data.plan ?? ["complete"];
  // 4.x counts an attempt when it starts, and nothing else.
  const started = job.attemptsStarted ?? job.attemptsMade;
  const what = plan[Math.min(started - 1, plan.length - 1)];
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
    case "ask":
      return answers(job);
    case "hold":
      await released(job);
      return "held";
    case "hold and fail":
      await released(job);
      throw new Error("held");
    case "for now":
      throw new Error("for now");
    case "children":
      if (await job.moveToWaitingChildren(token)) throw new WaitingChildrenError();
      return "no children";
    case "one child": {
      const child = { id: "kid", queue: job.queueQualifiedName };
      if (await job.moveToWaitingChildren(token, { child })) throw new WaitingChildrenError();
      return "no such child";
    }
    case "limit":
      await byName.get(job.queueName).rateLimit(60);
      throw Worker.RateLimitError();
    case "move delay":
      await job.moveToDelayed(Date.now() + 60_000, token);
      await job.changeDelay(20);
      throw new DelayedError();
    case "promote":
      await job.moveToDelayed(Date.now() + 60_000, token);
      await job.promote();
      throw new DelayedError();
    case "move up":
      await job.moveToWait(token);
      await job.changePriority({ priority: 7 });
      throw new WaitingError();
    case "remove":
      await job.moveToWait(token);
      await job.remove();
      throw new WaitingError();
    case "drop children":
      await job.removeUnprocessedChildren();
      return job.getDependenciesCount();
    case "leave parent":
      return [await job.removeChildDependency(), job.parentKey ?? null];
    case "let others in":
      return [job.deduplicationId, await job.removeDeduplicationKey()];
    case "clear logs":
      for (const row of ["a", "b", "c"]) await job.log(row);
      await job.clearLogs(2);
      return "cleared";
    case "extend":
      return [
        await byName.get(job.queueName).extendJobLocks([job.id], [token], 9000),
        await byName.get(job.queueName).extendJobLocks([job.id], ["other"], 9000),
        await job.extendLock(token, 9000),
      ];
    case "options": {
      const { repeat, telemetry, deduplication, keepLogs } = job.opts;
      return { repeat, telemetry, deduplication, keepLogs, attempts: job.opts.attempts };
    }
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
const byName = new Map(workers.map((worker) => [worker.name, worker]));
for (const worker of workers) {
  worker.on("error", (error) => console.error(error));
  worker.on("failed", (job, error) => {
    if (error.message !== "for now" || job.attemptsStarted > 1) return;
    job.retry("failed", { resetAttemptsMade: true }).catch((fault) => console.error(fault));
  });
}
// Any line on stdin asks it to close.
process.stdin.once("data", async () => {
  await Promise.all(workers.map((worker) => worker.close()));
  process.exit(0);
});
await Promise.all(workers.map((worker) => worker.waitUntilReady()));
say({ ready: true });
for (const worker of workers) worker.run().catch((error) => console.error(error));
