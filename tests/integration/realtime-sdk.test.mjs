/** Realtime of the stock `pocketbase` client, as an app uses it; it needs an EventSource in Node. */
import assert from 'node:assert/strict';
import { EventSource } from 'eventsource';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import PocketBase from 'pocketbase';
import { operator } from './support/operator.mjs';
import { open, recordsPath } from './support/records.mjs';
import { email, password } from './support/superuser.mjs';

globalThis.EventSource = EventSource;
const fields = [
  { name: 'title', type: 'text' },
  { name: 'secret', type: 'text', hidden: true },
  { name: 'last', type: 'text' },
];

/** Clients are sent away before the server stops: they would try to come back for ever. */
async function withApp(t, body, definition = {}) {
  const own = await operator(t);
  const clients = [];
  const connect = () => {
    const client = new PocketBase(own.server.url);
    client.autoCancellation(false);
    clients.push(client);
    return client;
  };
  await own.define({ name: 'posts', ...open, fields, ...definition });
  const client = connect();
  try {
    await body({ ...own, client, connect, posts: client.collection('posts') });
  } finally {
    for (const each of clients) each.realtime.disconnect();
  }
}

/** Gathers what a subscription is told. */
function gather() {
  const seen = [];
  const listener = (each) => seen.push(each);
  listener.seen = seen;
  listener.until = async (count) => {
    for (let waited = 0; waited < 10_000 && seen.length < count; waited += 10) await sleep(10);
    await sleep(50);
    assert.equal(seen.length, count);
    return seen;
  };
  return listener;
}

test('a collection is heard of by its name or its id, and not in other letters', (t) =>
  withApp(t, async ({ client, posts, get }) => {
    const { body } = await get('/api/collections/posts');
    const [byName, byId, deaf, alsoDeaf] = [gather(), gather(), gather(), gather()];
    await client.collection('Posts').subscribe('*', deaf);
    await client.collection(body.id.toUpperCase()).subscribe('*', alsoDeaf);
    await client.collection(body.id).subscribe('*', byId);
    await posts.subscribe('*', byName);
    await client.collection('POSTS').create({ title: 'in a path any letters will do' });
    await byName.until(1);
    await byId.until(1);
    assert.deepEqual([deaf.seen, alsoDeaf.seen], [[], []]);
  }));

test('create, update and delete, for a collection and for one record', (t) =>
  withApp(t, async ({ posts }) => {
    const all = gather(),
      one = gather();
    await posts.subscribe('*', all);
    const record = await posts.create({ title: 'one', secret: 'hush' });
    await all.until(1);
    await posts.subscribe(record.id, one);
    await posts.create({ title: 'other' });
    const updated = await posts.update(record.id, { title: 'two' });
    await posts.delete(record.id);
    await all.until(4);
    await one.until(2);
    assert.deepEqual(
      all.seen.map(({ action }) => action),
      ['create', 'create', 'update', 'delete'],
    );
    assert.deepEqual(
      one.seen.map(({ action }) => action),
      ['update', 'delete'],
    );
    assert.deepEqual(all.seen[0].record, record);
    assert.deepEqual(Object.keys(all.seen[0].record), Object.keys(record), 'in the order of REST');
    assert.deepEqual(one.seen[0].record, updated);
    assert.deepEqual(Object.keys(all.seen[0]).sort(), ['action', 'record'], 'as PocketBase has it');
    await posts.unsubscribe(record.id);
    await posts.create({ title: 'three' });
    await all.until(5);
    await one.until(2);
  }));

test('superusers see hidden fields, and what is theirs alone', (t) =>
  withApp(t, async ({ client, posts, connect }) => {
    const guest = connect();
    const unseen = gather(),
      all = gather();
    await guest.collection('posts').subscribe('*', unseen);
    await client.collection('_superusers').authWithPassword(email, password);
    await posts.subscribe('*', all);
    const record = await posts.create({ title: 'one', secret: 'hush' });
    await all.until(1);
    assert.deepEqual(all.seen[0].record, record);
    assert.equal(all.seen[0].record.secret, 'hush');
    assert.deepEqual(Object.keys(all.seen[0].record), Object.keys(record));
    await unseen.until(0);
  }, { listRule: null }));

test('fields are picked; a wrong filter brings nothing, and no error', (t) =>
  withApp(t, async ({ posts }) => {
    const picked = gather();
    await posts.subscribe('*', picked, { fields: 'title' });
    await posts.create({ title: 'one' });
    await picked.until(1);
    assert.deepEqual(picked.seen[0].record, { title: 'one' });
    await posts.unsubscribe();
    const wrong = gather(),
      right = gather();
    await posts.subscribe('*', wrong, { filter: 'nobody = 1' });
    await posts.subscribe('*', right, { filter: 'title ~ "t"' });
    await posts.create({ title: 'three' });
    await posts.create({ title: 'one' });
    await right.until(1);
    assert.equal(wrong.seen.length, 0);
  }));

test('since brings what was missed', (t) =>
  withApp(t, async ({ posts }) => {
    const first = gather(),
      second = gather();
    await posts.subscribe('*', first, { query: { since: 'now' } });
    await posts.create({ title: '0' });
    await first.until(1);
    assert.match(first.seen[0].cursor, /^[\w-]{27}$/);
    await posts.unsubscribe();
    for (let i = 1; i <= 30; i++) await posts.create({ title: `${i}` });
    await posts.subscribe('*', second, { query: { since: first.seen[0].cursor } });
    await posts.create({ title: '31' });
    await second.until(31);
    assert.deepEqual(
      second.seen.map(({ record }) => Number(record.title)),
      Array.from({ length: 31 }, (_, i) => i + 1),
    );
  }));

test('a client whose stream broke comes back by itself', (t) =>
  withApp(t, async ({ client, posts, post }) => {
    const all = gather();
    await posts.subscribe('*', all);
    const before = client.realtime.clientId;
    client.realtime.eventSource.onerror(new Event('error'));
    const isBack = () => client.realtime.isConnected && client.realtime.clientId !== before;
    for (let i = 0; i < 500 && !isBack(); i++) await sleep(10);
    assert.ok(isBack());
    await sleep(300);
    await post(recordsPath('posts'), { title: 'back' });
    await all.until(1);
  }));
