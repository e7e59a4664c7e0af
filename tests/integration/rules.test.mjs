/** Who may do what, who sees what, and the collections themselves. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkContiguous, readFeed } from './support/feed.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { startServer } from './support/program.mjs';
import { listAll, open, recordsPath } from './support/records.mjs';
import { createSuperuser, email, password } from './support/superuser.mjs';

test('hidden fields', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'people',
    ...open,
    fields: [
      { name: 'name', type: 'text' },
      { name: 'salary', type: 'number', hidden: true },
      { name: 'note', type: 'text', hidden: true },
    ],
  });
  const canary = 'canary-of-a-hidden-field';
  const { id } = await api.create('people', { name: 'Ann', salary: 987654321, note: canary });
  const guest = { token: undefined };

  await t.test('are shown to superusers only', async () => {
    assert.equal((await api.get(recordsPath('people', id))).body.note, canary);
    for (const answer of [
      await api.get(recordsPath('people', id), guest),
      await api.get(recordsPath('people'), guest),
      await api.patch(recordsPath('people', id), { name: 'Bea' }, guest),
      await api.get(`${recordsPath('people', id)}?fields=note,salary`, guest),
    ]) {
      assert.equal(answer.status, 200);
      assert.ok(!answer.text.includes(canary) && !answer.text.includes('987654321'), answer.text);
    }
  });

  await t.test('cannot be written by others', async () => {
    const created = await api.post(recordsPath('people'), { name: 'Eve', salary: 1 }, guest);
    assert.equal((await api.get(recordsPath('people', created.body.id))).body.salary, 0);
    await api.patch(recordsPath('people', id), { salary: 1 }, guest);
    assert.equal((await api.get(recordsPath('people', id))).body.salary, 987654321);
  });

  await t.test('never enter an event, not even as a former value', async () => {
    await api.patch(recordsPath('people', id), { note: `${canary} changed`, salary: 987654322 });
    await api.remove(recordsPath('people', id));
    const feed = await api.get('/api/events?types=*,_*&limit=1000');
    assert.ok(!feed.text.includes(canary));
    assert.ok(!feed.text.includes('98765432'));
    const updated = feed.body.events.filter(({ type }) => type === 'people.updated').at(-1);
    assert.equal('salary' in updated.payload, false);
  });
});

test('rules', async (t) => {
  const api = await operator(t);
  await api.define({ name: 'closed', fields: [{ name: 'title', type: 'text' }] });
  await api.define({ name: 'opened', ...open, fields: [{ name: 'title', type: 'text' }] });
  const closed = await api.create('closed', { title: 'c' }),
    opened = await api.create('opened', { title: 'o' });
  const asGuest = (method, path, body) => api.server.request(method, path, body);

  await t.test(
    'null is for superusers only: 403 for everybody else, also where there is no such record',
    async () => {
      for (const [method, path, body] of [
        ['GET', recordsPath('closed')],
        ['GET', recordsPath('closed', closed.id)],
        ['GET', recordsPath('closed', 'nobody000000000')],
        ['POST', recordsPath('closed'), { title: 'x' }],
        ['PATCH', recordsPath('closed', closed.id), { title: 'x' }],
        ['DELETE', recordsPath('closed', closed.id)],
      ]) {
        const answer = await asGuest(method, path, body);
        assertRefused(answer, 403);
        assert.equal(answer.body.message, 'Only superusers can perform this action.');
      }
      assert.deepEqual(
        (await api.get(recordsPath('closed', closed.id))).body,
        closed,
        'nothing has changed',
      );
    },
  );

  await t.test('the empty text is for everybody: 404 where there is no such record', async () => {
    assert.equal((await asGuest('GET', recordsPath('opened'))).body.totalItems, 1);
    assert.equal(
      (await asGuest('PATCH', recordsPath('opened', opened.id), { title: 'x' })).status,
      200,
    );
    for (const method of ['GET', 'PATCH', 'DELETE'])
      assertRefused(
        await asGuest(
          method,
          recordsPath('opened', 'nobody000000000'),
          method === 'PATCH' ? {} : undefined,
        ),
        404,
      );
  });

  await t.test('what is for superusers asks a guest for a token: 401', async () => {
    for (const [method, path, body] of [
      ['GET', '/api/collections'],
      ['POST', '/api/collections', { name: 'x' }],
      ['GET', '/api/collections/closed'],
      ['PATCH', '/api/collections/closed', {}],
      ['DELETE', '/api/collections/closed'],
    ])
      assertRefused(await asGuest(method, path, body), 401);
  });

  await t.test('a token that is no good makes a guest', async () => {
    for (const token of [
      'nonsense',
      `${api.token}x`,
      `Bearer ${api.token.slice(0, -2)}`,
      'a.b.c',
    ]) {
      assertRefused(await api.get('/api/collections', { token }), 401);
      assert.equal((await api.get(recordsPath('opened'), { token })).status, 200);
    }
    assert.equal((await api.get('/api/collections', { token: `Bearer ${api.token}` })).status, 200);
    assert.equal((await api.get('/api/collections', { token: `bEARER ${api.token}` })).status, 200);
  });

  await t.test('an expression that cannot be read is refused', async () => {
    const answer = await api.post('/api/collections', {
      name: 'expressive',
      type: 'base',
      fields: [],
      listRule: 'nothing != ""',
      viewRule: 'id =',
      createRule: '@request.body.id != "" && id != ""',
    });
    assertProblems(answer, {
      listRule: 'validation_invalid_rule',
      viewRule: 'validation_invalid_rule',
    });
  });
});

test('collections', async (t) => {
  const api = await operator(t);
  await api.define({ name: 'mine', fields: [{ name: 'title', type: 'text' }] });
  const names = async (query) =>
    (await api.get(`/api/collections?perPage=500${query}`)).body.items.map(({ name }) => name);

  await t.test("of the server's modules are listed with system=all only", async () => {
    const listed = await names(''),
      all = await names('&system=all');
    assert.ok(listed.includes('mine') && listed.includes('_superusers'));
    assert.ok(!listed.includes('_tenants'));
    assert.ok(all.includes('_tenants') && all.length > listed.length);
  });

  await t.test('of the system cannot be deleted, nor their names taken', async () => {
    assert.equal((await api.remove('/api/collections/_superusers')).status, 400);
    for (const name of ['_mine', '_superusers', 'mine', 'auth', '']) {
      const answer = await api.post('/api/collections', { name, type: 'base', fields: [] });
      assert.equal(answer.status, 400, `${name}: ${answer.text}`);
      assert.ok('name' in answer.body.data, answer.text);
    }
  });

  await t.test('change with their records, and go with them', async () => {
    const { id } = await api.create('mine', { title: 'keep' });
    const { body } = await api.get('/api/collections/mine');
    const fields = [...body.fields, { name: 'more', type: 'number' }];
    assert.equal((await api.patch('/api/collections/mine', { fields })).status, 200);
    const record = (await api.get(recordsPath('mine', id))).body;
    assert.deepEqual([record.title, record.more], ['keep', 0]);
    assert.equal((await api.patch('/api/collections/mine', { name: 'renamed' })).status, 200);
    assert.equal((await api.get(recordsPath('renamed', id))).body.title, 'keep');
    assert.equal((await api.get(recordsPath('mine', id))).status, 404);
    assert.equal((await api.remove('/api/collections/renamed')).status, 204);
    assert.equal((await api.get(recordsPath('renamed'))).status, 404);
  });
});

test('a schema may change while records are written, and no write is lost or half done', async (t) => {
  const { server, token, define, get, patch } = await operator(t);
  await define({ name: 'moving', ...open, fields: [{ name: 'title', type: 'text' }] });
  let isOver = false;
  const answers = [];
  const writers = Array.from({ length: 8 }, async () => {
    while (!isOver)
      answers.push(await server.request('POST', '/moving', { title: 'x', extra3: 7 }));
  });
  for (let i = 0; i < 12; i++) {
    const { body } = await get('/api/collections/moving');
    const fields = [...body.fields, { name: `extra${i}`, type: 'number' }];
    const changed = await patch('/api/collections/moving', { fields });
    assert.equal(changed.status, 200, changed.text);
  }
  isOver = true;
  await Promise.all(writers);
  for (const { status, text } of answers)
    assert.ok(status === 200 || status === 503, `planned again, or told to try again: ${text}`);
  const created = answers.filter(({ status }) => status === 200).map(({ body }) => body);
  assert.ok(created.length > 20, 'writes went on meanwhile');
  const rows = new Map((await listAll(server, token, 'moving')).map((row) => [row.id, row]));
  assert.equal(rows.size, created.length);
  for (const { id, extra3 = 0 } of created) assert.equal(rows.get(id).extra3, extra3);
  const { events } = await readFeed(server, token, { query: '&types=*,_*' });
  checkContiguous(events, 1);
  assert.equal(events.filter(({ type }) => type === 'moving.created').length, created.length);
});

test('more logins at once than can be hashed are told to come back', async (t) => {
  const args = ['--password-threads', '1', '--password-queue-max', '1'];
  const server = await startServer(t, { args });
  await createSuperuser(server);
  const path = '/api/collections/_superusers/auth-with-password';
  const logins = Array.from({ length: 12 }, () =>
    server.request('POST', path, { identity: email, password }),
  );
  const quick = await server.request('GET', '/api/health');
  assert.equal(quick.status, 200);
  const answers = await Promise.all(logins);
  const refused = answers.filter(({ status }) => status === 429);
  assert.ok(refused.length > 0 && refused.length < answers.length, 'some, not all');
  for (const { headers } of refused) assert.ok(Number(headers.get('retry-after')) >= 1);
  for (const { status } of answers) assert.ok(status === 200 || status === 429);
});
