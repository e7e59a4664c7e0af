/** POST /api/batch: several changes of records, all or none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { readFeed } from './support/feed.mjs';
import { operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, listAll, open, recordsPath } from './support/records.mjs';
import { createSuperuser, email, operatorToken, password, signIn } from './support/superuser.mjs';

const posts = {
  name: 'posts',
  ...open,
  fields: [
    { name: 'title', type: 'text', required: true },
    { name: 'views', type: 'number' },
  ],
};
const url = (id) => recordsPath('posts', id);
const one = (method, path, body) => ({ method, url: path, body });

async function allow(api, batch = {}) {
  const answer = await api.patch('/api/settings', { batch: { enabled: true, ...batch } });
  assert.equal(answer.status, 200, answer.text);
}

const send = (api, requests, options) => api.post('/api/batch', { requests }, options);

/** The error of the part that failed. */
function failure(answer, index) {
  assert.equal(answer.status, 400, answer.text);
  assert.equal(answer.body.message, 'Batch transaction failed.');
  const { code, message, response } = answer.body.data.requests[index];
  assert.deepEqual(Object.keys(answer.body.data.requests), [`${index}`]);
  assert.equal(code, 'batch_request_failed');
  assert.equal(message, 'Batch request failed.');
  assert.deepEqual(Object.keys(response).sort(), ['data', 'message', 'status']);
  return response;
}

async function commits(api) {
  const { text } = await api.get('/metrics');
  return Number(/^bakend_store_commits_total (\d+)/m.exec(text)[1]);
}

test('a batch is refused until the settings allow it', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  const requests = [one('POST', url(), { title: 'a' })];
  const refused = await send(api, requests);
  assert.equal(refused.status, 403, refused.text);
  assert.equal(refused.body.message, 'Batch requests are not allowed.');
  await allow(api);
  assert.equal((await send(api, requests)).status, 200);
});

test('the stock client makes, changes, upserts and deletes in one go', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  await allow(api);
  const old = await api.create('posts', { title: 'old', views: 1 });
  const gone = await api.create('posts', { title: 'gone' });
  const client = new PocketBase(api.server.url);
  const batch = client.createBatch();
  batch.collection('posts').create({ id: 'batchpost000001', title: 'new' });
  batch.collection('posts').update(old.id, { 'views+': 2 }, { fields: 'id,views' });
  batch.collection('posts').upsert({ id: 'batchpost000001', title: 'again' });
  batch.collection('posts').upsert({ id: 'batchpost000002', title: 'made' });
  batch.collection('posts').upsert({ title: 'without an id' });
  batch.collection('posts').delete(gone.id);
  const results = await batch.send();
  assert.deepEqual(
    results.map(({ status }) => status),
    [200, 200, 200, 200, 200, 204],
  );
  assert.equal(results[0].body.title, 'new');
  assert.deepEqual(results[1].body, { id: old.id, views: 3 });
  assert.equal(results[2].body.title, 'again');
  assert.equal(results[4].body.id.length, 15);
  assert.equal(results[5].body, null);
  const titles = (await api.get(`${url()}?sort=title`)).body.items.map(({ title }) => title);
  assert.deepEqual(titles, ['again', 'made', 'old', 'without an id']);
});

test('a batch is one commit, and its events follow each other', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  await allow(api);
  const requests = Array.from({ length: 50 }, (_, i) => one('POST', url(), { title: `t${i}` }));
  let next;
  let answer;
  let fewest = Infinity; // the figure is of all tenants: now and then another one commits, too
  for (let i = 0; i < 5 && fewest > 1; i++) {
    ({ next } = await readFeed(api.server, api.token));
    const before = await commits(api);
    answer = await send(api, requests);
    assert.equal(answer.status, 200, answer.text);
    fewest = Math.min(fewest, (await commits(api)) - before);
  }
  assert.equal(fewest, 1);
  const { events } = await readFeed(api.server, api.token, { after: next });
  assert.deepEqual(
    events.map(({ type, subject, payload }) => [type, subject, payload.title]),
    answer.body.map(({ body }, i) => ['posts.created', `posts/${body.id}`, `t${i}`]),
  );
});

test('what fails takes all of it back, and leaves no event', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  await api.define({ name: 'closed', fields: [{ name: 'x', type: 'text' }] });
  await allow(api);
  const kept = await api.create('posts', { id: 'batchkept000001', title: 'keep' });
  const { next } = await readFeed(api.server, api.token);
  const cases = [
    [one('POST', url(), {}), 400, { title: 'validation_required' }],
    [one('POST', url(), { id: kept.id, title: 'x' }), 400, { id: 'validation_not_unique' }],
    [one('PATCH', url('nope'), { title: 'x' }), 404, {}],
    [one('DELETE', url('nope')), 404, {}],
    [one('POST', recordsPath('nothing'), { title: 'x' }), 404, {}],
    [one('GET', url(), {}), 400, {}],
    [one('POST', '/api/collections', {}), 400, {}],
    [one('POST', url('a/b'), {}), 400, {}],
  ];
  for (const [request, status, codes] of cases) {
    const answer = await send(api, [
      one('POST', url(), { title: 'undone' }),
      one('PATCH', url(kept.id), { title: 'undone' }),
      request,
      one('DELETE', url(kept.id)),
      one('POST', url(), {}),
    ]);
    const response = failure(answer, 2);
    assert.equal(response.status, status, answer.text);
    const found = Object.entries(response.data).map(([field, { code }]) => [field, code]);
    assert.deepEqual(Object.fromEntries(found), codes, answer.text);
  }
  const client = new PocketBase(api.server.url);
  const batch = client.createBatch();
  batch.collection('posts').create({ title: 'undone' });
  batch.collection('closed').create({ x: 'y' });
  const error = await batch.send().catch((reason) => reason);
  assert.equal(error.response.data.requests['1'].response.status, 403);
  assert.deepEqual(
    (await api.get(url())).body.items.map(({ id, title }) => [id, title]),
    [[kept.id, 'keep']],
  );
  assert.deepEqual((await readFeed(api.server, api.token, { after: next })).events, []);
});

test('a part sees what those before it did', async (t) => {
  const api = await operator(t);
  const { id } = await api.define(posts);
  await api.define({
    name: 'comments',
    ...open,
    createRule: 'post.title = "parent" && @request.context = "batch"',
    fields: [{ name: 'post', type: 'relation', collectionId: id, maxSelect: 1 }],
  });
  await allow(api);
  const comment = one('POST', recordsPath('comments'), { post: 'batchparent0001' });
  const parent = one('POST', url(), { id: 'batchparent0001', title: 'parent' });
  const anyone = { token: undefined };
  assert.equal(failure(await send(api, [comment, parent], anyone), 0).status, 400);
  const answer = await send(api, [parent, comment], anyone);
  assert.equal(answer.status, 200, answer.text);
  const alone = await api.post(recordsPath('comments'), comment.body, anyone);
  assert.equal(alone.status, 400, 'the context of a request of its own is another');
});

test('rules are asked with method, query, headers and body of the part', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  await allow(api);
  const rules = {
    '@request.method = "PATCH"': [one('PATCH', url('batchrule000001'), { views: 1 }), 200],
    '@request.method = "PATCH" && id != ""': [one('PUT', url(), { id: 'batchrule000001' }), 200],
    '@request.query.key = "open"': [one('PATCH', `${url('batchrule000001')}?key=open`, {}), 200],
    '@request.query.key = "shut"': [one('PATCH', `${url('batchrule000001')}?key=open`, {}), 404],
    '@request.headers.x_key = "part"': [
      { ...one('PATCH', url('batchrule000001'), {}), headers: { 'X-Key': 'part' } },
      200,
    ],
    '@request.headers.x_key = "whole"': [one('PATCH', url('batchrule000001'), {}), 200],
    '@request.body.views = 7': [one('PATCH', url('batchrule000001'), { 'views+': 2 }), 200],
    '@request.body.views = 5': [one('PATCH', url('batchrule000001'), { 'views+': 2 }), 404],
    '@request.auth.id != ""': [
      { ...one('PATCH', url('batchrule000001'), {}), headers: { Authorization: api.token } },
      404,
    ],
  };
  await api.create('posts', { id: 'batchrule000001', title: 'x' });
  for (const [rule, [request, status]] of Object.entries(rules)) {
    await api.patch('/api/collections/posts', { updateRule: rule });
    await api.patch(url('batchrule000001'), { views: 5 });
    const headers = { 'x-key': 'whole' };
    const answer = await send(api, [request], { token: undefined, headers });
    assert.equal(status === 200 ? answer.status : failure(answer, 0).status, status, rule);
  }
});

test('an upsert is asked the rule of what it turns out to be', async (t) => {
  const api = await operator(t);
  await api.define({ ...posts, createRule: '@request.body.title = "make"', updateRule: null });
  await allow(api);
  const put = (body) => send(api, [one('PUT', url(), body)], { token: undefined });
  const id = 'batchupsert0001';
  assert.equal(failure(await put({ id, title: 'no' }), 0).status, 400);
  assert.equal((await put({ id, title: 'make' })).status, 200);
  assert.equal(failure(await put({ id, title: 'make' }), 0).status, 403);
  await api.patch('/api/collections/posts', { updateRule: 'views = 0 && title = "make"' });
  const changed = await put({ id, title: 'changed', 'views+': 4 });
  assert.equal(changed.status, 200, changed.text);
  assert.equal(changed.body[0].body.views, 4);
  assert.equal(failure(await put({ id, title: 'changed' }), 0).status, 404);
});

test('the form of a batch', async (t) => {
  const api = await operator(t);
  await api.define(posts);
  await allow(api, { maxRequests: 3 });
  const problems = async (body, codes) => {
    const answer = await api.post('/api/batch', body);
    assert.equal(answer.status, 400, answer.text);
    assert.equal(answer.body.message, 'Invalid batch request data.');
    assert.deepEqual(answer.body.data, codes, answer.text);
  };
  const blank = { code: 'validation_required', message: 'Cannot be blank.' };
  await problems({}, { requests: blank });
  await problems({ requests: [] }, { requests: blank });
  await problems({ requests: null }, { requests: blank });
  await problems({ requests: [{}] }, { requests: { 0: { method: blank, url: blank } } });
  await problems(
    { requests: [one('POST', url(), {}), one('post', url(), {})] },
    {
      requests: {
        1: { method: { code: 'validation_in_invalid', message: 'Must be a valid value.' } },
      },
    },
  );
  const tooLong = (max) => ({
    code: 'validation_length_too_long',
    message: `The length must be no more than ${max}.`,
    params: { max, min: 0 },
  });
  const many = Array.from({ length: 4 }, () => one('POST', url(), { title: 'x' }));
  await problems({ requests: many }, { requests: tooLong(3) });
  await problems(
    { requests: [one('POST', `${url()}?${'x'.repeat(2000)}`, {})] },
    { requests: { 0: { url: tooLong(2000) } } },
  );
  for (const requests of [{}, 'x', 1, [1], [null], [one('POST', url(), 'x')], [one('POST', 1)]]) {
    const answer = await api.post('/api/batch', { requests });
    assert.equal(answer.status, 400, answer.text);
    assert.equal(answer.body.message, 'Failed to read the submitted batch data.');
  }
  await allow(api, { maxRequests: 3, maxBodySize: 300 });
  const large = await send(api, [one('POST', url(), { title: 'x'.repeat(400) })]);
  assert.equal(large.status, 413, large.text);
  assert.equal((await api.get(`${url()}?perPage=1`)).body.totalItems, 0);
});

test('passwords in a batch are hashed, each in its turn', async (t) => {
  const api = await operator(t);
  await api.define({ name: 'people', type: 'auth', ...open });
  await allow(api);
  const secret = 'correct horse 1';
  const person = (i, passwordConfirm = secret) =>
    one('POST', recordsPath('people'), {
      email: `p${i}@example.com`,
      password: secret,
      passwordConfirm,
    });
  const wrong = await send(api, [person(0), person(1), person(2, 'other')], { token: undefined });
  assert.deepEqual(Object.keys(failure(wrong, 2).data), ['passwordConfirm']);
  const answer = await send(
    api,
    Array.from({ length: 10 }, (_, i) => person(i)),
    { token: undefined },
  );
  assert.equal(answer.status, 200, answer.text);
  assert.ok(answer.body.every(({ body }) => !('email' in body) && !('password' in body)));
  const client = new PocketBase(api.server.url);
  const { record } = await client.collection('people').authWithPassword('p7@example.com', secret);
  assert.equal(record.id, answer.body[7].body.id);
});

test('batches are whole or not there through kill -9', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const token = await operatorToken(server);
  await createCollection(server, token, posts);
  const on = { batch: { enabled: true } };
  assert.equal((await server.request('PATCH', '/api/settings', on, { token })).status, 200);
  const size = 20,
    acknowledged = new Set();
  let number = 0;
  for (let round = 0; round < 4; round++) {
    let isOver = false;
    const writers = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        const name = `b${number++}`;
        const requests = Array.from({ length: size }, () => one('POST', url(), { title: name }));
        const answer = await server
          .request('POST', '/api/batch', { requests }, { token })
          .catch(() => null);
        if (answer?.status === 200) acknowledged.add(name);
      }
    });
    await new Promise((resolve) => setTimeout(resolve, 150 + 100 * round));
    await server.stop('SIGKILL');
    isOver = true;
    await Promise.all(writers);
    server = await startServer(t, { folder });
  }
  const counts = new Map();
  for (const { title } of await listAll(server, token, 'posts'))
    counts.set(title, (counts.get(title) ?? 0) + 1);
  for (const [name, count] of counts) assert.equal(count, size, `${name} is torn`);
  for (const name of acknowledged) assert.ok(counts.has(name), `${name} is lost`);
  assert.ok(acknowledged.size > 0);
  const { events } = await readFeed(server, token, { query: '&types=posts.created' });
  assert.equal(events.length, counts.size * size);
  t.diagnostic(`${acknowledged.size} batches were acknowledged, ${counts.size} are there`);
});

test('a batch belongs to its tenant', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  const made = await server.request('POST', '/api/tenants', { name: 'acme' }, { token });
  assert.ok(made.status < 300, made.text);
  await createSuperuser(server, { tenant: 'acme', email, password });
  const theirs = await signIn(server, { tenant: 'acme', email, password });
  for (const who of [token, theirs]) {
    await createCollection(server, who, posts);
    const on = { batch: { enabled: true } };
    assert.equal((await server.request('PATCH', '/api/settings', on, { token: who })).status, 200);
  }
  const requests = [one('POST', url(), { title: 'theirs' })];
  const answer = await server.request('POST', '/api/batch', { requests }, { token: theirs });
  assert.equal(answer.status, 200, answer.text);
  const path = `${url()}?perPage=1`;
  assert.equal((await server.request('GET', path, undefined, { token })).body.totalItems, 0);
  const own = await server.request('GET', path, undefined, { token: theirs });
  assert.equal(own.body.totalItems, 1);
});
