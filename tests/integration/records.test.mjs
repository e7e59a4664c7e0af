/** Records over REST: every field type, what it takes, keeps and refuses; indexes and relations. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readFeed } from './support/feed.mjs';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { listAll, open, recordsPath } from './support/records.mjs';

const DATE = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/;

const everyType = (targetId) => ({
  name: 'every',
  ...open,
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
  const target = await api.define({
    name: 'targets',
    ...open,
    fields: [{ name: 'title', type: 'text' }],
  });
  const collection = await api.define(everyType(target.id));
  const path = recordsPath('every');
  const first = await api.create('targets', { title: 'first' }),
    second = await api.create('targets', { title: 'second' });
  const given = {
    text: 'Grüße 🎉 "q" \\',
    number: 12.5,
    bool: true,
    email: 'john@example.com',
    url: 'https://example.com/a?b=c',
    date: '2022-01-02 03:04:05.678Z',
    one: 'b',
    many: ['c', 'a'],
    relation: first.id,
    relations: [second.id, first.id],
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
      text: '',
      number: 0,
      bool: false,
      email: '',
      url: '',
      date: '',
      one: '',
      many: [],
      relation: '',
      relations: [],
      json: null,
    });
  });

  await t.test('changes only what is given, and updated', async () => {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const { status, body } = await api.patch(recordsPath('every', record.id), {
      number: 7,
      many: [],
    });
    assert.equal(status, 200);
    assert.ok(body.updated > record.updated);
    assert.deepEqual(body, { ...record, number: 7, many: [], updated: body.updated });
    record = body;
  });

  await t.test('cannot have its autodates set by a client', async () => {
    const then = '2020-01-01 00:00:00.000Z';
    const { body } = await api.patch(recordsPath('every', record.id), {
      created: then,
      updated: then,
    });
    assert.equal(body.created, record.created);
    assert.ok(body.updated >= record.updated);
  });

  await t.test('ignores keys that are no fields', async () => {
    const { status, body } = await api.post(path, {
      text: 'x',
      nonsense: 1,
      collectionId: 'x',
      collectionName: 'y',
    });
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
    assertProblems(
      await api.post(path, { id: 'ABCDEFGHIJ12345' }),
      { id: 'validation_invalid_format' },
      'Failed to create record.',
    );
    assertProblems(await api.post(path, { id: 'short' }), { id: 'validation_min_text_constraint' });
  });

  await t.test('is gone after its deletion', async () => {
    const gone = recordsPath('every', record.id);
    const answer = await api.remove(gone);
    assert.equal(answer.status, 204);
    assert.equal(answer.text, '');
    for (const after of [await api.get(gone), await api.patch(gone, {}), await api.remove(gone)])
      assertRefused(after, 404);
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
  [
    { type: 'email', onlyDomains: ['example.com'] },
    'a@example.org',
    'validation_email_domain_not_allowed',
  ],
  [
    { type: 'email', exceptDomains: ['example.com'] },
    'a@example.com',
    'validation_email_domain_not_allowed',
  ],
  [{ type: 'url' }, 'not a url', 'validation_invalid_url'],
  [
    { type: 'url', onlyDomains: ['example.com'] },
    'https://example.org/',
    'validation_url_domain_not_allowed',
  ],
  [{ type: 'date', required: true }, 'no date', 'validation_required'],
  [
    { type: 'date', min: '2020-01-01 00:00:00.000Z' },
    '2019-12-31 23:59:59.999Z',
    'validation_min_greater_equal_than_required',
  ],
  [
    { type: 'date', max: '2020-01-01 00:00:00.000Z' },
    '2020-01-01 00:00:00.001Z',
    'validation_max_less_equal_than_required',
  ],
  [{ type: 'select', values: ['a', 'b'], maxSelect: 1, required: true }, '', 'validation_required'],
  [{ type: 'select', values: ['a', 'b'], maxSelect: 1 }, 'x', 'validation_invalid_value'],
  [
    { type: 'select', values: ['a', 'b', 'c'], maxSelect: 2 },
    ['a', 'b', 'c'],
    'validation_too_many_values',
  ],
  [{ type: 'json', required: true }, null, 'validation_required'],
  [{ type: 'json', required: true }, {}, 'validation_required'],
  [{ type: 'json', maxSize: 10 }, { long: 'long enough' }, 'validation_json_size_limit'],
];

test('what a field refuses', async (t) => {
  const api = await operator(t);
  let number = 0;
  for (const [field, value, code] of refusals) {
    const { type, ...options } = field;
    await t.test(
      `${type} ${JSON.stringify(options)} refuses ${JSON.stringify(value)} with ${code}`,
      async () => {
        const name = `refusing${++number}`;
        await api.define({ name, ...open, fields: [{ name: 'f', ...field }] });
        const body = value === undefined ? {} : { f: value };
        assertProblems(
          await api.post(recordsPath(name), body),
          { f: code },
          'Failed to create record.',
        );
        assert.deepEqual(await listAll(api.server, api.token, name), [], 'nothing was created');
      },
    );
  }

  await t.test(
    'all problems of a record are told at once, on update too, and nothing is changed',
    async () => {
      await api.define({
        name: 'several',
        ...open,
        fields: [
          { name: 'title', type: 'text', required: true },
          { name: 'count', type: 'number', max: 5 },
          { name: 'mail', type: 'email' },
        ],
      });
      assertProblems(await api.post(recordsPath('several'), { count: 6, mail: 'x' }), {
        title: 'validation_required',
        count: 'validation_max_number_constraint',
        mail: 'validation_is_email',
      });
      const record = await api.create('several', { title: 'a', count: 1 });
      assertProblems(
        await api.patch(recordsPath('several', record.id), { title: '', count: 9 }),
        { title: 'validation_required', count: 'validation_max_number_constraint' },
        'Failed to update record.',
      );
      assert.deepEqual((await api.get(recordsPath('several', record.id))).body, record);
    },
  );
});

test('a unique index', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'articles',
    ...open,
    fields: [
      { name: 'slug', type: 'text' },
      { name: 'language', type: 'text' },
      { name: 'code', type: 'text' },
    ],
    indexes: [
      'CREATE UNIQUE INDEX `idx_articles_slug` ON `articles` (`slug`, `language`)',
      "CREATE UNIQUE INDEX `idx_articles_code` ON `articles` (`code`) WHERE `code` != ''",
    ],
  });
  const first = await api.create('articles', { slug: 'a', language: 'en', code: 'x' });

  await t.test('names each field of the conflict on create', async () => {
    assertProblems(
      await api.post(recordsPath('articles'), { slug: 'a', language: 'en', code: 'y' }),
      { slug: 'validation_not_unique', language: 'validation_not_unique' },
      'Failed to create record.',
    );
    assertProblems(
      await api.post(recordsPath('articles'), { slug: 'b', language: 'en', code: 'x' }),
      { code: 'validation_not_unique' },
    );
  });

  await t.test('names it on update', async () => {
    const second = await api.create('articles', { slug: 'a', language: 'de' });
    assertProblems(
      await api.patch(recordsPath('articles', second.id), { code: 'x' }),
      { code: 'validation_not_unique' },
      'Failed to update record.',
    );
    assert.equal((await api.get(recordsPath('articles', second.id))).body.code, '');
    assert.equal(
      (await api.patch(recordsPath('articles', first.id), { code: 'x' })).status,
      200,
      'its own value is no conflict',
    );
  });

  await t.test('lets one of many at once through', async () => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, () =>
        api.post(recordsPath('articles'), { slug: 'race', language: 'en' }),
      ),
    );
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array(11).fill(400)]);
    const { events } = await readFeed(api.server, api.token, { query: '&types=articles.created' });
    assert.equal(
      events.filter(({ payload }) => payload.slug === 'race').length,
      1,
      'one event for the one that was created',
    );
  });
});

test('relations', async (t) => {
  const api = await operator(t);
  const authors = await api.define({
    name: 'authors',
    ...open,
    fields: [{ name: 'name', type: 'text' }],
  });
  const relation = (name, options) => ({
    name,
    type: 'relation',
    collectionId: authors.id,
    maxSelect: 1,
    ...options,
  });
  const make = (name, field) =>
    api.define({ name, ...open, fields: [{ name: 'title', type: 'text' }, field] });
  await make('optional', relation('author'));
  await make('several', relation('authors', { maxSelect: 5 }));
  await make('owned', relation('author', { cascadeDelete: true }));
  await make('required', relation('author', { required: true }));
  const author = (name) => api.create('authors', { name });
  const events = async (types) =>
    (await readFeed(api.server, api.token, { query: `&types=${types}` })).events;

  await t.test('to a record that is not there is refused', async () => {
    assertProblems(await api.post(recordsPath('optional'), { author: 'nobody000000000' }), {
      author: 'validation_missing_rel_records',
    });
    const ann = await author('Ann');
    assertProblems(
      await api.post(recordsPath('several'), { authors: [ann.id, 'nobody000000000'] }),
      { authors: 'validation_missing_rel_records' },
    );
    assertProblems(await api.post(recordsPath('required'), {}), { author: 'validation_required' });
  });

  await t.test(
    'is emptied when its record is deleted, with an event that has the former value',
    async () => {
      const ann = await author('Ann');
      const record = await api.create('optional', { title: 'x', author: ann.id });
      assert.equal((await api.remove(recordsPath('authors', ann.id))).status, 204);
      assert.equal((await api.get(recordsPath('optional', record.id))).body.author, '');
      const [event] = await events('optional.updated');
      assert.equal(event.payload.author, '');
      assert.deepEqual(event.previous, { author: ann.id });
    },
  );

  await t.test('of several loses only the deleted one', async () => {
    const ann = await author('Ann'),
      bob = await author('Bob');
    const record = await api.create('several', { authors: [bob.id, ann.id] });
    await api.remove(recordsPath('authors', bob.id));
    assert.deepEqual((await api.get(recordsPath('several', record.id))).body.authors, [ann.id]);
  });

  await t.test(
    'that cascades takes its records along, each with its event, in one commit',
    async () => {
      const ann = await author('Ann');
      const owned = [
        await api.create('owned', { title: '1', author: ann.id }),
        await api.create('owned', { title: '2', author: ann.id }),
      ];
      await api.remove(recordsPath('authors', ann.id));
      for (const { id } of owned) assertRefused(await api.get(recordsPath('owned', id)), 404);
      const deleted = await events('authors.deleted,owned.deleted');
      const last = deleted.slice(-3);
      assert.deepEqual(
        last.map(({ subject }) => subject).sort(),
        [`authors/${ann.id}`, ...owned.map(({ id }) => `owned/${id}`)].sort(),
      );
      assert.deepEqual(
        last.map(({ sequence }) => sequence),
        [0, 1, 2].map((i) => last[0].sequence + i),
      );
    },
  );

  await t.test(
    'that is required stands in the way of the deletion, of which nothing remains',
    async () => {
      const ann = await author('Ann');
      const optional = await api.create('optional', { author: ann.id });
      const required = await api.create('required', { author: ann.id });
      const before = await events('*');
      const answer = await api.remove(recordsPath('authors', ann.id));
      assertRefused(answer, 400);
      assert.ok(
        answer.body.message.endsWith(
          `required relation reference: "required.author" of the record "${required.id}" is one.`,
        ),
        answer.body.message,
      );
      const toGuests = await api.remove(recordsPath('authors', ann.id), { token: undefined });
      assertRefused(toGuests, 400);
      assert.match(toGuests.body.message, /required relation reference\.$/, 'no name, no id');
      assert.equal((await api.get(recordsPath('authors', ann.id))).status, 200);
      assert.equal((await api.get(recordsPath('optional', optional.id))).body.author, ann.id);
      assert.equal((await events('*')).length, before.length, 'no event of what was rolled back');
      assert.equal((await api.remove(recordsPath('required', required.id))).status, 204);
      assert.equal((await api.remove(recordsPath('authors', ann.id))).status, 204, 'then it works');
    },
  );

  await t.test('in a circle of cascades ends', async () => {
    const nodes = await api.define({
      name: 'nodes',
      ...open,
      fields: [{ name: 'title', type: 'text' }],
    });
    const { body } = await api.get('/api/collections/nodes');
    const next = {
      name: 'next',
      type: 'relation',
      collectionId: nodes.id,
      maxSelect: 1,
      cascadeDelete: true,
    };
    const changed = await api.patch('/api/collections/nodes', { fields: [...body.fields, next] });
    assert.equal(changed.status, 200, changed.text);
    const a = await api.create('nodes', {}),
      b = await api.create('nodes', { next: a.id });
    await api.patch(recordsPath('nodes', a.id), { next: b.id });
    assert.equal((await api.remove(recordsPath('nodes', a.id))).status, 204);
    assert.deepEqual(await listAll(api.server, api.token, 'nodes'), []);
  });
});

test('numbers and JSON are kept as they are', async (t) => {
  const api = await operator(t);
  await api.define({
    name: 'values',
    ...open,
    fields: [
      { name: 'n', type: 'number' },
      { name: 'j', type: 'json' },
    ],
  });
  const member = (text, name) => {
    const found = new RegExp(`"${name}":([^,}]+)[,}]`).exec(text);
    return found[1];
  };
  for (const number of [
    '9007199254740993',
    '-9223372036854775808',
    '9223372036854775807',
    '1763741880123456789',
    '0.1',
    '0.30000000000000004',
    '-1.5',
    '1e-7',
  ]) {
    await t.test(`the number ${number}`, async () => {
      const created = await api.post(recordsPath('values'), `{"n":${number}}`);
      assert.equal(created.status, 200, created.text);
      assert.equal(member(created.text, 'n'), number);
      const { id } = created.body;
      assert.equal(
        member((await api.get(recordsPath('values', id))).text, 'n'),
        number,
        'read again',
      );
      const feed = await api.get(`/api/events?subject=values/${id}`);
      assert.equal(member(feed.text, 'n'), number, 'in its event');
      await api.patch(recordsPath('values', id), { j: 1 });
      assert.equal(
        member((await api.get(recordsPath('values', id))).text, 'n'),
        number,
        'after another field has changed',
      );
    });
  }
  await t.test('a json field keeps the text of its value', async () => {
    const text = '{"z":1.50,"a":[9007199254740993,-0,1E30,"\\u00e9\\/"],"b":{"z":1,"a":2}}';
    const created = await api.post(recordsPath('values'), `{"j":${text}}`);
    assert.equal(created.status, 200, created.text);
    assert.ok(created.text.includes(`"j":${text}`), created.text);
    assert.ok((await api.get(recordsPath('values', created.body.id))).text.includes(`"j":${text}`));
    const past = await api.post(recordsPath('values'), '{"j":1E400}');
    assert.equal(past.status, 400, 'no double is so large');
  });
});
