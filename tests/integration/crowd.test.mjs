/**
 * Crowds: subscribers that never read, that read a byte now and then, and that all come back at
 * once. The others get everything, memory stays bounded, and who was cut off resumes without a
 * hole.
 *
 * BAKEND_LONG=1: as many as a busy evening brings.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';
import { operator } from './support/history.mjs';
import { recordsPath } from './support/records.mjs';

const IS_LONG = process.env.BAKEND_LONG === '1';
const SLOW = IS_LONG ? 1000 : 100;
const RETURNING = IS_LONG ? 5000 : 500;
const WELL = 10;
const RECORDS = 3000;
const STEP = 100;
const TEXT = 'x'.repeat(4000);
const RESIDENT_MAX = 192 * 2 ** 20;
const WAIT_MS = 60_000;

const posts = {
  name: 'posts',
  fields: [{ name: 'text', type: 'text', max: 10_000 }, { name: 'number', type: 'number' }],
};

async function until(what, isTrue) {
  for (let waited = 0; waited < WAIT_MS; waited += 20) {
    if (isTrue()) return;
    await sleep(20);
  }
  assert.fail(`in vain: ${what}`);
}

/** A subscriber that keeps the numbers of the records it hears of, and its cursor. */
class Subscriber {
  numbers = [];
  after = 'now';
  answer = null;
  code = null;

  constructor(server, token) {
    Object.assign(this, { server, token });
  }

  /** Resolves when the subscription was answered. */
  open() {
    this.answer = this.code = null;
    const url = `${this.server.url.replace('http', 'ws')}/api/realtime`;
    this.socket = new WebSocket(url, { headers: { authorization: this.token } });
    return new Promise((resolve, reject) => {
      this.socket.on('error', reject);
      this.socket.on('close', (code) => (this.code = code));
      this.socket.on('open', () =>
        this.socket.send(JSON.stringify({ id: 1, op: 'subscribe', types: ['posts.created'], after: this.after })),
      );
      this.socket.on('message', (text) => {
        const message = JSON.parse(text);
        if (message.id === 1) {
          this.answer = message;
          if (message.cursor && this.after === 'now') this.after = message.cursor;
          resolve(this);
        } else if (message.op === 'event') {
          this.numbers.push(message.event.payload.number);
          this.after = message.cursor;
        }
      });
    });
  }

  async end() {
    if (this.socket.readyState === WebSocket.CLOSED) return;
    const closed = new Promise((resolve) => this.socket.once('close', resolve));
    this.socket.close();
    await closed;
  }
}

/** One that reads a byte now and then: a window that opens and closes. */
async function openSlow(server, token) {
  const socket = net.connect({ port: server.port, host: '127.0.0.1', highWaterMark: 1 });
  await new Promise((resolve) => socket.once('connect', resolve));
  const payload = Buffer.from('{"op":"subscribe","types":["posts.created"]}');
  const frame = Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
  socket.write(
    `GET /api/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: ${token}\r\n\r\n`,
  );
  socket.write(frame);
  socket.on('error', () => {});
  const timer = setInterval(() => socket.read(1), 1000).unref();
  socket.once('close', () => clearInterval(timer));
  return socket;
}

async function createAll(server, token, from, count) {
  let number = from;
  const create = async () => {
    while (number < from + count) {
      const answer = await server.request('POST', recordsPath('posts'), { text: TEXT, number: number++ }, { token });
      assert.equal(answer.status, 200, answer.text);
    }
  };
  await Promise.all(Array.from({ length: 16 }, create));
}

const inOrder = (numbers) => [...numbers].sort((a, b) => a - b);
const range = (from, count) => Array.from({ length: count }, (_, index) => from + index);

async function resident(server) {
  const status = await readFile(`/proc/${server.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)[1]) * 1024;
}

/** A sanitizer keeps what was freed for a while. */
function isInstrumented(server) {
  /* Not the promise of readFile: in Node 18 that ends at the first page of a file of /proc. */
  return readFileSync(`/proc/${server.pid}/maps`, 'utf8').includes('san.so');
}

test('who does not read is cut off and comes back without a hole, and the others notice nothing', async (t) => {
  const { server, token, define } = await operator(t, { args: ['--log-level', 'warn'] });
  await define(posts);
  const well = await Promise.all(Array.from({ length: WELL }, () => new Subscriber(server, token).open()));
  const deaf = await new Subscriber(server, token).open();
  deaf.socket.pause();
  const slow = [];
  /* An open socket would keep a test that failed from ending. */
  t.after(() => {
    for (const socket of slow) socket.destroy();
    for (const { socket } of [...well, deaf]) socket.terminate();
  });
  for (let i = 0; i < SLOW; i++) slow.push(await openSlow(server, token));

  /* Those who read are all in this process: it gets no more at once than it can take. */
  for (let from = 1; from <= RECORDS; from += STEP) {
    await createAll(server, token, from, STEP);
    await until('everybody who reads has all', () =>
      well.every(({ numbers, code }) => code !== null || numbers.length >= from + STEP - 1),
    );
  }
  for (const { numbers, code } of well) {
    assert.equal(code, null, 'nobody who reads is cut off');
    assert.deepEqual(inOrder(numbers), range(1, RECORDS));
  }
  const bytes = await resident(server);
  t.diagnostic(`${Math.round(bytes / 2 ** 20)} MiB resident with ${SLOW + 1} that do not read`);
  if (!isInstrumented(server)) assert.ok(bytes < RESIDENT_MAX, `${bytes} bytes resident`);

  deaf.socket.resume();
  await until('the one that did not read learns that it was too slow', () => deaf.code !== null);
  /* 1006: it was deaf for so long that the server did not wait for its answer. */
  assert.ok([4008, 1006].includes(deaf.code), `${deaf.code}`);
  await deaf.open();
  assert.equal(deaf.answer.recovered, true);
  await until('it has all', () => deaf.numbers.length >= RECORDS);
  assert.deepEqual(inOrder(deaf.numbers), range(1, RECORDS));
  slow.forEach((socket) => socket.destroy());
  for (const each of [...well, deaf]) await each.end();
});

test('all come back at once, each with what it missed', async (t) => {
  const { server, token, define } = await operator(t, { args: ['--log-level', 'warn'] });
  await define(posts);
  const all = Array.from({ length: RETURNING }, () => new Subscriber(server, token));
  t.after(() => all.forEach(({ socket }) => socket?.terminate()));
  for (const each of all) await each.open();
  await createAll(server, token, 1, 5);
  await until('all have the first', () => all.every(({ numbers }) => numbers.length >= 5));
  for (const { socket } of all) socket.terminate();
  await createAll(server, token, 6, 20);
  await Promise.all(all.map((each) => each.open()));
  await createAll(server, token, 26, 5);
  await until('all have the last', () => all.every(({ numbers }) => numbers.length >= 30));
  for (const each of all) {
    assert.equal(each.answer.recovered, true);
    assert.deepEqual(inOrder(each.numbers), range(1, 30));
  }
  for (const each of all) each.socket.terminate();
});
