/** Durable work: how many tasks a second, with how much behind them, and what is left to others beside it. */
import path from 'node:path';
import { cpuSeconds, median, repeat, summary } from './support/load.mjs';
import { program, programBeside } from './support/processes.mjs';
import { BODY, ask, createCollection, startBakend, stop } from './support/servers.mjs';
import { Table } from './support/table.mjs';

export const file = 'work.md';
export const figures = ['tasks', 'besidework'];
const BACKLOGS = [1_000, 1_000_000];
/** Of each round; of a backlog that is longer the rest stays. */
const TASKS = 200_000;
/** Requests beside a backlog that is worked off, so many that none is ever missing. */
const READS_A_SECOND = 500, WRITES_A_SECOND = 200, BACKLOG = 1_000_000, ADDED_AT_ONCE = 10_000;
/** The mails of each second of requests: more than are sent. */
const MAILS_A_SECOND = 3_000;
/** Until what was added is in its table. */
const SETTLE_MS = 20_000;
const MAIL = JSON.stringify({ to: 'john@example.com', subject: 'Welcome', text: 'Hello, John.' });
const PLAIN = '/api/collections/plain/records';

export async function measure(bench) {
  const table = new Table({
    title: 'Durable work',
    note: 'Each task is a row that is marked as begun before its handler is called and gone after its end, both fsynced (`synchronous=FULL`).',
  });
  if (bench.wants('tasks')) benchTasks(bench, table);
  if (bench.wants('besidework')) await benchBeside(bench, table);
  return table;
}

/** Empty tasks through one handler, without HTTP. */
function benchTasks(bench, table) {
  const of = Object.fromEntries(BACKLOGS.map((backlog) => [backlog, []]));
  for (let round = 0; round < bench.options.rounds; round++)
    for (const backlog of BACKLOGS) of[backlog].push(runTasks(backlog));
  const [few, many] = BACKLOGS.map((backlog) => summary(of[backlog]));
  table.row(`empty tasks, ${BACKLOGS[0].toLocaleString('en-US')} behind them`, few, [['a second', few.rate, '≥ 20,000']]);
  table.row(`empty tasks, ${BACKLOGS[1].toLocaleString('en-US')} behind them`, many, [
    ['a second', many.rate, '≥ 20,000'],
    ['of the rate with few', many.rate / few.rate, '≥ 0.8'],
    ['MiB of anonymous memory that the process has at most', many.most, `flat: ${few.most.toFixed(1)} with few`],
    ['MiB that it grew by while they were worked off', many.most - many.before, ''],
  ]);
}

function runTasks(backlog) {
  const [rate, before, most] = program('work', backlog, TASKS).split(' ').map(Number);
  return { rate, before: before / 2 ** 20, most: most / 2 ** 20 };
}

/** Requests at a steady pace, in turn alone and beside a backlog that is worked off. */
async function benchBeside(bench, table) {
  const empty = await withServer(bench, 'work-empty', 'work_server', fillEmpty, besideEmpty);
  report(table, empty, 'beside a backlog of 1,000,000 empty tasks');
  table.row('– empty tasks a second meanwhile', { rate: empty.rate });
  const mails = await withServer(bench, 'work-mails', null, async () => {}, besideMails);
  report(table, mails, 'beside a backlog of mails, each a file and a directory that are fsynced');
  table.row('– mails a second meanwhile', { rate: mails.rate });
}

async function withServer(bench, folder, program, prepare, beside) {
  const server = await startBakend(bench, path.join(bench.folder, folder), { program });
  await createCollection(server, 'plain');
  const record = await ask(server, 'POST', PLAIN, BODY);
  const requests = [
    { title: `read by id, ${READS_A_SECOND} a second`, pace: [READS_A_SECOND, 'GET', `${PLAIN}/${record.id}`], alone: [], beside: [] },
    { title: `durable create, ${WRITES_A_SECOND} a second`, pace: [WRITES_A_SECOND, 'POST', PLAIN, BODY], alone: [], beside: [] },
  ];
  const rates = [];
  await prepare(server);
  for (let round = 0; round < bench.options.rounds; round++) {
    for (const request of requests) {
      request.alone.push(await paced(bench, server, request.pace));
      const { figures, rate } = await beside(bench, server, () => paced(bench, server, request.pace));
      request.beside.push(figures);
      rates.push(rate);
    }
  }
  await stop(server);
  return { requests, rate: median(rates) };
}

function report(table, { requests }, where) {
  for (const request of requests) {
    const alone = summary(request.alone), beside = summary(request.beside);
    table.row(`${request.title}, ${where}`, beside, [
      ['of the p99 alone', beside.p99 / alone.p99, '< 1.2'],
      ['ms that p99 moves', beside.p99 - alone.p99, ''],
    ]);
    table.row('– alone', alone);
  }
}

async function setLane(server, lane, action) {
  await ask(server, 'POST', `/api/work/lanes/${action}`, JSON.stringify({ lane }));
}

async function fillEmpty(server) {
  await setLane(server, 'bench', 'pause');
  for (let added = 0; added < BACKLOG; added += ADDED_AT_ONCE) await ask(server, 'POST', `/api/bench/tasks/${ADDED_AT_ONCE}`);
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

/** What is left of it stays for the next round. */
async function besideEmpty(bench, server, requests) {
  const before = await done(server, 'bench');
  await setLane(server, 'bench', 'resume');
  const figures = await requests();
  const rate = ((await done(server, 'bench')) - before) / bench.options.seconds;
  if ((await waiting(server)) === 0) throw new Error('the backlog was worked off before the requests had ended: BACKLOG is too low');
  await setLane(server, 'bench', 'pause');
  return { figures, rate };
}

/** The lane is filled while it is paused; what is left of it is waited for, so that rounds are alike. */
async function besideMails(bench, server, requests) {
  await setLane(server, 'mail', 'pause');
  repeat(bench, server, MAILS_A_SECOND * bench.options.seconds, '/api/mail', MAIL, server.token);
  const before = await done(server, 'mail');
  await setLane(server, 'mail', 'resume');
  const figures = await requests();
  const rate = ((await done(server, 'mail')) - before) / bench.options.seconds;
  if ((await waiting(server)) === 0) throw new Error('the backlog was worked off before the requests had ended: MAILS_A_SECOND is too low');
  while ((await waiting(server)) > 0) await new Promise((resolve) => setTimeout(resolve, 200));
  return { figures, rate };
}

async function done(server, kind) {
  return metric(server, `bakend_work_done_total{kind="${kind}"}`);
}

async function waiting(server) {
  const { items } = await ask(server, 'GET', '/api/work/lanes');
  return items.reduce((sum, lane) => sum + lane.waiting + lane.running, 0);
}

async function metric(server, name) {
  const answer = await fetch(`http://127.0.0.1:${server.port}/metrics`, { headers: { authorization: server.token } });
  const line = (await answer.text()).split('\n').find((each) => each.startsWith(`${name} `));
  if (!line) throw new Error(`there is no metric ${name}`);
  return Number(line.slice(name.length + 1));
}

async function paced(bench, server, [aSecond, ...request]) {
  const { seconds } = bench.options;
  const before = cpuSeconds(server.child.pid);
  const text = await programBeside('paced', server.port, seconds, aSecond, ...request);
  const [p50, p95, p99, , requests] = text.split(' ').map(Number);
  return { rate: requests / seconds, p50, p95, p99, cpu: ((cpuSeconds(server.child.pid) - before) * 1e6) / requests };
}
