/**
 * API keys: made once, shown once, good for what their scopes name; and doors that close when what
 * somebody came in with is over: WebSockets, event streams, streams of the feed, long polls.
 */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import http from 'node:http';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EventSource } from 'eventsource';
import PocketBase from 'pocketbase';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { run, runWell } from './support/program.mjs';
import { Listener } from './support/realtime.mjs';
import { recordsPath } from './support/records.mjs';
import { signIn } from './support/superuser.mjs';

globalThis.EventSource ??= EventSource;

const KEYS = '/api/api-keys';
const PASSWORD = 'correct horse 42';
const TOKEN_CODE = 4501;
/** What is meant to end at once: a stream looks at its token by itself after 15 seconds, a poll after 50. */
const PATIENCE_MS = 12_000;

async function until(condition, what) {
  for (const end = Date.now() + PATIENCE_MS; !(await condition()); await sleep(10))
    assert.ok(Date.now() < end, `not in time: ${what}`);
}

/** The code of a connection that is closed without being asked, soon. */
async function closing(socket, what) {
  await until(() => socket.code !== null, `${what}: the WebSocket is closed`);
  return socket.code;
}

/** One server for all: what each test needs of its own it makes. */
const checks = [];
const check = (name, body) => checks.push([name, body]);

/** An operator at it, collections that rules show to nobody, and a record of one. */
async function world(t) {
  const api = await operator(t);
  const fields = [
    { name: 'title', type: 'text' },
    { name: 'secret', type: 'text', hidden: true },
  ];
  for (const name of ['notes', 'drafts']) await api.define({ name, fields });
  let made = 0;
  const key = async (scopes, more = {}) => {
    made += 1;
    const answer = await api.post(KEYS, { name: `key ${made}`, scopes, ...more });
    assert.equal(answer.status, 200, answer.text);
    return answer.body;
  };
  const as = (token) => (method, path, body, options) =>
    api.server.request(method, path, body, { token, ...options });
  const note = async () => (await api.create('notes', { title: 'a', secret: 'hush' })).id;
  return { ...api, note, key, as };
}

async function addUser(api, email) {
  const secret = { password: PASSWORD, passwordConfirm: PASSWORD };
  return api.create('users', { email, ...secret });
}

async function signInUser(api, email, password = PASSWORD) {
  const path = '/api/collections/users/auth-with-password';
  const answer = await api.server.request('POST', path, { identity: email, password });
  assert.equal(answer.status, 200, answer.text);
  return answer.body.token;
}

/** An answer that does not end by itself. */
class Stream {
  text = '';
  isEnded = false;

  static open(server, path, { token, accept = 'text/event-stream' } = {}) {
    const stream = new Stream();
    return new Promise((resolve, reject) => {
      const headers = { accept, ...(token ? { authorization: token } : {}) };
      stream.request = http.get(`${server.url}${path}`, { headers, agent: false });
      stream.request.on('error', reject);
      stream.request.on('response', (answer) => {
        answer.setEncoding('utf8').on('data', (text) => (stream.text += text));
        answer.on('error', () => {}).on('close', () => (stream.isEnded = true));
        stream.status = answer.statusCode;
        resolve(stream);
      });
    });
  }

  async ended(what) {
    await until(() => this.isEnded, what);
    return this.text;
  }
}

/** An event stream of realtime with subscriptions. */
async function subscribed(server, token, subscriptions) {
  const stream = await Stream.open(server, '/api/realtime', { token });
  await until(() => /"clientId":"([^"]+)"/.test(stream.text), 'the stream says who it is');
  const [, clientId] = /"clientId":"([^"]+)"/.exec(stream.text);
  const answer = await server.request('POST', '/api/realtime', { clientId, subscriptions }, { token });
  assert.equal(answer.status, 204, answer.text);
  return stream;
}

check('a key is shown once, and kept as a hash', async (api) => {
  const made = await api.post(KEYS, { name: 'importer', scopes: ['records:read', 'events:*'] });
  assert.equal(made.status, 200, made.text);
  assert.match(made.headers.get('cache-control'), /no-store/);
  const { key, ...record } = made.body;
  assert.match(key, /^bk_default_[A-Za-z0-9]{40}$/);
  assert.ok(key.startsWith(record.prefix) && record.prefix.length === 'bk_default_'.length + 6);
  assert.deepEqual(record.scopes, ['records:read', 'events:*']);
  assert.match(record.createdBy, /^_superusers\//);
  assert.equal(record.expires, '');
  assert.equal((await api.as(key)('GET', recordsPath('notes'))).status, 200);
  const rotated = await api.post(`${KEYS}/importer/rotate`);
  assert.equal(rotated.status, 200, rotated.text);

  const shown = [];
  for (const path of [KEYS, `${KEYS}/importer`, `${KEYS}/${record.id}`, '/api/logs?perPage=500',
    recordsPath('_apiKeys'), '/api/events?types=*,_*&limit=1000', '/api/collections?system=all',
    '/api/collections/_apiKeys/snapshot']) {
    const answer = await api.get(path);
    assert.equal(answer.status, 200, `${path}: ${answer.text}`);
    shown.push(answer.text);
  }
  shown.push(api.server.log.join('\n'));
  const tenant = join(api.server.data, 'tenants', 'default');
  for (const name of await readdir(tenant, { recursive: true }))
    shown.push(await readFile(join(tenant, name), 'latin1').catch(() => ''));
  for (const text of shown)
    for (const each of [key, rotated.body.key])
      assert.ok(!text.includes(each.slice(-34)), 'what is behind the prefix is nowhere');
  const events = JSON.parse(shown[5]).events.filter(({ type }) => type.startsWith('_apiKeys.'));
  assert.deepEqual(events.map(({ type, actor }) => [type, actor]), [
    ['_apiKeys.created', record.createdBy],
    ['_apiKeys.updated', record.createdBy],
  ]);
  for (const text of shown.slice(0, 8)) assert.ok(!/[0-9a-f]{64}/.test(text), 'nor its hash');
});

check('what a key may be like, and who may make one', async (api) => {
  const make = (body) => api.post(KEYS, body);
  const scopes = ['records:read'];
  assertProblems(await make({ name: 'a' }), { scopes: 'validation_required' });
  assertProblems(await make({ scopes }), { name: 'validation_required' });
  assertProblems(await make({ name: 'a', scopes: [] }), { scopes: 'validation_invalid_scopes' });
  for (const wrong of ['records:rea', 'record:*', '*', 'records:read:nothing', 'records:read:_superusers', ''])
    assertProblems(await make({ name: 'a', scopes: [...scopes, wrong] }), { scopes: 'validation_unknown_scope' });
  assert.match((await make({ name: 'a', scopes: ['x'] })).body.data.scopes.message, /records:read .*events:read/);
  assertProblems(await make({ name: 'a', scopes, expires: 'soon' }), { expires: 'validation_invalid_date' });
  assertProblems(await make({ name: 'a', scopes, expires: '2001-01-01' }), { expires: 'validation_date_in_past' });
  /* A slip, and what is the server's to say. */
  for (const name of ['expiry', 'lastUsed', 'createdBy', 'prefix', 'hash'])
    assertProblems(await make({ name: 'a', scopes, [name]: 'x' }), { [name]: 'validation_unknown_name' });
  assert.equal((await make({ name: 'a', scopes: ['records:read:notes', 'tenants:read'] })).status, 200);
  const taken = await make({ name: 'a', scopes });
  assertProblems(taken, { name: 'validation_not_unique' }, 'The API key cannot be like this.');
  assert.match(taken.body.data.name.message, /an API key of this name: rotate or delete it/);
  for (const body of [{}, { name: ' ', scopes: [] }])
    assert.deepEqual(Object.keys((await make(body)).body.data).sort(), ['name', 'scopes'], 'all in one round');
  /* No answer with a key is given twice. */
  const retry = { headers: { 'idempotency-key': 'once' } };
  const [first, second] = [
    await api.post(KEYS, { name: 'retried', scopes }, retry),
    await api.post(KEYS, { name: 'retried', scopes }, retry),
  ];
  assert.equal(first.status, 200, first.text);
  assertProblems(second, { name: 'validation_not_unique' });

  const all = (await make({ name: 'all', scopes: ['records:*', 'tenants:*', 'events:*', 'work:*'] })).body;
  await addUser(api, 'ann@example.com');
  const user = await signInUser(api, 'ann@example.com');
  for (const [token, status] of [[undefined, 401], [user, 403], [all.key, 403]]) {
    const ask = api.as(token);
    assertRefused(await ask('POST', KEYS, { name: 'b', scopes }), status);
    for (const [method, path] of [['GET', KEYS], ['GET', `${KEYS}/all`], ['PATCH', `${KEYS}/all`],
      ['DELETE', `${KEYS}/all`], ['POST', `${KEYS}/all/rotate`]])
      assertRefused(await ask(method, path, method === 'GET' ? undefined : {}), status);
    assert.equal((await ask('GET', recordsPath('_apiKeys'))).status, 403);
  }
  /* Its records are changed through these routes alone, by superusers too. */
  assert.equal((await api.patch(recordsPath('_apiKeys', all.id), { name: 'c' })).status, 400);
  assert.equal((await api.post(recordsPath('_apiKeys'), { name: 'c', scopes })).status, 400);
  const nothing = await api.get(`${KEYS}/nothing`);
  assertRefused(nothing, 404);
  assert.match(nothing.body.message, /^There is no API key "nothing" in this tenant: GET \/api\/api-keys /);
});

check('a scope opens what it names and nothing else', async (api) => {
  const path = recordsPath('notes', api.id);
  const reader = api.as((await api.key(['records:read'])).key);
  const writer = api.as((await api.key(['records:write'])).key);
  const single = api.as((await api.key(['records:read:notes'])).key);
  const feeder = api.as((await api.key(['events:read'])).key);

  const { body } = await reader('GET', path);
  assert.equal(body.title, 'a');
  assert.ok(!('secret' in body), 'a key is shown no hidden field');
  assertRefused(await reader('PATCH', path, { title: 'b' }), 403);
  assertRefused(await reader('DELETE', path), 403);
  assertRefused(await reader('POST', recordsPath('notes'), { title: 'b' }), 403);
  assert.equal((await reader('GET', `${recordsPath('notes')}?filter=secret="hush"`)).status, 400);

  assertRefused(await writer('GET', path), 403);
  const changed = await writer('PATCH', path, { title: 'b', secret: 'loud' });
  assert.equal(changed.status, 200, changed.text);
  assert.equal((await api.get(path)).body.secret, 'hush', 'nor does it set one');
  const made = await writer('POST', recordsPath('drafts'), { title: 'c' });
  assert.equal((await writer('DELETE', recordsPath('drafts', made.body.id))).status, 204);

  assert.equal((await single('GET', path)).status, 200);
  assertRefused(await single('GET', recordsPath('drafts')), 403);
  const unwritten = await single('PATCH', path, { title: 'c' });
  assertRefused(unwritten, 403);
  assert.match(unwritten.body.message, /needs the scope records:write, or records:write:notes /);

  assert.equal((await feeder('GET', '/api/events')).status, 200);
  assertRefused(await feeder('GET', path), 403);
  const closed = await reader('GET', '/api/events');
  assertRefused(closed, 403);
  assert.equal(closed.body.message, 'This key needs the scope events:read.');
  for (const ask of [reader, writer, single, feeder])
    for (const each of ['/api/collections', '/api/settings', '/api/logs', '/api/tenants', '/api/work',
      recordsPath('_superusers'), '/api/collections/_superusers/snapshot', recordsPath('_apiKeys')])
      assertRefused(await ask('GET', each), 403);
});

check('relations lead a key where its scopes do, and no further', async (api) => {
  const notes = (await api.get('/api/collections/notes')).body;
  const note = { name: 'note', type: 'relation', collectionId: notes.id, maxSelect: 1 };
  await api.define({ name: 'links', fields: [note] });
  await api.create('links', { note: api.id });
  const path = `${recordsPath('links')}?expand=note`;
  const byTitle = `${path}&filter=${encodeURIComponent('note.title = "a"')}&sort=note.title`;
  const all = api.as((await api.key(['records:read'])).key);
  const { status, text, body } = await all('GET', byTitle);
  assert.equal(status, 200, text);
  assert.equal(body.items[0].expand.note.title, 'a');
  assert.ok(!text.includes('hush'), 'no hidden field');
  const bySecret = `${path}&filter=${encodeURIComponent('note.secret = "hush"')}`;
  assert.equal((await all('GET', bySecret)).status, 400);
  const one = api.as((await api.key(['records:read:links'])).key);
  assert.equal((await one('GET', byTitle)).status, 400);
  assert.ok(!(await one('GET', path)).text.includes('expand'), 'what it leads to is not shown');
  /* Realtime is the same door. */
  const { key } = await api.key(['records:read']);
  const options = encodeURIComponent(
    JSON.stringify({ query: { expand: 'note', filter: 'note.title = "a"' } }),
  );
  const stream = await subscribed(api.server, key, [`links/*?options=${options}`]);
  await api.create('links', { note: api.id });
  await until(() => stream.text.includes('"action":"create"'), 'the link');
  assert.match(stream.text, /"expand":\{"note":\{[^}]*"title":"a"/);
  assert.ok(!stream.text.includes('hush'), 'no hidden field');
  stream.request.destroy();
});

check('a key is no way to become somebody', async (api) => {
  const user = await addUser(api, 'eve@example.com');
  const { key } = await api.key(['records:*']);
  const ask = api.as(key);
  const path = recordsPath('users', user.id);
  const shown = await ask('GET', path);
  assert.equal(shown.status, 200, shown.text);
  assert.ok(!('email' in shown.body), 'an address that is not shown');
  for (const [change, field] of [
    [{ password: 'another horse 1', passwordConfirm: 'another horse 1' }, 'oldPassword'],
    [{ email: 'eva@example.com' }, 'email'],
    [{ verified: true }, 'verified'],
  ])
    assert.ok(field in (await ask('PATCH', path, change)).body.data, `${field} is the user's`);
  assert.equal((await ask('POST', `/api/collections/users/impersonate/${user.id}`)).status, 403);
  assert.equal((await ask('POST', '/api/collections/users/auth-refresh')).status, 401);
  const secret = { password: PASSWORD, passwordConfirm: PASSWORD };
  assertRefused(await ask('POST', recordsPath('_superusers'), { email: 'e@example.com', ...secret }), 403);
  /* Rules do not take it for a user. */
  await api.define({ name: 'members', listRule: '@request.auth.id != ""' });
  await api.create('members', {});
  const { key: bare } = await api.key(['events:read']);
  assert.equal((await api.as(bare)('GET', recordsPath('members'))).body.totalItems, 0);
});

check('a key finds its tenant, and no other', async (api) => {
  const secret = { email: 'boss@example.com', password: PASSWORD };
  assert.equal((await api.post('/api/tenants', { name: 'acme-2', superuser: secret })).status, 200);
  const token = await signIn(api.server, { tenant: 'acme-2', ...secret });
  const boss = api.as(token);
  const made = await boss('POST', KEYS, { name: 'k', scopes: ['records:read'] });
  assert.match(made.body.key, /^bk_acme-2_/);
  assertProblems(await boss('POST', KEYS, { name: 'x', scopes: ['tenants:read'] }), {
    scopes: 'validation_unknown_scope',
  });
  const ask = api.as(made.body.key);
  assert.equal((await ask('GET', recordsPath('notes'))).status, 404, 'it is of acme-2, without a header');
  assert.equal((await ask('GET', recordsPath('users'))).status, 200);
  assertRefused(await ask('GET', recordsPath('users'), undefined, { tenant: 'default' }), 401);
  const tenants = api.as((await api.key(['tenants:read'])).key);
  assert.equal((await tenants('GET', '/api/tenants')).status, 200);
  assert.equal((await tenants('GET', '/api/tenants/acme-2')).status, 200);
  assertRefused(await tenants('GET', recordsPath('users'), undefined, { tenant: 'acme-2' }), 401);
  for (const wrong of ['bk_', 'bk_default_', `bk_default_${'a'.repeat(40)}`, `bk_nobody_${'a'.repeat(40)}`,
    made.body.key.replace('acme-2', 'default'), `${made.body.key}x`])
    assertRefused(await api.as(wrong)('GET', '/api/health'), 401);
});

check('when a key was used is said, and makes no event', async (api) => {
  const { id, key, lastUsed } = await api.key(['records:read']);
  assert.equal(lastUsed, '');
  const before = (await api.get('/api/events?after=now')).body.head;
  for (let i = 0; i < 5; i++) await api.as(key)('GET', recordsPath('notes'));
  await until(async () => (await api.get(`${KEYS}/${id}`)).body.lastUsed !== '', 'its last use');
  assert.equal((await api.get('/api/events?after=now')).body.head, before);
});

check('what is rotated, deleted or expired is dead at once, on every door', async (api) => {
  const ends = {
    rotated: (record) => api.post(`${KEYS}/${record.id}/rotate`),
    deleted: (record) => api.remove(`${KEYS}/${record.id}`),
  };
  for (const [how, end] of Object.entries(ends)) {
    const record = await api.key(['records:read', 'events:read']);
    const doors = await openDoors(api, record.key);
    assert.ok((await end(record)).status < 300);
    assertRefused(await api.as(record.key)('GET', recordsPath('notes')), 401);
    await assertClosed(doors, how);
  }
  const { key } = await api.key(['records:read'], { expires: new Date(Date.now() + 2500).toISOString() });
  const socket = await Listener.connect(api.server, { token: key });
  const stream = await subscribed(api.server, key, ['notes/*']);
  assert.equal(await closing(socket, 'expired'), TOKEN_CODE, 'it does not outlive its key');
  await stream.ended('nor does a stream');
  assertRefused(await api.as(key)('GET', recordsPath('notes')), 401);
});

/** Every way to be there for longer than a request. */
async function openDoors(api, token) {
  const name = `c${token.slice(-8)}`;
  assert.equal((await api.server.request('PUT', `/api/consumers/${name}`, {}, { token: api.token })).status, 200);
  const socket = await Listener.connect(api.server, { token });
  await socket.subscribe({ types: ['*'] });
  const doors = {
    socket,
    stream: await subscribed(api.server, token, ['notes/*']),
    feed: await Stream.open(api.server, '/api/events?after=now', { token }),
    poll: api.as(token)('GET', '/api/events?after=now&types=never.happens&wait=50'),
    lines: api.as(token)('GET', '/api/events?after=now&types=never.happens&wait=50', undefined, {
      headers: { accept: 'application/x-ndjson' },
    }),
    consumer: api.as(token)('POST', `/api/consumers/${name}/poll`, { wait: 50 }),
  };
  const waiting = async () => {
    const { text } = await api.get('/metrics');
    const of = (figure) => Number(new RegExp(`^${figure} (\\S+)$`, 'm').exec(text)[1]);
    return of('bakend_consumer_polls_waiting') === 1 && of('bakend_changefeed_waiting') >= 4;
  };
  await until(waiting, 'all of them wait');
  return doors;
}

async function assertClosed(doors, how) {
  assert.equal(await closing(doors.socket, how), TOKEN_CODE, how);
  await doors.stream.ended(`${how}: the event stream`);
  const text = await doors.feed.ended(`${how}: the stream of the feed`);
  const [, error] = /event: error\ndata: (.*)\n/.exec(text);
  assert.equal(JSON.parse(error).status, 401, how);
  for (const door of ['poll', 'lines', 'consumer']) {
    const late = sleep(PATIENCE_MS, null, { ref: false });
    const answer = await Promise.race([doors[door], late]);
    assert.ok(answer, `${how}: ${door} is answered at once`);
    assertRefused(answer, 401);
  }
}

check('a key that may more or less stays connected', async (api) => {
  const { id, key } = await api.key(['records:read:notes']);
  const socket = await Listener.connect(api.server, { token: key });
  await socket.subscribe({ types: ['notes.*', 'drafts.*'] });
  await api.patch(recordsPath('notes', api.id), { title: 'seen' });
  await socket.until(1);
  assert.equal((await api.patch(`${KEYS}/${id}`, { scopes: ['records:read:drafts'] })).status, 200);
  await api.patch(recordsPath('notes', api.id), { title: 'unseen' });
  await api.create('drafts', { title: 'seen, too' });
  const events = await socket.until(2);
  assert.deepEqual(events.map(({ event }) => event.payload.title), ['seen', 'seen, too']);
  assert.ok(!JSON.stringify(events).includes('hush'), 'no hidden field');
  assert.equal((await api.patch(`${KEYS}/${id}`, { name: 'renamed' })).status, 200);
  assert.equal((await socket.ask({ op: 'ping' })).op, 'pong');
  /* A new token takes over: what happens to the former one is nothing to this connection. */
  assert.equal((await socket.ask({ op: 'auth', token: api.token })).ok, true);
  await api.remove(`${KEYS}/renamed`);
  assert.equal((await socket.ask({ op: 'ping' })).op, 'pong');
  await socket.close();
});

check('whose password is changed, or who is deleted, is not connected any more', async (api) => {
  await api.patch('/api/collections/notes', { listRule: '@request.auth.id != ""' });
  const changes = {
    'a new password': (id) =>
      api.patch(recordsPath('users', id), { password: 'another horse 1', passwordConfirm: 'another horse 1' }),
    'a deletion': (id) => api.remove(recordsPath('users', id)),
  };
  for (const [what, change] of Object.entries(changes)) {
    const email = `${what.replaceAll(' ', '-')}@example.com`;
    const { id } = await addUser(api, email);
    const sdk = new PocketBase(api.server.url);
    await sdk.collection('users').authWithPassword(email, PASSWORD);
    let seen = 0;
    await sdk.collection('notes').subscribe('*', () => (seen += 1));
    const socket = await Listener.connect(api.server, { token: sdk.authStore.token });
    const client = sdk.realtime.clientId;
    assert.ok((await change(id)).status < 300);
    assert.equal(await closing(socket, what), TOKEN_CODE, what);
    /* The stream of the stock SDK is a guest's by now. */
    assert.equal(sdk.realtime.clientId, client, `${what}: the same stream`);
    await api.patch(recordsPath('notes', api.id), { title: what });
    await sleep(50);
    assert.equal(seen, 0, what);
    await sdk.realtime.unsubscribe();
  }
});

check('keys are made, listed, rotated and deleted on the command line', async (api) => {
  const at = ['--data', api.server.data];
  const made = await runWell(['api-key', 'create', 'night job', '--scope', 'records:read', '--scope', 'events:read',
    '--expires', '2100-01-01T00:00:00Z', ...at]);
  assert.match(made, /^bk_default_[A-Za-z0-9]{40}\n$/);
  assert.equal((await api.as(made.trim())('GET', recordsPath('notes'))).status, 200);
  const listed = await runWell(['api-key', 'list', ...at]);
  assert.match(listed, /^night job {2}bk_default_.{6}… {2}records:read,events:read .*expires 2100-01-01/m);
  const rotated = await runWell(['api-key', 'rotate', 'night job', ...at]);
  assertRefused(await api.as(made.trim())('GET', recordsPath('notes')), 401);
  assert.equal((await api.as(rotated.trim())('GET', recordsPath('notes'))).status, 200);
  await runWell(['api-key', 'delete', 'night job', ...at]);
  assertRefused(await api.as(rotated.trim())('GET', recordsPath('notes')), 401);
  const refused = await run(['api-key', 'create', 'x', '--scope', 'everything', ...at]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /There is no scope "everything"/);
  assert.equal((await run(['api-key', 'create', ...at])).code, 2);
  await runWell(['api-key', 'create', 'x', '--scope', 'records:read', ...at]);
  for (const [args, said] of [
    [['create', 'x', '--scope', 'records:read'], /There is an API key of this name/],
    [['rotate', 'nope'], /^bakend: There is no API key "nope" in this tenant: .*bakend api-key list/],
  ]) {
    const { code, stderr } = await run(['api-key', ...args, ...at]);
    assert.equal(code, 1);
    assert.match(stderr, said);
  }
});

test('API keys', async (t) => {
  const api = await world(t);
  for (const [name, body] of checks)
    await t.test(name, async () => body({ ...api, id: await api.note() }));
});
