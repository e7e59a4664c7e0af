/** The stock `pocketbase` client, as an app uses it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase, { ClientResponseError } from 'pocketbase';
import { startServer } from './support/program.mjs';
import { createSuperuser, email, password } from './support/superuser.mjs';

async function connect(t) {
  const server = await startServer(t);
  await createSuperuser(server);
  const client = new PocketBase(server.url);
  client.autoCancellation(false);
  return { server, client };
}

/** The error of a promise, which must be the client's own. */
async function errorOf(promise) {
  const error = await promise.then(
    () => null,
    (reason) => reason,
  );
  assert.ok(error instanceof ClientResponseError, `${error}`);
  return error;
}

test('health.check', async (t) => {
  const { client } = await connect(t);
  const health = await client.health.check();
  assert.equal(health.code, 200);
  assert.equal(health.message, 'API is healthy.');
  assert.deepEqual(health.data, {});
});

test('authWithPassword of a superuser', async (t) => {
  const { client } = await connect(t);

  await t.test('signs in and keeps token and record', async () => {
    const { token, record } = await client
      .collection('_superusers')
      .authWithPassword(email, password);
    assert.ok(client.authStore.isValid);
    assert.ok(client.authStore.isSuperuser);
    assert.equal(client.authStore.token, token);
    assert.equal(record.collectionId, 'pbc_3142635823');
    assert.equal(record.collectionName, '_superusers');
    assert.equal(record.email, email);
    assert.equal('password' in record || 'tokenKey' in record, false);
    const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));
    assert.deepEqual(Object.keys(claims).sort(), [
      'collectionId',
      'exp',
      'id',
      'refreshable',
      'type',
    ]);
    assert.equal(claims.type, 'auth');
    assert.ok(Math.abs(claims.exp - Date.now() / 1000 - 86400) < 60, 'for a day');
  });

  await t.test(
    'fails with the same words for a wrong password and an unknown address',
    async () => {
      const wrong = await errorOf(
        client.collection('_superusers').authWithPassword(email, 'wrong password'),
      );
      const unknown = await errorOf(
        client.collection('_superusers').authWithPassword('nobody@example.com', password),
      );
      for (const error of [wrong, unknown]) {
        assert.equal(error.status, 400);
        assert.equal(error.response.message, 'Failed to authenticate.');
        assert.deepEqual(error.response.data, {});
      }
      const empty = await errorOf(client.collection('_superusers').authWithPassword('', ''));
      assert.deepEqual(
        Object.entries(empty.response.data)
          .map(([field, { code }]) => [field, code])
          .sort(),
        [
          ['identity', 'validation_required'],
          ['password', 'validation_required'],
        ],
      );
    },
  );
});

test('collections and records', async (t) => {
  const { server, client } = await connect(t);
  await client.collection('_superusers').authWithPassword(email, password);

  await t.test('collections.create answers the collection, and getFullList has it', async () => {
    const created = await client.collections.create({
      name: 'tasks',
      type: 'base',
      fields: [
        { name: 'title', type: 'text', required: true, max: 50 },
        { name: 'done', type: 'bool' },
        { name: 'points', type: 'number' },
        { name: 'created', type: 'autodate', onCreate: true },
        { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true },
      ],
      listRule: '',
      viewRule: '',
      createRule: '',
      updateRule: '',
      deleteRule: null,
    });
    assert.equal(created.name, 'tasks');
    assert.deepEqual(
      created.fields.map(({ name }) => name),
      ['id', 'title', 'done', 'points', 'created', 'updated'],
    );
    const all = await client.collections.getFullList();
    assert.ok(all.some(({ name }) => name === 'tasks'));
    assert.deepEqual(await client.collections.getOne('tasks'), created);
  });

  const tasks = client.collection('tasks');
  let task;

  await t.test('create, getOne and update', async () => {
    task = await tasks.create({ title: 'write tests', points: 3 });
    assert.equal(task.title, 'write tests');
    assert.equal(task.done, false);
    assert.deepEqual(await tasks.getOne(task.id), task);
    const updated = await tasks.update(task.id, { done: true });
    assert.equal(updated.done, true);
    assert.equal(updated.points, 3);
    task = updated;
  });

  await t.test('getList, getFullList in batches, getFirstListItem', async () => {
    for (let i = 0; i < 24; i++) await tasks.create({ title: `task ${i}`, points: i });
    const page = await tasks.getList(2, 10, { sort: 'points' });
    assert.deepEqual(
      [page.page, page.perPage, page.totalItems, page.totalPages, page.items.length],
      [2, 10, 25, 3, 10],
    );
    assert.equal((await tasks.getFullList()).length, 25);
    const batched = await tasks.getFullList({ batch: 7, sort: '-points' });
    assert.equal(new Set(batched.map(({ id }) => id)).size, 25);
    assert.equal(batched[0].points, 23);
    assert.equal((await tasks.getFirstListItem('', { sort: 'points' })).points, 0);
    const shown = await tasks.getList(1, 1, { fields: 'id,title', skipTotal: true });
    assert.deepEqual(Object.keys(shown.items[0]), ['id', 'title']);
    assert.equal(shown.totalItems, -1);
  });

  await t.test('errors have the status, the message and the data of each field', async () => {
    const invalid = await errorOf(tasks.create({ title: '', points: 1 }));
    assert.equal(invalid.status, 400);
    assert.equal(invalid.response.message, 'Failed to create record.');
    assert.deepEqual(invalid.response.data, {
      title: { code: 'validation_required', message: 'Cannot be blank.' },
    });
    const long = await errorOf(tasks.update(task.id, { title: 'x'.repeat(51) }));
    assert.deepEqual(long.response.data.title, {
      code: 'validation_max_text_constraint',
      message: 'Must be no more than 50 character(s).',
      params: { max: 50 },
    });
    const missing = await errorOf(tasks.getOne('nobody000000000'));
    assert.equal(missing.status, 404);
    assert.deepEqual(missing.response.data, {});
    assert.equal(missing.isAbort, false);
    const empty = await errorOf(client.collection('nothing').getList());
    assert.equal(empty.status, 404);
  });

  await t.test('delete, and a guest may do what the rules say', async () => {
    const guest = new PocketBase(server.url);
    guest.autoCancellation(false);
    const made = await guest.collection('tasks').create({ title: 'by a guest' });
    const refused = await errorOf(guest.collection('tasks').delete(made.id));
    assert.equal(refused.status, 403);
    assert.equal(await tasks.delete(made.id), true);
    assert.equal((await errorOf(tasks.getOne(made.id))).status, 404);
    assert.equal((await errorOf(guest.collections.getFullList())).status, 401);
  });

  await t.test('collections.update and delete', async () => {
    const definition = await client.collections.getOne('tasks');
    const changed = await client.collections.update('tasks', {
      fields: [...definition.fields, { name: 'note', type: 'text' }],
    });
    assert.equal(changed.fields.at(-1).name, 'note');
    assert.equal((await tasks.getOne(task.id)).note, '');
    assert.equal(await client.collections.delete('tasks'), true);
    assert.equal((await errorOf(tasks.getList())).status, 404);
  });

  await t.test('logs.getList', async () => {
    const logs = await client.logs.getList(1, 5);
    assert.equal(logs.page, 1);
    assert.ok(Array.isArray(logs.items));
    assert.ok(Array.isArray(await client.logs.getStats()));
  });
});

test('the lock file of these tests names no registry', async () => {
  const { readFile } = await import('node:fs/promises');
  const text = await readFile(new URL('package-lock.json', import.meta.url), 'utf8');
  assert.ok(!/https?:/.test(text));
  assert.equal(JSON.parse(text).packages['node_modules/pocketbase'].version, '0.28.1');
});
