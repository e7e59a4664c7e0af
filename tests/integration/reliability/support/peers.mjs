/**
 * Hostile peers, as a process of their own: `node peers.mjs PORT COUNT KIND…` opens so many of the
 * kinds in turn, tells `ready`, and keeps each of them at it until it is ended. Who is cut comes
 * back. Each line of standard input, and its end, is answered by a line on standard output: a JSON
 * object with what has happened so far.
 */
import { connect } from 'node:net';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const TICK_MS = 250;
const AT_ONCE = 100;
const BACK_MS = 2000;
const STAY_MS = 500;

const post = 'POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
const handshake =
  'GET /api/realtime HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

/** A masked frame; the mask is zero, so the payload is sent as it is. */
function frame(payload, opcode = 1) {
  const bytes = Buffer.from(payload);
  const head =
    bytes.length < 126
      ? Buffer.from([0x80 | opcode, 0x80 | bytes.length, 0, 0, 0, 0])
      : Buffer.from([0x80 | opcode, 0xfe, bytes.length >> 8, bytes.length & 255, 0, 0, 0, 0]);
  return Buffer.concat([head, bytes]);
}

let number = 0;
const subscribe = () =>
  frame(JSON.stringify({ op: 'subscribe', types: ['things.created'], subject: `x/${++number}` }));
const many = (count, make) => Buffer.concat(Array.from({ length: count }, make));
const health = Buffer.from('GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n');
const list = Buffer.from('GET /things HTTP/1.1\r\nHost: x\r\n\r\n');
const pings = many(100, () => frame('x'.repeat(100), 9));
const junk = Buffer.from(Array.from({ length: 2000 }, (_, i) => (i * 7919) & 255));

/** kind → what it sends first, and then in each tick; isDeaf: it never reads. */
const kinds = {
  idle: { first: '' },
  'slow head': { first: 'GET /things HTTP/1.1\r\nHost: x\r\nX: ', tick: 'y' },
  'slow body': { first: `${post}Content-Length: 5000\r\n\r\n{`, tick: ' ' },
  'slow chunks': {
    first: `${post}Transfer-Encoding: chunked\r\n\r\n`,
    tick: '1\r\n \r\n',
  },
  'slow reader': { first: many(4, () => list), isDeaf: true },
  pipeliner: { first: many(200, () => health), tick: many(50, () => health), isDeaf: true },
  junk: { first: junk, isShort: true },
  leaver: { first: health, isShort: true },
  'large header': { first: `GET / HTTP/1.1\r\nX: ${'y'.repeat(100_000)}`, isShort: true },
  'bad JSON': {
    first: `${post}Content-Length: 20000\r\n\r\n${'['.repeat(20_000)}`,
    isShort: true,
  },
  'handshake flood': { first: handshake, isShort: true },
  'ping flood': { first: handshake, tick: () => pings, isDeaf: true },
  'subscription flood': { first: handshake, tick: () => many(50, subscribe) },
  'bad tokens': { first: handshake, tick: () => frame('{"op":"auth","token":"a.b.c"}') },
  'slow message': { first: handshake + '\x81\xfe\xff\xff\0\0\0\0', tick: ' ' },
  'never reads': { first: [handshake, frame('{"op":"subscribe","types":["*"]}')], isDeaf: true },
  'says nothing': { first: handshake },
};

const findings = { opened: 0, ended: 0, refused: 0 };
const live = new Set();
let isStopping = false;

const bytesOf = (data) =>
  Array.isArray(data)
    ? Buffer.concat(data.map(bytesOf))
    : Buffer.isBuffer(data)
      ? data
      : Buffer.from(data, 'latin1');

async function open(port, name) {
  const kind = kinds[name];
  const socket = connect({ port, host: '127.0.0.1', highWaterMark: 16 });
  const peer = { socket, kind };
  live.add(peer);
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.once('close', () => {
    live.delete(peer);
    findings.ended++;
    if (!isStopping) setTimeout(() => open(port, name), BACK_MS);
  });
  if (kind.isDeaf) socket.pause();
  else socket.resume();
  const isOpen = await Promise.race([
    once(socket, 'connect').then(
      () => true,
      () => false,
    ),
    once(socket, 'close').then(() => false),
  ]);
  if (!isOpen) {
    findings.refused++;
    return;
  }
  findings.opened++;
  if (kind.first.length) socket.write(bytesOf(kind.first));
  if (kind.isShort) setTimeout(() => socket.resetAndDestroy(), STAY_MS);
}

async function main([portText, countText, ...names]) {
  setPriority(19); /* what they cost themselves is not to show in what is measured */
  const port = Number(portText),
    count = Number(countText);
  for (let from = 0; from < count; from += AT_ONCE)
    await Promise.all(
      Array.from({ length: Math.min(AT_ONCE, count - from) }, (_, i) =>
        open(port, names[(from + i) % names.length]),
      ),
    );
  process.stdout.write('ready\n');
  let turn = 0;
  setInterval(() => {
    /* A quarter of them in each tick, and only who takes what he is sent. */
    let i = turn++;
    for (const { socket, kind } of live)
      if (++i % 4 === 0 && kind.tick && socket.writable && socket.writableLength < 65536)
        socket.write(bytesOf(typeof kind.tick === 'function' ? kind.tick() : kind.tick));
  }, TICK_MS);
  const tell = (then) => process.stdout.write(`${JSON.stringify(findings)}\n`, then);
  process.stdin.on('data', () => tell());
  process.stdin.once('end', () => {
    isStopping = true;
    tell(() => process.exit(0));
  });
}

/**
 * Starts them against the server; resolves when all are connected. findings() and stop() tell what
 * has happened.
 */
export async function startPeers(t, server, count, names) {
  const file = fileURLToPath(import.meta.url);
  const child = spawn(process.execPath, [file, String(server.port), String(count), ...names], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const gone = new Promise((resolve) => child.once('close', resolve));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error('the peers ended');
    return value;
  };
  if ((await next()) !== 'ready') throw new Error('the peers did not begin');
  return {
    pid: child.pid,
    async findings() {
      child.stdin.write('\n');
      return JSON.parse(await next());
    },
    async stop() {
      child.stdin.end();
      const findings = JSON.parse(await next());
      await gone;
      return findings;
    },
  };
}

export const httpKinds = Object.keys(kinds).slice(0, 10);
export const websocketKinds = Object.keys(kinds).slice(10);

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(process.argv.slice(2));
