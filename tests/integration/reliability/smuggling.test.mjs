/**
 * Smuggling: every request of tests/hostile/http is sent whole, byte by byte, and cut in two at
 * each place, with a harmless request behind it. Each time the answers must be those that the file
 * tells, the harmless request must be answered where the connection goes on and must not be where
 * it ends, and in the end exactly those records exist that may. Behind a proxy that keeps its
 * connections, nobody may get an answer that is not his.
 *
 * BAKEND_LONG=1: cut at every place; else at those where something is decided, and some others.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { promise } from '../support/promise.mjs';
import { Closed, requestText, Wire } from '../support/wire.mjs';
import { readCorpus } from './support/corpus.mjs';
import { startThings } from './support/things.mjs';

const IS_LONG = process.env.BAKEND_LONG === '1';
const FOLLOWER = Buffer.from('GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n');
const SHORT_BYTES = 1500;
const AT_ONCE = 200;

const corpus = readCorpus();
const short = corpus.filter(({ data }) => data.length <= SHORT_BYTES);

/** The statuses of all that is answered, until the follower is or the connection ends. */
async function listen(wire, entry) {
  const statuses = [];
  let isFollowed = false;
  try {
    while (!isFollowed) {
      const isHead = entry.data.toString('latin1').startsWith('HEAD') && statuses.length === 0;
      const answer = await wire.answer({ method: isHead ? 'HEAD' : 'GET' });
      statuses.push(...wire.interim.splice(0), answer.status);
      isFollowed = statuses.length > entry.statuses.length;
      if (isFollowed) assert.equal(answer.json.message, 'API is healthy.', entry.name);
    }
  } catch (error) {
    if (!(error instanceof Closed)) throw error;
  }
  return { statuses, isFollowed };
}

async function judge(wire, entry, how) {
  const { statuses, isFollowed } = await listen(wire, entry);
  const wanted = entry.isClosed ? entry.statuses : [...entry.statuses, 200];
  assert.deepEqual(statuses, wanted, `${entry.name}, ${how}: ${entry.why}`);
  assert.equal(isFollowed, !entry.isClosed, `${entry.name}, ${how}`);
  if (entry.isClosed) assert.ok(await wire.ends(), `${entry.name}, ${how}: ended`);
  assert.equal(wire.pending, '', `${entry.name}, ${how}: nothing else is answered`);
  wire.destroy();
}

/** Once this is answered, what was sent before was read: the server reads in the order of arrival. */
async function barrier(sentinel) {
  sentinel.write(FOLLOWER);
  assert.equal((await sentinel.answer()).status, 200);
}

async function inBatches(items, handle) {
  for (let from = 0; from < items.length; from += AT_ONCE)
    await handle(items.slice(from, from + AT_ONCE));
}

const openAll = (server, items) => Promise.all(items.map(() => Wire.open(server.port)));

/** Counts what was made, which must be what may be made. */
async function judgeRecords(things, entries) {
  const wanted = entries.reduce((sum, { created }) => sum + created, 0);
  assert.deepEqual(await things.count(), { visible: wanted }, 'nothing hidden, and the rest once');
}

test('sent whole', async (t) => {
  const things = await startThings(t);
  await inBatches(corpus, async (batch) => {
    const wires = await openAll(things.server, batch);
    wires.forEach((wire, i) => wire.write(Buffer.concat([batch[i].data, FOLLOWER])));
    await Promise.all(wires.map((wire, i) => judge(wire, batch[i], 'whole')));
  });
  await judgeRecords(things, corpus);
  promise(t, 'hostile requests, whole', `${corpus.length} requests, none desynchronised`);
});

test('sent byte by byte', async (t) => {
  const things = await startThings(t);
  const sentinel = await Wire.open(things.server.port);
  await inBatches(short, async (batch) => {
    const wires = await openAll(things.server, batch);
    const bytes = batch.map(({ data }) => Buffer.concat([data, FOLLOWER]));
    const longest = Math.max(...bytes.map(({ length }) => length));
    for (let at = 0; at < longest; at++) {
      wires.forEach((wire, i) => {
        if (at < bytes[i].length) wire.write(bytes[i].subarray(at, at + 1));
      });
      await barrier(sentinel);
    }
    await Promise.all(wires.map((wire, i) => judge(wire, batch[i], 'byte by byte')));
  });
  sentinel.destroy();
  await judgeRecords(things, short);
  promise(t, 'hostile requests, byte by byte', `${short.length} requests, none desynchronised`);
});

/** Where a piece may end: everywhere, or behind each byte that decides something and at a stride. */
function* cuts({ data }) {
  for (let at = 1; at < data.length; at++) {
    const isDecisive = data[at - 1] < 0x20 || data[at] < 0x20 || data[at - 1] === 0x3a;
    if (IS_LONG || at % 8 === 0 || (isDecisive && at % 2 === 0)) yield at;
  }
}

test('cut in two', async (t) => {
  const things = await startThings(t);
  const sentinel = await Wire.open(things.server.port);
  const all = short.flatMap((entry) => [...cuts(entry)].map((at) => ({ entry, at })));
  await inBatches(all, async (batch) => {
    const wires = await openAll(things.server, batch);
    wires.forEach((wire, i) => wire.write(batch[i].entry.data.subarray(0, batch[i].at)));
    await barrier(sentinel);
    wires.forEach((wire, i) =>
      wire.write(Buffer.concat([batch[i].entry.data.subarray(batch[i].at), FOLLOWER])),
    );
    await Promise.all(wires.map((wire, i) => judge(wire, batch[i].entry, `cut at ${batch[i].at}`)));
  });
  sentinel.destroy();
  await judgeRecords(
    things,
    all.map(({ entry }) => entry),
  );
  promise(t, 'hostile requests, cut in two', `${all.length} requests, none desynchronised`);
});
