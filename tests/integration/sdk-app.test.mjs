/**
 * An app on the stock SDK, by every public method that concerns records, collections, batches,
 * settings and realtime: nothing here knows that the server is not PocketBase.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EventSource } from 'eventsource';
import PocketBase, { BaseAuthStore } from 'pocketbase';
import { startServer } from './support/program.mjs';
import {
  createSuperuser,
  email as rootEmail,
  password as rootPassword,
} from './support/superuser.mjs';

globalThis.EventSource ??= EventSource;

const PASSWORD = 'correct horse 42';
const PATIENCE_MS = 15_000;

const clientOf = (server) => new PocketBase(server.url, new BaseAuthStore());

async function comes(isTrue) {
  for (let waited = 0; waited < PATIENCE_MS; waited += 20) {
    if (await isTrue()) return true;
    await sleep(20);
  }
  return false;
}

/** What a refused call rejects with. */
async function refusal(call) {
  const error = await call.then(
    () => assert.fail('it was not refused'),
    (caught) => caught,
  );
  return { status: error.status, data: error.response.data, message: error.response.message };
}

/** A blog: users, tags, posts of an author, comments, and who may do what. */
async function startBlog(t) {
  const server = await startServer(t);
  await createSuperuser(server);
  const admin = clientOf(server);
  await admin.collection('_superusers').authWithPassword(rootEmail, rootPassword);
  const users = await admin.collections.getOne('users');
  const relation = (name, collection, rest = {}) => ({
    name,
    type: 'relation',
    collectionId: collection.id,
    maxSelect: 1,
    ...rest,
  });
  const dates = [
    { name: 'created', type: 'autodate', onCreate: true },
    { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true },
  ];
  const readable = { listRule: '', viewRule: '' };
  const mine = '@request.auth.id != "" && author = @request.auth.id';
  const writable = { createRule: mine, updateRule: mine, deleteRule: mine };
  const tags = await admin.collections.create({
    name: 'tags',
    type: 'base',
    ...readable,
    fields: [{ name: 'name', type: 'text', required: true }],
    indexes: ['CREATE UNIQUE INDEX idx_tags_name ON tags (name)'],
  });
  const posts = await admin.collections.create({
    name: 'posts',
    type: 'base',
    listRule: 'published = true || author = @request.auth.id',
    viewRule: 'published = true || author = @request.auth.id',
    ...writable,
    fields: [
      { name: 'title', type: 'text', required: true, max: 100 },
      { name: 'body', type: 'editor' },
      { name: 'published', type: 'bool' },
      { name: 'likes', type: 'number' },
      { name: 'kinds', type: 'select', maxSelect: 3, values: ['news', 'art', 'sport'] },
      { name: 'extra', type: 'json' },
      { name: 'at', type: 'geoPoint' },
      { name: 'notes', type: 'text', hidden: true },
      relation('author', users, { required: true, cascadeDelete: true }),
      relation('tags', tags, { maxSelect: 5 }),
      ...dates,
    ],
  });
  await admin.collections.create({
    name: 'comments',
    type: 'base',
    ...readable,
    ...writable,
    fields: [
      { name: 'text', type: 'text' },
      relation('post', posts, { cascadeDelete: true }),
      relation('author', users),
      ...dates,
    ],
  });
  const people = {};
  for (const name of ['ann', 'bob']) {
    const guest = clientOf(server);
    const signup = {
      email: `${name}@example.com`,
      password: PASSWORD,
      passwordConfirm: PASSWORD,
      name,
    };
    const record = await guest.collection('users').create(signup);
    assert.equal('email' in record, false, 'a guest does not get the address back');
    const client = clientOf(server);
    await client.collection('users').authWithPassword(`${name}@example.com`, PASSWORD);
    people[name] = { client, id: record.id };
  }
  return { server, admin, people, guest: clientOf(server), ids: { users, tags, posts } };
}

test('users: signing up and in, themselves and others', async (t) => {
  const { server, admin, people } = await startBlog(t);
  const ann = people.ann.client;
  assert.equal(ann.authStore.isValid, true);
  assert.equal(ann.authStore.record.email, 'ann@example.com', 'their own address');
  assert.equal(ann.authStore.isSuperuser, false);
  const methods = await ann.collection('users').listAuthMethods();
  assert.deepEqual(methods.password, { enabled: true, identityFields: ['email'] });

  const before = ann.authStore.token;
  const refreshed = await ann.collection('users').authRefresh();
  assert.equal(refreshed.record.id, people.ann.id);
  assert.ok(before && ann.authStore.token);

  const wrong = await refusal(
    clientOf(server).collection('users').authWithPassword('ann@example.com', 'nope nope'),
  );
  assert.deepEqual(wrong, { status: 400, data: {}, message: 'Failed to authenticate.' });

  const changed = await ann.collection('users').update(people.ann.id, { name: 'Ann B.' });
  assert.equal(changed.name, 'Ann B.');
  assert.equal(ann.authStore.record.name, 'Ann B.', 'the SDK keeps its own record up to date');
  assert.equal(
    (await refusal(ann.collection('users').update(people.bob.id, { name: 'x' }))).status,
    404,
  );
  assert.equal((await refusal(ann.collection('users').getOne(people.bob.id))).status, 404);

  const as = await admin.collection('users').impersonate(people.bob.id, 3600);
  assert.equal(as.authStore.record.id, people.bob.id);
  assert.equal((await as.collection('users').getOne(people.bob.id)).email, 'bob@example.com');

  await ann.collection('users').update(people.ann.id, {
    oldPassword: PASSWORD,
    password: `${PASSWORD}!`,
    passwordConfirm: `${PASSWORD}!`,
  });
  assert.equal(
    (await refusal(ann.collection('users').authRefresh())).status,
    401,
    'a new password ends old tokens',
  );
  await ann.collection('users').authWithPassword('ann@example.com', `${PASSWORD}!`);
  await ann.collection('users').delete(people.ann.id);
  assert.equal(ann.authStore.isValid, false, 'who deletes themselves is signed out');
});

test('records: reading and writing', async (t) => {
  const { admin, people, guest } = await startBlog(t);
  const ann = people.ann.client;
  const news = await admin.collection('tags').create({ name: 'news' });
  const art = await admin.collection('tags').create({ name: 'art' });
  const post = await ann.collection('posts').create({
    title: 'First',
    body: '<p>Some <b>long</b> text that an excerpt cuts</p>',
    author: people.ann.id,
    kinds: ['news', 'art'],
    extra: { a: [1, { b: 'x' }] },
    at: { lon: 13.4, lat: 52.5 },
    tags: [news.id],
    notes: 'dropped: hidden',
  });
  assert.equal('notes' in post, false);
  assert.match(post.created, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z$/);

  await t.test('modifiers', async () => {
    const changed = await ann.collection('posts').update(post.id, {
      'likes+': 5,
      'tags+': art.id,
      'kinds-': 'news',
      '+kinds': ['sport'],
    });
    assert.equal(changed.likes, 5);
    assert.deepEqual(changed.tags, [news.id, art.id]);
    assert.deepEqual(changed.kinds, ['sport', 'art']);
    assert.equal((await ann.collection('posts').update(post.id, { 'likes-': 2 })).likes, 3);
  });

  await t.test('expand, back-relations, fields and excerpts', async () => {
    await people.bob.client
      .collection('comments')
      .create({ text: 'Nice', post: post.id, author: people.bob.id });
    const full = await ann.collection('posts').getOne(post.id, {
      expand: 'author,tags,comments_via_post.author,nope',
    });
    assert.equal(full.expand.author.id, people.ann.id);
    assert.deepEqual(
      full.expand.tags.map(({ name }) => name),
      ['news', 'art'],
    );
    assert.equal(full.expand.comments_via_post[0].text, 'Nice');
    assert.deepEqual(full.expand.comments_via_post[0].expand, {}, 'bob is not shown to ann');
    const few = await ann.collection('posts').getOne(post.id, {
      expand: 'tags',
      fields: 'id,body:excerpt(9,true),expand.tags.name',
    });
    assert.deepEqual(few, {
      id: post.id,
      body: 'Some long...',
      expand: { tags: [{ name: 'news' }, { name: 'art' }] },
    });
  });

  await t.test('drafts are their author’s', async () => {
    assert.equal((await refusal(guest.collection('posts').getOne(post.id))).status, 404);
    assert.equal((await guest.collection('posts').getList()).totalItems, 0);
    await ann.collection('posts').update(post.id, { published: true });
    assert.equal((await guest.collection('posts').getList()).totalItems, 1);
  });

  await t.test('pb.filter, sorting, getFirstListItem, getFullList', async () => {
    for (let i = 0; i < 25; i++)
      await ann.collection('posts').create({
        title: `it's "q" ${String(i).padStart(2, '0')}`,
        likes: i,
        published: i % 2 === 0,
        author: people.ann.id,
      });
    const posts = ann.collection('posts');
    const quoted = ann.filter('title = {:title}', { title: 'it\'s "q" 07' });
    assert.equal((await posts.getFirstListItem(quoted)).likes, 7);
    const range = ann.filter('likes >= {:low} && created < {:now}', {
      low: 20,
      now: new Date(Date.now() + 60_000),
    });
    const page = await posts.getList(2, 2, { filter: range, sort: '-likes', fields: 'likes' });
    assert.deepEqual(page, {
      page: 2,
      perPage: 2,
      totalItems: 5,
      totalPages: 3,
      items: [{ likes: 22 }, { likes: 21 }],
    });
    assert.equal((await posts.getFullList({ batch: 7 })).length, 26);
    const byAuthor = await posts.getList(1, 1, {
      filter: 'author.name = "ann"',
      sort: 'author.name,-likes',
    });
    assert.equal(byAuthor.items[0].likes, 24);
    const any = await posts.getFullList({ filter: 'tags.name ?= "art"' });
    assert.deepEqual(
      any.map(({ id }) => id),
      [post.id],
    );
    assert.equal((await refusal(posts.getFirstListItem('title = "nope"'))).status, 404);
    assert.equal((await refusal(posts.getList(1, 1, { filter: 'notes ~ "x"' }))).status, 400);
    assert.equal((await refusal(posts.getList(1, 1, { filter: 'title = ' }))).status, 400);
  });

  await t.test('what is wrong is said of each field', async () => {
    const { status, data, message } = await refusal(
      ann
        .collection('posts')
        .create({ title: '', kinds: ['nope'], author: people.ann.id, tags: ['missing00000000'] }),
    );
    assert.equal(status, 400);
    assert.equal(message, 'Failed to create record.');
    assert.deepEqual(Object.keys(data).sort(), ['kinds', 'tags', 'title']);
    const twice = await refusal(admin.collection('tags').create({ name: 'news' }));
    assert.equal(twice.data.name.code, 'validation_not_unique');
    const foreign = await refusal(
      ann.collection('posts').create({ title: 'x', author: people.bob.id }),
    );
    assert.deepEqual(foreign.data, {});
    assert.equal(
      (await refusal(ann.collection('comments').update('missing00000000', {}))).status,
      404,
    );
  });

  await t.test('forms: a record with a Blob is sent as multipart', async () => {
    const form = new FormData();
    form.append('title', 'by form');
    form.append('likes', '7');
    form.append('author', people.ann.id);
    form.append('kinds', 'news');
    form.append('kinds', 'art');
    const made = await ann.collection('posts').create(form);
    assert.deepEqual([made.title, made.likes, made.kinds], ['by form', 7, ['news', 'art']]);
  });

  await t.test('deleting cascades', async () => {
    await ann.collection('posts').delete(post.id);
    assert.equal((await guest.collection('comments').getList()).totalItems, 0);
    assert.equal(
      (await refusal(people.bob.client.collection('posts').delete(post.id))).status,
      404,
    );
  });
});

test('requests that are cancelled', async (t) => {
  const { guest } = await startBlog(t);
  const answers = await Promise.allSettled([
    guest.collection('tags').getList(),
    guest.collection('tags').getList(),
  ]);
  assert.deepEqual(
    answers.map(({ status }) => status),
    ['rejected', 'fulfilled'],
  );
  assert.equal(answers[0].reason.isAbort, true, 'auto-cancellation');
  const named = guest.collection('tags').getList(1, 1, { requestKey: 'mine' });
  guest.cancelRequest('mine');
  await assert.rejects(named, { isAbort: true });
  guest.autoCancellation(false);
  const both = await Promise.all([
    guest.collection('tags').getList(),
    guest.collection('tags').getList(),
  ]);
  assert.equal(both.length, 2);
  assert.equal((await guest.health.check()).code, 200, 'the server goes on');
});

test('batches', async (t) => {
  const { admin, people } = await startBlog(t);
  await admin.settings.update({ batch: { enabled: true, maxRequests: 20, timeout: 5 } });
  const kept = await admin.collection('tags').create({ name: 'kept' });
  const batch = admin.createBatch();
  batch.collection('tags').create({ id: 'tagofbatch00001', name: 'one' });
  batch.collection('tags').update(kept.id, { name: 'renamed' });
  batch.collection('tags').upsert({ id: 'tagofbatch00001', name: 'one again' });
  batch.collection('tags').upsert({ id: 'tagofbatch00002', name: 'two' });
  batch
    .collection('posts')
    .create(
      { title: 'with tags', author: people.ann.id, tags: ['tagofbatch00001'], 'likes+': 2 },
      { expand: 'tags' },
    );
  batch.collection('tags').delete('tagofbatch00002');
  const answers = await batch.send();
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 200, 200, 200, 204],
  );
  assert.equal(answers[4].body.expand.tags[0].name, 'one again');
  assert.equal(answers[4].body.likes, 2);

  const failing = admin.createBatch();
  failing.collection('tags').create({ name: 'undone' });
  failing.collection('tags').create({ name: 'renamed' });
  const { status, data } = await refusal(failing.send());
  assert.equal(status, 400);
  assert.equal(data.requests['1'].code, 'batch_request_failed');
  assert.equal(data.requests['1'].response.data.name.code, 'validation_not_unique');
  const names = (await admin.collection('tags').getFullList({ sort: 'name' })).map(
    ({ name }) => name,
  );
  assert.deepEqual(names, ['one again', 'renamed']);
});

test('collections', async (t) => {
  const { admin, people } = await startBlog(t);
  const list = await admin.collections.getFullList({ sort: 'name' });
  assert.ok(
    ['comments', 'posts', 'tags', 'users', '_superusers'].every((name) =>
      list.some((each) => each.name === name),
    ),
  );
  assert.equal((await admin.collections.getFirstListItem('name = "posts"')).name, 'posts');
  const scaffolds = await admin.collections.getScaffolds();
  assert.deepEqual(Object.keys(scaffolds).sort(), ['auth', 'base', 'view']);

  const view = await admin.collections.create({
    name: 'likes_of',
    type: 'view',
    listRule: '',
    viewQuery:
      'SELECT author as id, count(id) as total, sum(likes) as likes FROM posts GROUP BY author',
  });
  assert.deepEqual(
    view.fields.map(({ name }) => name),
    ['id', 'total', 'likes'],
  );
  for (const likes of [1, 2])
    await people.ann.client
      .collection('posts')
      .create({ title: 'x', likes, author: people.ann.id });
  const [sums] = await people.bob.client.collection('likes_of').getFullList();
  assert.deepEqual([sums.total, sums.likes], [2, 3]);
  assert.equal((await refusal(admin.collection('likes_of').create({}))).status, 400);

  const posts = await admin.collections.getOne('posts');
  const fields = posts.fields.map((field) =>
    field.name === 'likes' ? { ...field, name: 'hearts' } : field,
  );
  await admin.collections.delete('likes_of');
  await admin.collections.update('posts', { fields });
  const [first] = await people.ann.client.collection('posts').getFullList({ sort: 'hearts' });
  assert.equal(first.hearts, 1, 'a rename keeps the data');

  const copied = { ...posts, fields, name: 'articles' };
  await admin.collections.import([copied], false);
  assert.equal((await admin.collections.getOne(posts.id)).name, 'articles');
  await admin.collections.truncate('articles');
  assert.equal((await admin.collection('articles').getList()).totalItems, 0);
  assert.equal(
    (await refusal(admin.collections.delete('users'))).status,
    400,
    'others refer to it',
  );
});

test('realtime', async (t) => {
  const { admin, people, guest, ids } = await startBlog(t);
  const heard = { guest: [], ann: [], one: [] };
  const tag = await admin.collection('tags').create({ name: 'first' });
  const keep = (list) => (message) => list.push(message);
  await guest.collection('posts').subscribe('*', keep(heard.guest), { expand: 'tags' });
  await people.ann.client.collection('posts').subscribe('*', keep(heard.ann));
  await guest.collection('tags').subscribe(tag.id, keep(heard.one), { fields: 'name' });

  const draft = await people.ann.client
    .collection('posts')
    .create({ title: 'Draft', author: people.ann.id, tags: [tag.id] });
  const posted = await people.ann.client.collection('posts').update(draft.id, { published: true });
  assert.ok(await comes(() => heard.guest.length === 1), 'expanded before the tag is renamed');
  await admin.collection('tags').update(tag.id, { name: 'renamed' });
  await people.ann.client.collection('posts').delete(draft.id);
  assert.ok(
    await comes(() => heard.ann.length === 3 && heard.guest.length === 2 && heard.one.length === 1),
  );
  assert.deepEqual(
    heard.ann.map(({ action }) => action),
    ['create', 'update', 'delete'],
  );
  assert.deepEqual(
    heard.guest.map(({ action }) => action),
    ['update', 'delete'],
    'nothing of the draft',
  );
  assert.equal(heard.guest[0].record.title, posted.title);
  assert.equal(heard.guest[0].record.expand.tags[0].name, 'first');
  assert.deepEqual(heard.one[0], { action: 'update', record: { name: 'renamed' } });
  assert.equal(heard.guest[0].record.collectionId, ids.posts.id);

  await guest.collection('posts').unsubscribe();
  await people.ann.client
    .collection('posts')
    .create({ title: 'Loud', published: true, author: people.ann.id });
  assert.ok(await comes(() => heard.ann.length === 4));
  assert.equal(heard.guest.length, 2);
  await Promise.all([guest.realtime.unsubscribe(), people.ann.client.realtime.unsubscribe()]);
});
