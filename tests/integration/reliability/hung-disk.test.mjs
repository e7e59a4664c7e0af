/**
 * A disk that hangs: for some seconds no sync, and then no write, of the write-ahead log comes
 * back. Reads and health go on at their pace, writes wait in a bounded queue and then succeed, what does
 * not fit is refused with when to come back, and nothing that was acknowledged is lost, also when
 * the server is stopped or killed meanwhile.
 */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkContiguous, readFeed } from '../support/feed.mjs';
import { Server, startServer, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { createCollection, createRecord, listAll, open, recordsPath } from '../support/records.mjs';
import { operatorToken } from '../support/superuser.mjs';
import { Closed, requestText, Wire } from '../support/wire.mjs';
import { isLong, preload } from './support/machine.mjs';

const HANG_MS = isLong ? 15_000 : 5_000;
const QUEUE_MAX = 16;
const WRITERS = 60;
/** Far longer than any test: it ends when the test lets go. */
const FOR_EVER_MS = 600_000;
const definition = { name: 'things', ...open, fields: [{ name: 'title', type: 'text' }] };
const idOf = (number) => `h${String(number).padStart(14, '0')}`;

/** A server whose disk hangs when the test says so. */
async function startOnSlowDisk(t, folder) {
  const own = await temporaryFolder(t),
    request = join(own, 'hang');
  await writeFile(request, '');
  const env = { ...(await preload(t, 'hung_disk')), BAKEND_TEST_HANG: request };
  const args = ['--logs-max-days', '0', '--queue-max', `${QUEUE_MAX}`];
  /* Each test says how it ends; what is left when it has failed is killed. */
  const server = new Server(folder ?? (await temporaryFolder(t)), args, env);
  t.after(() => server.isRunning && server.stop('SIGKILL'));
  await server.ready();
  const hang = (call) => writeFile(request, `${call} data.db-wal ${FOR_EVER_MS}\n`);
  return { server, hang, letGo: () => writeFile(request, '') };
}

async function prepare(t, folder) {
  const disk = await startOnSlowDisk(t, folder);
  const token = await operatorToken(disk.server);
  await createCollection(disk.server, token, definition);
  await createRecord(disk.server, token, 'things', { id: idOf(0), title: 'zero' });
  return { ...disk, token };
}

/** Resolves with what each create was answered, and when; status 0: the connection ended first. */
async function createAtOnce(server, token, numbers) {
  const wires = await Promise.all(numbers.map(() => Wire.open(server.port)));
  return wires.map(async (wire, index) => {
    const body = { id: idOf(numbers[index]), title: 'title' };
    wire.write(requestText('POST', recordsPath('things'), body, { Authorization: token }));
    try {
      const { status, headers } = await wire.answer({ timeoutMs: 60_000 });
      return { number: numbers[index], status, headers, at: performance.now() };
    } catch (error) {
      if (!(error instanceof Closed)) throw error;
      return { number: numbers[index], status: 0, at: performance.now() };
    } finally {
      wire.destroy();
    }
  });
}

/** Reads of each kind until the promise settles; resolves with the slowest (ms) and their count. */
async function readUntil(server, token, settled) {
  const paths = [
    '/api/health',
    recordsPath('things', idOf(0)),
    `${recordsPath('things')}?perPage=10`,
    '/api/events?after=start&limit=10',
  ];
  let isOver = false,
    slowestMs = 0,
    count = 0;
  settled.finally(() => (isOver = true));
  while (!isOver) {
    for (const path of paths) {
      const began = performance.now();
      const { status, text } = await server.request('GET', path, undefined, { token });
      assert.equal(status, 200, `${path}: ${text}`);
      slowestMs = Math.max(slowestMs, performance.now() - began);
      count++;
    }
    await sleep(20);
  }
  return { slowestMs, count };
}

/** After the one signal that it was sent. */
async function ended(server) {
  const { code } = await server.ended;
  assert.equal(code, 0, server.log.join('\n'));
}

async function checkWhole(server, token) {
  const { events } = await readFeed(server, token, { query: '&types=*,_*' });
  checkContiguous(events, 1);
  const rows = (await listAll(server, token, 'things')).map(({ id }) => id).sort();
  const created = events
    .filter(({ type }) => type === 'things.created')
    .map(({ payload }) => payload.id);
  assert.deepEqual(created.sort(), rows, 'every row has one event, and every event its row');
  return new Set(rows);
}

for (const call of ['fdatasync', 'pwrite']) {
  test(`while ${call} of the log hangs, reads go on, writes wait, and the queue is bounded`, async (t) => {
    const { server, hang, letGo, token } = await prepare(t);
    const numbers = Array.from({ length: WRITERS }, (_, index) => index + 1);
    await hang(call);
    const began = performance.now();
    const [first] = await createAtOnce(server, token, [1]);
    await sleep(300);
    const others = await createAtOnce(server, token, numbers.slice(1));
    const all = Promise.all([first, ...others]);
    const pause = sleep(HANG_MS);
    const reads = await readUntil(server, token, pause);
    await letGo();
    const answers = await all;
    for (const { status, at } of answers)
      if (status === 200) assert.ok(at - began >= HANG_MS, 'the disk did hang');
    assert.ok(
      reads.slowestMs < HANG_MS / 2,
      `the slowest of ${reads.count} reads took ${reads.slowestMs} ms`,
    );
    assert.ok(reads.count >= 20, `${reads.count} reads`);

    const done = answers.filter(({ status }) => status === 200);
    const refused = answers.filter(({ status }) => status === 503);
    assert.equal(done.length + refused.length, WRITERS, JSON.stringify(answers));
    assert.ok(done.length <= QUEUE_MAX + 1, `${done.length} were let in`);
    for (const { at, headers } of refused) {
      assert.ok(Number(headers['retry-after']) >= 1, 'it says when to come back');
      assert.ok(at - began < HANG_MS, 'that the queue is full is told at once');
    }
    const there = await checkWhole(server, token);
    for (const { number, status } of answers)
      assert.equal(there.has(idOf(number)), status === 200, `${number}: ${status}`);
    await server.stop();
    promise(
      t,
      `hung disk (${call})`,
      `${HANG_MS / 1000} s: ${reads.count} reads, slowest ${reads.slowestMs.toFixed(0)} ms; ` +
        `${done.length} writes waited and succeeded, ${refused.length} were told to come back`,
    );
  });
}

for (const [name, signal] of [
  ['stopped', 'SIGTERM'],
  ['killed', 'SIGKILL'],
]) {
  test(`a server that is ${name} while its disk hangs loses nothing that it acknowledged`, async (t) => {
    const folder = await temporaryFolder(t);
    const { server, hang, letGo, token } = await prepare(t, folder);
    const before = await Promise.all(await createAtOnce(server, token, [1, 2, 3]));
    await hang('fdatasync');
    const waiting = await createAtOnce(server, token, [10, 11, 12, 13]);
    await sleep(300);
    server.signal(signal);
    await sleep(1500);
    if (signal === 'SIGTERM') assert.ok(server.isRunning, 'it waits for what it has taken');
    await letGo();
    const answers = [...before, ...(await Promise.all(waiting))];
    await (signal === 'SIGTERM' ? ended(server) : server.stop(signal));

    const again = await startServer(t, { folder });
    const there = await checkWhole(again, token);
    for (const { number, status } of answers)
      if (status === 200) assert.ok(there.has(idOf(number)), `${number} was acknowledged`);
    for (const number of [1, 2, 3]) assert.ok(there.has(idOf(number)));
    if (signal === 'SIGTERM')
      for (const { number, status } of answers)
        assert.equal(there.has(idOf(number)), status === 200, `${number}: ${status}`);
    await createRecord(again, token, 'things', { title: 'goes on' });
  });
}

test('a third signal ends a server that a hung disk keeps from stopping', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, hang, letGo, token } = await prepare(t, folder);
  await hang('fdatasync');
  const [waiting] = await createAtOnce(server, token, [1]);
  await sleep(300);
  for (const pauseMs of [500, 500, 0]) {
    server.signal('SIGTERM');
    await sleep(pauseMs);
  }
  const end = await Promise.race([server.ended, sleep(15_000, null, { ref: false })]);
  await letGo();
  assert.equal(end?.code, 1, 'it ended though the disk still hung');
  assert.equal((await waiting).status, 0, 'nobody was told that it was done');
  const again = await startServer(t, { folder });
  assert.ok((await checkWhole(again, token)).has(idOf(0)));
});
