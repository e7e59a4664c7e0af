/**
 * A WebSocket client by hand, which holds the server to what a server must do: frames that are not
 * masked, not fragmented and no longer in form than they need be, nothing behind a close frame, a
 * TCP connection that the server closes first, and never a reset.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { FIN, bytes, close, code, frame } from './websocket-frames.mjs';

const PATIENCE_MS = 30_000;
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = createHash('sha1')
  .update(`${KEY}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
  .digest('base64');
const handshake = (path, lines = []) =>
  [
    `GET ${path} HTTP/1.1`,
    'Host: localhost',
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${KEY}`,
    ...lines,
    '\r\n',
  ].join('\r\n');

export class Connection {
  #socket;
  #bytes = Buffer.alloc(0);
  #error = null;
  #wake = () => {};
  isEnded = false;
  head = '';

  constructor(port) {
    this.#socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    this.#socket.setNoDelay(true);
    this.#socket.on('data', (data) => {
      this.#bytes = this.#bytes.length ? Buffer.concat([this.#bytes, data]) : data;
      this.#wake();
    });
    const onEnd = (error) => {
      this.isEnded = true;
      if (error instanceof Error) this.#error = error;
      this.#wake();
    };
    this.#socket.on('end', onEnd).on('error', onEnd);
  }

  static async open({ port, path }, lines) {
    const connection = new Connection(port);
    connection.write(handshake(path, lines));
    await connection.#until(() => connection.#bytes.includes('\r\n\r\n'), 'the handshake');
    connection.head = String(connection.#take(connection.#bytes.indexOf('\r\n\r\n') + 4));
    assert.match(connection.head, /^HTTP\/1\.1 101 Switching Protocols\r\n/);
    assert.ok(connection.head.includes(`\r\nSec-WebSocket-Accept: ${ACCEPT}\r\n`), connection.head);
    return connection;
  }

  destroy() {
    this.#socket.destroy();
  }
  halfClose() {
    this.#socket.end();
  }
  write(data) {
    this.#socket.write(data);
  }

  /** Waits until it is so, or the connection ends. */
  async #until(isDone, what) {
    for (const until = Date.now() + PATIENCE_MS; !isDone() && !this.isEnded;) {
      assert.ok(Date.now() < until, `it did not come: ${what}`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, 1000);
        this.#wake = () => (clearTimeout(timer), resolve());
      });
    }
  }

  #take(count) {
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  /** count bytes; null at the end of the connection, when none of them came. */
  async #read(count, what) {
    await this.#until(() => this.#bytes.length >= count, what);
    if (this.#bytes.length >= count) return this.#take(count);
    assert.equal(this.#bytes.length, 0, `the connection ended inside ${what}`);
    return null;
  }

  /** The next frame, which is as frames of a server are; null at the end. */
  async frame() {
    const head = await this.#read(2, 'a frame');
    if (head === null) return null;
    let length = head[1];
    assert.equal(head[0] & 0xf0, FIN, 'a fragment, or a reserved bit');
    assert.ok(length < 128, 'a masked frame of the server');
    if (length === 126) length = (await this.#read(2, 'a length')).readUInt16BE();
    else if (length === 127) length = Number((await this.#read(8, 'a length')).readBigUInt64BE());
    assert.ok(
      head[1] < 126 || length > (head[1] === 126 ? 125 : 65535),
      'a length too long in form',
    );
    const opcode = head[0] & 15;
    assert.ok(opcode < 8 || length <= 125, 'a control frame of the server that is too long');
    return {
      opcode,
      payload: length === 0 ? Buffer.alloc(0) : await this.#read(length, 'a payload'),
    };
  }

  /** That nothing but a FIN comes, while our side is still open, and no reset before or after. */
  async ends() {
    assert.equal(await this.frame(), null, 'something came behind the close frame');
    assert.equal(this.#error, null, `the connection was reset: ${this.#error?.code}`);
    const closed = once(this.#socket, 'close');
    this.#socket.end();
    await closed;
    assert.equal(this.#error, null, `the connection was reset: ${this.#error?.code}`);
  }
}
