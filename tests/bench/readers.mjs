/** Readers that wait: WebSockets, long polls, and what beside them is left to others. */
import os from 'node:os';
import path from 'node:path';
import { Sockets, cpuSeconds, load, median, memoryOf, summary } from './support/load.mjs';
import { program, programBeside } from './support/processes.mjs';
import { BODY, ask, createCollection, startBakend, startFanoutCeiling, stop } from './support/servers.mjs';
import { Table } from './support/table.mjs';

export const file = 'readers.md';
export const figures = ['realtime', 'idle', 'beside', 'longpoll'];
const IDLE_SOCKETS = 10_000;
const BESIDE_SOCKETS = 1_000;
/** Events beside which reads and writes are measured, and those. */
const BESIDE_INTERVAL_MS = 50, READS_A_SECOND = 500, WRITES_A_SECOND = 200;
/** Records of a collection of which no socket wants to know. */
const PLAIN = '/api/collections/plain/records';

export async function measure(bench) {
  const table = new Table({
    title: 'Readers that wait',
    note: 'A delay begins before the create is sent, so that its commit (`synchronous=FULL`) is part of it, and ends when the frame or the answer was read; all clients are one process. Default log level.',
  });
  if (bench.wants('realtime')) for (const count of [1_000, 10_000]) await benchFanOut(bench, table, count);
  if (bench.wants('idle')) await benchIdle(bench, table);
  if (bench.wants('beside')) await benchBeside(bench, table);
  if (bench.wants('longpoll')) await benchLongPoll(bench, table);
  return table;
}

/** One event to many: the next when all have it. */
async function benchFanOut(bench, table, count) {
  const { rounds, seconds } = bench.options;
  const server = await startBakend(bench, path.join(bench.folder, `fan-out-${count}`));
  const sockets = await Sockets.open(server, count);
  await sockets.subscribe('bench.*');
  const { bytes } = await sockets.fanOut({ where: server.createPath, seconds: 1, count });
  const ceiling = await startFanoutCeiling(bytes);
  const written = await Sockets.open(ceiling, count);
  await written.subscribe('bench.*');
  const of = { single: [], burst: [], ceiling: [] };
  for (let round = 0; round < rounds; round++) {
    of.single.push(await sockets.fanOut({ where: server.createPath, seconds, count }));
    of.ceiling.push(await written.fanOut({ where: ceiling.createPath, seconds, count }));
    of.burst.push(await sockets.fanOut({ where: server.createPath, seconds, burst: 8, count }));
  }
  for (const one of [sockets, written]) await one.close();
  for (const one of [server, ceiling]) await stop(one);
  reportFanOut(table, count, Object.fromEntries(Object.entries(of).map(([name, runs]) => [name, summary(runs)])));
}

function reportFanOut(table, count, { single, burst, ceiling }) {
  const turnMs = (count / ceiling.rate) * 1000;
  table.row(`one event to ${count.toLocaleString('en-US')} WebSockets, frames`, single, [
    ['of write() of the same bytes, from the first frame to the last', single.flow / ceiling.flow, '≥ 0.8'],
    ['of the same with the durable create before it, which write() has not', single.rate / ceiling.rate, ''],
    ...(count > 1_000 ? [['p99 to the time that write() needs for all', single.p99 / turnMs, '≤ 1.3']] : [['p99, ms', single.p99, '< 20']]),
  ]);
  table.row(`– write() of ${single.bytes} bytes to each`, ceiling, [['ms for all', turnMs, '']]);
  table.row('– 8 events at once', burst, [['of one at a time', burst.rate / single.rate, '']]);
}

/** Sockets that are open and silent: what they cost in memory, and others in time. */
async function benchIdle(bench, table) {
  const server = await startBakend(bench, path.join(bench.folder, 'idle'));
  await createCollection(server, 'plain');
  const record = await ask(server, 'POST', PLAIN, BODY);
  const memory = await idleMemory(server);
  const of = { read: [], readBeside: [], create: [], createBeside: [] };
  for (let round = 0; round < bench.options.rounds; round++) {
    of.read.push(load(bench, server, 64, `${PLAIN}/${record.id}`));
    of.create.push(load(bench, server, 64, PLAIN, BODY));
    const sockets = await openIdle(server);
    of.readBeside.push(load(bench, server, 64, `${PLAIN}/${record.id}`));
    of.createBeside.push(load(bench, server, 64, PLAIN, BODY));
    await sockets.close();
  }
  await stop(server);
  table.row('an idle WebSocket, bytes of anonymous memory', { rate: memory.subscribed }, [
    ['with one subscription, KiB', memory.subscribed / 1024, '≤ 2'],
    ['without, KiB', memory.open / 1024, ''],
  ]);
  for (const [name, alone, beside] of [['read by id', of.read, of.readBeside], ['durable create', of.create, of.createBeside]]) {
    reportBeside(table, `${name}, 64 connections, beside ${IDLE_SOCKETS.toLocaleString('en-US')} idle WebSockets`, summary(beside), summary(alone));
  }
}

async function openIdle(server) {
  const sockets = await Sockets.open(server, IDLE_SOCKETS);
  await sockets.subscribe('quiet.*');
  return sockets;
}

/** What the server grows by, for each of the sockets. */
async function idleMemory(server) {
  const anonymous = async () => {
    await new Promise((resolve) => setTimeout(resolve, 500));
    return memoryOf(server.child.pid).anonymous * 2 ** 20;
  };
  const before = await anonymous();
  const sockets = await Sockets.open(server, IDLE_SOCKETS);
  const open = await anonymous();
  await sockets.subscribe('quiet.*');
  const subscribed = await anonymous();
  await sockets.close();
  return { open: (open - before) / IDLE_SOCKETS, subscribed: (subscribed - before) / IDLE_SOCKETS };
}

/** Requests at a steady pace, alone and beside events to many. */
async function benchBeside(bench, table) {
  const { rounds, seconds } = bench.options;
  const server = await startBakend(bench, path.join(bench.folder, 'beside'));
  await createCollection(server, 'plain');
  const record = await ask(server, 'POST', PLAIN, BODY);
  const sockets = await Sockets.open(server, BESIDE_SOCKETS);
  await sockets.subscribe('bench.*');
  // A thousand clients share the cores with the one that is measured: it goes first, as it would on its own machine.
  os.setPriority(sockets.child.pid, os.constants.priority.PRIORITY_LOW);
  const read = () => paced(server, seconds, READS_A_SECOND, 'GET', `${PLAIN}/${record.id}`);
  const create = () => paced(server, seconds, WRITES_A_SECOND, 'POST', PLAIN, BODY);
  const beside = async (requests) => {
    const events = sockets.fanOut({ where: server.createPath, seconds: seconds + 1, intervalMs: BESIDE_INTERVAL_MS, count: BESIDE_SOCKETS });
    const [figures] = await Promise.all([requests(), events]);
    return figures;
  };
  const of = { read: [], readBeside: [], create: [], createBeside: [] };
  for (let round = 0; round < rounds; round++) {
    of.read.push(await read());
    of.readBeside.push(await beside(read));
    of.create.push(await create());
    of.createBeside.push(await beside(create));
  }
  await sockets.close();
  await stop(server);
  const events = `${1000 / BESIDE_INTERVAL_MS} events a second to ${BESIDE_SOCKETS.toLocaleString('en-US')} WebSockets`;
  reportBeside(table, `read by id, ${READS_A_SECOND} a second, beside ${events}`, summary(of.readBeside), summary(of.read), '< 5');
  reportBeside(table, `durable create, ${WRITES_A_SECOND} a second, beside ${events}`, summary(of.createBeside), summary(of.create));
}

function reportBeside(table, name, beside, alone, goal = '') {
  table.row(name, beside, [
    ['ms that p99 moves', beside.p99 - alone.p99, goal],
    ['of the rate alone', beside.rate / alone.rate, ''],
  ]);
  table.row('– alone', alone);
}

async function paced(server, seconds, aSecond, ...request) {
  const before = cpuSeconds(server.child.pid);
  const text = await programBeside('paced', server.port, seconds, aSecond, ...request);
  const [p50, p95, p99, , requests] = text.split(' ').map(Number);
  return { rate: requests / seconds, p50, p95, p99, cpu: ((cpuSeconds(server.child.pid) - before) * 1e6) / requests };
}

async function benchLongPoll(bench, table) {
  const server = await startBakend(bench, path.join(bench.folder, 'longpoll'));
  for (const waiters of [1, 100]) {
    const runs = [];
    for (let round = 0; round < bench.options.rounds; round++) {
      const text = program('longpoll', server.port, server.token, waiters, bench.options.seconds, server.createPath, 'bench.*');
      const [p50, p95, p99] = text.split(' ').map(Number);
      runs.push({ p50, p95, p99 });
    }
    const delays = summary(runs);
    table.row(`create to the answer of ${waiters === 1 ? 'a long poll' : `${waiters} long polls`}`, delays, [['p99, ms', delays.p99, '< 5']]);
  }
  await stop(server);
}
