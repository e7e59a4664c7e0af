/**
 * Collections as files: written when a superuser changes them, applied when a server starts, once
 * and whole whatever ends the process, and never at the cost of data that nobody gave up.
 */
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import PocketBase from 'pocketbase';
import { addNeighbours } from './support/neighbours.mjs';
import { Server, run, runServer, runWell, startServer, temporaryFolder } from './support/program.mjs';
import { createSuperuser, email, password } from './support/superuser.mjs';

/** A server in a folder of its own, with a client that is signed in. */
async function open(t, { folder, args, env, isNew = true } = {}) {
  const own = folder ?? (await temporaryFolder(t));
  const server = await startServer(t, { folder: own, args, env });
  if (isNew) await createSuperuser(server);
  const pb = new PocketBase(server.url);
  pb.autoCancellation(false);
  await pb.collection('_superusers').authWithPassword(email, password);
  return { folder: own, server, pb };
}

const restart = (t, folder, options = {}) => open(t, { folder, isNew: false, ...options });

const files = async (folder) =>
  (await readdir(join(folder, 'migrations')).catch(() => []))
    .filter((name) => !name.startsWith('.'))
    .sort();
const readJson = async (...path) => JSON.parse(await readFile(join(...path), 'utf8'));

async function give(folder, name, operations) {
  await mkdir(join(folder, 'migrations'), { recursive: true });
  const text = JSON.stringify({ format: 1, operations }, null, 2);
  await writeFile(join(folder, 'migrations', name), text);
}

const migrate = (server, ...args) =>
  run(['migrate', ...args, '--data', server.data, '--app', server.folder]);

async function states(server, ...args) {
  const { code, stdout, stderr } = await migrate(server, 'list', '--json', ...args);
  assert.equal(code, 0, stderr);
  return Object.fromEntries(JSON.parse(stdout).items.map(({ file, state }) => [file, state]));
}

const namesOf = (fields) => fields.map(({ name, max }) => [name, max]);

/** Definitions without what differs between two servers by nature. */
async function definitions(pb) {
  const all = await pb.collections.getFullList();
  return all
    .map(({ created, updated, ...rest }) => rest)
    .map((each) => (each.type === 'view' ? { ...each, fields: namesOf(each.fields) } : each))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

const text = (name, more = {}) => ({ name, type: 'text', ...more });

/** Two people: what one does over the API, the other gets as files. */
async function pair(t) {
  const one = await open(t);
  const other = await temporaryFolder(t);
  const share = () => cp(join(one.folder, 'migrations'), join(other, 'migrations'), { recursive: true });
  return { one, other, share };
}

async function refusesToStart(folder, ...patterns) {
  const { code, stderr } = await runServer(folder);
  assert.equal(code, 1, stderr);
  for (const pattern of patterns) assert.match(stderr, pattern);
}

test('what a superuser changes is a file at once, and makes another server the same', async (t) => {
  const { one, other, share } = await pair(t);
  await addNeighbours(one.server, one.pb.authStore.token);
  assert.deepEqual(await files(one.folder), [], 'another tenant makes no file');

  const posts = await one.pb.collections.create({
    name: 'posts',
    listRule: '',
    fields: [text('title', { required: true }), { name: 'n', type: 'number' }],
    indexes: ['CREATE INDEX `idx_posts_n` ON `posts` (`n`)'],
  });
  assert.equal((await files(one.folder)).length, 1, 'before the client hears of it');
  const comments = await one.pb.collections.create({
    name: 'comments',
    fields: [{ name: 'post', type: 'relation', collectionId: posts.id, maxSelect: 1 }],
  });
  posts.fields.find((field) => field.name === 'title').name = 'headline';
  await one.pb.collections.update(posts.id, { fields: posts.fields, viewRule: 'n > 1' });
  await one.pb.collections.update(comments.id, { name: 'remarks' });
  await one.pb.collections.update('users', { listRule: '' });
  await one.pb.collections.create({ name: 'short_lived' });
  await one.pb.collections.delete('short_lived');

  const names = await files(one.folder);
  assert.deepEqual(
    names.map((name) => name.replace(/^\d{10}_/, '')),
    [
      'created_posts.json',
      'created_comments.json',
      'updated_posts.json',
      'updated_comments.json',
      'updated_users.json',
      'created_short_lived.json',
      'deleted_short_lived.json',
    ],
  );
  const first = await readJson(one.folder, 'migrations', names[0]);
  assert.equal(first.format, 1);
  assert.equal(first.operations.length, 1);
  assert.equal(first.operations[0].operation, 'create');
  assert.equal(first.operations[0].id, posts.id);
  assert.equal(first.operations[0].after.created, undefined);

  await share();
  const two = await open(t, { folder: other });
  assert.deepEqual(await definitions(two.pb), await definitions(one.pb));
  for (const { server } of [one, two])
    assert.deepEqual(new Set(Object.values(await states(server))), new Set(['applied']));
  assert.deepEqual(await files(other), names, 'what a file has done is not recorded again');

  await two.server.stop();
  const again = await restart(t, other);
  assert.deepEqual(await definitions(again.pb), await definitions(one.pb));
});

test('a change that leaves the definition as it is makes no file', async (t) => {
  const { pb, folder } = await open(t);
  const posts = await pb.collections.create({ name: 'posts', fields: [text('title')] });
  await pb.collections.update('posts', posts);
  assert.equal((await files(folder)).length, 1);
});

test('many changes in one second keep their order', async (t) => {
  const { one, other, share } = await pair(t);
  const names = Array.from({ length: 12 }, (_, i) => `c${i}`);
  await Promise.all(names.map((name) => one.pb.collections.create({ name })));
  for (const name of names) await one.pb.collections.update(name, { name: `x${name}` });
  for (const name of names.slice(6)) await one.pb.collections.delete(`x${name}`);
  assert.equal((await files(one.folder)).length, 30);
  await share();
  const two = await open(t, { folder: other });
  assert.deepEqual(await definitions(two.pb), await definitions(one.pb));
});

test('a rename keeps the values, of fields and of collections', async (t) => {
  const { one, other, share } = await pair(t);
  const posts = await one.pb.collections.create({
    name: 'posts',
    fields: [text('a'), text('b'), { name: 'n', type: 'number' }],
  });
  await share();
  const two = await open(t, { folder: other });
  await two.pb.collection('posts').create({ id: 'abcdefghijklmno', a: 'A', b: 'B', n: 7 });
  await two.server.stop();

  const fields = posts.fields.map((field) => ({
    ...field,
    name: { a: 'b', b: 'a', n: 'count' }[field.name] ?? field.name,
  }));
  await one.pb.collections.update('posts', { name: 'articles', fields });
  await share();
  const after = await restart(t, other);
  const record = await after.pb.collection('articles').getOne('abcdefghijklmno');
  assert.deepEqual([record.b, record.a, record.count], ['A', 'B', 7]);
});

test('what would lose data is refused by name and number, until it is allowed', async (t) => {
  const { one, other, share } = await pair(t);
  const posts = await one.pb.collections.create({
    name: 'posts',
    fields: [
      text('title'),
      text('empty'),
      { name: 'tags', type: 'select', values: ['a', 'b', 'c'], maxSelect: 3 },
    ],
  });
  await one.pb.collections.create({ name: 'notes', fields: [text('text')] });
  await share();
  const two = await open(t, { folder: other });
  for (const tags of [['a'], ['a', 'b'], ['b', 'c']])
    await two.pb.collection('posts').create({ title: 'T', tags });
  await two.pb.collection('notes').create({ text: 'N' });
  await two.server.stop();

  const fields = (...without) => posts.fields.filter((field) => !without.includes(field.name));
  await one.pb.collections.update('posts', { fields: fields('empty') });
  await share();
  await (await restart(t, other)).server.stop();

  await one.pb.collections.update('posts', { fields: fields('empty', 'title') });
  await share();
  const dropped = /updated_posts\.json: it would lose data: posts\.title is removed: 3 records\. /;
  await refusesToStart(other, dropped, /bakend migrate up --allow-data-loss/);
  const server = { data: join(other, 'data'), folder: other };
  const refused = await migrate(server, 'up');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, dropped);
  assert.match(refused.stderr, /^ {2}posts\.title is removed: 3 records$/m);
  assert.equal(Object.values(await states(server)).at(-1), 'pending');
  assert.match((await migrate(server, 'up', '--allow-data-loss')).stdout, /^applied .*updated_posts/);

  const single = fields('empty', 'title');
  single.find((field) => field.name === 'tags').maxSelect = 1;
  await one.pb.collections.update('posts', { fields: single });
  await one.pb.collections.delete('notes');
  await share();
  await refusesToStart(other, /posts\.tags keeps its last value only: 2 records/);
  const first = await migrate(server, 'up', '--json');
  assert.match(first.stderr, /posts\.tags keeps its last value only: 2 records/);
  assert.match(
    (await migrate(server, 'up', '--allow-data-loss')).stdout,
    /updated_posts.*\napplied .*deleted_notes/,
  );
  const after = await restart(t, other);
  assert.deepEqual(await definitions(after.pb), await definitions(one.pb));
  const kept = await after.pb.collection('posts').getFullList({ sort: 'tags' });
  assert.deepEqual(kept.map((record) => record.tags).sort(), ['a', 'b', 'c']);
});

test('a collection with records is not removed by a file alone, nor by down', async (t) => {
  const { folder, server, pb } = await open(t);
  await pb.collections.create({ name: 'notes', fields: [text('text')] });
  await pb.collection('notes').create({ text: 'N' });
  const refused = await migrate(server, 'down');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /created_notes\.json: it would lose data: notes is removed: 1 record/);
  assert.match(refused.stderr, /bakend migrate down --allow-data-loss/);
  assert.equal((await pb.collection('notes').getFullList()).length, 1);
  const done = await migrate(server, 'down', '--allow-data-loss');
  assert.match(done.stdout, /^reverted \d{10}_created_notes\.json\n$/);
  assert.deepEqual(Object.values(await states(server)), ['pending']);
  await rm(join(folder, 'migrations'), { recursive: true });
  assert.deepEqual(await states(server), {});
});

test('down takes back what was done last, and up does it again', async (t) => {
  const { server, pb } = await open(t);
  const posts = await pb.collections.create({ name: 'posts', fields: [text('a')] });
  const before = await definitions(pb);
  const fields = [...posts.fields.map((f) => (f.name === 'a' ? { ...f, name: 'b' } : f)), text('c')];
  await pb.collections.update('posts', { fields, listRule: '' });
  await pb.collection('posts').create({ b: 'kept' });
  const after = await definitions(pb);
  assert.equal((await migrate(server, 'down')).code, 0);
  assert.deepEqual(await definitions(pb), before);
  assert.equal((await pb.collection('posts').getFullList())[0].a, 'kept');
  assert.match((await migrate(server, 'up')).stdout, /^applied .*updated_posts/);
  assert.deepEqual(await definitions(pb), after);
  assert.match((await migrate(server, 'up')).stdout, /^nothing to do\n$/);
  assert.equal((await pb.collection('posts').getFullList())[0].b, 'kept');
});

test('views are in files as well, also those that change with what they read', async (t) => {
  const { one, other, share } = await pair(t);
  const posts = await one.pb.collections.create({
    name: 'posts',
    fields: [text('title'), { name: 'n', type: 'number' }],
  });
  const view = { name: 'counts', type: 'view', viewQuery: 'SELECT id, n FROM posts' };
  await one.pb.collections.create(view);
  const before = await definitions(one.pb);
  posts.fields.find((field) => field.name === 'n').max = 9;
  await one.pb.collections.update('posts', { fields: posts.fields });
  const after = await definitions(one.pb);
  assert.match((await files(one.folder)).join(), /_created_posts.*_created_counts.*_updated_posts/);
  await share();
  const two = await open(t, { folder: other });
  assert.deepEqual(await definitions(two.pb), after);
  for (const { server, pb } of [one, two]) {
    assert.equal((await migrate(server, 'down')).code, 0);
    assert.deepEqual(await definitions(pb), before);
  }
  assert.equal((await migrate(two.server, 'down', '2')).code, 0);
  assert.deepEqual(Object.values(await states(two.server)), ['pending', 'pending', 'pending']);
  assert.equal((await migrate(two.server, 'up')).code, 0);
  assert.deepEqual(await definitions(two.pb), after);
});

test('a view that gave records where it was made is made where there are none', async (t) => {
  const { one, other, share } = await pair(t);
  await one.pb.collections.create({ name: 'posts', fields: [{ name: 'n', type: 'number' }] });
  const viewQuery = 'SELECT id, max(n) AS most FROM posts';
  const view = { name: 'maxima', type: 'view', viewQuery };
  const early = await one.pb.collections.create(view).catch((error) => error);
  assert.equal(early.status, 400, 'over the API it is asked for records with ids');
  await one.pb.collection('posts').create({ n: 3 });
  await one.pb.collections.create(view);
  await one.pb.collections.update('maxima', { listRule: '' });
  await share();
  const two = await open(t, { folder: other });
  assert.deepEqual(await definitions(two.pb), await definitions(one.pb));
});

/** The same numbers in each run. */
function dice(seed) {
  let state = seed;
  return (below) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return Math.floor((state / 2147483648) * below);
  };
}

test('a long history of changes, replayed onto an empty directory, gives the same', async (t) => {
  const { one, other, share } = await pair(t);
  const roll = dice(7);
  const names = [];
  const field = (i) =>
    [
      text(`t${i}`, { max: roll(100) }),
      { name: `n${i}`, type: 'number', required: roll(2) === 1 },
      { name: `s${i}`, type: 'select', values: ['a', 'b', 'c'], maxSelect: 1 + roll(3) },
      { name: `j${i}`, type: 'json' },
    ][roll(4)];
  for (let i = 0; i < 80; i++) {
    const name = names[roll(names.length)];
    const kind = names.length < 3 ? 0 : roll(8);
    if (kind === 0) {
      const type = roll(4) === 0 ? 'auth' : 'base';
      await one.pb.collections.create({ name: `c${i}`, type, fields: [text('title'), field(i)] });
      names.push(`c${i}`);
      continue;
    }
    const now = await one.pb.collections.getOne(name);
    const last = now.fields.filter(({ system }) => !system).at(-1);
    const target = await one.pb.collections.getOne(names[roll(names.length)]);
    const relation = { name: `r${i}`, type: 'relation', collectionId: target.id, maxSelect: 1 };
    /* What is refused makes no file. */
    const update = (body) =>
      one.pb.collections.update(name, body).catch((error) => assert.equal(error.status, 400));
    if (kind === 1) await update({ fields: [...now.fields, field(i)] });
    else if (kind === 2 && last.name !== 'title') {
      last.name = `x${i}`;
      await update({ fields: now.fields });
    } else if (kind === 3 && last.name !== 'title')
      await update({ fields: now.fields.filter(({ id }) => id !== last.id) });
    else if (kind === 4)
      await update({ indexes: [...now.indexes, `CREATE INDEX idx_${i} ON ${name} (title)`] });
    else if (kind === 5) await update({ fields: [...now.fields, relation] });
    else if (kind === 6) {
      if (await update({ name: `d${i}`, listRule: 'title != ""' }))
        names[names.indexOf(name)] = `d${i}`;
    } else if (kind === 7) {
      const isGone = await one.pb.collections.delete(name).catch(() => false);
      if (isGone) names.splice(names.indexOf(name), 1);
    }
  }
  assert.ok((await files(one.folder)).length > 50);
  await share();
  const two = await open(t, { folder: other });
  assert.deepEqual(await definitions(two.pb), await definitions(one.pb));
  assert.deepEqual(new Set(Object.values(await states(two.server))), new Set(['applied']));
});

test('a deleted collection comes back by down, without its records', async (t) => {
  const { server, pb } = await open(t);
  await pb.collections.create({ name: 'posts', fields: [text('a')] });
  const before = await definitions(pb);
  await pb.collections.delete('posts');
  assert.equal((await migrate(server, 'down')).code, 0);
  assert.deepEqual(await definitions(pb), before);
});

test('killed before or after the commit, a change and its file are there together', async (t) => {
  for (const [point, isThere] of [
    ['migrations.prepared', false],
    ['migrations.committed', true],
    ['migrations.written', true],
  ]) {
    const { folder, server } = await open(t);
    await server.stop();
    const next = await restart(t, folder, { env: { BAKEND_FAILPOINT: `${point}:kill` } });
    next.server.expectKill();
    await next.pb.collections.create({ name: 'posts', fields: [text('a')] }).catch(() => {});
    await next.server.killed();
    const after = await restart(t, folder);
    const names = (await definitions(after.pb)).map(({ name }) => name);
    assert.equal(names.includes('posts'), isThere, point);
    const all = await readdir(join(folder, 'migrations')).catch(() => []);
    assert.deepEqual(
      all.map((name) => name.replace(/^\d+_/, '')),
      isThere ? ['created_posts.json'] : [],
      point,
    );
    assert.deepEqual(Object.values(await states(after.server)), isThere ? ['applied'] : [], point);
    await after.server.stop();
  }
});

test('killed at any commit of a start that applies files, the next start goes on', async (t) => {
  const { one, other, share } = await pair(t);
  for (const name of ['a', 'b', 'c']) await one.pb.collections.create({ name });
  await one.pb.collections.update('b', { listRule: '' });
  const wanted = (await definitions(one.pb)).map(({ name }) => name);
  const fresh = await open(t, { folder: other });
  await fresh.server.stop();
  await share();
  let kills = 0;
  for (let n = 1; n < 40; n++) {
    const env = { BAKEND_FAILPOINT: `store.before_commit:kill@${n}` };
    const { signal } = await killOrStop(other, env);
    if (signal !== 'SIGKILL') break;
    kills++;
  }
  assert.ok(kills >= 4, `${kills} kills`);
  const after = await restart(t, other);
  assert.deepEqual((await definitions(after.pb)).map(({ name }) => name), wanted);
  assert.equal(Object.values(await states(after.server)).filter((s) => s === 'applied').length, 4);
});

/** Starts a server that a failpoint may kill, also while it is ended when it was ready. */
async function killOrStop(folder, env) {
  const server = new Server(folder, [], env);
  const ready = await server.ready().then(
    () => true,
    () => false,
  );
  if (ready) server.signal('SIGTERM');
  return server.killed();
}

test('a broken file stops the start by its name, and nothing of the others is applied', async (t) => {
  const { folder, server } = await open(t);
  await server.stop();
  await give(folder, '1700000000_posts.json', [
    { operation: 'create', id: 'pbc_1', after: { id: 'pbc_1', name: 'posts', fields: [] } },
  ]);
  const broken = join(folder, 'migrations', '1700000001_broken.json');
  for (const [content, ...patterns] of [
    ['{"format": 1, "operations": [', /1700000001_broken\.json: .*Mend the file/],
    ['{"format": 2, "operations": []}', /format must be 1/],
    ['{"format": 1, "operations": {}}', /operations must be a list/],
    ['{"format":1,"operations":[{"operation":"grow"}]}', /operations\[0\]: operation must be create/],
    ['{"format":1,"operations":[{"operation":"create","id":"x"}]}', /operations\[0\]: after must be/],
    [
      '{"format":1,"operations":[{"operation":"create","id":"x","after":{"id":"y","name":"n"}}]}',
      /operations\[0\]: after\.id must be/,
    ],
  ]) {
    await writeFile(broken, content);
    await refusesToStart(folder, /1700000001_broken\.json: /, ...patterns);
  }
  assert.deepEqual(await states({ data: server.data, folder }), {
    '1700000000_posts.json': 'pending',
    '1700000001_broken.json': 'broken',
  });
  await rm(broken);
  const after = await restart(t, folder);
  assert.equal((await after.pb.collections.getOne('posts')).id, 'pbc_1');
});

test('a file that cannot be applied names operation, field and reason; those before it stay', async (t) => {
  const { folder, server } = await open(t);
  await server.stop();
  await give(folder, '1700000000_fine.json', [
    { operation: 'create', id: 'pbc_1', after: { id: 'pbc_1', name: 'fine', fields: [] } },
  ]);
  await give(folder, '1700000001_wrong.json', [
    { operation: 'create', id: 'pbc_2', after: { id: 'pbc_2', name: 'two', fields: [] } },
    {
      operation: 'create',
      id: 'pbc_3',
      after: { id: 'pbc_3', name: 'three', listRule: 'nobody = 1', fields: [] },
    },
  ]);
  await refusesToStart(folder, /1700000001_wrong\.json: operation 2 \(create three\): listRule: /);
  const stopped = { data: server.data, folder };
  assert.deepEqual(Object.values(await states(stopped)), ['applied', 'pending']);
  await give(folder, '1700000001_wrong.json', [
    {
      operation: 'update',
      id: 'pbc_9',
      collection: 'nine',
      after: { id: 'pbc_9', name: 'nine', fields: [] },
    },
  ]);
  await refusesToStart(folder, /operation 1 \(update nine\): there is no collection nine \(pbc_9\)/);
  await rm(join(folder, 'migrations', '1700000001_wrong.json'));
  const after = await restart(t, folder);
  const names = (await definitions(after.pb)).map(({ name }) => name);
  assert.ok(names.includes('fine') && !names.includes('two'));
});

test('two people change one collection: their files fit together, also out of order', async (t) => {
  const { one, other, share } = await pair(t);
  const posts = await one.pb.collections.create({ name: 'posts', fields: [text('title')] });
  await share();
  const two = await open(t, { folder: other });
  await two.pb.collections.update('posts', { fields: [...posts.fields, text('theirs')] });
  await two.pb.collection('posts').create({ title: 'T', theirs: 'X' });

  const mine = await one.pb.collections.update('posts', { fields: [...posts.fields, text('mine')] });
  assert.equal(mine.fields.length, 3);
  const [, late] = await files(one.folder);
  const early = late.replace(/^\d{10}/, (digits) => String(Number(digits) - 100000));
  await cp(join(one.folder, 'migrations', late), join(other, 'migrations', early));
  const applied = await migrate(two.server, 'up');
  assert.match(applied.stdout, new RegExp(`^applied ${early}\n$`));
  assert.match(applied.stderr, new RegExp(`warning: ${early} comes before one that was applied`));
  const record = (await two.pb.collection('posts').getFullList())[0];
  assert.equal(record.theirs, 'X');
  assert.equal(record.mine, '');
});

test('up beside people who change the same collection loses no change of either', async (t) => {
  const { folder, server, pb } = await open(t);
  let posts = await pb.collections.create({ name: 'posts', fields: [text('title')] });
  let isDone = false;
  const change = async () => {
    for (let i = 0; !isDone; i++)
      await pb.collections.update('posts', { listRule: i % 2 ? '' : null });
  };
  const changing = [change(), change()];
  for (let i = 0; i < 12; i++) {
    const { created, updated, ...before } = posts;
    const after = { ...before, fields: [...before.fields, text(`f${i}`, { id: `field${i}` })] };
    const name = `17000000${10 + i}_field.json`;
    await give(folder, name, [{ operation: 'update', id: posts.id, before, after }]);
    const up = await migrate(server, 'up');
    assert.equal(up.stdout, `applied ${name}\n`, up.stderr);
    posts = await pb.collections.getOne('posts');
  }
  isDone = true;
  await Promise.all(changing);
  assert.equal(posts.fields.length, 14);
  assert.deepEqual(new Set(Object.values(await states(server))), new Set(['applied']));
});

test('a file that was changed after it was applied is named; history-sync takes it', async (t) => {
  const { folder, server, pb } = await open(t);
  await pb.collections.create({ name: 'posts', fields: [text('a')] });
  await pb.collections.create({ name: 'notes' });
  await server.stop();
  const [posts, notes] = await files(folder);
  const path = join(folder, 'migrations', posts);
  const content = await readJson(path);
  await writeFile(path, JSON.stringify(content));
  assert.equal((await states(server))[posts], 'applied', 'another layout is no other content');
  content.operations[0].after.listRule = '';
  await writeFile(path, JSON.stringify(content));
  await rm(join(folder, 'migrations', notes));

  const after = await restart(t, folder);
  await after.server.logged('migration_changed', posts);
  assert.equal((await after.pb.collections.getOne('posts')).listRule, null);
  assert.deepEqual(await states(after.server), { [posts]: 'changed', [notes]: 'missing' });
  const down = await migrate(after.server, 'down');
  assert.equal(down.code, 1);
  assert.match(down.stderr, /notes\.json is missing: .*history-sync/);
  const up = await migrate(after.server, 'up');
  assert.equal(up.code, 0);
  assert.match(up.stderr, new RegExp(`${posts} was changed after it was applied`));
  const synced = await migrate(after.server, 'history-sync');
  assert.equal(synced.stdout, `forgotten ${notes}\ntaken as it is ${posts}\n`);
  assert.deepEqual(await states(after.server), { [posts]: 'applied' });
});

test('tenants: files are applied to another one when it is asked for by name', async (t) => {
  const { folder, server, pb } = await open(t);
  await addNeighbours(server, pb.authStore.token);
  await pb.collections.create({ name: 'shared', fields: [text('a')] });
  const [file] = await files(folder);
  assert.deepEqual(await states(server, '--tenant', 'left'), { [file]: 'pending' });
  const list = () => server.request('GET', '/api/collections', undefined, {
    token: pb.authStore.token,
    tenant: 'left',
  });
  assert.ok(!(await list()).text.includes('"shared"'));
  assert.equal((await migrate(server, 'up', '--tenant', 'left')).code, 0);
  assert.ok((await list()).text.includes('"shared"'));
  assert.deepEqual(await states(server, '--tenant', 'left'), { [file]: 'applied' });
  assert.deepEqual(await states(server, '--tenant', 'right'), { [file]: 'pending' });
  assert.deepEqual(await files(folder), [file]);
  const own = await server.request('GET', '/api/migrations', undefined, { tenant: 'left' });
  assert.equal(own.status, 401);
});

test('only operators see migrations', async (t) => {
  const { server, pb } = await open(t);
  for (const [method, path] of [
    ['GET', ''],
    ['POST', ''],
    ['POST', '/up'],
    ['POST', '/down'],
    ['POST', '/collections'],
    ['POST', '/history-sync'],
    ['POST', '/losses'],
  ]) {
    const guest = await server.request(method, `/api/migrations${path}`, method === 'POST' ? {} : undefined);
    assert.equal(guest.status, 401, path);
  }
  const token = pb.authStore.token;
  const listed = await server.request('GET', '/api/migrations', undefined, { token });
  assert.deepEqual(listed.body.items, []);
});

test('create makes an empty file, which waits until it is filled in', async (t) => {
  const { folder, server, pb } = await open(t);
  const made = await migrate(server, 'create', 'my first one!');
  assert.match(made.stdout, /\/migrations\/\d{10}_my_first_one_\.json\n$/);
  const [file] = await files(folder);
  assert.deepEqual(await states(server), { [file]: 'empty' });
  assert.equal((await migrate(server, 'up')).stdout, 'nothing to do\n');
  await give(folder, file, [
    { operation: 'create', id: 'pbc_1', after: { id: 'pbc_1', name: 'posts', fields: [] } },
    {
      operation: 'update',
      id: 'pbc_1',
      before: { id: 'pbc_1', name: 'posts', listRule: null },
      after: { id: 'pbc_1', name: 'posts', listRule: '' },
    },
  ]);
  assert.equal((await migrate(server, 'up')).stdout, `applied ${file}\n`);
  assert.equal((await pb.collections.getOne('posts')).listRule, '');
  assert.equal((await migrate(server, 'create')).code, 2);
  assert.equal((await migrate(server, 'nonsense')).code, 2);
});

test('a snapshot makes an empty server the same, and is applied where it was made', async (t) => {
  const { one, other } = await pair(t);
  const posts = await one.pb.collections.create({ name: 'posts', fields: [text('a')] });
  const tags = await one.pb.collections.create({
    name: 'tags',
    fields: [{ name: 'post', type: 'relation', collectionId: posts.id, maxSelect: 1 }],
  });
  await one.pb.collections.update('posts', {
    fields: [
      ...posts.fields,
      { name: 'tag', type: 'relation', collectionId: tags.id, maxSelect: 1 },
    ],
  });
  const made = await migrate(one.server, 'collections');
  assert.match(made.stdout, /_collections_snapshot\.json\n$/);
  const file = (await files(one.folder)).at(-1);
  assert.ok(made.stdout.includes(file), made.stdout);
  assert.equal((await states(one.server))[file], 'applied');
  const refused = await migrate(one.server, 'down');
  assert.match(refused.stderr, /cannot be taken back: it does not say what was before/);
  await cp(join(one.folder, 'migrations', file), join(other, 'migrations', file));
  const two = await open(t, { folder: other });
  assert.deepEqual(await definitions(two.pb), await definitions(one.pb));
});

test('commands say the same of a running server and of a stopped one', async (t) => {
  const { server, pb, folder } = await open(t);
  await pb.collections.create({ name: 'posts', fields: [text('a')] });
  await give(folder, '1700000000_more.json', [
    { operation: 'create', id: 'pbc_1', after: { id: 'pbc_1', name: 'more', fields: [] } },
  ]);
  const running = await migrate(server, 'list');
  assert.match(running.stdout, /^pending .* 1700000000_more\.json {2}\(before one that is applied\)$/m);
  await server.stop();
  assert.deepEqual(await migrate(server, 'list'), running);
  const args = ['superuser', 'list', '--data', server.data, '--app', folder];
  await runWell(args);
  assert.deepEqual(await migrate(server, 'list'), running, 'other commands apply nothing');
  assert.equal((await migrate(server, 'up')).stdout, 'applied 1700000000_more.json\n');
  assert.equal((await migrate(server, 'down')).stdout, 'reverted 1700000000_more.json\n');
  assert.deepEqual(await migrate(server, 'list'), running);
});

test('with --automigrate=false nothing is written', async (t) => {
  const { folder, pb } = await open(t, { args: ['--automigrate=false'] });
  await pb.collections.create({ name: 'posts' });
  assert.deepEqual(await files(folder), []);
});

test('without --app, files are written only for data in the working folder', async (t) => {
  for (const isInside of [true, false]) {
    const folder = await temporaryFolder(t);
    const elsewhere = isInside ? folder : await temporaryFolder(t);
    const data = join(elsewhere, 'data');
    await mkdir(data);
    const server = await startServer(t, { folder, args: ['--app', '.', '--data', data] });
    server.data = data;
    await createSuperuser(server);
    const pb = new PocketBase(server.url);
    await pb.collection('_superusers').authWithPassword(email, password);
    await pb.collections.create({ name: 'posts' });
    assert.equal((await files(folder)).length, isInside ? 1 : 0);
    if (!isInside) await server.logged('automigrate_off');
    await server.stop();
  }
});

test('a folder that cannot be written costs nothing but the file, which comes later', async (t) => {
  const folder = await temporaryFolder(t);
  await symlink(join(folder, 'away', 'migrations'), join(folder, 'migrations'));
  const { server, pb } = await open(t, { folder });
  await pb.collections.create({ name: 'posts' });
  await server.logged('migration_not_written', 'created_posts.json');
  await server.stop();
  await mkdir(join(folder, 'away', 'migrations'), { recursive: true });
  const [name] = Object.keys(await states(server));
  assert.deepEqual(await files(folder), [name], 'any command that opens the directory writes it');
  const after = await restart(t, folder);
  assert.deepEqual(await states(after.server), { [name]: 'applied' });
});

test('collections are exported and imported, and an import that loses data says so', async (t) => {
  const { folder, server, pb } = await open(t);
  const posts = await pb.collections.create({ name: 'posts', fields: [text('a'), text('b')] });
  await pb.collections.create({ name: 'notes' });
  const file = join(folder, 'collections.json');
  await runWell(['collections', 'export', file, '--data', server.data]);
  const exported = await readJson(file);
  assert.equal(await runWell(['collections', 'export', '--data', server.data]), await readFile(file, 'utf8'));
  assert.deepEqual(exported.find(({ name }) => name === 'posts').fields, posts.fields);

  const other = await open(t);
  const bring = (...args) => run(['collections', 'import', file, ...args, '--data', other.server.data]);
  const brought = await bring();
  assert.equal(brought.code, 0, brought.stderr);
  assert.deepEqual(await definitions(other.pb), await definitions(pb));
  assert.equal((await files(other.folder)).length, 1, 'one import is one file');

  await other.pb.collection('posts').create({ a: 'A', b: 'B' });
  await other.pb.collections.create({ name: 'extra', fields: [text('x')] });
  await other.pb.collection('extra').create({ x: 'X' });
  const less = exported.map((each) =>
    each.name === 'posts' ? { ...each, fields: each.fields.filter((f) => f.name !== 'b') } : each,
  );
  await writeFile(file, JSON.stringify(less));
  assert.equal((await bring()).code, 0, 'what is missing stays');
  assert.equal((await other.pb.collection('posts').getFullList())[0].b, 'B');
  const refused = await bring('--delete-missing');
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^ {2}posts\.b is removed: 1 record$/m);
  assert.match(refused.stderr, /^ {2}extra is removed: 1 record$/m);
  assert.equal((await other.pb.collection('extra').getFullList()).length, 1);
  const done = await bring('--delete-missing', '--allow-data-loss');
  assert.equal(done.code, 0, done.stderr);
  const names = (await definitions(other.pb)).map(({ name }) => name);
  assert.ok(!names.includes('extra'));
  await writeFile(file, '{"nothing": 1}');
  assert.match((await bring()).stderr, /collections\.json: must be a list of collections/);
});
