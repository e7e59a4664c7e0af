/**
 * Connections of one client address: no more than are allowed, WebSockets counted too, while others
 * notice nothing. Any address of 127.0.0.0/8 is this machine's; 127.0.0.1 is where a proxy on the
 * same machine comes from, and is not counted.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { promise } from '../support/promise.mjs';
import { requestText, Wire } from '../support/wire.mjs';
import { comes, figure } from './support/process.mjs';
import { startThings } from './support/things.mjs';

const MAX = 5;
const MANY = 40;
const args = ['--connections-per-address-max', String(MAX)];
const health = requestText('GET', '/api/health');
const handshake = requestText('GET', '/api/realtime', undefined, {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
});

/** Asks on connections of its own, which stay; resolves with them and what each was answered. */
async function ask(t, server, localAddress, count) {
  const wires = [],
    statuses = [];
  for (let i = 0; i < count; i++) {
    const wire = await Wire.open(server.port, { localAddress });
    t.after(() => wire.destroy());
    wire.write(health);
    const answer = await wire.answer();
    if (answer.status === 503) {
      assert.ok(Number(answer.headers['retry-after']) > 0, 'it says when to come back');
      assert.match(answer.body.toString(), /from your address/, 'it says why');
      assert.ok(await wire.ends(), 'it is closed');
    }
    wires.push(wire);
    statuses.push(answer.status);
  }
  return { wires, statuses };
}

const all = (status, count) => Array.from({ length: count }, () => status);

/** Whether one more is served in the end: a connection that ends is noticed a moment later. */
const isServed = (t, server, address) =>
  comes(async () => (await ask(t, server, address, 1)).statuses[0] === 200, 5000);

test('an address has as many connections as it may have, and others notice nothing', async (t) => {
  const { server, token } = await startThings(t, { args });
  const { wires, statuses } = await ask(t, server, '127.0.0.2', MAX + 3);
  assert.deepEqual(statuses, [...all(200, MAX), ...all(503, 3)]);
  assert.deepEqual((await ask(t, server, '127.0.0.3', MAX)).statuses, all(200, MAX), 'another one');
  assert.deepEqual((await ask(t, server, '127.0.0.1', MANY)).statuses, all(200, MANY), 'a proxy');
  assert.equal(await figure(server, token, 'bakend_http_turned_away_total'), 3);
  assert.equal(server.log.filter((line) => line.includes('"address_full"')).length, 1);

  wires[0].destroy();
  assert.ok(await isServed(t, server, '127.0.0.2'), 'who closes one may open another');
  promise(
    t,
    'connections of one address',
    `${MAX} of ${MAX + 3} served, 3 told 503; another address and a proxy: all of ${MAX + MANY}`,
  );
});

test('a WebSocket counts for as long as it lives', async (t) => {
  const { server } = await startThings(t, { args });
  const sockets = [];
  for (let i = 0; i < MAX; i++) {
    const wire = await Wire.open(server.port, { localAddress: '127.0.0.2' });
    t.after(() => wire.destroy());
    wire.write(handshake);
    assert.ok(await comes(() => wire.pending.startsWith('HTTP/1.1 101 ')));
    sockets.push(wire);
  }
  assert.deepEqual((await ask(t, server, '127.0.0.2', 2)).statuses, all(503, 2));
  sockets.forEach((wire) => wire.destroy());
  assert.ok(await isServed(t, server, '127.0.0.2'), 'when they have gone there is room again');
});

test('a trusted proxy is not counted', async (t) => {
  const { server } = await startThings(t, {
    args: [...args, '--trusted-proxies', '127.0.0.4, 10.0.0.0/8'],
  });
  assert.deepEqual((await ask(t, server, '127.0.0.4', MANY)).statuses, all(200, MANY));
  assert.equal((await ask(t, server, '127.0.0.5', MAX + 1)).statuses[MAX], 503);
});

test('half of all connections are the most of one address unless it is said', async (t) => {
  const { server } = await startThings(t, { args: ['--connections-max', '20'] });
  const { statuses } = await ask(t, server, '127.0.0.2', 12);
  assert.deepEqual(statuses, [...all(200, 10), ...all(503, 2)]);
  assert.ok(await isServed(t, server, '127.0.0.3'), 'so others find room');
});
