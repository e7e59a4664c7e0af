/**
 * Failpoints: the program is made to die or to fail at each place of a commit where it matters, and
 * the disk is filled up.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, open as openFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { checkContiguous, readFeed } from './support/feed.mjs';
import { run, runServer, Server, startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, listAll, open, recordsPath } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';
import { Closed, requestText, Wire } from './support/wire.mjs';

const execute = promisify(execFile);
/**
 * Without rows in /api/logs the only commits are those that a test causes, so passings can be
 * counted.
 */
const QUIET = ['--logs-max-days', '0'];
const EVERY_TYPE = '&types=*,_*';
const definition = {
  name: 'things',
  ...open,
  fields: [{ name: 'title', type: 'text', required: true }],
};

/**
 * A data directory with a superuser and the collection `things`; the server that made it has ended.
 */
async function prepare(t) {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, definition);
  await server.stop();
  return { folder, token };
}

/** Ids as given by the client, so that a write without an answer can be looked for. */
const idOf = (number) => `f${String(number).padStart(14, '0')}`;
const createText = (number, token) =>
  requestText(
    'POST',
    recordsPath('things'),
    { id: idOf(number), title: `title ${number}` },
    { Authorization: token },
  );

/**
 * Sends the creates at once, each on a connection of its own; resolves with the status of each, 0:
 * no answer.
 */
async function createAtOnce(server, token, numbers) {
  const wires = await Promise.all(numbers.map(() => Wire.open(server.port)));
  wires.forEach((wire, index) => wire.write(createText(numbers[index], token)));
  const statuses = await Promise.all(
    wires.map((wire) =>
      wire.answer().then(
        ({ status }) => status,
        (error) => {
          if (error instanceof Closed) return 0;
          throw error;
        },
      ),
    ),
  );
  wires.forEach((wire) => wire.destroy());
  return statuses;
}

/**
 * Each row has its event and each event its row, and the numbers have no gap. Resolves with the ids
 * there.
 */
async function checkWhole(server, token) {
  const { events } = await readFeed(server, token, { query: EVERY_TYPE });
  checkContiguous(events, 1);
  const rows = (await listAll(server, token, 'things')).map(({ id }) => id).sort();
  const created = events
    .filter(({ type }) => type === 'things.created')
    .map(({ payload }) => payload.id)
    .sort();
  assert.deepEqual(created, rows, 'every row has exactly one event, and every event its row');
  return new Set(rows);
}

/* What may be left of a write that was on its way when the process died there. */
const deaths = [
  { name: 'store.before_begin', left: 'nothing' },
  { name: 'store.after_begin', left: 'nothing' },
  { name: 'store.write', left: 'nothing' },
  { name: 'store.before_commit', left: 'nothing' },
  { name: 'store.after_commit', left: 'everything' },
  { name: 'store.before_answer', left: 'everything' },
  { name: 'store.before_bus', left: 'everything' },
];

test('a death at any point of a commit', async (t) => {
  for (const { name, left } of deaths) {
    await t.test(
      `at ${name} leaves ${left} of the write on its way, and all that was acknowledged`,
      async (t) => {
        const { folder, token } = await prepare(t);
        let server = await startServer(t, {
          folder,
          args: QUIET,
          env: { BAKEND_FAILPOINT: `${name}:kill@12` },
        });
        const statuses = new Map();
        for (let number = 1; number <= 40 && server.isRunning; number++) {
          const [status] = await createAtOnce(server, token, [number]).catch((error) => {
            if (error.code === 'ECONNREFUSED') return [undefined];
            throw error;
          });
          if (status === undefined || status === 0) {
            statuses.set(number, status);
            break;
          }
          assert.equal(status, 200);
          statuses.set(number, status);
        }
        const end = await server.killed();
        assert.equal(end.signal, 'SIGKILL', 'the failpoint was reached');
        const acknowledged = [...statuses]
          .filter(([, status]) => status === 200)
          .map(([number]) => number);
        assert.ok(acknowledged.length > 0, 'some were acknowledged before');

        server = await startServer(t, { folder });
        const there = await checkWhole(server, token);
        for (const number of acknowledged)
          assert.ok(there.has(idOf(number)), `${number} was acknowledged and is there`);
        const inFlight = [...statuses]
          .filter(([, status]) => status === 0)
          .map(([number]) => number);
        for (const number of inFlight)
          assert.equal(there.has(idOf(number)), left === 'everything', `${number} was on its way`);
        assert.ok(
          there.size <= acknowledged.length + inFlight.length,
          'nothing that nobody asked for',
        );
        const [status] = await createAtOnce(server, token, [1000]);
        assert.equal(status, 200, 'writes go on');
      },
    );
  }
});

/**
 * Keeps the writer at its first commit while the others queue up behind it: the next commit is one
 * batch.
 */
async function writeOneBatch(t, failpoints, { count = 24 } = {}) {
  const { folder, token } = await prepare(t);
  const server = await startServer(t, {
    folder,
    args: QUIET,
    env: { BAKEND_FAILPOINT: failpoints },
  });
  const first = createAtOnce(server, token, [1]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const numbers = Array.from({ length: count }, (_, index) => index + 2);
  const statuses = await createAtOnce(server, token, numbers);
  assert.deepEqual(await first, [200]);
  return { folder, token, server, numbers, statuses };
}

async function metric(server, token, name) {
  const { text } = await server.request('GET', '/metrics', undefined, { token });
  const line = text
    .split('\n')
    .find((each) => each.startsWith(`${name} `) || each.startsWith(`${name}{`));
  assert.ok(line, `there is a metric ${name}`);
  return Number(line.slice(line.lastIndexOf(' ') + 1));
}

test('an interrupted write inside a batch fails alone, and its neighbours are acknowledged and on disk', async (t) => {
  /* The opening of both databases passes before_commit twice; the third passing is that of the
   * first write. The seventh write of the batch is the eighth in all and is interrupted. SQLite
   * drops the whole batch, each write is run again alone, and the seventh of those, the fifteenth
   * in all, is interrupted again. */
  const { folder, token, server, numbers, statuses } = await writeOneBatch(
    t,
    'store.before_commit:sleep=3000@3,store.write:error@8,store.write:error@15',
  );
  assert.ok(
    (await metric(server, token, 'bakend_store_batches_rerun_total')) >= 1,
    'the writes shared a batch',
  );
  const there = await checkWhole(server, token);
  assert.deepEqual(
    statuses.filter((status) => status !== 200),
    [500],
    'one fails, the others do not',
  );
  numbers.forEach((number, index) =>
    assert.equal(there.has(idOf(number)), statuses[index] === 200),
  );
  await server.stop('SIGKILL');
  const again = await startServer(t, { folder });
  assert.deepEqual(await checkWhole(again, token), there, 'what was acknowledged is on disk');
});

test('a batch that is run again does each of its writes once, whatever they are', async (t) => {
  const { folder, token } = await prepare(t);
  const first = await startServer(t, { folder, args: QUIET });
  for (const number of [1, 2, 3, 4, 5, 6])
    assert.deepEqual(await createAtOnce(first, token, [number]), [200]);
  await first.stop();
  const failpoints = 'store.before_commit:sleep=3000@3,store.write:error@6,store.write:error@15';
  const server = await startServer(t, {
    folder,
    args: QUIET,
    env: { BAKEND_FAILPOINT: failpoints },
  });
  const send = (method, number, body) => {
    const id = number === undefined ? undefined : idOf(number);
    return server.request(method, recordsPath('things', id), body, { token });
  };
  const blocking = createAtOnce(server, token, [100]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const answers = await Promise.all([
    send('PATCH', 1, { title: 'changed' }),
    send('DELETE', 2),
    send('POST', undefined, { id: idOf(200), title: 'new' }),
    send('POST', undefined, { title: '' }),
    send('POST', undefined, { id: idOf(1), title: 'taken' }),
    send('DELETE', 999),
    send('PATCH', 3, { title: 'changed' }),
    send('DELETE', 4),
    send('POST', undefined, { title: 'generated' }),
  ]);
  assert.deepEqual(await blocking, [200]);
  assert.ok((await metric(server, token, 'bakend_store_batches_rerun_total')) >= 1);
  const statuses = answers.map(({ status }) => status);
  const wanted = [200, 204, 200, 400, 400, 404, 200, 204, 200];
  const odd = statuses
    .map((status, i) => [i, status])
    .filter(([i, status]) => status !== wanted[i]);
  assert.ok(odd.length <= 1 && odd.every(([, status]) => status === 500), JSON.stringify(statuses));
  assert.deepEqual(
    Object.keys(answers[3].body.data),
    ['title'],
    'problems are told once, and whole',
  );

  const { events } = await readFeed(server, token, { query: EVERY_TYPE });
  checkContiguous(events, 1);
  const copy = new Map();
  for (const { type, payload } of events) {
    if (type === 'things.deleted') copy.delete(payload.id);
    else if (type.startsWith('things.')) copy.set(payload.id, payload.title);
  }
  const rows = await listAll(server, token, 'things');
  assert.deepEqual(new Map(rows.map(({ id, title }) => [id, title])), new Map([...copy].sort()));
  const done = statuses.filter((status) => status < 300).length;
  const before = events.findIndex(({ subject }) => subject === `things/${idOf(100)}`);
  assert.equal(events.length - before - 1, done, 'one event for each that was done');
});

test('a full queue is answered with 503 and when to come back, and what was refused is not there', async (t) => {
  const { folder, token } = await prepare(t);
  const server = await startServer(t, {
    folder,
    args: [...QUIET, '--queue-max', '16'],
    env: { BAKEND_FAILPOINT: 'store.before_commit:sleep=700@3' },
  });
  const blocking = createAtOnce(server, token, [1]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  const numbers = Array.from({ length: 60 }, (_, index) => index + 2);
  const wires = await Promise.all(numbers.map(() => Wire.open(server.port)));
  wires.forEach((wire, index) => wire.write(createText(numbers[index], token)));
  const answers = await Promise.all(wires.map((wire) => wire.answer()));
  wires.forEach((wire) => wire.destroy());
  assert.deepEqual(await blocking, [200]);
  const refused = answers.filter(({ status }) => status === 503);
  assert.ok(refused.length > 0, 'the queue was full');
  for (const { headers } of refused) assert.ok(Number(headers['retry-after']) >= 1);
  const there = await checkWhole(server, token);
  answers.forEach(({ status }, index) =>
    assert.equal(there.has(idOf(numbers[index])), status === 200, `${status}`),
  );
});

test('a write that fails each time it is run fails for good, and does not stop the server', async (t) => {
  const { token, server } = await prepare(t).then(async ({ folder, token }) => ({
    token,
    server: await startServer(t, {
      folder,
      args: QUIET,
      env: { BAKEND_FAILPOINT: 'store.write:error' },
    }),
  }));
  const statuses = await createAtOnce(server, token, [1, 2, 3]);
  assert.deepEqual(statuses, [500, 500, 500]);
  assert.deepEqual([...(await checkWhole(server, token))], [], 'what failed is not there');
});

test('a commit whose outcome is unknown is answered with an error and leaves rows and events that agree', async (t) => {
  const { folder, token } = await prepare(t);
  /* The start commits, too, and what follows it by itself: not always as often. */
  let server,
    statuses = [];
  for (let at = 3; at < 12 && !statuses.includes(500); at++) {
    if (server?.isRunning) await server.stop('SIGKILL');
    const env = { BAKEND_FAILPOINT: `store.after_commit:error@${at}` };
    server = new Server(folder, QUIET, env);
    if (!(await server.ready().then(() => true, () => false))) continue;
    await sleep(300);
    statuses = await createAtOnce(server, token, [10 * at + 1, 10 * at + 2, 10 * at + 3]);
  }
  t.after(() => server.isRunning && server.stop());
  assert.ok(statuses.includes(500), 'who cannot be told the truth is told of a failure');
  await checkWhole(server, token);
  const [status] = await createAtOnce(server, token, [4]);
  assert.equal(status, 200, 'the file was opened again, and writes go on');
  const there = await checkWhole(server, token);
  assert.ok(there.has(idOf(4)));
});

test('a disk that the failpoint calls full is answered with 507, and reads go on', async (t) => {
  const { folder, token } = await prepare(t);
  /* The opening transaction commits, too. */
  const refused = await runServer(folder, {
    env: { BAKEND_FAILPOINT: 'store.before_commit:full' },
  });
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /data\.db cannot be opened: the disk is full/);
  const server = await startServer(t, {
    folder,
    args: QUIET,
    env: { BAKEND_FAILPOINT: 'store.write:full' },
  });
  const wire = await Wire.open(server.port);
  wire.write(createText(1, token));
  const answer = await wire.answer();
  wire.destroy();
  assert.equal(answer.status, 507);
  assert.equal(answer.json.status, 507);
  assert.deepEqual([...(await checkWhole(server, token))], [], 'reads and the feed go on');
});

/** A folder on a file system of its own of so many MiB; null when that is not possible here. */
async function smallDisk(t, mebibytes) {
  const folder = await temporaryFolder(t),
    disk = join(folder, 'disk');
  await mkdir(disk);
  try {
    await execute('mount', [
      '-t',
      'tmpfs',
      '-o',
      `size=${mebibytes}m,mode=700`,
      'bakend-test',
      disk,
    ]);
  } catch {
    return null;
  }
  return { disk, unmount: () => execute('umount', [disk]) };
}

/** Takes all the room that is left; resolves with the path of what takes it. */
async function fillUp(disk) {
  const path = join(disk, 'ballast');
  const file = await openFile(path, 'w');
  try {
    for (const block = Buffer.alloc(4096, 1); ;) await file.write(block);
  } catch (error) {
    if (error.code !== 'ENOSPC') throw error;
  }
  await file.close();
  return path;
}

test('on a full disk writes are answered with 507, reads and the feed go on, and room brings writes back', async (t) => {
  const small = await smallDisk(t, 24);
  if (small === null) {
    t.skip('mounting a small tmpfs needs root');
    return;
  }
  let server;
  try {
    server = await new Server(small.disk, []).ready();
    const token = await operatorToken(server);
    await createCollection(server, token, {
      ...definition,
      fields: [...definition.fields, { name: 'body', type: 'text', max: 200_000 }],
    });
    const create = (number) =>
      server.request(
        'POST',
        recordsPath('things'),
        { id: idOf(number), title: 't', body: 'x'.repeat(100_000) },
        { token },
      );
    assert.equal((await create(1)).status, 200);

    const ballast = await fillUp(small.disk);
    const acknowledged = [1];
    let refused;
    for (let number = 2; number < 400 && !refused; number++) {
      const answer = await create(number);
      if (answer.status === 200) acknowledged.push(number);
      else refused = answer;
    }
    assert.equal(refused?.status, 507, refused?.text);
    assert.deepEqual(refused.body.data, {});
    for (let number = 500; number < 505; number++)
      assert.equal((await create(number)).status, 507, 'as long as the disk is full');
    const there = await checkWhole(server, token);
    assert.deepEqual(
      [...there].sort(),
      acknowledged.map(idOf).sort(),
      'reads and the feed show what was acknowledged',
    );
    assert.equal((await server.request('GET', '/api/health')).status, 200);

    await rm(ballast);
    assert.equal((await create(600)).status, 200, 'with room again, writes work without a restart');
    acknowledged.push(600);
    await server.stop('SIGKILL');
    server = await new Server(small.disk, []).ready();
    assert.deepEqual([...(await checkWhole(server, token))].sort(), acknowledged.map(idOf).sort());
    await server.stop();
    const { code, stdout } = await run(['doctor', '--data', server.data], { cwd: small.disk });
    assert.equal(code, 0, stdout);
  } finally {
    if (server?.isRunning) await server.stop('SIGKILL');
    await small.unmount();
  }
});
