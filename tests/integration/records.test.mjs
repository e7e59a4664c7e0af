/** Records over REST: every field type, its rules, lists and pages, the short form, and who may do what. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readFeed } from './support/feed.mjs';
import { startServer } from './support/program.mjs';
import { createCollection, createRecord, listAll, open, recordsPath } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';

const DATE = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/;

async function operator(t) {
  const server = await startServer(t);
  const token = await operatorToken(server);
  return {
    server, token,
    define: (definition) => createCollection(server, token, definition),
    create: (collection, record) => createRecord(server, token, collection, record),
    get: (path, options) => server.request('GET', path, undefined, { token, ...options }),
    post: (path, body, options) => server.request('POST', path, body, { token, ...options }),
    patch: (path, body, options) => server.request('PATCH', path, body, { token, ...options }),
    remove: (path, options) => server.request('DELETE', path, undefined, { token, ...options }),
  };
}

/** The error shape, and for each field its code: nothing more, nothing less. */
function assertProblems(answer, codes, message) {
  assert.equal(answer.status, 400, answer.text);
  assert.deepEqual(Object.keys(answer.body).sort(), ['data', 'message', 'requestId', 'status']);
  assert.equal(answer.body.status, 400);
  if (message) assert.equal(answer.body.message, message);
  assert.deepEqual(Object.fromEntries(Object.entries(answer.body.data).map(([field, { code }]) => [field, code])), codes);
  for (const problem of Object.values(answer.body.data)) assert.match(problem.message, /^\S.*\.$/, 'a sentence');
}

function assertRefused(answer, status) {
  assert.equal(answer.status, status, answer.text);
  assert.equal(answer.body.status, status);
  assert.deepEqual(answer.body.data, {});
  assert.equal(typeof answer.body.message, 'string');
}

const everyType = (targetId) => ({
  name: 'every', ...open,
  fields: [
    { name: 'text', type: 'text', max: 20 },
    { name: 'number', type: 'number' },
    { name: 'bool', type: 'bool' },
    { name: 'email', type: 'email' },
    { name: 'url', type: 'url' },
    { name: 'date', type: 'date' },
    { name: 'one', type: 'select', values: ['a', 'b', 'c'], maxSelect: 1 },
    { name: 'many', type: 'select', values: ['a', 'b', 'c'], maxSelect: 2 },
    { name: 'relation', type: 'relation', collectionId: targetId, maxSelect: 1 },
    { name: 'relations', type: 'relation', collectionId: targetId, maxSelect: 3 },
    { name: 'json', type: 'json' },
    { name: 'created', type: 'autodate', onCreate: true },
    { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true },
  ],
});

test('a record of every field type', async (t) => {
  const api = await operator(t);
  const target = await api.define({ name: 'targets', ...open, fields: [{ name: 'title', type: 'text' }] });
  const collection = await api.define(everyType(target.id));
  const path = recordsPath('every');
  const first = await api.create('targets', { title: 'first' }), second = await api.create('targets', { title: 'second' });
  const given = {
    text: 'Grüße 🎉 "q" \\', number: 12.5, bool: true, email: 'john@example.com', url: 'https://example.com/a?b=c',
    date: '2022-01-02 03:04:05.678Z', one: 'b', many: ['c', 'a'], relation: first.id, relations: [second.id, first.id],
    json: { a: [1, null, 'x'], b: { c: true } },
  };
  let record;

  await t.test('is created as given and answered whole', async () => {
    const answer = await api.post(path, given);
    assert.equal(answer.status, 200, answer.text);
    record = answer.body;
    const { id, collectionId, collectionName, created, updated, ...rest } = record;
    assert.match(id, /^[a-z0-9]{15}$/);
    assert.equal(collectionId, collection.id);
    assert.equal(collectionName, 'every');
    assert.match(created, DATE);
    assert.equal(updated, created);
    assert.deepEqual(rest, given);
  });

  await t.test('is the same by its id, in the list and in its event', async () => {
    assert.deepEqual((await api.get(recordsPath('every', record.id))).body, record);
    assert.deepEqual((await api.get(path)).body.items, [record]);
    const { events } = await readFeed(api.server, api.token, { query: '&types=every.*' });
    assert.equal(events.length, 1);
    const { collectionId, collectionName, ...fields } = record;
    assert.deepEqual(events[0].payload, fields);
  });

  await t.test('without anything has the empty value of each type', async () => {
    const { body } = await api.post(path, {});
    const { id, collectionId, collectionName, created, updated, ...rest } = body;
    assert.deepEqual(rest, {
      text: '', number: 0, bool: false, email: '', url: '', date: '', one: '', many: [], relation: '', relations: [], json: null,
    });
  });

  await t.test('changes only what is given, and updated', async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { status, body } = await api.patch(recordsPath('every', record.id), { number: 7, many: [] });
    assert.equal(status, 200);
    assert.ok(body.updated > record.updated);
    assert.deepEqual(body, { ...record, number: 7, many: [], updated: body.updated });
    record = body;
  });

  await t.test('cannot have its autodates set by a client', async () => {
    const then = '2020-01-01 00:00:00.000Z';
    const { body } = await api.patch(recordsPath('every', record.id), { created: then, updated: then });
    assert.equal(body.created, record.created);
    assert.ok(body.updated >= record.updated);
  });

  await t.test('ignores keys that are no fields', async () => {
    const { status, body } = await api.post(path, { text: 'x', nonsense: 1, collectionId: 'x', collectionName: 'y' });
    assert.equal(status, 200);
    assert.equal(body.nonsense, undefined);
    assert.equal(body.collectionName, 'every');
  });

  await t.test('takes an id that matches the pattern, once', async () => {
    const id = 'abcdefghij12345';
    assert.equal((await api.post(path, { id })).body.id, id);
    const again = await api.post(path, { id });
    assert.equal(again.status, 400, again.text);
    assert.deepEqual(Object.keys(again.body.data), ['id']);
    assertProblems(await api.post(path, { id: 'ABCDEFGHIJ12345' }), { id: 'validation_invalid_format' }, 'Failed to create record.');
    assertProblems(await api.post(path, { id: 'short' }), { id: 'validation_min_text_constraint' });
  });

  await t.test('is gone after its deletion', async () => {
    const gone = recordsPath('every', record.id);
    const answer = await api.remove(gone);
    assert.equal(answer.status, 204);
    assert.equal(answer.text, '');
    for (const after of [await api.get(gone), await api.patch(gone, {}), await api.remove(gone)]) assertRefused(after, 404);
  });

  await t.test('is not there under a collection that is not there', async () => {
    assertRefused(await api.get(recordsPath('nothing')), 404);
    assertRefused(await api.post(recordsPath('nothing'), {}), 404);
  });
});

/* field → value that it refuses → code, all as PocketBase has them. */
const refusals = [
  [{ type: 'text', required: true }, '', 'validation_required'],
  [{ type: 'text', required: true }, undefined, 'validation_required'],
  [{ type: 'text', min: 3 }, 'ab', 'validation_min_text_constraint'],
  [{ type: 'text', max: 3 }, 'äöüß', 'validation_max_text_constraint'],
  [{ type: 'text', pattern: '^[a-z]+$' }, 'A1', 'validation_invalid_format'],
  [{ type: 'number', required: true }, 0, 'validation_required'],
  [{ type: 'number', min: 3 }, 2.5, 'validation_min_number_constraint'],
  [{ type: 'number', max: 3 }, 3.5, 'validation_max_number_constraint'],
  [{ type: 'number', onlyInt: true }, 1.5, 'validation_only_int_constraint'],
  [{ type: 'bool', required: true }, false, 'validation_required'],
  [{ type: 'email', required: true }, '', 'validation_required'],
  [{ type: 'email' }, 'not an address', 'validation_is_email'],
  [{ type: 'email', onlyDomains: ['example.com'] }, 'a@example.org', 'validation_email_domain_not_allowed'],
  [{ type: 'email', exceptDomains: ['example.com'] }, 'a@example.com', 'validation_email_domain_not_allowed'],
  [{ type: 'url' }, 'not a url', 'validation_invalid_url'],
  [{ type: 'url', onlyDomains: ['example.com'] }, 'https://example.org/', 'validation_url_domain_not_allowed'],
  [{ type: 'date', required: true }, 'no date', 'validation_required'],
  [{ type: 'date', min: '2020-01-01 00:00:00.000Z' }, '2019-12-31 23:59:59.999Z', 'validation_min_greater_equal_than_required'],
  [{ type: 'date', max: '2020-01-01 00:00:00.000Z' }, '2020-01-01 00:00:00.001Z', 'validation_max_less_equal_than_required'],
  [{ type: 'select', values: ['a', 'b'], maxSelect: 1, required: true }, '', 'validation_required'],
  [{ type: 'select', values: ['a', 'b'], maxSelect: 1 }, 'x', 'validation_invalid_value'],
  [{ type: 'select', values: ['a', 'b', 'c'], maxSelect: 2 }, ['a', 'b', 'c'], 'validation_too_many_values'],
  [{ type: 'json', required: true }, null, 'validation_required'],
  [{ type: 'json', required: true }, {}, 'validation_required'],
  [{ type: 'json', maxSize: 10 }, { long: 'long enough' }, 'validation_json_size_limit'],
];

test('what a field refuses', async (t) => {
  const api = await operator(t);
  let number = 0;
  for (const [field, value, code] of refusals) {
    const { type, ...options } = field;
    await t.test(`${type} ${JSON.stringify(options)} refuses ${JSON.stringify(value)} with ${code}`, async () => {
      const name = `refusing${++number}`;
      await api.define({ name, ...open, fields: [{ name: 'f', ...field }] });
      const body = value === undefined ? {} : { f: value };
      assertProblems(await api.post(recordsPath(name), body), { f: code }, 'Failed to create record.');
      assert.deepEqual(await listAll(api.server, api.token, name), [], 'nothing was created');
    });
  }

  await t.test('all problems of a record are told at once, on update too, and nothing is changed', async () => {
    await api.define({
      name: 'several', ...open,
      fields: [{ name: 'title', type: 'text', required: true }, { name: 'count', type: 'number', max: 5 }, { name: 'mail', type: 'email' }],
    });
    assertProblems(await api.post(recordsPath('several'), { count: 6, mail: 'x' }),
      { title: 'validation_required', count: 'validation_max_number_constraint', mail: 'validation_is_email' });
    const record = await api.create('several', { title: 'a', count: 1 });
    assertProblems(await api.patch(recordsPath('several', record.id), { title: '', count: 9 }),
      { title: 'validation_required', count: 'validation_max_number_constraint' }, 'Failed to update record.');
    assert.deepEqual((await api.get(recordsPath('several', record.id))).body, record);
  });
});

test('a unique index', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'articles', ...open,
    fields: [{ name: 'slug', type: 'text' }, { name: 'language', type: 'text' }, { name: 'code', type: 'text' }],
    indexes: [
      'CREATE UNIQUE INDEX `idx_articles_slug` ON `articles` (`slug`, `language`)',
      "CREATE UNIQUE INDEX `idx_articles_code` ON `articles` (`code`) WHERE `code` != ''",
    ],
  });
  const first = await api.create('articles', { slug: 'a', language: 'en', code: 'x' });

  await t.test('names each field of the conflict on create', async () => {
    assertProblems(await api.post(recordsPath('articles'), { slug: 'a', language: 'en', code: 'y' }),
      { slug: 'validation_not_unique', language: 'validation_not_unique' }, 'Failed to create record.');
    assertProblems(await api.post(recordsPath('articles'), { slug: 'b', language: 'en', code: 'x' }), { code: 'validation_not_unique' });
  });

  await t.test('names it on update', async () => {
    const second = await api.create('articles', { slug: 'a', language: 'de' });
    assertProblems(await api.patch(recordsPath('articles', second.id), { code: 'x' }), { code: 'validation_not_unique' }, 'Failed to update record.');
    assert.equal((await api.get(recordsPath('articles', second.id))).body.code, '');
    assert.equal((await api.patch(recordsPath('articles', first.id), { code: 'x' })).status, 200, 'its own value is no conflict');
  });

  await t.test('lets one of many at once through', async () => {
    const answers = await Promise.all(Array.from({ length: 12 }, () => api.post(recordsPath('articles'), { slug: 'race', language: 'en' })));
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array(11).fill(400)]);
    const { events } = await readFeed(api.server, api.token, { query: '&types=articles.created' });
    assert.equal(events.filter(({ payload }) => payload.slug === 'race').length, 1, 'one event for the one that was created');
  });
});

test('relations', async (t) => {
  const api = await operator(t);
  const authors = await api.define({ name: 'authors', ...open, fields: [{ name: 'name', type: 'text' }] });
  const relation = (name, options) => ({ name, type: 'relation', collectionId: authors.id, maxSelect: 1, ...options });
  const make = (name, field) => api.define({ name, ...open, fields: [{ name: 'title', type: 'text' }, field] });
  await make('optional', relation('author'));
  await make('several', relation('authors', { maxSelect: 5 }));
  await make('owned', relation('author', { cascadeDelete: true }));
  await make('required', relation('author', { required: true }));
  const author = (name) => api.create('authors', { name });
  const events = async (types) => (await readFeed(api.server, api.token, { query: `&types=${types}` })).events;

  await t.test('to a record that is not there is refused', async () => {
    assertProblems(await api.post(recordsPath('optional'), { author: 'nobody000000000' }), { author: 'validation_missing_rel_records' });
    const ann = await author('Ann');
    assertProblems(await api.post(recordsPath('several'), { authors: [ann.id, 'nobody000000000'] }), { authors: 'validation_missing_rel_records' });
    assertProblems(await api.post(recordsPath('required'), {}), { author: 'validation_required' });
  });

  await t.test('is emptied when its record is deleted, with an event that has the former value', async () => {
    const ann = await author('Ann');
    const record = await api.create('optional', { title: 'x', author: ann.id });
    assert.equal((await api.remove(recordsPath('authors', ann.id))).status, 204);
    assert.equal((await api.get(recordsPath('optional', record.id))).body.author, '');
    const [event] = await events('optional.updated');
    assert.equal(event.payload.author, '');
    assert.deepEqual(event.previous, { author: ann.id });
  });

  await t.test('of several loses only the deleted one', async () => {
    const ann = await author('Ann'), bob = await author('Bob');
    const record = await api.create('several', { authors: [bob.id, ann.id] });
    await api.remove(recordsPath('authors', bob.id));
    assert.deepEqual((await api.get(recordsPath('several', record.id))).body.authors, [ann.id]);
  });

  await t.test('that cascades takes its records along, each with its event, in one commit', async () => {
    const ann = await author('Ann');
    const owned = [await api.create('owned', { title: '1', author: ann.id }), await api.create('owned', { title: '2', author: ann.id })];
    await api.remove(recordsPath('authors', ann.id));
    for (const { id } of owned) assertRefused(await api.get(recordsPath('owned', id)), 404);
    const deleted = await events('authors.deleted,owned.deleted');
    const last = deleted.slice(-3);
    assert.deepEqual(last.map(({ subject }) => subject).sort(), [`authors/${ann.id}`, ...owned.map(({ id }) => `owned/${id}`)].sort());
    assert.deepEqual(last.map(({ sequence }) => sequence), [0, 1, 2].map((i) => last[0].sequence + i));
  });

  await t.test('that is required stands in the way of the deletion, of which nothing remains', async () => {
    const ann = await author('Ann');
    const optional = await api.create('optional', { author: ann.id });
    const required = await api.create('required', { author: ann.id });
    const before = await events('*');
    const answer = await api.remove(recordsPath('authors', ann.id));
    assertRefused(answer, 400);
    assert.match(answer.body.message, /required relation/);
    assert.equal((await api.get(recordsPath('authors', ann.id))).status, 200);
    assert.equal((await api.get(recordsPath('optional', optional.id))).body.author, ann.id);
    assert.equal((await events('*')).length, before.length, 'no event of what was rolled back');
    assert.equal((await api.remove(recordsPath('required', required.id))).status, 204);
    assert.equal((await api.remove(recordsPath('authors', ann.id))).status, 204, 'then it works');
  });

  await t.test('in a circle of cascades ends', async () => {
    const nodes = await api.define({ name: 'nodes', ...open, fields: [{ name: 'title', type: 'text' }] });
    const { body } = await api.get('/api/collections/nodes');
    const next = { name: 'next', type: 'relation', collectionId: nodes.id, maxSelect: 1, cascadeDelete: true };
    const changed = await api.patch('/api/collections/nodes', { fields: [...body.fields, next] });
    assert.equal(changed.status, 200, changed.text);
    const a = await api.create('nodes', {}), b = await api.create('nodes', { next: a.id });
    await api.patch(recordsPath('nodes', a.id), { next: b.id });
    assert.equal((await api.remove(recordsPath('nodes', a.id))).status, 204);
    assert.deepEqual(await listAll(api.server, api.token, 'nodes'), []);
  });
});

test('lists', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'items', ...open,
    fields: [{ name: 'n', type: 'number' }, { name: 'group', type: 'text' }, { name: 'secret', type: 'text', hidden: true }],
  });
  const path = recordsPath('items');
  for (let start = 0; start < 95; start += 19)
    await Promise.all(Array.from({ length: 19 }, (_, i) => api.create('items', { n: start + i, group: 'abc'[(start + i) % 3], secret: 's' })));
  const page = async (query) => {
    const { status, body, text } = await api.get(`${path}?${query}`);
    assert.equal(status, 200, text);
    return body;
  };
  const numbers = ({ items }) => items.map(({ n }) => n);

  await t.test('have pages of 30 unless asked otherwise, and say how many there are', async () => {
    const { items, ...envelope } = await page('');
    assert.deepEqual(envelope, { page: 1, perPage: 30, totalItems: 95, totalPages: 4 });
    assert.equal(items.length, 30);
    const last = await page('page=4&sort=n');
    assert.deepEqual(numbers(last), [90, 91, 92, 93, 94]);
    assert.deepEqual((await page('page=5')).items, []);
  });

  await t.test('take perPage up to 1000 and say which they used', async () => {
    assert.equal((await page('perPage=1000')).items.length, 95);
    assert.equal((await page('perPage=5000')).perPage, 1000);
    assert.equal((await page('perPage=0')).perPage, 30);
    assert.equal((await page('perPage=7&page=2&sort=n')).items[0].n, 7);
    assert.equal((await api.get(`${path}?page=x`)).status, 400);
  });

  await t.test('are not counted with skipTotal', async () => {
    const { totalItems, totalPages, items } = await page('skipTotal=1&perPage=3');
    assert.deepEqual([totalItems, totalPages, items.length], [-1, -1, 3]);
  });

  await t.test('are sorted by several fields, each in its direction', async () => {
    assert.deepEqual(numbers(await page('sort=-n&perPage=3')), [94, 93, 92]);
    const { items } = await page('sort=group,-n&perPage=1000');
    const wanted = [...items].sort((a, b) => a.group.localeCompare(b.group) || b.n - a.n);
    assert.deepEqual(items, wanted);
    assertProblems(await api.get(`${path}?sort=nothing`), { sort: 'validation_invalid_sort' });
    assert.equal((await api.get(`${path}?sort=secret`)).status, 200);
    assert.equal((await api.get(`${path}?sort=secret`, { token: undefined })).status, 400, 'not by what a guest may not see');
  });

  await t.test('show only the asked fields', async () => {
    const { items } = await page('fields=n,group&perPage=2&sort=n');
    assert.deepEqual(items, [{ n: 0, group: 'a' }, { n: 1, group: 'b' }]);
    const { body } = await api.get(`${recordsPath('items', (await page('perPage=1')).items[0].id)}?fields=id`);
    assert.deepEqual(Object.keys(body), ['id']);
  });

  await t.test('by cursor show every record once', async () => {
    for (const sort of ['', '&sort=-n', '&sort=group,-n']) {
      const items = await listAll(api.server, api.token, 'items', { perPage: 10, query: sort });
      assert.equal(items.length, 95);
      assert.equal(new Set(items.map(({ id }) => id)).size, 95);
      if (sort === '&sort=-n') assert.deepEqual(items.map(({ n }) => n), Array.from({ length: 95 }, (_, i) => 94 - i));
    }
    assertProblems(await api.get(`${path}?cursor=nonsense`), { cursor: 'validation_invalid_cursor' });
    const { nextCursor } = await page('cursor=&perPage=5&sort=n');
    assertProblems(await api.get(`${path}?cursor=${nextCursor}&sort=-n`), { cursor: 'validation_invalid_cursor' });
  });

  await t.test('by cursor skip and repeat nothing while records come and go', async () => {
    const before = new Set((await listAll(api.server, api.token, 'items')).map(({ id }) => id));
    const removed = new Set();
    let isOver = false;
    const churn = (async () => {
      const victims = [...before].filter((_, i) => i % 5 === 0);
      while (!isOver) {
        const { id } = await api.create('items', { n: Math.floor(Math.random() * 200), group: 'd' });
        if (Math.random() < 0.5) await api.remove(recordsPath('items', id));
        const victim = victims.pop();
        if (victim) { await api.remove(recordsPath('items', victim)); removed.add(victim); }
      }
    })();
    const seen = await listAll(api.server, api.token, 'items', { perPage: 3, query: '&sort=n' });
    isOver = true;
    await churn;
    const ids = seen.map(({ id }) => id);
    assert.equal(new Set(ids).size, ids.length, 'nothing twice');
    for (const id of before) assert.ok(ids.includes(id) || removed.has(id), 'what was there all the time was seen');
  });

  await t.test('refuse what the server cannot do yet', async () => {
    assertProblems(await api.get(`${path}?filter=n%3D1`), { filter: 'validation_not_supported' });
    assertProblems(await api.get(`${path}?expand=x`), { expand: 'validation_not_supported' });
  });
});

test('the short form', async (t) => {
  const api = await operator(t);
  await api.define({ name: 'posts', ...open, fields: [{ name: 'title', type: 'text', required: true }] });
  const record = (await api.post('/posts', { title: 'Hello' }, { token: undefined })).body;

  await t.test('creates, answers, lists, changes and deletes as the long one does', async () => {
    assert.deepEqual((await api.get(`/posts/${record.id}`)).body, record);
    assert.deepEqual((await api.get(`/api/collections/posts/records/${record.id}`)).body, record);
    assert.deepEqual((await api.get('/posts?perPage=5')).body, { page: 1, perPage: 5, totalItems: 1, totalPages: 1, items: [record] });
    assert.equal((await api.patch(`/posts/${record.id}`, { title: 'Changed' })).body.title, 'Changed');
    const other = (await api.post('/posts', { title: 'x' })).body;
    assert.equal((await api.remove(`/posts/${other.id}`)).status, 204);
    assertProblems(await api.post('/posts', {}), { title: 'validation_required' });
  });

  await t.test('answers JSON unless the client would rather have a page', async () => {
    for (const accept of [undefined, '*/*', 'application/json', 'application/json, text/html']) {
      const answer = await api.get('/posts', { headers: accept ? { accept } : {} });
      assert.equal(answer.status, 200, accept);
      assert.match(answer.headers.get('vary'), /Accept/);
    }
    for (const accept of ['text/html', 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8']) {
      const answer = await api.get('/posts', { headers: { accept } });
      assert.equal(answer.status, 404, 'there is no page here');
    }
    assert.equal((await api.post('/posts', { title: 'by form' }, { headers: { accept: 'text/html' } })).status, 200, 'only reads give way');
  });

  await t.test('is not there for other methods, longer paths, missing collections and system collections', async () => {
    for (const [method, path] of [['PUT', '/posts'], ['DELETE', '/posts'], ['PATCH', '/posts'], ['POST', `/posts/${record.id}`],
      ['GET', `/posts/${record.id}/more`], ['GET', '/nothing'], ['GET', '/_superusers'], ['GET', '/posts/']])
      assert.equal((await api.server.request(method, path, method === 'GET' ? undefined : {}, { token: api.token })).status, 404, `${method} ${path}`);
  });
});

test('numbers and JSON are kept as they are', async (t) => {
  const api = await operator(t);
  await api.define({ name: 'values', ...open, fields: [{ name: 'n', type: 'number' }, { name: 'j', type: 'json' }] });
  const member = (text, name) => {
    const found = new RegExp(`"${name}":([^,}]+)[,}]`).exec(text);
    return found[1];
  };
  for (const number of ['9007199254740993', '-9223372036854775808', '9223372036854775807', '1763741880123456789', '0.1', '0.30000000000000004', '-1.5', '1e-7']) {
    await t.test(`the number ${number}`, async () => {
      const created = await api.post(recordsPath('values'), `{"n":${number}}`);
      assert.equal(created.status, 200, created.text);
      assert.equal(member(created.text, 'n'), number);
      const { id } = created.body;
      assert.equal(member((await api.get(recordsPath('values', id))).text, 'n'), number, 'read again');
      const feed = await api.get(`/api/events?subject=values/${id}`);
      assert.equal(member(feed.text, 'n'), number, 'in its event');
      await api.patch(recordsPath('values', id), { j: 1 });
      assert.equal(member((await api.get(recordsPath('values', id))).text, 'n'), number, 'after another field has changed');
    });
  }
  await t.test('a json field keeps the text of its value', async () => {
    const text = '{"z":1.50,"a":[9007199254740993,-0,1E400,"\\u00e9\\/"],"b":{"z":1,"a":2}}';
    const created = await api.post(recordsPath('values'), `{"j":${text}}`);
    assert.equal(created.status, 200, created.text);
    assert.ok(created.text.includes(`"j":${text}`), created.text);
    assert.ok((await api.get(recordsPath('values', created.body.id))).text.includes(`"j":${text}`));
  });
});

test('hidden fields', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'people', ...open,
    fields: [{ name: 'name', type: 'text' }, { name: 'salary', type: 'number', hidden: true }, { name: 'note', type: 'text', hidden: true }],
  });
  const canary = 'canary-of-a-hidden-field';
  const { id } = await api.create('people', { name: 'Ann', salary: 987654321, note: canary });
  const guest = { token: undefined };

  await t.test('are shown to superusers only', async () => {
    assert.equal((await api.get(recordsPath('people', id))).body.note, canary);
    for (const answer of [await api.get(recordsPath('people', id), guest), await api.get(recordsPath('people'), guest),
      await api.patch(recordsPath('people', id), { name: 'Bea' }, guest), await api.get(`${recordsPath('people', id)}?fields=note,salary`, guest)]) {
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
  const closed = await api.create('closed', { title: 'c' }), opened = await api.create('opened', { title: 'o' });
  const asGuest = (method, path, body) => api.server.request(method, path, body);

  await t.test('null is for superusers only: 403 for everybody else, also where there is no such record', async () => {
    for (const [method, path, body] of [['GET', recordsPath('closed')], ['GET', recordsPath('closed', closed.id)],
      ['GET', recordsPath('closed', 'nobody000000000')], ['POST', recordsPath('closed'), { title: 'x' }],
      ['PATCH', recordsPath('closed', closed.id), { title: 'x' }], ['DELETE', recordsPath('closed', closed.id)]]) {
      const answer = await asGuest(method, path, body);
      assertRefused(answer, 403);
      assert.equal(answer.body.message, 'Only superusers can perform this action.');
    }
    assert.deepEqual((await api.get(recordsPath('closed', closed.id))).body, closed, 'nothing has changed');
  });

  await t.test('the empty text is for everybody: 404 where there is no such record', async () => {
    assert.equal((await asGuest('GET', recordsPath('opened'))).body.totalItems, 1);
    assert.equal((await asGuest('PATCH', recordsPath('opened', opened.id), { title: 'x' })).status, 200);
    for (const method of ['GET', 'PATCH', 'DELETE'])
      assertRefused(await asGuest(method, recordsPath('opened', 'nobody000000000'), method === 'PATCH' ? {} : undefined), 404);
  });

  await t.test('what is for superusers asks a guest for a token: 401', async () => {
    for (const [method, path, body] of [['GET', '/api/collections'], ['POST', '/api/collections', { name: 'x' }],
      ['GET', '/api/collections/closed'], ['PATCH', '/api/collections/closed', {}], ['DELETE', '/api/collections/closed']])
      assertRefused(await asGuest(method, path, body), 401);
  });

  await t.test('a token that is no good makes a guest', async () => {
    for (const token of ['nonsense', `${api.token}x`, `Bearer ${api.token.slice(0, -2)}`, 'a.b.c']) {
      assertRefused(await api.get('/api/collections', { token }), 401);
      assert.equal((await api.get(recordsPath('opened'), { token })).status, 200);
    }
    assert.equal((await api.get('/api/collections', { token: `Bearer ${api.token}` })).status, 200);
    assert.equal((await api.get('/api/collections', { token: `bEARER ${api.token}` })).status, 200);
  });

  await t.test('an expression is refused rather than ignored', async () => {
    const answer = await api.post('/api/collections', { name: 'expressive', type: 'base', fields: [], listRule: 'id != ""' });
    assertProblems(answer, { listRule: 'validation_invalid_rule' });
  });
});

test('collections', async (t) => {
  const api = await operator(t);
  await api.define({ name: 'mine', fields: [{ name: 'title', type: 'text' }] });
  const names = async (query) => (await api.get(`/api/collections?perPage=500${query}`)).body.items.map(({ name }) => name);

  await t.test('of the server\'s modules are listed with system=all only', async () => {
    const listed = await names(''), all = await names('&system=all');
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
