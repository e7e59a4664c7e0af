/**
 * Half-open connections: clients that vanish with a reset or a FIN, at every point of a request, by
 * the thousand. Afterwards no descriptor and no memory is left with the server, and who only closed
 * his sending side got his answer.
 *
 * BAKEND_LONG=1: 10,000 of them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promise } from '../support/promise.mjs';
import { createRecord } from '../support/records.mjs';
import { requestText, Wire } from '../support/wire.mjs';
import {
  comes,
  descriptorCount,
  figure,
  isInstrumented,
  residentMebibytes,
} from './support/process.mjs';
import { startThings } from './support/things.mjs';

const CYCLES = process.env.BAKEND_LONG === '1' ? 10_000 : 2000;
const AT_ONCE = 50;
const GROWTH_MAX_MEBIBYTES = 16;

const handshake = requestText('GET', '/api/realtime', undefined, {
  Connection: 'Upgrade',
  Upgrade: 'websocket',
  'Sec-WebSocket-Version': '13',
  'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==',
});
const reset = (wire) => wire.socket.resetAndDestroy();
const finish = (wire) => wire.end();
const create = requestText('POST', '/things', { title: 'visible' });
const chunkedHead =
  'POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n' +
  'Transfer-Encoding: chunked\r\n\r\n';

/** Ways to go, each from a connection that was just opened. */
const ways = {
  'at once, reset': reset,
  'at once, FIN': finish,
  'in a head, reset': (wire) => (wire.write('GET /thi'), reset(wire)),
  'in a head, FIN': (wire) => (wire.write('GET /thi'), finish(wire)),
  'in a body, reset': (wire) => (wire.write(create.subarray(0, -3)), reset(wire)),
  'in a body, FIN': (wire) => (wire.write(create.subarray(0, -3)), finish(wire)),
  'in a chunk, FIN': (wire) => (wire.write(`${chunkedHead}ff\r\nxx`), finish(wire)),
  'before the answer, reset': (wire) => (wire.write(create), reset(wire)),
  'in the answer, reset': async (wire) => {
    wire.write(requestText('GET', '/things?perPage=4'));
    wire.socket.pause();
    await sleep(20);
    reset(wire);
  },
  'in the answer, FIN, and never reads': async (wire) => {
    wire.write(requestText('GET', '/things?perPage=4'));
    wire.socket.pause();
    finish(wire);
    await sleep(20);
    reset(wire);
  },
  'in a pipeline, reset': (wire) => {
    wire.write(Buffer.concat(Array.from({ length: 20 }, () => create)));
    reset(wire);
  },
  'in a pipeline, FIN': (wire) => {
    wire.write(Buffer.concat(Array.from({ length: 20 }, () => requestText('GET', '/api/health'))));
    finish(wire);
  },
  'in a WebSocket, reset': async (wire) => {
    wire.write(handshake);
    await sleep(5);
    reset(wire);
  },
  'in a WebSocket, FIN': async (wire) => {
    wire.write(handshake);
    await sleep(5);
    finish(wire);
  },
  'in an event stream, FIN': async (wire) => {
    wire.write(requestText('GET', '/api/realtime'));
    await sleep(5);
    finish(wire);
  },
  'in a long poll, reset': async (wire, token) => {
    wire.write(requestText('GET', '/api/events?wait=20', undefined, { Authorization: token }));
    await sleep(5);
    reset(wire);
  },
};

async function vanish(port, way, token) {
  const wire = await Wire.open(port);
  await way(wire, token);
  /* The server ends it as well: a FIN is not a reason to keep a connection that has no request. */
  const isEnded = await comes(() => wire.isEnded);
  wire.destroy();
  return isEnded;
}

async function vanishAll({ server, token }, count) {
  const all = Object.entries(ways);
  const kept = {};
  for (let from = 0; from < count; from += AT_ONCE)
    await Promise.all(
      Array.from({ length: AT_ONCE }, async (_, i) => {
        const [name, way] = all[(from + i) % all.length];
        if (!(await vanish(server.port, way, token))) kept[name] = (kept[name] ?? 0) + 1;
      }),
    );
  return kept;
}

test('who vanishes leaves nothing behind', async (t) => {
  const things = await startThings(t);
  const { server, token } = things;
  for (let i = 0; i < 4; i++)
    await createRecord(server, token, 'things', { title: `${i}`, j: 'y'.repeat(700_000) });
  await vanishAll(things, 10 * Object.keys(ways).length);
  await comes(() => descriptorCount(server) < 100);
  await sleep(500);
  const descriptors = descriptorCount(server),
    before = residentMebibytes(server);

  assert.deepEqual(await vanishAll(things, CYCLES), {}, 'the server ends all of them');
  assert.ok(
    await comes(() => descriptorCount(server) <= descriptors),
    `${descriptorCount(server)} descriptors, ${descriptors} before`,
  );
  for (const name of ['unsent', 'pending', 'buffered'])
    assert.ok(
      await comes(async () => (await figure(server, token, `bakend_http_${name}_bytes`)) < 10_000),
      `${name} bytes are given back`,
    );
  const growth = residentMebibytes(server) - before;
  if (!isInstrumented(server))
    assert.ok(growth < GROWTH_MAX_MEBIBYTES, `${growth} MiB more than before`);
  const { visible = 0 } = await things.count();
  assert.equal((await server.request('GET', '/api/health')).status, 200);
  promise(
    t,
    'half-open connections',
    `${CYCLES} vanished in ${Object.keys(ways).length} ways (${visible} writes done), ` +
      `0 descriptors left, ${growth.toFixed(1)} MiB more`,
  );
});

test('who closes only his sending side gets his answers', async (t) => {
  const { server, token } = await startThings(t);
  await createRecord(server, token, 'things', { title: 'x', j: 'y'.repeat(2_000_000) });
  for (const [name, request, status] of [
    ['a read', requestText('GET', '/things'), 200],
    ['a write', create, 200],
    ['an error', requestText('GET', '/nothing'), 404],
  ]) {
    await t.test(name, async () => {
      const wire = await Wire.open(server.port, { allowHalfOpen: true });
      wire.write(request);
      wire.end();
      assert.equal((await wire.answer()).status, status);
      assert.ok(await wire.ends(), 'and the end');
      wire.destroy();
    });
  }
  await t.test('many in a row', async () => {
    const wire = await Wire.open(server.port, { allowHalfOpen: true });
    wire.write(Buffer.concat([create, requestText('GET', '/things'), create]));
    wire.end();
    for (let i = 0; i < 3; i++) assert.equal((await wire.answer()).status, 200, `${i}`);
    assert.ok(await wire.ends());
    wire.destroy();
  });
});
