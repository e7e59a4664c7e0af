/** Requests of always the same bytes, one at a time, and WebSockets that listen; answers have a Content-Length. */
import { once } from 'node:events';
import net from 'node:net';

const UPGRADE = ['GET /api/realtime HTTP/1.1', 'Host: 127.0.0.1', 'Upgrade: websocket', 'Connection: Upgrade',
  'Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', '', ''].join('\r\n');

class Reader {
  /** @param {(bytes: Buffer) => {used: number, value: string, error?: Error} | null} take the first whole message of the bytes */
  constructor(socket, take) {
    this.socket = socket;
    this.take = take;
    this.bytes = Buffer.alloc(0);
    this.waiting = null;
    socket.setNoDelay(true);
    socket.on('data', (data) => {
      this.bytes = Buffer.concat([this.bytes, data]);
      this.serve();
    });
    socket.on('error', (error) => this.waiting?.reject(error));
    socket.on('close', () => this.waiting?.reject(new Error('the server ended a connection')));
  }

  next() {
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      this.serve();
    });
  }

  serve() {
    if (!this.waiting) return;
    const { resolve, reject } = this.waiting;
    const taken = this.take(this.bytes);
    if (!taken) return;
    this.bytes = this.bytes.subarray(taken.used);
    this.waiting = null;
    if (taken.error) reject(taken.error);
    else resolve(taken.value);
  }
}

async function connect(port, take) {
  const socket = net.connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return new Reader(socket, take);
}

/* --- HTTP ----------------------------------------------------------------------------------------- */

function takeAnswer(bytes) {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const head = bytes.subarray(0, end).toString('latin1');
  const used = end + 4 + Number(head.match(/content-length: (\d+)/i)?.[1] ?? 0);
  if (bytes.length < used) return null;
  const value = bytes.subarray(end + 4, used).toString();
  const error = /^HTTP\/1.1 (2|101)/.test(head) ? null : new Error(`${head}\n${value}`);
  return { used, value, error };
}

export class Connection {
  static async open(port) {
    const connection = new Connection();
    connection.port = port;
    connection.reader = await connect(port, takeAnswer);
    return connection;
  }

  /** The body of the answer. */
  ask(method, where, { body = '', token = '' } = {}) {
    const lines = [`${method} ${where} HTTP/1.1`, 'Host: 127.0.0.1', ...(token ? [`Authorization: ${token}`] : []),
      ...(body ? ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`] : []), '', body];
    this.reader.socket.write(lines.join('\r\n'));
    return this.reader.next();
  }

  close() {
    this.reader.socket.destroy();
  }
}

/* --- WebSockets ----------------------------------------------------------------------------------- */

/** Of the server, so without a mask; none is longer than 64 KiB. */
function takeFrame(bytes) {
  if (bytes.length < 4) return null;
  const isShort = bytes[1] < 126;
  const start = isShort ? 2 : 4;
  const used = start + (isShort ? bytes[1] : bytes.readUInt16BE(2));
  return bytes.length < used ? null : { used, value: bytes.subarray(start, used).toString() };
}

/** Masked with zeros. */
function frameOf(text) {
  const payload = Buffer.from(text);
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
}

export class WebSockets {
  /** Opened one after the other, each with one subscription. */
  static async open(port, count, types) {
    const sockets = new WebSockets();
    sockets.readers = [];
    for (let i = 0; i < count; i++) sockets.readers.push(await openSocket(port, types));
    return sockets;
  }

  /** The next message of each. */
  next() {
    return Promise.all(this.readers.map((reader) => reader.next()));
  }

  close() {
    for (const { socket } of this.readers) socket.destroy();
  }
}

async function openSocket(port, types) {
  const reader = await connect(port, takeAnswer);
  reader.socket.write(UPGRADE);
  await reader.next();
  reader.take = takeFrame;
  reader.socket.write(frameOf(JSON.stringify({ id: 1, op: 'subscribe', types: [types] })));
  while (!(await reader.next()).includes('"ok":true'));
  return reader;
}
