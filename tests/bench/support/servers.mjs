/** What is measured and what it is measured against, each a process on loopback that is ended by its id. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { repeat } from './load.mjs';
import { BAKEND, launch, launchProgram, programPath } from './processes.mjs';

export const BODY = '{"email":"john@example.com","name":"John Doe"}';
const RECORDS = '/api/collections/bench/records';
/** Behind rows that were written past the server: it counts them when it opens the database. */
const COUNT_ANEW = "DELETE FROM _meta WHERE name GLOB 'rows.*'";
const PASSWORD = 'correct horse 42';
/** A server that is silent for so long does not answer any more. */
const SILENCE_MS = 60_000;
const STOP_MS = 30_000;

/* --- servers ------------------------------------------------------------------------------------- */

/** program: one of this folder that is Bakend and more. */
export async function startBakend({ folder }, data, { exists = false, program = null } = {}) {
  const began = process.hrtime.bigint();
  /* Migrations are written there: in a folder for all, each server would take over the collections of the others. */
  const app = `${data}-app`;
  mkdirSync(app, { recursive: true });
  const child = launch(program ? programPath(program) : BAKEND, ['serve', '--listen', '127.0.0.1:0', '--data', data, '--app', app], { log: path.join(folder, 'bakend.log') });
  const line = await firstLine(child);
  const port = Number(line.match(/:(\d+)\s*$/)[1]);
  const database = path.join(data, 'tenants/default/data.db');
  const server = { child, gone: child.gone, port, name: 'Bakend', createPath: RECORDS, data, database, afterwards: COUNT_ANEW };
  await ask(server, 'GET', '/api/health');
  server.startMs = Number(process.hrtime.bigint() - began) / 1e6;
  const cli = (args, input) => execFileSync(BAKEND, [...args, '--data', data], { input, encoding: 'utf8' }).trim();
  if (!exists) cli(['superuser', 'create', 'bench@example.com'], `${PASSWORD}\n`);
  server.token = cli(['superuser', 'token', 'bench@example.com']);
  if (!exists) await createCollection(server, 'bench');
  return server;
}

export function restartBakend(bench, { data }) {
  return startBakend(bench, data, { exists: true });
}

/** A PocketBase that is ready, or null: without --rivals, or when it cannot be measured. */
export function startRival(bench) {
  return bench.options.rivals ? besideRival({ name: 'PocketBase' }, () => startPocketBase(bench)) : null;
}

/**
 * What measure gives for the rival, or null. A rival that fails is left out from there on; our own figures do not
 * depend on it.
 */
export async function besideRival(rival, measure) {
  if (!rival || rival.isLeftOut) return null;
  try {
    return await measure(rival);
  } catch (error) {
    rival.isLeftOut = true;
    console.error(`${rival.name} is left out: ${error.message}`);
    return null;
  }
}

/**
 * Built into a cache folder it takes itself for a `go run` and prints every statement, which costs it much and, once
 * nobody reads, stops it.
 */
export async function startPocketBase(bench) {
  const data = mkdtempSync(path.join(bench.folder, 'pocketbase-'));
  execFileSync(bench.options.rivals, ['superuser', 'upsert', 'bench@example.com', PASSWORD, '--dir', data]);
  const server = await restartPocketBase(bench, { data });
  await createCollection(server, 'bench');
  return server;
}

export async function restartPocketBase({ options }, { data }) {
  const port = await freePort();
  const child = launch(options.rivals, ['serve', '--dev=false', '--http', `127.0.0.1:${port}`, '--dir', data], { isSilent: true });
  await accepts(port);
  const server = { child, gone: child.gone, port, name: 'PocketBase', createPath: RECORDS, data, database: path.join(data, 'data.db'), afterwards: '' };
  const login = JSON.stringify({ identity: 'bench@example.com', password: PASSWORD });
  server.token = (await ask(server, 'POST', '/api/collections/_superusers/auth-with-password', login)).token;
  return server;
}

export async function startCeiling(file, mode) {
  const port = await freePort();
  const child = launchProgram('ceiling', port, file, mode);
  await accepts(port);
  return { child, gone: child.gone, port, name: mode, createPath: '/' };
}

/** Frames of so many bytes go to all of its sockets, one write() each. */
export async function startFanoutCeiling(bytes) {
  const port = await freePort();
  const child = launchProgram('fanout_ceiling', port, bytes);
  await accepts(port);
  return { child, gone: child.gone, port, name: 'write()', createPath: '/' };
}

export async function startNginx({ folder }, bytes) {
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

export async function stop(server, signal = 'SIGTERM') {
  server.child.kill(signal);
  const patience = setTimeout(() => server.child.kill('SIGKILL'), STOP_MS);
  await server.gone;
  clearTimeout(patience);
}

/* --- what they hold ------------------------------------------------------------------------------ */

export async function createCollection(server, name) {
  await ask(server, 'POST', '/api/collections', JSON.stringify({
    name, type: 'base', listRule: '', viewRule: '', createRule: '',
    fields: [{ name: 'email', type: 'email' }, { name: 'name', type: 'text' }, { name: 'created', type: 'autodate', onCreate: true }, { name: 'updated', type: 'autodate', onCreate: true, onUpdate: true }],
  }));
}

/** Creates records until there are count of them: a figure that depends on their number has to know it. */
export async function fill(bench, server, count) {
  const { totalItems } = await ask(server, 'GET', `${RECORDS}?perPage=1`);
  if (totalItems < count) repeat(bench, server, count - totalItems, RECORDS, BODY);
}

export async function ask(server, method, where, body = undefined) {
  const headers = { ...(body ? { 'content-type': 'application/json' } : {}), ...(server.token ? { authorization: server.token } : {}) };
  const question = { method, headers, body, signal: AbortSignal.timeout(SILENCE_MS) };
  const answer = await fetch(`http://127.0.0.1:${server.port}${where}`, question).catch((error) => {
    throw new Error(`${server.name}: ${method} ${where}: ${error.cause?.message ?? error.message}`);
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${server.name}: ${method} ${where}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

/* --- ports ---------------------------------------------------------------------------------------- */

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
