// A tracker as one writes it with fastify and pg: check the token, insert one row, answer.
// INPUT: {port, url, key, connections, lean}. Writes nothing per request but the row.
// lean: the statement is prepared once per connection, and its table has no foreign keys.
const { createHmac, randomUUID, timingSafeEqual } = require("node:crypto");
const fastify = require("fastify");
const { Pool } = require("pg");

const { port, url, key, connections, lean } = JSON.parse(process.env.INPUT);
const pool = new Pool({ connectionString: url, max: connections });
const pixel = Buffer.from("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7", "base64");
const links = new Map();

const insert = {
  text:
    `INSERT INTO tracker.${lean ? "lean_events" : "events"}` +
    " (id, message_id, link_id, kind, user_agent, client, occurred_at)" +
    " VALUES ($1, $2, $3, $4, $5, $6, $7)",
};
if (lean) insert.name = "insert";

function read(token) {
  const at = token.lastIndexOf(".");
  if (at < 0) return null;
  const given = Buffer.from(token.slice(at + 1), "base64url");
  const made = createHmac("sha256", key).update(token.slice(0, at)).digest().subarray(0, 12);
  if (given.length !== made.length || !timingSafeEqual(given, made)) return null;
  const [message, link] = token.slice(0, at).split(".");
  return { message, link: link || null };
}

function record(kind, { message, link }, request) {
  const agent = (request.headers["user-agent"] || "").slice(0, 256);
  const client = createHmac("sha256", key).update(request.ip).digest().subarray(0, 16);
  const values = [randomUUID(), message, link, kind, agent, client, new Date()];
  return pool.query({ ...insert, values });
}

const app = fastify({ logger: false, trustProxy: true });
const headers = { "cache-control": "no-store", "referrer-policy": "no-referrer" };

app.get("/health", async () => "ok");

app.get("/o/:token", async (request, reply) => {
  const found = read(request.params.token.replace(/\.gif$/, ""));
  if (!found) return reply.code(404).send("not found\n");
  await record("open", found, request);
  return reply.headers(headers).type("image/gif").send(pixel);
});

app.get("/c/:token", async (request, reply) => {
  const found = read(request.params.token);
  const destination = found && links.get(found.link);
  if (!destination) return reply.code(404).send("not found\n");
  await record("click", found, request);
  return reply.headers(headers).redirect(destination, 302);
});

async function main() {
  const { rows } = await pool.query("SELECT id, url FROM campaign_worker.links");
  for (const row of rows) links.set(String(row.id), row.url);
  await app.listen({ port, host: "127.0.0.1" });
}

main();
