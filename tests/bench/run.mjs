/**
 * Measures the release build against ceilings in the same run, and publishes the tables.
 *
 *   scripts/bench [--seconds N] [--rounds N] [--only NAME,…] [--rivals PROGRAM] [--no-publish]
 *
 *   --seconds N       of load for each figure and round (5)
 *   --rounds N        interleaved rounds; each figure is their median (3)
 *   --only NAME,…     tables: one-write, readers, work, webhooks, auth; or their figures: create, list, read, feed,
 *                     bus, start; realtime, idle, beside, longpoll; tasks, besidework; deliveries,
 *                     webhookbacklog, webhooklatency, blackholes, manyendpoints; logins, besidelogins, tokens;
 *                     and, only when they are named, growth and workloads (chat, posts). A table of which a part
 *                     is measured is not published
 *   --rivals PROGRAM  a PocketBase program to measure beside it
 *   --sizes N,…       powers of ten of the rows that workloads (3,5) and growth (3,5,7) have
 *   --data DIR        keeps the databases of growth there, or uses those of a run before
 *   --no-publish      prints the tables and leaves docs/benchmarks alone
 *
 * Every figure is a ratio to something measured in the same run; absolute numbers are only colour. Load comes
 * from wrk with keep-alive, one thread, and from the programs of this folder; servers listen on loopback and are
 * ended by their process id. 10,000 WebSockets need as many open files: `ulimit -Hn` of 16,384.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import * as auth from './auth.mjs';
import * as growth from './growth.mjs';
import * as oneWrite from './one_write.mjs';
import * as readers from './readers.mjs';
import * as webhooks from './webhooks.mjs';
import * as work from './work.mjs';
import * as workloads from './workloads.mjs';
import { ROOT, endAll } from './support/processes.mjs';

const TABLES = [oneWrite, readers, work, webhooks, auth, growth, workloads];

const options = readOptions(process.argv.slice(2));
const folder = mkdtempSync(path.join(os.tmpdir(), 'bakend-bench-'));

process.on('exit', () => {
  endAll();
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

await main();

async function main() {
  const wants = (figure) => options.only === null || options.only.includes(figure);
  const words = process.argv.slice(2).map((word, i, all) => ({ '--rivals': 'PROGRAM', '--data': 'DIR' })[all[i - 1]] ?? word);
  for (const table of TABLES.filter(({ figures, isOnlyNamed }) => figures.some(wants) && !(isOnlyNamed && options.only === null))) {
    const isPublished = options.publish && table.figures.every(wants);
    const text = (await table.measure({ options, folder, wants })).render({ ...options, words, isPublished });
    console.log(text);
    if (isPublished) publish(table.file, text);
  }
}

function publish(file, text) {
  mkdirSync(path.join(ROOT, 'docs/benchmarks'), { recursive: true });
  writeFileSync(path.join(ROOT, 'docs/benchmarks', file), text);
}

/** The names of figures; that of a table stands for all of its own. */
function readNames(text) {
  return text.split(',').flatMap((name) => {
    const table = TABLES.find(({ file }) => file === `${name}.md`);
    if (!table && !TABLES.some(({ figures }) => figures.includes(name))) wrongUsage(`--only ${name}`);
    return table ? table.figures : [name];
  });
}

function readOptions(words) {
  const read = { seconds: 5, rounds: 3, only: null, rivals: null, data: null, sizes: null, publish: true };
  while (words.length > 0) {
    const word = words.shift();
    if (word === '--seconds') read.seconds = Number(words.shift());
    else if (word === '--rounds') read.rounds = Number(words.shift());
    else if (word === '--only') read.only = readNames(words.shift() ?? '');
    else if (word === '--rivals') read.rivals = path.resolve(words.shift() ?? '');
    else if (word === '--sizes') read.sizes = (words.shift() ?? '').split(',').map(Number);
    else if (word === '--data') read.data = path.resolve(words.shift() ?? '');
    else if (word === '--no-publish') read.publish = false;
    else wrongUsage(word);
  }
  return read;
}

function wrongUsage(word) {
  console.error(`unknown option ${word}: see the top of tests/bench/run.mjs`);
  process.exit(2);
}
