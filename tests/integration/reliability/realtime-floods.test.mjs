/**
 * Floods over /api/realtime: handshakes, subscriptions, pings, tokens, messages that do not end,
 * and subscribers that never read, beside subscribers that behave. Those get every event and are
 * not cut; the others are refused or closed with a code, and cost a bounded amount of memory.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promise } from '../support/promise.mjs';
import { Listener } from '../support/realtime.mjs';
import { createRecord } from '../support/records.mjs';
import { requestText, Wire } from '../support/wire.mjs';
import { startPeers, websocketKinds } from './support/peers.mjs';
import {
  comes,
  descriptorCount,
  figure,
  isInstrumented,
  peakMebibytes,
  residentMebibytes,
} from './support/process.mjs';
import { startThings } from './support/things.mjs';

const IS_LONG = process.env.BAKEND_LONG === '1';
const PEERS = IS_LONG ? 1000 : 150;
const RECORDS = IS_LONG ? 2000 : 200;
const HEALTHY = 5;
const FLOODERS = IS_LONG ? 200 : 10;
/* Subscriptions are bounded at 256 MiB together. */
const PEAK_MAX_MEBIBYTES = 448;
const GROWTH_MAX_MEBIBYTES = 16;
const TOLD = 'bakend_websocket_connections';

const handshakeHeaders = {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
};
const handshake = requestText('GET', '/api/realtime', undefined, handshakeHeaders);

const connectAll = (server, count) =>
  Promise.all(Array.from({ length: count }, () => Listener.connect(server)));

test('who behaves hears of everything while others flood', async (t) => {
  const { server, token } = await startThings(t, { args: ['--log-level', 'error'] });
  const healthy = await connectAll(server, HEALTHY);
  for (const listener of healthy) await listener.subscribe({ types: ['things.created'] });
  const peers = await startPeers(t, server, PEERS, websocketKinds);
  for (let i = 0; i < RECORDS; i++)
    await createRecord(server, token, 'things', { title: 'visible', j: i });
  for (const listener of healthy) {
    const hasAll = await comes(() => listener.code !== null || listener.events.length >= RECORDS);
    assert.ok(hasAll, `${listener.events.length} of ${RECORDS} events`);
    assert.equal(listener.code, null, 'it is not cut');
    assert.deepEqual(
      listener.events.map(({ event }) => event.payload.j),
      Array.from({ length: RECORDS }, (_, i) => i),
      'each once, in their order',
    );
  }
  const findings = await peers.stop();
  for (const listener of healthy) await listener.close();
  assert.ok(await comes(async () => (await figure(server, token, TOLD)) === 0), 'all are gone');
  const peak = peakMebibytes(server);
  if (!isInstrumented(server)) assert.ok(peak < 320, `${peak} MiB at its peak`);
  promise(
    t,
    'realtime floods',
    `${PEERS} at once, ${findings.opened} in all; ${HEALTHY} others got each of ${RECORDS} ` +
      `events, peak ${peak.toFixed(0)} MiB`,
  );
});

test('handshakes that come and go, whole and half, leave nothing', async (t) => {
  const { server, token } = await startThings(t, { args: ['--log-level', 'error'] });
  const flood = async (count) => {
    for (let from = 0; from < count; from += 50)
      await Promise.all(
        Array.from({ length: 50 }, async (_, i) => {
          const wire = await Wire.open(server.port);
          wire.write(i % 3 === 0 ? handshake.subarray(0, 60) : handshake);
          if (i % 3 === 1) await comes(() => wire.pending.includes('101'));
          wire.socket.resetAndDestroy();
        }),
      );
    await comes(async () => (await figure(server, token, TOLD)) === 0);
    await sleep(100);
  };
  await flood(200);
  const descriptors = descriptorCount(server),
    before = residentMebibytes(server);
  await flood(IS_LONG ? 10_000 : 1000);
  assert.equal(await figure(server, token, TOLD), 0);
  assert.ok(await comes(() => descriptorCount(server) <= descriptors + 2));
  if (!isInstrumented(server))
    assert.ok(residentMebibytes(server) - before < GROWTH_MAX_MEBIBYTES);
});

test('subscriptions past the limit are refused, and memory comes back', async (t) => {
  const { server, token } = await startThings(t, { args: ['--log-level', 'error'] });
  const types = Array.from({ length: 100 }, (_, i) => `things.${'x'.repeat(40)}${i}`);
  const flood = async () => {
    const listeners = await connectAll(server, FLOODERS);
    const refused = await Promise.all(
      listeners.map(async (listener) => {
        let count = 0;
        for (let i = 0; i < 110; i++) {
          const wish = { op: 'subscribe', types, subject: `${'s'.repeat(900)}/${i}` };
          const { ok, error } = await listener.ask(wish);
          if (!ok) assert.equal(error.code, 'too_many_subscriptions');
          count += !ok;
        }
        return count;
      }),
    );
    assert.ok(refused.every((count) => count >= 10), `${refused}`);
    const held = residentMebibytes(server);
    await Promise.all(listeners.map((listener) => listener.close()));
    await comes(async () => (await figure(server, token, TOLD)) === 0);
    return held;
  };
  const atFirst = residentMebibytes(server);
  await flood();
  const before = residentMebibytes(server);
  const held = await flood();
  assert.equal(await figure(server, token, 'bakend_realtime_subscriptions'), 0);
  if (!isInstrumented(server)) {
    await comes(() => residentMebibytes(server) - before < GROWTH_MAX_MEBIBYTES, 5000);
    assert.ok(residentMebibytes(server) - before < GROWTH_MAX_MEBIBYTES, 'memory comes back');
    assert.ok(peakMebibytes(server) < PEAK_MAX_MEBIBYTES, `${peakMebibytes(server)} MiB`);
  }
  const each = ((held - atFirst) * 1024) / FLOODERS;
  promise(
    t,
    'subscription floods',
    `${FLOODERS} with 100 subscriptions of 100 types, ${each.toFixed(0)} KiB more each`,
  );
});

test('pings and questions by the thousand', async (t) => {
  const { server } = await startThings(t, { args: ['--log-level', 'error'] });

  await t.test('who reads gets each answer', async () => {
    const [listener] = await connectAll(server, 1);
    const answers = await Promise.all(
      Array.from({ length: 5000 }, () => listener.ask({ op: 'ping' })),
    );
    assert.ok(answers.every(({ op }) => op === 'pong'));
    await listener.close();
  });

  await t.test('who does not read is closed as slow, and nobody else', async () => {
    const [deaf, other] = await connectAll(server, 2);
    const before = residentMebibytes(server);
    deaf.socket.pause();
    const message = JSON.stringify({ id: 'x'.repeat(50), op: 'nonsense' });
    for (let i = 0; i < 150_000 && deaf.code === null; i++) {
      deaf.socket.send(message);
      if (i % 5000 === 0) await sleep(5);
    }
    await other.ask({ op: 'ping' });
    const growth = residentMebibytes(server) - before;
    if (!isInstrumented(server)) assert.ok(growth < GROWTH_MAX_MEBIBYTES, `${growth} MiB`);
    // It is not read again before the server, which may be slow, has seen all of it.
    await comes(() => deaf.code !== null || (deaf.socket.send(message), false), 60_000);
    deaf.socket.resume();
    assert.ok(await comes(() => deaf.code !== null, 60_000), 'it is closed');
    assert.ok([4008, 1013, 1006].includes(deaf.code), `${deaf.code}`);
    assert.equal(other.code, null);
    await other.close();
  });
});

test('tokens: slow ones, and bad ones in a row', async (t) => {
  const { server, token } = await startThings(t, { args: ['--log-level', 'error'] });

  await t.test('a token that comes in small pieces is read when it is whole', async () => {
    const [listener] = await connectAll(server, 1);
    const answered = new Promise((resolve) =>
      listener.socket.once('message', (data) => resolve(JSON.parse(data))),
    );
    const text = JSON.stringify({ id: 77, op: 'auth', token });
    for (let at = 0; at < text.length; at += 4)
      listener.socket.send(text.slice(at, at + 4), { fin: at + 4 >= text.length });
    assert.equal((await answered).ok, true);
    await listener.close();
  });

  await t.test('who guesses is closed', async () => {
    const [listener] = await connectAll(server, 1);
    for (let i = 0; i < 10 && listener.code === null; i++) {
      listener.socket.send(JSON.stringify({ id: i, op: 'auth', token: `a.b.${i}` }));
      await sleep(20);
    }
    assert.ok(await comes(() => listener.code !== null), 'closed');
    assert.equal(listener.code, 4501);
  });
});
