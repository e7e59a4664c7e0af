/**
 * The stock SDK's methods that apps need less often, each against the real program: subscriptions
 * that end in every way there is, requests that are cancelled all at once, hooks around requests,
 * sessions that travel in a cookie or renew themselves, queries of views that are tried first.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EventSource } from 'eventsource';
import PocketBase, {
  BaseAuthStore,
  cookieParse,
  getTokenPayload,
  isTokenExpired,
} from 'pocketbase';
import { startServer } from './support/program.mjs';
import { createSuperuser, email, password } from './support/superuser.mjs';

globalThis.EventSource ??= EventSource;

const PATIENCE_MS = 15_000;
const open = { listRule: '', viewRule: '', createRule: '', updateRule: '', deleteRule: '' };
const clientOf = (server) => new PocketBase(server.url, new BaseAuthStore());

async function comes(isTrue) {
  for (let waited = 0; waited < PATIENCE_MS; waited += 20) {
    if (await isTrue()) return true;
    await sleep(20);
  }
  return false;
}

async function start(t) {
  const server = await startServer(t);
  await createSuperuser(server);
  const admin = clientOf(server);
  await admin.collection('_superusers').authWithPassword(email, password);
  for (const name of ['notes', 'tags'])
    await admin.collections.create({
      name,
      type: 'base',
      ...open,
      fields: [{ name: 'title', type: 'text' }],
    });
  const guest = clientOf(server);
  t.after(() => guest.realtime.unsubscribe());
  return { server, admin, guest };
}

test('subscriptions end one by one, by prefix, all at once, and are told of', async (t) => {
  const { admin, guest } = await start(t);
  const heard = [];
  const keep = (name) => () => heard.push(name);
  const first = await admin.collection('tags').create({ title: 'first' });
  await guest.realtime.subscribe('notes/*', keep('one'));
  const leaveOther = await guest.realtime.subscribe('notes/*', keep('other'));
  const leave = await guest.collection('notes').subscribe('*', keep('third'));
  await guest.collection('tags').subscribe('*', keep('tags'));
  await guest.collection('tags').subscribe(first.id, keep('first'));
  assert.equal(guest.realtime.isConnected, true);
  assert.ok(guest.realtime.clientId);

  /* What is heard of a note and of the first tag, in any order. */
  const hears = async (expected) => {
    heard.length = 0;
    await admin.collection('notes').create({ title: 'x' });
    await admin.collection('tags').update(first.id, { title: `t${expected.length}` });
    assert.ok(await comes(() => heard.length >= expected.length));
    assert.deepEqual([...heard].sort(), expected);
  };
  await hears(['first', 'one', 'other', 'tags', 'third']);
  await leave();
  await hears(['first', 'one', 'other', 'tags']);
  await leaveOther();
  await hears(['first', 'one', 'tags']);
  await guest.collection('tags').unsubscribe('*');
  await hears(['first', 'one']);
  await guest.realtime.unsubscribeByPrefix('tags');
  await hears(['one']);

  const lost = [];
  guest.realtime.onDisconnect = (active) => lost.push(active);
  await guest.realtime.unsubscribe();
  assert.ok(await comes(() => lost.length === 1));
  assert.deepEqual(lost, [[]], 'nothing is left: it was meant');
  assert.equal(guest.realtime.isConnected, false);
});

test('a connection is of one client: signing in binds it, another one ends it', async (t) => {
  const { admin, guest } = await start(t);
  const heard = [];
  await guest.collection('notes').subscribe('*', ({ record }) => heard.push(record.title));
  guest.authStore.save(admin.authStore.token, admin.authStore.record);
  await guest.collection('tags').subscribe('*', ({ record }) => heard.push(record.title));
  await admin.collection('notes').create({ title: 'a note' });
  await admin.collection('tags').create({ title: 'a tag' });
  assert.ok(await comes(() => heard.length === 2));

  guest.authStore.clear();
  await assert.rejects(
    guest.collection('notes').subscribe('x', () => {}),
    { status: 403 },
  );
  await guest.realtime.unsubscribe();
});

test('requests: hooks, all cancelled, other ways to ask', async (t) => {
  const { server, admin, guest } = await start(t);
  const seen = [];
  guest.beforeSend = (url, options) => {
    seen.push([options.method, new URL(url).pathname]);
    return { url, options: { ...options, headers: { ...options.headers, 'X-App': 'mine' } } };
  };
  guest.afterSend = (response, data) => ({ ...data, status: response.status });
  const made = await guest.collection('notes').create({ title: 'hooked' });
  assert.equal(made.status, 200);
  assert.deepEqual(seen, [['POST', '/api/collections/notes/records']]);
  guest.beforeSend = guest.afterSend = undefined;

  const url = guest.buildURL('/api/collections/notes/records');
  assert.equal(url, `${server.url}/api/collections/notes/records`);
  const listed = await guest.send('/api/collections/notes/records', { query: { perPage: 1 } });
  assert.equal(listed.items[0].title, 'hooked');
  const own = await guest.collection('notes').getList(1, 1, { fetch: (...all) => fetch(...all) });
  assert.equal(own.items.length, 1);

  const notes = guest.collection('notes');
  const asked = [1, 2, 3].map((n) => notes.getList(n, 1, { requestKey: `${n}` }));
  guest.cancelAllRequests();
  for (const answer of await Promise.allSettled(asked)) assert.equal(answer.reason.isAbort, true);
  const stop = new AbortController();
  const stopped = notes.getList(1, 1, { signal: stop.signal, requestKey: null });
  stop.abort();
  await assert.rejects(stopped, { isAbort: true });
  await assert.rejects(guest.collection('notes').getOne(''), { status: 404 });
  await assert.rejects(guest.collection('notes').getFirstListItem('title = "no"'), { status: 404 });
  const wanted = { title: 'hooked', none: null };
  const found = await notes.getFirstListItem(
    guest.filter('title = {:title} && id != {:none}', wanted),
  );
  assert.equal(found.id, made.id);
  assert.equal((await admin.collection('notes').getFullList({ batch: 1 })).length, 1);
});

test('sessions: a cookie, a listener, and one that renews itself', async (t) => {
  const { server, admin } = await start(t);
  const users = admin.collection('users');
  const secret = 'correct horse 42';
  const { id } = await users.create({
    email: 'ann@example.com',
    password: secret,
    passwordConfirm: secret,
  });
  const ann = clientOf(server);
  const changes = [];
  const keep = (token, record) => changes.push([Boolean(token), record?.id]);
  const forget = ann.authStore.onChange(keep);
  await ann.collection('users').authWithPassword('ann@example.com', secret);
  const payload = getTokenPayload(ann.authStore.token);
  assert.deepEqual([payload.id, payload.type, payload.refreshable], [id, 'auth', true]);
  assert.equal(isTokenExpired(ann.authStore.token), false);

  const cookie = ann.authStore.exportToCookie({ httpOnly: false });
  assert.ok(cookieParse(cookie).pb_auth);
  const server2 = clientOf(server);
  server2.authStore.loadFromCookie(cookie);
  assert.equal(server2.authStore.isValid, true);
  assert.equal((await server2.collection('users').authRefresh()).record.id, id);
  ann.authStore.clear();
  forget();
  await ann.collection('users').authWithPassword('ann@example.com', secret);
  assert.deepEqual(changes, [
    [true, id],
    [false, undefined],
  ]);

  /* Nearer to its end than the threshold at once: the next request renews it. */
  const long = 60 * 60 * 24 * 365;
  const root = clientOf(server);
  await root
    .collection('_superusers')
    .authWithPassword(email, password, { autoRefreshThreshold: long });
  const asked = [];
  const send = root.send.bind(root);
  root.send = (path, options) => {
    asked.push(path);
    return send(path, options);
  };
  assert.ok((await root.collection('users').getList()).totalItems === 1);
  assert.ok(asked.some((path) => path.endsWith('/auth-refresh')));
  assert.equal(root.authStore.isValid, true);
});

test('collections: a query tried first, providers, and a list of changes by import', async (t) => {
  const { admin } = await start(t);
  await admin.collection('notes').create({ title: 'seen' });
  const tried = await admin.collections.dryRunViewQuery('SELECT id, title FROM notes');
  assert.deepEqual(
    tried.fields.map(({ name }) => name),
    ['id', 'title'],
  );
  assert.equal(tried.sample[0].title, 'seen');
  await assert.rejects(admin.collections.dryRunViewQuery('SELECT title FROM notes'), {
    status: 400,
  });
  const providers = await admin.collections.getAllOAuth2Providers();
  assert.ok(providers.some(({ name }) => name === 'google'));

  const all = await admin.collections.getFullList({ filter: 'system = false' });
  const kept = all.filter(({ name }) => name !== 'tags');
  await admin.collections.import([...kept, { name: 'fresh', type: 'base' }], true);
  const names = (await admin.collections.getList(1, 50, { filter: 'system = false' })).items;
  assert.deepEqual(names.map(({ name }) => name).sort(), ['fresh', 'notes', 'users']);
  assert.equal((await admin.collection('notes').getList()).items[0].title, 'seen');
  assert.equal((await admin.collections.getFirstListItem('name = "fresh"')).type, 'base');
});
