/** Writes that went wrong once, each with what it did: none may again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readFeed } from './support/feed.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { recordsPath } from './support/records.mjs';

test('the last superuser stays', async (t) => {
  const api = await operator(t);
  const { items } = (await api.get(recordsPath('_superusers'))).body;
  assert.equal(items.length, 1);
  const answer = await api.remove(recordsPath('_superusers', items[0].id));
  assert.equal(answer.status, 400);
  assert.equal(answer.body.message, "You can't delete the only existing superuser.");
  assert.equal((await api.get(recordsPath('_superusers', items[0].id))).status, 200);
  const other = { email: 'b@example.com', password: 'password 123', passwordConfirm: 'password 123' };
  const { id } = await api.create('_superusers', other);
  assert.equal((await api.remove(recordsPath('_superusers', id))).status, 204);
});

test('large neighbours of a commit keep what was not sent', async (t) => {
  const api = await operator(t);
  const count = 48; // records of 1.5 MB: more than a write may hold of them
  await api.define({
    name: 'docs',
    fields: [
      { name: 'title', type: 'text' },
      { name: 'body', type: 'editor', maxSize: 5_000_000 },
      { name: 'tail', type: 'text' },
    ],
  });
  const body = 'x'.repeat(1_500_000);
  const ids = [];
  for (let i = 0; i < count; i++)
    ids.push((await api.create('docs', { title: 't', body, tail: 'keep' })).id);
  for (let round = 0; round < 3; round++) {
    const answers = await Promise.all(
      ids.map((id) => api.patch(`${recordsPath('docs', id)}?fields=id`, { title: `r${round}` })),
    );
    for (const answer of answers) assert.equal(answer.status, 200, answer.text);
  }
  for (const id of ids) {
    const record = (await api.get(recordsPath('docs', id))).body;
    assert.equal(record.title, 'r2');
    assert.equal(record.tail, 'keep');
    assert.equal(record.body.length, body.length);
  }
});

test('what is stored is answered as stored', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'notes',
    fields: [
      { name: 'title', type: 'text' },
      { name: 'data', type: 'json', maxSize: 20_000_000 },
    ],
  });
  const count = async () => (await api.get(`${recordsPath('notes')}?perPage=1`)).body.totalItems;

  await t.test('too many fields are refused before', async () => {
    const fields = Array.from({ length: 201 }, (_, i) => `f${i}`).join();
    const answer = await api.post(`${recordsPath('notes')}?fields=${fields}`, { title: 'x' });
    assertProblems(answer, { fields: 'validation_too_many' });
    assert.equal(await count(), 0);
    const definition = { name: 'more', type: 'base' };
    assert.equal((await api.post(`/api/collections?fields=${fields}`, definition)).status, 400);
    assert.equal((await api.get('/api/collections/more')).status, 404);
  });

  await t.test('also where the request has just enough memory for its body', async () => {
    const path = `${recordsPath('notes')}?fields=%69d,${'%61'.repeat(2500)}`;
    let stored = 0,
      fits = 90_000,
      tooMany = 130_000;
    while (tooMany - fits > 1) {
      const middle = Math.floor((fits + tooMany) / 2);
      const answer = await api.post(path, `{"data":[${'1,'.repeat(middle - 1)}1]}`);
      assert.ok([200, 413].includes(answer.status), answer.text);
      if (answer.status === 200) stored++;
      if (answer.status === 200) fits = middle;
      else tooMany = middle;
    }
    assert.equal(await count(), stored);
  });
});

/** A parent's collection, its children that go with it, and what refers to those. */
async function family(t) {
  const api = await operator(t);
  const to = (name, { id }, options) => ({ name, type: 'relation', collectionId: id, ...options });
  const parents = await api.define({ name: 'parents', fields: [{ name: 'x', type: 'text' }] });
  const children = await api.define({
    name: 'children',
    fields: [to('parents', parents, { maxSelect: 3, cascadeDelete: true })],
  });
  await api.define({ name: 'friends', fields: [to('children', children, { maxSelect: 5 })] });
  const createMany = async (collection, record, count) => {
    const ids = [];
    while (ids.length < count) {
      const some = Array.from({ length: Math.min(100, count - ids.length) }, () =>
        api.create(collection, record),
      );
      for (const { id } of await Promise.all(some)) ids.push(id);
    }
    return ids;
  };
  const total = async (collection) =>
    (await api.get(`${recordsPath(collection)}?perPage=1`)).body.totalItems;
  const events = async () =>
    (await readFeed(api.server, api.token)).events.map(({ type, subject }) => [type, subject]);
  return { api, to, parents, children, createMany, total, events };
}

test('a deletion that takes much along', async (t) => {
  const { api, createMany, total } = await family(t);
  const [parent] = await createMany('parents', {}, 1);
  const kids = await createMany('children', { parents: [parent] }, 1500);
  await createMany('friends', { children: [kids[0], kids[1499]] }, 2000);

  await t.test('is done, however long the machine takes for it', async () => {
    const answer = await api.remove(recordsPath('parents', parent));
    assert.equal(answer.status, 204, answer.text);
    assert.equal(await total('children'), 0);
    assert.equal(await total('friends'), 2000);
  });
});

/** Many records by batches. */
async function fill(api, collection, count, body) {
  const each = 500;
  const settings = { batch: { enabled: true, maxRequests: each } };
  assert.equal((await api.patch('/api/settings', settings)).status, 200);
  const ids = [];
  while (ids.length < count) {
    const requests = Array.from({ length: Math.min(each, count - ids.length) }, () => ({
      method: 'POST',
      url: recordsPath(collection),
      body,
    }));
    const answer = await api.post('/api/batch', { requests });
    assert.equal(answer.status, 200, answer.text);
    ids.push(...answer.body.map(({ body: { id } }) => id));
  }
  return ids;
}

test('a deletion is refused by how much goes with it, not by time', async (t) => {
  const api = await operator(t);
  const to = (collectionId) => ({ name: 'to', type: 'relation', collectionId, cascadeDelete: true });
  const total = async (collection) =>
    (await api.get(`${recordsPath(collection)}?perPage=1`)).body.totalItems;
  const parents = await api.define({ name: 'parents', fields: [] });
  await api.define({ name: 'children', fields: [to(parents.id)] });
  const parent = (await api.create('parents', {})).id;
  const removing = () => api.remove(recordsPath('parents', parent));

  const last = (await fill(api, 'children', 10_001, { to: parent })).at(-1);
  const answer = await removing();
  assertRefused(answer, 400);
  assert.match(answer.body.message, /more than 10000 records refer to it. Delete those first/);
  assert.equal(await total('children'), 10_001);
  assert.equal((await api.remove(recordsPath('children', last))).status, 204);
  const done = await removing();
  assert.equal(done.status, 204, done.text);
  assert.equal(await total('children'), 0);
});

test('what a deletion takes along', async (t) => {
  const { api, to, parents, children, createMany, total, events } = await family(t);

  await t.test('goes in slices, each record once', async () => {
    const [parent] = await createMany('parents', {}, 1);
    const kids = await createMany('children', { parents: [parent] }, 520);
    const friend = await api.create('friends', { children: [kids[0], kids[1], kids[519]] });
    const lonely = await api.create('friends', { children: [kids[2]] });
    const before = (await events()).length;
    const answer = await api.remove(recordsPath('parents', parent));
    assert.equal(answer.status, 204, answer.text);
    assert.equal(await total('children'), 0);
    const made = (await events()).slice(before);
    assert.deepEqual(made[0], ['parents.deleted', `parents/${parent}`]);
    assert.equal(made.filter(([type]) => type === 'children.deleted').length, 520);
    assert.deepEqual(made.slice(521).map(([, subject]) => subject).sort(), [
      `friends/${friend.id}`,
      `friends/${lonely.id}`,
    ].sort());
    assert.equal(made.length, 523);
    for (const { id } of [friend, lonely])
      assert.deepEqual((await api.get(recordsPath('friends', id))).body.children, []);
  });

  await t.test('stays as long as another reference is left', async () => {
    const [a, b] = await createMany('parents', {}, 2);
    const child = await api.create('children', { parents: [a, b] });
    await api.remove(recordsPath('parents', a));
    assert.deepEqual((await api.get(recordsPath('children', child.id))).body.parents, [b]);
    await api.remove(recordsPath('parents', b));
    assert.equal((await api.get(recordsPath('children', child.id))).status, 404);
  });

  await t.test('may hold what would have stood in the way', async () => {
    await api.define({
      name: 'toys',
      fields: [
        to('parent', parents, { maxSelect: 1, required: true }),
        to('child', children, { maxSelect: 1, cascadeDelete: true }),
      ],
    });
    const [parent] = await createMany('parents', {}, 1);
    const child = await api.create('children', { parents: [parent] });
    await api.create('toys', { parent, child: child.id });
    const [other] = await createMany('parents', {}, 1);
    const free = await api.create('children', { parents: [other] });
    const held = await api.create('toys', { parent, child: free.id });
    const refused = await api.remove(recordsPath('parents', parent));
    assertRefused(refused, 400);
    assert.match(refused.body.message, /required relation/);
    assert.equal(await total('toys'), 2);
    await api.remove(recordsPath('toys', held.id));
    assert.equal((await api.remove(recordsPath('parents', parent))).status, 204);
    assert.equal(await total('toys'), 0);
  });
});

test('a cursor is of its collection', async (t) => {
  const api = await operator(t);
  for (const name of ['first', 'second']) {
    await api.define({ name, fields: [{ name: 'title', type: 'text' }] });
    for (let i = 0; i < 3; i++) await api.create(name, { title: `${i}` });
  }
  const list = (name, cursor) =>
    api.get(`${recordsPath(name)}?cursor=${cursor}&perPage=2&sort=title`);
  const { nextCursor } = (await list('first', '')).body;
  assert.equal((await list('first', nextCursor)).body.items.length, 1);
  assertProblems(await list('second', nextCursor), { cursor: 'validation_invalid_cursor' });
});
