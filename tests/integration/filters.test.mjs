/** Filters, and rules that are expressions: what is found, what is shown to whom, what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertRefused, operator } from './support/operator.mjs';
import { open, recordsPath } from './support/records.mjs';

const text = (name, more) => ({ name, type: 'text', ...more });
const relation = (name, collection, more) => ({
  name,
  type: 'relation',
  collectionId: collection.id,
  ...more,
});
const id = (name) => name.padEnd(15, '0');

/** Teams, people in them, and posts by people with readers. */
async function world(t) {
  const api = await operator(t);
  const teams = await api.define({
    name: 'teams',
    ...open,
    fields: [text('name'), text('budget', { hidden: true }), { name: 'place', type: 'geoPoint' }],
  });
  const people = await api.define({
    name: 'people',
    ...open,
    fields: [text('name'), { name: 'age', type: 'number' }, relation('team', teams)],
  });
  const posts = await api.define({
    name: 'posts',
    ...open,
    fields: [
      text('title'),
      text('secret', { hidden: true }),
      { name: 'stars', type: 'number' },
      { name: 'live', type: 'bool' },
      { name: 'day', type: 'date' },
      { name: 'tags', type: 'select', values: ['a', 'b', 'c'], maxSelect: 3 },
      { name: 'meta', type: 'json' },
      relation('author', people),
      relation('readers', people, { maxSelect: 9 }),
    ],
  });
  const team = (name, place) => api.create('teams', { id: id(name), name, budget: `${name}$`, place });
  await team('red', { lon: 13.4, lat: 52.5 });
  await team('blue', { lon: 2.35, lat: 48.85 });
  const person = (name, age, team) => api.create('people', { id: id(name), name, age, team });
  await person('ann', 30, id('red'));
  await person('bob', 40, id('blue'));
  await person('cid', 50, '');
  const post = (name, fields) => api.create('posts', { id: id(name), title: name, ...fields });
  await post('one', {
    stars: 1,
    live: true,
    day: '2026-01-01 00:00:00.000Z',
    tags: ['a', 'b'],
    meta: { n: 1, list: [1, 2], deep: { a: 'x' } },
    author: id('ann'),
    readers: [id('ann'), id('bob')],
    secret: 'x',
  });
  await post('two', { stars: 2, tags: ['a'], meta: { n: 2 }, author: id('bob'), readers: [id('ann')] });
  await post('three', { stars: 3, live: true, tags: [], meta: null, author: id('cid'), readers: [] });
  await post('fifty', { stars: 0, title: '50%_off \\ "quoted"' });
  return { api, teams, people, posts };
}

const list = (api, filter, { collection = 'posts', token, more = '' } = {}) =>
  api.get(`${recordsPath(collection)}?sort=@rowid&filter=${encodeURIComponent(filter)}${more}`, {
    token: token === undefined ? api.token : token,
  });

async function names(api, filter, options) {
  const { status, body, text } = await list(api, filter, options);
  assert.equal(status, 200, `${filter}: ${text}`);
  assert.equal(body.totalItems, body.items.length, `${filter}: no record is counted twice`);
  return body.items.map((each) => each.id.replace(/0+$/, ''));
}

const first = 'fifty';

test('filters', async (t) => {
  const { api, teams, people } = await world(t);
  const table = {
    'of plain fields': {
      'title = "one"': ['one'],
      "title='one' || stars = 2": ['one', 'two'],
      'stars > 1 && live = true || title = "one"': ['one', 'three'],
      'stars > 1 && (live = true || title = "one")': ['three'],
      'stars != 1': ['two', 'three', first],
      'live = false': ['two', first],
      'day > "2025-12-31"': ['one'],
      'day = ""': ['two', 'three', first],
      'day = null': ['two', 'three', first],
      'title:lower ~ "ONE"': ['one'],
      'title ~ "%_off%"': [first],
      'title ~ "50%_"': [first],
      'title ~ "0%_o"': [],
      'title ~ "_"': [first],
      'title !~ "t"': ['one'],
      'title ~ \'"quoted"\'': [first],
      '"one" = title': ['one'],
      '"tone" ~ title': ['one'],
      'stars = 1 // only the first': ['one'],
      '@now > day && day != ""': ['one'],
      'strftime("%Y", day) = "2026"': ['one'],
      '1 = 1': ['one', 'two', 'three', first],
      '1 = 2': [],
      'true = live': ['one', 'three'],
    },
    'of several values': {
      'tags:length = 2': ['one'],
      'tags:each = "a"': ['two'],
      'tags:each ?= "a"': ['one', 'two'],
      'tags:each ?!= "a"': ['one', 'three', first],
      'tags ~ "b"': ['one'],
    },
    'of JSON': {
      'meta.n = 2': ['two'],
      'meta.list.1 = 2': ['one'],
      'meta.deep.a = "x"': ['one'],
      'meta.nothing = null': ['one', 'two', 'three', first],
      'meta = null': ['three', first],
    },
    'of relations': {
      'author.name = "bob"': ['two'],
      'author.team.name = "red"': ['one'],
      'author.team.name = ""': ['three', first],
      'author.team.name != "red" && author != ""': ['two', 'three'],
      'readers.name ?= "bob"': ['one'],
      'readers.name = "ann"': ['two'],
      'readers.name ?= "ann" && author.age < 35': ['one'],
      'readers.team.name ?= "blue" || stars = 3': ['one', 'three'],
      'readers:length > 1': ['one'],
      'readers.id ?= author': ['one', first],
      'author.id = readers.id': [first],
      'author.people_via_team.name = ""': null,
    },
  };
  for (const [name, filters] of Object.entries(table))
    await t.test(name, async () => {
      for (const [filter, expected] of Object.entries(filters)) {
        if (expected === null) assertRefused(await list(api, filter), 400);
        else assert.deepEqual([filter, await names(api, filter)], [filter, expected]);
      }
    });

  await t.test('of what points back', async () => {
    const of = { collection: 'people' };
    assert.deepEqual(await names(api, 'posts_via_author.stars ?> 1', of), ['bob', 'cid']);
    assert.deepEqual(await names(api, 'posts_via_readers.title ?= "one"', of), ['ann', 'bob']);
    assert.deepEqual(await names(api, 'posts_via_readers.title = "one"', of), ['bob']);
    assert.deepEqual(await names(api, `posts_via_${'author'}.author.name ?= "ann"`, of), ['ann']);
  });

  await t.test('of places', async () => {
    const near = 'geoDistance(place.lon, place.lat, 13, 52) < 100';
    assert.deepEqual(await names(api, near, { collection: 'teams' }), ['red']);
    assert.deepEqual(await names(api, 'place.lat < 50', { collection: 'teams' }), ['blue']);
  });

  await t.test('of any collection, for superusers', async () => {
    assert.deepEqual(await names(api, '@collection.people.name ?= "ann" && stars = 1'), ['one']);
    assert.deepEqual(await names(api, '@collection.people.id ?= author && stars > 1'), ['two', 'three']);
    assertRefused(await list(api, '@collection.people.name ?= "ann"', { token: '' }), 403);
    assertRefused(await list(api, '@request.auth.id = ""', { token: '' }), 403);
  });

  await t.test('page, sort and cursor go with them', async () => {
    const page = await list(api, 'readers.age ?> 1', { more: '&page=2&perPage=1' });
    assert.deepEqual(
      [page.body.items.map((each) => each.title), page.body.totalItems],
      [['two'], 2],
    );
    const get = (query) => api.get(`${recordsPath('posts')}?${query}`);
    const titles = async (query) => (await get(query)).body.items.map((each) => each.title);
    const [last, ...rest] = (await titles('sort=author.age,id')).reverse();
    assert.deepEqual([last, ...rest].slice(0, 3), ['three', 'two', 'one']);
    assert.deepEqual((await titles('sort=-meta.n,id')).slice(0, 2), ['two', 'one']);
    assert.deepEqual((await titles('sort=-tags:length,id')).slice(0, 2), ['one', 'two']);
    assert.deepEqual((await titles('sort=-readers.name,id')).slice(0, 2), ['one', 'two']);
    assert.equal((await get('sort=readers.nothing')).status, 400);
    const filter = encodeURIComponent('stars > 0');
    const one = await get(`cursor=&perPage=2&sort=stars&filter=${filter}`);
    assert.deepEqual(one.body.items.map((each) => each.stars), [1, 2]);
    const two = await get(`cursor=${one.body.nextCursor}&perPage=2&sort=stars&filter=${filter}`);
    assert.deepEqual(two.body.items.map((each) => each.stars), [3]);
    assert.equal(two.body.nextCursor, '');
  });

  await t.test('are refused with the place and what is expected there', async () => {
    const wrong = {
      'title = ': /at 9: expected a field/,
      'titel = 1': /at 1: there is no field titel/,
      'stars = 1 && nobody.x = 2': /at 14: there is no field nobody/,
      'title.x = 1': /at 1: title is no relation/,
      'title:loud = 1': /at 1: there is no modifier :loud/,
      'floor(1) = 1': /at 1: there is no function floor/,
      '@nothing = 1': /at 1: there is no @nothing/,
      [`title = "${'x'.repeat(3500)}"`]: /it has 3510 bytes: at most 3500 are read/,
    };
    for (const [filter, message] of Object.entries(wrong)) {
      const answer = await list(api, filter);
      assertRefused(answer, 400);
      assert.match(answer.body.message, message);
    }
  });

  await t.test('take numbers for doubles, and elements of a relation for its records', async () => {
    const three = await api.create('posts', { id: id('num'), title: '3' });
    assert.deepEqual(await names(api, 'title = 3'), []);
    assert.deepEqual(await names(api, 'title = "3"'), ['num']);
    assert.deepEqual(await names(api, 'title ~ 3'), ['num']);
    assert.deepEqual(await names(api, '2 ~ readers:length && stars != 0'), ['one', 'three']);
    await api.remove(recordsPath('posts', three.id));
    const both = (name) => `readers:each ?= "${id('ann')}" && readers.name ?= "${name}"`;
    assert.deepEqual(await names(api, both('ann')), ['one', 'two']);
    assert.deepEqual(await names(api, both('bob')), []);
    assert.deepEqual(await names(api, 'day ~ strftime("%Y", day) && day != ""'), []);
  });

  await t.test('find nothing out of what is hidden', async () => {
    for (const filter of ['secret = "x"', 'author.team.budget = "red$"', 'secret:length = 1'])
      assertRefused(await list(api, filter, { token: '' }), 400);
    assert.equal((await api.get(`${recordsPath('posts')}?sort=secret`, { token: '' })).status, 400);
    assert.deepEqual(await names(api, 'secret = "x"'), ['one']);
    const users = { collection: 'users' };
    assert.equal((await list(api, 'password != "" && tokenKey ~ "a"', users)).status, 200);
    for (const name of ['password', 'tokenKey'])
      assertRefused(await list(api, `${name} != ""`, { ...users, token: '' }), 400);
  });

  await t.test('obey the list rules of the collections that they lead to', async () => {
    const set = (listRule) => api.patch(`/api/collections/${teams.id}`, { listRule });
    assert.equal((await set(null)).status, 200);
    assertRefused(await list(api, 'author.team.name = "red"', { token: '' }), 400);
    assert.equal((await set('name != "red"')).status, 200);
    assert.deepEqual(await names(api, 'author.team.name != "x" && stars > 0', { token: '' }), [
      'two',
      'three',
    ]);
    assert.equal((await set('')).status, 200);
  });

  await t.test('mean those of several that may be seen, and tell nothing of others', async () => {
    const set = (listRule) => api.patch(`/api/collections/${people.id}`, { listRule });
    assert.deepEqual(await names(api, 'readers.name = "ann"', { token: '' }), ['two']);
    assert.equal((await set('name != "bob" && @collection.teams.name ?= "red"')).status, 200);
    const guest = { token: '' };
    for (const filter of ['readers.name = "ann"', 'readers.name < "c"', 'readers.name !~ "bob"'])
      assert.deepEqual(await names(api, filter, guest), ['one', 'two'], filter);
    assert.deepEqual(await names(api, 'readers.name = "ann"'), ['two']);
    assert.deepEqual(await names(api, 'readers.name ?= "bob" || readers.age = 40', guest), []);
    assert.deepEqual(await names(api, 'readers.team.name = "blue"', guest), []);
    assert.deepEqual(await names(api, 'author.name = "bob"', guest), []);
    const sorted = await api.get(`${recordsPath('posts')}?sort=-readers.name,title`, guest);
    assert.equal(sorted.status, 200);
    assert.deepEqual(
      sorted.body.items.map((post) => post.title.slice(0, 5)),
      ['one', 'two', '50%_o', 'three'],
    );
    /* The rule of a person is asked of each person, not of all readers of a post. */
    assert.equal((await set('age < 35')).status, 200);
    assert.deepEqual(await names(api, 'readers.name ?= "ann"', guest), ['one', 'two']);
    assert.equal((await set('')).status, 200);
  });

  await t.test('end in time, whatever they look for', async () => {
    const long = await api.create('posts', { title: 'long', meta: 'a'.repeat(700_000) });
    const startedMs = Date.now();
    const late = await list(api, `meta ~ "${'a'.repeat(3000)}b"`, { more: '&skipTotal=1' });
    assert.equal(late.status, 400);
    assert.match(late.body.message, /give "meta" an index/);
    assert.ok(Date.now() - startedMs < 5000, `${Date.now() - startedMs} ms`);
    await api.remove(recordsPath('posts', long.id));
  });

  await t.test('follow so many relations, and read what is JSON', async () => {
    const many = Array.from({ length: 70 }, (_, i) => `@collection.people:a${i}.id ?= "x"`);
    const answer = await list(api, many.join('||'));
    assertRefused(answer, 400);
    assert.match(answer.body.message, /at most 60 tables/);
    for (const filter of ['meta..a = 1', 'meta.:.a = 1']) assertRefused(await list(api, filter), 400);
  });

  await t.test('are values, never SQL', async () => {
    for (const filter of [
      `title = "'; DROP TABLE posts; --"`,
      `title = '\\'); DELETE FROM posts; --'`,
      `title ~ "' OR 1=1 --"`,
    ])
      assert.deepEqual(await names(api, filter), [], filter);
    assertRefused(await list(api, 'title"; DROP TABLE posts; --'), 400);
    assert.equal((await names(api, 'stars >= 0')).length, 4);
  });
});

test('rules that are expressions', async (t) => {
  const api = await operator(t);
  const guest = { token: '' };
  const rule = 'open = true';
  await api.define({
    name: 'notes',
    fields: [text('title'), { name: 'open', type: 'bool' }, { name: 'n', type: 'number' }],
    listRule: rule,
    viewRule: rule,
    createRule: '@request.body.n > 10 && open = true && @request.query.code = "yes"',
    updateRule: 'open = true && @request.body.n:changed = false && @request.headers.x_key = "k"',
    deleteRule: 'open = true && @request.method = "DELETE"',
  });
  await api.create('notes', { id: id('shown'), title: 'shown', open: true, n: 1 });
  await api.create('notes', { id: id('closed'), title: 'closed', n: 2 });
  const at = (name) => recordsPath('notes', id(name));

  await t.test('show a list of those that they hold for', async () => {
    assert.deepEqual(await names(api, 'n > 0', { collection: 'notes', token: '' }), ['shown']);
    assert.deepEqual(await names(api, 'n > 0', { collection: 'notes' }), ['shown', 'closed']);
  });
  await t.test('and of the others not that they exist', async () => {
    assert.equal((await api.get(at('shown'), guest)).status, 200);
    for (const answer of [
      await api.get(at('closed'), guest),
      await api.patch(at('closed'), { title: 'x' }, { ...guest, headers: { 'x-key': 'k' } }),
      await api.remove(at('closed'), guest),
    ])
      assertRefused(answer, 404);
    assert.equal((await api.get(at('closed'))).body.title, 'closed');
  });
  await t.test('judge a record before it is created', async () => {
    const path = recordsPath('notes');
    const refused = [
      [path, { open: true, n: 11 }],
      [`${path}?code=yes`, { open: true, n: 10 }],
      [`${path}?code=yes`, { open: false, n: 11 }],
      [`${path}?code=yes`, {}],
    ];
    for (const [where, body] of refused) assertRefused(await api.post(where, body, guest), 400);
    const { status } = await api.post(`${path}?code=yes`, { open: true, n: 11 }, guest);
    assert.equal(status, 200);
    assert.equal((await names(api, 'id != ""', { collection: 'notes' })).length, 3);
  });
  await t.test('see what a change would change', async () => {
    const headers = { 'x-key': 'k' };
    const change = (body, more = { headers }) => api.patch(at('shown'), body, { ...guest, ...more });
    assertRefused(await change({ n: 5 }), 404);
    assertRefused(await change({ title: 'new' }, {}), 404);
    assert.equal((await change({ title: 'new', n: 1 })).status, 200);
    assert.equal((await api.get(at('shown'))).body.title, 'new');
  });
  await t.test('let delete what they hold for', async () => {
    assert.equal((await api.remove(at('shown'), guest)).status, 204);
  });
  await t.test('decide what a snapshot shows', async () => {
    const list = await api.get(recordsPath('notes'), guest);
    const { text } = await api.get('/api/collections/notes/snapshot', guest);
    const lines = text.trim().split('\n').map((line) => JSON.parse(line));
    const ids = (records) => records.map(({ id }) => id).sort();
    assert.deepEqual(ids(lines.slice(1, -1)), ids(list.body.items));
    assert.equal(lines.at(-1).done, true);
  });
});

test('rules see of a body what will be stored', async (t) => {
  const api = await operator(t);
  const guest = { token: '' };
  const fields = [
    text('role'),
    { name: 'admin', type: 'bool' },
    { name: 'kind', type: 'select', values: ['low', 'high'] },
    { name: 'tags', type: 'select', values: ['a', 'b', 'x'], maxSelect: 3 },
    { name: 'meta', type: 'json' },
  ];
  const rule = `@request.body.admin != true && @request.body.role != "7" && @request.body.kind != "high"
    && @request.body.tags:each != "x" && @request.body.tags:length < 3 && @request.body.meta.a != 1`;
  await api.define({ name: 'jobs', ...open, createRule: rule, updateRule: rule, fields });
  await api.create('jobs', { id: id('job'), role: 'r', tags: ['a', 'b'] });
  const refused = [
    ...['true', '1', 'T', 1, 2, -1].map((admin) => ({ admin })),
    { role: 7 },
    ...[['high'], ['low', 'high'], '["high"]'].map((kind) => ({ kind })),
    ...['x', '["a","x"]', '["\\u0078"]', '["a","b","x"]'].map((tags) => ({ tags })),
    { meta: '{"a":1}' },
  ];
  for (const body of refused) {
    assertRefused(await api.post(recordsPath('jobs'), body, guest), 400);
    assertRefused(await api.patch(recordsPath('jobs', id('job')), body, guest), 404);
  }
  const allowed = { admin: 'no', role: 8, kind: ['high', 'low'], tags: '["a"]', meta: '{"a":2}' };
  for (const answer of [
    await api.post(recordsPath('jobs'), allowed, guest),
    await api.patch(recordsPath('jobs', id('job')), allowed, guest),
  ])
    assert.equal(answer.status, 200, answer.text);

  await t.test('and what it changes', async () => {
    const updateRule = '@request.body.tags:changed = false && @request.body.admin:changed = false';
    await api.patch('/api/collections/jobs', { updateRule });
    const change = (body) => api.patch(recordsPath('jobs', id('job')), body, guest);
    assert.equal((await change({ tags: '[ "a" ]', admin: 0, role: 'new' })).status, 200);
    for (const body of [{ tags: '["b"]' }, { tags: [] }, { admin: 't' }])
      assertRefused(await change(body), 404);
  });
});

test('no name of a collection is one of the statement', async (t) => {
  const { api, people } = await world(t);
  for (const name of ['f1', 'm1', 'ef1']) {
    const fields = [text('name'), relation('author', people), relation('readers', people, { maxSelect: 9 })];
    const createRule = `@collection.${name}.name ?= "mine" && readers.name != name`;
    await api.define({ name, ...open, createRule, fields });
    const record = { name: 'mine', author: id('ann'), readers: [id('ann'), id('bob')] };
    assertRefused(await api.post(recordsPath(name), record, { token: '' }), 400);
    await api.create(name, { id: id('own'), ...record });
    assert.equal((await api.post(recordsPath(name), record, { token: '' })).status, 200);
    const table = {
      'id = "own000000000000" && author.name = "ann"': ['own'],
      'readers.name = name': [],
      'id = "own000000000000" && readers.name != name': ['own'],
      'id = "own000000000000" && author.name != name': ['own'],
    };
    for (const [filter, found] of Object.entries(table))
      assert.deepEqual(await names(api, filter, { collection: name }), found, `${name}: ${filter}`);
  }
});
