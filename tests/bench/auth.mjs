/** Signing in: how near it comes to what the cores can hash, what it leaves to others, and what a token costs. */
import { once } from 'node:events';
import os from 'node:os';
import path from 'node:path';
import { cpuSeconds, load, summary } from './support/load.mjs';
import { launchProgram, program, programBeside } from './support/processes.mjs';
import { BODY, ask, createCollection, startBakend, stop } from './support/servers.mjs';
import { Table } from './support/table.mjs';

export const file = 'auth.md';
export const figures = ['logins', 'besidelogins', 'tokens'];
const LOGIN = '/api/collections/users/auth-with-password';
const CREDENTIALS = { email: 'john@example.com', password: 'correct horse 42' };
const LOGIN_BODY = JSON.stringify({ identity: CREDENTIALS.email, password: CREDENTIALS.password });
const PLAIN = '/api/collections/plain/records';
/** Those who sign in at once: each core always has one to hash, and another one waits for it. */
const CONNECTIONS = 4 * os.cpus().length;
/** Reads beside them, far below what the server can do. */
const READS_A_SECOND = 500;
/** Of the write-ahead log, a sign-in: counted as calls of pwrite and fdatasync. */
const SIGN_IN_FRAMES = 11;

export async function measure(bench) {
  const table = new Table({
    title: 'Signing in',
    note: 'Passwords are hashed with Argon2id (19 MiB, t = 2, p = 1), by one thread for each core; a sign-in is the hash, the row of a session and its event (`synchronous=FULL`).',
  });
  if (bench.wants('logins') || bench.wants('besidelogins')) await withServer(bench, (server) => benchLogins(bench, table, server));
  if (bench.wants('tokens')) benchTokens(bench, table);
  return table;
}

async function withServer(bench, run) {
  /* All come from one address, to one account: those that are being judged count as failures until they are. */
  process.env.BAKEND_SIGN_IN_FAILURES_MAX = process.env.BAKEND_SIGN_IN_FAILURES_ACCOUNT_MAX = process.env.BAKEND_SIGN_IN_FAILURES_ADDRESS_MAX = '1000000';
  const server = await startBakend(bench, path.join(bench.folder, 'auth'));
  await ask(server, 'POST', '/api/collections/users/records', JSON.stringify({ ...CREDENTIALS, passwordConfirm: CREDENTIALS.password }));
  await createCollection(server, 'plain');
  server.record = await ask(server, 'POST', PLAIN, BODY);
  await run(server);
  await stop(server);
}

const signIns = (bench, server) => load(bench, server, CONNECTIONS, LOGIN, LOGIN_BODY);

async function benchLogins(bench, table, server) {
  const { rounds, seconds } = bench.options;
  const of = { hashes: [], logins: [], alone: [], beside: [], rates: [], floor: [] };
  for (let round = 0; round < rounds; round++) {
    if (bench.wants('logins')) {
      of.hashes.push({ rate: Number(program('password', seconds)) });
      of.logins.push(signIns(bench, server));
    }
    if (bench.wants('besidelogins')) {
      of.alone.push(await paced(bench, server));
      /* wrk blocks this process, and not the reads: they are another one. */
      const reads = paced(bench, server);
      const { rate } = signIns(bench, server);
      of.rates.push({ rate });
      of.beside.push(await reads);
      of.floor.push(await besideFloor(bench, server, rate));
    }
  }
  if (bench.wants('logins')) reportLogins(table, summary(of.logins), summary(of.hashes));
  if (bench.wants('besidelogins')) {
    reportBeside(table, summary(of.beside), summary(of.alone), summary(of.floor));
    table.row('– sign-ins meanwhile', summary(of.rates));
  }
}

function reportLogins(table, logins, hashes) {
  table.row(`sign-ins by password, ${CONNECTIONS} connections`, logins, [['of the hashes that the cores can do', logins.rate / hashes.rate, '≥ 0.9']]);
  table.row('– hashes on all cores, nothing else', hashes);
}

function reportBeside(table, beside, alone, floor) {
  table.row(`read by id, ${READS_A_SECOND} a second, beside ${CONNECTIONS} connections that sign in`, beside, [
    ['of the p99 alone', beside.p99 / alone.p99, '< 1.2'],
    ['ms that p99 moves', beside.p99 - alone.p99, ''],
    ['of the p99 beside cores and a disk that are as busy', beside.p99 / floor.p99, ''],
  ]);
  table.row('– alone', alone);
  table.row('– beside as many syncs of a file, and cores that only count (`SCHED_IDLE`)', floor, [
    ['of the p99 alone', floor.p99 / alone.p99, ''],
  ]);
}

/** Nobody signs in, but cores and disk are as busy as when somebody does. */
async function besideFloor(bench, server, rate) {
  const { seconds } = bench.options;
  const syncs = Math.max(1, Math.round(rate));
  const busy = launchProgram('auth_floor', path.join(bench.folder, 'floor'), seconds + 1, syncs, SIGN_IN_FRAMES);
  await once(busy.stdout, 'data');
  const figures = await paced(bench, server);
  await busy.gone;
  return figures;
}

async function paced({ options }, server) {
  const before = cpuSeconds(server.child.pid);
  const text = await programBeside('paced', server.port, options.seconds, READS_A_SECOND, 'GET', `${PLAIN}/${server.record.id}`);
  const [p50, p95, p99, , requests] = text.split(' ').map(Number);
  return { rate: requests / options.seconds, p50, p95, p99, cpu: ((cpuSeconds(server.child.pid) - before) * 1e6) / requests };
}

function benchTokens(bench, table) {
  const runs = Array.from({ length: bench.options.rounds }, () => {
    const [cached, first] = program('token').split(' ').map(Number);
    return { cached: cached / 1000, first: first / 1000 };
  });
  const { cached, first } = summary(runs);
  table.row('who asks, by a token that was seen before', { rate: 1e6 / cached, cpu: cached }, [['µs', cached, '≤ 1']]);
  table.row('who asks, by a token that is new', { rate: 1e6 / first, cpu: first }, [['µs', first, '≤ 10']]);
}
