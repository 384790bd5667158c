// A Node Worker that tells each local event with its arguments. INPUT: {connection, prefix, options}.
// Lines on stdin: "run", "pause", "resume", "close".
const { Worker } = require("bullmq");
const { connection, prefix, options } = JSON.parse(process.env.INPUT);
const NAMES = [
  "ready", "active", "completed", "failed", "progress", "stalled", "drained", "error", "paused",
  "resumed", "closing", "closed", "locksRenewed", "lockRenewalFailed",
];

function plain(value) {
  if (value instanceof Error) return { error: value.message };
  if (value && value.queueName) return { job: value.id, attemptsMade: value.attemptsMade };
  return value === undefined ? null : value;
}

async function process_(job) {
  if (job.data.progress) await job.updateProgress(job.data.progress);
  if (job.data.seconds) await new Promise((resolve) => setTimeout(resolve, job.data.seconds * 1000));
  if (job.data.fails && job.attemptsMade === 0) throw new Error("once");
  return job.data.value;
}

const worker = new Worker("mails", process_, { connection, prefix, autorun: false, ...options });
for (const name of NAMES) {
  worker.on(name, (...args) => {
    process.stdout.write(`${JSON.stringify({ event: name, args: args.map(plain) })}\n`);
  });
}
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  const what = JSON.parse(line);
  if (what === "run") worker.run().catch((error) => console.error(error));
  else if (what === "close") worker.close().then(() => process.exit(0));
  else worker[what]();
});
