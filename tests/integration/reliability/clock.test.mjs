/**
 * The wall clock is set while the program runs, by an hour and by ten years, forward and back. What
 * measures a duration does not notice; what tells a time tells the new one; numbers and ids go up;
 * and nothing is deleted as too old because somebody has mistyped a year.
 *
 * Pruning looks once a minute: BAKEND_LONG=1 waits for it.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkContiguous, readFeed } from '../support/feed.mjs';
import { startServer, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { createCollection, createRecord, listAll, open, recordsPath } from '../support/records.mjs';
import { operatorToken, signIn } from '../support/superuser.mjs';
import { isLong, preload } from './support/machine.mjs';

const HOUR_S = 3600;
const TEN_YEARS_S = 3652 * 24 * HOUR_S;
const PRUNE_MS = 65_000;
const JUMPS = [
  ['an hour ahead', HOUR_S],
  ['an hour back', -HOUR_S],
  ['ten years ahead', TEN_YEARS_S],
  ['ten years back', -TEN_YEARS_S],
];
const definition = {
  name: 'things',
  ...open,
  fields: [
    { name: 'title', type: 'text' },
    { name: 'created', type: 'autodate', onCreate: true },
    { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true },
  ],
};

/** A server whose wall clock the test sets. */
async function startWithClock(t, { folder, args } = {}) {
  const path = join(await temporaryFolder(t), 'clock');
  const set = async (seconds) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(seconds));
    await writeFile(path, bytes, { flag: 'r+' });
  };
  await writeFile(path, Buffer.alloc(8));
  const env = { ...(await preload(t, 'moved_clock')), BAKEND_TEST_CLOCK: path };
  const start = () => startServer(t, { folder, args, env });
  return { server: await start(), start, set };
}

async function consumer(server, token, name) {
  const answer = await server.request(
    'PUT',
    `/api/consumers/${name}`,
    { types: ['things.*'] },
    { token },
  );
  assert.ok(answer.status < 300, answer.text);
  return async (body, action = 'poll') =>
    server.request('POST', `/api/consumers/${name}/${action}`, body, { token });
}

const isNear = (text, seconds) =>
  Math.abs(Date.parse(text.replace(/^(\S{10}) /, '$1T')) - (Date.now() + seconds * 1000)) < 60_000;

for (const [name, seconds] of JUMPS) {
  test(`the clock is set ${name}`, async (t) => {
    const { server, set } = await startWithClock(t, { folder: await temporaryFolder(t) });
    /* Ahead, a session's time is over; back, it was used in a future that may never come. */
    const isOver = Math.abs(seconds) === TEN_YEARS_S;
    let token = await operatorToken(server);
    await createCollection(server, token, definition);
    const poll = await consumer(server, token, 'reader');
    for (let i = 0; i < 5; i++)
      await createRecord(server, token, 'things', { title: `before ${i}` });
    const first = (await listAll(server, token, 'things'))[0];
    const leased = await poll({ limit: 2, leaseMs: 3000 });
    assert.equal(leased.status, 200, leased.text);
    assert.equal(leased.body.events.length, 2);

    /* Durations that are running: a long poll, a lease. */
    const next = (await readFeed(server, token)).next;
    const longPoll = (async () => {
      const began = performance.now();
      const path = `/api/events?after=${encodeURIComponent(next)}&types=nothing.at_all&wait=2`;
      const { status, text } = await server.request('GET', path, undefined, { token });
      return { status, text, tookMs: performance.now() - began };
    })();
    const control = sleep(2000);
    await set(seconds);

    await t.test('tokens are judged by the time that it shows', async () => {
      const { status } = await server.request('GET', '/api/events?limit=1', undefined, { token });
      assert.equal(status, isOver ? 401 : 200);
      token = await signIn(server);
    });

    await t.test('a lease runs on', async () => {
      const refused = await poll({ limit: 2 });
      if (!isOver) assert.equal(refused.status, 409, refused.text);
      const fresh = (body, action = 'poll') =>
        server.request('POST', `/api/consumers/reader/${action}`, body, { token });
      const again = await fresh({ limit: 2, wait: 30 });
      assert.equal(again.status, 200, 'it ends when its three seconds are over');
      assert.deepEqual(
        again.body.events.map(({ id }) => id),
        leased.body.events.map(({ id }) => id),
        'what was not committed comes again',
      );
      const committed = await fresh(
        { cursor: again.body.next, lease: again.body.lease },
        'commit',
      );
      assert.equal(committed.status, 200, committed.text);
    });

    await t.test('a long poll waits as long as it was to, unless its token is over', async () => {
      const { status, tookMs, text } = await longPoll;
      await control;
      assert.equal(status, isOver ? 401 : 200, text);
      assert.ok((isOver || tookMs > 1900) && tookMs < 15_000, `${tookMs} ms`);
    });

    await t.test('what is written has the new time, and what was there the old one', async () => {
      const made = await createRecord(server, token, 'things', { title: 'after' });
      assert.ok(isNear(made.created, seconds), made.created);
      const path = recordsPath('things', first.id);
      const changed = await server.request('PATCH', path, { title: 'changed' }, { token });
      assert.equal(changed.body.created, first.created, 'created stays');
      assert.ok(isNear(changed.body.updated, seconds), changed.body.updated);
      const { headers } = await server.request('GET', '/api/health');
      assert.ok(isNear(headers.get('date'), seconds), headers.get('date'));
    });

    await t.test('and it is set right again: numbers have no gap, ids go up', async () => {
      await set(0);
      token = await signIn(server);
      await createRecord(server, token, 'things', { title: 'right again' });
      const { events } = await readFeed(server, token, { query: '&types=*,_*' });
      checkContiguous(events, 1);
      const ids = events.map(({ id }) => id);
      assert.equal(new Set(ids).size, ids.length, 'each has an id of its own');
      assert.deepEqual(ids, [...ids].sort(), 'ids go up as the numbers do');
      const records = (await listAll(server, token, 'things')).map(({ id }) => id);
      assert.equal(new Set(records).size, 7);
    });

    await t.test('after which a restart finds all of it', async (t) => {
      const before = (await readFeed(server, token, { query: '&types=*,_*' })).events;
      await server.stop('SIGKILL');
      const again = await startServer(t, { folder: server.folder });
      const after = (await readFeed(again, token, { query: '&types=*,_*' })).events;
      assert.deepEqual(after, before);
      assert.ok(!again.log.some((line) => line.includes('epoch_renewed')), 'the epoch stays');
    });
  });
}

test('a clock that is ten years ahead deletes nothing as too old', { skip: !isLong }, async (t) => {
  const folder = await temporaryFolder(t);
  const { server, start, set } = await startWithClock(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, definition);
  for (let i = 0; i < 5; i++) await createRecord(server, token, 'things', { title: `${i}` });
  const before = (await readFeed(server, token, { query: '&types=*,_*' })).events;
  await sleep(2000);
  const logs = await server.request('GET', '/api/logs?perPage=100', undefined, { token });
  assert.ok(logs.body.items.length > 0);
  const check = async (server, when) => {
    await set(0);
    const after = (await readFeed(server, token, { query: '&types=*,_*' })).events;
    assert.deepEqual(after.slice(0, before.length), before, when);
    const path = '/api/logs?perPage=1000';
    const list = await server.request('GET', path, undefined, { token });
    const there = new Set(list.body.items.map(({ id }) => id));
    for (const { id } of logs.body.items) assert.ok(there.has(id), `${when}: logs`);
  };
  await set(TEN_YEARS_S);
  await sleep(PRUNE_MS);
  await check(server, 'while it runs');
  await server.stop();
  /* Nothing was written under the wrong clock: the newest event has the right time. */
  await set(TEN_YEARS_S);
  const again = await start();
  await sleep(PRUNE_MS);
  await check(again, 'and after a restart under the wrong clock');
  promise(t, 'clock +10 years', `${before.length} events and the logs of before are kept`);
});
