/** One write, and reading it back: creates, reads, lists, catching up, starting. */
import { cpSync, existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { load, median, memoryOf, summary } from './support/load.mjs';
import { BAKEND, hasProgram, program } from './support/processes.mjs';
import { BODY, ask, besideRival, fill, startBakend, startCeiling, startNginx, startRival, stop } from './support/servers.mjs';
import { Table } from './support/table.mjs';

export const file = 'one-write.md';
export const figures = ['create', 'list', 'read', 'feed', 'bus', 'start'];
const LIST_ROWS = 100_000;
/** The commit of one create writes so many: a leaf of the table, of its index and of the journal, and the counter. */
const COMMIT_FRAMES = 4;

export async function measure(bench) {
  const table = new Table({
    title: 'One write, and reading it back',
    note: 'Every create is fsynced (`synchronous=FULL`) with its event before it is answered; default log level.',
  });
  if (bench.wants('create')) await benchWrites(bench, table);
  if (['list', 'read', 'feed'].some(bench.wants)) await benchReads(bench, table);
  if (bench.wants('bus')) benchBus(bench, table);
  if (bench.wants('start')) await benchStart(bench, table);
  return table;
}

/** Creates: each server begins with a database of the same age. */
async function benchWrites(bench, table) {
  const data = path.join(bench.folder, 'data');
  await stop(await startBakend(bench, data));
  const ceilingFile = path.join(bench.folder, 'ceiling.db');
  cpSync(path.join(data, 'tenants/default/data.db'), ceilingFile);
  const bakend = await startBakend(bench, data, { exists: true });
  const ceiling = await startCeiling(ceilingFile, 'product');
  const bare = await startCeiling(path.join(bench.folder, 'bare.db'), 'bare');
  const rival = await startRival(bench);
  for (const connections of [64, 16, 256]) {
    const create = (target) => load(bench, target, connections, target.createPath, BODY);
    const of = { bakend: [], ceiling: [], bare: [], rival: [] };
    for (let round = 0; round < bench.options.rounds; round++) {
      of.bakend.push(create(bakend));
      of.ceiling.push(create(ceiling));
      of.bare.push(create(bare));
      of.rival.push(await besideRival(rival, create));
    }
    reportCreate(table, connections, of);
  }
  benchSingle(bench, table, bakend, ceiling);
  for (const target of [bakend, ceiling, bare, rival]) if (target) await stop(target);
}

/** Reads: servers that are filled first. */
async function benchReads(bench, table) {
  const server = await startBakend(bench, path.join(bench.folder, 'data-reads'));
  const rival = bench.wants('list') || bench.wants('read') ? await startRival(bench) : null;
  await fill(bench, server, LIST_ROWS);
  await besideRival(rival, () => fill(bench, rival, LIST_ROWS));
  if (bench.wants('list')) await benchList(bench, table, server, rival);
  if (bench.wants('read')) await benchRead(bench, table, server, rival);
  if (bench.wants('feed')) await benchFeed(bench, table, server);
  for (const target of [server, rival]) if (target) await stop(target);
}

/** Of a rival that was measured in every round; else null. */
function rivalSummary(runs) {
  return runs.every((run) => run !== null) ? summary(runs) : null;
}

function reportCreate(table, connections, of) {
  const [bakend, ceiling, bare] = [of.bakend, of.ceiling, of.bare].map(summary);
  const rival = rivalSummary(of.rival);
  const isGoal = connections === 64;
  table.row(`durable create, ${connections} connections`, bakend, [
    ['of the ceiling with the product\'s schema', bakend.rate / ceiling.rate, isGoal ? '≥ 0.8' : ''],
    ['of the bare prototype', bakend.rate / bare.rate, isGoal ? '≥ 0.6' : ''],
    ['p99 to the prototype\'s', bakend.p99 / bare.p99, isGoal ? '≤ 2' : ''],
    ...(rival ? [['of PocketBase (not fsynced)', bakend.rate / rival.rate, isGoal ? 'goal 10' : '']] : []),
  ]);
  table.row(`– ceiling, ${connections}`, ceiling);
  table.row(`– bare prototype, ${connections}`, bare);
  if (rival) table.row(`– PocketBase, ${connections}`, rival);
}

function benchSingle(bench, table, server, ceiling) {
  const creates = [], bare = [], syncs = [], bareSyncs = [];
  const sync = path.join(bench.folder, 'sync');
  for (let round = 0; round < bench.options.rounds; round++) {
    creates.push(load(bench, server, 1, server.createPath, BODY));
    bare.push(load(bench, ceiling, 1, ceiling.createPath, BODY));
    syncs.push(Number(program('fdatasync', sync, 2000, COMMIT_FRAMES)));
    bareSyncs.push(Number(program('fdatasync', sync, 2000, 1)));
  }
  const bakend = summary(creates);
  table.row('create on 1 connection', bakend, [
    ['of one fdatasync of what its commit writes, in time', median(syncs) / bakend.rate, '≤ 2'],
    ['of one fdatasync of a page', median(bareSyncs) / bakend.rate, ''],
    ['of the ceiling with the product\'s schema', bakend.rate / summary(bare).rate, ''],
  ]);
  table.row('– ceiling, 1', summary(bare));
  table.row(`– fdatasync of ${COMMIT_FRAMES} frames of the log`, { rate: median(syncs) });
  table.row('– fdatasync of one frame', { rate: median(bareSyncs) });
}

async function benchRead(bench, table, server, rival) {
  const record = await ask(server, 'POST', server.createPath, BODY);
  const nginx = await startNginx(bench, JSON.stringify(record));
  const theirs = await besideRival(rival, () => ask(rival, 'POST', rival.createPath, BODY));
  const read = (target, { id }) => load(bench, target, 64, `${target.createPath}/${id}`);
  const of = { bakend: [], nginx: [], rival: [] };
  for (let round = 0; round < bench.options.rounds; round++) {
    of.bakend.push(read(server, record));
    of.nginx.push(load(bench, nginx, 64, '/'));
    of.rival.push(await besideRival(rival, () => read(rival, theirs)));
  }
  await stop(nginx);
  const bakend = summary(of.bakend), ceiling = summary(of.nginx), beside = rivalSummary(of.rival);
  table.row('read by id, 64 connections', bakend, [
    ['of nginx with the same bytes from memory', bakend.rate / ceiling.rate, '≥ 0.6'],
    ['p99, ms', bakend.p99, '< 2'],
    ...(beside ? [['of PocketBase', bakend.rate / beside.rate, '']] : []),
  ]);
  table.row('– nginx, one worker', ceiling);
  if (beside) table.row('– PocketBase', beside);
}

async function benchList(bench, table, server, rival) {
  const copy = path.join(bench.folder, 'list.db');
  const plain = [], totals = [], alone = [], theirs = [], theirTotals = [];
  const list = (target) => load(bench, target, 64, `${target.createPath}?perPage=20&skipTotal=1&sort=id`);
  const count = (target) => load(bench, target, 64, `${target.createPath}?perPage=20&sort=id`);
  await copyDatabase(server, copy);
  for (let round = 0; round < bench.options.rounds; round++) {
    plain.push(list(server));
    totals.push(count(server));
    theirs.push(await besideRival(rival, list));
    theirTotals.push(await besideRival(rival, count));
    alone.push(Number(program('journal_pages', copy, 'list', 'bench', 20000)));
  }
  const bakend = summary(plain), counted = summary(totals);
  const beside = rivalSummary(theirs), besideCounted = rivalSummary(theirTotals);
  table.row('list 20 of 100,000 by id, no totals, 64', bakend, [
    ['of SQLite alone', bakend.rate / median(alone), '≥ 0.5'],
    ...(beside ? [['of PocketBase', bakend.rate / beside.rate, '> 5']] : []),
  ]);
  table.row('– with totals', counted, [
    ['of the same without', counted.rate / bakend.rate, ''],
    ...(besideCounted ? [['of PocketBase with totals', counted.rate / besideCounted.rate, '> 50']] : []),
  ]);
  table.row('– SQLite alone, one thread', { rate: median(alone) });
  if (beside) table.row('– PocketBase, no totals', beside);
  if (besideCounted) table.row('– PocketBase, with totals', besideCounted);
}

async function benchFeed(bench, table, server) {
  const copy = path.join(bench.folder, 'feed.db');
  const read = [], alone = [];
  await copyDatabase(server, copy);
  for (let round = 0; round < bench.options.rounds; round++) {
    read.push(Number(program('feed_reader', server.port, server.token)));
    alone.push(Number(program('journal_pages', copy, 'journal')));
  }
  table.row('change feed, catch-up, events/s', { rate: median(read) }, [
    ['of SQLite alone', median(read) / median(alone), '≥ 0.5'],
    ['events a second', median(read), '≥ 150,000'],
  ]);
  table.row('– SQLite paging the journal', { rate: median(alone) });
}

function benchBus(bench, table) {
  if (!hasProgram('bus')) return;
  const publishes = [];
  for (let round = 0; round < bench.options.rounds; round++) publishes.push(Number(program('bus')));
  table.row('bus: publish to 4 handlers, ns', { rate: median(publishes) }, [['ns an event', median(publishes), '≤ 1,000']]);
}

async function benchStart(bench, table) {
  const data = path.join(bench.folder, 'start'), clean = [], killed = [];
  let memory;
  await stop(await startBakend(bench, data));
  for (let round = 0; round < bench.options.rounds; round++) {
    const server = await startBakend(bench, data, { exists: true });
    clean.push(server.startMs);
    memory = memoryOf(server.child.pid);
    for (let i = 0; i < 50; i++) await ask(server, 'POST', server.createPath, BODY);
    server.child.kill('SIGKILL');
    await server.gone;
    const again = await startBakend(bench, data, { exists: true });
    killed.push(again.startMs);
    await stop(again);
  }
  table.row('start to first answer, ms', { rate: median(clean) }, [['clean', median(clean), '≤ 50'], ['after kill -9', median(killed), '< 1,000']]);
  table.row('idle memory, MiB', { rate: memory.rss }, [['resident', memory.rss, '≤ 20'], ['anonymous', memory.anonymous, '≤ 6']]);
  const size = statSync(BAKEND).size / 2 ** 20;
  table.row('binary, MiB', { rate: size }, [['size', size, '≤ 3']]);
}

/** A copy of the live file with its log, made while nothing writes. */
async function copyDatabase(server, copy) {
  const source = path.join(server.data, 'tenants/default/data.db');
  await new Promise((resolve) => setTimeout(resolve, 2500));
  for (const suffix of ['', '-wal']) if (existsSync(source + suffix)) cpSync(source + suffix, copy + suffix);
}
