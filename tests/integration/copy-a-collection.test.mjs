/**
 * The documented copy of a collection, run as it is documented: random writes go on, it and the
 * server are killed again and again, and in the end the copy is what the collection is.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startServer, temporaryFolder } from './support/program.mjs';
import { createRandom } from './support/random.mjs';
import { createCollection, listAll, open, recordsPath } from './support/records.mjs';
import { email, operatorToken, password } from './support/superuser.mjs';

const example = fileURLToPath(new URL('../../docs/examples/copy-a-collection.mjs', import.meta.url));
const KILLS = process.env.BAKEND_LONG === '1' ? 60 : 10;
const SETTLE_MS = 30_000;

const posts = {
  name: 'posts',
  ...open,
  fields: [
    { name: 'title', type: 'text' },
    { name: 'n', type: 'number' },
    { name: 'secret', type: 'text', hidden: true },
  ],
};

/** The example, running; stop() kills it. */
function startCopy(server, token, path, more = {}) {
  const child = spawn(process.execPath, [example, server.url, 'posts', path], {
    env: { ...process.env, BAKEND_TOKEN: token, ...more },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = [];
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => output.push(text));
  const ended = new Promise((resolve) => child.on('close', (code, signal) => resolve(code ?? signal)));
  return {
    output,
    get isRunning() {
      return child.exitCode === null && child.signalCode === null;
    },
    stop: () => {
      child.kill('SIGKILL');
      return ended;
    },
  };
}

/** The records as the copy has them, or null when there is none yet. */
async function readCopy(path) {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}

async function truthOf(server, token, collection) {
  const records = await listAll(server, token, collection);
  return Object.fromEntries(
    records.map(({ collectionId, collectionName, secret, ...own }) => [own.id, own]),
  );
}

/** Waits until the copy has what the collection has. */
async function settle(server, token, copy, path, collection = 'posts') {
  const truth = await truthOf(server, token, collection);
  for (let waited = 0; ; waited += 100) {
    const found = (await readCopy(path))?.records;
    try {
      assert.deepEqual(found, truth);
      return Object.keys(truth).length;
    } catch (error) {
      if (!copy.isRunning) await copy.stop(); /* what it said last */
      assert.ok(copy.isRunning, `the copy ended\n${copy.output.join('')}`);
      if (waited > SETTLE_MS) throw error;
    }
    await sleep(100);
  }
}

/** Writes at random until told to stop; a server that is gone is waited for. */
async function write(target, random, control) {
  while (!control.isOver) {
    const { server, token, ids } = target;
    const id = ids[random.below(ids.length || 1)];
    const kind = id ? random.below(4) : 0;
    try {
      const as = { token };
      const body = { title: `title ${random.below(1000)}`, n: random.below(1e6), secret: 'x' };
      if (kind <= 1) {
        const { status, body: made } = await server.request('POST', recordsPath('posts'), body, as);
        if (status === 200) ids.push(made.id);
      } else if (kind === 2) {
        await server.request('PATCH', recordsPath('posts', id), { n: body.n }, as);
      } else {
        await server.request('DELETE', recordsPath('posts', id), undefined, as);
      }
      control.count++;
    } catch {
      await sleep(20);
    }
  }
}

async function begin(t) {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, posts);
  return { folder, server, token, ids: [], path: join(folder, 'copy.json') };
}

test('a copy is exact through kills of either side', async (t) => {
  const random = createRandom(t);
  const target = await begin(t);
  const { folder, token, path } = target;
  const address = new URL(target.server.url).host;
  const control = { isOver: false, count: 0 };
  const writers = Array.from({ length: 4 }, () => write(target, random, control));
  let copy = startCopy(target.server, token, path);
  t.after(() => copy.stop());
  for (let i = 0; i < KILLS; i++) {
    await sleep(random.between(100, 600));
    if (i % 2) {
      await target.server.stop('SIGKILL');
      target.server = await startServer(t, { folder, args: ['--listen', address] });
    } else {
      if (!copy.isRunning) assert.fail(`the copy ended: ${await copy.stop()} ${copy.output.join('')}`);
      await copy.stop();
      copy = startCopy(target.server, token, path);
    }
  }
  await sleep(300);
  control.isOver = true;
  await Promise.all(writers);
  const size = await settle(target.server, token, copy, path);
  t.diagnostic(`${control.count} writes, ${size} records left, ${KILLS} kills`);
  assert.ok(control.count > 50 && size > 0);
});

test('a copy is made anew when its cursor is of another history', async (t) => {
  const { server, token, path } = await begin(t);
  await server.request('POST', recordsPath('posts'), { title: 'here' }, { token });
  const copy = startCopy(server, token, path);
  t.after(() => copy.stop());
  await settle(server, token, copy, path);
  await copy.stop();

  const other = await begin(t);
  await other.server.request('POST', recordsPath('posts'), { title: 'there' }, other);
  const second = startCopy(other.server, other.token, path);
  t.after(() => second.stop());
  await settle(other.server, other.token, second, path);
  assert.match(second.output.join(''), /cannot be followed \(409\)/);
});

test('a copy is made anew when its collection gets another field and name', async (t) => {
  const { server, token, path } = await begin(t);
  await server.request('POST', recordsPath('posts'), { title: 'first' }, { token });
  const copy = startCopy(server, token, path);
  t.after(() => copy.stop());
  await settle(server, token, copy, path);
  const { body } = await server.request('GET', '/api/collections/posts', undefined, { token });
  const fields = [...body.fields, { name: 'more', type: 'text' }];
  await server.request('PATCH', '/api/collections/posts', { fields, name: 'notes' }, { token });
  await server.request('POST', recordsPath('notes'), { title: 'second', more: 'x' }, { token });
  assert.equal(await settle(server, token, copy, path, 'notes'), 2);
  assert.match(copy.output.join(''), /taking it anew/);
});

test('a copy whose token is over signs in, or says how to get another one', async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, posts);
  const path = join(folder, 'copy.json');
  const copy = startCopy(server, 'over', path, { BAKEND_EMAIL: email, BAKEND_PASSWORD: password });
  t.after(copy.stop);
  const isExact = () => copy.output.join('').includes('exact: 0');
  for (const end = Date.now() + SETTLE_MS; !isExact(); await sleep(20))
    assert.ok(Date.now() < end, copy.output.join(''));
  assert.match(copy.output.join(''), /^waiting: 401/m);
  const without = startCopy(server, 'over', `${path}2`);
  t.after(without.stop);
  while (without.isRunning) await sleep(20);
  await sleep(50);
  const said = /^the token is over: make one: bakend superuser token EMAIL$/m;
  assert.match(without.output.join(''), said);
});
