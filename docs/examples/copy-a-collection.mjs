/**
 * Keeps an exact copy of a collection in a file: a snapshot once, then the change feed.
 *
 *   BAKEND_EMAIL=… BAKEND_PASSWORD=… \
 *     node copy-a-collection.mjs http://127.0.0.1:8090 posts posts.json
 *
 * Or BAKEND_TOKEN=…, which ends when the token does; with both it signs in when the token is over.
 *
 * Node 18, no packages. The file holds {"cursor", "isExact", "records"}: the records and the place in
 * the feed that they stand for, written at once. Kill this program or the server whenever you like:
 * what was applied twice is the same as once, and nothing is left out.
 */
import { open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const [url, name, path] = process.argv.slice(2);
const { BAKEND_EMAIL: identity, BAKEND_PASSWORD: password } = process.env;
let token = process.env.BAKEND_TOKEN;
if (!path || !(token || (identity && password))) {
  console.error('usage: node copy-a-collection.mjs URL COLLECTION FILE');
  console.error('with BAKEND_EMAIL and BAKEND_PASSWORD, or with BAKEND_TOKEN');
  process.exit(2);
}

/** An answer that is no success; whoever calls knows what it means. */
class Refused extends Error {
  constructor(answer, text) {
    super(`${answer.status} ${text}`);
    this.status = answer.status;
    this.retryAfter = Number(answer.headers.get('retry-after')) || 0;
  }
}

async function send(target, options) {
  const answer = await fetch(url + target, options);
  if (!answer.ok) throw new Refused(answer, await answer.text());
  return answer;
}

async function signIn() {
  const answer = await send('/api/collections/_superusers/auth-with-password', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ identity, password }),
  });
  return (await answer.json()).token;
}

async function ask(target) {
  token ??= await signIn();
  return send(target, { headers: { authorization: token } });
}

let failures = 0; /* in a row */

/** An answer whose server dies meanwhile may never end for the fetch of Node: we do not wait for it
 * longer than a long poll may take. */
async function inTime(work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), 40_000);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

const getJson = (target) => inTime(ask(target).then((answer) => answer.json()));

/* --- the file: data and cursor, in one piece ---------------------------------------------------- */

async function load() {
  try {
    const { records, ...rest } = JSON.parse(await readFile(path, 'utf8'));
    return { ...rest, records: new Map(Object.entries(records)) };
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

async function sync(target) {
  const file = await open(target, 'r');
  await file.sync();
  await file.close();
}

/** Either the old file is there or the new one, whatever happens. */
async function save(copy) {
  const file = await open(`${path}.new`, 'w');
  await file.writeFile(JSON.stringify({ ...copy, records: Object.fromEntries(copy.records) }));
  await file.sync();
  await file.close();
  await rename(`${path}.new`, path);
  await sync(dirname(path));
}

/* --- the snapshot ------------------------------------------------------------------------------- */

async function* linesOf(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await inTime(reader.read());
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split('\n');
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

/** Records as events have them: without the collection's name, and without hidden fields. */
function plain(record, { fields }) {
  const { collectionId, collectionName, expand, ...own } = record;
  for (const { name, hidden } of fields) if (hidden) delete own[name];
  return own;
}

async function takeSnapshot(idOrName) {
  const collection = await getJson(`/api/collections/${idOrName}`);
  const answer = await inTime(ask(`/api/collections/${collection.id}/snapshot`));
  const records = new Map();
  let cursor, isDone;
  for await (const line of linesOf(answer.body)) {
    if (line.from) cursor = line.from;
    else if (line.error) throw new Error(line.error.message);
    else if (line.done) isDone = true;
    else records.set(line.id, plain(line, collection));
  }
  if (!isDone) throw new Error('the snapshot broke off');
  /* Exact once all events behind `from` were applied that there are by now. */
  return { collection, cursor, isExact: false, records };
}

/* --- the feed ----------------------------------------------------------------------------------- */

/** An event that would have been too large leaves members out and names them: ask for the record. */
async function recordOf(event, collection) {
  if (!event.omitted) return event.payload;
  try {
    const target = `/api/collections/${collection.id}/records/${event.payload.id}`;
    return plain(await getJson(target), collection);
  } catch (error) {
    if (error.status === 404) return null; /* deleted since: that event comes too */
    throw error;
  }
}

/** False when the collection is another one now: then the copy is made anew. */
async function apply(copy, event) {
  const { type, payload } = event;
  if (type.startsWith('_collections.')) return payload.id !== copy.collection.id;
  if (type.endsWith('.deleted')) {
    /* A record's id is in its subject too, whatever is left out of the payload. */
    copy.records.delete(event.subject.slice(event.subject.indexOf('/') + 1));
    return true;
  }
  const record = await recordOf(event, copy.collection);
  if (record) copy.records.set(record.id, record);
  return true;
}

async function follow(copy) {
  const types = `${copy.collection.name}.*,_collections.updated,_collections.deleted`;
  for (;;) {
    const page = await getJson(
      `/api/events?types=${types}&after=${copy.cursor}&limit=1000&wait=${copy.isExact ? 30 : 0}`,
    );
    failures = 0;
    for (const event of page.events) if (!(await apply(copy, event))) return;
    const wasExact = copy.isExact;
    copy.cursor = page.next;
    copy.isExact = !page.hasMore;
    if (page.events.length || copy.isExact !== wasExact) await save(copy);
    if (copy.isExact && !wasExact) console.log(`exact: ${copy.records.size} records`);
  }
}

/* --- the whole ---------------------------------------------------------------------------------- */

async function run() {
  let copy = await load();
  for (let idOrName = name; ; copy = null) {
    if (!copy) {
      copy = await takeSnapshot(idOrName);
      await save(copy);
      console.log(`snapshot: ${copy.records.size} records`);
    }
    try {
      await follow(copy);
      console.log('the collection was changed: taking it anew');
      idOrName = copy.collection.id; /* its name may be another one */
    } catch (error) {
      /* 410: the events behind the cursor are gone. 409: the tenant was restored, its history is
       * another one. Either way the copy cannot be mended: take it anew. */
      if (error.status !== 410 && error.status !== 409) throw error;
      console.log(`the cursor cannot be followed (${error.status}): taking it anew`);
      idOrName = name;
    }
  }
}

/** Longer each time, up to half a minute, and never all at once; or what the server asks for. */
function pauseAfter(error) {
  const pause = Math.min(30_000, 200 * 2 ** failures++) * (0.5 + Math.random() / 2);
  return Math.max(pause, (error.retryAfter ?? 0) * 1000);
}

for (;;) {
  try {
    await run();
  } catch (error) {
    const isOver = error.status === 401;
    const mayPass = isOver ? password : !(error.status < 500) || [409, 429].includes(error.status);
    if (isOver && !mayPass)
      console.error('the token is over: make one: bakend superuser token EMAIL');
    if (!mayPass) throw error;
    /* A token lives a day. No server, a server that is busy or stops: it comes back. The file says
     * where we were. */
    if (isOver) token = undefined;
    console.error(`waiting: ${error.cause?.code ?? error.message}`);
    await sleep(pauseAfter(error));
  }
}
