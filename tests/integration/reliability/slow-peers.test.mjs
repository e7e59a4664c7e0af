/**
 * Hostile peers beside ordinary traffic: who is too slow with a head, a body or reading, who sends
 * too much, who leaves and comes again, and who just sits there. Nobody who behaves is cut or
 * refused, memory stays bounded, and the latency of ordinary requests is held against what it was
 * in the same run, without them.
 *
 * Short: 200 peers and 1,000 idle connections, latencies are told. BAKEND_LONG=1: 1,000 and 10,000,
 * and the p99 at most doubles (with some milliseconds that a busy machine takes).
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { promise } from '../support/promise.mjs';
import { createRecord } from '../support/records.mjs';
import { requestText, Wire } from '../support/wire.mjs';
import { httpKinds, startPeers, websocketKinds } from './support/peers.mjs';
import {
  comes,
  descriptorCount,
  figure,
  isInstrumented,
  peakMebibytes,
  residentMebibytes,
} from './support/process.mjs';
import { startThings } from './support/things.mjs';
import { measure } from './support/traffic.mjs';

const IS_LONG = process.env.BAKEND_LONG === '1';
const PEERS = IS_LONG ? 1000 : 200;
const SLOW = 150;
const IDLE = IS_LONG ? 10_000 : 1000;
const MEASURE_MS = IS_LONG ? 6000 : 2000;
const ROUNDS = IS_LONG ? 3 : 1;
/* Answers that nobody reads are bounded at 256 MiB, and the rest is small. */
const PEAK_MAX_MEBIBYTES = 448;
const P99_FACTOR_MAX = 2;
const P99_SLACK_MS = 10;
/* As patient as a test can be: three times within a measurement. */
const args = ['--head-timeout', '2s', '--body-timeout', '2s', '--write-timeout', '3s'];
const quiet = ['--log-level', 'error'];

/** Servers and peers inherit the limit of this process; root may raise it. */
function raiseDescriptorLimit(count) {
  const hard = () =>
    Number(/Max open files +\d+ +(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]);
  if (hard() < count)
    spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${count}:${count}`]);
  assert.ok(hard() >= count, `${count} descriptors are needed: run it as root, or ulimit -Hn`);
}

/** The quietest of some rounds: what else the machine does comes and goes. */
async function measureBest(server) {
  const rounds = [];
  for (let i = 0; i < ROUNDS; i++) rounds.push(await measure(server, MEASURE_MS));
  rounds.sort((a, b) => a.p99 - b.p99);
  return { ...rounds[0], failures: rounds.flatMap(({ failures }) => failures) };
}

const show = ({ p50, p99, count }) => `p50 ${p50.toFixed(1)}, p99 ${p99.toFixed(1)} ms of ${count}`;

async function prepare(t, options) {
  const things = await startThings(t, options);
  for (let i = 0; i < 20; i++)
    await createRecord(things.server, things.token, 'things', {
      title: `${i}`,
      j: 'y'.repeat(50_000),
    });
  await measure(things.server, 1000);
  return things;
}

/**
 * Ordinary traffic without them and with them, who go on until it is enough; nobody of the traffic
 * may be cut.
 */
async function compare(t, { server, token }, name, count, kinds, isEnough = () => true) {
  const before = descriptorCount(server);
  const control = await measureBest(server);
  const peers = await startPeers(t, server, count, kinds);
  const beside = await measureBest(server);
  await comes(async () => isEnough(await peers.findings()), 60_000);
  const peak = peakMebibytes(server);
  const findings = await peers.stop();
  const after = await measure(server, 1000);
  for (const { failures } of [control, beside, after])
    assert.deepEqual(failures, [], 'nobody who behaves is refused or cut');
  assert.ok(
    await comes(() => descriptorCount(server) <= before + 8),
    `${descriptorCount(server)} descriptors, ${before} before`,
  );
  const buffered = () => figure(server, token, 'bakend_http_buffered_bytes');
  assert.ok(await comes(async () => (await buffered()) === 0), 'nothing of them stays in memory');
  if (!isInstrumented(server)) assert.ok(peak < PEAK_MAX_MEBIBYTES, `${peak} MiB at its peak`);
  if (IS_LONG && !isInstrumented(server))
    assert.ok(
      beside.p99 < P99_FACTOR_MAX * control.p99 + P99_SLACK_MS,
      `alone ${show(control)}; beside them ${show(beside)}`,
    );
  promise(
    t,
    name,
    `${count} at once, ${findings.opened} in all; alone ${show(control)}, beside them ` +
      `${show(beside)}; ${residentMebibytes(server).toFixed(0)} MiB, peak ${peak.toFixed(0)}`,
  );
  return findings;
}

test('hostile clients of HTTP beside ordinary traffic', async (t) => {
  const things = await prepare(t, { args: [...args, ...quiet] });
  const areEnded = ({ ended }) => ended > PEERS / 2;
  const findings = await compare(t, things, 'hostile HTTP peers', PEERS, httpKinds, areEnded);
  assert.ok(areEnded(findings), `they are ended, again and again: ${JSON.stringify(findings)}`);
  const timeouts = await figure(things.server, things.token, 'bakend_http_timeouts_total');
  assert.ok(timeouts > 0, 'for being slow, too');
});

test('hostile clients of realtime beside ordinary traffic', async (t) => {
  const things = await prepare(t, { args: [...args, ...quiet] });
  await compare(t, things, 'hostile WebSocket peers', PEERS, websocketKinds);
});

test('a crowd of idle connections beside ordinary traffic', async (t) => {
  raiseDescriptorLimit(IDLE + 1000);
  const things = await prepare(t, { args: quiet });
  const before = residentMebibytes(things.server);
  const { ended } = await compare(t, things, 'idle connections', IDLE, ['idle']);
  assert.equal(ended, 0, 'nobody of them is cut');
  const each = ((peakMebibytes(things.server) - before) * 1024) / IDLE;
  if (!isInstrumented(things.server)) assert.ok(each < 16, `${each} KiB for each`);
});

test('who is slow with a head or a body is told so and ended', async (t) => {
  const { server, count } = await startThings(t, { args: [...args, ...quiet] });
  const post = 'POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
  const starts = [
    'GET /things HTTP/1.1\r\nX: ',
    `${post}Content-Length: 5000\r\n\r\n{`,
    `${post}Transfer-Encoding: chunked\r\n\r\nff\r\n{`,
  ];
  const run = async (start) => {
    const wire = await Wire.open(server.port);
    wire.write(start);
    const timer = setInterval(() => wire.write(' '), 500);
    try {
      assert.equal((await wire.answer()).status, 408);
      assert.ok(await wire.ends());
    } finally {
      clearInterval(timer);
      wire.destroy();
    }
  };
  await Promise.all(Array.from({ length: SLOW }, (_, i) => run(starts[i % starts.length])));
  assert.deepEqual(await count(), {});
});

test('a reader of one byte at a time is cut, one that reads at a fair pace is not', async (t) => {
  const { server, token } = await startThings(t, { args: ['--write-timeout', '2s'] });
  await createRecord(server, token, 'things', { title: 'x', j: 'y'.repeat(8_000_000) });
  const start = async (bytes, everyMs) => {
    const wire = await Wire.open(server.port, { highWaterMark: 1 });
    let count = 0;
    wire.socket.removeAllListeners('data');
    wire.socket.on('readable', () => {}).pause();
    wire.write(requestText('GET', '/things'));
    const timer = setInterval(() => {
      const data = wire.socket.read(Math.min(bytes, wire.socket.readableLength || bytes));
      count += data?.length ?? 0;
    }, everyMs);
    t.after(() => (clearInterval(timer), wire.destroy()));
    return { wire, count: () => count };
  };
  const timeouts = () => figure(server, token, 'bakend_http_timeouts_total');
  const unsent = () => figure(server, token, 'bakend_http_unsent_bytes');
  const fair = await start(65536, 20);
  const slow = await start(1, 200);
  assert.ok(await comes(async () => (await timeouts()) === 1), 'the slow one is cut');
  assert.ok(await comes(() => fair.count() > 8_000_000), 'the other gets all of it');
  assert.equal(await timeouts(), 1, 'and only the slow one');
  assert.ok(await comes(async () => (await unsent()) < 100_000), 'its answer is forgotten');
  assert.ok(slow.count() < 1000);
});
