/**
 * The data directory: one process has it, a damaged one is refused and left as it is, and a restart
 * takes nothing away from clients.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { chmod, cp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { checkContiguous, readFeed } from './support/feed.mjs';
import { run, runServer, Server, startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, createRecord, listAll, open, recordsPath } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';

const PAGE_BYTES = 4096;
const RECORDS = 300;
const databaseOf = (folder) => join(folder, 'data/tenants/default/data.db');

/** path → hash of every file below a folder that a start may not touch when it is refused. */
async function fingerprint(folder) {
  const found = {};
  for (const entry of await readdir(join(folder, 'data'), {
    recursive: true,
    withFileTypes: true,
  })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const name = relative(folder, path);
    /* The lock names the process that holds it; shared memory is no part of a database. */
    if (!entry.isFile() || name === 'data/lock' || name.endsWith('-shm')) continue;
    const content = await readFile(path);
    /* An empty write-ahead log says the same as none. */
    if (name.endsWith('-wal') && content.length === 0) continue;
    found[name] = createHash('sha256').update(content).digest('hex');
  }
  return found;
}

/**
 * A stopped directory with some records; `crashed`: the server was killed, so there is a write-
 * ahead log.
 */
async function prepare(t, { crashed = false } = {}) {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, {
    name: 'things',
    ...open,
    fields: [{ name: 'title', type: 'text' }],
  });
  for (let i = 0; i < RECORDS; i += 20)
    await Promise.all(
      Array.from({ length: 20 }, (_, k) =>
        createRecord(server, token, 'things', { title: `title ${i + k} ${'x'.repeat(200)}` }),
      ),
    );
  await server.stop(crashed ? 'SIGKILL' : 'SIGTERM');
  return { folder, token };
}

test('one process has the directory', async (t) => {
  const folder = await temporaryFolder(t);
  const first = await startServer(t, { folder });

  await t.test('a second server is refused and told which process has it', async () => {
    const { code, stdout, stderr } = await runServer(folder);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, new RegExp(`\\b${first.pid}\\b`));
    assert.match(stderr, /in use/);
    assert.match(stderr, /stop|another --data/, 'it says what to do');
  });

  await t.test('the first one does not notice', async () => {
    assert.equal((await first.request('GET', '/api/health')).status, 200);
  });

  await t.test('a process that was killed does not hold it', async (t) => {
    await first.stop('SIGKILL');
    const next = await startServer(t, { folder });
    assert.equal((await next.request('GET', '/api/health')).status, 200);
  });
});

async function writeAt(path, offset, bytes) {
  const content = await readFile(path);
  bytes.copy(content, offset);
  await writeFile(path, content);
}

/* What happens to the file → the words that the refusal must have. */
const damages = [
  {
    name: 'a header of garbage',
    damage: (path) => writeAt(path, 0, randomBytes(100)),
    says: /is damaged|not a database/,
  },
  {
    name: 'a file of garbage',
    damage: (path) => writeFile(path, randomBytes(20 * PAGE_BYTES)),
    says: /is damaged/,
  },
  {
    name: 'a header of another page size',
    damage: (path) => writeAt(path, 16, Buffer.from([0x20, 0])),
    says: /page size/,
  },
  {
    name: 'half of the file',
    damage: async (path) =>
      truncate(path, Math.floor((await stat(path)).size / PAGE_BYTES / 2) * PAGE_BYTES),
    says: /shorter/,
  },
  {
    name: 'a part of a page cut off',
    damage: async (path) => truncate(path, (await stat(path)).size - 1000),
    says: /is damaged/,
  },
  { name: 'only the first bytes', damage: (path) => truncate(path, 50), says: /shorter/ },
  {
    name: 'a first page of zeros behind its header',
    damage: (path) => writeAt(path, 100, Buffer.alloc(PAGE_BYTES - 100)),
    says: /is damaged|cannot be opened/,
  },
  {
    name: 'a first page of garbage behind its header',
    damage: (path) => writeAt(path, 100, randomBytes(PAGE_BYTES - 100)),
    says: /is damaged|cannot be opened/,
  },
  { name: 'a database of another program', damage: otherDatabase, says: /another program/ },
];

/** A whole SQLite file, but not ours. */
async function otherDatabase(path) {
  await writeAt(path, 68, Buffer.from([0x12, 0x34, 0x56, 0x78])); /* the application id */
}

test('a damaged database is refused with what to do, and not a byte is changed', async (t) => {
  const whole = await prepare(t);
  for (const { name, damage, says } of damages) {
    await t.test(name, async (t) => {
      const folder = await temporaryFolder(t);
      await cp(whole.folder, folder, {
        recursive: true,
        filter: (path) => !path.endsWith('.sock'),
      });
      await damage(databaseOf(folder));
      const before = await fingerprint(folder);
      const { code, stdout, stderr } = await runServer(folder);
      assert.equal(code, 1, stderr);
      assert.equal(stdout, '', 'it was never ready');
      assert.match(stderr, says);
      assert.match(stderr, /bakend restore|another data directory/, 'it says what to do');
      assert.match(stderr, /data\.db/, 'it names the file');
      assert.deepEqual(await fingerprint(folder), before);
      const doctor = await run(['doctor', '--data', join(folder, 'data')], { cwd: folder });
      assert.equal(doctor.code, 1, doctor.stdout);
      assert.match(doctor.stdout, /^problem/m);
      assert.deepEqual(await fingerprint(folder), before, 'doctor only looks');
    });
  }
});

test('a write-ahead log that is none is refused, and not a byte is changed', async (t) => {
  for (const crashed of [false, true]) {
    await t.test(crashed ? 'after a crash' : 'beside a database closed well', async (t) => {
      const { folder } = await prepare(t, { crashed });
      await writeFile(`${databaseOf(folder)}-wal`, randomBytes(9 * PAGE_BYTES));
      const before = await fingerprint(folder);
      const { code, stderr } = await runServer(folder);
      assert.equal(code, 1, stderr);
      assert.match(stderr, /data\.db-wal/);
      assert.match(stderr, /restore|move this file away/);
      assert.deepEqual(await fingerprint(folder), before);
    });
  }
});

test('a write-ahead log that was cut off keeps what is whole in it', async (t) => {
  const { folder, token } = await prepare(t, { crashed: true });
  const wal = `${databaseOf(folder)}-wal`;
  const { size } = await stat(wal);
  assert.ok(size > 10 * PAGE_BYTES, 'there is a log to cut');
  await truncate(wal, Math.floor(size / 2) + 123);
  const server = await startServer(t, { folder });
  const { events } = await readFeed(server, token, { query: '&types=*,_*' });
  checkContiguous(events, 1);
  const rows = await listAll(server, token, 'things');
  assert.ok(rows.length < RECORDS, 'something was lost with the log');
  assert.deepEqual(
    events
      .filter(({ type }) => type === 'things.created')
      .map(({ payload }) => payload.id)
      .sort(),
    rows.map(({ id }) => id).sort(),
    'rows and events agree',
  );
});

test('a page that rotted is never served as if it were whole', async (t) => {
  const whole = await prepare(t);
  const content = await readFile(databaseOf(whole.folder));
  const pages = content.length / PAGE_BYTES;
  let refused = 0,
    served = 0;
  for (let page = 2; page <= pages; page += Math.max(1, Math.floor(pages / 12))) {
    const folder = await temporaryFolder(t);
    await cp(whole.folder, folder, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    await writeAt(databaseOf(folder), (page - 1) * PAGE_BYTES, randomBytes(PAGE_BYTES));
    const before = await fingerprint(folder);
    const rotten = await readFile(databaseOf(folder));
    const doctor = await run(['doctor', '--data', join(folder, 'data')], { cwd: folder });
    assert.equal(doctor.code, 1, `doctor sees the rotten page ${page}: ${doctor.stdout}`);
    assert.deepEqual(await fingerprint(folder), before, 'doctor only looks');
    if (await isServed(folder, whole.token)) {
      served++;
    } else {
      const changed = pagesThatDiffer(rotten, await readFile(databaseOf(folder)));
      assert.ok(!changed.includes(page), 'the rotten page is left as it is');
      assert.ok(
        changed.length <= MARK_PAGES,
        `what is refused is left as it is, but for the mark of its use: ${changed}`,
      );
      refused++;
    }
  }
  t.diagnostic(`${refused} refused at start, ${served} started and answered no wrong row`);
});

/** A page may be found to be rotten when the database is in use already; then this is its mark. */
const MARK_PAGES = 2; /* the file's header, and the table with the mark */

function pagesThatDiffer(before, after) {
  assert.equal(after.length, before.length, 'the database is as long as it was');
  const pages = Array.from({ length: before.length / PAGE_BYTES }, (_, i) => i + 1);
  const bytesOf = (content, page) => content.subarray((page - 1) * PAGE_BYTES, page * PAGE_BYTES);
  return pages.filter((page) => !bytesOf(before, page).equals(bytesOf(after, page)));
}

/** False when the start was refused. Rows, where there are any, must be whole. */
async function isServed(folder, token) {
  const server = new Server(folder, []);
  try {
    await server.ready();
  } catch {
    const { code } = await server.ended;
    assert.equal(code, 1, `refused, not crashed: ${server.log.join('\n')}`);
    assert.match(server.log.at(-1), /data\.db is damaged.*bakend restore/);
    return false;
  }
  try {
    const answer = await server.request('GET', `${recordsPath('things')}?perPage=1000`, undefined, {
      token,
    });
    if (answer.status === 200) answer.body.items.forEach(checkRow);
    else assert.ok([401, 403, 404, 500].includes(answer.status), answer.text);
  } finally {
    await server.stop();
  }
  return true;
}

function checkRow({ id, title }) {
  assert.match(id, /^[a-z0-9]{15}$/);
  assert.match(title, /^title \d+ x{200}$/);
}

test('the instance key', async (t) => {
  const { folder, token } = await prepare(t);
  const key = join(folder, 'data/instance.key');

  await t.test('is private, as is everything in the directory', async () => {
    assert.equal((await stat(key)).mode & 0o777, 0o600);
    assert.equal((await stat(join(folder, 'data'))).mode & 0o777, 0o700);
    assert.equal((await stat(databaseOf(folder))).mode & 0o777, 0o600);
  });

  await t.test('that others may read is refused', async () => {
    await chmod(key, 0o644);
    const { code, stderr } = await runServer(folder);
    assert.equal(code, 1);
    assert.match(stderr, /chmod 600/, 'it says what to do');
    await chmod(key, 0o600);
  });

  await t.test('that is no key is refused and not replaced', async () => {
    const text = await readFile(key);
    await writeFile(key, 'not a key\n');
    const { code, stderr } = await runServer(folder);
    assert.equal(code, 1);
    assert.match(stderr, /instance\.key/);
    assert.equal(await readFile(key, 'utf8'), 'not a key\n');
    await writeFile(key, text);
  });

  await t.test('keeps tokens good over restarts', async (t) => {
    const server = await startServer(t, { folder });
    assert.equal((await server.request('GET', '/api/events', undefined, { token })).status, 200);
    await server.stop('SIGKILL');
    const again = await startServer(t, { folder });
    assert.equal((await again.request('GET', '/api/events', undefined, { token })).status, 200);
  });

  await t.test('signs: with another one the same token is worth nothing', async (t) => {
    const original = await readFile(key);
    await rm(key);
    const server = await startServer(t, { folder });
    assert.equal((await server.request('GET', '/api/events', undefined, { token })).status, 401);
    await server.stop();
    await writeFile(key, original);
  });
});
