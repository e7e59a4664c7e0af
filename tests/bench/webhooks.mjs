/** Webhooks: how many a second, how soon, and what endpoints that never answer cost those that do. */
import path from 'node:path';
import readline from 'node:readline';
import { cpuSeconds, memoryOf, repeat, summary } from './support/load.mjs';
import { launchProgram, program, programBeside } from './support/processes.mjs';
import { ask, createCollection, restartBakend, startBakend, stop } from './support/servers.mjs';
import { Table } from './support/table.mjs';

export const file = 'webhooks.md';
export const figures = ['deliveries', 'webhookbacklog', 'webhooklatency', 'blackholes', 'manyendpoints'];
const RECORDS = '/api/collections/plain/records';
const BODY = '{"email":"john@example.com","name":"John Doe"}';
const STAMPED = '{"email":"john@example.com","name":"stamp=@now"}';
/** Of the body that an event of BODY becomes, about. */
const BODY_BYTES = 720;
const IN_FLIGHT = 64;
/** Events that wait for an endpoint that was away: some seconds of deliveries. */
const BACKLOG = 40_000, LONG_BACKLOG = 1_000_000;
/** Its first attempts were made while it was away, and come later. */
const EARLY = 1_000;
/** What a rival publishes: 200 events a second to one endpoint, for a minute. */
const CELL = { aSecond: 200, seconds: 60 };
const CROWD = 100, HOLES = 10, CROWD_EVENTS_A_SECOND = 20;
const MANY = 10_000, MATCHING = 10, MANY_EVENTS_A_SECOND = 100;
const PATIENCE_MS = 600_000;

export async function measure(bench) {
  /* The receivers are on loopback. */
  process.env.BAKEND_WEBHOOKS_ALLOW = '127.0.0.0/8';
  const table = new Table({
    title: 'Webhooks',
    note: 'Each delivery is signed (HMAC-SHA256) and a row on disk with its attempt (`synchronous=FULL`); the receiver answers 200 at once. Delays are from before the create of a record to the receipt of its event, so the create and its commit are part of them.',
  });
  if (bench.wants('deliveries')) await benchDeliveries(bench, table);
  if (bench.wants('webhookbacklog')) await benchBacklog(bench, table);
  if (bench.wants('webhooklatency')) await benchLatency(bench, table);
  if (bench.wants('blackholes')) await benchBlackHoles(bench, table);
  if (bench.wants('manyendpoints')) await benchMany(bench, table);
  return table;
}

/* --- the receiver --------------------------------------------------------------------------------- */

class Receiver {
  static async open(port = 0) {
    const receiver = new Receiver();
    receiver.child = launchProgram('webhook_receiver', port);
    receiver.lines = readline.createInterface({ input: receiver.child.stdout })[Symbol.asyncIterator]();
    [receiver.port, receiver.hole] = (await receiver.line()).split(' ').map(Number);
    return receiver;
  }

  async line() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error('webhook_receiver has ended');
    return value;
  }

  async begin() {
    this.child.stdin.write('begin\n');
    await this.line();
  }

  async figures() {
    this.child.stdin.write('figures\n');
    const [count, rate, p50, p95, p99, longest] = (await this.line()).split(' ').map(Number);
    return { count, rate, p50, p95, p99, longest };
  }

  async until(count) {
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await sleep(50)) {
      const figures = await this.figures();
      if (figures.count >= count) return figures;
    }
    throw new Error(`${(await this.figures()).count} of ${count} deliveries came`);
  }

  async close() {
    this.child.stdin.end();
    await this.child.gone;
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function subscribe(server, port, more = {}) {
  const body = { url: `http://127.0.0.1:${port}/${more.name ?? ''}`, types: ['plain.created'], ...more };
  delete body.name;
  return ask(server, 'POST', '/api/webhooks', JSON.stringify(body));
}

async function withServer(bench, name, run) {
  const server = await startBakend(bench, path.join(bench.folder, `webhooks-${name}-${Math.random().toString(36).slice(2, 8)}`));
  const receiver = await Receiver.open();
  await createCollection(server, 'plain');
  const figures = await run(server, receiver);
  await stop(server);
  await receiver.close();
  return figures;
}

/* --- how many a second ------------------------------------------------------------------------------ */

async function benchDeliveries(bench, table) {
  const of = { posts: [], one: [], ten: [] };
  for (let round = 0; round < bench.options.rounds; round++) {
    of.posts.push(await post(bench));
    of.one.push(await drain(bench, 1, BACKLOG));
    of.ten.push(await drain(bench, 10, BACKLOG));
  }
  const posts = summary(of.posts);
  table.row(`libcurl posting bodies of ${BODY_BYTES} bytes over ${IN_FLIGHT} connections, nothing recorded`, posts);
  for (const [name, runs] of [['one endpoint', of.one], ['ten endpoints', of.ten]]) {
    const figures = summary(runs);
    table.row(`a backlog of ${BACKLOG.toLocaleString('en-US')} deliveries, ${name}`, figures, [
      ['of libcurl alone', figures.rate / posts.rate, '≥ 0.5'],
      ['a second', figures.rate, '≥ 5,000'],
      ['MiB of memory at most', figures.peak, ''],
    ]);
  }
}

/** Once: what is long about it is not to be repeated. */
async function benchBacklog(bench, table) {
  const few = await drain(bench, 1, BACKLOG), many = await drain(bench, 1, LONG_BACKLOG);
  table.row(`a backlog of ${LONG_BACKLOG.toLocaleString('en-US')} deliveries, one endpoint`, many, [
    ['of the rate with few', many.rate / few.rate, 'flat'],
    ['MiB of memory at most', many.peak, `flat: ${few.peak.toFixed(1)} with few`],
  ]);
}

async function post(bench) {
  const receiver = await Receiver.open();
  const rate = Number(program('webhook_poster', receiver.port, IN_FLIGHT, bench.options.seconds, BODY_BYTES));
  await receiver.close();
  return { rate };
}

/** Its endpoints were away while the events happened; the server starts, and they are there. */
async function drain(bench, endpoints, backlog) {
  let server = await startBakend(bench, path.join(bench.folder, `webhooks-drain-${Math.random().toString(36).slice(2, 8)}`));
  const away = await Receiver.open();
  const { port } = away;
  await away.close();
  await createCollection(server, 'plain');
  const webhooks = [];
  for (let i = 0; i < endpoints; i++) webhooks.push(await subscribe(server, port, { name: `${i}`, maxInFlight: Math.ceil(IN_FLIGHT / endpoints) }));
  repeat(bench, server, backlog / endpoints, RECORDS, BODY);
  await stop(server);
  const receiver = await Receiver.open(port);
  server = await restartBakend(bench, server);
  /* They rest, since they were away: a test that arrives ends that. */
  for (const { id } of webhooks) await ask(server, 'POST', `/api/webhooks/${id}/test`, '{}');
  const before = cpuSeconds(server.child.pid);
  const { count, rate } = await receiver.until(backlog - EARLY);
  const cpu = ((cpuSeconds(server.child.pid) - before) * 1e6) / count;
  const { peak } = memoryOf(server.child.pid);
  await stop(server);
  await receiver.close();
  return { rate, cpu, peak };
}

/* --- how soon --------------------------------------------------------------------------------------- */

const paced = (server, seconds, aSecond) => programBeside('paced', server.port, seconds, aSecond, 'POST', RECORDS, STAMPED);

async function benchLatency(bench, table) {
  const figures = await withServer(bench, 'latency', async (server, receiver) => {
    await subscribe(server, receiver.port);
    await paced(server, 1, CELL.aSecond);
    await receiver.begin();
    const before = cpuSeconds(server.child.pid);
    await paced(server, CELL.seconds, CELL.aSecond);
    const all = await receiver.until(CELL.aSecond * CELL.seconds);
    return { ...all, cpu: ((cpuSeconds(server.child.pid) - before) * 1e6) / all.count };
  });
  table.row(`${CELL.aSecond} events a second to one endpoint, ${CELL.seconds} s`, figures, [
    ['ms at p95, a create and its delivery', figures.p95, '≤ 10 (Convoy publishes 127)'],
    ['ms at p99', figures.p99, '< 100'],
  ]);
}

/* --- endpoints that never answer -------------------------------------------------------------------- */

async function benchBlackHoles(bench, table) {
  const of = { healthy: [], beside: [] };
  for (let round = 0; round < bench.options.rounds; round++) {
    of.healthy.push(await crowd(bench, 0));
    of.beside.push(await crowd(bench, HOLES));
  }
  const healthy = summary(of.healthy), beside = summary(of.beside);
  const title = `${CROWD_EVENTS_A_SECOND} events a second to ${CROWD} endpoints`;
  table.row(`${title}, of which ${HOLES} never answer`, beside, [
    ['of the p99 without them', beside.p99 / healthy.p99, '< 1.2'],
  ]);
  table.row(`– ${CROWD - HOLES} that answer, and no others`, healthy);
}

async function crowd(bench, holes) {
  return withServer(bench, 'crowd', async (server, receiver) => {
    for (let i = 0; i < CROWD - HOLES; i++) await subscribe(server, receiver.port, { name: `${i}` });
    for (let i = 0; i < holes; i++) await subscribe(server, receiver.hole, { name: `${i}` });
    await paced(server, 1, CROWD_EVENTS_A_SECOND);
    await receiver.until((CROWD - HOLES) * CROWD_EVENTS_A_SECOND);
    await receiver.begin();
    const before = cpuSeconds(server.child.pid);
    const seconds = Math.max(bench.options.seconds, 5);
    await paced(server, seconds, CROWD_EVENTS_A_SECOND);
    const figures = await receiver.until((CROWD - HOLES) * CROWD_EVENTS_A_SECOND * seconds);
    return { ...figures, cpu: ((cpuSeconds(server.child.pid) - before) * 1e6) / figures.count };
  });
}

/* --- endpoints that did not ask --------------------------------------------------------------------- */

async function benchMany(bench, table) {
  const of = { few: [], many: [] };
  for (let round = 0; round < bench.options.rounds; round++) {
    of.few.push(await among(bench, MATCHING));
    of.many.push(await among(bench, MANY));
  }
  const few = summary(of.few), many = summary(of.many);
  table.row(`${MANY_EVENTS_A_SECOND} events a second, ${MATCHING} of ${MANY.toLocaleString('en-US')} endpoints ask for them`, many, [
    ['of the CPU with those alone', many.cpu / few.cpu, '≤ 1.5'],
    ['of the p99 with those alone', many.p99 / few.p99, ''],
  ]);
  table.row(`– those ${MATCHING}, and no others`, few);
}

async function among(bench, endpoints) {
  return withServer(bench, 'many', async (server, receiver) => {
    for (let i = 0; i < MATCHING; i++) await subscribe(server, receiver.port, { name: `${i}` });
    for (let i = MATCHING; i < endpoints; i++) await subscribe(server, receiver.port, { name: `${i}`, types: [`other${i}.created`] });
    await paced(server, 1, MANY_EVENTS_A_SECOND);
    await receiver.until(MATCHING * MANY_EVENTS_A_SECOND);
    await receiver.begin();
    const before = cpuSeconds(server.child.pid);
    const seconds = Math.max(bench.options.seconds, 5);
    await paced(server, seconds, MANY_EVENTS_A_SECOND);
    const figures = await receiver.until(MATCHING * MANY_EVENTS_A_SECOND * seconds);
    return { ...figures, cpu: ((cpuSeconds(server.child.pid) - before) * 1e6) / figures.count };
  });
}
