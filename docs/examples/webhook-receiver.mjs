/**
 * Receives webhooks and misses nothing: what does not come by a delivery is fetched from the feed.
 *
 *   npm install standardwebhooks
 *   WEBHOOK_SECRET=whsec_… BAKEND_KEY=bk_… \
 *     node webhook-receiver.mjs http://127.0.0.1:8090 'orders.*' 3000 orders.json
 *
 * Node 18. The file holds {"cursor", "applied"}: what was made of the events, and the place in the feed up
 * to which all of them are in it, written at once. Kill this program or the server, turn the
 * webhook off, let deliveries run out of attempts: each event is applied once, in order.
 */
import { open, readFile, rename } from 'node:fs/promises';
import { createServer } from 'node:http';
import { dirname } from 'node:path';
import { Webhook } from 'standardwebhooks';

const [url, types, port, path] = process.argv.slice(2);
const { WEBHOOK_SECRET: secret, BAKEND_KEY: key } = process.env;
if (!path || !secret || !key) {
  console.error('usage: WEBHOOK_SECRET=… BAKEND_KEY=… node webhook-receiver.mjs URL TYPES PORT FILE');
  process.exit(2);
}
const webhook = new Webhook(secret);
const BODY_BYTES_MAX = 2 * 1024 * 1024;
const HEAL_MS = 10 * 60_000;

/* --- what is made of an event ------------------------------------------------------------------- */

/** Whatever it is, it goes into the file that the cursor is in: so it is never done twice. */
function apply(state, { id, type, subject }) {
  state.applied.push({ id, type, subject });
}

/* --- the file: data and cursor, in one piece ---------------------------------------------------- */

async function load() {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

/** Either the old file is there or the new one, whatever happens. */
async function save(state) {
  const file = await open(`${path}.new`, 'w');
  await file.writeFile(JSON.stringify(state));
  await file.sync();
  await file.close();
  await rename(`${path}.new`, path);
  const folder = await open(dirname(path), 'r');
  await folder.sync();
  await folder.close();
}

/* --- the feed ----------------------------------------------------------------------------------- */

async function readPage(after) {
  const query = new URLSearchParams({ types, after, limit: '1000' });
  const answer = await fetch(`${url}/api/events?${query}`, {
    headers: { authorization: `Bearer ${key}` },
    signal: AbortSignal.timeout(10_000),
  });
  if (answer.ok) return answer.json();
  const text = await answer.text();
  /* 410: away for longer than events are kept. 409: the tenant was restored. Only a copy of the present
   * state helps then: see copy-a-collection.md. */
  if (answer.status === 410 || answer.status === 409) {
    console.error(`the cursor cannot be followed: begin anew with a snapshot: ${text}`);
    process.exit(1);
  }
  throw new Error(`the feed answers ${answer.status}: ${text}`);
}

/** All that is behind our own cursor, up to now. */
async function heal(state) {
  for (let hasMore = true; hasMore; ) {
    const page = await readPage(state.cursor);
    for (const event of page.events) apply(state, event);
    state.cursor = page.next;
    hasMore = page.hasMore;
    await save(state);
  }
}

/* --- a delivery --------------------------------------------------------------------------------- */

async function take(state, event) {
  /* Sent again, or fetched before it came. In earnest a unique key of your database. */
  if (state.applied.some(({ id }) => id === event.id)) return 'known';
  if (event.after !== state.cursor) {
    await heal(state);
    return 'healed';
  }
  apply(state, event);
  state.cursor = event.cursor;
  await save(state);
  return 'applied';
}

async function readBody(request) {
  const parts = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length > BODY_BYTES_MAX) throw new Error('too large');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function verify(body, headers) {
  try {
    return webhook.verify(body, headers);
  } catch {
    return null;
  }
}

let line = Promise.resolve();

/** One after the other: each decides by the cursor that the one before has left. What fails has changed
 * nothing that lasts, since the next one begins with what is in the file. */
function inTurn(work) {
  const turn = line.then(async () => work(await load()));
  line = turn.catch(() => {});
  return turn;
}

async function answer(request) {
  const event = verify(await readBody(request), request.headers);
  if (!event) return 400;
  try {
    const outcome = await inTurn((state) => take(state, event));
    console.log(`${outcome}: ${request.headers['webhook-id']} ${event.type}`);
    return 204;
  } catch (error) {
    console.error(`not applied: ${error.message}`);
    return 503; /* it comes again */
  }
}

/* --- the whole ---------------------------------------------------------------------------------- */

/** The place to begin at is known before the first delivery comes, which may be the second event. */
async function begin() {
  const state = await load();
  if (state) return;
  const page = await readPage('now');
  await save({ cursor: page.next, applied: [] });
}

await begin();
createServer(async (request, response) => {
  const status = await answer(request).catch(() => 400);
  response.writeHead(status).end();
}).listen(Number(port), '127.0.0.1', () => console.log(`listening on ${port}`));

/* At the start, and now and then: nothing tells of a delivery that was the last one for now. */
const look = () => inTurn(heal).catch((error) => console.error(`not healed: ${error.message}`));
await look();
setInterval(look, HEAL_MS);
