/**
 * kill -9 under write load, again and again on one data directory. What was acknowledged is there
 * once, with one event; what was refused is not; the numbers have no gap; the server is back at
 * once.
 *
 * BAKEND_LONG=1: 200 rounds instead of 20.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkContiguous, readFeed } from './support/feed.mjs';
import { Journal, Load, readJournal } from './support/load.mjs';
import { run, Server, startServer, temporaryFolder } from './support/program.mjs';
import { createRandom } from './support/random.mjs';
import { createCollection, listAll, open } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';

const ROUNDS = process.env.BAKEND_LONG === '1' ? 200 : 20;
const START_MS_MEDIAN_MAX = 1000;
const COLLECTION = 'things';
/** `*` leaves out the types that begin with an underscore. */
const EVERY_TYPE = '&types=*,_*';
const EVENT_OF = { create: 'created', update: 'updated', delete: 'deleted' };

const definition = {
  name: COLLECTION,
  ...open,
  fields: [
    { name: 'title', type: 'text', required: true },
    { name: 'value', type: 'number' },
    { name: 'created', type: 'autodate', onCreate: true },
  ],
};

/** What the journal of a round lets the server have of each record: id → {events, unknown}. */
function expectations(requests) {
  const byId = new Map();
  for (const request of requests) {
    if (!byId.has(request.id)) byId.set(request.id, { applied: [], unknown: null, refused: [] });
    const expected = byId.get(request.id);
    assert.equal(expected.unknown, null, 'nothing follows a request without an answer');
    if (request.outcome === 'ok') expected.applied.push(request);
    else if (request.outcome === 'unknown') expected.unknown = request;
    else expected.refused.push(request);
  }
  return byId;
}

/** The record that a row of operations leaves: its value, or null. */
const valueAfter = (operations) =>
  operations.reduce((_, { kind, value }) => (kind === 'delete' ? null : value), null);

/**
 * Holds the events and the rows of one record against its operations; returns the value it must
 * have now.
 */
function checkRecord(id, { applied, unknown }, events) {
  const described = events.map(({ type, payload }) => ({
    type,
    value: type.endsWith('deleted') ? null : payload.value,
  }));
  const wanted = (operations) =>
    operations.map(({ kind, value = null }) => ({
      type: `${COLLECTION}.${EVENT_OF[kind]}`,
      value: kind === 'delete' ? null : value,
    }));
  const isUnknownThere =
    unknown !== null && unknown.kind !== 'broken' && events.length > applied.length;
  const operations = isUnknownThere ? [...applied, unknown] : applied;
  assert.deepEqual(described, wanted(operations), `events of ${id}`);
  return valueAfter(operations);
}

/** What one life of the server left, against its journal. `model`: id → value, of all lives. */
async function checkRound({ server, token, requests, feedBefore, model }) {
  const feed = await readFeed(server, token, { after: feedBefore.next, query: EVERY_TYPE });
  checkContiguous(feed.events, feedBefore.last + 1);
  const bySubject = new Map();
  for (const event of feed.events) {
    if (!event.subject.startsWith(`${COLLECTION}/`)) continue;
    bySubject.set(event.subject, [...(bySubject.get(event.subject) ?? []), event]);
  }
  const expected = expectations(requests);
  for (const [id, expectation] of expected) {
    const subject = `${COLLECTION}/${id}`;
    const value = checkRecord(id, expectation, bySubject.get(subject) ?? []);
    bySubject.delete(subject);
    if (value === null) model.delete(id);
    else model.set(id, value);
  }
  assert.deepEqual([...bySubject.keys()], [], 'no event of a record that nobody asked for');
  const from = requests.reduce((least, { id }) => (id < least ? id : least), '~');
  await checkRows({ server, token, model, from });
  return feed;
}

/**
 * Holds the rows against the model: those from an id on. Ids grow, and a record belongs to one life
 * of the server, so the rows of a life are the newest ones.
 */
async function checkRows({ server, token, model, from = '' }) {
  const isOlder = ({ id }) => id < from;
  const listed = await listAll(server, token, COLLECTION, {
    query: '&sort=-id',
    isEnough: isOlder,
  });
  const rows = listed.filter((row) => !isOlder(row));
  const there = new Map(rows.map(({ id, value }) => [id, value]));
  assert.equal(there.size, rows.length, 'each record is there once');
  for (const [id, value] of model)
    if (id >= from) assert.equal(there.get(id), value, `an acknowledged write of ${id} is there`);
  for (const id of there.keys())
    assert.ok(model.has(id), `${id} was refused or deleted, and is there`);
}

async function doctor(folder) {
  const { code, stdout, stderr } = await run(['doctor', '--json', '--data', join(folder, 'data')], {
    cwd: folder,
  });
  assert.equal(code, 0, stdout + stderr);
  assert.equal(JSON.parse(stdout).problems, 0, stdout);
  assert.match(stdout, /whole, its journal without gaps/);
}

test(`${ROUNDS} rounds of kill -9 under write load lose, repeat and resurrect nothing`, async (t) => {
  const random = createRandom(t);
  const folder = await temporaryFolder(t),
    journals = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, definition);
  let feed = await readFeed(server, token, { query: EVERY_TYPE });
  checkContiguous(feed.events, 1);
  const load = new Load({ random, collection: COLLECTION, connections: 24 });
  const model = new Map(),
    startsMs = [];
  let acknowledged = 0,
    unknown = 0,
    refused = 0;

  for (let round = 1; round <= ROUNDS; round++) {
    const journal = await Journal.open(join(journals, `${round}.jsonl`));
    load.start({ port: server.port, token, journal });
    await sleep(random.between(50, 1500));
    await server.stop('SIGKILL');
    await load.stop();
    await journal.close();

    const before = performance.now();
    server = new Server(folder, []);
    await server.ready();
    startsMs.push(performance.now() - before);
    assert.ok(!server.log.some((line) => line.includes('epoch_renewed')), 'the epoch stays');
    const requests = await readJournal(journal.path);
    acknowledged += requests.filter(({ outcome }) => outcome === 'ok').length;
    refused += requests.filter(({ outcome }) => outcome === 'failed').length;
    unknown += requests.filter(({ outcome }) => outcome === 'unknown').length;
    for (const { kind, status, outcome } of requests)
      if (outcome === 'failed') assert.deepEqual([kind, status], ['broken', 400]);
    try {
      feed = await checkRound({ server, token, requests, feedBefore: feed, model });
    } catch (error) {
      await server.stop('SIGKILL');
      throw error;
    }
  }

  const whole = await readFeed(server, token, { query: '&types=nothing.at_all' });
  assert.deepEqual([whole.first, whole.last], [1, feed.last], 'the numbers begin at 1');
  await checkRows({ server, token, model });
  await server.stop('SIGKILL');
  await doctor(folder);
  startsMs.sort((a, b) => a - b);
  const median = startsMs[startsMs.length >> 1];
  t.diagnostic(
    `${acknowledged} acknowledged, ${refused} refused, ${unknown} unknown, ${whole.last} events; ` +
      `start: median ${median.toFixed(0)} ms, slowest ${startsMs.at(-1).toFixed(0)} ms`,
  );
  assert.ok(acknowledged > ROUNDS * 10, 'the load has written something');
  assert.ok(unknown > 0, 'the kills have hit requests in flight');
  assert.ok(refused > 0, 'some writes were refused');
  assert.ok(median < START_MS_MEDIAN_MAX, `a start takes less than ${START_MS_MEDIAN_MAX} ms`);
});
