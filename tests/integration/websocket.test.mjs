/**
 * The WebSocket transport (RFC 6455) through the echo server, which is made of it and of the HTTP
 * transport alone: with the client that programs use, and with bytes that no client would send.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { binary } from './support/program.mjs';

const PATIENCE_MS = 20_000;
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';
const FIN = 0x80;
const [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG] = [0, 1, 2, 8, 9, 10];

/** Rejects when the promise takes too long, naming what was waited for. */
async function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`it did not come: ${what}`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The echo server, built beside the program. It must end with 0, after its clients. */
async function startEcho(t, ...args) {
  const path = join(dirname(binary), 'websocket_echo');
  const child = spawn(path, ['--listen', '127.0.0.1:0', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const undoings = [];
  t.after(async () => {
    for (const undo of undoings) undo();
    if (!child.killed) child.kill('SIGTERM');
    assert.deepEqual(await soon(ended, 'the end of the echo server'), [0, null]);
  });
  const [line] = await soon(once(child.stdout, 'data'), 'the ready line');
  const url = /^websocket_echo ready (ws:\/\/\S+)\n$/.exec(String(line))[1];
  return { url, port: Number(new URL(url).port), child, undoings };
}

/** One of the server's figures. */
async function figure(echo, name) {
  const text = await (await fetch(`${echo.url.replace('ws:', 'http:')}/metrics`)).text();
  return Number(new RegExp(`^bakend_websocket_${name} (\\d+)$`, 'm').exec(text)[1]);
}

/** A frame as a client sends it; `length` and `form` may lie. */
function frame(first, payload = '', { mask = randomBytes(4), form, length } = {}) {
  const bytes = Buffer.from(payload);
  const size = BigInt(length ?? bytes.length);
  const taken = form ?? (size > 65535n ? 8 : size > 125n ? 2 : 0);
  const head = Buffer.alloc(2 + taken);
  head[0] = first;
  head[1] = (mask ? 0x80 : 0) | (taken === 8 ? 127 : taken === 2 ? 126 : Number(size));
  if (taken === 2) head.writeUInt16BE(Number(size), 2);
  if (taken === 8) head.writeBigUInt64BE(size, 2);
  if (!mask) return Buffer.concat([head, bytes]);
  return Buffer.concat([head, mask, bytes.map((byte, i) => byte ^ mask[i % 4])]);
}

const closeFrame = (code, reason = '') =>
  frame(FIN | CLOSE, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]));

/** A client by hand. */
class Raw {
  bytes = Buffer.alloc(0);
  isEnded = false;
  #wake = () => {};

  constructor(port) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const wake = () => this.#wake();
    this.socket.on('data', (part) => {
      this.bytes = Buffer.concat([this.bytes, part]);
      wake();
    });
    this.socket.on('end', () => {
      this.isEnded = true;
      wake();
    });
    this.socket.on('error', (error) => {
      this.error = error;
      this.isEnded = true;
      wake();
    });
  }

  async #until(done, what) {
    while (!done()) {
      assert.ok(!this.isEnded, `the connection ended before ${what}`);
      await soon(new Promise((resolve) => (this.#wake = resolve)), what);
    }
  }

  async take(count, what = `${count} bytes`) {
    await this.#until(() => this.bytes.length >= count, what);
    const taken = this.bytes.subarray(0, count);
    this.bytes = this.bytes.subarray(count);
    return taken;
  }

  /** The head of the answer to a handshake. */
  async head() {
    await this.#until(() => this.bytes.includes('\r\n\r\n'), 'the head');
    return String(await this.take(this.bytes.indexOf('\r\n\r\n') + 4));
  }

  /** The next frame of the server: none is masked, fragmented or longer in form than it need be. */
  async frame() {
    const [first, second] = await this.take(2, 'a frame');
    let length = second;
    assert.equal(first & 0xf0, FIN);
    if (second === 126) length = (await this.take(2)).readUInt16BE();
    if (second === 127) length = Number((await this.take(8)).readBigUInt64BE());
    assert.ok(second < 126 || length > (second === 126 ? 125 : 65535));
    return { opcode: first & 15, payload: await this.take(length) };
  }

  /** The close frame that must be next, then the end; null when the end is next. */
  async end() {
    if (this.isEnded && this.bytes.length === 0) return null;
    const { opcode, payload } = await this.frame();
    assert.equal(opcode, CLOSE, `not a close frame: ${payload.subarray(0, 40)}`);
    while (!this.isEnded)
      await soon(new Promise((resolve) => (this.#wake = resolve)), 'the end of the connection');
    assert.equal(this.bytes.length, 0, 'something came after the close frame');
    return payload.length === 0 ? 1005 : payload.readUInt16BE();
  }
}

const handshake = (lines = [], key = KEY) =>
  [
    'GET /chat HTTP/1.1',
    'Host: x',
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${key}`,
    ...lines,
    '\r\n',
  ].join('\r\n');

function connectRaw(echo) {
  const raw = new Raw(echo.port);
  echo.undoings.push(() => raw.socket.destroy());
  return raw;
}

/** A raw client whose handshake is done. */
async function open(echo) {
  const raw = connectRaw(echo);
  raw.socket.write(handshake());
  const head = await raw.head();
  assert.match(head, /^HTTP\/1\.1 101 /);
  return raw;
}

async function openClient(echo, path = '/') {
  const client = new WebSocket(echo.url + path);
  echo.undoings.push(() => client.terminate());
  await soon(once(client, 'open'), 'the connection');
  return client;
}

async function nextMessage(client) {
  const [data, isBinary] = await soon(once(client, 'message'), 'a message');
  return isBinary ? data : data.toString();
}

/* --- the client that programs use ------------------------------------------------------------- */

test('text and binary messages come back as they went', async (t) => {
  const client = await openClient(await startEcho(t));
  for (const length of [0, 1, 125, 126, 127, 65535, 65536, 1024 * 1024]) {
    const text = 'é'.repeat(length / 2) + 'x'.repeat(length % 2);
    client.send(text);
    assert.equal(await nextMessage(client), text);
    const bytes = randomBytes(length);
    client.send(bytes);
    assert.deepEqual(await nextMessage(client), bytes);
  }
});

test('fragments are one message', async (t) => {
  const client = await openClient(await startEcho(t));
  for (const part of ['one ', '', 'two €', ' three']) client.send(part, { fin: part === ' three' });
  assert.equal(await nextMessage(client), 'one two € three');
});

test('a ping is answered between the fragments of a message', async (t) => {
  const client = await openClient(await startEcho(t));
  client.send('one', { fin: false });
  client.ping('are you there');
  const [payload] = await soon(once(client, 'pong'), 'the pong');
  assert.equal(String(payload), 'are you there');
  client.send(' two', { fin: true });
  assert.equal(await nextMessage(client), 'one two');
});

test('both sides may close, and each hears the code of the other', async (t) => {
  const echo = await startEcho(t);
  const client = await openClient(echo);
  client.close(4001, 'enough');
  assert.equal((await soon(once(client, 'close'), 'the end'))[0], 4001);
  const other = await openClient(echo, '/close');
  other.send('4242 that is all');
  const [code, reason] = await soon(once(other, 'close'), 'the end');
  assert.deepEqual([code, String(reason)], [4242, 'that is all']);
});

test('what was sent before a close frame is answered before the end', async (t) => {
  const client = await openClient(await startEcho(t));
  const messages = [];
  client.on('message', (data) => messages.push(String(data)));
  for (let i = 0; i < 100; i++) client.send(`message ${i}`);
  client.close();
  await soon(once(client, 'close'), 'the end');
  assert.equal(messages.length, 100);
});

test('a message past the limit ends the connection with 1009', async (t) => {
  const echo = await startEcho(t, '--message-max-bytes', String(1024 * 1024));
  const client = await openClient(echo);
  const limit = randomBytes(1024 * 1024);
  client.send(limit);
  assert.deepEqual(await nextMessage(client), limit);
  client.send(Buffer.alloc(1024 * 1024 + 1));
  assert.equal((await soon(once(client, 'close'), 'the end'))[0], 1009);
});

test('a peer that sends and never reads is closed with 1013, and nobody else is hurt', async (t) => {
  const echo = await startEcho(t, '--queue-max-bytes', String(256 * 1024));
  const slow = await openClient(echo, '/');
  const other = await openClient(echo);
  slow.pause();
  for (let i = 0; i < 400; i++) slow.send(Buffer.alloc(64 * 1024));
  const times = [];
  for (let i = 0; i < 50; i++) {
    const start = performance.now();
    other.send(`message ${i}`);
    assert.equal(await nextMessage(other), `message ${i}`);
    times.push(performance.now() - start);
  }
  assert.ok(times.sort((a, b) => a - b)[25] < 500, `the median took ${times[25]} ms`);
  const closed = once(slow, 'close');
  slow.resume();
  assert.equal((await soon(closed, 'the end'))[0], 1013);
});

test('a silent client is pinged, and one that does not answer is cut', async (t) => {
  const echo = await startEcho(t, '--ping-interval-ms', '200', '--pong-timeout-ms', '300');
  const client = await openClient(echo);
  let pings = 0;
  client.on('ping', () => pings++);
  const raw = await open(echo);
  assert.equal((await raw.frame()).opcode, PING);
  await sleep(1200);
  assert.ok(pings >= 3);
  assert.equal(client.readyState, WebSocket.OPEN);
  assert.ok(raw.isEnded);
  assert.equal(await figure(echo, 'timeouts_total'), 1);
});

test('at the end of the server each client is told 1001', async (t) => {
  const echo = await startEcho(t);
  const clients = await Promise.all([1, 2, 3].map(() => openClient(echo)));
  const ends = clients.map((client) => soon(once(client, 'close'), 'the end'));
  echo.child.kill('SIGTERM');
  for (const end of ends) assert.equal((await end)[0], 1001);
});

test('a thousand clients at once, each served', async (t) => {
  const echo = await startEcho(t);
  const clients = [];
  for (let i = 0; i < 10; i++)
    clients.push(...(await Promise.all(Array.from({ length: 100 }, () => openClient(echo)))));
  assert.equal(await figure(echo, 'connections'), 1000);
  const answers = clients.map((client, i) => {
    const answer = nextMessage(client);
    client.send(`to ${i}`);
    return answer;
  });
  assert.deepEqual(
    await Promise.all(answers),
    clients.map((_, i) => `to ${i}`),
  );
  for (const client of clients) client.terminate();
  while ((await figure(echo, 'connections')) > 0) await sleep(20);
});

/* --- handshakes ------------------------------------------------------------------------------- */

test('the handshake is answered as the standard has it', async (t) => {
  const echo = await startEcho(t);
  const raw = connectRaw(echo);
  raw.socket.write(handshake(['Sec-WebSocket-Extensions: permessage-deflate', 'Origin: http://a']));
  const head = await raw.head();
  assert.match(head, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
  assert.match(head, /\r\nUpgrade: websocket\r\n/);
  assert.match(head, /\r\nConnection: Upgrade\r\n/);
  assert.ok(head.includes(`\r\nSec-WebSocket-Accept: ${ACCEPT}\r\n`));
  assert.match(head, /\r\nAccess-Control-Allow-Origin: \*\r\n/);
  assert.doesNotMatch(head, /Extensions|Protocol:|Content-Length|Transfer-Encoding/i);
});

const refusedHandshakes = [
  ['no upgrade', 426, (text) => text.replace('Upgrade: websocket\r\n', '')],
  ['another protocol', 426, (text) => text.replace('websocket', 'h2c')],
  ['no Connection: Upgrade', 426, (text) => text.replace('Connection: Upgrade\r\n', '')],
  ['version 8', 426, (text) => text.replace('Version: 13', 'Version: 8')],
  ['no version', 426, (text) => text.replace('Sec-WebSocket-Version: 13\r\n', '')],
  ['no key', 400, (text) => text.replace(/Sec-WebSocket-Key: .*\r\n/, '')],
  ['a short key', 400, (text) => text.replace(KEY, 'c2hvcnQ=')],
  ['two keys', 400, (text) => text.replace('Host: x', `Host: x\r\nSec-WebSocket-Key: ${KEY}`)],
  ['HTTP/1.0', 400, (text) => text.replace('HTTP/1.1', 'HTTP/1.0')],
];

for (const [name, status, spoil] of refusedHandshakes)
  test(`a handshake with ${name} is refused with ${status}`, async (t) => {
    const echo = await startEcho(t);
    const raw = connectRaw(echo);
    raw.socket.write(spoil(handshake()));
    const head = await raw.head();
    assert.ok(head.startsWith(`HTTP/1.1 ${status} `), head);
    if (status === 426) assert.match(head, /\r\nSec-WebSocket-Version: 13\r\n/);
  });

test('a refused handshake leaves the connection to the next request', async (t) => {
  const echo = await startEcho(t);
  const raw = connectRaw(echo);
  raw.socket.write(handshake().replace('Version: 13', 'Version: 7') + handshake());
  assert.match(await raw.head(), /^HTTP\/1\.1 426 /);
  const rest = await raw.head();
  assert.match(rest, /HTTP\/1\.1 101 /);
});

test('requests before the handshake are answered first, frames behind it are read', async (t) => {
  const echo = await startEcho(t);
  const raw = connectRaw(echo);
  const request = 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n';
  raw.socket.write(
    Buffer.concat([Buffer.from(request + request + handshake()), frame(FIN | TEXT, 'eager')]),
  );
  let head = await raw.head();
  for (let i = 0; i < 2; i++) {
    assert.match(head, /^HTTP\/1\.1 200 /);
    await raw.take(Number(/Content-Length: (\d+)/.exec(head)[1]));
    head = await raw.head();
  }
  assert.match(head, /^HTTP\/1\.1 101 /);
  assert.equal(String((await raw.frame()).payload), 'eager');
});

test('a handshake that comes byte by byte', async (t) => {
  const echo = await startEcho(t);
  const raw = connectRaw(echo);
  raw.socket.setNoDelay(true);
  const bytes = Buffer.concat([Buffer.from(handshake()), frame(FIN | TEXT, 'drip')]);
  for (const byte of bytes) {
    raw.socket.write(Buffer.from([byte]));
    await new Promise(setImmediate);
  }
  assert.match(await raw.head(), /^HTTP\/1\.1 101 /);
  assert.equal(String((await raw.frame()).payload), 'drip');
});

/* --- the rules, each with the code that ends the connection ----------------------------------- */

const long = 'x'.repeat(126);
const violations = [
  ['reserved bit 1', 1002, [frame(0xc1, 'x')]],
  ['reserved bit 2', 1002, [frame(0xa1, 'x')]],
  ['reserved bit 3', 1002, [frame(0x91, 'x')]],
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [
    `reserved opcode ${opcode}`,
    1002,
    [frame(FIN | opcode, 'x')],
  ]),
  ['a frame without a mask', 1002, [frame(FIN | TEXT, 'x', { mask: null })]],
  ['a ping of 126 bytes', 1002, [frame(FIN | PING, long)]],
  ['a close frame of 126 bytes', 1002, [frame(FIN | CLOSE, long)]],
  ['a fragmented ping', 1002, [frame(PING, 'x')]],
  ['a fragmented close frame', 1002, [frame(CLOSE)]],
  ['a length in 2 bytes that fits in none', 1002, [frame(FIN | TEXT, 'x', { form: 2 })]],
  ['a length in 8 bytes that fits in 2', 1002, [frame(FIN | TEXT, long, { form: 8 })]],
  ['a length with its top bit set', 1002, [frame(FIN | TEXT, '', { length: 2n ** 63n })]],
  ['a length of 2^64 - 1', 1002, [frame(FIN | TEXT, '', { length: 2n ** 64n - 1n })]],
  ['a length past the limit, by its head alone', 1009, [frame(TEXT, '', { length: 2n ** 40n })]],
  ['a continuation of nothing', 1002, [frame(FIN | CONTINUATION, 'x')]],
  [
    'a message inside a message, after a ping',
    1002,
    [frame(TEXT, 'a'), frame(FIN | PING, ''), frame(TEXT, 'b')],
    [PONG],
  ],
  [
    'a continuation after the last one',
    1002,
    [frame(BINARY, ''), frame(FIN | CONTINUATION), frame(FIN | CONTINUATION)],
    [BINARY],
  ],
  ['a message inside a message', 1002, [frame(TEXT, 'a'), frame(FIN | BINARY, 'b')]],
  ['text that is not UTF-8', 1007, [frame(FIN | TEXT, Buffer.from([0xff]))]],
  ['a surrogate in text', 1007, [frame(FIN | TEXT, Buffer.from([0xed, 0xa0, 0x80]))]],
  ['text that ends inside a character', 1007, [frame(FIN | TEXT, Buffer.from([0xe2, 0x82]))]],
  ['broken text in the first of fragments', 1007, [frame(TEXT, Buffer.from([0x61, 0xc0]))]],
  [
    'text broken across fragments',
    1007,
    [frame(TEXT, Buffer.from([0xe2])), frame(FIN | CONTINUATION, 'x')],
  ],
  ['a close frame of one byte', 1002, [frame(FIN | CLOSE, 'x')]],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000].map((code) => [
    `the close code ${code}`,
    1002,
    [closeFrame(code)],
  ]),
  ['a reason that is not UTF-8', 1007, [closeFrame(1000, Buffer.from([0xc3]))]],
];

for (const [name, code, frames, before = []] of violations)
  test(`${name} ends the connection with ${code}`, async (t) => {
    const echo = await startEcho(t);
    /* At once, and byte by byte. */
    for (const isSlow of [false, true]) {
      const raw = await open(echo);
      const bytes = Buffer.concat(frames);
      raw.socket.setNoDelay(true);
      if (!isSlow) raw.socket.write(bytes);
      for (let i = 0; isSlow && i < bytes.length && !raw.isEnded; i++) {
        raw.socket.write(bytes.subarray(i, i + 1));
        await new Promise(setImmediate);
      }
      for (const opcode of before) assert.equal((await raw.frame()).opcode, opcode);
      assert.equal(await raw.end(), code);
    }
    assert.equal(await figure(echo, 'violations_total'), 2);
    assert.equal(await figure(echo, 'received_messages_total'), before.includes(BINARY) ? 2 : 0);
  });

test('each close code that may be sent is answered with itself', async (t) => {
  const echo = await startEcho(t);
  const codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1014, 3000, 3999, 4000, 4999];
  for (const code of codes) {
    const raw = await open(echo);
    raw.socket.write(closeFrame(code, 'r'.repeat(123)));
    assert.equal(await raw.end(), code);
  }
  const raw = await open(echo);
  raw.socket.write(frame(FIN | CLOSE));
  assert.equal(await raw.end(), 1005);
});

test('nothing is read after a close frame', async (t) => {
  const echo = await startEcho(t);
  const raw = await open(echo);
  raw.socket.write(
    Buffer.concat([
      frame(FIN | TEXT, 'first'),
      closeFrame(1000),
      frame(FIN | TEXT, 'late'),
      frame(FIN | PING, 'late'),
      closeFrame(1001),
      frame(FIN | 3, 'wrong'),
    ]),
  );
  assert.equal(String((await raw.frame()).payload), 'first');
  assert.equal(await raw.end(), 1000);
  assert.equal(await figure(echo, 'received_messages_total'), 1);
  assert.equal(await figure(echo, 'violations_total'), 0);
});

test('pongs that nobody asked for are nothing', async (t) => {
  const raw = await open(await startEcho(t));
  raw.socket.write(Buffer.concat([frame(FIN | PONG, 'x'), frame(FIN | PING, 'y'.repeat(125))]));
  const { opcode, payload } = await raw.frame();
  assert.deepEqual([opcode, String(payload)], [PONG, 'y'.repeat(125)]);
});

test('ten pings have ten answers, in order', async (t) => {
  const raw = await open(await startEcho(t));
  raw.socket.write(
    Buffer.concat(Array.from({ length: 10 }, (_, i) => frame(FIN | PING, `ping ${i}`))),
  );
  for (let i = 0; i < 10; i++) assert.equal(String((await raw.frame()).payload), `ping ${i}`);
});

test('nothing comes behind a close frame, not even the answer to a ping', async (t) => {
  const raw = await open(await startEcho(t));
  const pings = Array.from({ length: 17 }, (_, i) => frame(FIN | PING, `${i}`));
  raw.socket.write(Buffer.concat([...pings, closeFrame(1000)]));
  for (let i = 0; i < 17; i++) assert.equal(String((await raw.frame()).payload), `${i}`);
  assert.equal((await raw.frame()).opcode, CLOSE);
  for (let i = 0; i < 100 && !raw.isEnded; i++) await sleep(20);
  assert.equal(raw.bytes.length, 0);
  raw.socket.end();
});

test('a peer that pings without reading costs no memory', async (t) => {
  const echo = await startEcho(t);
  const raw = await open(echo);
  raw.socket.pause();
  const pings = Buffer.concat(Array.from({ length: 10_000 }, () => frame(FIN | PING, long.slice(1))));
  for (let i = 0; i < 10; i++) raw.socket.write(pings);
  await sleep(500);
  assert.ok((await figure(echo, 'queued_bytes')) < 16 * 1024);
});

test('random bytes end connections and never the server', async (t) => {
  const echo = await startEcho(t);
  for (let i = 0; i < 100; i++) {
    const raw = await open(echo);
    raw.socket.write(randomBytes(200));
    raw.socket.end();
    while (!raw.isEnded) await sleep(1);
  }
  const client = await openClient(echo);
  client.send('still here');
  assert.equal(await nextMessage(client), 'still here');
});
