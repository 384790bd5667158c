// A process with Node's Worker. INPUT: see contenders.WorkerSpec. NODE_PATH leads to bullmq.
const { Worker } = require("bullmq");
const { url, queue, concurrency, process_ms: processMs } = JSON.parse(process.env.INPUT);

const at = new URL(url);
const connection = { host: at.hostname, port: Number(at.port), maxRetriesPerRequest: null };
const work = processMs
  ? () => new Promise((resolve) => setTimeout(resolve, processMs))
  : async () => undefined;

async function main() {
  const worker = new Worker(queue, work, { connection, concurrency, autorun: false });
  worker.on("error", (error) => process.stderr.write(`error: ${error.stack}\n`));
  await worker.waitUntilReady();
  process.stdout.write("ready\n");
  process.stdin.once("data", () => worker.run());
}

main();
