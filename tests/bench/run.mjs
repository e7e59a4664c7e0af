/**
 * Measures the release build against ceilings in the same run, and publishes the table.
 *
 *   scripts/bench [--seconds N] [--rounds N] [--only NAME,…] [--rivals PROGRAM] [--no-publish]
 *
 *   --seconds N       of load for each figure and round (5)
 *   --rounds N        interleaved rounds; each figure is their median (3)
 *   --only NAME,…     create, read, list, feed, bus, start
 *   --rivals PROGRAM  a PocketBase program to measure beside it
 *   --no-publish      prints the table and leaves docs/benchmarks alone
 *
 * Every figure is a ratio to something measured in the same run; absolute numbers are only colour. Load comes
 * from wrk with keep-alive, one thread; servers listen on loopback and are ended by their process id.
 */
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync, openSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const BAKEND = process.env.BAKEND ?? path.join(ROOT, 'build/release/bakend');
const PROGRAMS = path.join(path.dirname(BAKEND), 'bench');
const BODY = '{"email":"john@example.com","name":"John Doe"}';
const LIST_ROWS = 100_000;
/** The commit of one create writes so many: a leaf of the table, of its index and of the journal, and the counter. */
const COMMIT_FRAMES = 4;

const options = readOptions(process.argv.slice(2));
const folder = mkdtempSync(path.join(os.tmpdir(), 'bakend-bench-'));
const rows = [];
const running = new Set();

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  rmSync(folder, { recursive: true, force: true });
});
process.on('SIGINT', () => process.exit(130));

await main();

async function main() {
  if (wants('create')) await benchWrites();
  if (['list', 'read', 'feed'].some(wants)) await benchReads();
  if (wants('bus')) benchBus();
  if (wants('start')) await benchStart();
  const table = render();
  console.log(table);
  if (options.publish) {
    mkdirSync(path.join(ROOT, 'docs/benchmarks'), { recursive: true });
    writeFileSync(path.join(ROOT, 'docs/benchmarks/one-write.md'), table);
  }
}

/* --- the rows ------------------------------------------------------------------------------------ */

/** Creates: each server begins with a database of the same age. */
async function benchWrites() {
  const server = await startBakend(path.join(folder, 'data'));
  const ceilingFile = path.join(folder, 'ceiling.db');
  await stop(server);
  cpSync(path.join(folder, 'data/tenants/default/data.db'), ceilingFile);
  const again = await startBakend(path.join(folder, 'data'), { exists: true });
  const ceiling = await startCeiling(ceilingFile, 'product');
  const bare = await startCeiling(path.join(folder, 'bare.db'), 'bare');
  const rival = options.rivals ? await startPocketBase() : null;
  for (const connections of [64, 16, 256]) {
    const of = {};
    for (let round = 0; round < options.rounds; round++) {
      for (const [name, target] of Object.entries({ bakend: again, ceiling, bare, rival })) {
        if (target) (of[name] ??= []).push(load(target, connections, target.createPath, BODY));
      }
    }
    reportCreate(connections, of);
  }
  benchSingle(again, ceiling);
  for (const target of [again, ceiling, bare, rival]) if (target) await stop(target);
}

/** Reads: one server that is filled first. */
async function benchReads() {
  const server = await startBakend(path.join(folder, 'data-reads'));
  const rival = options.rivals ? await startPocketBase() : null;
  if (wants('list')) await benchList(server, rival);
  if (wants('read')) await benchRead(server, rival);
  if (wants('feed')) await benchFeed(server);
  for (const target of [server, rival]) if (target) await stop(target);
}

function reportCreate(connections, of) {
  const [bakend, ceiling, bare] = [of.bakend, of.ceiling, of.bare].map(summary);
  const isGoal = connections === 64;
  row(`durable create, ${connections} connections`, bakend, [
    ['of the ceiling with the product\'s schema', bakend.rate / ceiling.rate, isGoal ? '≥ 0.8' : ''],
    ['of the bare prototype', bakend.rate / bare.rate, isGoal ? '≥ 0.6' : ''],
    ['p99 to the prototype\'s', bakend.p99 / bare.p99, isGoal ? '≤ 2' : ''],
    ...(of.rival ? [['of PocketBase (not fsynced)', bakend.rate / summary(of.rival).rate, isGoal ? 'goal 10' : '']] : []),
  ]);
  row(`– ceiling, ${connections}`, ceiling);
  row(`– bare prototype, ${connections}`, bare);
  if (of.rival) row(`– PocketBase, ${connections}`, summary(of.rival));
}

function benchSingle(server, ceiling) {
  const creates = [], bare = [], syncs = [], bareSyncs = [];
  for (let round = 0; round < options.rounds; round++) {
    creates.push(load(server, 1, server.createPath, BODY));
    bare.push(load(ceiling, 1, ceiling.createPath, BODY));
    syncs.push(Number(program('fdatasync', path.join(folder, 'sync'), '2000', String(COMMIT_FRAMES))));
    bareSyncs.push(Number(program('fdatasync', path.join(folder, 'sync'), '2000', '1')));
  }
  const bakend = summary(creates);
  row('create on 1 connection', bakend, [
    ['of one fdatasync of what its commit writes, in time', median(syncs) / bakend.rate, '≤ 2'],
    ['of one fdatasync of a page', median(bareSyncs) / bakend.rate, ''],
    ['of the ceiling with the product\'s schema', bakend.rate / summary(bare).rate, ''],
  ]);
  row('– ceiling, 1', summary(bare));
  row(`– fdatasync of ${COMMIT_FRAMES} frames of the log`, { rate: median(syncs) });
  row('– fdatasync of one frame', { rate: median(bareSyncs) });
}

async function benchRead(server, rival) {
  const record = await ask(server, 'POST', server.createPath, BODY);
  const target = `/api/collections/bench/records/${record.id}`;
  const nginx = await startNginx(JSON.stringify(record));
  const of = { bakend: [], nginx: [], rival: [] };
  const rivalPath = rival ? await rivalRecordPath(rival) : null;
  for (let round = 0; round < options.rounds; round++) {
    of.bakend.push(load(server, 64, target));
    of.nginx.push(load(nginx, 64, '/'));
    if (rival) of.rival.push(load(rival, 64, rivalPath));
  }
  await stop(nginx);
  const bakend = summary(of.bakend), ceiling = summary(of.nginx);
  row('read by id, 64 connections', bakend, [
    ['of nginx with the same bytes from memory', bakend.rate / ceiling.rate, '≥ 0.6'],
    ['p99, ms', bakend.p99, '< 2'],
    ...(rival ? [['of PocketBase', bakend.rate / summary(of.rival).rate, '']] : []),
  ]);
  row('– nginx, one worker', ceiling);
  if (rival) row('– PocketBase', summary(of.rival));
}

async function benchList(server, rival) {
  await fill(server, LIST_ROWS);
  const file = path.join(folder, 'list.db');
  const plain = [], totals = [], alone = [], theirs = [];
  for (let round = 0; round < options.rounds; round++) {
    plain.push(load(server, 64, '/api/collections/bench/records?perPage=20&skipTotal=1&sort=id'));
    totals.push(load(server, 64, '/api/collections/bench/records?perPage=20&sort=id'));
    if (rival) theirs.push(load(rival, 64, `${rival.createPath}?perPage=20&skipTotal=1&sort=id`));
    if (!existsSync(file)) await copyDatabase(server, file);
    alone.push(Number(program('journal_pages', file, 'list', 'bench', '20000')));
  }
  const bakend = summary(plain), counted = summary(totals);
  row('list 20 of 100,000 by id, no totals, 64', bakend, [
    ['of SQLite alone', bakend.rate / median(alone), '≥ 0.5'],
    ...(rival ? [['of PocketBase', bakend.rate / summary(theirs).rate, '> 5']] : []),
  ]);
  row('– with totals', counted, [['of the same without', counted.rate / bakend.rate, '']]);
  row('– SQLite alone, one thread', { rate: median(alone) });
  if (rival) row('– PocketBase, no totals', summary(theirs));
}

async function benchFeed(server) {
  const file = path.join(folder, 'feed.db');
  const read = [], alone = [];
  await fill(server, LIST_ROWS);
  await copyDatabase(server, file);
  for (let round = 0; round < options.rounds; round++) {
    read.push(Number(program('feed_reader', String(server.port), server.token)));
    alone.push(Number(program('journal_pages', file, 'journal')));
  }
  row('change feed, catch-up, events/s', { rate: median(read) }, [
    ['of SQLite alone', median(read) / median(alone), '≥ 0.5'],
    ['events a second', median(read), '≥ 150,000'],
  ]);
  row('– SQLite paging the journal', { rate: median(alone) });
}

function benchBus() {
  if (!existsSync(path.join(PROGRAMS, 'bus'))) return;
  const figures = [];
  for (let round = 0; round < options.rounds; round++) figures.push(Number(program('bus')));
  row('bus: publish to 4 handlers, ns', { rate: median(figures) }, [['ns an event', median(figures), '≤ 1,000']]);
}

async function benchStart() {
  const data = path.join(folder, 'start'), clean = [], killed = [];
  let memory;
  const first = await startBakend(data);
  await stop(first);
  for (let round = 0; round < options.rounds; round++) {
    const server = await startBakend(data, { exists: true });
    clean.push(server.startMs);
    memory = memoryOf(server.child.pid);
    for (let i = 0; i < 50; i++) await ask(server, 'POST', server.createPath, BODY);
    server.child.kill('SIGKILL');
    await server.gone;
    const again = await startBakend(data, { exists: true });
    killed.push(again.startMs);
    await stop(again);
  }
  row('start to first answer, ms', { rate: median(clean) }, [['clean', median(clean), '≤ 50'], ['after kill -9', median(killed), '< 1,000']]);
  row('idle memory, MiB', { rate: memory.rss }, [['resident', memory.rss, '≤ 20'], ['anonymous', memory.anonymous, '≤ 6']]);
  const size = statSync(BAKEND).size / 2 ** 20;
  row('binary, MiB', { rate: size }, [['size', size, '≤ 3']]);
}

/* --- load ---------------------------------------------------------------------------------------- */

/** One wrk run: requests a second, latency percentiles in ms, and the server's CPU in µs a request. */
function load(target, connections, where, body = null) {
  const script = path.join(folder, `load-${body ? 'post' : 'get'}.lua`);
  writeFileSync(script, `${body ? `wrk.method="POST" wrk.headers["Content-Type"]="application/json" wrk.body='${body}'` : ''}
done = function(summary, latency) io.write(string.format("FIGURES %d %d %d %d %d %d\\n", summary.requests,
  summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
  summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout)) end`);
  const before = cpuSeconds(target.child.pid);
  const text = execFileSync('wrk', ['-t1', `-c${connections}`, `-d${options.seconds}s`, '-s', script, `http://127.0.0.1:${target.port}${where}`], { encoding: 'utf8' });
  const cpu = cpuSeconds(target.child.pid) - before;
  const [requests, duration, p50, p95, p99, errors] = text.match(/FIGURES (.*)/)[1].split(' ').map(Number);
  if (errors > 0) throw new Error(`${where}: ${errors} requests failed\n${text}`);
  return { rate: requests / (duration / 1e6), p50: p50 / 1000, p95: p95 / 1000, p99: p99 / 1000, cpu: (cpu * 1e6) / requests };
}

function summary(runs) {
  return Object.fromEntries(Object.keys(runs[0]).map((key) => [key, median(runs.map((run) => run[key]))]));
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function program(name, ...args) {
  return execFileSync(path.join(PROGRAMS, name), args, { encoding: 'utf8' }).trim();
}

/** Of the process and its children, in seconds. */
function cpuSeconds(pid) {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean);
  return [pid, ...children].reduce((sum, one) => {
    const fields = readFileSync(`/proc/${one}/stat`, 'utf8').split(') ')[1].split(' ');
    return sum + (Number(fields[11]) + Number(fields[12])) / 100;
  }, 0);
}

function memoryOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const read = (name) => Number(status.match(new RegExp(`${name}:\\s+(\\d+)`))[1]) / 1024;
  return { rss: read('VmRSS'), anonymous: read('RssAnon'), peak: read('VmHWM') };
}

/* --- servers ------------------------------------------------------------------------------------- */

async function startBakend(data, { exists = false } = {}) {
  const began = process.hrtime.bigint();
  const child = launch(BAKEND, ['serve', '--listen', '127.0.0.1:0', '--data', data], { log: path.join(folder, 'bakend.log') });
  const line = await firstLine(child);
  const port = Number(line.match(/:(\d+)\s*$/)[1]);
  const server = { child, gone: child.gone, port, name: 'Bakend', createPath: '/api/collections/bench/records' };
  await ask(server, 'GET', '/api/health');
  server.startMs = Number(process.hrtime.bigint() - began) / 1e6;
  const cli = (args, input) => execFileSync(BAKEND, [...args, '--data', data], { input, encoding: 'utf8' }).trim();
  if (!exists) cli(['superuser', 'create', 'bench@example.com'], 'correct horse 42\n');
  server.token = cli(['superuser', 'token', 'bench@example.com']);
  if (!exists) {
    await ask(server, 'POST', '/api/collections', JSON.stringify({
      name: 'bench', type: 'base', listRule: '', viewRule: '', createRule: '',
      fields: [{ name: 'email', type: 'email' }, { name: 'name', type: 'text' }, { name: 'created', type: 'autodate', onCreate: true }, { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true }],
    }));
  }
  return server;
}

async function startCeiling(file, mode) {
  const port = await freePort();
  const child = launch(path.join(PROGRAMS, 'ceiling'), [String(port), file, mode]);
  await accepts(port);
  return { child, gone: child.gone, port, name: mode, createPath: '/' };
}

async function startNginx(bytes) {
  const port = await freePort();
  const home = path.join(folder, 'nginx');
  mkdirSync(home, { recursive: true });
  const file = path.join(home, 'nginx.conf');
  writeFileSync(file, `daemon off; worker_processes 1; pid ${home}/pid; error_log /dev/null;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path ${home}/a; proxy_temp_path ${home}/b; fastcgi_temp_path ${home}/c; uwsgi_temp_path ${home}/d; scgi_temp_path ${home}/e;
server { listen 127.0.0.1:${port}; location / { default_type application/json; return 200 '${bytes.replaceAll("'", "\\'")}'; } } }`);
  const child = launch('nginx', ['-c', file, '-p', home]);
  await accepts(port);
  return { child, gone: child.gone, port, name: 'nginx' };
}

async function startPocketBase() {
  const port = await freePort();
  const data = mkdtempSync(path.join(folder, 'pocketbase-'));
  execFileSync(options.rivals, ['superuser', 'upsert', 'bench@example.com', 'correct horse 42', '--dir', data]);
  const child = launch(options.rivals, ['serve', '--http', `127.0.0.1:${port}`, '--dir', data]);
  await accepts(port);
  const server = { child, gone: child.gone, port, name: 'PocketBase', createPath: '/api/collections/bench/records' };
  server.token = (await ask(server, 'POST', '/api/collections/_superusers/auth-with-password', JSON.stringify({ identity: 'bench@example.com', password: 'correct horse 42' }))).token;
  await ask(server, 'POST', '/api/collections', JSON.stringify({
    name: 'bench', type: 'base', listRule: '', viewRule: '', createRule: '',
    fields: [{ name: 'email', type: 'email' }, { name: 'name', type: 'text' }, { name: 'created', type: 'autodate', onCreate: true }, { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true }],
  }));
  return server;
}

async function rivalRecordPath(rival) {
  return `${rival.createPath}/${(await ask(rival, 'POST', rival.createPath, BODY)).id}`;
}

function launch(file, args, { log = null } = {}) {
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', log ? openSync(log, 'a') : 'ignore'] });
  running.add(child);
  child.gone = new Promise((resolve) => child.once('exit', (code) => { running.delete(child); resolve(code); }));
  return child;
}

async function stop(server) {
  server.child.kill('SIGTERM');
  await server.gone;
}

function firstLine(child) {
  return new Promise((resolve, reject) => {
    let text = '';
    child.once('exit', (code) => reject(new Error(`ended with ${code}`)));
    child.stdout.on('data', (data) => {
      text += data;
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')));
    });
  });
}

async function ask(server, method, where, body = undefined) {
  const headers = { ...(body ? { 'content-type': 'application/json' } : {}), ...(server.token ? { authorization: server.token } : {}) };
  const answer = await fetch(`http://127.0.0.1:${server.port}${where}`, { method, headers, body });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${where}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/** Creates records until there are count of them: a figure that depends on their number has to know it. */
async function fill(server, count) {
  const { totalItems } = await ask(server, 'GET', '/api/collections/bench/records?perPage=1');
  let left = count - totalItems;
  const create = async () => {
    while (left-- > 0) await ask(server, 'POST', server.createPath, BODY);
  };
  await Promise.all(Array.from({ length: 64 }, create));
}

/** A copy of the live file with its log, made while nothing writes. */
async function copyDatabase(server, file) {
  const source = path.join(folder, 'data-reads/tenants/default/data.db');
  await new Promise((resolve) => setTimeout(resolve, 2500));
  for (const suffix of ['', '-wal']) if (existsSync(source + suffix)) cpSync(source + suffix, file + suffix);
}

async function accepts(port) {
  for (let i = 0; i < 500; i++) {
    const isOpen = await new Promise((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
      socket.once('error', () => resolve(false));
    });
    if (isOpen) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`nothing listens on ${port}`);
}

function freePort() {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/* --- table --------------------------------------------------------------------------------------- */

function row(name, figures, ratios = []) {
  rows.push({ name, figures, ratios });
  console.error(`${name}: ${number(figures.rate)} ${ratios.map(([label, value, goal]) => `${label} ${number(value)} ${goal}`).join('; ')}`);
}

function number(value) {
  if (value === undefined || Number.isNaN(value)) return '';
  if (value >= 1000) return Math.round(value).toLocaleString('en-US');
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function render() {
  const cpu = os.cpus()[0].model.trim();
  const lines = [
    '# One write, and reading it back', '',
    `Made by \`scripts/bench ${process.argv.slice(2).filter((word) => !word.startsWith('/')).join(' ')}\` on ${new Date().toISOString().slice(0, 10)}: ${os.cpus().length} cores (${cpu}), the load generator on the same cores, ${options.rounds} interleaved rounds of ${options.seconds} s, medians. Every create is fsynced (\`synchronous=FULL\`) with its event before it is answered; default log level.`, '',
    '| what | a second | p50 ms | p95 ms | p99 ms | server µs | ratio | target |', '| --- | ---: | ---: | ---: | ---: | ---: | --- | --- |',
  ];
  for (const { name, figures, ratios } of rows) {
    const [first = ['', undefined, ''], ...more] = ratios;
    const { rate, p50, p95, p99, cpu: used } = figures;
    lines.push(`| ${name} | ${number(rate)} | ${number(p50)} | ${number(p95)} | ${number(p99)} | ${number(used)} | ${number(first[1])} ${first[0]} | ${first[2]} |`);
    for (const [label, value, goal] of more) lines.push(`| | | | | | | ${number(value)} ${label} | ${goal} |`);
  }
  return `${lines.join('\n')}\n`;
}

function wants(name) {
  return options.only === null || options.only.includes(name);
}

function readOptions(words) {
  const read = { seconds: 5, rounds: 3, only: null, rivals: null, publish: true };
  while (words.length > 0) {
    const word = words.shift();
    if (word === '--seconds') read.seconds = Number(words.shift());
    else if (word === '--rounds') read.rounds = Number(words.shift());
    else if (word === '--only') read.only = words.shift().split(',');
    else if (word === '--rivals') read.rivals = words.shift();
    else if (word === '--no-publish') read.publish = false;
    else {
      console.error(`unknown option ${word}: see the top of tests/bench/run.mjs`);
      process.exit(2);
    }
  }
  return read;
}
