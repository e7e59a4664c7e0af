/**
 * What an operation costs as data grows: the same requests, one at a time, to three servers whose databases hold
 * 10³, 10⁵ and 10⁷ records and as many events, in turns, so that what else the machine does hits all of them.
 *
 * The databases are filled by growth.c. A median is of one size over that of 10³: `flat` is ≤ 1.5. Needs 6 GiB in
 * the folder for temporary files, and minutes; so it is measured only when it is named.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Connection } from './support/connection.mjs';
import { median, memoryOf } from './support/load.mjs';
import { plot } from './support/plot.mjs';
import { powerOf } from './support/table.mjs';
import { BAKEND, ROOT, program } from './support/processes.mjs';
import { ask, startBakend, stop } from './support/servers.mjs';

export const file = 'growth.md';
export const figures = ['growth'];
export const isOnlyNamed = true;

const POWERS = [3, 5, 7];
const RECORDS = '/api/collections/growth/records';
const FIELDS = [{ name: 'email', type: 'email' }, { name: 'name', type: 'text' }, { name: 'team', type: 'text' },
  { name: 'created', type: 'autodate', onCreate: true }, { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true }];
const BODY = '{"email":"john@example.com","name":"John Doe","team":"team50"}';
/** Of an event's payload: what its retention counts. */
const EVENT_BYTES = 164;
const SAMPLES = 20, WARM_UPS = 3;
/** Of slow ones: what takes longer than this is asked fewer times. */
const PATIENCE_MS = 1500;
/** The server looks for what is to be pruned once a minute. */
const PRUNING_WAIT_MS = 90_000, PRUNING_MS = 4000;

export async function measure(bench) {
  const rows = [];
  const worlds = [];
  for (const power of bench.options.sizes ?? POWERS) worlds.push(await prepare(bench, 10 ** power));
  for (const world of worlds) world.start = await measureStart(bench, world);
  for (const world of worlds) await open(bench, world);
  for (const [name, kind, request] of OPERATIONS) rows.push({ name, kind, values: await inTurns(bench, worlds, request) });
  rows.push({ name: 'resident memory, MiB', kind: 'memory', values: worlds.map(({ server }) => memoryOf(server.child.pid).rss) });
  for (const world of worlds) await stop(world.server);
  rows.push({ name: 'start to first answer', kind: 'flat', values: worlds.map(({ start }) => start.clean) });
  rows.push({ name: 'the same after kill -9', kind: 'flat', values: worlds.map(({ start }) => start.killed) });
  rows.push({ name: 'pruning, a thousand events', kind: 'flat', values: await eachOf(worlds, (world) => measurePruning(bench, world)) });
  rows.push({ name: '`bakend doctor`', kind: 'linear', values: await eachOf(worlds, measureDoctor) });
  return { render: (options) => render(rows, worlds, options) };
}

async function eachOf(list, measureOne) {
  const values = [];
  for (const one of list) values.push(await measureOne(one));
  return values;
}

/* --- worlds --------------------------------------------------------------------------------------- */

async function prepare(bench, size) {
  const data = path.join(bench.options.data ?? bench.folder, `growth-${size}`);
  if (existsSync(data)) return { size, data };
  const server = await startBakend(bench, data);
  const definition = { name: 'growth', type: 'base', listRule: '', viewRule: '', createRule: '', fields: FIELDS,
    indexes: ['CREATE INDEX idx_growth_team ON growth (team, id)'] };
  await ask(server, 'POST', '/api/collections', JSON.stringify(definition));
  await stop(server);
  console.error(`filling ${size.toLocaleString('en-US')}`);
  program('growth', database(data), size);
  return { size, data };
}

const database = (data) => path.join(data, 'tenants/default/data.db');

async function open(bench, world) {
  world.server = await startBakend(bench, world.data, { exists: true });
  world.connection = await Connection.open(world.server.port);
  world.token = world.server.token;
  world.collection = (await ask(world.server, 'GET', '/api/collections/growth')).id;
  const middle = new Date(Date.parse((await feed(world, 'limit=1&order=desc')).events[0].timestamp) - world.size / 2);
  world.middle = (await feed(world, `limit=1&after=${middle.toISOString()}`)).next;
}

async function feed({ connection, token }, query) {
  return JSON.parse(await connection.ask('GET', `/api/events?${query}`, { token }));
}

/** A server's cursor has the collection, the sort and the values of the last record. */
const cursorOf = ({ collection }, sort, ...values) => Buffer.from(JSON.stringify([collection, sort, ...values])).toString('base64url');
const idOf = (number) => String(Math.max(1, Math.floor(number))).padStart(15, '0');
const list = (query) => ({ connection }) => connection.ask('GET', `${RECORDS}?perPage=20&${query}`);

/* --- operations ----------------------------------------------------------------------------------- */

/** Its name, what is expected of it, and the request. */
const OPERATIONS = [
  ['create', 'flat', ({ connection }) => connection.ask('POST', RECORDS, { body: BODY })],
  ['read by id, at random', 'flat', ({ connection, size }) => connection.ask('GET', `${RECORDS}/${idOf(1 + Math.random() * (size - 1))}`)],
  ['list 20 by id, first page', 'flat', list('skipTotal=1&sort=id')],
  ['list 20 by id, cursor in the middle', 'flat', (world) => list(`sort=id&cursor=${cursorOf(world, 'id', idOf(world.size / 2))}`)(world)],
  ['list 20 by an indexed field, first page', 'flat', list('skipTotal=1&sort=team,id')],
  ['list 20 by an indexed field, cursor in the middle', 'flat', (world) => list(`sort=team,id&cursor=${cursorOf(world, 'team,id', 'team50', idOf(world.size / 2))}`)(world)],
  ['the same, descending', 'flat', (world) => list(`sort=-team,-id&cursor=${cursorOf(world, '-team,-id', 'team50', idOf(world.size / 2))}`)(world)],
  ['list 20 with totals', 'linear', list('sort=id')],
  ['list 20 by page number, in the middle', 'linear', (world) => list(`skipTotal=1&sort=id&page=${Math.floor(world.size / 40)}`)(world)],
  ['feed, 100 events from the start', 'flat', (world) => feed(world, 'limit=100&after=start')],
  ['feed, 100 events from the middle', 'flat', (world) => feed(world, `limit=100&after=${world.middle}`)],
  ['feed, 100 events from a time', 'flat', (world) => feed(world, `limit=100&after=${new Date(Date.now() - 3_600_000).toISOString()}`)],
  ['feed, the newest 100 events', 'flat', (world) => feed(world, 'limit=100&order=desc')],
];

/** Medians in ms, of requests to each in turn; none where the server refuses it for its cost. */
async function inTurns(bench, worlds, request) {
  const taken = worlds.map(() => ({ all: [], spent: 0, isRefused: false }));
  const count = SAMPLES * bench.options.rounds;
  for (let i = 0; i < count + WARM_UPS; i++) {
    for (const [index, world] of worlds.entries()) {
      const { all, spent, isRefused } = taken[index];
      if (isRefused || (spent > PATIENCE_MS && all.length >= 5)) continue;
      const time = await timed(world, request);
      if (time === undefined) taken[index].isRefused = true;
      else if (i >= WARM_UPS) {
        all.push(time);
        taken[index].spent += time;
      }
    }
  }
  const medians = taken.map(({ all, isRefused }) => (isRefused ? undefined : median(all)));
  console.error(`${medians.map(number).join(' | ')} ms: ${OPERATIONS.find(([, , one]) => one === request)[0]}`);
  return medians;
}

async function timed(world, request) {
  const began = performance.now();
  try {
    await request(world);
  } catch (error) {
    if (!error.message.includes('took too long')) throw error;
    return undefined;
  }
  return performance.now() - began;
}

async function measureStart(bench, world) {
  const clean = [], killed = [];
  for (let round = 0; round < bench.options.rounds; round++) {
    const server = await startBakend(bench, world.data, { exists: true });
    clean.push(server.startMs);
    for (let i = 0; i < 5; i++) await ask(server, 'POST', RECORDS, BODY);
    server.child.kill('SIGKILL');
    await server.gone;
    const again = await startBakend(bench, world.data, { exists: true });
    killed.push(again.startMs);
    await stop(again);
  }
  return { clean: median(clean), killed: median(killed) };
}

/** Half of the events become too many. In ms for a thousand of them, once it has begun. */
async function measurePruning(bench, world) {
  if (world.size < 100_000) return undefined;
  const bytes = (world.size * EVENT_BYTES) / 2;
  process.env.BAKEND_RETENTION_MAX_BYTES = String(bytes);
  const server = await startBakend(bench, world.data, { exists: true });
  delete process.env.BAKEND_RETENTION_MAX_BYTES;
  const oldest = async () => (await ask(server, 'GET', '/api/events?limit=1&after=start')).firstSequence;
  let first = await oldest();
  for (const until = performance.now() + PRUNING_WAIT_MS; (await oldest()) === first && performance.now() < until; ) await pause(10);
  const began = performance.now();
  first = await oldest();
  let last = first, ended = began;
  while (performance.now() < began + PRUNING_MS) {
    await pause(100);
    const now = await oldest();
    if (now !== last) ended = performance.now();
    last = now;
  }
  await stop(server);
  return (ended - began) / ((last - first) / 1000);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function measureDoctor({ data }) {
  const began = performance.now();
  execFileSync(BAKEND, ['doctor', '--data', data], { stdio: 'ignore' });
  return performance.now() - began;
}

/* --- the page ------------------------------------------------------------------------------------- */

const PLOT = 'growth.svg';

function render(rows, worlds, { words, isPublished }) {
  if (isPublished) draw(rows, worlds);
  const sizes = worlds.map(({ data }) => `${(statSync(database(data)).size / 2 ** 20).toFixed(0)} MiB`).join(', ');
  return `${[
    '# What an operation costs as data grows', '',
    `Made by \`scripts/bench ${words.join(' ')}\` on ${new Date().toISOString().slice(0, 10)}. Records and as many events, each about 80 and 330 bytes; databases of ${sizes}; one request at a time to ${worlds.length} servers in turns, medians in ms. \`flat\` means ≤ 1.5 times the cost at ${powerOf(worlds[0].size)}, but for the depth of the B-tree; – is a request that was refused because it took too long, or what was not measured.`, '',
    `![cost at a size, to that at the smallest](${PLOT})`, '',
    `| what | ${worlds.map(({ size }) => powerOf(size)).join(' | ')} | last to first | expected |`, `| --- | ${'---: | '.repeat(worlds.length + 1)}--- |`,
    ...rows.map(({ name, kind, values }) => `| ${name} | ${values.map(number).join(' | ')} | ${number(ratios(values).at(-1))} | ${kind === 'memory' ? '' : kind} |`),
  ].join('\n')}\n`;
}

function draw(rows, worlds) {
  const lines = rows.filter(({ kind }) => kind !== 'memory').map(({ name, kind, values }) => ({ name, isDashed: kind === 'linear', points: ratios(values) }));
  const folder = path.join(ROOT, 'docs/benchmarks');
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, PLOT), plot({ title: 'cost at a size, to that at the smallest', sizes: worlds.map(({ size }) => size), lines, limit: 1.5 }));
}

const ratios = (values) => values.map((value) => (value === undefined ? undefined : value / (values[0] ?? values[1])));

function number(value) {
  if (value === undefined || Number.isNaN(value)) return '–';
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toFixed(2);
}
