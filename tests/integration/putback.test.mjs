/**
 * A database file that somebody puts back by hand: recognised at the start, and every cursor of
 * before is refused. What only looks like it (a kill, a move) keeps its cursors.
 */
import assert from 'node:assert/strict';
import { copyFile, cp, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { readFeed } from './support/feed.mjs';
import { addNeighbours } from './support/neighbours.mjs';
import { Server, startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, createRecord, open } from './support/records.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';

/** Sequences that a head covers before it is written again. */
const STEP = 1024;
const EVERY_TYPE = '&types=*,_*';

const directoryOf = (data, tenant = 'default') => join(data, 'tenants', tenant);

/** data.db and what belongs to it, as `cp data.db*` would take them. */
async function copyDatabase(from, to) {
  const names = (await readdir(from)).filter((name) => name.startsWith('data.db'));
  for (const name of await readdir(to)) if (name.startsWith('data.db')) await rm(join(to, name));
  for (const name of names) await copyFile(join(from, name), join(to, name));
}

async function write(server, token, count, tenant) {
  const body = { title: 'x' };
  for (let done = 0; done < count; done += 32)
    await Promise.all(
      Array.from({ length: Math.min(32, count - done) }, async () => {
        const path = '/api/collections/things/records';
        const { status, text } = await server.request('POST', path, body, { token, tenant });
        assert.equal(status, 200, text);
      }),
    );
}

/** A server with a collection, some records, and neighbours. */
async function prepare(t, folder) {
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await addNeighbours(server, token);
  await createCollection(server, token, {
    name: 'things',
    ...open,
    fields: [{ name: 'title', type: 'text' }],
  });
  await createRecord(server, token, 'things', { title: 'first' });
  return { server, token };
}

/** The cursor behind the newest event. */
async function newest(server, token, tenant) {
  const answer = await server.request('GET', '/api/events?order=desc&limit=1', undefined, {
    token,
    tenant,
  });
  assert.equal(answer.status, 200, answer.text);
  return answer.body.head;
}

const follow = (server, token, cursor, tenant) =>
  server.request('GET', `/api/events?after=${encodeURIComponent(cursor)}${EVERY_TYPE}`, undefined, {
    token,
    tenant,
  });

async function assertRefused(server, token, cursor) {
  const answer = await follow(server, token, cursor);
  assert.equal(answer.status, 409, answer.text);
  assert.equal(answer.body.data.after.code, 'cursor_epoch_changed');
  const { params } = answer.body.data.after;
  const { first } = await readFeed(server, token, { after: params.oldest, query: EVERY_TYPE });
  assert.equal(first, 1, 'the cursor it names leads to all there is');
}

async function assertFollowed(server, token, cursor, tenant) {
  const answer = await follow(server, token, cursor, tenant);
  assert.equal(answer.status, 200, answer.text);
}

test('an older database that is put back is recognised, and its old cursors are refused', async (t) => {
  const folder = await temporaryFolder(t);
  const aside = await temporaryFolder(t);
  const { server, token } = await prepare(t, folder);
  const early = await newest(server, token);
  const neighbour = await newest(server, token, 'left');
  await server.stop();
  await copyDatabase(directoryOf(server.data), aside);

  const second = await startServer(t, { folder });
  await write(second, await signIn(second), 5);
  const late = await newest(second, await signIn(second));
  await second.stop();
  await copyDatabase(aside, directoryOf(server.data));

  const third = await startServer(t, { folder });
  const thirdToken = await signIn(third);
  const line = await third.logged('epoch_renewed', '"tenant":"default"');
  assert.match(line.reason, /an older copy of the database was put back/);
  for (const cursor of [early, late]) await assertRefused(third, thirdToken, cursor);
  await assertFollowed(third, thirdToken, neighbour, 'left');
  await write(third, thirdToken, 5);
  const next = await newest(third, thirdToken);
  await third.stop();

  const fourth = await startServer(t, { folder });
  await assertFollowed(fourth, await signIn(fourth), next);
  await assertRefused(fourth, await signIn(fourth), late);
  assert.ok(!fourth.log.some((each) => each.includes('epoch_renewed')), 'renewed once');
});

test('a directory that is moved, or copied, keeps its cursors', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, token } = await prepare(t, folder);
  const cursor = await newest(server, token);
  const neighbour = await newest(server, token, 'right');
  await server.stop();

  const [moved, copied] = [await temporaryFolder(t), await temporaryFolder(t)];
  await cp(server.data, join(copied, 'data'), { recursive: true });
  await rename(server.data, join(moved, 'data'));
  for (const place of [moved, copied]) {
    const next = await startServer(t, { folder: place });
    await assertFollowed(next, await signIn(next), cursor);
    await assertFollowed(next, await signIn(next), neighbour, 'right');
    await next.stop();
  }
});

test('after kill -9 a copy of the stopped server, put back, is recognised after one event', async (t) => {
  const folder = await temporaryFolder(t);
  const aside = await temporaryFolder(t);
  const { server } = await prepare(t, folder);
  await server.stop();
  await copyDatabase(directoryOf(server.data), aside);

  const second = await startServer(t, { folder });
  const token = await signIn(second);
  await write(second, token, 1);
  const late = await newest(second, token);
  await second.stop('SIGKILL');
  await copyDatabase(aside, directoryOf(server.data));

  const third = await startServer(t, { folder });
  await assertRefused(third, await signIn(third), late);
});

test('after kill -9 a copy of what an earlier kill left is recognised after a step of events', async (t) => {
  const folder = await temporaryFolder(t);
  const aside = await temporaryFolder(t);
  const { server } = await prepare(t, folder);
  await server.stop('SIGKILL');
  await copyDatabase(directoryOf(server.data), aside);

  const second = await startServer(t, { folder });
  const token = await signIn(second);
  await write(second, token, STEP + 64);
  const late = await newest(second, token);
  await second.stop('SIGKILL');
  await copyDatabase(aside, directoryOf(server.data));

  const third = await startServer(t, { folder });
  await assertRefused(third, await signIn(third), late);
});

test('a renewal that is killed before the head is written is done again, and then never more', async (t) => {
  const folder = await temporaryFolder(t);
  const aside = await temporaryFolder(t);
  const { server } = await prepare(t, folder);
  await server.stop();
  await copyDatabase(directoryOf(server.data), aside);
  const second = await startServer(t, { folder });
  await write(second, await signIn(second), 1);
  const late = await newest(second, await signIn(second));
  await second.stop();
  await copyDatabase(aside, directoryOf(server.data));

  const env = { BAKEND_FAILPOINT: 'store.head:kill@1' };
  assert.equal((await new Server(folder, [], env).killed()).signal, 'SIGKILL');
  const third = await startServer(t, { folder });
  await third.logged('epoch_renewed');
  const token = await signIn(third);
  await assertRefused(third, token, late);
  const next = await newest(third, token);
  await third.stop();
  const fourth = await startServer(t, { folder });
  await assertFollowed(fourth, await signIn(fourth), next);
});

test('a kill while the head is written, or right before its commit, keeps the epoch', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, token } = await prepare(t, folder);
  const cursor = await newest(server, token);
  await server.stop();
  for (const failpoint of ['store.head:kill@1', 'store.head:kill@2', 'store.before_commit:kill@20']) {
    const killed = new Server(folder, [], { BAKEND_FAILPOINT: failpoint });
    await killed.ready();
    await Promise.allSettled([write(killed, token, STEP + 64)]);
    assert.equal((await killed.killed()).signal, 'SIGKILL', failpoint);
    const next = await startServer(t, { folder });
    await assertFollowed(next, await signIn(next), cursor);
    assert.ok(!next.log.some((line) => line.includes('epoch_renewed')), failpoint);
    await next.stop();
  }
});

test('a tenant that is put back is recognised when it opens, beside others that are not', async (t) => {
  const folder = await temporaryFolder(t);
  const aside = await temporaryFolder(t);
  const { server, token } = await prepare(t, folder);
  await mkdir(join(aside, 'left'));
  await server.stop();
  await copyDatabase(directoryOf(server.data, 'left'), join(aside, 'left'));

  const second = await startServer(t, { folder });
  const path = '/api/collections/notes/records';
  const made = await second.request('POST', path, { title: 'more' }, { token, tenant: 'left' });
  assert.equal(made.status, 200, made.text);
  const late = await newest(second, token, 'left');
  const own = await newest(second, token);
  await second.stop();
  await copyDatabase(join(aside, 'left'), directoryOf(server.data, 'left'));

  const third = await startServer(t, { folder });
  const refused = await follow(third, token, late, 'left');
  assert.equal(refused.status, 409, refused.text);
  assert.equal(refused.body.data.after.code, 'cursor_epoch_changed');
  await assertFollowed(third, token, own);
});
