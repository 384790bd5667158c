// bull-board as an app has it: the dashboard of one queue over HTTP, on a port of its own.
// INPUT: {connection, prefix, queue}. The first line says {port, board}.
const { createRequire } = require("node:module");
const { Queue } = require("bullmq");

// The board stands in a folder of its own, and finds the bullmq of this process.
const ofBoard = createRequire(`${__dirname}/board/package.json`);
const { createBullBoard } = ofBoard("@bull-board/api");
const { BullMQAdapter } = ofBoard("@bull-board/api/bullMQAdapter");
const { ExpressAdapter } = ofBoard("@bull-board/express");
const express = ofBoard("express");
const { connection, prefix, queue } = JSON.parse(process.env.INPUT);

const serverAdapter = new ExpressAdapter();
createBullBoard({
  queues: [new BullMQAdapter(new Queue(queue, { connection, prefix }))],
  serverAdapter,
  // What does not fit the board's own description of its replies is an error 500.
  options: { validateResponses: true },
});
const server = express().use("/", serverAdapter.getRouter()).listen(0, "127.0.0.1", () => {
  const { version } = ofBoard("@bull-board/ui/package.json");
  process.stdout.write(`${JSON.stringify({ port: server.address().port, board: version })}\n`);
});
