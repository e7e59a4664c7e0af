/**
 * HTTP/1.1 by hand, over one socket: for requests that no client library would send, and for a load
 * driver that must know of each request whether it was answered, refused or cut off.
 */
import { connect } from 'node:net';

const ANSWER_MS = 30_000;

/** The connection ended before the answer was whole. */
export class Closed extends Error {}

/** The first answer in the bytes, with how many of them it takes; null when it is not whole. */
function parse(bytes, { method, isEnded }) {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const [first, ...lines] = bytes.toString('latin1', 0, end).split('\r\n');
  const found = /^HTTP\/1\.[01] (\d{3}) /.exec(first);
  if (!found) throw new Error(`not a status line: ${JSON.stringify(first)}`);
  const status = Number(found[1]);
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  const start = end + 4;
  const whole = (body, length) => ({ status, headers, body, length });
  if (status < 200 || status === 204 || status === 304 || method === 'HEAD')
    return whole(Buffer.alloc(0), start);
  if (headers['transfer-encoding'] === 'chunked') return parseChunks(bytes, start, whole);
  if ('content-length' in headers) {
    const length = Number(headers['content-length']);
    return bytes.length < start + length
      ? null
      : whole(bytes.subarray(start, start + length), start + length);
  }
  return isEnded ? whole(bytes.subarray(start), bytes.length) : null;
}

function parseChunks(bytes, start, whole) {
  const chunks = [];
  for (let at = start; ;) {
    const end = bytes.indexOf('\r\n', at);
    if (end < 0) return null;
    const size = parseInt(bytes.toString('latin1', at, end), 16);
    if (bytes.length < end + 2 + size + 2) return null;
    if (size === 0) return whole(Buffer.concat(chunks), end + 4);
    chunks.push(bytes.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}

export class Wire {
  #socket;
  #bytes = Buffer.alloc(0);
  #isEnded = false;
  #wake = () => {};
  /** Statuses of the interim answers (100) that came before final ones. */
  interim = [];

  constructor(socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (data) => {
      this.#bytes = this.#bytes.length ? Buffer.concat([this.#bytes, data]) : data;
      this.#wake();
    });
    const onEnd = () => {
      this.#isEnded = true;
      this.#wake();
    };
    socket.on('end', onEnd).on('close', onEnd).on('error', onEnd);
  }

  /** @param {number} port @returns {Promise<Wire>} */
  static open(port, options = {}) {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', ...options });
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new Wire(socket));
      });
    });
  }

  get isEnded() {
    return this.#isEnded;
  }
  get socket() {
    return this.#socket;
  }
  /** What has come and was not taken by answer(). */
  get pending() {
    return this.#bytes.toString('latin1');
  }

  /** @param {string|Buffer} data a string is sent byte by byte (latin1) */
  write(data) {
    this.#socket.write(typeof data === 'string' ? Buffer.from(data, 'latin1') : data);
  }
  /** Ends our side: the server sees the end of the request stream. */
  end() {
    this.#socket.end();
  }
  destroy() {
    this.#socket.destroy();
  }

  #change(timeoutMs) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /**
   * The next final answer; interim ones are noted in `interim`.
   * @returns {Promise<{status: number, headers: Record<string, string>, body: Buffer, text: string,
   * json: any}>}
   */
  async answer({ method = 'GET', timeoutMs = ANSWER_MS } = {}) {
    for (const until = Date.now() + timeoutMs; ;) {
      const found = parse(this.#bytes, { method, isEnded: this.#isEnded });
      if (found) {
        this.#bytes = this.#bytes.subarray(found.length);
        if (found.status >= 200) return finish(found);
        this.interim.push(found.status);
      } else if (this.#isEnded) {
        throw new Closed('the connection ended before the answer');
      } else if (Date.now() >= until) {
        throw new Error(`no answer in ${timeoutMs} ms, but ${JSON.stringify(this.pending)}`);
      } else {
        await this.#change(until - Date.now());
      }
    }
  }

  /** Whether the server ends the connection within the time. */
  async ends(timeoutMs = 5_000) {
    for (const until = Date.now() + timeoutMs; !this.#isEnded && Date.now() < until;)
      await this.#change(until - Date.now());
    return this.#isEnded;
  }
}

function finish(found) {
  const text = found.body.toString('utf8');
  return {
    status: found.status,
    headers: found.headers,
    body: found.body,
    text,
    get json() {
      return JSON.parse(text);
    },
  };
}

/** The bytes of a request with a JSON body (or none). */
export function requestText(method, path, body, headers = {}) {
  const payload = body === undefined ? '' : typeof body === 'string' ? body : JSON.stringify(body);
  const bytes = Buffer.from(payload);
  const all = { Host: 'localhost', ...headers };
  if (body !== undefined) {
    all['Content-Type'] ??= 'application/json';
    all['Content-Length'] ??= bytes.length;
  }
  const lines = Object.entries(all)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
  return Buffer.concat([
    Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines}\r\n`, 'latin1'),
    bytes,
  ]);
}
