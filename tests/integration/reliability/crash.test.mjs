/**
 * kill -9 under load, again and again on one data directory, with every scenario there is
 * (support/bed.mjs). What was acknowledged is there once, with one event; what was refused is not;
 * the numbers have no gap; the server is back at once.
 *
 * BAKEND_LONG=1: 200 rounds instead of 10.
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Server, startServer, temporaryFolder } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { createRandom } from '../support/random.mjs';
import { operatorToken } from '../support/superuser.mjs';
import { Bed, loadScenarios } from './support/bed.mjs';

const ROUNDS = process.env.BAKEND_LONG === '1' ? 200 : 10;
/** After a kill a start takes not much longer than after a clean end, in the same run. */
const START_FACTOR_MAX = 5,
  START_MS_MAX = 1000;

async function startMs(server) {
  const before = performance.now();
  await server.ready();
  return performance.now() - before;
}

/** Ends the server, whatever is found wrong, so that nothing outlives the test. */
async function orEnd(server, findings) {
  if (findings.count === 0) return;
  await server.stop('SIGKILL');
  assert.fail(findings.toString());
}

test(`${ROUNDS} rounds of kill -9 under load lose, repeat and resurrect nothing`, async (t) => {
  const random = createRandom(t);
  const folder = await temporaryFolder(t),
    journals = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const bed = new Bed({ random, scenarios: await loadScenarios(), journals });
  await bed.setUp(server);
  const startsMs = [];

  for (let round = 1; round <= ROUNDS; round++) {
    await bed.startLoad(server);
    await sleep(random.between(50, 1500));
    await server.stop('SIGKILL');
    await bed.endLoad();

    server = new Server(folder, []);
    startsMs.push(await startMs(server));
    assert.ok(!server.log.some((line) => line.includes('epoch_renewed')), 'the epoch stays');
    await orEnd(server, await bed.check(server));
  }

  await orEnd(server, await bed.checkAll(server));
  await server.stop();
  server = new Server(folder, []);
  const cleanMs = await startMs(server);
  await server.stop('SIGKILL');
  assert.equal((await bed.checkFolder(folder)).toString(), '');
  startsMs.sort((a, b) => a - b);
  const median = startsMs[startsMs.length >> 1];
  const { ok, failed, unknown } = bed.counts;
  assert.ok(ok > ROUNDS, 'the load has written something');
  assert.ok(unknown > 0, 'the kills have hit requests in flight');
  assert.ok(failed > 0, 'some writes were refused');
  const mostMs = Math.max(START_MS_MAX, START_FACTOR_MAX * cleanMs);
  assert.ok(median < mostMs, `a start takes ${median} ms, and ${cleanMs} after a clean end`);
  promise(
    t,
    'kill -9',
    `${ROUNDS} rounds, ${ok} acknowledged, ${failed} refused, ${unknown} unanswered, ` +
      `${bed.eventCount} events: 0 lost, 0 resurrected; start: median ${median.toFixed(0)} ms, ` +
      `slowest ${startsMs.at(-1).toFixed(0)} ms, after a clean end ${cleanMs.toFixed(0)} ms`,
  );
});

test('a kill within an atomic write leaves nothing that passes for a sign of use', async (t) => {
  const folder = await temporaryFolder(t);
  let server = await startServer(t, { folder });
  const token = await operatorToken(server);
  const made = await server.request('POST', '/api/tenants', { name: 'unused' }, { token });
  assert.equal(made.status, 200, made.text);
  await server.stop();

  /* The removal of a tenant begins with a marker, which is written so. */
  server = new Server(folder, [], { BAKEND_FAILPOINT: 'file.before_rename:kill' });
  await server.ready();
  server.expectKill();
  await server.request('DELETE', '/api/tenants/unused', undefined, { token }).catch(() => {});
  assert.equal((await server.killed()).signal, 'SIGKILL', 'the failpoint was reached');

  server = await startServer(t, { folder });
  const answer = await server.request('GET', '/api/collections', undefined, {
    token,
    tenant: 'unused',
  });
  assert.equal(answer.status, 200, 'a tenant never used opens as a new one');
});

test('a database file has its first page from the moment it has its name', async (t) => {
  const folder = await temporaryFolder(t);
  /* The first atomic write makes the instance key, the second the database of `default`. */
  const first = new Server(folder, [], { BAKEND_FAILPOINT: 'file.before_rename:kill@2' });
  first.expectKill();
  assert.equal((await first.killed()).signal, 'SIGKILL', 'the failpoint was reached');
  const names = await readdir(join(folder, 'data/tenants/default'));
  assert.deepEqual(names.filter((name) => !name.startsWith('.')), [], 'there is no file yet');

  await operatorToken(await startServer(t, { folder }));
});
