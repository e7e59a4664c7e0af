/**
 * More connections than are allowed: those that are served go on, the others wait in the system's
 * queue, and a crowd that only sits there does not keep anybody out for long.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promise } from '../support/promise.mjs';
import { requestText, Wire } from '../support/wire.mjs';
import { comes, descriptorCount, figure } from './support/process.mjs';
import { startThings } from './support/things.mjs';

const MAX = 60;
const FLOOD = 1000;
const PATIENCE_MS = 45_000; /* an idle connection is ended after 75 s otherwise */
const health = requestText('GET', '/api/health');
const args = ['--connections-max', String(MAX), '--log-level', 'error'];

const openMany = (server, count) =>
  Promise.all(Array.from({ length: count }, () => Wire.open(server.port)));
const closeAll = (wires) => wires.forEach((wire) => wire.socket.resetAndDestroy());

/** A client that asks every now and then until it is told to stop; whether it was always served. */
function keepAsking(wire) {
  let isStopped = false;
  const all = (async () => {
    let count = 0;
    while (!isStopped) {
      wire.write(health);
      assert.equal((await wire.answer({ timeoutMs: PATIENCE_MS })).status, 200);
      count++;
      await sleep(250);
    }
    return count;
  })();
  return {
    stop() {
      isStopped = true;
      return all;
    },
  };
}

test('idle connections up to the limit keep nobody out', async (t) => {
  const { server } = await startThings(t, { args });
  await sleep(300);
  const busy = await Wire.open(server.port);
  const asking = keepAsking(busy);
  const idle = await openMany(server, MAX);
  t.after(() => closeAll([...idle, busy]));
  await sleep(200);
  const began = performance.now();
  for (let i = 0; i < 10; i++) {
    const wire = await Wire.open(server.port);
    wire.write(health);
    assert.equal((await wire.answer({ timeoutMs: PATIENCE_MS })).status, 200);
    wire.destroy();
  }
  const tookMs = performance.now() - began;
  assert.ok(
    idle.some((wire) => wire.isEnded),
    'one that was idle has made room',
  );
  const asked = await asking.stop();
  assert.ok(asked > 3, 'who asks is not cut');
  promise(
    t,
    'idle connections at the limit',
    `10 newcomers served in ${(tookMs / 1000).toFixed(1)} s, ${asked} requests beside, all 200`,
  );
});

test('a flood of connections past the limit', async (t) => {
  const { server, token } = await startThings(t, { args });
  const before = descriptorCount(server);
  await sleep(300);
  const busy = await Wire.open(server.port);
  const asking = keepAsking(busy);
  for (let round = 0; round < 5; round++) {
    const flood = await openMany(server, FLOOD / 5);
    flood.forEach((wire, i) => {
      if (i % 3 === 0) wire.write(health);
      if (i % 3 === 1) wire.write('GET / HTTP/1.1\r\nX: ');
    });
    await sleep(200);
    assert.ok(descriptorCount(server) <= before + MAX + 8, `${descriptorCount(server)} open`);
    closeAll(flood);
  }
  const asked = await asking.stop();
  busy.destroy();
  assert.ok(await comes(() => descriptorCount(server) <= before + 4));
  assert.ok((await figure(server, token, 'bakend_http_connections')) < 8);
  promise(
    t,
    'connection flood',
    `${FLOOD} past a limit of ${MAX}; ${asked} requests beside, all 200`,
  );
});
