/** Full-text search, an option of a collection, through the stock client. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { assertProblems, assertRefused, operator } from './support/operator.mjs';
import { startServer, temporaryFolder } from './support/program.mjs';
import { createCollection, open, recordsPath } from './support/records.mjs';
import { operatorToken } from './support/superuser.mjs';

const articles = {
  name: 'articles',
  ...open,
  fields: [
    { name: 'title', type: 'text' },
    { name: 'body', type: 'editor' },
    { name: 'kind', type: 'text' },
    { name: 'secret', type: 'text', hidden: true },
    { name: 'n', type: 'number' },
  ],
  search: { fields: ['title', 'body'] },
};

async function library(t, definition = articles) {
  const api = await operator(t);
  const collection = await api.define(definition);
  const client = new PocketBase(api.server.url);
  client.autoCancellation(false);
  const found = async (search, query = {}) => {
    const list = await client.collection('articles').getFullList({ query: { search, ...query } });
    return list.map(({ title }) => title);
  };
  return { api, client, collection, found };
}

const texts = [
  ['The red fox', 'It runs over the hill.', 'a'],
  ['Hills', 'Red, red, red: a hill is what the fox is on.', 'b'],
  ['Ünïcode', 'Straße und Äpfel', 'a'],
  ['Foxes', 'plural', 'b'],
];

async function fill(api) {
  for (const [n, [title, body, kind]] of texts.entries())
    await api.create('articles', { title, body, kind, n, secret: 'canary' });
}

test('search', async (t) => {
  const { api, client, found } = await library(t);
  await fill(api);

  await t.test('finds all words, in any case, the best first', async () => {
    assert.deepEqual((await found('RED')).sort(), ['Hills', 'The red fox']);
    assert.deepEqual(await found('red plural'), []);
    assert.deepEqual((await found('fox red')).sort(), ['Hills', 'The red fox']);
    assert.deepEqual(await found('unicode'), ['Ünïcode']);
    assert.deepEqual(await found('   '), texts.map(([title]) => title), 'no words: no search');
  });

  await t.test('finds phrases and beginnings', async () => {
    assert.deepEqual(await found('"red fox"'), ['The red fox']);
    assert.deepEqual(await found('"fox red"'), []);
    assert.deepEqual((await found('fox*')).sort(), ['Foxes', 'Hills', 'The red fox']);
    assert.deepEqual(await found('"red f"*'), ['The red fox']);
  });

  await t.test('takes any text for words', async () => {
    for (const text of ['"', '""', '*', 'AND', 'a OR', 'NOT', 'title:fox', '(', ')', '-', "'", '^x'])
      assert.ok(Array.isArray(await found(text)), text);
    for (const text of ['fox NEAR(', '{title}: fox', 'fox + red', 'a"b"c', '\\', '%', 'fox;', '--'])
      assert.ok(Array.isArray(await found(text)), text);
    assert.deepEqual((await found('fox - red')).sort(), ['Hills', 'The red fox']);
  });

  await t.test('goes with filter, sort, pages, totals, cursor and expand', async () => {
    assert.deepEqual(await found('fox', { filter: 'kind = "b"' }), ['Hills']);
    assert.deepEqual(await found('fox*', { sort: '-n' }), ['Foxes', 'Hills', 'The red fox']);
    const page = await client.collection('articles').getList(2, 2, { query: { search: 'fox*' } });
    assert.deepEqual([page.totalItems, page.totalPages, page.items.length], [3, 2, 1]);
    const { body } = await api.get(`${recordsPath('articles')}?search=fox*&cursor=&perPage=2`);
    assert.equal(body.items.length, 2);
    const rest = await api.get(
      `${recordsPath('articles')}?search=fox*&cursor=${body.nextCursor}&perPage=2`,
    );
    assert.deepEqual([rest.body.items.length, rest.body.nextCursor], [1, '']);
  });

  await t.test('follows every change', async () => {
    const record = await api.create('articles', { title: 'zebra', body: 'x' });
    assert.deepEqual(await found('zebra'), ['zebra']);
    await api.patch(recordsPath('articles', record.id), { title: 'okapi' });
    assert.deepEqual(await found('zebra'), []);
    assert.deepEqual(await found('okapi'), ['okapi']);
    await api.patch(recordsPath('articles', record.id), { n: 5 });
    assert.deepEqual(await found('okapi'), ['okapi']);
    await api.remove(recordsPath('articles', record.id));
    assert.deepEqual(await found('okapi'), []);
  });

  await t.test('shows nothing that the list rule hides', async () => {
    await api.patch('/api/collections/articles', { listRule: 'kind = "a"' });
    assert.deepEqual(await found('red'), ['The red fox']);
    await api.patch('/api/collections/articles', { listRule: '' });
  });

  await t.test('is refused where there is none, and past its limits', async () => {
    await api.define({ name: 'plain', ...open, fields: [{ name: 'title', type: 'text' }] });
    const get = (path) => api.get(path);
    assertProblems(await get(`${recordsPath('plain')}?search=x`), {
      search: 'validation_not_searchable',
    });
    assertProblems(await get(`${recordsPath('articles')}?search=${'x'.repeat(1001)}`), {
      search: 'validation_max_text_constraint',
    });
    assertProblems(await get(`${recordsPath('articles')}?search=${'x+'.repeat(33)}`), {
      search: 'validation_too_many',
    });
  });
});

test('the option search', async (t) => {
  const { api, collection, found } = await library(t);
  await fill(api);
  const change = (search) => api.patch('/api/collections/articles', { search });

  await t.test('is shown beside the keys of the contract, and only where it is used', async () => {
    assert.deepEqual(collection.search, { fields: ['title', 'body'], tokenizer: 'unicode61' });
    const plain = await api.define({ name: 'plain', ...open, fields: [] });
    assert.ok(!('search' in plain));
  });

  await t.test('refuses what cannot be searched', async () => {
    for (const [fields, at] of [
      [['nope'], 0],
      [['title', 'n'], 1],
      [['secret'], 0],
      [['title', 'title'], 1],
    ]) {
      const { status, body } = await change({ fields });
      assert.equal(status, 400);
      assert.equal(body.data.search.fields[at].code, 'validation_invalid_search_field');
    }
    assertProblemsIn(await change({ fields: ['title'], tokenizer: 'x' }));
    assert.equal((await change(1)).status, 400);
    const hidden = collection.fields.map((f) => (f.name === 'body' ? { ...f, hidden: true } : f));
    assert.equal((await api.patch('/api/collections/articles', { fields: hidden })).status, 400);
  });

  await t.test('is made anew with its fields, its words and its table', async () => {
    assert.equal((await change({ fields: ['title'], tokenizer: 'porter' })).status, 200);
    assert.deepEqual((await found('foxes')).sort(), ['Foxes', 'The red fox'], 'by their stem');
    assert.equal((await change({ fields: ['title'], tokenizer: 'trigram' })).status, 200);
    assert.deepEqual(await found('ill'), ['Hills'], 'parts of words');
    const { fields } = (await api.get('/api/collections/articles')).body;
    const renamed = fields.map((f) => (f.name === 'title' ? { ...f, name: 'headline' } : f));
    const answer = await api.patch('/api/collections/articles', { fields: renamed });
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(answer.body.search.fields, ['headline'], 'the option follows');
    const again = answer.body.fields.map((f) => (f.name === 'body' ? { ...f, name: 'text' } : f));
    const search = { fields: ['headline', 'body'] };
    const both = await api.patch('/api/collections/articles', { fields: again, search });
    assert.deepEqual(both.body.search?.fields, ['headline', 'text'], both.text);
    await api.create('articles', { headline: 'gnu', text: '' });
    const names = async (words) =>
      (await api.get(`${recordsPath('articles')}?search=${words}`)).body.items.map(
        ({ headline }) => headline,
      );
    assert.deepEqual(await names('gnu'), ['gnu']);
    assert.deepEqual(await names('plural'), ['Foxes']);
    await api.patch('/api/collections/articles', { name: 'papers' });
    await api.create('papers', { headline: 'yak' });
    const list = (await api.get(`${recordsPath('papers')}?search=yak`)).body;
    assert.equal(list.items.length, 1);
    assert.equal((await api.patch('/api/collections/papers', { search: null })).status, 200);
    assert.equal((await api.get(`${recordsPath('papers')}?search=yak`)).status, 400);
    await api.create('papers', { headline: 'after' });
    assert.equal((await api.remove('/api/collections/papers')).status, 204);
  });
});

const COUNT = 2000; // several slices
const BATCH = 500;

/** Notes 0 to COUNT - 1 in a collection that cannot be searched. */
async function fillNotes(server, token) {
  await createCollection(server, token, {
    name: 'notes',
    ...open,
    fields: [{ name: 'text', type: 'text' }],
  });
  const settings = { batch: { enabled: true, maxRequests: BATCH } };
  await server.request('PATCH', '/api/settings', settings, { token });
  for (let from = 0; from < COUNT; from += BATCH) {
    const requests = Array.from({ length: BATCH }, (_, i) => ({
      method: 'POST',
      url: recordsPath('notes'),
      body: { id: `note${String(from + i).padStart(11, '0')}`, text: `common word${from + i}` },
    }));
    const { status, text } = await server.request('POST', '/api/batch', { requests }, { token });
    assert.equal(status, 200, text);
  }
}

test('words of records that were there are written in slices, past a kill', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, {
    folder,
    env: { BAKEND_FAILPOINT: 'schema.search_slice:kill@3' },
  });
  const token = await operatorToken(server);
  const path = (id) => recordsPath('notes', id);
  const search = (words) =>
    server.request('GET', `${path()}?perPage=1&search=${words}`, undefined, { token });
  const total = async (words) => (await search(words)).body.totalItems;
  const change = async (id, body) =>
    assert.equal((await server.request('PATCH', path(id), body, { token })).status, 200);
  await fillNotes(server, token);

  const option = { search: { fields: ['text'] } };
  const patched = server.request('PATCH', '/api/collections/notes', option, { token });
  await patched.catch(() => {}); // it may be killed right behind the commit
  assert.equal((await server.killed()).signal, 'SIGKILL');

  const failing = { BAKEND_FAILPOINT: 'schema.search_slice:error' };
  server = await startServer(t, { folder, env: failing });
  const refused = await search('common');
  assertRefused(refused, 503);
  assert.ok(Number(refused.headers.get('retry-after')) > 0);
  assert.match(refused.body.message, /^The search of notes is still being built, \d+ % of its /);
  assert.equal((await server.request('GET', path(), undefined, { token })).status, 200);

  await change('note00000000001', { text: 'changed where there were words' });
  const none = `note${String(COUNT - 1).padStart(11, '0')}`;
  await change(none, { text: 'changed where there were none' });
  const last = `note${String(COUNT - 2).padStart(11, '0')}`;
  assert.equal((await server.request('DELETE', path(last), undefined, { token })).status, 204);
  await server.request('POST', path(), { text: 'common new' }, { token });
  assertRefused(await search('common'), 503);
  await server.logged('search_build_failed');
  await server.stop();

  const twice = 'schema.search_slice:error@1,schema.search_slice:error@2';
  server = await startServer(t, { folder, env: { BAKEND_FAILPOINT: twice } });
  await server.logged('search_build_resumed');
  const told = server.log.filter((line) => line.includes('search_build_failed'));
  assert.equal(told.length, 1, 'the same failure is told once');
  for (let answer = refused; answer.status !== 200; answer = await search('common'))
    assertRefused(answer, 503);
  await server.logged('search_built', 'notes');

  assert.equal(await total('common'), COUNT - 2);
  assert.equal(await total('changed'), 2);
  assert.equal(await total('word1'), 0, 'it was changed');
  assert.equal(await total(`word${COUNT - 1}`), 0);
  assert.equal(await total(`word${COUNT - 2}`), 0, 'it is gone');
  for (const number of [0, 2, 499, 500, 1500, COUNT - 3])
    assert.equal(await total(`word${number}`), 1, `word${number}`);
});

function assertProblemsIn({ status, body }) {
  assert.equal(status, 400);
  assert.equal(body.data.search.tokenizer.code, 'validation_in_invalid');
}
