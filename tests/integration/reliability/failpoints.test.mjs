/**
 * Every failpoint of the program, with every action: at each place of a write and of a delivery the
 * process dies, or what comes next fails, or finds the disk full, or takes its time. Afterwards a
 * start finds all of what was acknowledged and nothing half-made, and goes on (failpoint-story.mjs
 * says what that is). The points stand in failpoint-table.mjs.
 *
 * The short form kills at each point, and at every fourth takes one of the other actions, in turn;
 * BAKEND_LONG=1: all.
 */
import assert from 'node:assert/strict';
import { cp, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run, runWell, Server, startServer, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { createCollection } from '../support/records.mjs';
import { operatorToken } from '../support/superuser.mjs';
import { definition, oldTenant, Story } from './support/failpoint-story.mjs';
import { table } from './support/failpoint-table.mjs';
import { isLong } from './support/machine.mjs';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const OTHERS = ['error', 'full', 'sleep=200'];
const AT_ONCE = 3;
const QUIET = ['--logs-max-days', '0'];

function actionsOf(index) {
  if (isLong) return ['kill', ...OTHERS];
  return index % 4 === 0 ? ['kill', OTHERS[(index / 4) % OTHERS.length]] : ['kill'];
}

test('every failpoint of src/ stands in the table, and every line of the table in src/', async () => {
  const inSource = new Set();
  for (const entry of await readdir(join(root, 'src'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.c')) continue;
    const text = await readFile(join(entry.parentPath ?? entry.path, entry.name), 'utf8');
    for (const [, name] of text.matchAll(/BK_FAILPOINT\(\s*"([^"]*)"\s*\)/g)) inSource.add(name);
    const all = text.match(/BK_FAILPOINT\(/g) ?? [];
    const named = text.match(/BK_FAILPOINT\(\s*"/g) ?? [];
    assert.equal(all.length, named.length, `${entry.name}: each has its name where it stands`);
  }
  assert.deepEqual(table.map(({ name }) => name).sort(), [...inSource].sort());
  for (const { name, unit } of table.filter(({ unit }) => unit)) {
    const text = await readFile(join(root, 'tests/unit', unit), 'utf8');
    assert.ok(text.includes(`"${name}:`), `${unit} proves ${name}`);
  }
  for (const { name, test: file } of table.filter(({ test: file }) => file)) {
    const text = await readFile(join(root, 'tests/integration', file), 'utf8');
    assert.ok(text.includes(`'${name}`), `${file} proves ${name}`);
  }
});

/** A stopped data directory with a superuser, a consumer, and a tenant to be deleted. */
async function prepare(t) {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, definition);
  const ask = async (method, path, body) => {
    const { status, text } = await server.request(method, path, body, { token });
    assert.equal(status, 200, text);
  };
  await ask('PUT', '/api/consumers/reader', { types: ['things.*'] });
  await ask('POST', '/api/tenants', { name: oldTenant });
  await server.stop();
  return { folder, token };
}

async function copyOf(t, { folder }) {
  const copy = await temporaryFolder(t);
  await cp(folder, copy, { recursive: true, filter: (path) => !path.endsWith('.sock') });
  return copy;
}

/** The head is written when a database is new: to reach it, it must be. */
const needsNewHead = (name) => name === 'store.head';

async function doctor(folder) {
  const { code, stdout } = await run(['doctor', '--data', join(folder, 'data')], { cwd: folder });
  assert.equal(code, 0, stdout);
}

async function endStory(server, action) {
  if (action !== 'kill') {
    assert.equal((await server.request('GET', '/api/health')).status, 200, 'it goes on');
    await server.stop();
    return;
  }
  const { signal } = await server.killed();
  assert.equal(signal, 'SIGKILL', 'the failpoint was reached');
}

async function tellStory(t, whole, { name, at }, action) {
  const folder = await copyOf(t, whole);
  if (needsNewHead(name)) await rm(join(folder, 'data/tenants/default/head'));
  const env = { BAKEND_FAILPOINT: `${name}:${action}@${at}` };
  const server = new Server(folder, QUIET, env);
  t.after(() => server.isRunning && server.stop('SIGKILL'));
  const story = new Story(server, whole.token);
  try {
    await server.ready();
    await story.tell();
  } catch (error) {
    if (action !== 'kill' || error.code === 'ERR_ASSERTION') throw error;
  }
  await endStory(server, action);
  if (action.startsWith('sleep')) assert.deepEqual(story.failures, [], 'slowness fails nothing');

  const again = await startServer(t, { folder, args: QUIET });
  await story.check(again);
  await again.stop();
  await doctor(folder);
}

async function restore(t, whole, { name, at }, action) {
  const folder = await copyOf(t, whole),
    data = join(folder, 'data'),
    file = join(folder, 'all.zip');
  await runWell(['backup', file, '--data', data]);
  const env = { BAKEND_FAILPOINT: `${name}:${action}@${at}` };
  const first = await run(['restore', file, '--data', data], { env });
  if (action === 'kill') assert.equal(first.signal, 'SIGKILL', 'the failpoint was reached');
  const story = new Story(null, whole.token);
  story.isRestored = true;
  await story.check(await startServer(t, { folder, args: QUIET }));
}

const title =
  'each failpoint, with each action: a start finds what was acknowledged, and goes on';
test(title, { concurrency: AT_ONCE }, async (t) => {
  const whole = await prepare(t);
  const cases = table
    .filter(({ drive }) => drive)
    .flatMap((row, index) => actionsOf(index).map((action) => ({ row, action })));
  await Promise.all(
    cases.map(({ row, action }) =>
      t.test(`${row.name}:${action}`, (t) =>
        (row.drive === 'story' ? tellStory : restore)(t, whole, row, action),
      ),
    ),
  );
  promise(
    t,
    'failpoints',
    `${table.length} points, ${cases.length} deaths and failures: 0 lost, 0 out of order, all went on`,
  );
});
