/** Writing records as apps do: modifiers, ids, auth records. What is expected is the contract's. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { assertProblems, operator } from './support/operator.mjs';
import { open, recordsPath } from './support/records.mjs';

const guest = { token: undefined };
const pass = { password: 'secret-1234', passwordConfirm: 'secret-1234' };

test('modifiers change what a record has', async (t) => {
  const api = await operator(t);
  const to = await api.define({ name: 'targets', fields: [{ name: 't', type: 'text' }] });
  const target = (n) => `target00000000${n}`;
  for (const n of [1, 2, 3]) await api.create('targets', { id: target(n) });
  await api.define({
    name: 'things',
    ...open,
    fields: [
      { name: 'n', type: 'number' },
      { name: 'tag', type: 'select', values: ['a', 'b'], maxSelect: 1 },
      { name: 'tags', type: 'select', values: ['a', 'b', 'c', 'd'], maxSelect: 3 },
      { name: 'one', type: 'relation', collectionId: to.id, maxSelect: 1 },
      { name: 'many', type: 'relation', collectionId: to.id, maxSelect: 3 },
      { name: 'code', type: 'text', autogeneratePattern: 'same' },
    ],
  });
  const id = 'thing0000000001';
  const start = {
    n: 10,
    tag: 'a',
    tags: ['a', 'b'],
    one: target(1),
    many: [target(1), target(2)],
    code: 'abc',
  };
  const cases = [
    [{ 'n+': 2 }, { n: 12 }],
    [{ 'n-': '2.5' }, { n: 7.5 }],
    [{ 'n+': 1, 'n-': 3 }, { n: 8 }],
    [{ 'n+': 2, n: 1 }, { n: 3 }],
    [{ '+n': 5 }, { n: 10 }],
    [{ 'n+': 'x' }, { n: 10 }],
    [{ 'tags+': 'c' }, { tags: ['a', 'b', 'c'] }],
    [{ '+tags': ['d', 'a'] }, { tags: ['d', 'a', 'b'] }],
    [{ 'tags-': ['a', 'zzz'] }, { tags: ['b'] }],
    [{ 'tags-': 'a', 'tags+': 'c' }, { tags: ['b', 'c'] }],
    [{ tags: ['c'], 'tags+': 'd' }, { tags: ['c', 'd'] }],
    [{ 'tag+': 'b' }, { tag: 'b' }],
    [{ '+tag': 'b' }, { tag: 'a' }],
    [{ 'tag-': 'a' }, { tag: '' }],
    [{ 'many+': target(3) }, { many: [target(1), target(2), target(3)] }],
    [{ 'many-': target(1) }, { many: [target(2)] }],
    [{ 'one+': target(2) }, { one: target(2) }],
    [{ 'code:autogenerate': 'x-' }, { code: 'x-same' }],
    [{ 'code+': 'x', 'nothing+': 1 }, {}],
  ];
  for (const [body, changed] of cases) {
    await api.remove(recordsPath('things', id));
    await api.create('things', { id, ...start });
    const answer = await api.patch(recordsPath('things', id), body);
    assert.equal(answer.status, 200, answer.text);
    const { collectionId, collectionName, ...record } = answer.body;
    assert.deepEqual(record, { id, ...start, ...changed }, JSON.stringify(body));
  }
  const problem = await api.patch(recordsPath('things', id), { 'tags+': ['c', 'd'] });
  assertProblems(problem, { tags: 'validation_too_many_values' });
  assertProblems(await api.patch(recordsPath('things', id), { 'tags+': 'zzz' }), {
    tags: 'validation_invalid_value',
  });
  const made = await api.post(recordsPath('things'), { 'n-': 7, 'tags+': ['b', 'a'] });
  assert.deepEqual([made.body.n, made.body.tags], [-7, ['b', 'a']]);
});

test('many clients that add at the same time lose nothing', async (t) => {
  const api = await operator(t);
  await api.define({ name: 'things', fields: [{ name: 'n', type: 'number' }] });
  const { id } = await api.create('things', {});
  const add = () => api.patch(recordsPath('things', id), { 'n+': 1 });
  const answers = await Promise.all(Array.from({ length: 60 }, add));
  assert.deepEqual(
    answers.map(({ body }) => body.n).sort((a, b) => a - b),
    Array.from({ length: 60 }, (_, i) => i + 1),
  );
});

test('ids, and what must be unique', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'notes',
    ...open,
    fields: [
      { name: 'a', type: 'text' },
      { name: 'b', type: 'text' },
      { name: 'c', type: 'text' },
    ],
    indexes: [
      'CREATE UNIQUE INDEX idx_ab ON notes (a, b)',
      "CREATE UNIQUE INDEX idx_lower ON notes (lower(c)) WHERE c != ''",
    ],
  });
  const path = recordsPath('notes');
  const id = 'note00000000001';
  assert.equal((await api.post(path, { id, a: 'x', b: 'y', c: 'one' })).status, 200);
  assertProblems(await api.post(path, { id, a: 'q' }), { id: 'validation_not_unique' });
  assertProblems(await api.post(path, { a: 'x', b: 'y' }), {
    a: 'validation_not_unique',
    b: 'validation_not_unique',
  });
  assertProblems(await api.post(path, { c: 'ONE' }), {}, 'Failed to create record.');
  assert.equal((await api.post(path, { id: '' })).body.id.length, 15);
  assert.equal((await api.post(path, { id: null, b: 'n' })).body.id.length, 15);
  assert.equal((await api.post(path, { id: 123456789012345, b: 'i' })).body.id, '123456789012345');
  for (const [wrong, code] of Object.entries({
    short: 'validation_min_text_constraint',
    NOTE00000000001: 'validation_invalid_format',
    abcdefghijklmnop: 'validation_max_text_constraint',
  }))
    assertProblems(await api.post(path, { id: wrong }), { id: code });
  assert.equal((await api.patch(`${path}/${id}`, { id, b: 'z' })).status, 200);
  for (const other of ['note00000000002', '', null])
    assertProblems(await api.patch(`${path}/${id}`, { id: other }), { id: 'validation_pk_change' });
  for (const body of ['null', '{}', undefined])
    assert.equal((await api.patch(`${path}/${id}`, body)).status, 200, `${body}`);
});

test('a rule sees the body as it will be stored', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'notes',
    ...open,
    fields: [
      { name: 'n', type: 'number' },
      { name: 'tags', type: 'select', values: ['a', 'b', 'c'], maxSelect: 3 },
      { name: 'hidden', type: 'text', hidden: true },
    ],
  });
  const path = recordsPath('notes');
  const id = 'note00000000001';
  await api.create('notes', { id, n: 1, tags: ['a'], hidden: 'h' });
  const cases = [
    ['@request.body.n = 3', { 'n+': 2 }, 200],
    ['@request.body.n = 3', { 'n+': 1 }, 404],
    ['@request.body.n = 3', { n: '3' }, 200],
    ['@request.body.tags:length = 2', { 'tags+': 'b' }, 200],
    ['@request.body.tags:length = 0', { 'tags-': 'a' }, 200],
    ['@request.body.tags:changed = false', { 'tags+': 'a' }, 200],
    ['@request.body.hidden:isset = true', { hidden: 'x' }, 404],
    ['@request.body.other = "x"', { other: 'x' }, 200],
  ];
  for (const [updateRule, body, status] of cases) {
    await api.patch('/api/collections/notes', { updateRule });
    await api.patch(`${path}/${id}`, { n: 1, tags: ['a'], hidden: 'h' });
    const answer = await api.patch(`${path}/${id}`, body, guest);
    assert.equal(answer.status, status, `${updateRule} ${JSON.stringify(body)} ${answer.text}`);
  }
  assert.equal((await api.get(`${path}/${id}`)).body.hidden, 'h');
});

/** A collection of people, one of them signed in, and one who manages. */
async function people(t) {
  const api = await operator(t);
  const fields = [{ name: 'role', type: 'text' }];
  await api.define({ name: 'people', type: 'auth', ...open, fields });
  await api.define({ name: 'staff', type: 'auth', ...open });
  const id = 'person000000001';
  await api.create('people', { id, email: 'p@example.com', ...pass });
  await api.create('staff', { id: 'staff0000000001', email: 's@example.com', ...pass });
  const signIn = async (name, email, password = pass.password) => {
    const client = new PocketBase(api.server.url);
    await client.collection(name).authWithPassword(email, password);
    return { token: client.authStore.token };
  };
  const change = (body, options) => api.patch(recordsPath('people', id), body, options);
  return { api, id, change, signIn, self: await signIn('people', 'p@example.com') };
}

test('accounts are made with a password that is typed twice', async (t) => {
  const { api, id } = await people(t);
  const make = (body, options = guest) => api.post(recordsPath('people'), body, options);
  const blank = 'validation_required';
  const mismatch = 'validation_values_mismatch';
  const cases = [
    [{}, { password: blank, passwordConfirm: blank }],
    [{ email: 'no', password: 'x' }, { passwordConfirm: blank }],
    [{ email: 'no', passwordConfirm: 'x' }, { password: blank, passwordConfirm: mismatch }],
    [{ email: 'no', password: 'x', passwordConfirm: 'y' }, { passwordConfirm: mismatch }],
    [{ email: 'no', ...pass, verified: true }, { verified: mismatch }],
    [
      { email: 'no', password: 'x', passwordConfirm: 'x' },
      { email: 'validation_is_email', password: 'validation_min_text_constraint' },
    ],
    [{ email: 'p@example.com', ...pass }, { email: 'validation_not_unique' }],
    [
      { id: 'staff0000000001', email: 'q@example.com', ...pass },
      { id: 'validation_invalid_auth_id' },
    ],
  ];
  for (const [body, codes] of cases) assertProblems(await make(body), codes);
  const made = await make({ email: 'g@example.com', tokenKey: 'x', ...pass });
  assert.equal(made.status, 200, made.text);
  assert.deepEqual(Object.keys(made.body).sort(), [
    'collectionId',
    'collectionName',
    'emailVisibility',
    'id',
    'role',
    'verified',
  ]);
  const visible = await make({ email: 'v@example.com', emailVisibility: true, ...pass });
  assert.equal(visible.body.email, 'v@example.com');
  const verified = await make({ verified: true, email: 'w@example.com', ...pass }, {});
  assert.equal(verified.body.verified, true, 'a superuser says so');
  const superuser = { id, email: 'x@example.com', ...pass };
  assertProblems(await api.post(recordsPath('_superusers'), superuser), {
    id: 'validation_invalid_auth_id',
  });
});

test('an owner changes little without a manager', async (t) => {
  const { change, self, signIn, api } = await people(t);
  const refused = [
    [{ email: 'new@example.com' }, { email: 'validation_values_mismatch' }],
    [{ verified: true }, { verified: 'validation_values_mismatch' }],
    [{ ...pass }, { oldPassword: 'validation_required' }],
    [{ oldPassword: 'nope', ...pass }, { oldPassword: 'validation_invalid_old_password' }],
    [{ password: '' }, { password: 'validation_required' }],
    [
      { oldPassword: 'nope' },
      { password: 'validation_required', passwordConfirm: 'validation_required' },
    ],
  ];
  for (const [body, codes] of refused) assertProblems(await change(body, self), codes);
  for (const body of [{ role: 'x' }, { email: 'p@example.com' }, { tokenKey: 'x' }]) {
    const answer = await change(body, self);
    assert.equal(answer.status, 200, answer.text);
  }
  assert.equal((await change({ verified: false }, guest)).status, 200);
  const own = '/api/collections/people/auth-refresh';
  assert.equal((await api.post(own, undefined, self)).status, 200, 'the token still serves');

  const next = { password: 'another-1234', passwordConfirm: 'another-1234' };
  const changed = await change({ oldPassword: pass.password, ...next }, self);
  assert.equal(changed.status, 200, changed.text);
  assert.equal((await api.post(own, undefined, self)).status, 401, 'the old token is revoked');
  assert.ok((await signIn('people', 'p@example.com', next.password)).token);
  await assert.rejects(signIn('people', 'p@example.com'));
});

test('managers change what owners cannot', async (t) => {
  const { api, id, change, signIn, self } = await people(t);
  const staff = await signIn('staff', 's@example.com');
  await api.patch('/api/collections/people', {
    manageRule: 'role = "managed" && @request.auth.collectionName = "staff"',
  });
  const mismatch = { verified: 'validation_values_mismatch' };
  assertProblems(await change({ verified: true }, staff), mismatch);
  await api.patch(recordsPath('people', id), { role: 'managed' });
  assert.equal((await change({ verified: true }, staff)).body.verified, true);
  assert.equal((await change({ email: 'm@example.com' }, staff)).body.email, 'm@example.com');
  assertProblems(await change({ verified: false }, self), mismatch);
});

test('what belongs to an account points at it and goes with it', async (t) => {
  const { api, id } = await people(t);
  const collectionRef = (await api.get('/api/collections/people')).body.id;
  const notes = await api.define({ name: 'notes', fields: [{ name: 'x', type: 'text' }] });
  const make = (body) =>
    api.post(recordsPath('_externalAuths'), { provider: 'a', providerId: 'b', ...body });
  const cases = [
    [{ collectionRef: 'nope', recordRef: id }, 'collectionRef', 'validation_invalid_collection_id'],
    [
      { collectionRef: notes.id, recordRef: id },
      'collectionRef',
      'validation_invalid_collection_type',
    ],
    [{ collectionRef, recordRef: 'nope' }, 'recordRef', 'validation_invalid_record'],
  ];
  for (const [body, field, code] of cases) assertProblems(await make(body), { [field]: code });
  const made = await make({ collectionRef, recordRef: id });
  assert.equal(made.status, 200, made.text);
  assert.equal((await api.remove(recordsPath('people', id))).status, 204);
  assert.equal((await api.get(recordsPath('_externalAuths', made.body.id))).status, 404);
});
