/** totalItems of a whole collection, which is kept and not counted. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { operator } from './support/operator.mjs';
import { run, runWell, startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, listAll, open, recordsPath } from './support/records.mjs';
import { operatorToken, signIn } from './support/superuser.mjs';

test('the total of a collection is exact', async (t) => {
  const api = await operator(t);
  const parents = await api.define({ name: 'parents', ...open, fields: [] });
  const parent = {
    name: 'parent',
    type: 'relation',
    collectionId: parents.id,
    maxSelect: 1,
    cascadeDelete: true,
  };
  const fields = [{ name: 'code', type: 'text' }, parent];
  const indexes = ['CREATE UNIQUE INDEX idx_children_code ON children (code)'];
  await api.define({ name: 'children', ...open, fields, indexes });
  /* Pages of one record, so that none tells the total by itself. */
  const total = async (name = 'children', query = '') =>
    (await api.get(`${recordsPath(name)}?perPage=1${query}`)).body.totalItems;

  await t.test('when records are created, refused, changed and deleted', async () => {
    const records = [];
    for (let i = 0; i < 5; i++) records.push(await api.create('children', { code: `c${i}` }));
    assert.equal(await total(), 5);
    const twice = await api.post(recordsPath('children'), { code: 'c0' });
    assert.equal(twice.status, 400);
    await api.patch(recordsPath('children', records[0].id), { code: 'x' });
    assert.equal(await total(), 5);
    await api.remove(recordsPath('children', records[1].id));
    assert.equal(await total(), 4);
    assert.equal(await total('children', '&filter=code~"c"'), 3);
    assert.equal(await total('children', '&page=3'), 4);
    assert.equal(await total('children', '&page=99'), 4);
  });

  await t.test('when many writes meet in a commit, and some of them fail', async () => {
    const before = await total();
    const codes = Array.from({ length: 60 }, (_, i) => `m${i % 40}`);
    const answers = await Promise.all(
      codes.map((code) => api.post(recordsPath('children'), { code })),
    );
    assert.equal(answers.filter(({ status }) => status === 200).length, 40);
    assert.equal(await total(), before + 40);
  });

  await t.test('when a delete takes others along', async () => {
    const { id } = await api.create('parents', {});
    await api.create('parents', {});
    for (let i = 0; i < 7; i++) await api.create('children', { code: `p${i}`, parent: id });
    const before = await total();
    await api.remove(recordsPath('parents', id));
    assert.equal(await total(), before - 7);
    assert.equal(await total('parents'), 1);
  });

  await t.test('when the collection has another name, and when it is emptied', async () => {
    const before = await total();
    await api.patch('/api/collections/children', { name: 'kids' });
    assert.equal(await total('kids'), before);
    await api.create('kids', { code: 'last' });
    assert.equal(await total('kids'), before + 1);
    assert.equal((await api.remove('/api/collections/kids/truncate')).status, 204);
    assert.equal(await total('kids'), 0);
    for (const code of ['a', 'b']) await api.create('kids', { code });
    assert.equal(await total('kids'), 2);
  });
});

test('the total of a collection and its search survive kill -9', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const token = await operatorToken(server);
  const path = recordsPath('notes');
  await createCollection(server, token, {
    name: 'notes',
    ...open,
    fields: [{ name: 'text', type: 'text' }],
    search: { fields: ['text'] },
  });
  for (let round = 0; round < 3; round++) {
    let isOver = false;
    const writers = [1, 2, 3, 4].map(async (n) => {
      for (let i = 0; !isOver; i++) {
        const body = { text: `word${n % 2} number${i}` };
        const answer = await server.request('POST', path, body, { token }).catch(() => null);
        if (answer?.status === 200 && i % 3 === 0)
          await server
            .request('DELETE', `${path}/${answer.body.id}`, undefined, { token })
            .catch(() => null);
      }
    });
    await new Promise((resolve) => setTimeout(resolve, 200 + 100 * round));
    await server.stop('SIGKILL');
    isOver = true;
    await Promise.all(writers);
    server = await startServer(t, { folder });
    const all = await listAll(server, token, 'notes');
    const total = async (query) =>
      (await server.request('GET', `${path}?perPage=1${query}`, undefined, { token })).body
        .totalItems;
    assert.ok(all.length > 1);
    assert.equal(await total(''), all.length);
    for (const word of ['word0', 'word1'])
      assert.equal(
        await total(`&search=${word}`),
        all.filter(({ text }) => text.startsWith(word)).length,
      );
  }
});

test('the total of a collection is that of what was restored, and doctor counts it', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  let token = await operatorToken(server);
  const add = async (count) => {
    for (let i = 0; i < count; i++)
      assert.equal((await server.request('POST', '/notes', { text: 'x' }, { token })).status, 200);
  };
  const total = async () => {
    const path = `${recordsPath('notes')}?perPage=1`;
    return (await server.request('GET', path, undefined, { token })).body.totalItems;
  };
  const fields = [{ name: 'text', type: 'text' }];
  await createCollection(server, token, { name: 'notes', ...open, fields });
  await add(3);
  const file = join(folder, 'three.zip');
  await runWell(['backup', file, '--data', server.data]);
  await add(4);
  assert.equal(await total(), 7);
  await server.stop();
  await runWell(['restore', file, '--data', server.data]);
  server = await startServer(t, { folder });
  token = await signIn(server);
  assert.equal(await total(), 3);
  await add(2);
  assert.equal(await total(), 5);
  await server.stop();
  for (const options of [[], ['--fix']]) {
    const { code, stdout } = await run(['doctor', '--data', server.data, ...options]);
    assert.equal(code, 0, stdout);
    assert.doesNotMatch(stdout, /lists say/);
  }
  assert.equal((await run(['doctor', '--data', server.data, '--mend'])).code, 2);
});

test('an import leaves the totals as they are', async (t) => {
  const api = await operator(t);
  const fields = [{ name: 'code', type: 'text' }];
  const made = await api.define({ name: 'kept', ...open, fields });
  await api.define({ name: 'left', ...open, fields });
  for (const name of ['kept', 'left'])
    for (let i = 0; i < 3; i++) await api.create(name, { code: `${i}` });
  const { items } = (await api.get('/api/collections?perPage=500')).body;
  const collections = items
    .filter(({ name }) => name !== 'left')
    .map((each) => (each.id === made.id ? { ...each, name: 'renamed' } : each));
  collections.push({ name: 'fresh', type: 'base', ...open, fields });
  const wish = { collections, deleteMissing: true };
  const { token } = api;
  const answer = await api.server.request('PUT', '/api/collections/import', wish, { token });
  assert.equal(answer.status, 204, answer.text);
  const total = async (name) => (await api.get(`${recordsPath(name)}?perPage=1`)).body.totalItems;
  assert.equal(await total('renamed'), 3);
  assert.equal(await total('fresh'), 0);
  await api.create('renamed', { code: 'x' });
  await api.create('fresh', { code: 'x' });
  await api.create('fresh', { code: 'y' });
  assert.deepEqual([await total('renamed'), await total('fresh')], [4, 2]);
});
