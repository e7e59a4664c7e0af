/**
 * Headers of an endpoint's own, which are a token of the receiver's more often than not: they are sent, and
 * nobody is shown them again, in an answer, an event, the log, the database or a backup.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { open } from './support/records.mjs';
import { eventually } from './support/smtp.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';
import { ALLOW, createWebhook, startReceiver, untilDelivered } from './support/webhooks.mjs';

const execute = promisify(execFile);
const HOOKS = '/api/webhooks';
const KEPT = '********';
const TOKEN = 'Bearer a-token-of-theirs';

/** Of a database that nobody has open: as the version before headers were sealed left it. */
const BEFORE = `
import json, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute('UPDATE _webhooks SET headers = ? WHERE id = ?',
                 (json.dumps({'Authorization': sys.argv[3], 'X-Shop': 'a-shop-of-theirs'}), sys.argv[2]))
for column in ('headers', 'opens', 'probeAt', 'pausedUntil'):
    database.execute(f'ALTER TABLE _webhookStates DROP COLUMN {column}')
database.execute("DELETE FROM _migrations WHERE name IN ('webhooks_2_breakers', 'webhooks_3_headers')")
database.commit()
`;

/** All bytes of all files under a folder. */
async function bytesOf(folder) {
  const parts = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) parts.push(await bytesOf(path));
    else if (entry.isFile()) parts.push(await readFile(path));
  }
  return Buffer.concat(parts);
}

async function world(t, options = {}) {
  const api = await operator(t, { args: ALLOW, ...options });
  await api.define({ name: 'posts', ...open, fields: [{ name: 'title', type: 'text' }] });
  const receiver = await startReceiver(t);
  const make = (body) => createWebhook(api.server, api.token, { url: receiver.url, types: ['posts.*'], ...body });
  return { ...api, receiver, make };
}

test('headers are sent, and only their names are shown again', async (t) => {
  const { server, token, create, get, patch, receiver, make } = await world(t);
  const made = await make({ headers: { Authorization: TOKEN, 'X-Shop': 'a-shop-of-theirs' } });
  const path = `${HOOKS}/${made.id}`;
  assert.deepEqual(made.headers, { Authorization: KEPT, 'X-Shop': KEPT });
  await create('posts', { title: 'one' });
  await untilDelivered(server, token, made.id, 1);
  assert.equal(receiver.deliveries[0].headers.authorization, TOKEN);
  assert.equal(receiver.deliveries[0].headers['x-shop'], 'a-shop-of-theirs');

  const { headers } = (await get(path)).body;
  assert.deepEqual(headers, made.headers);
  const changed = await patch(path, { headers: { ...headers, 'X-New': 'another-of-theirs' } });
  assert.deepEqual(changed.body.headers, { ...headers, 'X-New': KEPT });
  await create('posts', { title: 'two' });
  await untilDelivered(server, token, made.id, 2);
  assert.equal(receiver.deliveries[1].headers.authorization, TOKEN, 'what was shown stays');
  assert.equal(receiver.deliveries[1].headers['x-new'], 'another-of-theirs');

  await patch(path, { headers: { authorization: KEPT, 'X-New': 'changed-by-them' }, description: 'x' });
  await create('posts', { title: 'three' });
  await untilDelivered(server, token, made.id, 3);
  const last = receiver.deliveries[2].headers;
  assert.deepEqual([last.authorization, last['x-shop'], last['x-new']], [TOKEN, undefined, 'changed-by-them']);
  await patch(path, { description: 'nothing about headers' });
  await create('posts', { title: 'four' });
  await untilDelivered(server, token, made.id, 4);
  assert.equal(receiver.deliveries[3].headers.authorization, TOKEN);

  const texts = [
    await get(path),
    await get(HOOKS),
    await get('/api/collections/_webhooks/records'),
    await get('/api/events?types=_*&limit=1000'),
    await get('/api/events?types=*&limit=1000'),
    await get('/api/logs?perPage=500'),
  ].map(({ text }) => text);
  for (const text of [...texts, server.log.join('\n')]) assert.doesNotMatch(text, /of-theirs|by-them/);
});

test('what is kept has to be there, and goes to nobody else', async (t) => {
  const { post, get, patch, receiver, make } = await world(t);
  const none = await post(HOOKS, { url: receiver.url, types: ['posts.*'], headers: { 'X-Shop': KEPT } });
  assertProblems(none, { headers: 'validation_invalid_header' });
  const { id } = await make({ headers: { Authorization: TOKEN } });
  const path = `${HOOKS}/${id}`;
  const other = await patch(path, { headers: { Authorization: KEPT, 'X-Shop': KEPT } });
  assertProblems(other, { headers: 'validation_invalid_header' });
  assert.match(other.body.data.headers.message, /"X-Shop".*stands for/);

  const elsewhere = await startReceiver(t);
  for (const body of [
    { url: elsewhere.url },
    { url: elsewhere.url, headers: { Authorization: KEPT } },
    { url: elsewhere.url, headers: { Authorization: KEPT, 'X-Shop': 'new' } },
  ])
    assertProblems(await patch(path, body), { headers: 'validation_required' });
  assert.equal((await get(path)).body.url, receiver.url, 'nothing of it was taken');
  assert.equal((await patch(path, { url: `${receiver.url}/other` })).status, 200, 'the same host');
  assert.equal((await patch(path, { url: elsewhere.url, headers: { Authorization: 'theirs' } })).status, 200);
  assert.equal((await patch(path, { url: receiver.url, headers: {} })).status, 200);
  assert.deepEqual((await get(path)).body.headers, {});
  assert.equal((await patch(path, { url: elsewhere.url })).status, 200, 'there is nothing to keep');
});

test('the database and its backups have headers sealed', async (t) => {
  const { server, post, make } = await world(t);
  await make({ headers: { Authorization: TOKEN } });
  assert.ok([200, 204].includes((await post('/api/backups', {})).status));
  const backups = join(server.data, 'tenants/default/backups');
  await eventually('a backup', async () => (await readdir(backups).catch(() => [])).some((name) => /zip$/.test(name)));
  await server.stop();
  assert.ok(!(await bytesOf(server.data)).includes('a-token-of-theirs'));
});

test('what an earlier version left in the clear is sealed at the next start', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, token, receiver, make } = await world(t, { folder });
  const { id } = await make({ headers: { Authorization: 'x' } });
  await server.stop();
  const file = join(server.data, 'tenants/default/data.db');
  await execute('python3', ['-c', BEFORE, file, id, TOKEN]);
  assert.ok((await bytesOf(server.data)).includes('a-token-of-theirs'), 'it is in the clear');

  const again = await startServer(t, { folder, args: ALLOW });
  const shown = await eventually('the webhook is shown', async () => {
    const answer = await again.request('GET', `${HOOKS}/${id}`, undefined, { token });
    assert.doesNotMatch(answer.text, /of-theirs/);
    if (answer.status === 503) assert.ok(answer.headers.get('retry-after'));
    return answer.status === 200 && answer.body;
  });
  assert.deepEqual(shown.headers, { Authorization: KEPT, 'X-Shop': KEPT });
  assert.equal((await again.logged('webhook_headers_sealed')).tenant, 'default');
  await again.request('POST', '/api/collections/posts/records', { title: 'after' }, { token });
  await untilDelivered(again, token, id, 1);
  assert.equal(receiver.deliveries[0].headers.authorization, TOKEN, 'it is the same as before');
  await again.stop();
  assert.ok(!(await bytesOf(server.data)).includes('of-theirs'));
});

test('they are sealed though nothing else of the webhook can be read', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, make } = await world(t, { folder });
  const { id } = await make({ headers: { Authorization: 'x' } });
  await server.stop();
  const file = join(server.data, 'tenants/default/data.db');
  await execute('python3', ['-c', BEFORE.replace('database.commit()', `database.execute("UPDATE _webhooks SET filter = '(('")
database.commit()`), file, id, TOKEN]);
  await rm(join(server.data, 'instance.key'));

  const again = await startServer(t, { folder, args: ALLOW });
  assert.equal((await again.logged('webhook_headers_sealed')).tenant, 'default');
  const answer = await again.request('GET', `${HOOKS}/${id}`, undefined, { token: await signIn(again) });
  assert.deepEqual(answer.body.headers, { Authorization: KEPT, 'X-Shop': KEPT });
  await again.stop();
  assert.ok(!(await bytesOf(server.data)).includes('of-theirs'));
});

test('with another instance key nothing is sent until headers are said again', async (t) => {
  const folder = await temporaryFolder(t);
  const { server, receiver, make } = await world(t, { folder });
  const { id } = await make({ headers: { Authorization: TOKEN } });
  const path = `${HOOKS}/${id}`;
  await server.stop();
  await rm(join(server.data, 'instance.key'));

  const again = await startServer(t, { folder, args: ALLOW });
  const token = await signIn(again);
  const ask = (method, target, body) => again.request(method, target, body, { token });
  await ask('POST', '/api/collections/posts/records', { title: 'one' });
  assert.equal((await ask('POST', `${path}/rotate`, {})).status, 200);
  await ask('POST', '/api/collections/posts/records', { title: 'two' });
  const stats = (await ask('GET', `${path}/stats`)).body;
  assert.match(stats.problem, /headers.*instance key.*PATCH/);
  assert.ok(stats.backlog >= 2, JSON.stringify(stats));
  assertRefused(await ask('POST', `${path}/test`), 409);
  const metrics = (await ask('GET', '/metrics')).text;
  assert.match(metrics, /\nbakend_webhooks{state="without_secret"} 1\n/);
  const backlog = new RegExp(`bakend_webhook_backlog_events{tenant="default",webhook="${id}"} (\\d+)\n`);
  assert.ok(Number(backlog.exec(metrics)[1]) >= 2, 'what waits is told there, too');
  assertRefused(await ask('PATCH', path, { headers: { Authorization: KEPT } }), 409);
  assert.equal(receiver.deliveries.length, 0, 'nothing is sent without them');

  assert.equal((await ask('PATCH', path, { headers: { Authorization: 'another' } })).status, 200);
  await untilDelivered(again, token, id, 2);
  assert.deepEqual(receiver.deliveries.map(({ headers }) => headers.authorization), ['another', 'another']);
  assert.equal((await ask('GET', `${path}/stats`)).body.problem, '');
});
