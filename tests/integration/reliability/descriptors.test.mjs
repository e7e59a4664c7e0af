/**
 * File descriptors run out: a limit of 64 for the process, and 200 clients that want in. Nobody who
 * is connected is cut, the loop does not spin, what needs a file of its own still works, and the
 * waiting ones come in as soon as others go.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const LIMIT = 64;
const CLIENTS = 200;
const CORE_SHARE_MAX = 0.05;
const execute = promisify(execFile);

/* The program raises its soft limit to the hard one, so the hard one is set by who starts it. */
const wrapperFolder = await mkdtemp(join(tmpdir(), 'bakend-test-'));
after(() => rm(wrapperFolder, { recursive: true, force: true }));
const { binary } = await import('../support/program.mjs?plain');
const wrapper = join(wrapperFolder, 'bakend');
await writeFile(wrapper, `#!/bin/sh\nulimit -n "\${LIMIT:-${LIMIT}}"\nexec '${binary}' "$@"\n`);
await chmod(wrapper, 0o755);
process.env.BAKEND = wrapper;
const { startServer } = await import('../support/program.mjs');
const { createCollection, createRecord, open, recordsPath } = await import(
  '../support/records.mjs'
);
const { operatorToken } = await import('../support/superuser.mjs');
const { promise } = await import('../support/promise.mjs');
const { Closed, requestText, Wire } = await import('../support/wire.mjs');
const { coreSeconds } = await import('./support/machine.mjs');

const health = requestText('GET', '/api/health');
const definition = { name: 'things', ...open, fields: [{ name: 'title', type: 'text' }] };
const descriptorCount = async ({ pid }) => (await readdir(`/proc/${pid}/fd`)).length;

/** The share of a core that the server takes over two seconds in which nobody asks anything. */
async function restingShare(server) {
  const before = await coreSeconds(server.pid),
    began = performance.now();
  await sleep(2000);
  return ((await coreSeconds(server.pid)) - before) / ((performance.now() - began) / 1000);
}

/** Asks on each of them; resolves with which were answered within the time. */
async function askAll(wires, timeoutMs) {
  wires.forEach((wire) => wire.write(health));
  const answers = await Promise.all(
    wires.map((wire) =>
      wire.answer({ timeoutMs }).then(
        ({ status }) => status,
        (error) => (error instanceof Closed ? 'closed' : 'none'),
      ),
    ),
  );
  return {
    served: wires.filter((_, index) => answers[index] === 200),
    waiting: wires.filter((_, index) => answers[index] === 'none'),
    closed: wires.filter((_, index) => answers[index] === 'closed'),
  };
}

const openMany = (server, count) =>
  Promise.all(Array.from({ length: count }, () => Wire.open(server.port)));

async function isAnswered(wire) {
  wire.write(health);
  assert.equal((await wire.answer()).status, 200);
}

/**
 * A write, a list of a tenant (who signed in to default had a reader of it already), a backup and a
 * new tenant, over one connection.
 */
async function work(wire, token, name, listed = 'default') {
  const ask = async (method, path, body, headers = {}) => {
    wire.write(requestText(method, path, body, { Authorization: token, ...headers }));
    return wire.answer({ method });
  };
  const done = {};
  done.write = await ask('POST', recordsPath('things'), { title: name });
  done.list = await ask('GET', `${recordsPath('things')}?perPage=1`, undefined, {
    'X-Bakend-Tenant': listed,
  });
  done.feed = await ask('GET', '/api/events?after=start&limit=1');
  done.backup = await ask('POST', '/api/backups', { name: `${name}.zip` });
  done.tenant = await ask('POST', '/api/tenants', { name });
  done.inside = await ask('GET', '/api/collections', undefined, { 'X-Bakend-Tenant': name });
  return done;
}

test('200 clients at a limit of 64 descriptors: who is in is served, who waits comes in, nothing spins', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  await createCollection(server, token, definition);
  await createRecord(server, token, 'things', { title: 'one' });
  const worker = await Wire.open(server.port);
  await isAnswered(worker);

  const wires = await openMany(server, CLIENTS);
  const { served, waiting, closed } = await askAll(wires, 700);
  /* Who is idle for five seconds makes room at the limit: nobody here is. */
  await isAnswered(worker);
  assert.deepEqual(closed.length, 0, 'nobody is cut');
  assert.ok(served.length >= 8, `${served.length} are served`);
  assert.ok(waiting.length > 0, 'the limit was reached');
  assert.ok((await descriptorCount(server)) <= LIMIT);
  assert.ok(server.log.some((line) => line.includes('connections_full')), 'the log says so');

  const share = await restingShare(server);
  assert.ok(share < CORE_SHARE_MAX, `${(share * 100).toFixed(1)} % of a core while all wait`);
  for (const wire of served) await isAnswered(wire);

  const done = await work(worker, token, 'busy');
  const statuses = Object.fromEntries(
    Object.entries(done).map(([name, { status }]) => [name, status]),
  );
  assert.deepEqual(statuses, {
    write: 200,
    list: 200,
    feed: 200,
    backup: 204,
    tenant: 200,
    inside: 200,
  });

  served.forEach((wire) => wire.destroy());
  /* The new tenant may have taken the last descriptor: then libuv closes some of those who wait. */
  const ends = await Promise.all(
    waiting.map(async (wire) => {
      const end = await wire.answer().catch((error) => error);
      wire.destroy();
      return end;
    }),
  );
  for (const end of ends) assert.ok(end.status === 200 || end instanceof Closed, `${end}`);
  const cameIn = ends.filter(({ status }) => status === 200).length;
  assert.ok(cameIn > waiting.length / 2, `${cameIn} of ${waiting.length} who waited came in`);
  worker.destroy();
  promise(
    t,
    'descriptors',
    `limit ${LIMIT}, ${CLIENTS} clients: ${served.length} served at once, ${cameIn} when others went, ` +
      `${(share * 100).toFixed(1)} % of a core while full`,
  );
});

/* The limit is lowered under a running server, to what it has open already: each accept, and each
 * file, fails with EMFILE. */
test('without a single descriptor left, who is connected is served, files say why, and it recovers', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  await createCollection(server, token, definition);
  const other = await server.request('POST', '/api/tenants', { name: 'other' }, { token });
  assert.equal(other.status, 200, other.text);
  const options = { token, tenant: 'other' };
  await server.request('POST', '/api/collections', { type: 'base', ...definition }, options);
  const worker = await Wire.open(server.port);
  await isAnswered(worker);
  const limit = (count) =>
    execute('prlimit', ['--pid', `${server.pid}`, `--nofile=${count}:${LIMIT}`]);
  await limit(await descriptorCount(server));

  const wires = await openMany(server, 50);
  await sleep(200);
  const share = await restingShare(server);
  assert.ok(share < CORE_SHARE_MAX, `${(share * 100).toFixed(1)} % of a core while none comes in`);
  const done = await work(worker, token, 'none', 'other');
  assert.deepEqual([done.write.status, done.feed.status], [200, 200]);
  for (const what of ['list', 'backup', 'tenant']) {
    assert.equal(done[what].status, 503, `${what}: ${done[what].text}`);
    assert.ok(Number(done[what].headers['retry-after']) >= 1, what);
  }
  for (const event of ['reader_not_opened', 'backup_failed', 'tenant_not_created'])
    await server.logged(event, event === 'reader_not_opened' ? 'unable to open' : 'Too many open');
  wires.forEach((wire) => wire.destroy());

  await limit(LIMIT);
  const next = await Wire.open(server.port);
  await isAnswered(next);
  next.destroy();
  const again = await work(worker, token, 'after', 'other');
  assert.deepEqual(
    ['write', 'list', 'backup', 'tenant', 'inside'].map((what) => again[what].status),
    [200, 200, 204, 200, 200],
    again.backup.text,
  );
  worker.destroy();
});

test('what tenants and readers may need is kept from connections, up to half of all', async (t) => {
  const server = await startServer(t, { env: { LIMIT: '1024' } });
  const { port } = new URL(server.url);
  const sockets = Array.from({ length: 600 }, () => connect(Number(port), '127.0.0.1'));
  t.after(() => sockets.forEach((socket) => socket.destroy()));
  for (const socket of sockets) socket.on('error', () => {});
  await server.logged('connections_full', '"connections":512');
});
