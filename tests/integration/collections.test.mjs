/** Definitions of collections through the stock `pocketbase` client. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase, { ClientResponseError } from 'pocketbase';
import { startServer } from './support/program.mjs';
import { createSuperuser, email, password } from './support/superuser.mjs';

async function connect(t) {
  const server = await startServer(t);
  await createSuperuser(server);
  const admin = new PocketBase(server.url);
  admin.autoCancellation(false);
  await admin.collection('_superusers').authWithPassword(email, password);
  const guest = new PocketBase(server.url);
  guest.autoCancellation(false);
  return { server, admin, guest };
}

async function errorOf(promise) {
  const error = await promise.then(
    () => null,
    (reason) => reason,
  );
  assert.ok(error instanceof ClientResponseError, `${error}`);
  return error;
}

const text = (name, options = {}) => ({ name, type: 'text', ...options });
const number = (name, options = {}) => ({ name, type: 'number', ...options });
const names = (list) => list.map(({ name }) => name);

/** Events of these types, oldest first. */
async function eventsOf(admin, types) {
  const { events } = await admin.send(`/api/events?after=start&limit=1000&types=${types}`, {});
  return events;
}

test('the list of collections is filtered, sorted and cut', async (t) => {
  const { admin } = await connect(t);
  for (const name of ['beta', 'alpha']) await admin.collections.create({ name });
  await admin.collections.create({ name: 'people', type: 'auth' });
  await admin.collections.create({
    name: 'seen',
    type: 'view',
    viewQuery: 'select id from alpha',
  });
  const filter = (expression, options = {}) =>
    admin.collections.getFullList({ filter: expression, sort: 'name', ...options });

  assert.deepEqual(names(await filter('name = "alpha" || name = "beta"')), ['alpha', 'beta']);
  assert.deepEqual(names(await filter("type = 'view'")), ['seen']);
  assert.deepEqual(names(await filter('system = false && name ~ "e" && type != "auth"')), [
    'beta',
    'seen',
  ]);
  assert.deepEqual(names(await filter('created > @now')), []);
  assert.deepEqual(names(await filter('name ~ "a" && system = false', { sort: '-type,name' })), [
    'alpha',
    'beta',
  ]);
  const page = await admin.collections.getList(2, 1, {
    filter: 'name = "alpha" || name = "beta"',
    sort: '-name',
    fields: 'name',
  });
  assert.deepEqual(page, {
    page: 2,
    perPage: 1,
    totalItems: 2,
    totalPages: 2,
    items: [{ name: 'alpha' }],
  });
  assert.equal((await admin.collections.getFirstListItem('name = "beta"')).name, 'beta');
  for (const wrong of ['nope = 1', 'fields ~ "x"', 'name:lower = "a"', '@request.auth.id = ""']) {
    const error = await errorOf(filter(wrong));
    assert.equal(error.status, 400, wrong);
    assert.deepEqual(error.response.data, {}, wrong);
  }
  assert.equal((await errorOf(filter('', { sort: 'fields' }))).status, 400);
});

test('an import is one transaction', async (t) => {
  const { admin } = await connect(t);
  const collections = [
    {
      id: 'aaaaaaaaaaaaaaa',
      name: 'a',
      fields: [{ name: 'b', type: 'relation', collectionId: 'bbbbbbbbbbbbbbb' }],
    },
    { name: 'joined', type: 'view', viewQuery: 'select id, title from b', listRule: 'title != ""' },
    {
      id: 'bbbbbbbbbbbbbbb',
      name: 'b',
      fields: [text('title'), { name: 'a', type: 'relation', collectionId: 'aaaaaaaaaaaaaaa' }],
    },
  ];

  await t.test('relations may point forward, a view may come before what it reads', async () => {
    assert.equal(await admin.collections.import(collections), true);
    const joined = await admin.collections.getOne('joined');
    assert.deepEqual(names(joined.fields), ['id', 'title']);
    const created = await eventsOf(admin, '_collections.created');
    assert.deepEqual(
      created.slice(-3).map((event) => event.payload.name),
      ['a', 'b', 'joined'],
      'an event each',
    );
  });

  await t.test('what is wrong with one takes all of them back', async () => {
    const before = await eventsOf(admin, '_collections.*');
    const error = await errorOf(
      admin.collections.import([
        { name: 'fine', fields: [text('x')] },
        { name: 'wrong', fields: [text('x', { min: 5, max: 3 })] },
      ]),
    );
    assert.equal(error.status, 400);
    assert.equal(error.response.message, 'Failed to import collections.');
    assert.equal(error.response.data.collections.code, 'validation_collections_import_failure');
    assert.match(error.response.data.collections.message, /wrong[^]*fields/);
    assert.equal((await errorOf(admin.collections.getOne('fine'))).status, 404);
    assert.equal((await eventsOf(admin, '_collections.*')).length, before.length);
  });

  await t.test('fields that are not named stay, and their values', async () => {
    await admin.collection('b').create({ id: 'keepkeepkeep001', title: 'kept' });
    await admin.collections.import([{ name: 'b', fields: [number('stars')] }]);
    const b = await admin.collections.getOne('b');
    assert.deepEqual(names(b.fields).sort(), ['a', 'id', 'stars', 'title']);
    const record = await admin.collection('b').getOne('keepkeepkeep001');
    assert.equal(record.title, 'kept');
    assert.equal(record.stars, 0);
  });

  await t.test('an export is imported without a change, and without an event', async () => {
    const before = await eventsOf(admin, '_collections.*');
    const all = await admin.collections.getFullList();
    await admin.collections.import(all);
    assert.equal((await eventsOf(admin, '_collections.*')).length, before.length);
    assert.deepEqual(await admin.collections.getFullList(), all);
  });

  await t.test('deleteMissing leaves system collections', async () => {
    const all = await admin.collections.getFullList();
    const rest = all.filter(({ name }) => !['a', 'b', 'joined'].includes(name));
    const without = rest.filter(({ system }) => !system);
    await admin.collections.import(without.length > 0 ? without : [{ name: 'only' }], true);
    const left = await admin.collections.getFullList();
    assert.ok(left.some(({ name }) => name === '_superusers'));
    assert.ok(!left.some(({ name }) => ['a', 'b', 'joined'].includes(name)));
  });

  await t.test('nothing to import is no wish to delete everything', async () => {
    const error = await errorOf(admin.collections.import([], true));
    assert.equal(error.response.data.collections.code, 'validation_required');
  });
});

test('a view is a collection whose records a query gives', async (t) => {
  const { admin, guest } = await connect(t);
  await admin.collections.create({
    name: 'authors',
    fields: [text('name')],
    listRule: '',
    viewRule: '',
  });
  const { id: authors } = await admin.collections.getOne('authors');
  await admin.collections.create({
    name: 'posts',
    fields: [
      text('title'),
      number('stars'),
      { name: 'author', type: 'relation', collectionId: authors, maxSelect: 1 },
      { name: 'tags', type: 'select', values: ['x', 'y'], maxSelect: 2 },
      text('secret', { hidden: true }),
      { name: 'meta', type: 'json' },
    ],
  });
  const ann = await admin.collection('authors').create({ name: 'Ann' });
  for (const [title, stars] of [
    ['one', 1],
    ['two', 2],
    ['three', 3],
  ])
    await admin.collection('posts').create({
      title,
      stars,
      author: ann.id,
      tags: ['x'],
      secret: 'hidden',
      meta: { deep: [title] },
    });
  const viewQuery = `select p.id, p.title, p.author, a.name as writer, p.id as post, p.tags,
    p.secret,
    (p.stars * 2) as double, cast(p.stars as text) as word,
    json_extract(p.meta, "$.deep[0]") as deep,
    count(p.id) as total from posts p left join authors a on a.id = p.author
    where p.title like 't%' group by p.id`;

  await t.test('its fields are what its columns stand for', async () => {
    const view = await admin.collections.create({
      name: 'best',
      type: 'view',
      viewQuery,
      listRule: '',
      viewRule: 'total > 0',
    });
    const types = Object.fromEntries(view.fields.map(({ name, type }) => [name, type]));
    assert.deepEqual(types, {
      id: 'text',
      title: 'text',
      author: 'relation',
      writer: 'text',
      post: 'relation',
      tags: 'select',
      secret: 'text',
      double: 'json',
      word: 'text',
      deep: 'json',
      total: 'number',
    });
    assert.equal(view.fields.find(({ name }) => name === 'secret').hidden, true);
    assert.equal(view.viewQuery, viewQuery);
    assert.deepEqual([view.createRule, view.updateRule, view.deleteRule], [null, null, null]);
  });

  await t.test('its records are listed, filtered, sorted and seen', async () => {
    const list = await guest.collection('best').getFullList({ sort: '-title' });
    assert.deepEqual(
      list.map(({ title }) => title),
      ['two', 'three'],
    );
    assert.equal(list[0].double, 4);
    assert.equal(list[0].word, '2.0'.startsWith(list[0].word) ? list[0].word : '2');
    assert.equal(list[0].deep, 'two');
    assert.deepEqual(list[0].tags, ['x']);
    assert.equal(list[0].total, 1);
    assert.ok(!('secret' in list[0]));
    const found = await guest
      .collection('best')
      .getFirstListItem('author.name = "Ann" && total = 1 && title = "two"');
    assert.equal(found.id, list[0].id);
    assert.equal((await guest.collection('best').getOne(found.id)).title, 'two');
  });

  await t.test('nobody writes to it', async () => {
    const [record] = await admin.collection('best').getFullList();
    for (const wish of [
      () => admin.collection('best').create({ title: 'x' }),
      () => admin.collection('best').update(record.id, { title: 'x' }),
      () => admin.collection('best').delete(record.id),
    ])
      assert.equal((await errorOf(wish())).status, 400);
    assert.equal((await errorOf(admin.collections.truncate('best'))).status, 400);
    const error = await errorOf(
      admin.collections.update('best', {
        createRule: '',
        indexes: ['CREATE INDEX i ON best (id)'],
      }),
    );
    assert.equal(error.response.data.createRule.code, 'validation_nil');
    assert.equal(error.response.data.indexes.code, 'validation_indexes_not_supported');
  });

  await t.test('it follows what it reads, with an event', async () => {
    const posts = await admin.collections.getOne('posts');
    await admin.collections.update('posts', {
      fields: posts.fields.map((field) =>
        field.name === 'author' ? { ...field, maxSelect: 3 } : field,
      ),
    });
    const view = await admin.collections.getOne('best');
    assert.equal(view.fields.find(({ name }) => name === 'author').maxSelect, 3);
    const [record] = await admin.collection('best').getFullList();
    assert.deepEqual(record.author, [ann.id]);
    const updated = await eventsOf(admin, '_collections.updated');
    assert.deepEqual(
      updated.slice(-2).map((event) => event.payload.name),
      ['posts', 'best'],
    );
  });

  await t.test('nothing goes that it needs', async () => {
    const posts = await admin.collections.getOne('posts');
    const fields = posts.fields.filter(({ name }) => name !== 'meta');
    assert.equal((await errorOf(admin.collections.update('posts', { fields }))).status, 400);
    assert.equal((await errorOf(admin.collections.delete('posts'))).status, 400);
    assert.equal((await admin.collection('best').getFullList()).length, 2);
  });

  await t.test('a record that a view points at can be deleted', async () => {
    const other = await admin
      .collection('posts')
      .create({ title: 'tail', stars: 1, author: ann.id });
    assert.equal(await admin.collection('posts').delete(other.id), true);
  });

  await t.test('a change of the query changes the fields', async () => {
    const changed = await admin.collections.update('best', {
      viewQuery: 'select (row_number() over (order by title)) as id, title from posts',
      viewRule: null,
    });
    assert.deepEqual(names(changed.fields), ['id', 'title']);
    const ids = (await admin.collection('best').getFullList({ sort: 'id' })).map(({ id }) => id);
    assert.deepEqual(ids, ['1', '2', '3']);
    assert.equal((await admin.collection('best').getOne('2')).title, 'three');
  });

  await t.test('it makes no events', async () => {
    assert.deepEqual(await eventsOf(admin, 'best.*'), []);
  });
});

test('a trial of a view shows what its records would show', async (t) => {
  const { admin } = await connect(t);
  const hidden = text('secret', { hidden: true });
  await admin.collections.create({ name: 'posts', fields: [text('title'), hidden] });
  await admin.collection('posts').create({ title: 'one', secret: 'hush' });
  const { fields, sample } = await admin.send('/api/collections/meta/dry-run-view', {
    method: 'POST',
    body: { query: 'select id, title, secret from posts' },
  });
  assert.deepEqual(names(fields), ['id', 'title', 'secret']);
  assert.deepEqual([sample[0].title, 'secret' in sample[0]], ['one', false]);
});

test('a view reads collections and nothing else', async (t) => {
  const { admin } = await connect(t);
  await admin.collections.create({ name: 'posts', fields: [text('title')] });
  await admin.collections.create({ name: 'people', type: 'auth' });
  await admin.collection('people').create({
    email: 'canary@example.com',
    password: 'canary-password',
    passwordConfirm: 'canary-password',
  });

  await t.test(
    'no internal tables, no functions that reach outside, no second statement',
    async () => {
      for (const query of [
        'select sequence as id, payload from _journal',
        'select id, secret from _collections',
        'select name as id from _migrations',
        'select name as id, sql from sqlite_master',
        'select name as id from sqlite_schema',
        "select name as id from pragma_table_info('posts')",
        "select load_extension('x') as id",
        "select readfile('/etc/passwd') as id",
        'select id from posts; select 1',
        'delete from posts',
        'select * from posts',
        "attach 'x' as y",
        'pragma table_info(posts)',
        'select id from posts where id = ?',
        'with x as (select sequence as id from _journal) select id from x',
        'select id from posts union select id from _collections',
        'select title from posts',
        'select 1',
      ]) {
        const error = await errorOf(
          admin.collections.create({ name: 'v', type: 'view', viewQuery: query }),
        );
        assert.equal(error.status, 400, query);
        assert.equal(error.response.data.viewQuery?.code, 'validation_invalid_view_query', query);
        assert.equal((await errorOf(admin.collections.dryRunViewQuery(query))).status, 400, query);
      }
      assert.equal((await errorOf(admin.collections.getOne('v'))).status, 404);
    },
  );

  await t.test('passwords and token keys are empty, hidden, and in no expression', async () => {
    const view = await admin.collections.create({
      name: 'v',
      type: 'view',
      listRule: '',
      viewQuery: 'select p.id, p.email, p.password, p.tokenKey as k from people p',
    });
    for (const name of ['password', 'k'])
      assert.equal(view.fields.find((field) => field.name === name).hidden, true);
    const [record] = await admin.collection('v').getFullList();
    assert.equal(record.email, 'canary@example.com');
    assert.ok(!record.password && !record.k, JSON.stringify(record));
    for (const query of [
      "select id, (password || '') as p from people",
      'select id, length(tokenKey) as p from people',
      'select id, (select password from people) as p from posts',
      'with x as (select id, password as p from people) select id, p from x',
      'with v as (select id, password as k from people) select id, k from v',
      "select id from people where password like 'x%'",
      // What SQLite reads as a text may look like a column, and a constant like a password.
      String.raw`select id, '' as p, (password) as q from people
        where '\' <> ' select ,password as p, ' || '\'''`,
      `select id, '' as p, (password) as q from people
        where '--'
        <> ' select ,password as p, ' || '--'
      `,
    ])
      assert.equal((await errorOf(admin.collections.dryRunViewQuery(query))).status, 400, query);
    const again = await admin.collections.create({
      name: 'vv',
      type: 'view',
      viewQuery: 'select id, password, k from v',
    });
    assert.equal(again.fields.length, 3);
    const [shown] = await admin.collection('vv').getFullList();
    assert.ok(!shown.password && !shown.k, JSON.stringify(shown));
  });

  await t.test('ids must be there, once each', async () => {
    await admin.collection('posts').create({ title: 'a' });
    await admin.collection('posts').create({ title: 'a' });
    for (const query of ['select title as id from posts', "select '' as id", 'select null as id']) {
      const error = await errorOf(admin.collections.dryRunViewQuery(query));
      assert.match(error.response.message, /^Invalid view query\. Raw error: \n/, query);
    }
  });

  await t.test('a dry run shows fields and a sample, and leaves nothing', async () => {
    const before = await eventsOf(admin, '_collections.*');
    const result = await admin.collections.dryRunViewQuery('select id, title from posts');
    assert.deepEqual(names(result.fields), ['id', 'title']);
    assert.equal(result.sample.length, 2);
    assert.equal(result.sample[0].title, 'a');
    assert.equal((await eventsOf(admin, '_collections.*')).length, before.length);
    const list = await admin.collections.getFullList();
    assert.ok(!list.some(({ name }) => name.startsWith('temp_view')));
  });
});

test('truncate deletes every record, each with its event and what refers to it', async (t) => {
  const { admin, guest } = await connect(t);
  await admin.collections.create({ name: 'posts', fields: [number('n')] });
  const { id: posts } = await admin.collections.getOne('posts');
  await admin.collections.create({
    name: 'likes',
    fields: [{ name: 'post', type: 'relation', collectionId: posts, cascadeDelete: true }],
  });
  const ids = Array.from({ length: 1200 }, (_, i) => `post${String(i).padStart(11, '0')}`);
  for (let i = 0; i < ids.length; i += 100)
    await Promise.all(
      ids.slice(i, i + 100).map((id, n) => admin.collection('posts').create({ id, n })),
    );
  for (const post of [ids[0], ids[700]]) await admin.collection('likes').create({ post });

  assert.equal((await errorOf(guest.collections.truncate('posts'))).status, 401);
  assert.equal(await admin.collections.truncate('posts'), true);
  assert.equal((await admin.collection('posts').getList(1, 1)).totalItems, 0);
  assert.equal((await admin.collection('likes').getList(1, 1)).totalItems, 0);
  const deleted = new Set();
  let after = 'start';
  for (let more = true; more;) {
    const page = await admin.send(
      `/api/events?after=${after}&limit=1000&types=posts.deleted,likes.deleted`,
      {},
    );
    for (const event of page.events) deleted.add(event.subject);
    after = page.next;
    more = page.hasMore;
  }
  assert.equal(deleted.size, 1202);
  assert.equal(await admin.collections.truncate('posts'), true, 'again, when it is empty');

  await t.test('not when a record is required', async () => {
    await admin.collections.create({
      name: 'needs',
      fields: [{ name: 'post', type: 'relation', collectionId: posts, required: true }],
    });
    const post = await admin.collection('posts').create({ n: 1 });
    await admin.collection('needs').create({ post: post.id });
    assert.equal((await errorOf(admin.collections.truncate('posts'))).status, 400);
    assert.equal((await admin.collection('posts').getList(1, 1)).totalItems, 1);
  });
});

test('scaffolds and OAuth2 providers', async (t) => {
  const { admin } = await connect(t);
  const scaffolds = await admin.collections.getScaffolds();
  assert.deepEqual(Object.keys(scaffolds).sort(), ['auth', 'base', 'view']);
  assert.deepEqual(names(scaffolds.base.fields), ['id']);
  assert.deepEqual(scaffolds.view.fields, []);
  assert.equal(scaffolds.view.viewQuery, '');
  assert.deepEqual(names(scaffolds.auth.fields), [
    'id',
    'password',
    'tokenKey',
    'email',
    'emailVisibility',
    'verified',
  ]);
  assert.equal(scaffolds.auth.indexes.length, 2);
  for (const scaffold of Object.values(scaffolds))
    assert.deepEqual([scaffold.id, scaffold.name, scaffold.created], ['', '', '']);
  const made = await admin.collections.create({ ...scaffolds.auth, name: 'members' });
  assert.equal(made.type, 'auth');
  const providers = await admin.send('/api/collections/meta/oauth2-providers', {});
  assert.ok(
    providers.some(({ name, displayName }) => name === 'google' && displayName === 'Google'),
  );
});

test('a change keeps the data', async (t) => {
  const { admin } = await connect(t);
  const made = await admin.collections.create({
    name: 'posts',
    fields: [
      text('first'),
      text('second'),
      { name: 'one', type: 'select', values: ['a', 'b'], maxSelect: 1 },
    ],
    indexes: ['CREATE UNIQUE INDEX idx_first ON posts (first) WHERE first != ""'],
  });
  await admin
    .collection('posts')
    .create({ id: 'keepkeepkeep001', first: 'F', second: 'S', one: 'b' });
  const get = (name) => admin.collection(name).getOne('keepkeepkeep001');

  await t.test('when two fields swap their names', async () => {
    const swapped = { first: 'second', second: 'first' };
    await admin.collections.update('posts', {
      fields: made.fields.map((field) => ({ ...field, name: swapped[field.name] ?? field.name })),
    });
    const record = await get('posts');
    assert.deepEqual([record.first, record.second], ['S', 'F']);
  });

  await t.test('when one value becomes several, and back', async () => {
    const set = async (maxSelect) => {
      const { fields } = await admin.collections.getOne('posts');
      await admin.collections.update('posts', {
        fields: fields.map((field) => (field.name === 'one' ? { ...field, maxSelect } : field)),
      });
    };
    await set(2);
    assert.deepEqual((await get('posts')).one, ['b']);
    await set(1);
    assert.equal((await get('posts')).one, 'b');
  });

  await t.test('when the collection gets another name, or another case of it', async () => {
    const renamed = await admin.collections.update('posts', { name: 'Articles' });
    assert.match(renamed.indexes[0], /ON `Articles`/);
    assert.equal((await get('Articles')).first, 'S');
    await admin.collections.update('Articles', { name: 'articles' });
    assert.equal((await get('articles')).collectionName, 'articles');
    assert.equal((await errorOf(get('posts'))).status, 404);
  });

  await t.test('a unique index names the field', async () => {
    const error = await errorOf(admin.collection('articles').create({ first: 'S' }));
    assert.equal(error.response.data.first.code, 'validation_not_unique');
  });

  await t.test('a view that no longer compiles stands in nobody’s way', async () => {
    await admin.collections.create({
      name: 'v',
      type: 'view',
      viewQuery: 'select id, first from articles',
    });
    const { fields } = await admin.collections.getOne('articles');
    await admin.collections.update('articles', {
      fields: fields.map((field) =>
        field.name === 'second' ? { ...field, name: 'third' } : field,
      ),
    });
    assert.equal((await get('articles')).third, 'F');
    assert.equal((await admin.collection('v').getFullList())[0].first, 'S');
  });
});

test('what is wrong with an option is told at its path', async (t) => {
  const { admin } = await connect(t);
  for (const [field, path, code] of [
    [text('a', { min: 5, max: 3 }), 'max', 'validation_min_greater_equal_than_required'],
    [text('a', { pattern: 'a(?=b)' }), 'pattern', 'validation_invalid_regex'],
    [text('a', { pattern: '(a)\\1' }), 'pattern', 'validation_invalid_regex'],
    [text('a', { autogeneratePattern: '[' }), 'autogeneratePattern', 'validation_invalid_regex'],
    [text('a', { primaryKey: true }), 'name', 'validation_in_invalid'],
    [number('a', { min: 1.5, onlyInt: true }), 'min', 'validation_only_int_constraint'],
    [
      { name: 'a', type: 'email', onlyDomains: ['a.com'], exceptDomains: ['b.com'] },
      'onlyDomains',
      'validation_empty',
    ],
    [{ name: 'a', type: 'select', values: [] }, 'values', 'validation_required'],
    [
      { name: 'a', type: 'relation', collectionId: 'nope' },
      'collectionId',
      'validation_field_relation_missing_collection',
    ],
  ]) {
    const error = await errorOf(admin.collections.create({ name: 'wrong', fields: [field] }));
    assert.equal(error.response.data.fields[1][path].code, code, JSON.stringify(field));
  }
  for (const field of [
    text('a', { min: 'x' }),
    number('a', { onlyInt: 'x' }),
    { name: 'a', type: 'nope' },
  ]) {
    const error = await errorOf(admin.collections.create({ name: 'wrong', fields: [field] }));
    assert.deepEqual(error.response.data, {}, JSON.stringify(field));
  }
});

test('a field whose form is wrong is named, once and in whole sentences', async (t) => {
  const { admin } = await connect(t);
  const create = (field) =>
    errorOf(admin.collections.create({ name: 'bad', type: 'base', fields: [field] }));
  assert.equal(
    (await create(text('title', { max: 'ten' }))).response.message,
    'Failed to create collection: fields.1.max: Must be a whole number.',
  );
  assert.equal(
    (await create({ name: 'title', type: 'string' })).response.message,
    'Failed to create collection: the field "title": there is no field type "string".',
  );
});
