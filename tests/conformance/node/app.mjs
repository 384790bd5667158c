// An app with BullMQ, driven line by line: {id, call, args} on stdin, {id, result | error} on stdout.
// The first line says {"ready": version}. INPUT: {connection, prefix, queue}.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const { Queue, QueueEvents, FlowProducer } = require("bullmq");
const { connection, prefix, queue: defaultQueue } = JSON.parse(process.env.INPUT);
const base = { connection, prefix };
const WATCHED = [
  "added", "waiting", "active", "completed", "failed", "delayed", "progress", "stalled",
  "retries-exhausted", "paused", "resumed", "drained", "removed", "waiting-children",
];

const queues = new Map();
const watchers = new Map();
const seen = [];
let flows;

function queueOf(name = defaultQueue) {
  if (!queues.has(name)) queues.set(name, new Queue(name, base));
  return queues.get(name);
}

// JSON has no Buffer: {"$buffer": base64} stands for one on the way here.
function revived(value) {
  if (Array.isArray(value)) return value.map(revived);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$buffer === "string") return Buffer.from(value.$buffer, "base64");
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, revived(inner)]));
}

async function described(job) {
  if (!job) return null;
  return {
    id: job.id,
    name: job.name,
    data: job.data,
    state: await job.getState(),
    returnvalue: job.returnvalue,
    failedReason: job.failedReason ?? null,
    attemptsMade: job.attemptsMade,
    attemptsStarted: job.attemptsStarted ?? null,
    stacktraces: job.stacktrace?.length ?? 0,
    processedBy: job.processedBy ?? null,
    progress: job.progress,
    timestamp: job.timestamp,
    processedOn: job.processedOn ?? null,
    finishedOn: job.finishedOn ?? null,
    delay: job.delay,
  };
}

const calls = {
  async add(jobs, name) {
    const specs = jobs.map(({ data, ...rest }) => ({ ...rest, data: revived(data) }));
    return (await queueOf(name).addBulk(specs)).map((job) => job.id);
  },
  async flow(tree) {
    flows ??= new FlowProducer(base);
    return (await flows.add(tree)).job.id;
  },
  schedule: async (id, repeat, template, name) =>
    (await queueOf(name).upsertJobScheduler(id, repeat, template)).id,
  concurrency: (limit, name) => queueOf(name).setGlobalConcurrency(limit),
  limit: (max, duration, name) => queueOf(name).setGlobalRateLimit(max, duration),
  rest: (ms, name) => queueOf(name).rateLimit(ms),
  async release(id, name) {
    const job = await queueOf(name).getJob(id);
    await job.updateData({ ...job.data, go: true });
  },
  pause: (name) => queueOf(name).pause(),
  resume: (name) => queueOf(name).resume(),
  isPaused: (name) => queueOf(name).isPaused(),
  counts: (name) => queueOf(name).getJobCounts(),
  workers: (name) => queueOf(name).getWorkers(),
  async job(id, name) {
    return described(await queueOf(name).getJob(id));
  },
  async jobs(states, name) {
    return Promise.all((await queueOf(name).getJobs(states, 0, -1, true)).map(described));
  },
  // What the app finds in the job's own options, long names and all.
  options: async (id, name) => (await queueOf(name).getJob(id)).opts,
  // The result, or {failed: reason}, as Job.waitUntilFinished tells it.
  async wait(id, name = defaultQueue) {
    const job = await queueOf(name).getJob(id);
    return job.waitUntilFinished(watchers.get(name), 10_000).catch((error) => ({
      failed: error.message,
    }));
  },
  async logs(id, name) {
    return (await queueOf(name).getJobLogs(id)).logs;
  },
  // From the beginning of the stream, so that no event is missed.
  async watch(name = defaultQueue) {
    if (watchers.has(name)) return;
    const watcher = new QueueEvents(name, { ...base, lastEventId: "0-0" });
    watchers.set(name, watcher);
    for (const event of WATCHED) {
      watcher.on(event, (fields) => seen.push({ event, queue: name, ...fields }));
    }
    await watcher.waitUntilReady();
  },
  seen: (name = defaultQueue) => seen.filter(({ queue }) => queue === name),
  histories(name) {
    const told = {};
    for (const { event, jobId } of calls.seen(name)) {
      if (jobId !== undefined) (told[jobId] ??= []).push(event);
    }
    return told;
  },
  // {event: number of jobs} and the number of events: less to carry than all of them.
  tally(name) {
    const jobs = {};
    const events = {};
    for (const { event, jobId } of calls.seen(name)) {
      (jobs[event] ??= new Set()).add(jobId);
      events[event] = (events[event] ?? 0) + 1;
    }
    return {
      events,
      jobs: Object.fromEntries(Object.entries(jobs).map(([event, ids]) => [event, ids.size])),
    };
  },
};

function say(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

createInterface({ input: process.stdin }).on("line", async (line) => {
  const { id, call, args } = JSON.parse(line);
  try {
    say({ id, result: (await calls[call](...args)) ?? null });
  } catch (error) {
    say({ id, error: String(error.stack ?? error) });
  }
});
await queueOf().waitUntilReady();
say({ ready: require("bullmq/package.json").version });
