/**
 * Readers of every kind, as an application would write them: each keeps its position together with
 * what it has seen, may be cut off at any moment, and goes on from there.
 *
 * `home.server` is the server as it is now: it may be killed and started again under them.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import WebSocket from 'ws';

const RETRY_MS = 25;
const STOP_MS = 5_000;
const LIMIT = 50;

class Reader {
  /** Events in the order in which they came; whoever may get one twice says so. */
  seen = [];
  after = 'start';
  isRunning = false;
  isAtLeastOnce = false;
  #work = Promise.resolve();
  #life = 0;
  #cut = new AbortController();

  constructor(home, token, types) {
    Object.assign(this, { home, token, types });
  }

  get signal() {
    return this.#cut.signal;
  }

  take(event, cursor) {
    this.seen.push(event);
    this.after = cursor;
  }

  start() {
    assert.ok(!this.isRunning);
    this.isRunning = true;
    this.#cut = new AbortController();
    this.#work = this.#readOn(++this.#life);
  }

  async #readOn(life) {
    while (this.isRunning && life === this.#life) {
      try {
        await this.read();
      } catch (error) {
        /* Cut off, or the server is away: only what we found out ourselves is a failure. */
        if (error instanceof assert.AssertionError) throw error;
        if (this.isRunning) await sleep(RETRY_MS);
      }
    }
  }

  /**
   * In the middle of whatever it does. The fetch of Node 18 may wait for ever for the rest of an
   * answer whose server was killed, also when it is aborted: then it is left behind, and what it
   * is given later counts for nothing.
   */
  async stop() {
    this.isRunning = false;
    this.#cut.abort();
    const patience = new AbortController();
    const late = sleep(STOP_MS, undefined, { signal: patience.signal }).catch(() => {});
    await Promise.race([this.#work, late]);
    patience.abort();
  }

  async fetch(method, path, { headers = {}, body } = {}) {
    const answer = await fetch(this.home.server.url + path, {
      method,
      headers: {
        authorization: this.token,
        ...(body ? { 'content-type': 'application/json' } : {}),
        ...headers,
      },
      body: body ? JSON.stringify(body) : undefined,
      signal: this.signal,
    });
    if (answer.status === 503) throw new Error('busy');
    if (answer.status !== 409)
      assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${answer.ok ? '' : await answer.text()}`);
    return answer;
  }

  get query() {
    return `after=${encodeURIComponent(this.after)}&types=${this.types}&limit=${LIMIT}`;
  }
}

/** Pages: with wait, a long poll. */
export class PageReader extends Reader {
  constructor(home, token, types, wait = 0) {
    super(home, token, types);
    this.wait = wait;
  }

  async read() {
    const { signal } = this;
    const answer = await this.fetch('GET', `/api/events?${this.query}&wait=${this.wait}`);
    const page = await answer.json();
    if (signal.aborted) return;
    this.seen.push(...page.events);
    this.after = page.next;
    if (page.events.length === 0 && this.wait === 0) await sleep(RETRY_MS);
  }
}

/** Server-sent events: the position is the last `id:`. */
export class StreamReader extends Reader {
  async read() {
    const { signal } = this;
    const headers = { accept: 'text/event-stream' };
    if (this.after !== 'start') headers['last-event-id'] = this.after;
    const answer = await this.fetch('GET', `/api/events?types=${this.types}&after=start`, { headers });
    let rest = '';
    for await (const bytes of answer.body.pipeThrough(new TextDecoderStream())) {
      /* Left behind, and still given something: whoever reads now has it from the server. */
      if (signal.aborted) return;
      const frames = (rest + bytes).split('\n\n');
      rest = frames.pop();
      frames.forEach((frame) => this.#frame(frame));
    }
  }

  #frame(frame) {
    const fields = { id: [], data: [] };
    for (const line of frame.split('\n')) {
      const [, name, value] = /^(\w*): ?(.*)$/.exec(line) ?? [];
      fields[name]?.push(value);
    }
    const id = fields.id.at(-1);
    if (fields.data.length > 0) this.take(JSON.parse(fields.data.join('\n')), id);
    else if (id) this.after = id;
  }
}

/** A WebSocket: each event carries its cursor, and a subscription resumes behind the last one. */
export class SocketReader extends Reader {
  read() {
    return new Promise((resolve, reject) => {
      const url = `${this.home.server.url.replace('http', 'ws')}/api/realtime`;
      const socket = new WebSocket(url, { headers: { authorization: this.token } });
      const failed = (error) => {
        socket.terminate();
        reject(error);
      };
      const cut = () => failed(new Error('cut'));
      this.signal.addEventListener('abort', cut, { once: true });
      socket.on('error', reject);
      socket.on('close', () => {
        this.signal.removeEventListener('abort', cut);
        reject(new Error('closed'));
      });
      socket.on('open', () =>
        socket.send(JSON.stringify({ id: 1, op: 'subscribe', types: this.types.split(','), after: this.after })),
      );
      socket.on('message', (text) => {
        if (this.signal.aborted) return;
        try {
          this.#message(JSON.parse(text));
        } catch (error) {
          failed(error);
        }
      });
    });
  }

  #message(message) {
    if (message.id === 1) {
      assert.equal(message.ok, true, JSON.stringify(message));
      assert.equal(message.recovered, true, 'all that was missed is replayed');
    } else if (message.op === 'event') {
      this.take(message.event, message.cursor);
    }
  }
}

/** A named consumer: its position is the server's, so what is not committed comes again. */
export class ConsumerReader extends Reader {
  isAtLeastOnce = true;

  constructor(home, token, types, name) {
    super(home, token, types);
    this.name = name;
  }

  async create() {
    const body = { types: this.types.split(','), after: 'start' };
    await this.fetch('PUT', `/api/consumers/${this.name}`, { body });
  }

  async read() {
    const verb = (name, body) => this.fetch('POST', `/api/consumers/${this.name}/${name}`, { body });
    const answer = await verb('poll', { limit: LIMIT, wait: 1, leaseMs: 1000 });
    const page = await answer.json();
    if (answer.status === 409) {
      await sleep(RETRY_MS);
      return;
    }
    this.seen.push(...page.events);
    if (page.events.length > 0) await (await verb('commit', { cursor: page.next })).text();
  }
}
