/** Related records inside a record, as the stock client asks for them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { assertProblems, operator } from './support/operator.mjs';
import { open, recordsPath } from './support/records.mjs';

const person = (n) => `person00000000${n}`;
const post = (n) => `post0000000000${n}`;

/** Three people, each the boss of the one before, three posts, and comments on the first. */
async function blog(t) {
  const api = await operator(t);
  const people = await api.define({
    name: 'people',
    ...open,
    fields: [
      { name: 'name', type: 'text' },
      { name: 'salary', type: 'number', hidden: true },
    ],
  });
  const fields = (await api.get('/api/collections/people')).body.fields;
  const to = (name, { id }, maxSelect = 1) => ({
    name,
    type: 'relation',
    collectionId: id,
    maxSelect,
  });
  await api.patch('/api/collections/people', { fields: [...fields, to('boss', people)] });
  const posts = await api.define({
    name: 'posts',
    ...open,
    fields: [{ name: 'title', type: 'text' }, to('author', people), to('editors', people, 9)],
  });
  const text = { name: 'text', type: 'text' };
  const comments = [text, to('post', posts), to('others', posts, 9)];
  await api.define({ name: 'comments', ...open, fields: comments });
  for (const [n, boss] of [
    [1, ''],
    [2, person(1)],
    [3, person(2)],
  ])
    await api.create('people', { id: person(n), name: `P${n}`, salary: n, boss });
  await api.create('posts', { id: post(1), author: person(3), editors: [person(2), person(1)] });
  await api.create('posts', { id: post(2), author: person(1) });
  await api.create('posts', { id: post(3) });
  for (const n of [1, 2, 3])
    await api.create('comments', { text: `c${n}`, post: post(1), others: [post(2), post(3)] });
  const client = new PocketBase(api.server.url);
  client.autoCancellation(false);
  const list = (expand, options = {}) =>
    client.collection('posts').getFullList({ sort: 'id', expand, ...options });
  return { api, client, list };
}

/** Names and titles in place of records, so that the shape is all there is. */
function shapeOf({ expand, name, text, id }) {
  const label = name ?? text ?? id;
  if (expand === undefined) return label;
  const entries = Object.entries(expand);
  const inner = (value) => (Array.isArray(value) ? value.map(shapeOf) : shapeOf(value));
  return { [label]: Object.fromEntries(entries.map(([key, value]) => [key, inner(value)])) };
}

test('expand', async (t) => {
  const { api, client, list } = await blog(t);
  const shapes = async (expand) => (await list(expand)).map(shapeOf);

  await t.test('follows relations, single and several, in the order of their ids', async () => {
    assert.deepEqual(await shapes('author,editors'), [
      { [post(1)]: { author: 'P3', editors: ['P2', 'P1'] } },
      { [post(2)]: { author: 'P1' } },
      { [post(3)]: {} },
    ]);
    const one = await client.collection('posts').getOne(post(1), { expand: 'editors.boss' });
    assert.deepEqual(shapeOf(one), { [post(1)]: { editors: [{ P2: { boss: 'P1' } }, { P1: {} }] } });
  });

  await t.test('follows them further and back', async () => {
    const [first, second] = await shapes('author.boss.boss,comments_via_post');
    assert.deepEqual(first, {
      [post(1)]: {
        author: { P3: { boss: { P2: { boss: 'P1' } } } },
        comments_via_post: ['c1', 'c2', 'c3'],
      },
    });
    assert.deepEqual(second, { [post(2)]: { author: { P1: {} } } });
    assert.deepEqual((await shapes('comments_via_others'))[2], {
      [post(3)]: { comments_via_others: ['c1', 'c2', 'c3'] },
    });
    const deep = `boss${'.people_via_boss.boss'.repeat(4)}`;
    const bob = await client.collection('people').getOne(person(2), { expand: deep });
    let depth = 0;
    for (let at = bob; at?.expand !== undefined; at = [Object.values(at.expand)[0]].flat()[0])
      depth++;
    assert.equal(depth, 6, 'no further than six');
  });

  await t.test('drops a path that leads nowhere from all of the page', async () => {
    for (const wrong of ['nope', 'title', 'author.nope', 'author.name', 'nope_via_post'])
      assert.deepEqual(await shapes(wrong), [post(1), post(2), post(3)], wrong);
    assert.deepEqual(await shapes('author,editors.nope'), [
      { [post(1)]: { author: 'P3' } },
      { [post(2)]: { author: 'P1' } },
      { [post(3)]: {} },
    ]);
    const third = await client.collection('posts').getOne(post(3), { expand: 'author.nope' });
    assert.deepEqual(third.expand, {}, 'no author from whom it shows');
  });

  await t.test('shows what the view rules of the related show, and no hidden fields', async () => {
    const salaries = async (options) =>
      (await list('author', options)).map(({ expand }) => expand?.author?.salary);
    assert.deepEqual(await salaries(), [undefined, undefined, undefined]);
    const headers = { Authorization: api.token };
    assert.deepEqual(await salaries({ headers }), [3, 1, undefined]);
    const rule = (viewRule) => api.patch('/api/collections/people', { viewRule });
    await rule('name = "P1" && @request.context = "expand"');
    assert.deepEqual(await shapes('author,editors'), [
      { [post(1)]: { editors: ['P1'] } },
      { [post(2)]: { author: 'P1' } },
      { [post(3)]: {} },
    ]);
    await rule(null);
    assert.deepEqual(await shapes('author,editors'), [post(1), post(2), post(3)]);
    await rule('');
  });

  await t.test('is cut by fields', async () => {
    const fields = 'id,expand.author.expand.boss.name';
    assert.deepEqual((await list('author.boss', { fields }))[0], {
      id: post(1),
      expand: { author: { expand: { boss: { name: 'P2' } } } },
    });
  });

  await t.test('has a named limit', async () => {
    const paths = Array.from({ length: 101 }, (_, i) => `author.x${i}`).join();
    const answer = await api.get(`${recordsPath('posts')}?expand=${paths}`);
    assertProblems(answer, { expand: 'validation_too_many' });
  });
});

test('a back relation with a unique index is one object', async (t) => {
  const { api, list } = await blog(t);
  const { id } = (await api.get('/api/collections/posts')).body;
  await api.define({
    name: 'summaries',
    ...open,
    fields: [
      { name: 'text', type: 'text' },
      { name: 'post', type: 'relation', collectionId: id, maxSelect: 1 },
    ],
    indexes: ['CREATE UNIQUE INDEX idx_summaries_post ON summaries (post)'],
  });
  await api.create('summaries', { text: 's', post: post(1) });
  const [first, second] = await list('summaries_via_post');
  assert.equal(first.expand.summaries_via_post.text, 's');
  assert.deepEqual(second.expand, {});
});
