/**
 * The disk is full: writes, backups and new tenants are answered with 507, reads and the feed go on,
 * no part of a file is left, and when there is room again all of it works without a restart, with
 * rows and events that agree.
 *
 * Two ways to be full: a small file system of its own (as root only), and a limit on the size of the
 * process's files, which strikes as a quota does.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { checkContiguous, readFeed } from '../support/feed.mjs';
import { run, Server, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { createCollection, listAll, open, recordsPath } from '../support/records.mjs';
import { operatorToken } from '../support/superuser.mjs';
import { fillUp, smallDisk } from './support/machine.mjs';

const execute = promisify(execFile);
const BODY_BYTES = 100_000;
const definition = {
  name: 'things',
  ...open,
  fields: [{ name: 'body', type: 'text', max: 200_000 }],
};
const idOf = (number) => `d${String(number).padStart(14, '0')}`;

const folderOfBackups = (server) => join(server.data, 'tenants/default/backups');

async function filesBelow(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

/** A disk of so many MiB; full: nothing is left of it. */
async function ownDisk(t) {
  const small = await smallDisk(t, 32);
  if (small === null) return null;
  const ballast = join(small.disk, 'ballast');
  return {
    folder: small.disk,
    isFullForAll: true,
    fill: () => fillUp(small.disk),
    makeRoom: () => rm(ballast),
    end: small.unmount,
  };
}

/** A limit on the size of each file, as large as the largest one is. */
async function ownLimit(t) {
  const folder = await temporaryFolder(t);
  const limit = (server, bytes) =>
    execute('prlimit', ['--pid', `${server.pid}`, `--fsize=${bytes}:unlimited`]);
  return {
    folder,
    fill: async (server) => {
      const sizes = (await filesBelow(server.data)).map(async (path) => (await stat(path)).size);
      await limit(server, Math.max(...(await Promise.all(sizes))));
    },
    makeRoom: (server) => limit(server, 'unlimited'),
    end: () => {},
  };
}

async function checkWhole(server, token, acknowledged) {
  const { events } = await readFeed(server, token, { query: '&types=*,_*' });
  checkContiguous(events, 1);
  const rows = (await listAll(server, token, 'things', { perPage: 20 })).map(({ id }) => id);
  const created = events.filter(({ type }) => type === 'things.created');
  assert.deepEqual(created.map(({ payload }) => payload.id).sort(), rows.sort());
  assert.deepEqual(rows, acknowledged.map(idOf).sort(), 'what was acknowledged, and nothing else');
  return events;
}

async function ask(server, token, method, path, body, wanted) {
  const answer = await server.request(method, path, body, { token });
  assert.equal(answer.status, wanted, `${method} ${path}: ${answer.text}`);
  return answer;
}

/**
 * Writes until the first refusal; resolves with the numbers that were acknowledged. There may be
 * some each time: a checkpoint empties the log, and that may be what was too large.
 */
async function writeUntilFull(server, token, first = 2) {
  for (let number = first, done = []; number < first + 998; number++) {
    const body = { id: idOf(number), body: 'x'.repeat(BODY_BYTES) };
    const answer = await server.request('POST', recordsPath('things'), body, { token });
    if (answer.status === 507) return done;
    assert.equal(answer.status, 200, answer.text);
    done.push(number);
  }
  throw new Error('the disk is never full');
}

async function scenario(disk) {
  let server = await new Server(disk.folder, ['--logs-max-days', '0']).ready();
  disk.stop = async () => server.isRunning && server.stop('SIGKILL');
  const token = await operatorToken(server);
  await createCollection(server, token, definition);
  await ask(server, token, 'PUT', '/api/consumers/reader', { types: ['things.*'] }, 200);
  const create = (number, wanted) =>
    ask(server, token, 'POST', recordsPath('things'), { id: idOf(number), body: 'x' }, wanted);
  await create(1, 200);
  for (let i = 0; i < 30; i++)
    await ask(server, token, 'PATCH', recordsPath('things', idOf(1)), { body: 'y'.repeat(BODY_BYTES) }, 200);

  await disk.fill(server);
  const acknowledged = [1, ...(await writeUntilFull(server, token))];
  const before = await filesBelow(server.data),
    backups = [];
  for (let i = 0; i < 3; i++) {
    acknowledged.push(...(await writeUntilFull(server, token, 1000 * (i + 1))));
    const refused = await server.request('POST', '/api/backups', { name: `b${i}.zip` }, { token });
    if (refused.status === 204) backups.push(`b${i}.zip`);
    else assert.equal(refused.status, 507, refused.text);
  }
  if (disk.isFullForAll) assert.deepEqual(backups, [], 'a backup needs room, too');
  const tenant = await server.request('POST', '/api/tenants', { name: 'fresh' }, { token });
  assert.ok([200, 507].includes(tenant.status), tenant.text);
  assert.equal((await server.request('GET', '/api/health')).status, 200);
  await checkWhole(server, token, acknowledged);
  if (tenant.status === 507) {
    const known = [...before, ...backups.map((name) => join(folderOfBackups(server), name))];
    const after = (await filesBelow(server.data)).filter((path) => !known.includes(path));
    assert.deepEqual(after, [], 'no part of a file is left');
  }

  await disk.makeRoom(server);
  await create(9000, 200);
  acknowledged.push(9000);
  await ask(server, token, 'POST', '/api/backups', { name: 'room.zip' }, 204);
  if (tenant.status === 507) await ask(server, token, 'POST', '/api/tenants', { name: 'fresh' }, 200);
  const { body } = await ask(server, token, 'POST', '/api/consumers/reader/poll', { limit: 1 }, 200);
  assert.equal(body.events.length, 1);
  const events = await checkWhole(server, token, acknowledged);
  backups.push('room.zip');
  const left = (await readdir(folderOfBackups(server))).sort();
  assert.deepEqual(left, backups, 'of the backups that failed nothing is left');
  const told = events.filter(({ type }) => type === 'backup.created');
  assert.ok(told.length >= 1 && told.length <= backups.length, 'and none of them has an event');

  await server.stop('SIGKILL');
  server = await new Server(disk.folder, []).ready();
  await checkWhole(server, token, acknowledged);
  await server.stop();
  const { code, stdout } = await run(['doctor', '--data', server.data], { cwd: disk.folder });
  assert.equal(code, 0, stdout);
  return acknowledged.length;
}

for (const [name, prepare] of [
  ['a full file system', ownDisk],
  ['a limit on the size of files', ownLimit],
]) {
  test(`${name}: writes wait for room, reads do not, and no part of a file is left`, async (t) => {
    const disk = await prepare(t);
    if (disk === null) {
      t.skip('mounting a small tmpfs needs root');
      return;
    }
    try {
      const count = await scenario(disk);
      promise(t, `disk full (${name})`, `${count} acknowledged, 0 lost, back without a restart`);
    } finally {
      await disk.stop();
      await disk.end();
    }
  });
}
