/**
 * A data directory that something else has damaged: bits that flip, files cut off, pages of zeros, a
 * write-ahead log that is missing, foreign or spoilt, a lock held by another, two starts at once.
 * The program refuses to start with the file's name and what to do, or serves only rows that are
 * whole; it never writes over what it refuses. (directory.test.mjs has damaged headers and rotten
 * pages.)
 *
 * BAKEND_LONG=1: 20 times as many flipped bits.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFile,
  cp,
  open as openFile,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { run, runServer, Server, startServer, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { createRandom } from '../support/random.mjs';
import { createCollection, createRecord, open, recordsPath } from '../support/records.mjs';
import { operatorToken } from '../support/superuser.mjs';
import { isLong } from './support/machine.mjs';

const PAGE_BYTES = 4096;
const RECORDS = 120;
const FLIPS = isLong ? 400 : 20;
const AT_ONCE = 3;
const databaseOf = (folder) => join(folder, 'data/tenants/default/data.db');
const textOf = (number) => `title ${number} ${'x'.repeat(200)} ${number}`;

/** A data directory with records; `crashed`: the server was killed, so there is a write-ahead log. */
async function prepare(t, { crashed }) {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder, args: ['--logs-max-days', '0'] });
  const token = await operatorToken(server);
  const fields = [
    { name: 'number', type: 'number' },
    { name: 'title', type: 'text' },
  ];
  await createCollection(server, token, { name: 'things', ...open, fields });
  for (let i = 0; i < RECORDS; i += 20)
    await Promise.all(
      Array.from({ length: 20 }, (_, k) =>
        createRecord(server, token, 'things', { number: i + k, title: textOf(i + k) }),
      ),
    );
  await server.stop(crashed ? 'SIGKILL' : 'SIGTERM');
  return { folder, token };
}

async function copyOf(t, { folder }) {
  const copy = await temporaryFolder(t);
  await cp(folder, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  return copy;
}

/** name → hash of what a start may not touch when it is refused. */
async function fingerprint(folder) {
  const directory = join(folder, 'data/tenants/default'),
    found = {};
  for (const name of await readdir(directory)) {
    if (!name.startsWith('data.db') || name.endsWith('-shm')) continue;
    const content = await readFile(join(directory, name));
    if (name.endsWith('-wal') && content.length === 0) continue;
    found[name] = createHash('sha256').update(content).digest('hex');
  }
  return found;
}

async function flipBit(path, at, bit) {
  const file = await openFile(path, 'r+');
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0] ^= 1 << bit;
  await file.write(byte, 0, 1, at);
  await file.close();
}

/**
 * Starts on what there is. Resolves with the records that are served; null: the start was refused,
 * with a reason, and nothing was written.
 */
async function serve(folder, token) {
  const before = await fingerprint(folder);
  const server = new Server(folder, ['--logs-max-days', '0']);
  try {
    await server.ready();
  } catch {
    const { code } = await server.ended;
    assert.equal(code, 1, `refused, not crashed: ${server.log.join('\n')}`);
    assert.match(server.log.at(-1), /data\.db/, 'it names the file');
    assert.match(server.log.at(-1), /restore|move this file away|put the file back/);
    const isUntouched = same(before, await fingerprint(folder));
    return { rows: null, isUntouched, said: server.log.at(-1) };
  }
  try {
    const path = `${recordsPath('things')}?perPage=1000`;
    const { status, body } = await server.request('GET', path, undefined, { token });
    return { rows: status === 200 ? body.items : [] };
  } finally {
    await server.stop();
  }
}

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** A flip inside a text cannot be told from another text: SQLite has no checksums of its pages. */
function isWhole({ id, number, title }, { mayDiffer }) {
  if (!/^[a-z0-9]{15}$/.test(id) && !mayDiffer) return false;
  return mayDiffer ? typeof title === 'string' : title === textOf(number);
}

async function flipInside(t, whole, suffix, random) {
  const folder = await copyOf(t, whole),
    path = databaseOf(folder) + suffix;
  const { size } = await stat(path);
  const at = random.below(size),
    bit = random.below(8);
  await flipBit(path, at, bit);
  const { rows } = await serve(folder, whole.token);
  const mayDiffer = suffix === '';
  for (const row of rows ?? [])
    assert.ok(isWhole(row, { mayDiffer }), `bit ${bit} at ${at}: ${JSON.stringify(row)}`);
  return rows === null ? 'refused' : 'served';
}

for (const [name, crashed, suffix] of [
  ['the database', false, ''],
  ['the write-ahead log', true, '-wal'],
]) {
  test(`a flipped bit in ${name} crashes nothing and is never half a row`, async (t) => {
    const random = createRandom(t);
    const whole = await prepare(t, { crashed });
    const outcomes = { refused: 0, served: 0 };
    const worker = async (count) => {
      for (let i = 0; i < count; i++) outcomes[await flipInside(t, whole, suffix, random)]++;
    };
    await Promise.all(Array.from({ length: 2 }, () => worker(FLIPS / 2)));
    promise(
      t,
      `flipped bits in ${name}`,
      `${FLIPS}: ${outcomes.refused} refused, ${outcomes.served} served, none crashed`,
    );
  });
}

/* One letter of a column's name in the schema, which SQLite keeps as text: it sees no damage there,
 * and whoever reads the table by that name fails, in a place of his own. → what he says */
const renamed = [
  ['_meta', 'value', 'no such column: value'],
  ['_collections', 'named_after', 'schema: no such column: named_after'],
  ['_seeds', 'name', 'schema: system collection "users"'],
  ['_schedules', 'expression', 'work: no such column: expression'],
  ['_auth_keys', 'until', 'auth: the numbers of the signing keys cannot be read: no such column'],
  ['_settings', 'value', 'settings: the settings cannot be read: no such column: value'],
  ['_consumers', 'leaseUntil', 'changefeed: _consumers cannot be read: no such column'],
  ['_migrations_applied', 'sequence', '_migrations_applied cannot be read: no such column'],
];

async function rename(path, table, column) {
  const content = await readFile(path, 'latin1');
  const statement = new RegExp(`(CREATE TABLE "?${table}"? \\([^\\0]*?\\b)${column}\\b`, 'g');
  assert.match(content, statement);
  await writeFile(path, content.replaceAll(statement, `$1X${column.slice(1)}`), 'latin1');
}

const concurrency = AT_ONCE;

test('a damaged schema is told with its file, and what to do', { concurrency }, async (t) => {
  const whole = await prepare(t, { crashed: false });
  await Promise.all(
    renamed.map(([table, column, words]) =>
      t.test(`${table}.${column}`, async (t) => {
        const folder = await copyOf(t, whole);
        await rename(databaseOf(folder), table, column);
        const { rows, said } = await serve(folder, whole.token);
        assert.equal(rows, null, 'it is refused');
        assert.ok(said.includes(words), said);
      }),
    ),
  );
});

test('an application id that has changed may be damage', async (t) => {
  const APPLICATION_ID_AT = 68;
  const { folder, token } = await prepare(t, { crashed: false });
  await flipBit(databaseOf(folder), APPLICATION_ID_AT, 3);
  const { isUntouched, said } = await serve(folder, token);
  assert.ok(isUntouched, 'it is left as it is');
  assert.match(said, /another program/);
});

const zeros = async (path, page) => {
  const file = await openFile(path, 'r+');
  await file.write(Buffer.alloc(PAGE_BYTES), 0, PAGE_BYTES, (page - 1) * PAGE_BYTES);
  await file.close();
};

/* What happens to the directory of a server that was killed → whether it may be served. */
const damages = [
  {
    name: 'the log is missing after a crash',
    damage: (path) => rm(`${path}-wal`),
    may: 'either',
  },
  { name: 'the log is empty', damage: (path) => truncate(`${path}-wal`, 0), may: 'either' },
  {
    name: 'the log has only half a header',
    damage: (path) => truncate(`${path}-wal`, 16),
    may: 'either',
  },
  {
    name: 'the log is followed by garbage',
    damage: (path) => appendFile(`${path}-wal`, Buffer.alloc(3 * PAGE_BYTES, 0xa5)),
    may: 'serve all',
  },
  {
    name: 'the shared memory is garbage',
    damage: (path) => writeFile(`${path}-shm`, Buffer.alloc(32768, 0x5a)),
    may: 'serve all',
  },
  {
    name: 'the database is a random text',
    damage: (path) => writeFile(path, 'this is no database\n'.repeat(1000)),
    may: 'refuse',
  },
  { name: 'the database is empty', damage: (path) => truncate(path, 0), may: 'refuse' },
  { name: 'the database is missing', damage: (path) => rm(path), may: 'refuse' },
  { name: 'the first page is zeros', damage: (path) => zeros(path, 1), may: 'refuse' },
];

test('a directory that was damaged after a crash', { concurrency }, async (t) => {
  const whole = await prepare(t, { crashed: true });
  await Promise.all(
    damages.map(({ name, damage, may }) =>
      t.test(name, async (t) => {
        const folder = await copyOf(t, whole);
        await damage(databaseOf(folder));
        const { rows, isUntouched } = await serve(folder, whole.token);
        if (may === 'refuse') assert.equal(rows, null, 'it is refused');
        if (may === 'serve all') assert.equal(rows?.length, RECORDS, 'nothing is lost');
        if (rows === null) assert.ok(isUntouched, 'what is refused is left as it is');
        for (const row of rows ?? []) assert.ok(isWhole(row, {}), JSON.stringify(row));
      }),
    ),
  );
});

test('a lock that another program holds is respected', async (t) => {
  const { folder } = await prepare(t, { crashed: false });
  const lock = join(folder, 'data/lock');
  const stdio = ['pipe', 'ignore', 'ignore'];
  const holder = spawn('flock', ['--exclusive', lock, 'cat'], { stdio });
  t.after(() => holder.stdin.end());
  await new Promise((resolve) => setTimeout(resolve, 300));
  const before = await fingerprint(folder);
  const { code, stdout, stderr } = await runServer(folder);
  assert.equal(code, 1, stderr);
  assert.equal(stdout, '');
  assert.match(stderr, /in use|locked/);
  assert.deepEqual(await fingerprint(folder), before);
  const restored = await run(['restore', join(folder, 'none.zip'), '--data', join(folder, 'data')]);
  assert.notEqual(restored.code, 0);
});

test('of ten servers started at once on one directory, one runs', async (t) => {
  const { folder, token } = await prepare(t, { crashed: true });
  const servers = Array.from({ length: 10 }, () => new Server(folder, []));
  t.after(() => Promise.all(servers.map((server) => server.isRunning && server.stop('SIGKILL'))));
  const ready = await Promise.allSettled(servers.map((server) => server.ready()));
  const running = servers.filter((_, index) => ready[index].status === 'fulfilled');
  assert.equal(running.length, 1, 'one has the directory');
  for (const server of servers.filter((each) => each !== running[0])) {
    assert.equal((await server.ended).code, 1);
    assert.match(server.log.join('\n'), /in use/);
  }
  const path = `${recordsPath('things')}?perPage=1000`;
  const { body } = await running[0].request('GET', path, undefined, { token });
  assert.equal(body.items.length, RECORDS);
  await running[0].stop();
});
