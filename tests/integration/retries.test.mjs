/** Idempotency-Key: a request that is sent again is not done again. */
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { readFeed } from './support/feed.mjs';
import { assertProblems, operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, listAll, open, recordsPath } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';

const posts = {
  name: 'posts',
  ...open,
  fields: [
    { name: 'title', type: 'text' },
    { name: 'views', type: 'number' },
    { name: 'secret', type: 'text', hidden: true },
  ],
};
const url = (id) => recordsPath('posts', id);
const withKey = (key, options) => ({ headers: { 'idempotency-key': key }, ...options });
const guest = { token: undefined };

const total = async (api) => (await api.get(`${url()}?perPage=1`)).body.totalItems;
const isReplayed = ({ headers }) => headers.get('idempotent-replayed') === 'true';

test('what is sent again is answered again and done once', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  const { next } = await readFeed(api.server, api.token);
  const key = randomUUID();

  const first = await api.post(url(), { title: 'a', views: 1 }, withKey(key));
  assert.equal(first.status, 200, first.text);
  assert.equal(isReplayed(first), false);
  const again = await api.post(url(), { title: 'a', views: 1 }, withKey(key));
  assert.equal(again.status, 200, again.text);
  assert.equal(isReplayed(again), true);
  assert.deepEqual(again.body, first.body);
  const { id } = first.body;

  for (let i = 0; i < 3; i++) {
    const added = await api.patch(url(id), { 'views+': 1 }, withKey(key));
    assert.equal(added.status, 200, added.text);
    assert.equal(added.body.views, 2);
    assert.equal(isReplayed(added), i > 0);
  }
  for (let i = 0; i < 3; i++) {
    const removed = await api.remove(url(id), withKey(key));
    assert.equal(removed.status, 204, removed.text);
    assert.equal(isReplayed(removed), i > 0);
  }
  const { events } = await readFeed(api.server, api.token, { after: next });
  assert.deepEqual(
    events.map(({ type }) => type),
    ['posts.created', 'posts.updated', 'posts.deleted'],
  );
});

test('a key is of one actor, method, path and body', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  await api.define({ ...posts, name: 'drafts' });
  const key = randomUUID();
  const send = (path, body, options) => api.post(path, body, withKey(key, options));
  assert.equal((await send(url(), { title: 'a' })).status, 200);

  const other = await send(url(), { title: 'b' });
  assert.equal(other.status, 422, other.text);
  assert.match(other.body.message, /Idempotency-Key/);
  assert.equal(isReplayed(await send(recordsPath('drafts'), { title: 'a' })), false);
  assert.equal(isReplayed(await send(url(), { title: 'a' }, guest)), false, 'another actor');
  assert.equal(await total(api), 2);
  assert.equal(isReplayed(await api.post(url(), { title: 'a' }, withKey(randomUUID()))), false);
  assert.equal(await total(api), 3);
});

test('what failed is done when it is sent again', async (t) => {
  const api = await operator(t);
  await api.define({ ...posts, createRule: null });
  const options = withKey(randomUUID(), guest);
  assert.equal((await api.post(url(), { title: 'a' }, options)).status, 403);
  await api.patch('/api/collections/posts', { createRule: '' });
  const made = await api.post(url(), { title: 'a' }, options);
  assert.equal(made.status, 200, made.text);
  assert.equal(isReplayed(made), false);
});

test('a key that is no good', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  const code = { 'Idempotency-Key': 'validation_length_out_of_range' };
  for (const key of ['', 'k'.repeat(256)]) {
    assertProblems(await api.post(url(), { title: 'a' }, withKey(key)), code);
    assertProblems(await api.remove(url('x'), withKey(key)), code);
  }
  assert.equal(await total(api), 0);
  assert.equal((await api.post(url(), {}, withKey('k'.repeat(255)))).status, 200);
});

test('a retry shows the record as it is, to who may view it', async (t) => {
  const api = await operator(t);
  const { id: collectionId } = await api.define({ ...posts, viewRule: null, listRule: null });
  const options = withKey(randomUUID(), guest);
  const body = { id: 'retrypost000001', title: 'mine', views: 1 };
  const send = () => api.post(url(), body, options);
  const first = await send();
  assert.equal(first.status, 200, first.text);
  assert.deepEqual((await send()).body, first.body, 'unchanged, it is what they wrote');

  const known = { collectionId, collectionName: 'posts', id: body.id };
  await api.patch(url(body.id), { title: 'what another wrote' });
  const unseen = await send();
  assert.equal(unseen.status, 200);
  assert.deepEqual(unseen.body, known);

  await api.patch('/api/collections/posts', { viewRule: 'views = 1' });
  assert.equal((await send()).body.title, 'what another wrote');
  await api.patch(url(body.id), { views: 2 });
  assert.deepEqual((await send()).body, known);
  await api.remove(url(body.id));
  assert.deepEqual((await send()).body, known);
  await api.post(url(), { ...body, title: 'of another' });
  assert.deepEqual((await send()).body, { ...known, title: 'of another', views: 1 });
});

test('a batch is sent again as a whole', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  await api.patch('/api/settings', { batch: { enabled: true } });
  const old = await api.create('posts', { title: 'old', views: 1 });
  const requests = [
    { method: 'POST', url: url(), body: { title: 'new' } },
    { method: 'PATCH', url: `${url(old.id)}?fields=views`, body: { 'views+': 1 } },
    { method: 'PUT', url: url(), body: { id: 'retryput0000001', title: 'put' } },
    { method: 'POST', url: url(), body: { id: 'retrygone000001' } },
    { method: 'DELETE', url: url('retrygone000001') },
  ];
  const key = randomUUID();
  const send = (body = { requests }) => api.post('/api/batch', body, withKey(key));
  const first = await send();
  assert.equal(first.status, 200, first.text);
  const again = await send();
  assert.equal(isReplayed(again), true);
  assert.equal(again.status, 200, again.text);
  assert.deepEqual(
    again.body.map(({ status }) => status),
    [200, 200, 200, 200, 204],
  );
  assert.deepEqual(again.body.slice(0, 3), first.body.slice(0, 3));
  const known = ['collectionId', 'collectionName', 'id'];
  assert.deepEqual(Object.keys(again.body[3].body).sort(), known);
  assert.equal(again.body[4].body, null);
  assert.equal(await total(api), 3);
  assert.equal((await api.get(url(old.id))).body.views, 2);
  assert.equal((await send({ requests: requests.slice(1) })).status, 422);
});

test('retries at the same time are one', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  const options = withKey(randomUUID());
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => api.post(url(), { title: 'a' }, options)),
  );
  for (const answer of answers) assert.equal(answer.status, 200, answer.text);
  assert.equal(new Set(answers.map(({ body }) => body.id)).size, 1);
  assert.equal(answers.filter(isReplayed).length, 19);
  assert.equal(await total(api), 1);
});

test('a form counts by what is in it, not by its boundary', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  const key = randomUUID();
  const send = async (title) => {
    const body = new FormData();
    body.append('title', title);
    const headers = { 'idempotency-key': key, authorization: api.token };
    return fetch(api.server.url + url(), { method: 'POST', headers, body });
  };
  assert.equal((await send('a')).status, 200);
  const again = await send('a');
  assert.equal(again.status, 200);
  assert.equal(isReplayed(again), true);
  assert.equal((await send('b')).status, 422);
});

test('a body cannot be found out from what is kept of it, by who does not know the key', async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, posts);
  const key = randomUUID();
  const body = { title: 'a word like 12345678' };
  const options = { token, headers: { 'idempotency-key': key } };
  assert.equal((await server.request('POST', url(), body, options)).status, 200);
  await server.stop();
  const kept = [];
  const read = async (path) => {
    for (const entry of await readdir(path, { withFileTypes: true }))
      if (entry.isDirectory()) await read(join(path, entry.name));
      else if (entry.isFile()) kept.push(await readFile(join(path, entry.name), 'latin1'));
  };
  await read(folder);
  const part = (text) => `${text.length}:${text}`;
  const digest = (text) => createHash('sha256').update(text).digest('hex');
  const text = part(JSON.stringify(body));
  const isKept = (what) => kept.some((file) => file.includes(digest(what)));
  assert.ok(isKept(part(key) + text));
  assert.ok(!isKept(text));
});

test('retries are one through kill -9', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, posts);
  const { id } = (await server.request('POST', url(), { views: 0 }, { token })).body;
  let wanted = 0;
  for (let round = 0; round < 3; round++) {
    const keys = Array.from({ length: 30 }, () => randomUUID());
    const send = async (key) => {
      const options = { token, headers: { 'idempotency-key': key } };
      const made = await server.request('POST', url(), { title: key }, options);
      const added = await server.request('PATCH', url(id), { 'views+': 1 }, options);
      return made.status === 200 && added.status === 200;
    };
    const sent = keys.map((key) => send(key).catch(() => false));
    await new Promise((resolve) => setTimeout(resolve, 10 + 15 * round));
    await server.stop('SIGKILL');
    await Promise.all(sent);
    server = await startServer(t, { folder });
    for (const key of keys) assert.ok(await send(key), 'the client never gives up');
    wanted += keys.length;
  }
  const all = await listAll(server, token, 'posts');
  const titles = all.map(({ title }) => title).filter(Boolean);
  assert.equal(titles.length, wanted);
  assert.equal(new Set(titles).size, wanted);
  assert.equal(all.find((each) => each.id === id).views, wanted);
});
