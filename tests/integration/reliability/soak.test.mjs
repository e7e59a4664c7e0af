/**
 * Everything at once for a while: records made, changed, read, listed and deleted, the feed
 * followed, subscribers that come and go, tenants and backups made and removed. What the server
 * takes of the machine stays where it was after the warm-up: memory, descriptors and the
 * write-ahead log; no request fails. How far the slowest answers drift is told.
 *
 * BAKEND_LONG=1: five minutes instead of fifteen seconds.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startServer } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { Listener } from '../support/realtime.mjs';
import { createRandom } from '../support/random.mjs';
import { createCollection, open, recordsPath } from '../support/records.mjs';
import { operatorToken } from '../support/superuser.mjs';
import { requestText, Wire } from '../support/wire.mjs';
import { isSanitized } from './support/build.mjs';
import { comes, descriptorCount, figure } from './support/process.mjs';

const IS_LONG = process.env.BAKEND_LONG === '1';
/* SQLite's pages and the tail of the feed fill with use: first as fast as it goes. */
const FILL_MS = IS_LONG ? 60_000 : 2_000;
const WARM_UP_MS = IS_LONG ? 30_000 : 3_000;
const DURATION_MS = IS_LONG ? 200_000 : 10_000;
const FILLERS = 48;
const SAMPLE_MS = 500;
const PAUSE_MS = 5;
const RECORDS_MAX = 300;
const TEXT = 'x'.repeat(500);
/* From 32 MiB on the writer waits for readers; beside it, what lies between two tries. */
const WAL_MAX_BYTES = 40 * 2 ** 20;
/* Of medians over a minute; seconds say less, and a sanitizer's memory nothing. */
const GROWTH_MAX_MIB = IS_LONG ? 3 : 24;
const things = { name: 'things', ...open, fields: [{ name: 'text', type: 'text' }, { name: 'n', type: 'number' }] };

/** Memory that is the program's own: pages of files are the system's to keep or drop. */
const anonymousMebibytes = ({ pid }) =>
  Number(/RssAnon:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;

const inOrder = (numbers) => [...numbers].sort((a, b) => a - b);
const quantile = (numbers, part) => inOrder(numbers)[Math.floor((numbers.length - 1) * part)];

/** Least squares, in units per hour. */
function slopePerHour(samples) {
  const mean = (of) => samples.reduce((sum, each) => sum + of(each), 0) / samples.length;
  const time = mean(({ ms }) => ms);
  const level = mean(({ mebibytes }) => mebibytes);
  const shared = mean(({ ms, mebibytes }) => (ms - time) * (mebibytes - level));
  return (shared / mean(({ ms }) => (ms - time) ** 2)) * 3_600_000;
}

class Load {
  requests = 0;
  events = 0;
  late = 0;
  cycles = { tenants: 0, backups: 0, sockets: 0 };
  latencies = [];
  #ids = [];
  #number = 0;

  constructor(server, token, random) {
    Object.assign(this, { server, token, random });
  }

  async ask(status, method, path, body, options = {}) {
    const started = performance.now();
    const answer = await this.server.request(method, path, body, { token: this.token, ...options });
    assert.equal(answer.status, status, `${method} ${path}: ${answer.text}`);
    this.requests++;
    return { body: answer.body, ms: performance.now() - started };
  }

  async write() {
    const { random } = this;
    if (this.#ids.length < RECORDS_MAX) {
      const { body, ms } = await this.ask(200, 'POST', recordsPath('things'), { text: TEXT, n: 1 });
      this.#ids.push(body.id);
      this.latencies.push({ at: performance.now(), ms });
    }
    const id = this.#ids[random.below(this.#ids.length)];
    await this.ask(200, 'PATCH', recordsPath('things', id), { n: random.below(1000) });
    if (this.#ids.length < RECORDS_MAX / 2 || random.number() < 0.5) return;
    /* Nobody else changes one that is not in the list any more, but a read may come too late. */
    const victim = this.#ids.shift();
    await sleep(100);
    await this.ask(204, 'DELETE', recordsPath('things', victim));
  }

  async read() {
    const { random } = this;
    if (this.#ids.length === 0) return;
    const id = this.#ids[random.below(this.#ids.length)];
    const answer = await this.server.request('GET', recordsPath('things', id));
    assert.ok([200, 404].includes(answer.status), answer.text);
    const sort = ['n', '-n', 'id'][random.below(3)];
    const path = `${recordsPath('things')}?cursor=&perPage=50&sort=${sort}`;
    const { nextCursor } = await this.list(path);
    if (nextCursor) await this.list(path.replace('cursor=', `cursor=${nextCursor}`));
  }

  /** A read has a deadline, which a busy machine may miss: it says so. */
  async list(path) {
    const { status, body, text } = await this.server.request('GET', path);
    this.requests++;
    if (status === 400 && text.includes('took too long')) this.late++;
    else assert.equal(status, 200, text);
    return body;
  }

  async follow() {
    const after = this.next ?? 'now';
    const { body } = await this.ask(200, 'GET', `/api/events?after=${after}&limit=200&wait=1`);
    this.next = body.next;
  }

  async subscribe() {
    const listener = await Listener.connect(this.server, { token: this.token });
    await listener.subscribe({ types: ['things.*'], after: 'now' });
    await sleep(this.random.between(50, 500));
    this.events += listener.events.length;
    if (this.random.number() < 0.5) listener.socket.terminate();
    else await listener.close();
    this.cycles.sockets++;
  }

  async tenant() {
    const name = `soak-${++this.#number}`;
    await this.ask(200, 'POST', '/api/tenants', { name });
    const tenant = { tenant: name };
    await this.ask(200, 'POST', '/api/collections', { type: 'base', ...things }, tenant);
    for (let n = 0; n < 5; n++)
      await this.ask(200, 'POST', recordsPath('things'), { text: TEXT, n }, tenant);
    await this.ask(204, 'DELETE', `/api/tenants/${name}?confirm=${name}`);
    this.cycles.tenants++;
    await sleep(300);
  }

  async backup() {
    const name = `soak-${++this.#number}.zip`;
    await this.ask(204, 'POST', '/api/backups', { name });
    await this.ask(200, 'GET', `/api/backups/${name}`);
    await this.ask(204, 'DELETE', `/api/backups/${name}`);
    this.cycles.backups++;
    await sleep(1000);
  }

  /** Writes, sorted lists and pages of the feed without a pause, so that every cache is full. */
  async fill(durationMs) {
    const until = performance.now() + durationMs;
    const headers = { Authorization: this.token };
    const path = recordsPath('things');
    const fill = async () => {
      const wire = await Wire.open(this.server.port);
      const ask = async (method, target, body) => {
        wire.write(requestText(method, target, body, headers));
        return wire.answer();
      };
      const { id } = (await ask('POST', path, { text: TEXT, n: 0 })).json;
      for (let n = 0; performance.now() < until; n++) {
        await ask('PATCH', `${path}/${id}`, { text: TEXT, n });
        if (n % 3 === 0) await ask('GET', `${path}?cursor=&perPage=50&sort=n`);
        if (n % 4 === 0) await ask('GET', '/api/events?after=start&limit=100');
      }
      wire.destroy();
    };
    await Promise.all(Array.from({ length: FILLERS }, fill));
  }

  /** Each kind again and again, until the time is over; fails with the first that failed. */
  async run(durationMs) {
    const until = performance.now() + durationMs;
    const loop = async (act) => {
      while (performance.now() < until) {
        await act.call(this);
        await sleep(PAUSE_MS);
      }
    };
    const { write, read, follow, subscribe, tenant, backup } = this;
    const kinds = [[write, 4], [read, 2], [follow, 2], [subscribe, 6], [tenant, 1], [backup, 1]];
    await Promise.all(kinds.flatMap(([act, count]) => Array.from({ length: count }, () => loop(act))));
  }
}

/** Looks at the server while the work goes on. */
async function watch(load, work) {
  const samples = [];
  let isOver = false;
  const started = performance.now();
  const looking = (async () => {
    while (!isOver) {
      samples.push({
        ms: performance.now() - started,
        mebibytes: anonymousMebibytes(load.server),
        descriptors: descriptorCount(load.server),
        wal: await figure(load.server, load.token, 'bakend_store_wal_bytes'),
      });
      await sleep(SAMPLE_MS);
    }
  })();
  try {
    await work;
  } finally {
    isOver = true;
    await looking;
  }
  return samples;
}

/** Descriptors once nobody asks any more, and clients have let their connections go. */
async function quietDescriptors(server) {
  let least = Infinity;
  await comes(() => {
    const count = descriptorCount(server);
    const isSteady = count === least;
    least = Math.min(least, count);
    return sleep(500).then(() => isSteady && descriptorCount(server) === least);
  }, 15_000);
  return least;
}

const quarter = (list, index) =>
  list.slice(Math.floor((list.length * index) / 4), Math.floor((list.length * (index + 1)) / 4));

test('memory, descriptors and the write-ahead log stay where they were', async (t) => {
  const server = await startServer(t);
  const token = await operatorToken(server);
  await createCollection(server, token, things);
  const load = new Load(server, token, createRandom(t));
  await load.fill(FILL_MS);
  await load.run(WARM_UP_MS);
  await sleep(6000); /* longer than a client keeps an idle connection */
  const descriptorsBefore = await quietDescriptors(server);
  load.latencies = [];
  const samples = await watch(load, load.run(DURATION_MS));
  await sleep(6000);
  const descriptorsAfter = await quietDescriptors(server);

  const levels = samples.map(({ mebibytes }) => mebibytes);
  const [first, last] = [quarter(levels, 0), quarter(levels, 3)].map((each) => quantile(each, 0.5));
  const wal = Math.max(...samples.map((each) => each.wal));
  const p99 = [0, 3].map((index) =>
    quantile(
      quarter(load.latencies, index).map(({ ms }) => ms),
      0.99,
    ),
  );
  assert.ok(load.cycles.tenants > 1 && load.cycles.backups > 1 && load.cycles.sockets > 10);
  assert.ok(load.events > 0, 'subscribers hear of what happens');
  assert.ok(
    descriptorsAfter <= descriptorsBefore,
    `${descriptorsBefore} descriptors before, ${descriptorsAfter} after`,
  );
  assert.ok(wal < WAL_MAX_BYTES, `a WAL of ${wal} bytes`);
  if (!isSanitized())
    assert.ok(last - first < GROWTH_MAX_MIB, `${first} MiB in the first quarter, ${last} in the last`);
  promise(
    t,
    'soak',
    `${Math.round(DURATION_MS / 1000)} s, ${load.requests} requests, ${load.cycles.tenants} tenants, ` +
      `${load.cycles.backups} backups, ${load.cycles.sockets} sockets, ` +
      `0 failed, ${load.late} lists told that they took too long; ` +
      `own memory ${first.toFixed(1)} to ${last.toFixed(1)} MiB ` +
      `(slope ${slopePerHour(samples).toFixed(1)} MiB/h), ` +
      `descriptors ${descriptorsBefore} to ${descriptorsAfter}, WAL at most ` +
      `${(wal / 2 ** 20).toFixed(1)} MiB, p99 of creates ${p99.map((ms) => ms.toFixed(1)).join(' to ')} ms`,
  );
});
