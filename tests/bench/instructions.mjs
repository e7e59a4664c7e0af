/**
 * Counts the instructions of one operation of the release build, which is the same on a busy machine and on an
 * idle one, and compares them with what was accepted (instructions.txt):
 *
 *   scripts/instructions [--gate] [--accept] [--profile NAME]
 *
 *   --gate            fails when an operation has become more than 5 % dearer, or a create with a task in its write
 *                     costs more than 1.3 times the create alone
 *   --accept          writes what was counted into instructions.txt
 *   --profile NAME    prints the functions in which the operation is spent, without those they call
 *
 * The real server runs under callgrind and is asked for one thing at a time, in rounds; a GET of /api/health, or
 * bench_mark() in instructions.c, makes callgrind write what it has counted since the last one. The figure is the
 * lowest of the rounds: in the others a timer ran, or the loop turned once more. What makes it repeatable:
 *
 *   - all threads share one core and do not interrupt each other (SCHED_BATCH);
 *   - the C library takes its plain functions, whatever the processor could do (GLIBC_TUNABLES), and valgrind has
 *     no vDSO;
 *   - libuv's own instructions are left out: it spins while another thread is between two stores;
 *   - requests are not recorded for /api/logs, which is done in the background, as many as there is time for.
 *
 * Other versions of the compiler or the libraries than Debian 12's give other figures.
 */
import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { countedRun } from './support/callgrind.mjs';
import { Connection, WebSockets } from './support/connection.mjs';
import { BAKEND, ROOT, endAll } from './support/processes.mjs';
import { BODY, createCollection } from './support/servers.mjs';

const ACCEPTED = path.join(ROOT, 'tests/bench/instructions.txt');
const LIMIT_PERCENT = 5;
/** Of a create alone: what one may cost that has a task in its write. */
const TASK_LIMIT = 1.3;
const ROUNDS = 8;
const SOCKETS = 100;
/** Of each in a round; of publishes ten times COUNT_WRITE (see instructions.c). */
const COUNT = { create: 40, read: 60, list: 40, feed: 30, event: 15, write: 40, token: 40, webhook: 40 };
const RECORDS = '/api/collections/bench/records';
const FEED_PAGE = 100;
const WHAT = {
  create: 'POST of a record, one connection',
  read: 'GET of a record by id',
  list: 'GET of 20 records, without totals',
  feed: `GET of ${FEED_PAGE} events, with a token`,
  event: `an event to ${SOCKETS} WebSockets, without its create`,
  write: 'a row and its event, committed, without HTTP',
  publish: 'an event to 4 handlers',
  task: 'a row, its event and a task, committed, without HTTP',
  token: 'who asks, by a token that is new',
  webhook: 'a delivery made, signed and recorded, without its request',
};

const options = readOptions(process.argv.slice(2));
const folder = mkdtempSync(path.join(os.tmpdir(), 'bakend-instructions-'));

process.on('exit', () => {
  endAll();
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

process.exitCode = await main();

async function main() {
  if (os.arch() !== 'x64') {
    console.log(`the instructions of ${os.arch()} are not those of x64, which are counted: nothing to compare`);
    return 0;
  }
  const counted = { ...(await countServer()), ...countKernel(), ...countAlone('token'), ...countAlone('webhook') };
  if (options.profile) return printProfile(counted[options.profile]);
  const figures = Object.fromEntries(Object.entries(counted).map(([name, { figure }]) => [name, figure]));
  if (options.accept) writeFileSync(ACCEPTED, render(figures));
  return compare(figures, readAccepted());
}

/* --- the server ----------------------------------------------------------------------------------- */

async function countServer() {
  const data = path.join(folder, 'data');
  const run = countedRun(folder, 'server', 'handle_health*', BAKEND,
    ['serve', '--listen', '127.0.0.1:0', '--data', data, '--app', data, '--logs-max-days', '0', '--websocket-ping-interval', '1d', '--idle-timeout', '1h']);
  const connection = await Connection.open(await run.port());
  const marks = [];
  const mark = async (name) => {
    marks.push(name);
    await connection.ask('GET', '/api/health');
  };
  const operations = await prepare(data, connection);
  await round(operations, mark);
  for (let i = 0; i < ROUNDS; i++) await round(operations, mark);
  const sockets = await WebSockets.open(connection.port, SOCKETS, 'bench.*');
  const event = { event: () => Promise.all([sockets.next(), operations.create()]) };
  await round(event, mark);
  for (let i = 0; i < ROUNDS; i++) await round(event, mark);
  await mark('end');
  sockets.close();
  connection.close();
  await run.stop();
  return figuresOf(run.parts(marks));
}

/** A full page of the feed and of the list, and what is asked in turn. */
async function prepare(data, connection) {
  const cli = (args, input) => execFileSync(BAKEND, [...args, '--data', data], { input, encoding: 'utf8' }).trim();
  cli(['superuser', 'create', 'bench@example.com'], 'correct horse 42\n');
  const token = cli(['superuser', 'token', 'bench@example.com']);
  await createCollection({ name: 'Bakend', port: connection.port, token }, 'bench');
  const create = () => connection.ask('POST', RECORDS, { body: BODY });
  const { id } = JSON.parse(await create());
  for (let i = 0; i < FEED_PAGE; i++) await create();
  return {
    create,
    read: () => connection.ask('GET', `${RECORDS}/${id}`),
    list: () => connection.ask('GET', `${RECORDS}?perPage=20&skipTotal=1&sort=id`),
    feed: () => connection.ask('GET', `/api/events?limit=${FEED_PAGE}&after=start`, { token }),
  };
}

async function round(operations, mark) {
  for (const [name, operate] of Object.entries(operations)) {
    await mark(name);
    for (let i = 0; i < COUNT[name]; i++) await operate();
  }
  await mark('mark');
}

/* --- the kernel ----------------------------------------------------------------------------------- */

function countKernel() {
  const run = countedRun(folder, 'kernel', 'bench_mark', path.join(path.dirname(BAKEND), 'bench/instructions'), [ROUNDS + 1, COUNT.write]);
  run.wait();
  const marks = Array.from({ length: ROUNDS + 1 }, () => ['write', 'publish', 'task']).flat();
  const { write, publish, task } = figuresOf(run.parts([...marks, 'end']), { write: COUNT.write, publish: 10 * COUNT.write, task: COUNT.write });
  return { write, publish, task };
}

/* --- programs of one operation -------------------------------------------------------------------- */

function countAlone(name) {
  const run = countedRun(folder, name, 'bench_mark', path.join(path.dirname(BAKEND), 'bench', name), [ROUNDS + 1, COUNT[name]]);
  run.wait();
  return figuresOf(run.parts([...Array(ROUNDS + 1).fill(name), 'end']), { [name]: COUNT[name] });
}

/* --- figures -------------------------------------------------------------------------------------- */

/** The lowest of the rounds but the first, which warms up; an event without the create that it tells of. */
function figuresOf(parts, counts = COUNT) {
  const figures = {};
  for (const name of Object.keys(counts)) {
    const rounds = parts.filter((part) => part.name === name).slice(1);
    if (rounds.length === 0) continue;
    const lowest = rounds.reduce((least, part) => (part.total < least.total ? part : least));
    figures[name] = { figure: Math.round(lowest.total / counts[name]), functions: lowest.functions, count: counts[name] };
  }
  if (figures.event) figures.event.figure -= figures.create.figure;
  return figures;
}

function render(figures) {
  const lines = Object.entries(figures).map(([name, figure]) => `${name.padEnd(8)} ${String(figure).padStart(7)}  ${WHAT[name]}`);
  return `# Instructions of one operation, as accepted: written by scripts/instructions --accept.\n${lines.join('\n')}\n`;
}

function readAccepted() {
  const lines = readFileSync(ACCEPTED, 'utf8').split('\n').filter((line) => line && !line.startsWith('#'));
  return Object.fromEntries(lines.map((line) => line.split(/\s+/)).map(([name, figure]) => [name, Number(figure)]));
}

/** The exit status. */
function compare(figures, accepted) {
  let dearer = 0, cheaper = 0;
  for (const [name, figure] of Object.entries(figures)) {
    const change = accepted[name] ? (100 * (figure - accepted[name])) / accepted[name] : Infinity;
    console.log(`${name.padEnd(8)} ${String(figure).padStart(7)} instructions, accepted ${accepted[name] ?? 'nothing'}: ${change > 0 ? '+' : ''}${change.toFixed(1)} %  ${WHAT[name]}`);
    dearer += change > LIMIT_PERCENT;
    cheaper += change < -LIMIT_PERCENT;
  }
  if (cheaper > 0) console.log(`${cheaper} cheaper by more than ${LIMIT_PERCENT} %: keep it with scripts/instructions --accept`);
  if (dearer > 0) {
    console.log(`${dearer} dearer by more than ${LIMIT_PERCENT} %: find out where with scripts/instructions --profile NAME, or accept it with scripts/instructions --accept and say in the commit what it is for`);
  }
  const isTaskDear = compareTask(figures) > TASK_LIMIT;
  if (options.gate && dearer === 0 && !isTaskDear) promise(figures);
  return options.gate && (dearer > 0 || isTaskDear) ? 1 : 0;
}

/** What a create costs with a task in its write, to the create alone. */
function compareTask({ create, write, task }) {
  const ratio = (create + task - write) / create;
  console.log(`a task adds ${task - write} instructions to its write: ${ratio.toFixed(2)} × create with it, ${(task / write).toFixed(2)} × a write without HTTP (create: ≤ ${TASK_LIMIT})`);
  return ratio;
}

/** For the summary of scripts/test --all. */
function promise(figures) {
  const text = Object.entries(figures).map(([name, figure]) => `${name} ${figure}`).join(', ');
  if (process.env.BAKEND_PROMISES) appendFileSync(process.env.BAKEND_PROMISES, `cost of one operation, instructions: ${text}\n`);
}

function printProfile({ functions, count }) {
  const sorted = [...functions].sort(([, a], [, b]) => b - a).slice(0, 60);
  for (const [name, total] of sorted) console.log(`${(total / count).toFixed(1).padStart(10)}  ${name}`);
  return 0;
}

/* --- the command line ----------------------------------------------------------------------------- */

function readOptions(words) {
  const read = { gate: false, accept: false, profile: null };
  while (words.length > 0) {
    const word = words.shift();
    if (word === '--gate') read.gate = true;
    else if (word === '--accept') read.accept = true;
    else if (word === '--profile' && words[0] in WHAT) read.profile = words.shift();
    else {
      console.error(`unknown option ${word}: see scripts/instructions --help`);
      process.exit(2);
    }
  }
  return read;
}
