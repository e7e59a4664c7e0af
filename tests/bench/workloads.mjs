/**
 * The workloads that rivals publish, with the same schemas, rules and bodies on both sides:
 *
 *   chat    messages of about 90 bytes into rooms; who may write and read is looked up in a table of
 *           members. 16 and 64 connections, each with a token of its own user
 *   posts   posts with title, text of 480 bytes, a select, an author and tags; creates at 500
 *           connections, lists of 20: with and without totals, a filter by an indexed field, LIKE,
 *           expand, a rule that follows a relation, match-all over a relation to many
 *
 * at 10³, 10⁵ and, with --sizes 3,5,7, 10⁷ rows. They are filled by rows.c, past the servers; what is measured is
 * the servers'. A goal of two holds for fewer than 10⁵ rows and for more. Bakend syncs each create
 * (`synchronous=FULL`); PocketBase does not (`synchronous=NORMAL`). After each of its turns a server
 * has a moment to finish what it does for clients that have gone. Where a figure is missing, the row says why: it was
 * refused, or took longer than the patience of the load.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { load, memoryOf, summary, ticksOf } from './support/load.mjs';
import { plot } from './support/plot.mjs';
import { ROOT, programWith } from './support/processes.mjs';
import { ask, besideRival, restartBakend, restartPocketBase, startBakend, startPocketBase, stop } from './support/servers.mjs';
import { Table, powerOf } from './support/table.mjs';

export const file = 'workloads.md';
export const figures = ['chat', 'posts'];
export const isOnlyNamed = true;

const PLOT = 'workloads.svg';
const POWERS = [3, 5];
/** In which a server finishes what it began for an operation. */
const QUIET_SECONDS = 4;
const USERS = 16, ROOMS = 50, TAGS = 20;
const PASSWORD = 'correct horse 42';
const DATES = [{ name: 'created', type: 'autodate', onCreate: true }, { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true }];
const STAMP = "'2026-01-01 00:00:00.000Z'";
const idOf = (letter, number) => letter + String(number).padStart(14, '0');
const NUMBERS = (count) => `WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${count})`;
/** An id in SQL: idOf of an expression. */
const ID = (letter, number) => `'${letter}' || printf('%014d', ${number})`;

export async function measure(bench) {
  const table = new Table({
    title: 'The workloads of the rivals',
    note: 'Bakend syncs every create before it is answered (`synchronous=FULL`), PocketBase 0.39.7 does not (`synchronous=NORMAL`); default log levels. Records are filled past the servers.',
  });
  const curves = new Map();
  const sizes = (bench.options.sizes ?? POWERS).map((power) => 10 ** power);
  for (const size of sizes) {
    if (bench.wants('chat')) await benchWorkload(bench, table, curves, CHAT, size);
    if (bench.wants('posts')) await benchWorkload(bench, table, curves, POSTS, size);
  }
  return { render: (options) => `${table.render(options)}\n${draw(sizes, curves, options)}` };
}

/* --- the two workloads ------------------------------------------------------------------------------ */

const isMember = '@collection.bench_members.room ?= room && @collection.bench_members.user ?= @request.auth.id';
const signedIn = '@request.auth.id != ""';

const createMessage = (user) => ({ method: 'POST', where: records('bench_messages'),
  body: { owner: user.id, room: idOf('r', 1), data: 'a message of about ninety bytes, as people write them to each other all day long, now' } });

const CHAT = {
  name: 'chat',
  collections: (users) => [
    { name: 'bench_rooms', type: 'base', fields: [{ name: 'name', type: 'text' }] },
    { name: 'bench_members', type: 'base', fields: [relation('room', 'bench_rooms'), relation('user', users)],
      indexes: ['CREATE UNIQUE INDEX idx_bench_members ON bench_members (room, user)'] },
    { name: 'bench_messages', type: 'base', listRule: isMember, viewRule: isMember, createRule: `owner = @request.auth.id && ${isMember}`,
      fields: [relation('owner', users), relation('room', 'bench_rooms'), { name: 'data', type: 'text' }, ...DATES],
      indexes: ['CREATE INDEX idx_bench_messages ON bench_messages (room, created)'] },
  ],
  rows: (size, users) => `
    ${NUMBERS(ROOMS)} INSERT INTO bench_rooms (id, name) SELECT ${ID('r', 'n')}, 'room ' || n FROM numbers;
    ${NUMBERS(ROOMS)} INSERT INTO bench_members (id, room, user) SELECT ${ID('m', `n * ${USERS} + number`)}, ${ID('r', 'n')}, id FROM numbers, (${userRows(users)});
    ${NUMBERS(size)} INSERT INTO bench_messages (id, owner, room, data, created, updated)
      SELECT ${ID('c', 'n')}, (SELECT id FROM (${userRows(users)}) WHERE number = n % ${USERS}), ${ID('r', `1 + n % ${ROOMS}`)},
        'a message of about ninety bytes, as people write them to each other all day long, number ' || n, ${STAMP}, ${STAMP} FROM numbers;`,
  operations: [
    ['chat: read a message by id', [16, 64], () => ({ where: `${records('bench_messages')}/${idOf('c', 500)}` }), 1],
    ['chat: the last 20 of a room', [64], () => ({ where: `${records('bench_messages')}?perPage=20&skipTotal=1&sort=-created&filter=${encodeURIComponent(`room="${idOf('r', 1)}"`)}` }), 1],
    ['chat: create a message', [16], createMessage, 1],
    ['chat: create a message', [64], createMessage, 10],
  ],
};

const POSTS = {
  name: 'posts',
  collections: (users) => [
    { name: 'bench_tags', type: 'base', listRule: '', viewRule: '', fields: [{ name: 'name', type: 'text' }] },
    { name: 'bench_posts', type: 'base', listRule: '', viewRule: '', createRule: `${signedIn} && author = @request.auth.id`,
      fields: [{ name: 'title', type: 'text' }, { name: 'body', type: 'text' }, { name: 'category', type: 'select', maxSelect: 1, values: ['news', 'sport', 'art', 'science'] },
        relation('author', users), { ...relation('tags', 'bench_tags'), maxSelect: 5 }, ...DATES],
      indexes: ['CREATE INDEX idx_bench_posts_category ON bench_posts (category)', 'CREATE INDEX idx_bench_posts_author ON bench_posts (author)'] },
  ],
  rows: (size, users) => `
    ${NUMBERS(TAGS)} INSERT INTO bench_tags (id, name) SELECT ${ID('t', 'n')}, 'tag ' || n FROM numbers;
    ${NUMBERS(size)} INSERT INTO bench_posts (id, title, body, category, author, tags, created, updated)
      SELECT ${ID('p', 'n')}, 'Post number ' || n, '${'All work and no play makes a dull text. '.repeat(12)}',
        CASE n % 4 WHEN 0 THEN 'news' WHEN 1 THEN 'sport' WHEN 2 THEN 'art' ELSE 'science' END,
        (SELECT id FROM (${userRows(users)}) WHERE number = n % ${USERS}),
        '["' || ${ID('t', `1 + n % ${TAGS}`)} || '","' || ${ID('t', `1 + (n + 7) % ${TAGS}`)} || '"]', ${STAMP}, ${STAMP} FROM numbers;`,
  operations: [
    ['posts: list 20', [64], () => posts('skipTotal=1'), 5],
    ['posts: list 20 with totals', [64], () => posts(''), [1, 50]],
    ['posts: filter by an indexed field', [64], () => posts('skipTotal=1', 'category="news"'), 5],
    ['posts: filter by an indexed field, with totals', [64], () => posts('', 'category="news"'), [1, 50]],
    ['posts: LIKE', [64], () => posts('skipTotal=1', 'title~"number 9"'), 1],
    ['posts: LIKE, with totals', [64], () => posts('', 'title~"number 9"'), 1],
    ['posts: expand the author', [64], () => posts('skipTotal=1&expand=author'), 1],
    ['posts: expand author and tags', [64], () => posts('skipTotal=1&expand=author,tags'), 1],
    ['posts: filter through a relation', [64], () => posts('skipTotal=1', 'author.name="user 3"'), 1],
    ['posts: match-all over many', [64], () => posts('skipTotal=1', 'tags.name!="tag 3"'), 1],
    ['posts: any of many', [64], () => posts('skipTotal=1', 'tags.name?="tag 3"'), 1],
    ['posts: create', [500], (user) => ({ method: 'POST', where: records('bench_posts'), body: { title: 'A new post', body: 'All work and no play makes a dull text. '.repeat(12), category: 'news',
      author: user.id, tags: [idOf('t', 1), idOf('t', 2)] } }), 10],
  ],
};

function relation(name, collection) {
  return { name, type: 'relation', collection, maxSelect: 1 };
}

function records(collection) {
  return `/api/collections/${collection}/records`;
}

function posts(query, filter = null) {
  const all = ['perPage=20', query, filter === null ? '' : `filter=${encodeURIComponent(filter)}`];
  return { where: `${records('bench_posts')}?${all.filter(Boolean).join('&')}` };
}

/** The benchmark's users with numbers from 0: ids are whatever the server gave them. */
function userRows() {
  return `SELECT id, CAST(substr(name, 6) AS INTEGER) AS number FROM users`;
}

/* --- measuring ---------------------------------------------------------------------------------------- */

async function benchWorkload(bench, table, curves, workload, size) {
  const folder = path.join(bench.folder, `${workload.name}-${size}`);
  const bakend = await prepare(bench, await startBakend(bench, folder), workload, size, restartBakend);
  const rival = bench.options.rivals
    ? await besideRival({ name: 'PocketBase' }, async () => prepare(bench, await startPocketBase(bench), workload, size, restartPocketBase))
    : null;
  for (const [name, connectionCounts, request, goal] of workload.operations)
    for (const connections of connectionCounts) {
      const runs = { bakend: [], rival: [] };
      for (let round = 0; round < bench.options.rounds; round++) {
        runs.bakend.push(attempt(() => run(bench, bakend, connections, request)));
        await settle(bakend);
        if (!rival || runs.rival.some(({ reason }) => reason)) continue;
        runs.rival.push(attempt(() => run(bench, rival, connections, request)));
        if (!(await settle(rival))) await restartRival(bench, rival);
      }
      report(table, curves, { name: `${name}, ${connections} connections`, size, goal }, runs);
    }
  table.row(`– ${workload.name}, ${powerOf(size)}: resident memory at its peak, MiB`, { rate: memoryOf(bakend.child.pid).peak },
    rival ? [['of PocketBase', memoryOf(bakend.child.pid).peak / memoryOf(rival.child.pid).peak, '']] : []);
  for (const target of [bakend, rival]) if (target) await stop(target);
}

/** Users and collections over the API, the rows past it. */
async function prepare(bench, server, workload, size, restart) {
  const users = await ask(server, 'GET', '/api/collections/users');
  const passwords = Array.from({ length: USERS }, (_, i) => ({ email: `user${i}@example.com`, name: `user ${i}`, password: PASSWORD, passwordConfirm: PASSWORD, verified: true }));
  for (const user of passwords) await ask(server, 'POST', records('users'), JSON.stringify(user));
  await ask(server, 'PATCH', '/api/collections/users', JSON.stringify({ viewRule: '', listRule: '' }));
  const ids = new Map([['users', users.id], [users.id, users.id]]);
  for (const definition of workload.collections(users.id)) {
    const fields = definition.fields.map(({ collection, ...field }) => (collection ? { ...field, collectionId: ids.get(collection) } : field));
    ids.set(definition.name, (await ask(server, 'POST', '/api/collections', JSON.stringify({ ...definition, fields }))).id);
  }
  await stop(server);
  programWith(workload.rows(size, users.id) + server.afterwards, 'rows', server.database);
  const again = await restart(bench, server);
  again.user = (await ask(again, 'POST', '/api/collections/users/auth-with-password', JSON.stringify({ identity: 'user3@example.com', password: PASSWORD })));
  return again;
}

/**
 * Until the server has nothing left to do, or not for QUIET_SECONDS: what it works on for clients that have gone would
 * take its time from what is measured next.
 */
async function settle({ child }) {
  for (let waited = 0; waited < QUIET_SECONDS; waited += 0.5) {
    const before = ticksOf(child.pid);
    await sleep(500);
    if (ticksOf(child.pid) - before < 5) return true;
  }
  return false;
}

/** The rival works on for clients that have gone, for minutes; ours is left as it is. */
async function restartRival(bench, rival) {
  const { user } = rival;
  await stop(rival, 'SIGKILL');
  Object.assign(rival, await restartPocketBase(bench, rival), { user });
}

function run(bench, server, connections, request) {
  const { where, body = null } = request(server.user.record);
  return load(bench, server, connections, where, body && JSON.stringify(body), server.user.token);
}

/** Its figures, or the reason for which there are none. */
function attempt(measureOne) {
  try {
    const run = measureOne();
    return run.rate > 0 ? run : { reason: 'nobody was answered' };
  } catch (error) {
    return { reason: error.reason ?? error.message.split('\n')[0] };
  }
}

/** Of rounds: their medians, or the first reason for which there are none. */
function figuresOf(runs) {
  return runs.find(({ reason }) => reason) ?? (runs.length > 0 ? summary(runs) : {});
}

function report(table, curves, { name, size, goal }, runs) {
  const [own, rival] = [figuresOf(runs.bakend), figuresOf(runs.rival)];
  const areBoth = own.rate > 0 && rival.rate > 0;
  table.row(`${powerOf(size)}: ${name}`, own, [
    ['of PocketBase', areBoth ? own.rate / rival.rate : undefined, `> ${Array.isArray(goal) ? goal[size < 1e5 ? 0 : 1] : goal}`],
    ...(areBoth ? [['p99 to PocketBase\'s', own.p99 / rival.p99, '']] : []),
  ]);
  table.row('– PocketBase', rival);
  if (!curves.has(name)) curves.set(name, new Map());
  if (own.rate > 0) curves.get(name).set(size, 1e6 / own.rate);
}

function draw(sizes, curves, { isPublished }) {
  const lines = [...curves].map(([name, points]) => ({ name, isDashed: false, points: sizes.map((size) => points.get(size)) }));
  const folder = path.join(ROOT, 'docs/benchmarks');
  if (!isPublished) return '';
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, PLOT), plot({ title: 'µs of a request as records grow', sizes, lines, limit: 1000 }));
  return `![µs of a request as records grow](${PLOT})\n`;
}
