/**
 * WebSocket conformance: every rule of RFC 6455, sections 5 to 8, that a client can break or lean
 * on, as one table in the order of the cases of the Autobahn suite, whose numbers it keeps:
 *
 *   1 framing · 2 pings and pongs · 3 reserved bits · 4 opcodes · 5 fragmentation · 6 UTF-8 ·
 *   7 closing · 9 sizes · 10 many fragments · 12 extensions · 14 masks and lengths (ours)
 *
 * Each case runs over the echo server, which is the transport alone, and over the real endpoint
 * /api/realtime, which answers each message with one of its own; and each is delivered in several
 * ways: at once, frame by frame, octet by octet, and cut at random. A case whose outcome depends on
 * how TCP has cut it would be a fault. Of every connection it is checked, too, that no frame of the
 * server is masked, reserved, fragmented or longer in form than it need be, that nothing follows
 * its close frame, that it closes the TCP connection first, and that it never resets it.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { binary, startServer } from '../support/program.mjs';
import { promise } from '../support/promise.mjs';
import { cases, ends } from './support/websocket-cases.mjs';
import { Connection } from './support/websocket-connection.mjs';
import {
  BINARY,
  CLOSE,
  FIN,
  PONG,
  TEXT,
  below,
  close,
  frame,
  hex,
  ping,
  pong,
  text,
} from './support/websocket-frames.mjs';

const AT_ONCE = 24; // connections open at a time
const BIG_BYTES = 100 * 1024; // not worth a cut at every octet
const REALTIME_MESSAGE_MAX = 64 * 1024;

/* --- deliveries ------------------------------------------------------------------------------- */

const turn = () => new Promise(setImmediate);

/** Writes pieces of the sizes that next() gives, each in a segment of its own as far as can be. */
async function deliverCut(connection, data, next) {
  for (let at = 0; at < data.length && !connection.isEnded;) {
    /* The inside of a long payload is no place for surprises, and each segment takes its time. */
    const size = data.length > 4096 && at > 64 ? 997 : next();
    connection.write(data.subarray(at, at + size));
    at += size;
    await turn();
  }
}

const deliveries = {
  'at once': async (connection, frames) => connection.write(Buffer.concat(frames)),
  'frame by frame': async (connection, frames) => {
    for (const each of frames) {
      if (connection.isEnded) return;
      connection.write(each);
      await turn();
    }
  },
  'octet by octet': (connection, frames) => deliverCut(connection, Buffer.concat(frames), () => 1),
  'cut at random': (connection, frames) =>
    deliverCut(connection, Buffer.concat(frames), () => 1 + below(9)),
};

/* --- one case --------------------------------------------------------------------------------- */

function checkClose(found, wanted) {
  assert.equal(
    found.opcode,
    CLOSE,
    `opcode ${found.opcode} instead of a close: ${found.payload.subarray(0, 60)}`,
  );
  assert.notEqual(found.payload.length, 1, 'a close frame of one octet');
  assert.equal(found.payload.length ? found.payload.readUInt16BE() : undefined, wanted);
  new TextDecoder('utf-8', { fatal: true }).decode(found.payload.subarray(2));
}

function checkMessage(found, wanted, endpoint) {
  if (endpoint.echoes) {
    assert.equal(found.opcode, wanted.isBinary ? BINARY : TEXT);
    assert.ok(
      found.payload.equals(wanted.message),
      `another message: ${found.payload.subarray(0, 60)}`,
    );
    return;
  }
  /* Realtime refuses what is no message of its protocol, with one answer, and goes on. */
  assert.equal(found.opcode, TEXT);
  assert.equal(JSON.parse(found.payload).ok, false);
}

async function checkFrames(connection, expected, endpoint) {
  for (const wanted of expected) {
    const found = await connection.frame();
    assert.ok(found, 'the connection ended too early');
    if ('close' in wanted) checkClose(found, wanted.close);
    else if ('pong' in wanted) assert.deepEqual([found.opcode, found.payload], [PONG, wanted.pong]);
    else checkMessage(found, wanted, endpoint);
  }
}

async function runCase(each, endpoint, delivery) {
  const connection = await Connection.open(endpoint);
  /* What does not end by itself is ended by us, which shows that it is sound to the end. */
  const isEnded = each.expected.some((wanted) => 'close' in wanted);
  const frames = isEnded ? each.frames : [...each.frames, close(1000)];
  const expected = isEnded ? each.expected : [...each.expected, ends(1000)];
  try {
    const delivered = deliveries[delivery](connection, frames);
    await checkFrames(connection, expected, endpoint);
    await delivered;
    await connection.ends();
  } catch (error) {
    const name = `case ${each.number} (RFC 6455, ${each.section}) ${each.what}, ${delivery}`;
    error.message = `${name}: ${error.message}`;
    throw error;
  } finally {
    connection.destroy();
  }
}

function fits(each, endpoint, delivery) {
  if (each.only === 'realtime') return !endpoint.echoes;
  const size = each.frames.reduce((sum, { length }) => sum + length, 0);
  if (size > BIG_BYTES && delivery !== 'at once' && delivery !== 'frame by frame') return false;
  return (
    endpoint.echoes ||
    each.expected.every(({ message }) => !message || message.length <= REALTIME_MESSAGE_MAX)
  );
}

/** Runs all of them, some at a time, and gathers what failed, so that one run tells all. */
async function runAll(endpoint, delivery) {
  const waiting = cases.filter((each) => fits(each, endpoint, delivery));
  const count = waiting.length;
  const failures = [];
  const work = async () => {
    for (let each = waiting.shift(); each; each = waiting.shift())
      await runCase(each, endpoint, delivery).catch((error) => failures.push(error.message));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  assert.equal(
    failures.length,
    0,
    `${failures.length} of ${count} failed:\n${failures.join('\n')}`,
  );
  return count;
}

/* --- the two endpoints ------------------------------------------------------------------------ */

async function startEcho(t, ...args) {
  const child = spawn(
    join(dirname(binary), 'websocket_echo'),
    ['--listen', '127.0.0.1:0', ...args],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const ended = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
  });
  const [line] = await once(child.stdout, 'data');
  const url = /^websocket_echo ready (ws:\/\/\S+)\n$/.exec(String(line))[1];
  return { port: Number(new URL(url).port), path: '/', echoes: true };
}

async function startRealtime(t) {
  const server = await startServer(t);
  return { port: server.port, path: '/api/realtime', echoes: false };
}

for (const [name, startEndpoint] of [
  ['the echo server', startEcho],
  ['/api/realtime', startRealtime],
])
  for (const delivery of Object.keys(deliveries))
    test(`the cases over ${name}, ${delivery}`, async (t) => {
      const endpoint = await startEndpoint(t);
      const count = await runAll(endpoint, delivery);
      promise(t, `WebSocket conformance, ${name}, ${delivery}`, `${count} cases, 0 failed`);
    });

/* --- what is no table ------------------------------------------------------------------------- */

const offers = [
  'permessage-deflate',
  'permessage-deflate; client_max_window_bits',
  'permessage-deflate; server_no_context_takeover; server_max_window_bits=10, permessage-deflate',
  'x-webkit-deflate-frame',
  'permessage-bzip2, nonsense; a="b,c"',
];

test('12: no extension is negotiated, compressed frames are refused (9.1)', async (t) => {
  for (const endpoint of [await startEcho(t), await startRealtime(t)])
    for (const offer of offers) {
      const connection = await Connection.open(endpoint, [`Sec-WebSocket-Extensions: ${offer}`]);
      assert.doesNotMatch(connection.head, /Sec-WebSocket-Extensions/i);
      connection.write(frame(0xc1, hex('f248cdc9c90700')));
      checkClose(await connection.frame(), 1002);
      await connection.ends();
    }
});

test('a subprotocol that is offered is not chosen (4.2.2)', async (t) => {
  for (const endpoint of [await startEcho(t), await startRealtime(t)])
    for (const lines of [['chat'], ['chat, superchat'], ['a', 'b']]) {
      const connection = await Connection.open(
        endpoint,
        lines.map((line) => `Sec-WebSocket-Protocol: ${line}`),
      );
      assert.doesNotMatch(connection.head, /Sec-WebSocket-Protocol/i);
      connection.write(Buffer.concat([ping('p'), close(1000)]));
      assert.deepEqual(await connection.frame(), { opcode: PONG, payload: Buffer.from('p') });
      checkClose(await connection.frame(), 1000);
      await connection.ends();
    }
});

test('a close of the server waits for ours and answers nothing meanwhile (5.5.1)', async (t) => {
  const endpoint = { ...(await startEcho(t)), path: '/close' };
  const connection = await Connection.open(endpoint);
  connection.write(text('4001 wish'));
  const found = await connection.frame();
  checkClose(found, 4001);
  assert.equal(String(found.payload.subarray(2)), 'wish');
  connection.write(Buffer.concat([text('4002 late'), ping('late')]));
  await sleep(300);
  assert.ok(!connection.isEnded, 'the server did not wait for the answer to its close frame');
  connection.write(close(4001));
  await connection.ends();
});

test('closes that cross each other are one handshake (7.1.2)', async (t) => {
  const endpoint = { ...(await startEcho(t)), path: '/close' };
  const connection = await Connection.open(endpoint);
  connection.write(Buffer.concat([text('4001'), close(1001)]));
  checkClose(await connection.frame(), 4001);
  await connection.ends();
});

test('what breaks the protocol after the close of the server ends it without a word', async (t) => {
  const endpoint = { ...(await startEcho(t)), path: '/close' };
  for (const broken of [frame(FIN | 3, 'x'), text('x', { mask: null }), frame(0xf1, 'x')]) {
    const connection = await Connection.open(endpoint);
    connection.write(text('4001'));
    checkClose(await connection.frame(), 4001);
    connection.write(broken);
    await connection.ends();
  }
});

test('a peer that never answers a close is cut when its time is up (7.1.1)', async (t) => {
  const endpoint = { ...(await startEcho(t, '--close-timeout-ms', '300')), path: '/close' };
  const connection = await Connection.open(endpoint);
  connection.write(text('4001'));
  checkClose(await connection.frame(), 4001);
  await connection.ends();
});

test('a peer that goes on sending after it has closed is not reset (7.1.1)', async (t) => {
  for (const endpoint of [await startEcho(t), await startRealtime(t)]) {
    const connection = await Connection.open(endpoint);
    connection.write(Buffer.concat([close(1000), Buffer.alloc(500_000, 0x81)]));
    checkClose(await connection.frame(), 1000);
    await connection.ends();
  }
});

test('a client that half-closes without a close frame is let go (7.1.5)', async (t) => {
  for (const endpoint of [await startEcho(t), await startRealtime(t)]) {
    const connection = await Connection.open(endpoint);
    connection.halfClose();
    await connection.ends();
  }
});
